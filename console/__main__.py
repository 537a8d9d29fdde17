"""Shows pricing managers what moves and why, and takes their decisions: web pages."""

import logging
import os
import socket
import sys

import click
from granian.constants import HTTPModes, Interfaces
from granian.server import Server

from console.app import opened
from pricing.errors import ConfigError, PricingError
from pricing.fileio import redact_text
from pricing.runtime.cli import job

THREADS = 8  # pages that are made at a time

_log = logging.getLogger("console")


@job("console")
@click.option("--host", help="address to bind (HOST; 127.0.0.1 by default)")
@click.option("--port", help="port to bind (PORT; 8090 by default)")
@click.option("--home", help="folder of prices, panel and versions (PRICING_HOME)")
def main(*, config: str | None, host: str | None, port: str | None, home: str | None) -> int:
    """Shows pages until a signal arrives."""
    options = {"HOST": host, "PORT": port, "PRICING_HOME": home, "PRICING_CONFIG": config}
    os.environ.update({name: value for name, value in options.items() if value})  # the worker reads them there
    host, port = os.environ.get("HOST") or "127.0.0.1", os.environ.get("PORT") or "8090"
    try:
        if not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError(f"PORT: expected a number from 1 to 65535, found {port!r}")
        opened()
        with socket.socket() as probe:  # two servers may share a port, and each would answer half
            if probe.connect_ex(("127.0.0.1", int(port))) == 0:
                raise ConfigError(f"port {port} is taken; choose another one with PORT=…")
    except PricingError as error:
        print(f"error: {redact_text(str(error))}", file=sys.stderr)  # noqa: T201
        return 2
    _log.info("the console is on http://%s:%s", host, port)
    Server(
        "console.app:application",
        factory=True,
        address="127.0.0.1" if host == "localhost" else host.strip("[]"),
        port=int(port),
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
