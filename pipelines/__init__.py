"""Build, evaluate and promote models: one module per job, run as `python -m pipelines.JOB`."""
