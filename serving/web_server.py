"""Run the web server: granian, each of whose worker processes holds one application."""

import ctypes
import gc
import multiprocessing
import os
import resource
import signal
import sys
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING

from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.rsgi import ProtocolClosed, ProtocolError  # type: ignore[attr-defined]
from granian.server.mp import MPServer

from serving.logs import LOG_CONFIG, configure_logging
from serving.settings import Settings, bind_address, read_settings

if TYPE_CHECKING:
    from serving.authentication import Authenticator
    from serving.gateway import Gateway
    from serving.service import Service

# Longer than load balancers keep an idle connection (60 s by default), so that they never send into a closed one.
KEEP_ALIVE_SECONDS = 75
GRACE_SECONDS = 15  # that open requests have to end before a worker is killed
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux


def main() -> int:
    """Serve as the environment says until a signal; return the exit code."""
    configure_logging()
    _stop_with_parent()
    multiprocessing.set_start_method("spawn")  # the server has threads when it replaces a worker: no fork is safe then
    web_server(read_settings(os.environ)).serve()
    return 0


def web_server(settings: Settings) -> MPServer:
    """Configure granian: HTTP/1.1 in Rust threads, one event loop a worker that hands requests to Python threads.

    A client that sends nothing, or half a head, occupies a connection alone, and is cut off after `KEEP_ALIVE_SECONDS`;
    of one that sends half a body the same is true for `serving.body_seconds`. When all of `serving.connections` are
    occupied, further ones wait unanswered: a proxy in front keeps away whoever opens so many.
    """
    serving = settings.config.serving
    return MPServer(
        f"{__spec__.name}:application",
        factory=True,
        address=bind_address(settings.host),
        port=settings.port,
        interface=Interfaces.RSGI,
        loop=Loops.auto,  # uvloop, where it is installed
        http=HTTPModes.http1,
        websockets=False,
        workers=serving.workers,
        backpressure=serving.connections,
        http1_settings=HTTP1Settings(header_read_timeout=1000 * KEEP_ALIVE_SECONDS),
        respawn_failed_workers=True,
        workers_kill_timeout=GRACE_SECONDS,
        log_dictconfig=LOG_CONFIG,
    )


def application() -> "Gateway":
    """Make a worker's application, whose decision log is written out when the worker ends."""
    # Workers alone import these: the process that starts them would only keep them waiting.
    from serving.app import close_app, create_app  # noqa: PLC0415
    from serving.gateway import Gateway  # noqa: PLC0415

    configure_logging()
    _stop_with_parent()
    _allow_files()
    app = create_app()
    Finalize(None, close_app, args=(app,), exitpriority=10)
    # Objects that live as long as the worker are spared garbage collection, which took a third of a batch's time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
    service: Service = app.extensions["pricing"]
    authenticator: Authenticator = app.extensions["pricing_authenticator"]
    return Gateway(
        app.wsgi_app,
        serving=service.settings.config.serving,
        metrics=service.metrics,
        stopping=service.stopping,
        admit=authenticator.admit,
        gone=(ProtocolClosed, ProtocolError),
    )


def _allow_files() -> None:
    """Raise this process's limit of open files as far as it may: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _stop_with_parent() -> None:
    """Have Linux send SIGTERM to this process when the one that started it dies, however it dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
