"""Check the API key of each request."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from pricing.runtime.api_keys import PROXIED, ApiKey, find_key, is_local_name
from serving.problems import ProblemError

_log = logging.getLogger(__name__)


class Authenticator:
    """Admits or refuses requests by key and scope."""

    def __init__(self, keys: tuple[ApiKey, ...], *, needed: bool, local: bool) -> None:
        """Takes the keys; `local`: where none is needed, only programs on this machine are answered."""
        self._keys = keys
        self._needed = needed
        self._local = local and not needed

    def authorise(self, environ: Mapping[str, Any], scope: str | None) -> None:
        """Checks that a request (its WSGI environment) has the scope that its route needs; None needs no key.

        Raises ProblemError: 401 without a valid key, 403 without the scope, or, where none is needed, from elsewhere.
        """
        if scope is None:
            return
        if self._local:
            _refuse_strangers(environ)
        if self._needed:
            caller = self._find(environ)
            if caller is None:
                raise _unknown(environ, scope)
            if scope not in caller.scopes:
                raise ProblemError(HTTPStatus.FORBIDDEN, f"the key of {caller.name} does not open the scope {scope}")

    def may(self, environ: Mapping[str, Any], scope: str) -> bool:
        """Tells whether a request that was admitted has another scope, too; without keys everyone has all."""
        caller = self._find(environ) if self._needed else None
        return not self._needed or (caller is not None and scope in caller.scopes)

    def _find(self, environ: Mapping[str, Any]) -> ApiKey | None:
        return find_key(self._keys, _sent(environ))


def _sent(environ: Mapping[str, Any]) -> str:
    return str(environ.get("HTTP_X_API_KEY") or environ.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer "))


def _unknown(environ: Mapping[str, Any], scope: str) -> ProblemError:
    """The refusal of a request without a key that is known; a wrong one is logged."""
    problem = "a key is needed, as X-API-Key or as Authorization: Bearer"
    if _sent(environ):
        sender = environ.get("HTTP_X_FORWARDED_FOR") or environ.get("REMOTE_ADDR")
        _log.warning("a wrong key from %s for the scope %s", str(sender)[:100], scope)
        problem = "this key is not known"
    return ProblemError(HTTPStatus.UNAUTHORIZED, problem, headers={"WWW-Authenticate": "Bearer"})


def _refuse_strangers(environ: Mapping[str, Any]) -> None:
    """Refuses, where no keys are needed on loopback, what did not begin on this machine.

    A proxy on this machine passes on requests from others, and a web page whose name is made to mean 127.0.0.1 (DNS
    rebinding) sends its own name as Host.
    """
    host = environ.get("HTTP_HOST")
    if any(name in environ for name in PROXIED) or not (host is None or is_local_name(host)):
        raise ProblemError(
            HTTPStatus.FORBIDDEN,
            "without API keys only programs on this machine are answered, not through a proxy (X-Forwarded-For, "
            f"Forwarded) or by another name (Host is {str(host)[:100]!r}); set PRICING_KEYS=required with "
            "PRICING_API_KEYS_FILE, or PRICING_KEYS=none",
        )
