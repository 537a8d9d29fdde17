"""Shared by all programs: the command line, and the MLflow run around a job.

Programs that use MLflow or Evidently import this package before those: both would report how they are used to their
makers, and read once, when they are imported, whether they may.
"""

import logging
import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "1")  # Evidently's
# At INFO they log addresses, and with them a secret in one; at DEBUG headers.
for _name in ("httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)
