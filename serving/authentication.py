"""Check API keys, scopes and rate limits before a route runs."""

import hashlib
import logging
import math
import mmap
import os
import struct
import time
from collections.abc import Callable, Mapping, MutableMapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from serving.keys import ApiKey, find
from serving.problems import ProblemError
from serving.settings import Settings, is_loopback

_SLOTS = 4096
_DOUBLE = struct.Struct("d")
_PROXIED = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR")
_CALLER = "pricing.caller"

_log = logging.getLogger(__name__)
Charge = Callable[[int], None]
May = Callable[[Mapping[str, Any], str], bool]  # whether a request (its WSGI environment) has a scope


class Authenticator:
    """Admits or refuses requests by key, scope and rate."""

    def __init__(self, settings: Settings) -> None:
        """Initialises it with keys and limits."""
        self._keys = settings.keys
        self._needed = settings.keys_needed
        serving = settings.config.serving
        self._local = serving.keys == "local" and not self._needed
        self._wrong = (
            RateLimit(
                settings.run_folder / "wrong-keys",
                per_second=serving.wrong_keys / 60,
                burst=serving.wrong_keys,
            )
            if self._needed
            else None
        )
        self._limit = (
            RateLimit(settings.run_folder / "rates", per_second=serving.rate_limit, burst=serving.rate_burst)
            if serving.rate_limit
            else None
        )

    def authorise(self, environ: MutableMapping[str, Any], scope: str | None) -> None:
        """Checks that a request may proceed.

        Args:
            environ: The request's WSGI environment.
            scope: The scope that its route needs; None for routes without key and rate limit.

        Raises:
            ProblemError: 401 without a valid key, 403 when the key lacks the scope, or where none is needed and it does
                not come from this machine, 429 over the limit.
        """
        if scope is None:
            return
        if self._local:
            _refuse_strangers(environ)
        caller = self._caller(environ, scope) if self._needed else None
        if self._limit is not None:
            name = caller.name if caller else _address(environ)
            _refuse_if_over(self._limit.take(name), "requests")
            environ[_CALLER] = name

    def admit(self, environ: Mapping[str, Any]) -> str:
        """Names a request's caller, by its headers alone, before a large body of it is read; charges no request.

        Raises:
            ProblemError: 401 where a valid key is needed and not sent, 403 where none is needed and it does not come
                from this machine, 429 for too many wrong keys.
        """
        if self._local:
            _refuse_strangers(environ)
        return self._owner(environ, "a large body").name if self._needed else _address(environ)

    def charge(self, environ: Mapping[str, Any], more: int) -> None:
        """Charges an admitted request for what it asks beyond one price; its caller waits the longer for the next.

        A batch is never too large for the limit: it is admitted like one request, and its caller is then in debt.
        """
        if self._limit is not None and _CALLER in environ:
            self._limit.take(environ[_CALLER], tokens=more, owing=True)

    def may(self, environ: Mapping[str, Any], scope: str) -> bool:
        """Whether a request that was admitted has another scope, too; without keys everyone has all."""
        if not self._needed:
            return True
        caller = self._known(environ)
        return caller is not None and scope in caller.scopes

    def _known(self, environ: Mapping[str, Any]) -> ApiKey | None:
        sent = _sent(environ)
        return find(self._keys, sent=sent) if sent else None

    def _owner(self, environ: Mapping[str, Any], what: str) -> ApiKey:
        """The key that was sent; `what` it was sent for is logged where it is wrong."""
        caller = self._known(environ)
        if caller is None:
            sent = _sent(environ)
            if sent:
                address = _address(environ)
                if self._wrong is not None:
                    _refuse_if_over(self._wrong.take(address), "wrong keys")
                _log.warning("a wrong key from %s for %s", address, what)
            told = "this key is not known" if sent else "a key is needed, as X-API-Key or as Authorization: Bearer"
            raise ProblemError(HTTPStatus.UNAUTHORIZED, told, headers={"WWW-Authenticate": "Bearer"})
        return caller

    def _caller(self, environ: Mapping[str, Any], scope: str) -> ApiKey:
        caller = self._owner(environ, f"the scope {scope}")
        if scope not in caller.scopes:
            raise ProblemError(HTTPStatus.FORBIDDEN, f"the key of {caller.name} does not open the scope {scope}")
        return caller


