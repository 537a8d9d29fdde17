"""Alerts: what they say, the doors that they leave by (log, webhook, SNS), and which were sent already."""

import datetime as dt
import json
import logging
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from pricing.config_models import Channel, MonitoringConfig, Severity
from pricing.errors import PricingError, SourceError
from pricing.paths import pricing_home, tracking_uri

_log = logging.getLogger("pricing.alerts")

SECONDS = 10
ATTEMPTS = 3
RANKS: dict[Severity, int] = {"info": 0, "warning": 1, "critical": 2}
# The words that other parts of the platform have for how bad a finding is.
_LEVELS: dict[str, Severity] = {
    "note": "info",
    "info": "info",
    "warning": "warning",
    "set_aside": "warning",
    "critical": "critical",
    "breach": "critical",
    "stop": "critical",
}


class DeliveryError(PricingError):
    """An alert, metric or job command that could not be delivered."""


class LevelledFinding(Protocol):
    """A check's finding: the check's name, how bad it is, and what it says."""

    @property
    def check(self) -> str:
        """Its name."""
        ...

    @property
    def level(self) -> str:
        """Such as note, warning, set_aside, breach or stop."""
        ...

    @property
    def sentence(self) -> str:
        """The sentence that it found."""
        ...


@dataclass(frozen=True)
class AlertFinding:
    """One thing that a check found, as an alert carries it."""

    name: str
    severity: Severity
    text: str


def as_findings(found: Collection[LevelledFinding]) -> tuple[AlertFinding, ...]:
    """Makes findings of any check fit for an alert; a level that is not known here counts as a warning."""
    return tuple(AlertFinding(one.check, _LEVELS.get(one.level, "warning"), one.sentence) for one in found)


@dataclass(frozen=True)
class Alert:
    """A message to the operators.

    Attributes:
        key: Identifies the problem; a key is not sent again for a configured time.
        severity: Urgency.
        what: The problem.
        since: First day on which it is known to exist.
        how_bad: The figures, or the error's first lines.
        done: Action taken by the platform.
        todo: Action required of the reader.
        link: Address of the report or of the MLflow run; empty where neither can be opened from elsewhere.
        job: Name of the job that it is about; empty where none.
        run: ID of that job's MLflow run.
        version: Number of the model version that it is about.
        exit_status: Exit status of a job that failed.
        findings: What checks found, each by its name.
    """

    key: str
    severity: Severity
    what: str
    since: dt.date
    how_bad: str
    done: str
    todo: str
    link: str = ""
    job: str = ""
    run: str = ""
    version: str = ""
    exit_status: int | None = None
    findings: tuple[AlertFinding, ...] = ()

    @property
    def subject(self) -> str:
        """Subject line, at most 100 characters (the limit of SNS)."""
        line = f"[{self.severity}] {self.what}"
        return line if len(line) <= 100 else line[:99] + "…"

    @property
    def text(self) -> str:
        """The whole message."""
        status = "" if self.exit_status is None else f" (exit status {self.exit_status})"
        told = {
            "Job": self.job + status if self.job else "",
            "Version": self.version,
            "Run": self.run,
            "More": self.link,
        }
        return "\n".join(
            [
                f"What: {self.what}",
                f"Since: {self.since}",
                f"How bad: {self.how_bad}",
                *(f"- {one.name} ({one.severity}): {one.text}" for one in self.findings),
                f"What the platform did: {self.done}",
                f"What to do: {self.todo}",
                *(f"{name}: {value}" for name, value in told.items() if value),
            ]
        )


class Notifier(Protocol):
    """Notifier: delivers alerts through one channel."""

    @property
    def channel(self) -> Channel:
        """The channel's name in `monitoring.alerts`."""
        ...

    def send(self, alert: Alert) -> bool:
        """Sends the alert; returns whether it was delivered, False where the channel does not take it.

        Raises:
            DeliveryError: It was not delivered, though the channel takes it.
        """
        ...


class LogNotifier:
    """Notifier that writes to the program's log."""

    channel: Channel = "log"

    def send(self, alert: Alert) -> bool:
        """Logs the alert; never fails."""
        level = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}[alert.severity]
        _log.log(level, "%s", alert.text.replace("\n", " | "))
        return True


