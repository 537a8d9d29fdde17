"""From a shop's tables and competitors' price APIs to the table of sales."""
