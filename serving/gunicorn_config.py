"""gunicorn's configuration: logging, balanced connections, and hooks at the start and end of workers."""

import ctypes
import gc
import signal
import sys
import time
from typing import Any

from gunicorn.glogging import Logger
from gunicorn.workers.gthread import ThreadWorker

from serving.app import close_app
from serving.logs import configure_logging

HESITATE_SECONDS = 0.0001  # delay of an accept per open connection
LONGEST_SECONDS = 0.002
_PARENT_DIED = 1  # PR_SET_PDEATHSIG of Linux


class Log(Logger):  # type: ignore[misc]
    """gunicorn's logger with the service's log format."""

    def setup(self, cfg: Any) -> None:
        """See gunicorn; `logconfig_dict` would do as well, but turns access logs on."""
        super().setup(cfg)
        configure_logging()

    def access(self, *_: object) -> None:
        """Logs nothing: formatting gunicorn's access log takes longer than Flask takes to answer."""


class Worker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's threaded worker, which delays an accept by its open connections, so that an idler one is faster.

    All workers wait on one socket. Without the delay, the first to wake would accept every connection and leave the
    others idle.
    """

    def accept(self, listener: Any) -> None:
        """See gunicorn; accepts nothing where another worker was faster, which is no error."""
        time.sleep(min(self.nr_conns * HESITATE_SECONDS, LONGEST_SECONDS))
        super().accept(listener)


logger_class, worker_class = Log, Worker


def on_starting(_server: Any) -> None:
    """Has Linux end the web server with SIGTERM when its parent process dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DIED, signal.SIGTERM)


def post_worker_init(_worker: Any) -> None:
    """Exempts long-lived objects from garbage collection, which cost a third of a batch's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def worker_exit(_server: Any, worker: Any) -> None:
    """Stops the worker's threads and flushes its decision log."""
    app = getattr(worker, "wsgi", None)
    if app is not None:
        close_app(app)
