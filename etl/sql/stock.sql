-- Counts → openings: units on hand when a day begins, of its own count nearest to that midnight, with the sales in between;
-- a day without one has the evening's before. A count from 17:00 on is an evening's: a delivery seldom comes after it.
-- A count without a time of day is that of its day's opening. A day is unknown without a count, where more sold than was
-- counted (a delivery came in between), and where lines that tell no time leave open how much sold before the count.
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
        hour(time) >= 17 AS is_evening, CAST(time AS DATE) + (hour(time) >= 17)::INTEGER AS date
    FROM counted WHERE reason IS NULL
),
nearest AS (  -- of two as near the one read last
    SELECT date, product_id, store, arg_min(
        {'moment': moment, 'day': day, 'quantity': quantity, 'is_evening': is_evening},
        (is_evening, abs(epoch(moment) - epoch(date::TIMESTAMP)), -seq)
    ) AS count
    FROM timed GROUP BY ALL
),
between_ AS (
    SELECT n.product_id, n.store, n.date, sum(l.units) FILTER (l.moment = l.date) AS any_time,
        sum(l.units) FILTER (l.moment > l.date AND (l.moment >= n.count.moment) = n.count.is_evening) AS units
    FROM nearest AS n JOIN lines AS l
        ON l.product_id = n.product_id AND l.store = n.store AND l.date = n.count.day
    WHERE n.count.moment <> n.date
    GROUP BY ALL
)
SELECT
    n.date, n.product_id, n.store,
    n.count.quantity + CASE WHEN n.count.is_evening THEN -1 ELSE 1 END * coalesce(b.units, 0) AS stock
FROM nearest AS n LEFT JOIN between_ AS b USING (product_id, store, date)
WHERE stock >= 0 AND (hour(n.count.moment) NOT BETWEEN 9 AND 18 OR coalesce(2 * b.any_time, 0) <= n.count.quantity);
