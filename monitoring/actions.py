"""Carry out the monitoring decision: start the due job once, track how it ended, and send alerts."""

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from monitoring.evaluate import CATEGORY, Evaluation
from monitoring.launchers import JobLauncher, JobRequest
from monitoring.policy import JOB_LOST, Finding, PolicyOutcome
from monitoring.store import MonitoringStore
from monitoring.tracking import UNKNOWN
from pricing.config_models import Severity
from pricing.runtime.alerts import Alert, AlertFinding, AlertMemory, DeliveryError, Notifier, deliver

MEND_SALES = (
    "Until the source that is named is mended nothing is retrained and no states are carried forward. Prices go on "
    "from the last good version."
)
TODO = {
    "fault": "Nothing is retrained until then. The sales seem fine: states go forward.",
    "decay": "Nothing while a job runs. If the next two reports still show decay, see docs/monitoring.md, 'Decay'.",
    "drift": "Nothing. Look at the drift report if the change was not expected, such as a new supplier or price list.",
    "stale": "Nothing, if the refresh succeeds. If this comes daily, the nightly job is not running.",
    "nothing": "Nothing.",
}


# Findings that go out as an alert although they ask the rules for nothing.
TOLD = frozenset({CATEGORY, "figures_implausible", "scored_few", "job_failed"})


@dataclass(frozen=True)
class ActionResult:
    """Result of an action: description, failures, and whether a started job ended successfully.

    Attributes:
        text: The description.
        failures: What failed.
        ended: Whether a job was started and ended well.
        by_hand: Whether a job is due that was not started, so that a person must.
    """

    text: str
    failures: tuple[str, ...] = ()
    ended: bool = False
    by_hand: bool = False


@dataclass(frozen=True)
class Repeat:
    """When an alert goes out again, and what it names.

    Attributes:
        now: Current time.
        hours: Hours before the same alert is repeated.
        link: Address of the report.
        run: ID of the MLflow run.
        version: Number of the champion.
        drift_hours: Hours before the same drift is told again: a window, since it is the same drift until then.
        critical_off: How far off forecasts make an alert critical, whatever is done.
    """

    now: dt.datetime
    hours: float
    link: str
    run: str = ""
    version: str = ""
    drift_hours: float = 0.0
    critical_off: float = math.inf


def reconcile_jobs(
    store: MonitoringStore,
    launcher: JobLauncher | None,
    *,
    now: dt.datetime,
    lock_hours: float,
    gives_up: bool = True,
) -> list[Finding]:
    """Records how jobs ended that earlier monitoring runs started.

    A job of which nothing can be learnt (its end is unknown, or it has no handle) counts as running, so that no other
    one is started, until it is older than `lock_hours`. Then it is given up: it has neither failed nor succeeded, other
    jobs may start, and a person is called by the finding `job_lost`.

    Args:
        store: Holds the jobs.
        launcher: Says how they go on; None where there is none any more.
        now: Current time.
        lock_hours: Hours after which an unknown job is given up.
        gives_up: False for a run that calls nobody: the job is left to the next run that does.

    Returns:
        Findings on jobs that failed or whose status is unknown.
    """
    findings = []
    for job, handle, started in store.running():
        hours = (now - started).total_seconds() / 3600
        try:
            # Without a handle, another run may be starting this job right now.
            known = launcher is not None and bool(handle)
            ended = launcher.ended(handle) if launcher is not None and handle else None
            trouble = "it has no handle" if launcher is not None else "monitoring.trigger is none"
        except DeliveryError as error:
            known, ended, trouble = False, None, str(error)
        if ended is not None:
            store.ended(job, succeeded=ended, now=now)
            if not ended:
                text = f"a job started {started:%Y-%m-%d %H:%M} failed: {handle}"
                findings.append(Finding("job_failed", "warning", text, 1))
        elif not known and hours > lock_hours and gives_up:
            store.ended(job, succeeded=None, now=now)
            text = (
                f"whether a job started {started:%Y-%m-%d %H:%M} failed or succeeded cannot be learnt in "
                f"{lock_hours:g} hours: {trouble}"
            )
            findings.append(Finding(JOB_LOST, "warning", text, 1))
        elif not known and handle:
            text = f"how a job started {started:%Y-%m-%d %H:%M} goes on cannot be learnt: {trouble}"
            findings.append(Finding("job_unknown", "warning", text, 1))
    return findings


def left_to_nightly_job(outcome: PolicyOutcome) -> ActionResult:
    """Returns the result of a run inside the nightly job, which itself starts what is due."""
    return ActionResult(f"a {outcome.action} is due, and the nightly job that this run belongs to does it next")


