-- Competitors' offers → rivals: the lowest price that was known of a product on a day, and its age.
-- Of each competitor's offer the newest one counts, up to `max_age` days; one that is not available is none.
CREATE VIEW offered AS
SELECT rowid AS seq, *, CASE
    WHEN fault IS NOT NULL THEN fault
    WHEN price <= 0 OR price > 1e9 THEN 'price must be above 0'
    WHEN CAST(seen_at AS DATE) > getvariable('today') THEN 'seen_at must not lie in the future'
END AS reason
FROM competitors;

CREATE TABLE rivals AS
WITH newest AS (
    SELECT
        product_id, coalesce(source, '') AS source, coalesce(offer_id, '') AS offer_id, CAST(seen_at AS DATE) AS day,
        arg_max(price, seen_at) AS price, arg_max(coalesce(available, 1), seen_at) > 0 AS available
    FROM offered WHERE reason IS NULL
    GROUP BY ALL
),
spans AS (
    SELECT *, least(
        day + getvariable('max_age'), getvariable('today') - 1,
        coalesce(lead(day) OVER (PARTITION BY product_id, source, offer_id ORDER BY day) - 1, DATE '9999-01-01')
    ) AS last
    FROM newest
),
known AS (
    SELECT product_id, price, CAST(unnest(generate_series(
        greatest(day, getvariable('first'))::TIMESTAMP, last::TIMESTAMP, INTERVAL 1 DAY
    )) AS DATE) AS date, day
    FROM spans WHERE available AND last >= getvariable('first')
)
SELECT product_id, date, min({'price': price, 'age': date - day}) AS lowest FROM known GROUP BY ALL;
