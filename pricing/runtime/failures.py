"""Say through the alert channels that a job failed, or what it noticed although it did not."""

import datetime as dt
import hashlib
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

from pricing.config import load_config
from pricing.errors import EXIT_NOT_PUBLISHED, EXIT_REFUSED, ConfigError, LockError, PricingError
from pricing.fileio import redact_text
from pricing.paths import PARENT_VARIABLE
from pricing.runtime.alerts import RANKS, Alert, alert_notifiers, as_findings, deliver, last_sent, note_sent, run_page
from pricing.runtime.invocation import Invocation

LINES, CHARACTERS = 6, 1000  # of the error in an alert, at most
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


def report_failure(invocation: Invocation, error: BaseException, *, status: int) -> list[str]:
    """Sends an alert about a job that an error ended with an exit status; returns what went wrong in doing so.

    Nothing is sent about a job that failed because one that it started did and said so (`of_child`), nor of an error
    that is marked as `told`, of which an alert went out before. An error's `findings`, if any, are told by name.
    """
    job, known = invocation.job or "a job", isinstance(error, PricingError)
    lines = [line.rstrip() for line in redact_text(str(error)).splitlines() if line.strip()] or [type(error).__name__]
    found = (*as_findings(getattr(error, "findings", ())), *invocation.findings)
    words = hashlib.sha256(re.sub(r"\d+", "#", lines[0]).encode()).hexdigest()[:8]  # figures change from night to night
    alert = Alert(
        key=f"failed-{job}-{'+'.join(sorted({one.name for one in found})) or f'{type(error).__name__}-{words}'}",
        # The job that holds a lock does the work, and tells if it fails.
        severity="warning" if isinstance(error, LockError) else "critical",
        what=f"{job} failed: {lines[0]}"[:CHARACTERS],
        since=dt.datetime.now(dt.UTC).date(),
        how_bad=("" if known else f"{type(error).__name__}: ") + "\n".join(lines[:LINES])[:CHARACTERS],
        done=_FAILED,
        todo=_MEND if known else _REPORT,
        job=job,
        exit_status=status,
        findings=found,
    )
    return _send(alert, invocation.config, error)


def report_findings(invocation: Invocation, *, status: int = 0) -> list[str]:
    """Sends an alert about what a job noticed although it did not fail; returns what went wrong in doing so.

    Findings that only inform, severity "info", send nothing by themselves.
    """
    job, names = invocation.job or "a job", ", ".join(sorted({one.name for one in invocation.findings}))
    what, done, todo = _ENDS.get(status, _ENDS[0])
    alert = Alert(
        key=f"findings-{job}-{names.replace(', ', '+')}",
        severity=max((one.severity for one in invocation.findings), key=RANKS.__getitem__, default="info"),
        what=f"{job} {what}: {names}",
        since=dt.datetime.now(dt.UTC).date(),
        how_bad=f"{len(invocation.findings)} finding(s)",
        done=done,
        todo=todo,
        job=job,
        exit_status=status or None,
        findings=tuple(invocation.findings),
    )
    return [] if alert.severity == "info" else _send(alert, invocation.config)


def _send(alert: Alert, path: str | None, error: BaseException | None = None) -> list[str]:
    """Sends an alert, with what MLflow knows of this process's run, where alerts go further than the log."""
    troubles, now, parent = list[str](), dt.datetime.now(dt.UTC), os.environ.get(PARENT_VARIABLE)
    try:
        config = load_config(path).monitoring
    except ConfigError as trouble:
        config = load_config(None).monitoring
        if path is None or Path(path).exists():  # else a person mistyped its name, and the error says so
            why = "" if str(trouble) == str(error) else f": {trouble}"
            troubles = [f"the configuration cannot be read, so its alert channels are unknown{why}"]
    if set(config.alerts) <= {"log"}:  # which has the error already
        return troubles
    runs = sys.modules.get("pricing.runtime.mlflow_runs")  # absent where the job never loaded MLflow
    run = None if runs is None else runs.last_run()
    number = os.environ.get("MLFLOW_RUN_ID", "") if run is None else run.info.run_id
    tags, experiment = ({}, "") if run is None else (run.data.tags, run.info.experiment_id)
    try:
        told = getattr(error, "told", False)
        if getattr(error, "of_child", False) and last_sent(f"child-of-{number}"):
            return troubles
        if not told:
            link = run_page(number, experiment=experiment, pages=config.endpoints.mlflow_url)
            version = tags.get("version") or tags.get("champion") or ""
            full = replace(alert, run=number, version=version, link=link)
            delivery = deliver(full, alert_notifiers(config), now=now)
            troubles += delivery.failures
            told = delivery.told and alert.exit_status not in (None, EXIT_REFUSED)
        if parent and told:
            note_sent(f"child-of-{parent}", now=now)  # so that the job that started this one need not say it again
    except (PricingError, ImportError) as trouble:
        return [*troubles, str(trouble)]
    return troubles
