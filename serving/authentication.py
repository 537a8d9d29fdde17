"""Check API keys, scopes and rate limits before a route runs."""

import hashlib
import math
import mmap
import os
import struct
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from serving.keys import ApiKey, find
from serving.problems import ProblemError
from serving.settings import Settings

_SLOTS = 4096
_DOUBLE = struct.Struct("d")
May = Callable[[Mapping[str, Any], str], bool]  # whether a request (its WSGI environment) has a scope


class Authenticator:
    """Admits or refuses requests by key, scope and rate."""

    def __init__(self, settings: Settings) -> None:
        self._keys = settings.keys
        self._needed = settings.keys_needed
        serving = settings.config.serving
        self._limit = (
            RateLimit(settings.run_folder / "rates", per_second=serving.rate_limit, burst=serving.rate_burst)
            if serving.rate_limit
            else None
        )

    def authorise(self, environ: Mapping[str, Any], scope: str | None) -> None:
        """Checks that a request may proceed.

        Args:
            environ: The request's WSGI environment.
            scope: The scope that its route needs; None for routes without key and rate limit.

        Raises:
            ProblemError: 401 without a valid key, 403 when the key lacks the scope, 429 over the limit.
        """
        if scope is None or not (self._needed or self._limit):
            return
        caller = self._caller(environ, scope) if self._needed else None
        if self._limit is not None:
            wait = self._limit.take(caller.name if caller else f"address {environ.get('REMOTE_ADDR')}")
            if wait > 0:
                raise ProblemError(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    f"too many requests; try again in {math.ceil(wait)} s",
                    headers={"Retry-After": str(math.ceil(wait))},
                )

    def may(self, environ: Mapping[str, Any], scope: str) -> bool:
        """Whether a request that was admitted has another scope, too; without keys everyone has all."""
        if not self._needed:
            return True
        caller = self._known(environ)
        return caller is not None and scope in caller.scopes

    def _known(self, environ: Mapping[str, Any]) -> ApiKey | None:
        sent = _sent(environ)
        return find(self._keys, sent=sent) if sent else None

    def _caller(self, environ: Mapping[str, Any], scope: str) -> ApiKey:
        caller = self._known(environ)
        if caller is None:
            what = (
                "this key is not known"
                if _sent(environ)
                else "a key is needed, as X-API-Key or as Authorization: Bearer"
            )
            raise ProblemError(HTTPStatus.UNAUTHORIZED, what, headers={"WWW-Authenticate": "Bearer"})
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
        self, path: Path, *, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval = 1 / per_second
        self._depth = burst / per_second
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

    def take(self, caller: str) -> float:
        """Takes a token and returns 0, or returns the seconds to wait for one."""
        place = int.from_bytes(hashlib.blake2b(caller.encode(), digest_size=8).digest(), "big") % _SLOTS * _DOUBLE.size
        now = self._clock()
        full_at = max(_DOUBLE.unpack_from(self._slots, place)[0], now)
        after = full_at + self._interval
        if after - now > self._depth + 1e-9:
            return float(after - now - self._depth)
        _DOUBLE.pack_into(self._slots, place, after)
        return 0.0
