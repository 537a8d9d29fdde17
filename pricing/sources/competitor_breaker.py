"""The circuit breaker of an API: after failures in a row it is not asked for a while, by the next run neither."""

import datetime as dt
import json
import logging
from collections.abc import Callable
from pathlib import Path

from pricing.config_competitors import CallsConfig
from pricing.fileio import replace_json

_log = logging.getLogger(__name__)
LONGEST = dt.timedelta(days=1)
"""The longest that a server may keep us from asking by Retry-After."""


class Breaker:
    """Counts failures in a row, in a file that outlives the run.

    Closed, every call may go out. After `breaker_failures` failures in a row it is open for `breaker_minutes`; then one
    call tries (half-open), whose failure opens it again and whose success closes it.

    Attributes:
        last_error: Words of the last failure.
    """

    def __init__(self, path: Path, calls: CallsConfig, *, now: Callable[[], dt.datetime]) -> None:
        self._path, self._now = path, now
        self._most, self._pause = calls.breaker_failures, dt.timedelta(minutes=calls.breaker_minutes)
        self._failures, self._open_until, self.last_error = _load(path)

    def is_open(self) -> dt.datetime | None:
        """The time until which nothing is asked; None where it may be."""
        return self._open_until if self._open_until is not None and self._now() < self._open_until else None

    def failed(self, why: str) -> None:
        """Counts a failure."""
        self._failures += 1
        self.last_error = why
        if self._failures >= self._most:
            self._open_until = self._now() + self._pause
        self._save()

    def open_for(self, seconds: float, why: str) -> None:
        """Opens for as long as the server asked, a day at most."""
        self.last_error = why
        self._open_until = self._now() + min(dt.timedelta(seconds=seconds), LONGEST)
        self._save()

    def succeeded(self) -> None:
        """Closes."""
        if self._failures or self._open_until is not None:
            self._failures, self._open_until, self.last_error = 0, None, ""
            self._save()

    def _save(self) -> None:
        until = self._open_until.isoformat() if self._open_until else None
        state = {"failures": self._failures, "open_until": until, "last_error": self.last_error}
        replace_json(self._path, state, durable=False)


def _load(path: Path) -> tuple[int, dt.datetime | None, str]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        until = dt.datetime.fromisoformat(state["open_until"]) if state["open_until"] else None
        if until is not None and until.tzinfo is None:
            raise ValueError("open_until has no time zone")
        return int(state["failures"]), until, str(state["last_error"])
    except FileNotFoundError:
        return 0, None, ""
    except (OSError, ValueError, TypeError, KeyError) as error:
        _log.warning("%s cannot be read (%s): the API is asked as if it had not failed before", path, error)
        return 0, None, ""
