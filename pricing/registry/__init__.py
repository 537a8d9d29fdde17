"""A model version: packed, loaded, as a pyfunc, its aliases and its audit trail."""

CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS = "previous"
