"""Carry out the monitoring decision: start the due job once, track how it ended, say what is left to a person."""

import datetime as dt
import json
import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from monitoring.evaluate import Evaluation
from monitoring.policy import JOB_LOST, Finding, PolicyOutcome
from monitoring.store import MonitoringStore
from pricing.config_models import MonitoringConfig, Severity
from pricing.errors import DeliveryError
from pricing.fileio import utc_stamp
from pricing.runtime.alerts import Alert
from pricing.runtime.cli import CommandLine, option_words
from pricing.runtime.invocation import AlertFinding

CRITICAL_OFF = 0.5  # from so far off an alert of decay is critical, from half of it a warning: see `WindowVerdict.off`
MEND_SALES = (
    "Until then nothing is retrained and no states are carried forward: prices go on from the last good version."
)
TOLD = "scored_few"  # the finding that goes out as an alert although it asks the rules for nothing
_log = logging.getLogger(__name__)


class LocalLauncher:
    """Runs `pricing ACTION` on this machine; by `mlflow run`, MLflow would keep a password in the address of sales.

    The job survives the monitoring run being killed; then nobody learns how it ended.
    """

    def __init__(self, *, parameters: Mapping[str, str], folder: Path, environment: Mapping[str, str]) -> None:
        """Takes what jobs are started with, the folder for their output, and their environment."""
        self._parameters, self._folder, self._environment = dict(parameters), folder, environment

    def run(self, action: str, *, reason: str) -> tuple[bool, str]:
        """Runs the job to its end; returns that it ended well, and its log. A retraining is told why."""
        options = option_words(**self._parameters, reason=reason if action == "retrain" else None)
        command = [sys.executable, "-P", "-m", "pricing.runtime.command", action, *options]
        self._folder.mkdir(parents=True, exist_ok=True)
        log = self._folder / f"{action}-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S%f}.log"
        try:
            with log.open("wb") as output:
                job = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=self._environment)
        except OSError as error:
            raise DeliveryError(f"local: {action} could not be started: {error}") from error
        _log.info("started %s as process %d; its output goes to %s", action, job.pid, log)
        return job.wait() == 0, str(log)


class EventBridgeLauncher:
    """Jobs asked for by an event on an EventBridge bus; whoever has a rule for it starts them, on sales of its own."""

    def __init__(self, bus: str) -> None:
        """Takes the bus's name."""
        self._bus = bus

    def run(self, action: str, *, reason: str) -> tuple[bool, str]:
        """Puts an event of source `pricing.monitoring` and type `pricing ACTION`; returns True, and its id.

        The job counts as done once its event is taken: an event tells nothing about its job.
        """
        from pricing.runtime import aws  # noqa: PLC0415 - boto3 is only needed where AWS is

        entry = {
            "Source": "pricing.monitoring",
            "DetailType": f"pricing {action}",
            "Detail": json.dumps({"action": action, "reason": reason}),
            "EventBusName": self._bus,
        }
        with aws.translated_errors("events", "put_events"):
            answer = aws.client("events").put_events(Entries=[entry])
        if answer.get("FailedEntryCount"):
            raise DeliveryError(f"events put_events: refused: {answer['Entries'][0].get('ErrorMessage')}")
        return True, str(answer["Entries"][0]["EventId"])


JobLauncher = LocalLauncher | EventBridgeLauncher


def job_launcher(
    config: MonitoringConfig, *, parameters: Mapping[str, str], folder: Path, environment: Mapping[str, str]
) -> JobLauncher | None:
    """Builds the launcher set by `monitoring.trigger`; None for "none"."""
    if config.trigger == "local":
        return LocalLauncher(parameters=parameters, folder=folder, environment=environment)
    if config.trigger == "event":
        return EventBridgeLauncher(config.endpoints.event_bus)
    return None


@dataclass(frozen=True)
class ActionResult:
    """Result of an action."""

    text: str  # what was done
    failures: tuple[str, ...] = ()
    ended: bool = False  # a job was started and ended well
    by_hand: bool = False  # a job is due that was not started, so that a person must


