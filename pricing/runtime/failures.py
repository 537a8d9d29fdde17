"""Say through the alert doors that a job failed, or what it noticed although it did not."""

import datetime as dt
import hashlib
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pricing.config import load_config
from pricing.config_models import MonitoringConfig, Severity
from pricing.errors import ConfigError, LockError, PricingError
from pricing.paths import PARENT_VARIABLE
from pricing.runtime.alerts import (
    RANKS,
    Alert,
    AlertFinding,
    Notifier,
    alert_memory,
    alert_notifiers,
    as_findings,
    deliver,
    run_page,
)
from pricing.runtime.cli import EXIT_NOT_PUBLISHED, EXIT_REFUSED, Invocation

LINES = 6  # of the error in an alert
CHARACTERS = 1000
# What a job did that ended without an error, what the platform did, and what is to be done.
_NOTICED = ("ended well and found", "The job went on without what is set aside.", "Look at what each finding names.")
_REFUSED = (
    "was refused by what a person must look at",
    "Nothing: the champion and its prices stay as they are.",
    "Look at what each gate says. Where it is right, mend the sales or the version; where the change is meant, "
    "`pricing promote --version N --force true --reason WORDS` makes it.",
)
_UNPUBLISHED = (
    "did its work, which could not be published",
    "Serving goes on from what was published last.",
    "Bring the store of PRICING_PUBLISHED back: `pricing publish`, by hand or in its loop, does the rest.",
)
# What becomes of a job that failed.
_MEND = "Mend what the error names, and run the job again."
_REPORT = "This is a fault of the program, not of the data: report it with the job's log, and run the job again."
_WAITED = (
    "The job did nothing, since another one holds its lock.",
    "Nothing, if that one ends by itself; else look why it hangs; where it comes often, start the jobs further apart.",
)


@dataclass(frozen=True)
class _RunFacts:
    run: str = ""
    experiment: str = ""
    version: str = ""


def report_failure(
    invocation: Invocation, error: BaseException, *, status: int, notifiers: Sequence[Notifier] | None = None
) -> list[str]:
    """Sends an alert about a job that failed; returns what went wrong in doing so.

    Nothing is sent where alerts go to the log only, which has the error already, nor about a job that failed because
    one that it started did and said so, nor about an error that is marked as `told`, of which an alert went out before.

    Args:
        invocation: The job.
        error: What ended it; its `findings`, if any, are told by name.
        status: Its exit status.
        notifiers: The doors; those of the configuration when None.
    """
    config, trouble = _settings(invocation)
    if invocation.config is not None and not Path(invocation.config).exists():
        trouble = []  # a name mistyped by a person: the error says all there is to say
    if notifiers is None and set(config.alerts) <= {"log"}:
        return trouble
    found = (*as_findings(getattr(error, "findings", ())), *invocation.findings)
    if getattr(error, "told", False):
        return [*trouble, *_note_told()]
    job, facts = invocation.job or "a job", _facts()
    told = [line.rstrip() for line in str(error).strip().splitlines() if line.strip()] or [type(error).__name__]
    words = "\n".join(told[:LINES])[:CHARACTERS]
    if not isinstance(error, PricingError):
        words = f"{type(error).__name__}: {words}"
    waits = isinstance(error, LockError)  # the one that holds the lock does the work, and tells if it fails
    if waits:
        done, todo = _WAITED
    else:
        done = "The job ended without its result. Prices go on from the last good version."
        todo = _MEND if isinstance(error, PricingError) else _REPORT
    alert = Alert(
        key=f"failed-{job}-{_kind(error, found)}",
        severity="warning" if waits else "critical",
        what=f"{job} failed: {told[0]}"[:CHARACTERS],
        since=dt.datetime.now(dt.UTC).date(),
        how_bad=words,
        done=done,
        todo=todo,
        job=job,
        run=facts.run,
        version=facts.version,
        exit_status=status,
        findings=found,
    )
    of_child = bool(getattr(error, "of_child", False))
    return [*trouble, *_send(alert, config, facts, notifiers=notifiers, of_child=of_child)]


