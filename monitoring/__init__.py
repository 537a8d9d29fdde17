"""Monitor decisions and outcomes: scores, drift, alerts, retraining."""
