"""What gunicorn calls and reads: how its workers log, and what they finish before they leave."""

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

HESITATE_SECONDS = 0.0001  # for each connection that is open
LONGEST_SECONDS = 0.002
_PARENT_DIED = 1  # PR_SET_PDEATHSIG of Linux


class Log(Logger):  # type: ignore[misc]
    """gunicorn's own log, written as ours is."""

    def setup(self, cfg: Any) -> None:
        """See gunicorn; `logconfig_dict` would do as well, but turns the lines for each request on."""
        super().setup(cfg)
        configure_logging()

    def access(self, *_: object) -> None:
        """Nothing: gathering what gunicorn would say of a request takes it longer than Flask takes to answer."""


class Worker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's own worker, but the busier one hesitates to take a connection, so that the idler one does.

    All wait at one socket, and whoever wakes first would take every connection that came: one worker then answers
    everything, and the others nothing.
    """

    def accept(self, listener: Any) -> None:
        """See gunicorn; finds nothing where another worker was faster, which is no error."""
        time.sleep(min(self.nr_conns * HESITATE_SECONDS, LONGEST_SECONDS))
        super().accept(listener)


logger_class, worker_class = Log, Worker


def on_starting(_server: Any) -> None:
    """Ends the web server in order when whoever started it dies without a word."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DIED, signal.SIGTERM)


def post_worker_init(_worker: Any) -> None:
    """Spares what lives as long as the worker from garbage collection, which cost a third of a batch's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def worker_exit(_server: Any, worker: Any) -> None:
    """Writes out the worker's decision log."""
    app = getattr(worker, "wsgi", None)
    if app is not None:
        close_app(app)