def start(
    outcome: PolicyOutcome,
    *,
    launcher: JobLauncher | None,
    store: MonitoringStore,
    now: dt.datetime,
    job: int | None = None,
) -> ActionResult:
    """Starts the job that the outcome requires; waits for it when it runs on this machine.

    Args:
        outcome: Decision of the rules.
        launcher: Launcher; None starts nothing.
        store: Store that records the job.
        now: Current time.
        job: The job's number in the store, when it is recorded there already.
    """
    if outcome.action in ("none", "page"):
        return ActionResult("nothing was started")
    if launcher is None:
        words = f"nothing: a {outcome.action} is due, but monitoring.trigger is none; run it by hand"
        return ActionResult(words, by_hand=True)
    if job is None:
        job = store.started(action=outcome.action, cause=outcome.cause, reason=outcome.reason, handle="", now=now)
    try:
        handle = launcher.start(JobRequest(outcome.action, outcome.reason))
    except DeliveryError as error:
        store.dropped(job)
        return ActionResult(f"the {outcome.action} could not be started", (str(error),), by_hand=True)
    store.handed(job, handle)
    ended = launcher.wait(handle)
    if ended is None:
        return ActionResult(f"started a {outcome.action}: {handle}")
    store.ended(job, succeeded=ended, now=dt.datetime.now(dt.UTC))
    if ended:
        return ActionResult(f"a {outcome.action} was started and ended well", ended=True)
    return ActionResult(f"a {outcome.action} was started and failed: {handle}", (f"{outcome.action} failed: {handle}",))


def with_champion(result: ActionResult, *, before: str, after: str) -> ActionResult:
    """Adds the champion before and after to the result text, when a job of this run has ended."""
    if not result.ended:
        return result
    if UNKNOWN in (before, after):
        return replace(result, text=f"{result.text}; which version serves now is unknown")
    came = f"version {after} is the champion now, it was {before}" if after != before else f"the champion stays {after}"
    return replace(result, text=f"{result.text}; {came}")


def notify(
    outcome: PolicyOutcome,
    result: ActionResult,
    *,
    evaluation: Evaluation,
    notifiers: Sequence[Notifier],
    memory: AlertMemory,
    repeat: Repeat,
    todo: Sequence[str] = (),
) -> list[str]:
    """Sends an alert if one is due and was not sent recently; returns the errors of notifiers that failed."""
    alert = compose(
        outcome, result, evaluation=evaluation, link=repeat.link, todo=todo, critical_off=repeat.critical_off
    )
    if alert is None:
        return []
    named = replace(alert, job="monitor", run=repeat.run, version=repeat.version)
    same_drift = outcome.cause == "drift" and not result.failures
    hours = max(repeat.hours, repeat.drift_hours) if same_drift else repeat.hours
    return list(deliver(named, notifiers, memory=memory, every_hours=hours, now=repeat.now).failures)


def compose(
    outcome: PolicyOutcome,
    result: ActionResult,
    *,
    evaluation: Evaluation,
    link: str,
    todo: Sequence[str] = (),
    critical_off: float = math.inf,
) -> Alert | None:
    """Builds the alert for an outcome; None when there is nothing to report.

    Args:
        outcome: Decision of the rules.
        result: What was done about it.
        evaluation: Its figures.
        link: Address of the report.
        todo: What the reader has to do, with commands.
        critical_off: How far off forecasts make it critical, see `monitoring.critical_off`.
    """
    told = [finding for finding in evaluation.findings if finding.code in TOLD]
    calm = outcome.action == "none" and outcome.cause == "nothing"
    if calm and not result.failures and not told:
        return None
    key, what = f"{outcome.fault or outcome.cause}-{outcome.action}", outcome.reason
    if outcome.cause == "drift":
        key = f"{key}-{'+'.join(evaluation.drift.drifted('input') or ())}"
    if calm and told:
        key = "+".join(sorted({finding.kind for finding in told}))
        what = "; ".join(finding.text for finding in told)
    named = [one for one in evaluation.findings if one.level == "breach" or one.code in TOLD]
    return Alert(
        key=key,
        severity=_severity(outcome, result, told=bool(told), off=_off(evaluation), critical_off=critical_off),
        what=what,
        since=_since(evaluation),
        how_bad=_how_bad(evaluation),
        done=result.text + ("; " + "; ".join(result.failures) if result.failures else ""),
        todo=_todo(outcome, result, todo),
        link=link,
        findings=tuple(
            AlertFinding(one.kind, "critical" if one.level == "breach" else "warning", one.text) for one in named
        ),
    )


def _severity(outcome: PolicyOutcome, result: ActionResult, *, told: bool, off: float, critical_off: float) -> Severity:
    """What is asked of a person, or how far off the forecasts are: whichever is worse."""
    if outcome.action == "page" or result.failures or off >= critical_off:
        return "critical"
    if told or off >= critical_off / 2:
        return "warning"
    return "info" if outcome.action == "none" or outcome.cause in ("drift", "stale") else "warning"


def _off(evaluation: Evaluation) -> float:
    return 0.0 if evaluation.replay else evaluation.verdicts[-1].off


def _todo(outcome: PolicyOutcome, result: ActionResult, todo: Sequence[str]) -> str:
    """What the reader has to do, and what happens until it is done."""
    waits = MEND_SALES if outcome.doubts_sales else TODO[outcome.cause]
    if not todo:
        return waits
    return ". ".join([*todo, waits] if outcome.cause == "fault" and not result.by_hand else todo)


def _since(evaluation: Evaluation) -> dt.date:
    """Returns the first day of the current run of consecutive windows in breach, or else of the newest window."""
    name = evaluation.verdicts[-1].score.name
    for verdict in reversed(evaluation.verdicts):
        if not verdict.breaches:
            break
        name = verdict.score.name
    return dt.date.fromisoformat(name[:10])


def _how_bad(evaluation: Evaluation) -> str:
    parts = [evaluation.verdicts[-1].text]
    parts += [column.text for column in evaluation.drift.watched if column.drifted]
    return "; ".join(parts)
