-- Promotions, deliveries and events → plans as the settings of `data` read them; stores make series of their own.
CREATE VIEW promoted AS
SELECT rowid AS seq, *, CASE
    WHEN fault IS NOT NULL THEN fault
    WHEN last < first THEN 'last must not come before first'
    WHEN last - first > 3660 THEN 'a promotion must end within ten years'
END AS reason
FROM promotions;

CREATE TABLE series AS
SELECT DISTINCT d.product_id, d.store, d.product_id || CASE WHEN d.store = '' THEN '' ELSE '@' || d.store END AS id,
    m.category
FROM (
    SELECT product_id, store FROM days
    UNION SELECT * FROM (
        SELECT CASE WHEN starts_with(product_id, parent_id || '@') THEN parent_id ELSE product_id END,
            CASE WHEN starts_with(product_id, parent_id || '@') THEN substr(product_id, length(parent_id) + 2) ELSE '' END
        FROM last_prices
    )
) AS d
LEFT JOIN (SELECT product_id, arg_max(category, valid_from) AS category FROM master GROUP BY ALL) AS m USING (product_id);

CREATE TABLE plan AS
SELECT DISTINCT s.id AS product_id, p.first, p.last
FROM promoted AS p JOIN series AS s
    ON (p.product_id IS NULL OR p.product_id = s.product_id)
    AND (p.product_id IS NOT NULL OR p.category IS NULL OR p.category = s.category)
    AND (p.store IS NULL OR p.store = s.store)
WHERE p.reason IS NULL
ORDER BY ALL;

CREATE VIEW delivered AS
SELECT rowid AS seq, *, fault AS reason FROM deliveries;

CREATE TABLE delivery_plan AS
SELECT DISTINCT product_id || coalesce('@' || nullif(store, ''), '') AS product_id, date
FROM delivered WHERE reason IS NULL ORDER BY ALL;

CREATE VIEW evented AS
SELECT rowid AS seq, *, CASE
    WHEN fault IS NOT NULL THEN fault
    WHEN last_date < date THEN 'last_date must not come before date'
END AS reason
FROM events;

CREATE TABLE event_plan AS
SELECT DISTINCT date, name, coalesce(last_date, date) AS last_date, coalesce(category, '') AS category
FROM evented WHERE reason IS NULL ORDER BY ALL;
