"""Read sales for a job, and leave what is wrong with them in its run, its log and a file."""

import logging
from collections.abc import Sequence
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
    """Reads sales as `load_sales` does, and leaves what was found in the active run, and in the file `beside`, if any.

    Raises:
        SourceError: See `load_sales`, as for ContractError and QualityError, at which the findings are left, too.
        ConfigError: `config.quality.accept` names a check that there is none of.
    """
    checks = list(CHECKS)
    for name in config.quality.accept:
        if name not in checks:
            near = nearest(name, checks, cutoff=0.0)
            raise ConfigError(f"data.quality.accept: there is no check {name!r}; did you mean {near}?")
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
    since = "" if read is None else str(read.dates[-1])  # people know of what was found before
    for finding in loaded.findings:
        _log.warning("%s: %s", finding.check, finding)
        if finding.level == "set_aside" and finding.last > since and not is_panel(sales):  # whose maker has told
            notice(*as_findings([finding]))
    return loaded


def _record(found: Sequence[Finding], beside: Path | None) -> None:
    mlflow.log_text(to_json(found), "quality.json")
    mlflow.set_tags(tags(found))
    if beside is not None:
        save_findings(found, beside)
