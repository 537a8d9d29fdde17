"""Start the console, and create its Flask application: its pages, its headers, its errors."""

import logging
import os
import socket
from http import HTTPStatus
from typing import Any

import click
from flask import Flask, render_template, request
from granian.constants import HTTPModes, Interfaces
from granian.server import Server
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from console import words
from console.access import PUBLIC, Access, guard, own_address
from console.pages import portfolio, price_file, product, today, what_if
from console.shop import Shop
from pricing.config import read_config_file
from pricing.errors import ConfigError, ConflictError, PricingError
from pricing.fileio import redact_text
from pricing.paths import page_css, pricing_home
from pricing.runtime.cli import job

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
}
THREADS = 8  # pages that are made at a time
_log = logging.getLogger(__name__)


def create_app(shop: Shop, access: Access) -> Flask:
    """Creates the application around a shop that has been looked at once."""
    app = Flask("console")
    app.url_map.merge_slashes = False  # a product's id may hold two
    app.extensions["shop"] = shop
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
    for name in ("money", "percent", "moment", "sure"):
        app.add_template_filter(getattr(words, name), name)
    app.jinja_env.globals |= {"words": words, "own_address": own_address, "shop": shop}
    guard(app, access, home=shop.home)
    for module in (today, product, what_if, portfolio, price_file):
        app.register_blueprint(module.page)

    @app.get("/health/live")
    def alive() -> str:
        return "ok"

    @app.get("/health/ready")
    def ready() -> tuple[str, int]:
        try:
            shop.hear()
        except PricingError as error:
            _log.error("not ready: %s", redact_text(str(error)))
            return "the database does not answer", HTTPStatus.SERVICE_UNAVAILABLE
        return "ok", HTTPStatus.OK

    @app.get("/page.css")
    def stylesheet() -> Response:
        return Response(page_css(), mimetype="text/css")

    @app.after_request
    def protect(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if request.endpoint in PUBLIC:
            response.headers["Cache-Control"] = "public, max-age=3600"
        return response

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> tuple[str, int]:
        status = HTTPStatus(error.code or 500)
        return _plain(status.phrase, error.description or ""), status

    @app.errorhandler(PricingError)
    def failed(error: PricingError) -> tuple[str, int]:
        if isinstance(error, ConflictError):
            title = "Somebody else was faster"
            return _plain(title, "Nothing of yours was written. Meanwhile:", changed=error.changed), HTTPStatus.CONFLICT
        _log.error("%s", redact_text(str(error)))
        return _plain("That did not work", redact_text(str(error))), HTTPStatus.UNPROCESSABLE_ENTITY

    return app


def _plain(title: str, text: str, **more: Any) -> str:
    return render_template("plain.html", title=title, text=text, **more)


def application() -> Flask:
    """Makes the application of the environment's settings, and looks for news from now on."""
    shop, access = opened()
    shop.look()
    shop.follow()
    return create_app(shop, access)


def opened() -> tuple[Shop, Access]:
    """Opens the shop and the access rules that the environment names.

    Raises:
        PricingError: A setting cannot be used.
    """
    home = pricing_home().absolute()
    file = read_config_file(os.environ.get("PRICING_CONFIG") or None)
    access = Access(file.config, os.environ, host=os.environ.get("HOST") or "127.0.0.1")
    return Shop(file, os.environ, home=home), access


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
