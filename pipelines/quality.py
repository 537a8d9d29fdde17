"""Read sales for a job, say what is wrong with them, and stop the job where it would spoil what is learnt."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import mlflow

from pricing.config_models import DataConfig
from pricing.data.anchors import Anchors
from pricing.data.load import LoadedSales, load_sales
from pricing.data.panel import Event, Panel, is_panel
from pricing.data.plausibility import DataIssue, findings
from pricing.data.quality import FILE, MEANINGS, Finding, Quality, QualityError, ordered, save_quality, to_json
from pricing.data.quality_stage import contract_findings
from pricing.errors import ConfigError, ContractError, PlausibilityError, nearest
from pricing.fileio import redact_url
from pricing.runtime.alerts import as_findings
from pricing.runtime.cli import notice
from simulation.market import simulated_sales

_TAG_CHARACTERS = 5000
_log = logging.getLogger(__name__)


def read_checked(
    sales: str,
    config: DataConfig,
    *,
    quarantine: str | Path | None = None,
    past: Panel | None = None,
    known: Panel | None = None,
    anchors: Anchors | None = None,
    events: tuple[Event, ...] | None = None,
    beside: Path | None = None,
) -> LoadedSales:
    """Reads sales as `load_sales` does, and leaves what was found in the active run and in a file.

    Args:
        sales: See `load_sales`, as for the others not named here.
        config: See there.
        quarantine: See there.
        past: See there.
        known: See there.
        anchors: See there.
        events: See there.
        beside: A file for the findings, left even where they stop the job.

    Raises:
        SourceError: See `load_sales`.
        ContractError: See there.
        QualityError: See there.
        ConfigError: `config.quality.accept` names a finding that there is none of.
    """
    for name in config.quality.accept:
        if name not in MEANINGS:
            near = nearest(name, MEANINGS)
            hint = f"; did you mean {near}?" if near else "; docs/data_quality.md lists them"
            raise ConfigError(f"data.quality.accept: there is no finding {name!r}{hint}")
    try:
        loaded = load_sales(
            sales,
            config,
            quarantine=quarantine,
            past=past,
            known=known,
            anchors=anchors,
            events=events,
            simulated=simulated_sales,
        )
    except QualityError as error:
        _record(error.quality, beside)
        raise
    except ContractError as error:
        _record(Quality(ordered(contract_findings(error.violations))), beside)
        raise
    _record(loaded.quality, beside)
    if not is_panel(sales):  # of a saved panel, the job that made it has told
        notice(*as_findings(_unread(loaded.quality.of("quarantine"), known or past)))
    for finding in loaded.quality.findings:
        _log.warning("%s: %s", finding.name, finding)
    return loaded


def report_findings(
    loaded: LoadedSales, config: DataConfig, *, sales: str, may_refuse: bool = True, beside: Path | None = None
) -> list[str]:
    """Looks for errors of whole histories; logs each, in the active run as the tag `data_findings` and a text, too.

    Args:
        loaded: The job's sales, and what was found while reading them.
        config: Its `plausibility` holds the limits, and whether findings may stop a job.
        sales: Source of the sales, for the message; passwords are removed.
        may_refuse: True for jobs that findings may stop.
        beside: A file for all findings.

    Returns:
        One line per finding, those of the reading included.

    Raises:
        PlausibilityError: A finding would spoil training, and the configuration lets it stop a job.
    """
    found = findings(loaded.panel, config.plausibility)
    lines = [str(finding) for finding in found]
    names = ", ".join(f"{finding.name} {finding.count}" for finding in found)
    mlflow.set_tag("data_findings", names[:_TAG_CHARACTERS] or "none")
    for line in lines:
        _log.warning("%s", line)
    if lines:
        mlflow.log_text("\n".join(lines) + "\n", "data_findings.txt")
    refuses = may_refuse and config.plausibility.refuse
    spoilt = [finding for finding in found if finding.blocks_training and refuses]
    known = {one.name for one in loaded.quality.findings}
    also = [_finding(issue, stops=issue in spoilt) for issue in found if issue in spoilt or issue.name not in known]
    _record(replace(loaded.quality, findings=ordered([*loaded.quality.findings, *also])), beside)
    if spoilt:
        raise PlausibilityError(_refusal(spoilt, redact_url(sales)))
    return [*(str(finding) for finding in loaded.quality.findings), *lines]


def _unread(found: Sequence[Finding], known: Panel | None) -> list[Finding]:
    """Leaves out findings of single rows that the champion has read without them: people were told that night."""
    if known is None:
        return list(found)
    until = str(known.dates[-1])
    return [one for one in found if not one.last_day or one.last_day > until]


def _record(quality: Quality, beside: Path | None) -> None:
    mlflow.log_text(to_json(quality), FILE)
    mlflow.set_tags(quality.tags())
    if beside is not None:
        save_quality(quality, beside)


def _finding(issue: DataIssue, *, stops: bool) -> Finding:
    return Finding(
        issue.name, "stop" if stops else "note", issue.what, issue.advice, rows=issue.count, examples=issue.first
    )


def _refusal(spoilt: Sequence[DataIssue], where: str) -> str:
    reasons = " Also, ".join(f"{finding}." for finding in spoilt)
    return (
        f"{where} would spoil what is learnt from it: {reasons} "
        "If all is as it should be, set data.plausibility.refuse to false"
    )
