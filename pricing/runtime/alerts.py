"""Alerts: what they say, the channels that they leave by (log, webhook, SNS), and what jobs tell by them."""

import datetime as dt
import hashlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from pricing.config import config_file, load_config
from pricing.config_models import Channel, MonitoringConfig, Severity
from pricing.errors import (
    EXIT_NOT_PUBLISHED,
    EXIT_REFUSED,
    ConfigError,
    DeliveryError,
    LockError,
    PricingError,
)
from pricing.fileio import redact_text
from pricing.paths import tracking_uri
from pricing.runtime.invocation import Invocation

if TYPE_CHECKING:
    from pricing.data.findings import Finding

_log = logging.getLogger("pricing.alerts")

RANKS: dict[Severity, int] = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}
UNTOLD = "untold"  # tag of a run of which an alert was not delivered
ATTEMPTS = 3  # of posting JSON
SECONDS = 10  # for one answer
FIRST_WAIT = 0.5  # seconds before the second attempt
LINES = 6  # of the error in an alert, at most
CHARACTERS = 1000  # the same
_FAILED = "The job ended without its result. Prices go on from the last good version."
_MEND = "Mend what the error names, and run the job again."
_REPORT = "This is a fault of the program, not of the data: report it with the job's log, and run the job again."
_ENDS = {  # exit status: how the job ended, what the platform did, and what is to be done
    EXIT_REFUSED: (
        "was refused by what a person must look at",
        "Nothing: the champion and its prices stay as they are.",
        "Look at what each gate says. Where it is right, mend the sales or the version; where the change is meant, "
        "`pricing promote --version N --force true --reason WORDS` makes it.",
    ),
    EXIT_NOT_PUBLISHED: (
        "did its work, which could not be published",
        "Serving goes on from what was published last.",
        "Bring the store of PRICING_PUBLISHED back: `pricing publish`, by hand or in its loop, does the rest.",
    ),
    0: ("ended well and found", "The job went on without what is set aside.", "Look at what each finding names."),
}


@dataclass(frozen=True)
class Alert:
    """A message to the operators; a text is empty where there is nothing to tell."""

    key: str  # identifies the problem, for whoever receives it night after night
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
    findings: tuple["Finding", ...] = ()

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
            f"What: {self.what}",
            f"Since: {self.since}",
            f"How bad: {self.how_bad}",
            *(f"- {finding.kind} ({finding.severity}): {finding.sentence}" for finding in self.findings),
            f"What the platform did: {self.done}",
            f"What to do: {self.todo}",
            *(f"{name}: {value}" for name, value in more.items() if value),
        ]
        return "\n".join(lines)


def _write(alert: Alert, _config: MonitoringConfig) -> None:
    _log.log(RANKS[alert.severity], "%s", alert.text.replace("\n", " | "))


def _post(alert: Alert, config: MonitoringConfig) -> None:
    """Posts one JSON object, the alert's fields and `text` for chat programs."""
    found = [{"name": each.kind, "severity": each.severity, "text": each.sentence} for each in alert.findings]
    text = f"{alert.subject}\n{alert.text}"
    document = {**asdict(alert), "since": str(alert.since), "findings": found, "text": text}
    post(config.endpoints.webhook_url.get_secret_value(), document, what=f"webhook: the alert {alert.key}")


def _publish(alert: Alert, config: MonitoringConfig) -> None:
    """Publishes to the topic; severity and job are message attributes, for filters."""
    from pricing.runtime import aws  # noqa: PLC0415 - boto3 is only needed where AWS is

    words = {"severity": alert.severity, "job": alert.job}
    with aws.translated_errors("sns", "publish"):
        aws.client("sns").publish(
            TopicArn=config.endpoints.sns_topic,
            Subject=alert.subject.replace("\n", " ").encode("ascii", "replace").decode(),  # which SNS asks for
            Message=alert.text,
            MessageAttributes={
                name: {"DataType": "String", "StringValue": word} for name, word in words.items() if word
            },
        )


CHANNELS: dict[Channel, Callable[[Alert, MonitoringConfig], None]] = {
    "log": _write,
    "webhook": _post,
    "sns": _publish,
}
"""How each channel sends; raises DeliveryError where an alert was not delivered."""


def post(url: str, document: Mapping[str, Any], *, what: str) -> None:
    """Posts JSON to an address that may hold a secret, again where that may help: the other side may see it twice.

    Raises:
        DeliveryError: It was not taken. Its words say `what` it was, and not the address.
    """
    import httpx2  # noqa: PLC0415 - what serves prices has no HTTP client
    import stamina  # noqa: PLC0415

    def may_pass(error: Exception) -> bool:
        if isinstance(error, httpx2.HTTPStatusError):
            return error.response.status_code in (408, 429) or error.response.status_code >= 500
        return isinstance(error, httpx2.TransportError) and not isinstance(error, httpx2.UnsupportedProtocol)

    try:
        for attempt in stamina.retry_context(on=may_pass, attempts=ATTEMPTS, wait_initial=FIRST_WAIT, wait_max=5):
            with attempt:
                httpx2.post(url, json=document, timeout=SECONDS).raise_for_status()
    except httpx2.HTTPStatusError as error:
        raise DeliveryError(f"{what} was not taken: HTTP {error.response.status_code}") from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise DeliveryError(f"{what} was not taken: {type(error).__name__}") from error


