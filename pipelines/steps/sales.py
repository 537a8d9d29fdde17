"""Read what a job learns from: checked sales, whose findings it leaves in its run, and calendars of future days."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow

from pricing.arrays import Bools, Days
from pricing.config_models import DataConfig
from pricing.data.calendar import Plan, holidays_for, recurring_holidays
from pricing.data.events import read_plan
from pricing.data.findings import Finding, QualityError, save_findings, tags, to_json
from pricing.data.load import LoadedSales, load_sales
from pricing.data.panel import Panel, is_panel
from pricing.data.quality import CHECKS, contract_findings
from pricing.decision.product_facts import ProductFacts
from pricing.errors import ConfigError, ContractError, SourceError, nearest
from pricing.registry import files
from pricing.registry.version import LoadedVersion
from pricing.runtime.invocation import notice
from simulation.market import simulated_sales

_log = logging.getLogger(__name__)
_NAMED = 3  # most products listed in a note
PLANS = ("promotions", "deliveries")
CHANGEABLE = ("events", *PLANS, "quality")  # after training: calendars, and how far sales may lie from their past


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
        if finding.severity == "warning" and finding.last > since and not is_panel(sales):  # whose maker has told
            notice(finding)
    return loaded


def _record(found: Sequence[Finding], beside: Path | None) -> None:
    mlflow.log_text(to_json(found), "quality.json")
    mlflow.set_tags(tags(found))
    if beside is not None:
        save_findings(found, beside)


def holiday_calendar(panel: Panel, config: DataConfig) -> Callable[[Days], Bools]:
    """Returns the function from dates to holiday flags that training and backtests take."""
    recurring = recurring_holidays(panel)

    def calendar(dates: Days) -> Bools:
        return holidays_for(dates, recurring=recurring, country=config.country, period=panel.period)

    return calendar


def with_calendars(version: LoadedVersion, config: DataConfig, *, names: Sequence[str] = CHANGEABLE) -> LoadedVersion:
    """Returns the version with those of the named settings of `data` that a configuration sets."""
    named = {name: getattr(config, name) for name in names}
    given = {name: value for name, value in named.items() if value}
    changed = version.config.model_copy(update={"data": version.config.data.model_copy(update=given)})
    return version if changed == version.config else replace(version, config=changed)


def with_plan(facts: ProductFacts, config: DataConfig) -> ProductFacts:
    """Returns the facts with the configured plans, and prints which products of these they do not have.

    Where there is no plan, or it cannot be found, what the facts have stays planned.

    Raises:
        PlanError: A plan exists and is invalid.
    """
    plans: dict[str, Plan | None] = {}
    for name in PLANS:
        try:
            plan = read_plan(config, name)
        except SourceError as error:
            print(f"note: {error}; the {name} that the version knows stay planned")
            continue
        unknown = sorted(set(plan.product_id.tolist()) - set(facts.product_ids.tolist())) if plan is not None else []
        if unknown:
            named = ", ".join(map(repr, unknown[:_NAMED]))
            print(f"note: data.{name} names {len(unknown)} products that the sales do not have, first {named}")
        plans[name] = plan
    return facts.planned(plans.get("promotions"), deliveries=plans.get("deliveries"))


def calendar_digest(panel: Panel, facts: ProductFacts) -> str:
    """Hashes the events and the plans."""
    plans = [plan.spans() for plan in (facts.promotions, facts.planned_deliveries)]
    return files.digest([*map(vars, panel.events), *plans])[:16]
