"""Find out who opens a page and what they may do: by key and session, by a proxy that names people, or on loopback."""

import datetime as dt
import hmac
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, abort, current_app, g, redirect, render_template, request, session, url_for
from flask.sessions import SecureCookieSessionInterface
from werkzeug.wrappers import Response

from pricing.config import Config
from pricing.errors import ConfigError
from pricing.fileio import replace_atomically, replace_text
from pricing.paths import actor, pricing_home
from pricing.runtime.api_keys import PROXIED, ApiKey, find_key, is_local_name, is_loopback, read_keys

HOURS = 12  # that a session lasts
FORM_LIMIT = 200_000  # bytes of a form
FILE_LIMIT = 32_000_000  # bytes of a price file that is read back
PUBLIC = ("static", "stylesheet")  # endpoints of files that are no secret, and may be kept by browsers
page = Blueprint("access", __name__)


@dataclass(frozen=True)
class Person:
    """Who opens a page; who may not decide only looks."""

    name: str
    decides: bool


class EndedSessions:
    """The sessions that people have ended, in a file: a cookie that was copied before opens nothing, ever after."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._ended: dict[str, float] = json.loads(place.read_text("utf-8")) if place.is_file() else {}

    def __contains__(self, session_id: object) -> bool:
        return session_id in self._ended

    def add(self, session_id: str) -> None:
        """Ends a session; those whose cookies have expired are forgotten."""
        now = time.time()
        with self._lock:
            kept = {each: until for each, until in self._ended.items() if until > now}
            self._ended = {**kept, session_id: now + 2 * HOURS * 3600}
            replace_text(self._place, json.dumps(self._ended))


class Access:
    """Tells who a request is from."""

    def __init__(self, config: Config, environment: Mapping[str, str], *, host: str) -> None:
        """Reads the keys and the rule.

        Raises:
            ConfigError: The rule is none, or keys are needed and none opens the console.
        """
        self.ended = EndedSessions(pricing_home(environment) / "console" / "ended_sessions.json")
        self._proxy = config.console.trusted_proxy
        self._rule = environment.get("PRICING_KEYS") or config.serving.keys
        if self._rule not in ("required", "local", "none"):
            raise ConfigError(f"PRICING_KEYS: expected required, local or none, found {self._rule!r}")
        self._keys = [key for key in read_keys(environment) if key.scopes & {"look", "decide"}]
        self.needed = self._rule == "required" or (self._rule == "local" and not is_loopback(host))
        if self.needed and not self._keys and self._proxy is None:
            raise ConfigError(
                f"keys are needed on {host} (PRICING_KEYS or serving.keys), and none opens the console: give "
                "PRICING_API_KEYS_FILE lines of `name key look` or `name key decide`, or set console.trusted_proxy"
            )

    def person(self) -> Person | None:
        """The person that the present request is from; None where they must log in first. Aborts for strangers."""
        if self._proxy is not None:
            return self._named_by_proxy(self._proxy)
        if not self.needed:
            return self._on_this_machine()
        key = next((key for key in self._keys if _mark(key) == session.get("key") and "id" in session), None)
        return None if key is None else Person(key.name, decides="decide" in key.scopes)

    def log_in(self, sent: str) -> bool:
        """Begins a session where the key is known."""
        key = find_key(self._keys, sent)
        if key is None:
            return False
        session.clear()
        session.permanent = True
        session["key"] = _mark(key)
        session["id"] = secrets.token_urlsafe(16)
        return True

    @staticmethod
    def _named_by_proxy(proxy: IPv4Network | IPv6Network) -> Person:
        """The person that the trusted proxy names; aborts with 403 for other senders, with 401 without a name."""
        environ = request.environ
        if ip_address(environ.get("REMOTE_ADDR") or "0.0.0.0") not in proxy:
            abort(403, "the console is opened through its proxy alone")
        name = environ.get("HTTP_X_FORWARDED_USER") or abort(401, "the proxy names nobody")
        return Person(name[:200], decides=environ.get("HTTP_X_PRICING_ROLE") == "decide")

    def _on_this_machine(self) -> Person:
        """Who runs the console; aborts with 403 for other machines.

        Under a name of its own another site could have this machine's browser ask here (DNS rebinding).
        """
        environ = request.environ
        strange = not is_local_name(environ.get("HTTP_HOST", ""))
        if strange or (self._rule == "local" and any(name in environ for name in PROXIED)):
            abort(403, "without keys only this machine is answered: set PRICING_KEYS=required, and give keys")
        return Person(actor(), decides=True)


def _mark(key: ApiKey) -> str:
    """The mark that a session keeps of a key, so that it ends with the key; it opens nothing."""
    return f"{key.name}/{hmac.new(key.digest, b'session', 'sha256').hexdigest()[:32]}"


class _Session(SecureCookieSessionInterface):
    def get_cookie_secure(self, app: Flask) -> bool:
        return request.is_secure or request.headers.get("X-Forwarded-Proto") == "https"


def guard(app: Flask, access: Access, *, home: Path) -> None:
    """Has every page but the login ask who is there, and every form prove that it is one of ours."""
    app.session_interface = _Session()
    app.secret_key = _secret(home)
    app.config.update(
        MAX_CONTENT_LENGTH=FORM_LIMIT,
        SESSION_COOKIE_NAME="pricing_console",
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=dt.timedelta(hours=HOURS),
    )
    app.jinja_env.globals |= {"csrf": csrf_token, "keys_needed": access.needed}

    app.extensions["access"] = access
    app.register_blueprint(page)
    app.before_request(_ask)


def _ask() -> Response | None:
    """Lets a request pass, sends who must log in to the login, or aborts."""
    if session.get("id") in _access().ended:
        session.clear()  # before any answer renews its cookie
    if request.endpoint in (*PUBLIC, "alive", "ready"):
        return None
    login = request.endpoint == "access.log_in"
    g.person = None if login else _access().person()
    if g.person is None and not login:
        return redirect(url_for("access.log_in", next=request.full_path if request.method == "GET" else None))
    if request.endpoint == "price_file.read":  # by then somebody is known
        request.max_content_length = request.max_form_memory_size = FILE_LIMIT
    if request.method == "POST":
        _refuse_forgery()
        if g.person is not None and not g.person.decides and request.endpoint != "access.log_out":
            abort(403, f"{g.person.name} may look, and not decide")
    return None


def _refuse_forgery() -> None:
    """Aborts with 400 where a form does not carry the token of its session."""
    ours = str(session.get("csrf", "")).encode()
    sent = request.form.get("csrf", "").encode()
    if not (ours and hmac.compare_digest(sent, ours)):
        abort(400, "this form is too old, or not one of ours: open the page again")


def _access() -> Access:
    access: Access = current_app.extensions["access"]
    return access


@page.route("/login", methods=["GET", "POST"])
def log_in() -> Any:
    """Asks for a key, begins a session where it is known, and leads to the page that was asked for."""
    if request.method == "GET":
        return render_template("plain.html", title="Log in", login=True, text="")
    if not _access().log_in(request.form.get("key", "")):
        return render_template("plain.html", title="Log in", login=True, text="This key is not known."), 401
    return redirect(own_address(request.form.get("next")))


@page.post("/logout")
def log_out() -> Response:
    """Ends the session, whoever has a copy of its cookie."""
    if "id" in session:
        _access().ended.add(session["id"])
    session.clear()
    return redirect(url_for("access.log_in"))


def own_address(address: str | None) -> str:
    """The address where it is of a page of ours, else that of the first one."""
    sound = address is not None and re.fullmatch(r"/(?![/\\])[^\x00-\x20\x7f\\]*", address)
    return address if address and sound else "/"


def csrf_token() -> str:
    """The token that a form of this session must carry."""
    return str(session.setdefault("csrf", secrets.token_urlsafe(24)))


def _secret(home: Path) -> str:
    """The secret that signs sessions: PRICING_CONSOLE_SECRET, else one that is drawn once and kept in PRICING_HOME."""
    if given := os.environ.get("PRICING_CONSOLE_SECRET"):
        return given
    place = home / "console" / "secret"
    if not place.is_file():
        with replace_atomically(place) as draft:
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_urlsafe(32), encoding="utf-8")
    return place.read_text(encoding="utf-8")
