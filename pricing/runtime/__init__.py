"""What all three programs stand on: the command line, and the MLflow runs around jobs."""
