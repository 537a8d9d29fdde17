"""Carry out the monitoring decision: start the due job once, track how it ended, and compose the alert."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from monitoring.evaluate import CATEGORY, Evaluation
from monitoring.launchers import JobLauncher, JobRequest
from monitoring.policy import JOB_LOST, Finding, PolicyOutcome
from monitoring.store import MonitoringStore
from pricing.config_models import Severity
from pricing.errors import DeliveryError
from pricing.fileio import utc_stamp
from pricing.runtime.alerts import REPEAT_HOURS, Alert, AlertFinding

CRITICAL_OFF = 0.5  # from so far off an alert of decay is critical, from half of it a warning: see `WindowVerdict.off`
MEND_SALES = (
    "Until then nothing is retrained and no states are carried forward: prices go on from the last good version."
)
# Findings that go out as an alert although they ask the rules for nothing.
TOLD = frozenset({CATEGORY, "scored_few", "job_failed"})


@dataclass(frozen=True)
class ActionResult:
    """Result of an action."""

    text: str  # what was done
    failures: tuple[str, ...] = ()
    ended: bool = False  # a job was started and ended well
    by_hand: bool = False  # a job is due that was not started, so that a person must


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
            store.note(job, ended=utc_stamp(now), succeeded=ended)
            if not ended:
                findings.append(Finding("job_failed", "warning", f"{began} failed: {handle}", 1))
        elif not known and gives_up and now - started > dt.timedelta(hours=lock_hours):
            store.note(job, ended=utc_stamp(now))
            text = f"whether {began} failed or succeeded cannot be learnt in {lock_hours:g} hours"
            findings.append(Finding(JOB_LOST, "warning", text, 1))
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
    """Starts the job that the outcome requires, if this run is one that acts; waits for it when it runs here."""
    if not acting:
        return ActionResult("nothing was started or sent (--act false)", by_hand=True)
    if outcome.action in ("none", "page"):
        return ActionResult("nothing was started")
    if launcher is not None and job is not None:
        return _started(JobRequest(outcome.action, outcome.reason), job, launcher=launcher, store=store)
    if within_night:
        return ActionResult(f"a {outcome.action} is due, and the nightly job that this run belongs to does it next")
    words = f"nothing: a {outcome.action} is due, but monitoring.trigger is none; run it by hand"
    return ActionResult(words, by_hand=True)


def _started(order: JobRequest, job: int, *, launcher: JobLauncher, store: MonitoringStore) -> ActionResult:
    try:
        handle = launcher.start(order)
    except DeliveryError as error:
        store.drop(job)
        return ActionResult(f"the {order.action} could not be started", (str(error),), by_hand=True)
    store.note(job, handle=handle)
    ended = launcher.wait(handle)
    if ended is None:
        return ActionResult(f"started a {order.action}: {handle}")
    store.note(job, ended=utc_stamp(dt.datetime.now(dt.UTC)), succeeded=ended)
    if ended:
        return ActionResult(f"a {order.action} was started and ended well", ended=True)
    return ActionResult(f"a {order.action} was started and failed: {handle}", (f"{order.action} failed: {handle}",))


def compose(
    outcome: PolicyOutcome, result: ActionResult, *, evaluation: Evaluation, todo: Sequence[str] = ()
) -> Alert | None:
    """Builds the alert for an outcome and what a person has to do about it; None when there is nothing to report."""
    told = [finding for finding in evaluation.findings if finding.code in TOLD]
    calm = outcome.action == "none" and outcome.cause == "nothing"
    if calm and not result.failures and not told:
        return None
    key, what = f"{outcome.fault or outcome.cause}-{outcome.action}", outcome.reason
    if outcome.cause == "drift":
        key += f"-{'+'.join(evaluation.drift.drifted('input') or ())}"
    if calm and told:
        key, what = "+".join(sorted({one.kind for one in told})), "; ".join(one.text for one in told)
    named = [one for one in evaluation.findings if one.level == "breach" or one.code in TOLD]
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


def hours_between(outcome: PolicyOutcome, result: ActionResult, *, days: tuple[dt.date, dt.date]) -> float:
    """Returns the hours before the same alert is sent again: of drift its window, since it is the same until then."""
    window = (days[1] - days[0]).days + 1 if outcome.cause == "drift" and not result.failures else 0
    return max(REPEAT_HOURS, 24.0 * window)


def _severity(outcome: PolicyOutcome, result: ActionResult, *, told: bool, off: float) -> Severity:
    """The severity by what is asked of a person, or by how far off the forecasts are: whichever is worse."""
    if outcome.action == "page" or result.failures or off >= CRITICAL_OFF:
        return "critical"
    if told or off >= CRITICAL_OFF / 2:
        return "warning"
    return "info" if outcome.action == "none" or outcome.cause in ("drift", "stale") else "warning"
