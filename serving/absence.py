"""Say that something which is asked every few seconds is away, again after a while, and that it is back."""

import datetime as dt
import logging
from collections.abc import Callable

from pricing.fileio import redact_text

REMIND_SECONDS = 600.0  # between two words on what stays away
_log = logging.getLogger(__name__)


class Absence:
    """What was said of one thing: once when it goes, every ten minutes while it is away, once when it is back."""

    def __init__(self, *, back: str, now: Callable[[], float]) -> None:
        """Nothing is away yet.

        Args:
            back: What is said when it is back.
            now: The clock: seconds since 1970.
        """
        self._back, self._now = back, now
        self._since: float | None = None
        self._said_at: float | None = None

    def begins(self, why: str | Exception, *, stays: str) -> None:
        """Takes note of a look that failed.

        Args:
            why: What happened; passwords are left out of what is said.
            stays: What goes on without it.
        """
        now = self._now()
        self._since = now if self._since is None else self._since
        if self._said_at is None or now - self._said_at >= REMIND_SECONDS:
            self._said_at = now
            _log.error("%s; %s", redact_text(str(why)), stays)

    def ends(self) -> None:
        """Takes note of a look that went well."""
        if self._since is not None:
            since = dt.datetime.fromtimestamp(self._since, dt.UTC).isoformat(timespec="seconds")
            _log.warning("%s; it was away since %s", self._back, since)
            self._since = self._said_at = None
