-- Counts → openings: units on hand when a day begins, of the count nearest to that midnight, with the sales in between.
-- A count without a time of day is that of its day's opening; a day without a count is unknown.
CREATE TABLE counted AS
SELECT *, CASE
    WHEN fault IS NOT NULL THEN fault
    WHEN quantity < 0 OR quantity > 1e9 OR isnan(quantity) THEN 'a count must be at least 0'
    WHEN CAST(time AS DATE) > getvariable('today') THEN 'time must not lie in the future'
END AS reason
FROM stock;

CREATE TABLE openings AS
WITH timed AS (
    SELECT
        rowid AS seq, product_id, coalesce(store, '') AS store, time AS moment, quantity, CAST(time AS DATE) AS day,
        hour(CAST(time AS TIMESTAMP)) >= 12 AS is_evening,
        CASE WHEN hour(CAST(time AS TIMESTAMP)) >= 12
            THEN 86400 - date_diff('second', CAST(time AS DATE)::TIMESTAMP, CAST(time AS TIMESTAMP))
            ELSE date_diff('second', CAST(time AS DATE)::TIMESTAMP, CAST(time AS TIMESTAMP)) END AS away
    FROM counted WHERE reason IS NULL
),
nearest AS (
    SELECT *, day + is_evening::INTEGER AS date FROM timed
    QUALIFY row_number() OVER (PARTITION BY product_id, store, day + is_evening::INTEGER ORDER BY away, seq DESC) = 1
),
between_ AS (  -- lines at midnight tell no time of day
    SELECT n.product_id, n.store, n.date, sum(l.units) AS units
    FROM nearest AS n JOIN lines AS l
        ON l.product_id = n.product_id AND l.store = n.store AND l.date = n.day
    WHERE n.away > 0 AND l.moment > CAST(l.date AS TIMESTAMPTZ) AND (l.moment >= n.moment) = n.is_evening
    GROUP BY ALL
)
SELECT
    n.date, n.product_id, n.store,
    greatest(0, n.quantity + CASE WHEN n.is_evening THEN -1 ELSE 1 END * coalesce(b.units, 0)) AS stock
FROM nearest AS n LEFT JOIN between_ AS b USING (product_id, store, date);
