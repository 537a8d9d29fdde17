"""Carry out the monitoring decision: start the due job once, track how it ended, and compose the alert."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace

from monitoring.evaluate import CATEGORY, Evaluation
from monitoring.launchers import JobLauncher, JobRequest
from monitoring.policy import JOB_LOST, Finding, PolicyOutcome
from monitoring.store import MonitoringStore
from monitoring.tracking import UNKNOWN
from pricing.config_models import MonitoringConfig, Severity
from pricing.runtime.alerts import Alert, AlertFinding, DeliveryError

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
TOLD = frozenset({CATEGORY, "scored_few", "job_failed"})


@dataclass(frozen=True)
class ActionResult:
    """Result of an action.

    Attributes:
        text: What was done.
        failures: What failed.
        ended: Whether a job was started and ended well.
        by_hand: Whether a job is due that was not started, so that a person must.
    """

    text: str
    failures: tuple[str, ...] = ()
    ended: bool = False
    by_hand: bool = False


def reconcile_jobs(
    store: MonitoringStore, launcher: JobLauncher | None, *, now: dt.datetime, lock_hours: float, gives_up: bool = True
) -> list[Finding]:
    """Records how jobs ended that earlier monitoring runs started; returns findings on those that went wrong.

    A job of which nothing can be learnt (it has no handle, as where its run was killed, or there is no launcher any
    more) counts as running, so that no other one is started, until it is older than `lock_hours`. Then it is given up:
    it has neither failed nor succeeded, other jobs may start, and a person is called.
    """
    findings = []
    for job, (handle, started) in store.running().items():
        known = launcher is not None and bool(handle)
        ended = launcher.ended(handle) if launcher is not None and handle else None
        began = f"a job started {started:%Y-%m-%d %H:%M}"
        if ended is not None:
            store.note(job, ended=now.isoformat(), succeeded=ended)
            if not ended:
                findings.append(Finding("job_failed", "warning", f"{began} failed: {handle}", 1))
        elif not known and gives_up and now - started > dt.timedelta(hours=lock_hours):
            store.note(job, ended=now.isoformat())
            text = f"whether {began} failed or succeeded cannot be learnt in {lock_hours:g} hours"
            findings.append(Finding(JOB_LOST, "warning", text, 1))
    return findings


def start(
    outcome: PolicyOutcome, job: int | None, *, launcher: JobLauncher | None, store: MonitoringStore
) -> ActionResult:
    """Starts the job that the outcome requires; waits for it when it runs on this machine."""
    if outcome.action in ("none", "page"):
        return ActionResult("nothing was started")
    if launcher is None or job is None:
        words = f"nothing: a {outcome.action} is due, but monitoring.trigger is none; run it by hand"
        return ActionResult(words, by_hand=True)
    try:
        handle = launcher.start(JobRequest(outcome.action, outcome.reason))
    except DeliveryError as error:
        store.drop(job)
        return ActionResult(f"the {outcome.action} could not be started", (str(error),), by_hand=True)
    store.note(job, handle=handle)
    ended = launcher.wait(handle)
    if ended is None:
        return ActionResult(f"started a {outcome.action}: {handle}")
    store.note(job, ended=dt.datetime.now(dt.UTC).isoformat(), succeeded=ended)
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


def compose(
    outcome: PolicyOutcome,
    result: ActionResult,
    *,
    evaluation: Evaluation,
    critical_off: float,
    todo: Sequence[str] = (),
) -> Alert | None:
    """Builds the alert for an outcome; None when there is nothing to report."""
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
    off = 0.0 if evaluation.replay else evaluation.verdicts[-1].off
    named = [one for one in evaluation.findings if one.level == "breach" or one.code in TOLD]
    moved = [column.text for column in evaluation.drift.watched if column.drifted]
    return Alert(
        key=key,
        severity=_severity(outcome, result, told=bool(told), off=off, critical_off=critical_off),
        what=what,
        since=_since(evaluation),
        how_bad="; ".join([evaluation.verdicts[-1].text, *moved]),
        done=result.text + ("; " + "; ".join(result.failures) if result.failures else ""),
        todo=_todo(outcome, result, todo),
        job="monitor",
        findings=tuple(
            AlertFinding(one.kind, "critical" if one.level == "breach" else "warning", one.text) for one in named
        ),
    )


def hours_between(outcome: PolicyOutcome, result: ActionResult, config: MonitoringConfig, *, window_days: int) -> float:
    """Returns the hours before the same alert is sent again: of drift a window, since it is the same until then."""
    same_drift = outcome.cause == "drift" and not result.failures
    return max(config.repeat_hours, 24.0 * window_days) if same_drift else config.repeat_hours


def _severity(outcome: PolicyOutcome, result: ActionResult, *, told: bool, off: float, critical_off: float) -> Severity:
    """The severity by what is asked of a person, or by how far off the forecasts are: whichever is worse."""
    if outcome.action == "page" or result.failures or off >= critical_off:
        return "critical"
    if told or off >= critical_off / 2:
        return "warning"
    return "info" if outcome.action == "none" or outcome.cause in ("drift", "stale") else "warning"


def _todo(outcome: PolicyOutcome, result: ActionResult, todo: Sequence[str]) -> str:
    """Says what the reader has to do, and what happens until it is done."""
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
