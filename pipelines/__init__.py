"""Build, evaluate and promote models: one module per job, run as `pricing JOB` or `make JOB`."""

import pricing.runtime  # noqa: F401 - before any module of this package imports MLflow
