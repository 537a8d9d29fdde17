-- Days, stock, master, plans and competitors → rows of the data contract from the day `first` on.
-- Variables: first, closed (days for which a count holds while the store is closed), reach (days after a product's last sale or stock on which it still counts as one that is kept).
CREATE TABLE open_days AS SELECT DISTINCT date, store FROM days;

-- What was counted while the store was closed lies there when it opens again, unless that day has a count of its own.
CREATE TABLE opened AS
SELECT d.date, o.product_id, o.store, arg_max(o.stock, o.date) AS stock
FROM openings AS o ASOF JOIN open_days AS d ON o.store = d.store AND o.date <= d.date
WHERE d.date - o.date <= getvariable('closed')
GROUP BY ALL;

CREATE TABLE evidence AS
SELECT DISTINCT * FROM (
    SELECT product_id, store, date FROM days WHERE units_sold > 0
    UNION ALL
    SELECT product_id, store, date FROM opened WHERE stock > 0
    UNION ALL
    SELECT s.product_id, s.store, f.date FROM former_rows AS f JOIN series AS s ON s.id = f.product_id
    WHERE f.units_sold > 0 OR f.stock > 0
);

-- Days without a sale that get a row: those within reach of evidence on which the store sold anything at all.
CREATE TABLE quiet AS
WITH spans AS (
    SELECT product_id, store, date, least(
        date + getvariable('reach'), (SELECT max(date) FROM open_days),
        coalesce(lead(date) OVER (PARTITION BY product_id, store ORDER BY date) - 1, DATE '9999-01-01')
    ) AS until
    FROM evidence
),
filled AS (
    SELECT product_id, store, CAST(unnest(generate_series(
        greatest(date, getvariable('first'))::TIMESTAMP, until::TIMESTAMP, INTERVAL 1 DAY
    )) AS DATE) AS date
    FROM spans WHERE until >= greatest(date, getvariable('first'))
)
SELECT * FROM filled SEMI JOIN open_days USING (date, store) ANTI JOIN days USING (date, product_id, store);

CREATE VIEW joined AS
WITH sold AS (
    SELECT date, product_id, store, units_sold, price, tax_rate FROM days WHERE date >= getvariable('first')
    UNION ALL BY NAME SELECT date, product_id, store, 0.0 AS units_sold FROM quiet
)
SELECT
    s.*, m.valid_from IS NOT NULL OR f.product_id IS NOT NULL AS in_master,
    m.list_price, m.unit_cost, m.price AS shelf_price, m.newest_price, m.parent_id,
    coalesce(m.category, f.first_category) AS category, coalesce(s.tax_rate, m.tax_rate, f.first_tax) AS rate
FROM sold AS s
ASOF LEFT JOIN master AS m ON s.product_id = m.product_id AND s.date >= m.valid_from
LEFT JOIN (SELECT DISTINCT product_id, first_category, first_tax FROM master) AS f ON f.product_id = s.product_id;

CREATE TABLE promo_days AS
SELECT DISTINCT product_id, CAST(unnest(generate_series(
    greatest(first, getvariable('first'))::TIMESTAMP, least(last, (SELECT max(date) FROM open_days))::TIMESTAMP, INTERVAL 1 DAY
)) AS DATE) AS date
FROM plan WHERE last >= getvariable('first') AND first <= (SELECT max(date) FROM open_days);

CREATE TABLE made AS
WITH priced AS (
    SELECT * REPLACE (coalesce(price, shelf_price) AS price),
        product_id || CASE WHEN store = '' THEN '' ELSE '@' || store END AS id FROM joined
),
carried AS (
    SELECT p.*, coalesce(
        p.price,
        last_value(p.price IGNORE NULLS) OVER (PARTITION BY p.id ORDER BY p.date ROWS UNBOUNDED PRECEDING),
        l.price, p.list_price,
        first_value(p.price IGNORE NULLS) OVER (PARTITION BY p.id ORDER BY p.date ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING),
        p.newest_price
    ) AS paid,
    p.price IS NULL AND abs(paid / first_value(p.price IGNORE NULLS) OVER (
        PARTITION BY p.id ORDER BY p.date ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING
    ) - 1) > 0.005 AS is_between
    FROM priced AS p LEFT JOIN last_prices AS l ON l.product_id = p.id
)
SELECT
    c.date, c.id AS product_id, c.units_sold, c.paid AS price, c.category, c.list_price, c.unit_cost, o.stock, NULL AS available,
    r.lowest.price AS comp_price, CAST(r.lowest.age AS DOUBLE) AS comp_price_age,
    CASE
        WHEN c.date < (SELECT min(first) FROM promoted WHERE reason IS NULL) THEN NULL
        WHEN EXISTS (FROM promoted) THEN (w.product_id IS NOT NULL)::DOUBLE
    END AS is_promo, NULL AS is_holiday,
    c.rate AS tax_rate, CASE WHEN c.store = '' THEN c.parent_id ELSE c.product_id END AS parent_id,
    n.name, c.in_master, c.product_id AS product, c.is_between
FROM carried AS c
LEFT JOIN (SELECT DISTINCT product_id, name FROM master) AS n ON n.product_id = c.product_id
LEFT JOIN opened AS o ON o.product_id = c.product_id AND o.store = c.store AND o.date = c.date
LEFT JOIN rivals AS r ON r.product_id = c.product_id AND r.date = c.date
LEFT JOIN promo_days AS w ON w.product_id = c.id AND w.date = c.date
WHERE c.paid IS NOT NULL;
