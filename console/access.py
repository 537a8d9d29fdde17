"""Who opens a page, and what they may: by key and session, by a proxy that logs persons in, or on this machine."""

import datetime as dt
import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from flask import Flask, abort, g, redirect, request, session, url_for
from flask.sessions import SecureCookieSessionInterface
from werkzeug.wrappers import Response

from pricing.config import Config
from pricing.errors import ConfigError
from pricing.fileio import replace_atomically
from pricing.paths import actor
from pricing.runtime.api_keys import ApiKey, find_key, is_local_name, is_loopback, read_keys

HOURS = 12  # that a session lasts
FORM_LIMIT, FILE_LIMIT = 200_000, 32_000_000  # bytes of a form; of a price file that is read back
_SENDERS = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED")


@dataclass(frozen=True)
class Person:
    """Who opens a page; who may not decide only looks."""

    name: str
    decides: bool


class Access:
    """Tells who a request is from."""

    def __init__(self, config: Config, environment: Mapping[str, str], *, host: str) -> None:
        """Reads the keys and the rule.

        Raises:
            ConfigError: The rule is none, or keys are needed and none opens the console.
        """
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
        """Who the present request is from; None where they must log in first. Aborts with 403 for strangers."""
        environ = request.environ
        if self._proxy is not None:
            if ip_address(environ.get("REMOTE_ADDR") or "0.0.0.0") not in self._proxy:
                abort(403, "the console is opened through its proxy alone")
            name, role = environ.get("HTTP_X_FORWARDED_USER", ""), environ.get("HTTP_X_PRICING_ROLE", "look")
            return Person(name[:200], role == "decide") if name else abort(401, "the proxy names nobody")
        if not self.needed:
            # Under a name of its own another site could have this machine's browser ask here (DNS rebinding).
            strange = not is_local_name(environ.get("HTTP_HOST", ""))
            if strange or (self._rule == "local" and any(name in environ for name in _SENDERS)):
                abort(403, "without keys only this machine is answered: set PRICING_KEYS=required, and give keys")
            return Person(actor(), decides=True)
        key = next((one for one in self._keys if _mark(one) == session.get("key")), None)
        return None if key is None else Person(key.name, "decide" in key.scopes)

    def log_in(self, sent: str) -> bool:
        """Begins a session where the key is known."""
        if (key := find_key(self._keys, sent)) is not None:
            session.clear()
            session.permanent, session["key"] = True, _mark(key)
        return key is not None


def _mark(key: ApiKey) -> str:
    """What a session keeps of a key, so that it ends with the key: no part of what opens anything."""
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

    @app.before_request
    def ask() -> Response | None:
        if request.endpoint in ("static", "alive"):
            return None
        person = None if request.endpoint == "login" else access.person()
        if person is None and request.endpoint != "login":
            return redirect(url_for("login", next=request.full_path if request.method == "GET" else None))
        g.person = person
        if request.endpoint == "read_file":  # by then somebody is known
            request.max_content_length = request.max_form_memory_size = FILE_LIMIT
        if request.method == "POST":
            ours, sent = str(session.get("csrf", "")).encode(), request.form.get("csrf", "").encode()
            if not (ours and hmac.compare_digest(sent, ours)):
                abort(400, "this form is too old, or not one of ours: open the page again")
            if person is not None and not person.decides and request.endpoint != "logout":
                abort(403, f"{person.name} may look, and not decide")
        return None


def csrf_token() -> str:
    """The token that a form of this session must carry."""
    return str(session.setdefault("csrf", secrets.token_urlsafe(24)))


def _secret(home: Path) -> str:
    """What sessions are signed with: PRICING_CONSOLE_SECRET, else drawn once and kept in PRICING_HOME."""
    given, place = os.environ.get("PRICING_CONSOLE_SECRET"), home / "console" / "secret"
    if given:
        return given
    if not place.is_file():
        with replace_atomically(place) as draft:
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_urlsafe(32), encoding="utf-8")
    return place.read_text(encoding="utf-8")
