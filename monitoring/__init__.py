"""Monitor decisions and outcomes: scores, drift, alerts, retraining."""

import pricing.runtime  # noqa: F401 - before any module of this package imports MLflow or Evidently
