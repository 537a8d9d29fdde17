-- Lines → days: what each product sold on each day in each store, net of returns.
-- A return is taken off the newest earlier sale of that product in that store at that price; what is left of a sale is
-- told by the lowest level that the stack of units falls to after it.
CREATE TABLE stacked AS
WITH touched AS (SELECT DISTINCT product_id, store, price FROM lines WHERE units < 0),
summed AS (
    SELECT l.*, sum(units) OVER past AS total, row_number() OVER past AS place
    FROM lines AS l SEMI JOIN touched USING (product_id, store, price)
    WINDOW past AS (PARTITION BY product_id, store, price ORDER BY moment, units < 0, seq ROWS UNBOUNDED PRECEDING)
),
levelled AS (  -- never below 0: what comes back beyond what was sold is lost
    SELECT *, total - least(0, min(total) OVER (
        PARTITION BY product_id, store, price ORDER BY place ROWS UNBOUNDED PRECEDING
    )) AS level
    FROM summed
)
SELECT
    seq, date, units,
    CASE WHEN units > 0 THEN greatest(0, least(units, coalesce(min(level) OVER later, level) - (level - units))) END
        AS kept,
    CASE WHEN units < 0 THEN greatest(0, -(coalesce(lag(level) OVER ordered, 0) + units)) END AS beyond
FROM levelled
WINDOW
    ordered AS (PARTITION BY product_id, store, price ORDER BY place),
    later AS (PARTITION BY product_id, store, price ORDER BY place ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING);

CREATE TABLE days AS
SELECT
    date, product_id, store,
    CASE WHEN sum(coalesce(kept, l.units)) < 1e-9 THEN 0 ELSE round(sum(coalesce(kept, l.units)), 9) END AS units_sold,
    sum(l.units * price) / sum(l.units) AS price,
    round(
        sum(l.units * price) FILTER (tax_rate IS NOT NULL)
        / sum(l.units * price / (1 + tax_rate)) FILTER (tax_rate IS NOT NULL) - 1, 9
    ) AS tax_rate
FROM lines AS l LEFT JOIN (SELECT seq, kept FROM stacked) USING (seq)
WHERE l.units > 0
GROUP BY ALL;
