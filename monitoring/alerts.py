"""Alert messages and notifiers that deliver them: log and webhook."""

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
    """An alert, metric or job command that could not be delivered."""


@dataclass(frozen=True)
class Alert:
    """A message to the operators.

    Attributes:
        key: Identifies the problem; a key is not sent again for a configured time.
        severity: Urgency.
        what: The problem.
        since: First day on which it is known to exist.
        how_bad: The figures.
        done: Action taken by the platform.
        todo: Action required of the reader.
        link: Link to the report.
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
        """Subject line, at most 100 characters (the limit of SNS)."""
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


class Notifier(Protocol):
    """Notifier: delivers alerts."""

    def send(self, alert: Alert) -> None:
        """Sends the alert.

        Raises:
            DeliveryError: It was not delivered.
        """
        ...


class LogNotifier:
    """Notifier that writes to the program's log."""

    def send(self, alert: Alert) -> None:
        """Logs the alert; never fails."""
        level = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}[alert.severity]
        _log.log(level, "%s", alert.text.replace("\n", " | "))


class WebhookNotifier:
    """Notifier that POSTs one JSON object to a webhook: the alert's fields, and `text` for chat programs."""

    def __init__(self, url: str) -> None:
        self._url = url

    def send(self, alert: Alert) -> None:
        """Posts the alert, at most three times; a 4xx answer is not retried."""
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


def send_everywhere(alert: Alert, notifiers: Sequence[Notifier]) -> list[str]:
    """Sends an alert through every notifier, whether or not others fail; returns the error messages."""
    failures = []
    for notifier in notifiers:
        try:
            notifier.send(alert)
        except DeliveryError as error:
            failures.append(str(error))
            _log.error("%s", error)
    return failures
