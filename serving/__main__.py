"""Check the settings and run granian, whose one worker process answers; slow senders are a proxy's business."""

import datetime as dt
import json
import logging
import logging.config
import multiprocessing
import os
import signal
import socket
import sys
from typing import Any

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.mp import MPServer

from pricing.errors import PricingError
from pricing.fileio import redact_text, redact_url
from pricing.objects import open_store
from pricing.runtime.api_keys import SCOPES
from pricing.runtime.cli import job
from serving.settings import Settings, bind_address, read_settings

# Longer than load balancers keep an idle connection (60 s by default), so that they never send into a closed one.
KEEP_ALIVE_SECONDS = 75
GRACE_SECONDS = 25  # that open requests, and then the decision log, have to end; ECS kills after 30
CONNECTIONS = 1024  # held open at a time, idle ones included; further ones wait

_log = logging.getLogger("serving")


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON without passwords, a traceback as one field of it."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line without its newline."""
        line: dict[str, object] = {
            "at": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact_text(record.getMessage()),
        }
        request_id = getattr(record, "request_id", None)
        if request_id is not None:
            line["request_id"] = request_id
        if record.exc_info:
            line["traceback"] = redact_text(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def log_config(level: str) -> dict[str, Any]:
    """Logs our own packages from `level` and all others from WARNING to standard error."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "serving.__main__.JsonFormatter"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "loggers": {"serving": {"level": level}, "pricing": {"level": level}, "_granian": {"level": "INFO"}},
    }


class _Server(MPServer):
    def signal_handler_interrupt(self, *args: Any, **kwargs: Any) -> None:
        """Stops at the first signal and ignores others: a second one, while the first is handled, blocks for ever."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        super().signal_handler_interrupt(*args, **kwargs)  # type: ignore[no-untyped-call]


@job("serve")
def main(*, config: str | None) -> int:
    """Serves prices over HTTP, on HOST and PORT (127.0.0.1:8080), until a signal arrives."""
    if config:
        os.environ["PRICING_CONFIG"] = config  # where the worker reads it
    # One BLAS thread: the matrices are small, and there are threads that answer already.
    os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    level = os.environ.get("PRICING_LOG_LEVEL", "INFO").upper()
    logs = log_config(level if level in logging.getLevelNamesMapping() else "INFO")
    logging.config.dictConfig(logs)
    try:
        settings = read_settings(os.environ)
        _check(settings)
    except PricingError as error:
        print(f"error: {redact_text(str(error))}", file=sys.stderr)  # noqa: T201
        return 2
    _log.info(
        "serving on http://%s:%d (documents: /docs); versions from %s, decisions to %s",
        settings.host,
        settings.port,
        redact_url(settings.published),
        redact_url(settings.decisions_url),
    )
    multiprocessing.set_start_method("spawn")  # granian has threads when it starts a failed worker again
    _Server(
        "serving.app:application",
        factory=True,
        address=bind_address(settings.host),
        port=settings.port,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        workers=1,
        blocking_threads=settings.config.serving.threads,
        backpressure=CONNECTIONS,
        http1_settings=HTTP1Settings(header_read_timeout=1000 * KEEP_ALIVE_SECONDS),
        respawn_failed_workers=True,
        workers_kill_timeout=GRACE_SECONDS,
        log_dictconfig=logs,
    ).serve()
    return 0


def _check(settings: Settings) -> None:
    """Refuses addresses that are none, keys that are needed and not given, and a port that is taken."""
    for where in (settings.published, settings.decisions_url):
        open_store(where)
    if settings.keys_needed and not settings.keys:
        raise PricingError(
            f"API keys are needed on {settings.host} (PRICING_KEYS or serving.keys); give PRICING_API_KEYS or "
            f"PRICING_API_KEYS_FILE as `name key scope,scope` (scopes: {', '.join(SCOPES)}), bind to 127.0.0.1, "
            "or set PRICING_KEYS=none to do without"
        )
    address = bind_address(settings.host)
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, settings.port))
        except OSError as error:
            raise PricingError(
                f"cannot bind {settings.host}:{settings.port} ({error.strerror}); choose another port with PORT=…"
            ) from error


if __name__ == "__main__":
    sys.exit(main())
