-- Finished rows → rows: the contract is checked where they are loaded; here only what cannot be read is set aside.
CREATE VIEW finished AS SELECT rowid AS seq, *, fault AS reason FROM sales;

CREATE VIEW made AS
SELECT * EXCLUDE (seq, fault, reason), false AS in_master, product_id AS product FROM finished WHERE reason IS NULL;
