"""Shows pricing managers what moves and why, and takes their decisions: web pages."""

import logging
import os
import socket
import sys

import click
from granian.constants import HTTPModes, Interfaces
from granian.server import Server

from console.app import opened
from pricing.errors import ConfigError
from pricing.runtime.cli import job

THREADS = 8  # pages that are made at a time

_log = logging.getLogger("console")


@job("console")
@click.option("--host", envvar="HOST", default="127.0.0.1", help="address to bind")
@click.option("--port", envvar="PORT", default=8090, type=click.IntRange(1, 65_535), help="port to bind")
@click.option("--home", help="folder of prices, panel and versions (PRICING_HOME)")
def main(*, config: str | None, host: str, port: int, home: str | None) -> int:
    """Shows pages until a signal arrives."""
    options = {"HOST": host, "PRICING_HOME": home, "PRICING_CONFIG": config}
    os.environ.update({name: value for name, value in options.items() if value})  # the worker reads them there
    opened()
    with socket.socket() as probe:  # two servers may share a port, and each would answer half
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise ConfigError(f"port {port} is taken; choose another one with PORT=…")
    _log.info("the console is on http://%s:%s", host, port)
    Server(
        "console.app:application",
        factory=True,
        address="127.0.0.1" if host == "localhost" else host.strip("[]"),
        port=port,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        workers=1,
        blocking_threads=THREADS,
        respawn_failed_workers=True,
        workers_kill_timeout=10,
        log_access=False,
    ).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
