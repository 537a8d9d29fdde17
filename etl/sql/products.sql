-- The product master → master: what holds of a product from a day on; of several rows of one day the last one read.
CREATE VIEW mastered AS
WITH read AS (
    SELECT rowid AS seq, *, CASE
        WHEN fault IS NOT NULL THEN fault
        WHEN list_price <= 0 OR list_price > 1e9 THEN 'list_price must be above 0'
        WHEN unit_cost <= 0 OR unit_cost > 1e9 THEN 'unit_cost must be above 0'
        WHEN price <= 0 OR price > 1e9 THEN 'price must be above 0'
        WHEN tax_rate < 0 OR tax_rate >= 1 THEN 'tax_rate must be at least 0 and below 1: 20 looks like per cent: write 0.20'
    END AS reason
    FROM products
)
SELECT * REPLACE (CASE
    WHEN reason IS NULL AND seq < max(seq) FILTER (reason IS NULL) OVER (
        PARTITION BY product_id, coalesce(valid_from, DATE '1970-01-01')
    )
        THEN 'another row of its product and day' ELSE reason
END AS reason)
FROM read;

-- A price without a day is today's: nothing tells what it was before.
CREATE TABLE master AS
SELECT product_id, coalesce(valid_from, DATE '1970-01-01') AS valid_from, category, list_price, unit_cost,
    CASE WHEN valid_from IS NOT NULL THEN price END AS price, price AS newest_price, tax_rate, parent_id,
    first_value(category IGNORE NULLS) OVER known AS first_category,
    first_value(tax_rate IGNORE NULLS) OVER known AS first_tax,
    last_value(name IGNORE NULLS) OVER known AS name
FROM mastered WHERE reason IS NULL
WINDOW known AS (
    PARTITION BY product_id ORDER BY valid_from NULLS FIRST ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
);
