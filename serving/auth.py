"""Read API keys with their scopes, and check the key of each request."""

import hashlib
import hmac
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pricing.errors import ConfigError
from serving.problems import ProblemError

SCOPES = ("price", "explain", "admin")
SHORTEST = 16  # characters of a key
_PROXIED = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ApiKey:
    """One caller's API key, kept as a sha256 digest only, so that no log or error can show it."""

    name: str
    digest: bytes
    scopes: frozenset[str]


def read_keys(environment: Mapping[str, str]) -> tuple[ApiKey, ...]:
    """Reads PRICING_API_KEYS_FILE, lines of `name key scope,scope`, or PRICING_API_KEYS, the same separated by `;`.

    Raises:
        ConfigError: An entry cannot be used; says which and why, without showing the key.
    """
    where, text = "PRICING_API_KEYS", environment.get("PRICING_API_KEYS", "")
    path = environment.get("PRICING_API_KEYS_FILE")
    if path:
        where = path
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"PRICING_API_KEYS_FILE: {path} cannot be read ({error})") from error
    lines = ((place, line.split()) for place, line in enumerate(re.split(r"[;\n]", text), start=1))
    keys = [_parse(words, where=f"{where}, entry {place}") for place, words in lines if words and words[0][0] != "#"]
    for kind, values in (("name", [key.name for key in keys]), ("key", [key.digest for key in keys])):
        if len(set(values)) < len(values):
            raise ConfigError(f"{where}: two entries have the same {kind}")
    return tuple(keys)


def _parse(words: list[str], *, where: str) -> ApiKey:
    if len(words) != 3:
        raise ConfigError(f"{where}: expected `name key scope,scope`, found {len(words)} word(s)")
    name, key, scopes = words[0], words[1], frozenset(words[2].split(","))
    if len(key) < SHORTEST:
        raise ConfigError(f"{where}: the key of {name!r} is shorter than {SHORTEST} characters")
    for unknown in scopes - set(SCOPES):
        raise ConfigError(f"{where}: unknown scope {unknown!r}; the scopes are {', '.join(SCOPES)}")
    return ApiKey(name, hashlib.sha256(key.encode()).digest(), scopes)


class Authenticator:
    """Admits or refuses requests by key and scope."""

    def __init__(self, keys: tuple[ApiKey, ...], *, needed: bool, local: bool) -> None:
        """Takes the keys; `local`: where none is needed, only programs on this machine are answered."""
        self._keys, self._needed, self._local = keys, needed, local and not needed

    def authorise(self, environ: Mapping[str, Any], scope: str | None) -> None:
        """Checks that a request (its WSGI environment) has the scope that its route needs; None needs no key.

        Raises:
            ProblemError: 401 without a valid key, 403 without the scope, or, where none is needed, from elsewhere.
        """
        if scope is None:
            return
        if self._local:
            _refuse_strangers(environ)
        if self._needed:
            caller = self._find(environ)
            if caller is None:
                sent = bool(_sent(environ))
                if sent:
                    sender = environ.get("HTTP_X_FORWARDED_FOR") or environ.get("REMOTE_ADDR")
                    _log.warning("a wrong key from %s for the scope %s", str(sender)[:100], scope)
                told = "this key is not known" if sent else "a key is needed, as X-API-Key or as Authorization: Bearer"
                raise ProblemError(HTTPStatus.UNAUTHORIZED, told, headers={"WWW-Authenticate": "Bearer"})
            if scope not in caller.scopes:
                raise ProblemError(HTTPStatus.FORBIDDEN, f"the key of {caller.name} does not open the scope {scope}")

    def may(self, environ: Mapping[str, Any], scope: str) -> bool:
        """Tells whether a request that was admitted has another scope, too; without keys everyone has all."""
        caller = self._find(environ) if self._needed else None
        return not self._needed or (caller is not None and scope in caller.scopes)

    def _find(self, environ: Mapping[str, Any]) -> ApiKey | None:
        """The entry of the key that was sent, compared in constant time."""
        digest = hashlib.sha256(_sent(environ).encode()).digest()
        return next((key for key in self._keys if hmac.compare_digest(key.digest, digest)), None)


def _sent(environ: Mapping[str, Any]) -> str:
    return str(environ.get("HTTP_X_API_KEY") or environ.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer "))


def _refuse_strangers(environ: Mapping[str, Any]) -> None:
    """Refuses, where no keys are needed on loopback, what did not begin on this machine.

    A proxy on this machine passes on requests from others, and a web page whose name is made to mean 127.0.0.1 (DNS
    rebinding) sends its own name as Host.

    Raises:
        ProblemError: 403, it did not.
    """
    host = environ.get("HTTP_HOST")
    if any(name in environ for name in _PROXIED) or not (host is None or _is_local_name(host)):
        raise ProblemError(
            HTTPStatus.FORBIDDEN,
            "without API keys only programs on this machine are answered, not through a proxy (X-Forwarded-For, "
            f"Forwarded) or by another name (Host is {str(host)[:100]!r}); set PRICING_KEYS=required with "
            "PRICING_API_KEYS_FILE, or PRICING_KEYS=none",
        )


@lru_cache(maxsize=64)
def _is_local_name(host: str) -> bool:
    name, colon, port = host.rpartition(":")
    return is_loopback((name if colon and port.isdigit() else host).lower())


def is_loopback(host: str) -> bool:
    """Tells whether an address, with or without brackets, can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