def deliver(alert: Alert, config: MonitoringConfig) -> list[str]:
    """Sends an alert by each of `monitoring.alerts`, whatever becomes of it on others; returns what went wrong."""
    failures = []
    for channel in config.alerts:
        try:
            CHANNELS[channel](alert, config)
        except (DeliveryError, ImportError) as error:
            failures.append(str(error))
    return failures


def run_page(run: str, *, experiment: str, pages: str, artifact: str = "") -> str:
    """The address of a run, or of its artifact, in MLflow's `pages`, else the server's own; empty where it has none."""
    base = pages or (tracking_uri() if tracking_uri().startswith(("http://", "https://")) else "")
    if not base or not run:
        return ""
    parts = urlsplit(base)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")  # without name and password
    return f"{bare}/#/experiments/{experiment}/runs/{run}" + (f"/artifacts/{artifact}" if artifact else "")


def report_failure(invocation: Invocation, error: BaseException, *, status: int) -> list[str]:
    """Sends an alert about a job that an error ended with an exit status; returns what went wrong in doing so.

    Nothing is sent of an error that is marked as `told`, of which an alert went out before, by this job or by one that
    it started; but for what this job noticed. The alert carries the error's `findings`, if any, too.
    """
    if getattr(error, "told", False) and not invocation.findings:
        return []
    job = invocation.job or "a job"
    kind = type(error).__name__
    known = isinstance(error, PricingError)
    found = (*getattr(error, "findings", ()), *invocation.findings)
    lines = [line.rstrip() for line in redact_text(str(error)).splitlines() if line.strip()] or [kind]
    words = hashlib.sha256(re.sub(r"\d+", "#", lines[0]).encode()).hexdigest()[:8]  # figures change from night to night
    alert = Alert(
        key=f"failed-{job}-{'+'.join(_kinds(found)) or f'{kind}-{words}'}",
        # The job that holds a lock does the work, and tells if it fails.
        severity="warning" if isinstance(error, LockError) else "critical",
        what=f"{job} failed: {lines[0]}"[:CHARACTERS],
        since=dt.datetime.now(dt.UTC).date(),
        how_bad=("" if known else f"{kind}: ") + "\n".join(lines[:LINES])[:CHARACTERS],
        done=_FAILED,
        todo=_MEND if known else _REPORT,
        job=job,
        exit_status=status,
        findings=found,
    )
    return _send(alert, invocation.config)


def report_findings(invocation: Invocation, *, status: int = 0) -> list[str]:
    """Sends an alert about what a job noticed although it did not fail; returns what went wrong in doing so.

    Findings that only inform, severity "info", send nothing by themselves.
    """
    job = invocation.job or "a job"
    kinds = _kinds(invocation.findings)
    what, done, todo = _ENDS.get(status, _ENDS[0])
    alert = Alert(
        key=f"findings-{job}-{'+'.join(kinds)}",
        severity=max((finding.severity for finding in invocation.findings), key=RANKS.__getitem__, default="info"),
        what=f"{job} {what}: {', '.join(kinds)}",
        since=dt.datetime.now(dt.UTC).date(),
        how_bad=f"{len(invocation.findings)} finding(s)",
        done=done,
        todo=todo,
        job=job,
        exit_status=status or None,
        findings=tuple(invocation.findings),
    )
    return [] if alert.severity == "info" else _send(alert, invocation.config)


def _kinds(findings: Iterable["Finding"]) -> list[str]:
    return sorted({finding.kind for finding in findings})


def _send(alert: Alert, path: str | None) -> list[str]:
    """Sends an alert, with what MLflow knows of this process's run, where alerts go further than the log."""
    try:
        config = load_config(path).monitoring
    except ConfigError as trouble:
        if path is not None and not config_file(path).exists():  # a person mistyped its name, and the error says so
            return []
        return [f"the configuration cannot be read, so its alert channels are unknown: {trouble}"]
    if set(config.alerts) <= {"log"}:  # which has the error already
        return []
    runs = sys.modules.get("pricing.runtime.mlflow_runs")  # absent where the job never loaded MLflow
    run = runs and runs.last_run()
    number = run.info.run_id if run else os.environ.get("MLFLOW_RUN_ID", "")
    experiment = run.info.experiment_id if run else ""
    known = run.data.tags if run else {}
    alert = replace(
        alert,
        run=number,
        version=known.get("version") or known.get("champion") or "",
        link=run_page(number, experiment=experiment, pages=config.endpoints.mlflow_url),
    )
    failures = deliver(alert, config)
    if failures and runs and run:
        runs.set_tag(number, UNTOLD, "; ".join(failures))  # so that a job that started this one tells of it
    return failures
