"""The programs that build models: one module per job, run as `python -m pipelines.JOB`."""
