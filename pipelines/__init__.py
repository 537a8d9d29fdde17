"""Build, evaluate and promote models: one module per job, run as `pricing JOB` or `make JOB`."""
