"""A retailer's own tables: read, checked, summed and joined into rows of the data contract."""
