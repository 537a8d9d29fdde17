-- Lines and shelves → days: what each product sold on each day in each store, net of returns, and its shelf price.
-- Variable: first, the first day of rows; the evening of the day before belongs to it.
-- A return is taken off the newest earlier sale of that product in that store at that price. So a day first takes units
-- from the stack that earlier days left, and then adds its own; of these stay what the stack never falls below later.
CREATE TABLE sold AS
SELECT
    date, product_id, store, price,
    coalesce(sum(units) FILTER (units > 0), 0) AS units, coalesce(-sum(units) FILTER (units < 0), 0) AS back,
    sum(units * price) FILTER (units > 0 AND tax_rate IS NOT NULL) AS gross,
    sum(units * price / (1 + tax_rate)) FILTER (units > 0) AS net
FROM lines WHERE date >= getvariable('first') - 1 GROUP BY ALL;

CREATE TABLE stacked AS
WITH touched AS (SELECT DISTINCT product_id, store, price FROM sold WHERE back > 0),
mixed AS (  -- what came back of goods of the same day is told by the order of its lines
    SELECT date, product_id, store, price, sum(units) AS total, greatest(0, -min(so_far)) AS taken
    FROM (
        SELECT date, product_id, store, price, units, sum(units) OVER (
            PARTITION BY date, product_id, store, price ORDER BY moment, units < 0, seq ROWS UNBOUNDED PRECEDING
        ) AS so_far
        FROM lines SEMI JOIN (FROM sold WHERE units > 0 AND back > 0) USING (date, product_id, store, price)
    )
    GROUP BY ALL
),
steps AS (
    SELECT s.*, coalesce(m.taken, s.back) AS taken, coalesce(m.total + m.taken, s.units) AS added
    FROM sold AS s SEMI JOIN touched USING (product_id, store, price) LEFT JOIN mixed AS m USING (date, product_id, store, price)
),
summed AS (SELECT *, sum(added - taken) OVER past - added AS total FROM steps WINDOW past AS (
    PARTITION BY product_id, store, price ORDER BY date ROWS UNBOUNDED PRECEDING
)),
levelled AS (  -- units on the stack before a day adds; never below 0: what comes back beyond what was sold is lost
    SELECT *, total - least(0, min(total) OVER past) AS level FROM summed WINDOW past AS (
        PARTITION BY product_id, store, price ORDER BY date ROWS UNBOUNDED PRECEDING
    )
)
SELECT
    date, product_id, store, price, back,
    greatest(0, least(added, coalesce(min(level) OVER later - level, added))) AS kept,
    greatest(0, taken - coalesce(lag(level + added) OVER ordered, 0)) AS beyond
FROM levelled
WINDOW
    ordered AS (PARTITION BY product_id, store, price ORDER BY date),
    later AS (PARTITION BY product_id, store, price ORDER BY date ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING);

CREATE TABLE days AS
SELECT
    date, product_id, store, CASE WHEN sum(coalesce(kept, units)) < 1e-9 THEN 0 ELSE round(sum(coalesce(kept, units)), 9) END
        AS units_sold,
    any_value(shelves.price) AS price, round(sum(gross) / sum(net) - 1, 9) AS tax_rate
FROM sold LEFT JOIN stacked USING (date, product_id, store, price)
LEFT JOIN shelves USING (date, product_id, store)
WHERE units > 0
GROUP BY ALL;