def _sent(environ: Mapping[str, Any]) -> str:
    return str(environ.get("HTTP_X_API_KEY") or environ.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer "))


class RateLimit:
    """A token bucket per caller, shared by the workers of one machine.

    Each bucket is one number in a shared file: the moment at which it will be full again (the generic cell rate
    algorithm). Callers whose names hash to the same of 4096 slots share a bucket; two workers that take from one at
    the same instant may both get the same token. Either is harmless.
    """

    def __init__(
        self,
        path: Path,
        *,
        per_second: float,
        burst: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens the file, or makes it.

        Args:
            path: The file.
            per_second: Tokens a second.
            burst: Tokens that a bucket holds.
            clock: Seconds.
        """
        self._interval, self._depth = 1 / per_second, burst / per_second  # seconds
        self._clock = clock
        path.parent.mkdir(parents=True, exist_ok=True)
        size = _SLOTS * _DOUBLE.size
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(descriptor).st_size < size:
                # Zeros are written to reserve the space: a hole in the file on a full disk would kill the worker later.
                os.pwrite(descriptor, bytes(size), 0)
            self._slots = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)

    def take(self, caller: str, *, tokens: int = 1, owing: bool = False) -> float:
        """Takes tokens and returns 0, or returns the seconds to wait for them; `owing` takes those not there yet."""
        place = int.from_bytes(hashlib.blake2b(caller.encode(), digest_size=8).digest(), "big") % _SLOTS * _DOUBLE.size
        now = self._clock()
        full_at = max(_DOUBLE.unpack_from(self._slots, place)[0], now)
        after = full_at + tokens * self._interval
        if not owing and after - now > self._depth + 1e-9:
            return float(after - now - self._depth)
        _DOUBLE.pack_into(self._slots, place, after)
        return 0.0


def _refuse_if_over(wait: float, what: str) -> None:
    if wait > 0:
        seconds = math.ceil(wait)
        raise ProblemError(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"too many {what}; try again in {seconds} s",
            headers={"Retry-After": str(seconds)},
        )


def _refuse_strangers(environ: Mapping[str, Any]) -> None:
    """Refuses, where no keys are needed on loopback, what did not begin on this machine.

    A proxy on this machine passes on requests from others, and a web page whose name is made to mean 127.0.0.1 (DNS
    rebinding) sends its own name as Host.

    Raises:
        ProblemError: 403, it did not.
    """
    proxied = next((name for name in _PROXIED if name in environ), None)
    if proxied:
        header = proxied.removeprefix("HTTP_").replace("_", "-").title()
        raise ProblemError(
            HTTPStatus.FORBIDDEN,
            f"this request came through a proxy ({header}), and without API keys only programs on this machine are "
            "answered; start the service with PRICING_KEYS=required and PRICING_API_KEYS_FILE",
        )
    host = environ.get("HTTP_HOST")
    if host is not None and not _is_local_name(host):
        raise ProblemError(
            HTTPStatus.FORBIDDEN,
            f"Host is {host[:100]!r}, and without API keys only localhost and loopback addresses are answered; call "
            "http://127.0.0.1, or start the service with PRICING_KEYS=required and PRICING_API_KEYS_FILE",
        )


def _is_local_name(host: str) -> bool:
    name, colon, port = host.rpartition(":")
    if not (colon and port.isdigit()):
        name = host
    return is_loopback(name.lower())


def _address(environ: Mapping[str, Any]) -> str:
    return f"address {environ.get('REMOTE_ADDR')}"
