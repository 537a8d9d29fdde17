"""Start the due job once, on this machine or by an event, and track how it ended."""

import datetime as dt
import json
import logging
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from monitoring.policy import JOB_LOST, PolicyOutcome
from monitoring.store import MonitoringStore
from pricing.config_models import MonitoringConfig
from pricing.data.findings import Finding
from pricing.errors import DeliveryError
from pricing.fileio import utc_stamp
from pricing.runtime.cli import option_words

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LocalLauncher:
    """Runs `pricing ACTION` on this machine; by `mlflow run`, MLflow would keep a password in the address of sales.

    The job survives the monitoring run being killed; then nobody learns how it ended.
    """

    parameters: Mapping[str, str]  # that jobs are started with
    folder: Path  # for their output
    environment: Mapping[str, str]

    def run(self, action: str, *, reason: str) -> tuple[bool, str]:
        """Runs the job to its end; returns that it ended well, and its log. A retraining is told why."""
        options = option_words(**self.parameters, reason=reason if action == "retrain" else None)
        command = [sys.executable, "-P", "-m", "pricing.runtime.command", action, *options]
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / f"{action}-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S%f}.log"
        try:
            with log.open("wb") as output:
                job = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=self.environment)
        except OSError as error:
            raise DeliveryError(f"local: {action} could not be started: {error}") from error
        _log.info("started %s as process %d; its output goes to %s", action, job.pid, log)
        return job.wait() == 0, str(log)


@dataclass(frozen=True)
class EventBridgeLauncher:
    """Jobs asked for by an event on an EventBridge bus; whoever has a rule for it starts them, on sales of its own."""

    bus: str  # its name

    def run(self, action: str, *, reason: str) -> tuple[bool, str]:
        """Puts an event of source `pricing.monitoring` and type `pricing ACTION`; returns True, and its id.

        The job counts as done once its event is taken: nothing is heard of what an event starts.
        """
        from pricing.runtime import aws  # noqa: PLC0415 - boto3 is only needed where AWS is

        entry = {
            "Source": "pricing.monitoring",
            "DetailType": f"pricing {action}",
            "Detail": json.dumps({"action": action, "reason": reason}),
            "EventBusName": self.bus,
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
            job_started = f"a job started {started:%Y-%m-%d %H:%M}"
            text = f"whether {job_started} failed or succeeded cannot be learnt in {lock_hours:g} hours"
            findings.append(Finding(JOB_LOST, "warning", rows=1, sentence=text))
    return findings


def act_on(
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