def lost_jobs(store: MonitoringStore, *, now: dt.datetime, lock_hours: float, gives_up: bool = True) -> list[Finding]:
    """Gives up jobs that earlier monitoring runs started and whose end nobody has noted, since those runs were killed.

    Such a job counts as running, so that no other one is started, until it is older than `lock_hours`. Then it has
    neither failed nor succeeded, other jobs may start, and a person is called.
    """
    findings = []
    for job, started in store.running().items():
        if gives_up and now - started > dt.timedelta(hours=lock_hours):
            store.note(job, ended=utc_stamp(now))
            text = f"whether a job started {started:%Y-%m-%d %H:%M} failed or succeeded cannot be learnt in "
            findings.append(Finding(JOB_LOST, "warning", f"{text}{lock_hours:g} hours", 1))
    return findings


def act(
    outcome: PolicyOutcome,
    job: int | None,
    *,
    launcher: JobLauncher | None,
    store: MonitoringStore,
    acting: bool = True,
    within_night: bool = False,
) -> ActionResult:
    """Starts the job that the outcome requires, if this run is one that acts, and waits for it where it runs here."""
    if not acting:
        return ActionResult("nothing was started or sent (--act false)", by_hand=True)
    if outcome.action in ("none", "page"):
        return ActionResult("nothing was started")
    if launcher is not None and job is not None:
        return _started(outcome, job, launcher=launcher, store=store)
    if within_night:
        return ActionResult(f"a {outcome.action} is due, and the nightly job that this run belongs to does it next")
    words = f"nothing: a {outcome.action} is due, but monitoring.trigger is none; run it by hand"
    return ActionResult(words, by_hand=True)


def _started(due: PolicyOutcome, job: int, *, launcher: JobLauncher, store: MonitoringStore) -> ActionResult:
    try:
        well, where = launcher.run(due.action, reason=due.reason)
    except DeliveryError as error:
        store.drop(job)
        return ActionResult(f"the {due.action} could not be started", (str(error),), by_hand=True)
    store.note(job, ended=utc_stamp(dt.datetime.now(dt.UTC)), succeeded=well)
    if well:
        return ActionResult(f"a {due.action} was started and ended well", ended=True)
    return ActionResult(f"a {due.action} was started and failed: {where}", (f"{due.action} failed: {where}",))


def compose(
    outcome: PolicyOutcome, result: ActionResult, *, evaluation: Evaluation, todo: Sequence[str] = ()
) -> Alert | None:
    """Builds the alert for an outcome and what a person has to do about it; None when there is nothing to report."""
    told = [finding for finding in evaluation.findings if finding.code == TOLD]
    calm = outcome.action == "none" and outcome.cause == "nothing"
    if calm and not result.failures and not told:
        return None
    key, what = f"{outcome.fault or outcome.cause}-{outcome.action}", outcome.reason
    if outcome.cause == "drift":
        key += f"-{'+'.join(evaluation.drift.drifted('input') or ())}"
    if calm and told:
        key, what = TOLD, told[0].text
    named = [one for one in evaluation.findings if one.level == "breach" or one.code == TOLD]
    moved = [column.text for column in evaluation.drift.watched if column.drifted]
    newest = evaluation.verdicts[-1]
    since = newest.score  # of the first of the windows that are in breach without a break, or else of the newest
    for verdict in takewhile(lambda one: one.breaches, reversed(evaluation.verdicts)):
        since = verdict.score
    return Alert(
        key=key,
        severity=_severity(outcome, result, told=bool(told), off=0.0 if evaluation.replay else newest.off),
        what=what,
        since=since.days[0],
        how_bad="; ".join([newest.text, *moved]),
        done="; ".join([result.text, *result.failures]),
        todo=". ".join([*todo, *([MEND_SALES] if outcome.doubts_sales else [])]) or "Nothing.",
        job="monitor",
        findings=tuple(
            AlertFinding(one.kind, "critical" if one.level == "breach" else "warning", one.text) for one in named
        ),
    )


def _severity(outcome: PolicyOutcome, result: ActionResult, *, told: bool, off: float) -> Severity:
    """The severity by what is asked of a person, or by how far off the forecasts are: whichever is worse."""
    if outcome.action == "page" or result.failures or off >= CRITICAL_OFF:
        return "critical"
    if told or off >= CRITICAL_OFF / 2:
        return "warning"
    quiet = outcome.cause == "drift" or (outcome.cause == "stale" and not result.by_hand)
    return "info" if outcome.action == "none" or quiet else "warning"


