-- Order lines → lines: usable ones, each in its newest version; the others keep their reason in `judged`.
-- Variables: today (the shop's day, which is not over yet).
CREATE TABLE judged AS
WITH worded AS (
    SELECT
        rowid AS seq, *, lower(status) IN ('return', 'returned', 'refund', 'refunded') OR quantity < 0 AS is_return,
        coalesce(lower(status) IN ('cancelled', 'canceled', 'void', 'voided'), false) AS is_cancelled,
        round(coalesce(unit_price, amount / nullif(quantity, 0)), 6) AS paid,
        CAST(time AS DATE) AS date
    FROM order_lines
)
SELECT
    seq, time AS moment, date, product_id, coalesce(store, '') AS store, line_id, updated, tax_rate, is_cancelled,
    coalesce(is_return, false) AS is_return,
    CASE WHEN coalesce(is_return, false) THEN -abs(quantity) ELSE quantity END AS units,
    CASE WHEN coalesce(is_return, false) THEN abs(paid) ELSE paid END AS price,
    CASE
        WHEN fault IS NOT NULL THEN fault
        WHEN quantity = 0 OR abs(quantity) > 1e9 OR isnan(quantity) THEN 'quantity must be a number that is not 0'
        WHEN date < DATE '1970-01-01' OR date > getvariable('today') THEN 'time must not lie in the future'
        WHEN tax_rate < 0 OR tax_rate >= 1 OR isnan(tax_rate) THEN 'tax_rate must be at least 0 and below 1'
        WHEN is_cancelled THEN 'cancelled'
        WHEN price IS NULL OR isnan(price) THEN 'unit_price or amount must not be missing'
        WHEN price <= 0 OR price > 1e9 THEN 'the price of a unit must be above 0'
        WHEN date = getvariable('today') THEN 'of a day that is not over'
    END AS reason
FROM worded;

-- Only ids that came more than once are compared.
CREATE TABLE versions AS
WITH usable AS (
    SELECT *, hash(trim(line_id)) AS id FROM judged
    WHERE line_id IS NOT NULL AND (reason IS NULL OR reason IN ('cancelled', 'of a day that is not over'))
),
again AS (SELECT id, is_return FROM usable GROUP BY ALL HAVING count(*) > 1)
SELECT
    seq, reason,
    row_number() OVER newest AS place,
    (units, price, tax_rate, date, product_id, store, is_cancelled)
    IS NOT DISTINCT FROM first_value((units, price, tax_rate, date, product_id, store, is_cancelled)) OVER newest AS same
FROM usable SEMI JOIN again USING (id, is_return)
WINDOW newest AS (PARTITION BY id, is_return ORDER BY updated DESC NULLS LAST, seq DESC);

UPDATE judged SET reason = CASE WHEN versions.same THEN 'repeated' ELSE 'an earlier version' END
FROM versions WHERE versions.seq = judged.seq AND versions.place > 1;

CREATE TABLE lines AS
SELECT seq, moment, date, product_id, store, units, price, tax_rate FROM judged WHERE reason IS NULL;
