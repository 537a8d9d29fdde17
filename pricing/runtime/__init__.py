"""Shared by all programs: the command line, and the MLflow run around a job.

Programs that use MLflow or Evidently import this package before those: both would report how they are used to their
makers, and read once, when they are imported, whether they may. MLflow by itself would wait minutes for a server that
is down, and show a progress bar for each download.
"""

import logging
import os

for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",  # Evidently's
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}.items():
    os.environ.setdefault(_name, _value)
# At INFO they log addresses, and with them a secret in one; at DEBUG headers.
for _name in ("httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)
