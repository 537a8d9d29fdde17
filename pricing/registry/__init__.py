"""Model versions: packing, loading, MLflow pyfunc, aliases, promotion and its audit trail."""

CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS = "previous"