class WebhookNotifier:
    """Notifier that POSTs one JSON object to a webhook: the alert's fields, and `text` for chat programs."""

    channel: Channel = "webhook"

    def __init__(self, url: str) -> None:
        self._url = url

    def send(self, alert: Alert) -> bool:
        """Posts the alert, at most three times; a 4xx answer is not retried."""
        body = json.dumps({**asdict(alert), "text": f"{alert.subject}\n{alert.text}"}, default=str).encode()
        trouble = ""
        for _ in range(ATTEMPTS):
            try:
                request = urllib.request.Request(self._url, data=body, headers={"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=SECONDS):
                    return True
            except urllib.error.HTTPError as error:
                trouble = f"HTTP {error.code}"
                if error.code < 500:
                    break
            except (OSError, ValueError) as error:
                trouble = str(error)
        raise DeliveryError(f"webhook: the alert {alert.key} was not taken: {trouble}")


class LeastSeverity:
    """Notifier that hands on only alerts of at least some severity."""

    def __init__(self, notifier: Notifier, *, least: Severity) -> None:
        self._notifier = notifier
        self._least = least

    @property
    def channel(self) -> Channel:
        """That of the notifier."""
        return self._notifier.channel

    def send(self, alert: Alert) -> bool:
        """Sends the alert where it is severe enough; returns whether it was sent."""
        return RANKS[alert.severity] >= RANKS[self._least] and self._notifier.send(alert)


def alert_notifiers(config: MonitoringConfig) -> list[Notifier]:
    """Builds the notifiers listed in `monitoring.alerts`, each with its `monitoring.least_severity`."""
    notifiers: list[Notifier] = []
    for name in config.alerts:
        notifier: Notifier
        if name == "log":
            notifier = LogNotifier()
        elif name == "webhook":
            notifier = WebhookNotifier(config.endpoints.webhook_url)
        else:
            from pricing.runtime import aws  # noqa: PLC0415 - boto3 is only needed where AWS is

            notifier = aws.SnsNotifier(config.endpoints.sns_topic)
        least = config.least_severity.get(name)
        notifiers.append(notifier if least is None else LeastSeverity(notifier, least=least))
    return notifiers


class AlertMemory:
    """The file that says which alerts were sent when, shared by all jobs under one PRICING_HOME."""

    def __init__(self, path: Path) -> None:
        """Opens the file, which is made where there is none.

        Raises:
            SourceError: It cannot be used.
        """
        self._path = path
        with self._open() as connection:
            connection.execute("create table if not exists alert (key text primary key, sent_at text)")

    def due(self, key: str, *, every_hours: float, now: dt.datetime) -> bool:
        """Returns True when the alert was not sent within the last `every_hours`."""
        with self._open() as connection:
            row = connection.execute("select sent_at from alert where key = ?", (key,)).fetchone()
        return row is None or now - dt.datetime.fromisoformat(row[0]) >= dt.timedelta(hours=every_hours)

    def sent(self, key: str, *, now: dt.datetime) -> None:
        """Records that an alert was delivered."""
        with self._open() as connection:
            connection.execute("insert or replace into alert values (?, ?)", (key, now.isoformat()))

    def knows(self, key: str) -> bool:
        """Returns True when the key was ever recorded."""
        with self._open() as connection:
            return connection.execute("select 1 from alert where key = ?", (key,)).fetchone() is not None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=30)) as connection, connection:
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise SourceError(
                f"{self._path}: which alerts were sent cannot be read or written ({error}); mend or remove it"
            ) from error


def alert_memory() -> AlertMemory:
    """Opens the memory of this PRICING_HOME."""
    return AlertMemory(pricing_home() / "alerts.db")


@dataclass(frozen=True)
class Delivery:
    """The fate of an alert.

    Attributes:
        failures: The errors of channels that should have taken it and did not.
        told: Whether a channel that people are reached by took it, now or lately: any but the log.
    """

    failures: tuple[str, ...]
    told: bool


def deliver(
    alert: Alert, notifiers: Sequence[Notifier], *, memory: AlertMemory, every_hours: float, now: dt.datetime
) -> Delivery:
    """Sends an alert through each channel that did not take the same one, as severe, lately.

    Whether or not others fail. A channel that failed, or that did not take it, is tried again at the next occasion.
    """
    failures, told = [], False
    for notifier in notifiers:
        key = f"{alert.key}-{alert.severity}-{notifier.channel}"
        taken = not memory.due(key, every_hours=every_hours, now=now)
        if not taken:
            try:
                taken = notifier.send(alert)
            except DeliveryError as error:
                failures.append(str(error))
                _log.error("%s", error)
            if taken:
                memory.sent(key, now=now)
        told = told or (taken and notifier.channel != "log")
    return Delivery(tuple(failures), told)


def run_page(run: str, *, experiment: str, pages: str, artifact: str = "") -> str:
    """The address of a run in MLflow's pages; empty where they have none that others can open.

    Args:
        run: The run's ID.
        experiment: That of its experiment.
        pages: Address of MLflow's pages (`monitoring.endpoints.mlflow_url`); empty for that of the tracking server.
        artifact: One of the run's files, shown at once.
    """
    base = pages or (tracking_uri() if tracking_uri().startswith(("http://", "https://")) else "")
    if not base or not run:
        return ""
    parts = urlsplit(base)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")  # without name and password
    return f"{bare}/#/experiments/{experiment}/runs/{run}" + (f"/artifacts/{artifact}" if artifact else "")
