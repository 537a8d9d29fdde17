-- Lines → shelves: what a product cost on the shelf on each day on which it was sold, whatever single buyers paid.
-- Six bottles for less and a regular's discount come off single lines. A cut is for everybody, so the next buyers pay it
-- too: a price that fewer than `buyers` in a row paid, and that is lower than the others by no more than discounts are,
-- counts as discounted. Nights use what the last full run found of discounts (known_…). A hundredth is rounding.
CREATE VIEW same_day AS
SELECT price, max(price) OVER day AS highest, count(*) OVER day AS lines FROM lines WHERE units > 0
WINDOW day AS (PARTITION BY date, product_id, store);

SET VARIABLE discounted = coalesce(
    getvariable('known_discounted'), (SELECT avg((price < 0.99 * highest)::INTEGER) FROM same_day WHERE lines > 2), 0
);

-- The depth that one discount in twenty passes: single lines are mistyped, and prices change while the store is open.
SET VARIABLE deepest = coalesce(
    getvariable('known_deepest'),
    (SELECT quantile_cont(1 - price / highest, 0.95) FROM same_day WHERE lines > 2 AND price < 0.99 * highest), 0
);

-- As many as pay less by chance once in 200 runs.
SET VARIABLE buyers = CASE
    WHEN getvariable('discounted') < 0.005 THEN 1
    ELSE least(12, ceil(ln(0.005) / ln(least(getvariable('discounted'), 0.99))))
END::INTEGER;

CREATE TABLE closed AS
WITH paid AS (
    SELECT date, product_id, store, units, price, full_price, moment, seq FROM lines WHERE units > 0
    UNION ALL  -- of a night: the price before its first day, beside which its first lines are read
    SELECT
        getvariable('first') - 1, s.product_id, s.store, 0, l.price, l.price, (getvariable('first') - 1)::TIMESTAMP, -1
    FROM last_prices AS l JOIN (SELECT DISTINCT product_id, store FROM lines) AS s
        ON l.product_id = s.product_id || coalesce('@' || nullif(s.store, ''), '')
),
around AS (
    SELECT
        *, list(price) OVER before AS before_it, list(price) OVER after AS after_it,
        count(*) OVER long_before < 2 * getvariable('buyers') OR bool_or(price >= 0.99 * full_price) OVER long_before
            AS full_before,
        count(*) OVER long_after < 2 * getvariable('buyers') OR bool_or(price >= 0.99 * full_price) OVER long_after
            AS full_after
    FROM paid
    WINDOW  -- a full price that lines name is doubted only where twice as many did not pay it
        long_before AS (
            PARTITION BY product_id, store ORDER BY moment, seq
            ROWS BETWEEN 2 * getvariable('buyers') - 1 PRECEDING AND CURRENT ROW
        ),
        long_after AS (
            PARTITION BY product_id, store ORDER BY moment, seq
            ROWS BETWEEN CURRENT ROW AND 2 * getvariable('buyers') - 1 FOLLOWING
        ),
        before AS (
            PARTITION BY product_id, store ORDER BY moment, seq ROWS BETWEEN getvariable('buyers') - 1 PRECEDING AND CURRENT ROW
        ),
        after AS (
            PARTITION BY product_id, store ORDER BY moment, seq ROWS BETWEEN CURRENT ROW AND getvariable('buyers') - 1 FOLLOWING
        )
),
highest AS (  -- prices from which a discount may lead to this one
    SELECT
        *, price / (0.99 - getvariable('deepest')) AS most,
        list_max(list_filter(before_it, lambda other: other <= most)) AS highest_before,
        list_max(list_filter(after_it, lambda other: other <= most)) AS highest_after
    FROM around
)
SELECT
    date, product_id, store, units, price, full_price, full_before AND full_after AS full_near,
    coalesce(
        least(
            CASE WHEN len(before_it) > 1 THEN highest_before END,
            CASE WHEN len(after_it) = getvariable('buyers') THEN highest_after END
        ),
        greatest(highest_before, highest_after)
    ) AS closed
FROM highest WHERE units > 0;

-- What lines name as the full price counts where others pay it: a percentage that was taken for money is none.
SET VARIABLE named = coalesce(
    getvariable('known_named'),
    (SELECT avg((abs(full_price / closed - 1) < 0.01)::INTEGER) FROM closed WHERE price < 0.99 * full_price AND full_near)
);
SET VARIABLE confirmed = getvariable('named') > 0.5;  -- of percentages up to 0.42 look like money

CREATE TABLE shelves AS
WITH shelf AS (
    SELECT *, CASE WHEN full_near AND getvariable('confirmed') THEN full_price ELSE closed END AS each FROM closed
),
usual AS (  -- the price of most lines of a day; the highest of those that as many have
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
