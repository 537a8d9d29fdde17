"""Log format of the service's processes: one JSON object per line on standard error, without secrets."""

import datetime as dt
import json
import logging
import logging.config
import os
from typing import Any

from pricing.fileio import redact_text

_EXTRA = ("request_id", "route", "status", "caller", "latency_ms")


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON, a traceback as one field of it."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line without its newline."""
        line: dict[str, object] = {
            "at": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": redact_text(record.getMessage()),
        }
        line.update({name: getattr(record, name) for name in _EXTRA if hasattr(record, name)})
        if record.exc_info:
            line["traceback"] = redact_text(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


LOG_CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "serving.logs.JsonFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"level": "WARNING", "handlers": ["stderr"]},
    "loggers": {
        "serving": {"level": "INFO"},
        "pricing": {"level": "INFO"},
        "_granian": {"level": "INFO", "handlers": [], "propagate": True},
    },
}


def configure_logging() -> None:
    """Logs our own packages from INFO (or PRICING_LOG_LEVEL) and all others from WARNING to standard error."""
    logging.config.dictConfig(LOG_CONFIG)
    level = os.environ.get("PRICING_LOG_LEVEL", "INFO").upper()
    if level in logging.getLevelNamesMapping():
        for name in ("pricing", "serving"):
            logging.getLogger(name).setLevel(level)