@dataclass(frozen=True)
class Task:
    """One thing to do: what, why, and the commands to type one after the other, which may be none."""

    what: str
    why: str
    commands: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What to do and how, in one line."""
        return self.what + (f": {' && '.join(self.commands)}" if self.commands else "")


_DUE = {
    "retrain": "Train a new model, and promote it",
    "refresh": "Carry the model forward to the newest sales, and promote it",
}
_WHAT: dict[str, tuple[str, ...]] = {  # code of a fault or finding: what to do, and the jobs that do it
    "sales_stopped": ("Bring in the newest sales, then look again", "monitor"),
    "decisions_stopped": (
        "Find out why nothing is decided: do decisions still arrive in the log, are serving tasks ready, is the API "
        "key taken? Or decide by this; if that is rarer, raise monitoring.undecided_days and monitoring.silent_days",
        "price",
    ),
    "answers_by_rule": ("Find out why the model does not answer", "doctor"),
    "log_empty": (
        "Restore the decision log (PRICING_DECISIONS_URL), or have prices decided again, by this or by the service",
        "price",
    ),
    "no_decisions": ("Have prices decided and charge them; look again when they have sold", "price"),
    "nothing_joined": ("Compare product ids and days of the sales with those of the decisions",),
    "product_unknown": ("Compare the product ids of the shop with those of the sales",),
    "column_empty": ("Mend the source of this column in the sales",),
    "column_emptier": ("Look at the source of this column in the sales",),
    "champion_unknown": ("Train and promote a version, or mend the way to the registry", "train", "promote"),
    "log_damaged": ("Look at the first damaged line, which the job's log names",),
    "clock_ahead": ("Set the clock of the machine that decides",),
    "elasticity_unidentified": ("Test prices on products whose elasticity is unknown", "experiment plan"),
    "job_lost": (
        "Look at the job where it ran, a local one's log in PRICING_HOME/monitoring/jobs: is there a version?",
    ),
    "scored_few": ("Find out why decisions meet no sales, or have no forecast at the price charged",),
}
_OPTIONS = {
    "price": {"applied": "true"},
    "experiment plan": {"name": "first", "draw": "0.2", "weeks": "26"},
    "history": {"all": "true"},
}


def tasks(evaluation: Evaluation, outcome: PolicyOutcome, result: ActionResult, *, line: CommandLine) -> list[Task]:
    """Lists what a person has to do, most urgent first; empty where that is nothing."""

    def task(what: str, why: str, *jobs: str) -> Task:
        return Task(what, why, tuple(line.job(job, **_OPTIONS.get(job, {})) for job in jobs))

    todo = []
    if result.by_hand and outcome.action in _DUE:
        todo.append(task(_DUE[outcome.action], outcome.reason, outcome.action, "promote"))
    if result.failures and not result.by_hand:
        todo.append(task("Look at the job that failed", "; ".join(result.failures)))
    if outcome.action == "page" and outcome.cause == "decay":
        todo.append(task("See why retraining does not mend it", outcome.reason, "history"))
    matters = {outcome.fault: outcome.reason} if outcome.fault in _WHAT else {}
    for one in sorted(evaluation.findings, key=lambda one: one.level != "breach" and one.code != "champion_unknown"):
        if one.level == "breach" or (one.level == "warning" and one.code in _WHAT):
            matters.setdefault(one.code if one.code in _WHAT else one.kind, one.text)
    for code, why in matters.items():
        what, *jobs = _WHAT.get(code, ("Look at what is named",))
        todo.append(task(what, why, *jobs))
    if evaluation.joined.frame.empty and evaluation.joined.waiting:
        why = f"{evaluation.joined.waiting:,} decision(s) wait for their sales, and nothing else can be compared yet"
        todo.append(task(f"Look again when the sales of {evaluation.joined.waiting_for} are in", why, "monitor"))
    return todo


def send_metrics(metrics: Mapping[str, float], config: MonitoringConfig, *, model: str, now: dt.datetime) -> list[str]:
    """Sends metrics to CloudWatch where `monitoring.metrics` lists it, under the names that MLflow and the alarms know.

    Returns:
        What went wrong.
    """
    if "cloudwatch" not in config.metrics:
        return []
    from pricing.runtime import aws  # noqa: PLC0415

    data = [
        {"MetricName": name, "Value": value, "Timestamp": now, "Dimensions": [{"Name": "Model", "Value": model}]}
        for name, value in metrics.items()  # some sixty; a call takes a thousand
    ]
    try:
        with aws.translated_errors("cloudwatch", "put_metric_data"):
            aws.client("cloudwatch").put_metric_data(Namespace=config.endpoints.namespace, MetricData=data)
    except DeliveryError as error:
        return [str(error)]
    return []
