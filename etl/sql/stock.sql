-- Counts → openings: units on hand when a day begins, of the count nearest to that midnight, with the sales in between.
-- A count without a time of day is that of its day's opening; a day without a count is unknown.
CREATE VIEW counted AS
SELECT rowid AS seq, *, CASE
    WHEN fault IS NOT NULL THEN fault
    WHEN quantity < 0 OR quantity > 1e9 THEN 'a count must be at least 0'
    WHEN CAST(time AS DATE) > getvariable('today') THEN 'time must not lie in the future'
END AS reason
FROM stock;

CREATE TABLE openings AS
WITH timed AS (
    SELECT
        seq, product_id, coalesce(store, '') AS store, time AS moment, quantity, CAST(time AS DATE) AS day,
        hour(time) >= 12 AS is_evening, CAST(time AS DATE) + (hour(time) >= 12)::INTEGER AS date
    FROM counted WHERE reason IS NULL
),
nearest AS (  -- of two as near the one read last
    SELECT date, product_id, store, arg_min(
        {'moment': moment, 'day': day, 'quantity': quantity, 'is_evening': is_evening},
        (abs(epoch(moment) - epoch(date::TIMESTAMP)), -seq)
    ) AS count
    FROM timed GROUP BY ALL
),
between_ AS (  -- lines at midnight tell no time of day
    SELECT n.product_id, n.store, n.date, sum(l.units) AS units
    FROM nearest AS n JOIN lines AS l
        ON l.product_id = n.product_id AND l.store = n.store AND l.date = n.count.day
    WHERE n.count.moment <> n.date AND l.moment > l.date AND (l.moment >= n.count.moment) = n.count.is_evening
    GROUP BY ALL
)
SELECT
    n.date, n.product_id, n.store,
    greatest(0, n.count.quantity + CASE WHEN n.count.is_evening THEN -1 ELSE 1 END * coalesce(b.units, 0)) AS stock
FROM nearest AS n LEFT JOIN between_ AS b USING (product_id, store, date);