def report_findings(
    invocation: Invocation, *, status: int = 0, notifiers: Sequence[Notifier] | None = None
) -> list[str]:
    """Sends an alert about what a job noticed although it did not fail; returns what went wrong in doing so.

    Findings that only inform, severity "info", send nothing by themselves.

    Args:
        invocation: The job.
        status: Its exit status: 0, or that of a job whose result was refused.
        notifiers: The doors; those of the configuration when None.
    """
    severities = [one.severity for one in invocation.findings]
    worst: Severity = max(severities, key=RANKS.__getitem__, default="info")
    config, trouble = _settings(invocation)
    if worst == "info" or (notifiers is None and set(config.alerts) <= {"log"}):
        return trouble
    job, facts = invocation.job or "a job", _facts()
    names = sorted({one.name for one in invocation.findings})
    what, done, todo = {EXIT_REFUSED: _REFUSED, EXIT_NOT_PUBLISHED: _UNPUBLISHED}.get(status, _NOTICED)
    alert = Alert(
        key=f"findings-{job}-{'+'.join(names)}",
        severity=worst,
        what=f"{job} {what}: {', '.join(names)}",
        since=dt.datetime.now(dt.UTC).date(),
        how_bad=f"{len(invocation.findings)} finding(s)",
        done=done,
        todo=todo,
        job=job,
        run=facts.run,
        version=facts.version,
        exit_status=status or None,
        findings=tuple(invocation.findings),
    )
    return [*trouble, *_send(alert, config, facts, notifiers=notifiers)]


def _send(
    alert: Alert,
    config: MonitoringConfig,
    facts: _RunFacts,
    *,
    notifiers: Sequence[Notifier] | None,
    of_child: bool = False,
) -> list[str]:
    try:
        doors = alert_notifiers(config) if notifiers is None else notifiers
        memory = alert_memory()
        if of_child and memory.knows(_of_parent(facts.run)):
            return []
        page = run_page(facts.run, experiment=facts.experiment, pages=config.endpoints.mlflow_url)
        now, linked = dt.datetime.now(dt.UTC), replace(alert, link=page)
        delivery = deliver(linked, doors, memory=memory, every_hours=config.repeat_hours, now=now)
        parent = os.environ.get(PARENT_VARIABLE)
        if parent and alert.exit_status not in (None, EXIT_REFUSED) and delivery.told:
            memory.sent(_of_parent(parent), now=now)  # so that the job that started this one need not say it again
    except (PricingError, ImportError) as error:
        return [str(error)]
    return list(delivery.failures)


def _note_told() -> list[str]:
    """Notes that people know why this job failed, so that the job that started it need not say so again."""
    parent = os.environ.get(PARENT_VARIABLE)
    if parent:
        try:
            alert_memory().sent(_of_parent(parent), now=dt.datetime.now(dt.UTC))
        except PricingError as error:
            return [str(error)]
    return []


def _of_parent(run: str) -> str:
    return f"child-of-{run}"


def _settings(invocation: Invocation) -> tuple[MonitoringConfig, list[str]]:
    """The job's settings; the default ones where its own cannot be read, which is then said."""
    try:
        return load_config(invocation.config).monitoring, []
    except ConfigError as error:
        told = f"the configuration cannot be read, so its alert channels are unknown: {error}"
        return load_config(None).monitoring, [told]


def _facts() -> _RunFacts:
    """Tells what MLflow knows of this process's run; nothing where the job never loaded MLflow."""
    runs = sys.modules.get("pricing.runtime.mlflow_runs")
    run = None if runs is None else runs.last_run()
    if run is None:
        return _RunFacts(run=os.environ.get("MLFLOW_RUN_ID", ""))
    tags = run.data.tags
    version = tags.get("version") or tags.get("champion") or ""
    return _RunFacts(run.info.run_id, run.info.experiment_id, version)


def _kind(error: BaseException, found: Sequence[AlertFinding]) -> str:
    """Tells what tells one failure of a job from another, without figures that change from night to night."""
    if found:
        return "+".join(sorted({one.name for one in found}))
    words = re.sub(r"\d+", "#", next(iter(str(error).splitlines()), ""))
    return f"{type(error).__name__}-{hashlib.sha256(words.encode()).hexdigest()[:8]}"
