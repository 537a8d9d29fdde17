"""Shared by all programs: the command line, and the MLflow run around a job."""
