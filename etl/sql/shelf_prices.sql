-- Lines → shelves: what a product cost on the shelf on each day on which it was sold, whatever single buyers paid.
-- Six bottles for less and a regular's discount come off single lines. A cut is for everybody, so the next buyers pay
-- it too: a lower price that fewer than `buyers` in a row paid counts as a discount. It is the morphological closing of
-- the sequence of prices, by as many buyers as pay less by chance once in 200 runs.
SET VARIABLE discounted = (
    SELECT coalesce(avg((price < 0.99 * highest)::INTEGER), 0)
    FROM (
        SELECT price, max(price) OVER day AS highest, count(*) OVER day AS lines FROM lines WHERE units > 0
        WINDOW day AS (PARTITION BY date, product_id, store)
    )
    WHERE lines > 2
);

SET VARIABLE buyers = CASE
    WHEN getvariable('discounted') < 0.005 THEN 1
    ELSE least(12, ceil(ln(0.005) / ln(least(getvariable('discounted'), 0.99))))
END::INTEGER;

CREATE TABLE closed AS
WITH around AS (
    SELECT
        date, product_id, store, units, price, full_price, moment, seq,
        CASE WHEN count(*) OVER before = getvariable('buyers') THEN max(price) OVER before END AS highest_before,
        CASE WHEN count(*) OVER after = getvariable('buyers') THEN max(price) OVER after END AS highest_after,
        greatest(max(price) OVER before, max(price) OVER after) AS highest,
        CASE WHEN count(*) OVER before = getvariable('buyers') THEN bool_or(price >= 0.99 * full_price) OVER before ELSE true
            END AS full_before,
        CASE WHEN count(*) OVER after = getvariable('buyers') THEN bool_or(price >= 0.99 * full_price) OVER after ELSE true
            END AS full_after
    FROM lines WHERE units > 0
    WINDOW
        before AS (
            PARTITION BY product_id, store ORDER BY moment, seq ROWS BETWEEN getvariable('buyers') - 1 PRECEDING AND CURRENT ROW
        ),
        after AS (
            PARTITION BY product_id, store ORDER BY moment, seq ROWS BETWEEN CURRENT ROW AND getvariable('buyers') - 1 FOLLOWING
        )
)
SELECT
    date, product_id, store, units, price, full_price, moment, seq, full_before AND full_after AS full_near,
    coalesce(least(highest_before, highest_after), highest) AS closed
FROM around;

-- What lines name as the full price counts where others pay it: a percentage that was taken for money is none, and no
-- line pays a price with tax beside amounts without.
SET VARIABLE named = (
    SELECT coalesce(avg((abs(full_price / closed - 1) < 0.01)::INTEGER), 0) FROM closed
    WHERE price < 0.99 * full_price AND full_near
);

CREATE TABLE shelves AS
WITH shelf AS (
    SELECT *, CASE WHEN full_near AND getvariable('named') > 0.5 THEN full_price ELSE closed END AS each FROM closed
),
usual AS (  -- of several shelf prices of a day that of most lines; of as many the highest
    SELECT date, product_id, store, arg_max(each, (lines, each)) AS usual
    FROM (SELECT date, product_id, store, each, count(*) AS lines FROM shelf GROUP BY ALL) GROUP BY ALL
)
SELECT
    date, product_id, store,
    coalesce(
        sum(units * price) FILTER (abs(price / usual - 1) < 0.01) / sum(units) FILTER (abs(price / usual - 1) < 0.01), usual
    ) AS price,
    count(*) FILTER (price < 0.99 * usual) AS discounted, count(*) AS lines,
    sum(units * greatest(usual - price, 0)) AS taken_off, sum(units * price) AS paid
FROM shelf JOIN usual USING (date, product_id, store)
GROUP BY date, product_id, store, usual;
