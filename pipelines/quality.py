"""Read sales for a job, and leave what is wrong with them in its run, its log and a file."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mlflow

from pricing.config_models import DataConfig
from pricing.data.findings import Finding, QualityError, save_findings, tags, to_json
from pricing.data.load import LoadedSales, load_sales
from pricing.data.panel import Panel, is_panel
from pricing.data.quality import CHECKS, contract_findings
from pricing.errors import ConfigError, ContractError, nearest
from pricing.runtime.alerts import as_findings
from pricing.runtime.cli import notice
from simulation.market import simulated_sales

_log = logging.getLogger(__name__)


def read_checked(
    sales: str,
    config: DataConfig,
    *,
    past: Panel | None = None,
    known: Panel | None = None,
    beside: Path | None = None,
    **others: Any,
) -> LoadedSales:
    """Read sales as `load_sales` does, and leave what was found in the active run and in a file.

    Args:
        sales: See `load_sales`, as for the others not named here.
        config: See there.
        past: See there.
        known: See there.
        beside: A file for the findings, left even where they stop the job.
        others: See there.

    Raises:
        SourceError: See `load_sales`.
        ContractError: See there.
        QualityError: See there.
        ConfigError: `config.quality.accept` names a check that there is none of.
    """
    checks = list(CHECKS)
    for name in config.quality.accept:
        if name not in checks:
            near = nearest(name, checks)
            hint = f"; did you mean {near}?" if near else "; docs/data_quality.md lists them"
            raise ConfigError(f"data.quality.accept: there is no check {name!r}{hint}")
    try:
        loaded = load_sales(sales, config, past=past, known=known, simulated=simulated_sales, **others)
    except QualityError as error:
        _record(error.findings, beside)
        raise
    except ContractError as error:
        _record(contract_findings(error.violations), beside)
        raise
    _record(loaded.findings, beside)
    read = known or past
    new = [
        one for one in loaded.findings if read is None or one.last > str(read.dates[-1])
    ]  # people know of the others
    if not is_panel(sales):  # of a saved panel, the job that made it has told
        notice(*as_findings([one for one in new if one.level == "set_aside"]))
    for finding in loaded.findings:
        _log.warning("%s: %s", finding.check, finding)
    return loaded


def _record(findings: Iterable[Finding], beside: Path | None) -> None:
    found = list(findings)
    mlflow.log_text(to_json(found), "quality.json")
    mlflow.set_tags(tags(found))
    if beside is not None:
        save_findings(found, beside)
