"""Alerts: what they say, the channels that they leave by (log, webhook, SNS), and which were sent already."""

import datetime as dt
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit, urlunsplit

from pricing.config_models import Channel, MonitoringConfig, Severity
from pricing.data.findings import Finding
from pricing.errors import DeliveryError, SourceError
from pricing.paths import pricing_home, tracking_uri

_log = logging.getLogger("pricing.alerts")

RANKS: dict[Severity, int] = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}
REPEAT_HOURS = 20  # before the same alert is sent again: below 24, so that a nightly run never skips a day


@dataclass(frozen=True)
class AlertFinding:
    """One thing that a check found, as an alert carries it."""

    name: str
    severity: Severity
    text: str


def as_findings(found: Iterable[Finding]) -> tuple[AlertFinding, ...]:
    """Makes findings on sales fit for an alert."""
    severities: dict[str, Severity] = {"note": "info", "set_aside": "warning", "stop": "critical"}
    return tuple(AlertFinding(one.check, severities[one.level], one.sentence) for one in found)


@dataclass(frozen=True)
class Alert:
    """A message to the operators; a text is empty where there is nothing to tell."""

    key: str  # identifies the problem, and is not sent again for some hours
    severity: Severity
    what: str
    since: dt.date  # first day on which it is known to exist
    how_bad: str  # the figures, or the error's first lines
    done: str  # by the platform
    todo: str  # by the reader
    link: str = ""  # to the report or the MLflow run
    job: str = ""  # that it is about
    run: str = ""  # ID of that job's MLflow run
    version: str = ""  # number of the model version that it is about
    exit_status: int | None = None  # of a job that failed
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
        more = {"Job": self.job and self.job + status, "Version": self.version, "Run": self.run, "More": self.link}
        lines = [
            *(f"What: {self.what}", f"Since: {self.since}", f"How bad: {self.how_bad}"),
            *(f"- {one.name} ({one.severity}): {one.text}" for one in self.findings),
            *(f"What the platform did: {self.done}", f"What to do: {self.todo}"),
            *(f"{name}: {value}" for name, value in more.items() if value),
        ]
        return "\n".join(lines)


class Notifier:
    """One channel of `monitoring.alerts`, with its address and the least severity that it takes."""

    def __init__(self, channel: Channel, *, address: str = "", least: Severity = "info") -> None:
        self.channel = channel
        self._address, self._least = address, least

    def send(self, alert: Alert) -> bool:
        """Sends the alert; returns whether it was delivered, False where the channel does not take it.

        Raises:
            DeliveryError: It was not delivered, though the channel takes it.
        """
        if RANKS[alert.severity] < RANKS[self._least]:
            return False
        {"log": self._write, "webhook": self._post, "sns": self._publish}[self.channel](alert)
        return True

    def _write(self, alert: Alert) -> None:
        _log.log(RANKS[alert.severity], "%s", alert.text.replace("\n", " | "))

    def _post(self, alert: Alert) -> None:
        """Posts one JSON object, the alert's fields and `text` for chat programs."""
        from pricing.runtime.post import post  # noqa: PLC0415 - what serves prices has no HTTP client

        document = {**asdict(alert), "since": str(alert.since), "text": f"{alert.subject}\n{alert.text}"}
        post(self._address, document, what=f"webhook: the alert {alert.key}")

    def _publish(self, alert: Alert) -> None:
        """Publishes to the topic; severity and job are message attributes, for filters."""
        from pricing.runtime import aws  # noqa: PLC0415 - boto3 is only needed where AWS is

        words = {"severity": alert.severity, "job": alert.job}
        attributes = {name: {"DataType": "String", "StringValue": word} for name, word in words.items() if word}
        line = alert.subject.replace("\n", " ").encode("ascii", "replace").decode()  # which SNS asks for
        sent = {"TopicArn": self._address, "Subject": line, "Message": alert.text, "MessageAttributes": attributes}
        with aws.translated_errors("sns", "publish"):
            aws.client("sns").publish(**sent)


def alert_notifiers(config: MonitoringConfig) -> list[Notifier]:
    """Builds the channels listed in `monitoring.alerts`."""
    addresses = {"webhook": config.endpoints.webhook_url.get_secret_value(), "sns": config.endpoints.sns_topic}
    return [
        Notifier(name, address=addresses.get(name, ""), least=config.least_severity.get(name, "info"))
        for name in config.alerts
    ]


def last_sent(key: str) -> dt.datetime | None:
    """The moment at which any job under this PRICING_HOME noted a key last; None where never. May raise SourceError."""
    with _memory() as connection:
        row = connection.execute("select sent_at from alert where key = ?", (key,)).fetchone()
    return None if row is None else dt.datetime.fromisoformat(row[0])


def note_sent(key: str, *, now: dt.datetime) -> None:
    """Notes for all jobs under this PRICING_HOME that a key was sent. May raise SourceError."""
    with _memory() as connection:
        connection.execute("insert or replace into alert values (?, ?)", (key, now.isoformat()))


@contextmanager
def _memory() -> Iterator[sqlite3.Connection]:
    path = pricing_home() / "alerts.db"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
            connection.execute("create table if not exists alert (key text primary key, sent_at text)")
            yield connection
    except (sqlite3.Error, OSError) as error:
        raise SourceError(
            f"{path}: which alerts were sent cannot be read or written ({error}); mend or remove it"
        ) from error


@dataclass(frozen=True)
class Delivery:
    """The fate of an alert."""

    failures: tuple[str, ...]  # the errors of channels that should have taken it and did not
    told: bool  # a channel that people are reached by took it, now or lately: any but the log


def deliver(
    alert: Alert, notifiers: Sequence[Notifier], *, now: dt.datetime, every_hours: float = REPEAT_HOURS
) -> Delivery:
    """Sends an alert through each channel that did not take the same one, as severe, within `every_hours`.

    A channel that failed, or that did not take it, is tried again at the next occasion, whatever others did.
    """
    failures, told = [], False
    for notifier in notifiers:
        key = f"{alert.key}-{alert.severity}-{notifier.channel}"
        before = last_sent(key)
        taken = before is not None and now - before < dt.timedelta(hours=every_hours)
        if not taken:
            try:
                taken = notifier.send(alert)
            except DeliveryError as error:
                failures.append(str(error))
                _log.error("%s", error)
            if taken:
                note_sent(key, now=now)
        told = told or (taken and notifier.channel != "log")
    return Delivery(tuple(failures), told)


def run_page(run: str, *, experiment: str, pages: str, artifact: str = "") -> str:
    """The address of a run, or of its artifact, in MLflow's `pages`, else the server's own; empty where it has none."""
    base = pages or (tracking_uri() if tracking_uri().startswith(("http://", "https://")) else "")
    if not base or not run:
        return ""
    parts = urlsplit(base)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")  # without name and password
    return f"{bare}/#/experiments/{experiment}/runs/{run}" + (f"/artifacts/{artifact}" if artifact else "")
