-- Order lines → lines: usable ones, each in its newest version; the others keep their reason in `judged`.
-- Variables: today (the shop's day, which is not over yet). Views: what is kept of a line is read once and stored once.
CREATE VIEW worded AS
WITH named AS (
    SELECT
        rowid AS seq, *, CAST(time AS DATE) AS date,
        coalesce(lower(status) IN ('return', 'returned', 'refund', 'refunded') OR quantity < 0, false) AS is_return,
        coalesce(lower(status) IN ('cancelled', 'canceled', 'void', 'voided'), false) AS is_cancelled,
        coalesce(amount / nullif(quantity, 0), unit_price - coalesce(abs(discount / nullif(quantity, 0)), 0)) AS paid,
        abs(discount / nullif(quantity, 0)) AS off
    FROM order_lines
)
SELECT
    seq, time AS moment, date, product_id, coalesce(store, '') AS store, line_id, updated, tax_rate, is_cancelled, is_return,
    CASE WHEN is_return THEN -abs(quantity) ELSE quantity END AS units,
    round(CASE WHEN is_return THEN abs(paid) ELSE paid END, 6) AS price,
    greatest(price, list_price, unit_price, price + off) AS full_price,
    CASE
        WHEN fault IS NOT NULL THEN fault
        WHEN quantity = 0 OR abs(quantity) > 1e9 THEN 'quantity must be a number that is not 0'
        WHEN date < DATE '1970-01-01' OR date > getvariable('today') THEN 'time must not lie in the future'
        WHEN tax_rate < 0 OR tax_rate >= 1 THEN 'tax_rate must be at least 0 and below 1: 20 looks like per cent: write 0.20'
        WHEN is_cancelled THEN 'cancelled'
        WHEN price IS NULL OR isnan(price) THEN 'unit_price or amount must not be missing'
        WHEN price <= 0 OR price > 1e9 THEN 'the price of a unit must be above 0'
        WHEN date = getvariable('today') THEN 'of a day that is not over'
    END AS reason
FROM named;

CREATE VIEW identified AS
SELECT *, hash(line_id, is_return) AS id FROM worded
WHERE line_id IS NOT NULL AND (reason IS NULL OR reason IN ('cancelled', 'of a day that is not over'));

-- Only ids that came more than once are compared.
CREATE TABLE versions AS
WITH again AS (SELECT id FROM identified GROUP BY id HAVING count(*) > 1)
SELECT
    seq,
    (units, price, tax_rate, date, product_id, store, is_cancelled) IS NOT DISTINCT FROM
    first_value((units, price, tax_rate, date, product_id, store, is_cancelled)) OVER newest AS same
FROM identified SEMI JOIN again USING (id)
WINDOW newest AS (PARTITION BY id ORDER BY updated DESC NULLS LAST, seq DESC)
QUALIFY row_number() OVER newest > 1;

CREATE VIEW judged AS
SELECT w.* REPLACE (CASE v.same WHEN true THEN 'repeated' WHEN false THEN 'an earlier version' ELSE w.reason END AS reason)
FROM worded AS w LEFT JOIN versions AS v USING (seq);

CREATE VIEW lines AS
SELECT seq, moment, date, product_id, store, units, price, full_price, tax_rate
FROM worded ANTI JOIN versions USING (seq) WHERE reason IS NULL;
