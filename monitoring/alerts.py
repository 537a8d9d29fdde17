"""An alert: what, since when, how bad, what the platform did, what to do; and the doors it may leave by."""

import datetime as dt
import json
import logging
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Protocol

from pricing.errors import PricingError

_log = logging.getLogger("monitoring.alerts")

Severity = Literal["info", "warning", "critical"]
SECONDS = 10
ATTEMPTS = 3


class DeliveryError(PricingError):
    """A door that took no alert, no metric or no command."""


@dataclass(frozen=True)
class Alert:
    """One message to people.

    Attributes:
        key: What it is about; the same key is not sent again for a while.
        severity: How soon somebody should look.
        what: What is the matter.
        since: The day since which it has been so, or is known to be.
        how_bad: The figures.
        done: What the platform did about it.
        todo: What the reader should do.
        link: Where more is to be read.
    """

    key: str
    severity: Severity
    what: str
    since: dt.date
    how_bad: str
    done: str
    todo: str
    link: str = ""

    @property
    def subject(self) -> str:
        """One line, at most 100 characters: SNS takes no longer subject."""
        line = f"[{self.severity}] {self.what}"
        return line if len(line) <= 100 else line[:99] + "…"

    @property
    def text(self) -> str:
        """The whole message."""
        lines = [
            f"What: {self.what}",
            f"Since: {self.since}",
            f"How bad: {self.how_bad}",
            f"What the platform did: {self.done}",
            f"What to do: {self.todo}",
        ]
        return "\n".join([*lines, f"More: {self.link}"] if self.link else lines)


class AlertDoor(Protocol):
    """Somewhere that an alert goes."""

    def send(self, alert: Alert) -> None:
        """Sends it.

        Raises:
            DeliveryError: It did not get there.
        """
        ...


class LogDoor:
    """The program's own log."""

    def send(self, alert: Alert) -> None:
        """Logs the alert; always works."""
        level = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}[alert.severity]
        _log.log(level, "%s", alert.text.replace("\n", " | "))


class WebhookDoor:
    """Any address that takes a POST of one JSON object: the alert's fields, and `text` for chat programs."""

    def __init__(self, url: str) -> None:
        self._url = url

    def send(self, alert: Alert) -> None:
        """Posts the alert, three times at most; a refusal (4xx) is not repeated."""
        body = json.dumps({**asdict(alert), "text": f"{alert.subject}\n{alert.text}"}, default=str).encode()
        request = urllib.request.Request(self._url, data=body, headers={"Content-Type": "application/json"})
        trouble = ""
        for _ in range(ATTEMPTS):
            try:
                with urllib.request.urlopen(request, timeout=SECONDS):
                    return
            except urllib.error.HTTPError as error:
                trouble = f"HTTP {error.code}"
                if error.code < 500:
                    break
            except (OSError, ValueError) as error:
                trouble = str(error)
        raise DeliveryError(f"webhook: the alert {alert.key} was not taken: {trouble}")


def send_everywhere(alert: Alert, doors: Sequence[AlertDoor]) -> list[str]:
    """Sends an alert through every door; one that fails hinders no other. Returns what failed, in words."""
    failures = []
    for door in doors:
        try:
            door.send(alert)
        except DeliveryError as error:
            failures.append(str(error))
            _log.error("%s", error)
    return failures
