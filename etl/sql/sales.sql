-- Finished rows → rows: the contract is checked where they are loaded; here only what cannot be read is set aside.
CREATE TABLE finished AS SELECT *, fault AS reason FROM sales;

CREATE TABLE made AS
SELECT * EXCLUDE (fault, reason), false AS in_master, product_id AS product FROM finished WHERE reason IS NULL;
