"""Make sales rows of a shop's own tables, in SQL: ends where `pricing.data.source` begins."""
