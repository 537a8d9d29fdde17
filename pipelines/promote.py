"""Promote a version to champion if it passes every gate, and record the decision."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np

from pipelines.calendar import holiday_calendar
from pipelines.change import REPORT, decide, fetched_champion
from pipelines.commands import import_tensorflow
from pipelines.production import ProductionAccess, nothing_to_do, production, production_decay
from pipelines.publish import publish_champion
from pricing.config import Config, read_config_file
from pricing.config_models import DemandConfig
from pricing.data.etl_output import read_partitions, sample_of
from pricing.data.load import load_panel_from
from pricing.data.panel import Panel
from pricing.errors import SourceError
from pricing.registry import CHALLENGER, CHAMPION
from pricing.registry.gates import (
    FOLDS,
    Verdict,
    anchors_gate,
    baseline_gates,
    champion_gates,
    comparable,
    golden_gate,
    identified_gate,
    not_compared_gate,
    products_gate,
    state_gates,
)
from pricing.registry.mlflow_registry import RegisteredVersion
from pricing.registry.promotion import rejection_gates
from pricing.registry.version import LoadedVersion, identified_share
from pricing.runtime.cli import flag, job, next_lines
from pricing.runtime.mlflow_runs import artifact_place, fingerprint, tracked_run
from simulation.market import simulated_sales


def forcible(function: Callable[..., int]) -> Callable[..., int]:
    """Adds the options that overrule gates, for the record with a reason."""

    def check(context: click.Context, _parameter: click.Parameter, reason: str | None) -> str | None:
        if context.params["force"] and not reason:
            raise click.UsageError("--force needs --reason: the record says why a gate was overruled")
        return reason

    forced = flag("--force", help="go on although a gate fails; needs --reason", is_eager=True)
    return forced(click.option("--reason", callback=check, metavar="WORDS", help="why, for the record")(function))


@job("promote", sales="optional", unattended=True)
@click.option("--version", metavar="N", help="promote this version; absent: the challenger")
@flag("--check", help="only say what the gates find: no alias moves, and the record says nothing")
@forcible
def main(
    *,
    sales: str | None,
    quarantine: Path | None,
    config: str | None,
    version: str | None,
    check: bool,
    force: bool,
    reason: str | None,
) -> int:
    """Makes the challenger the champion if it passes every gate.

    Exit codes: 0 promoted, or nothing to do; 2 an error; 3 a gate refuses; 4 promoted and not published. With --check:
    0 every gate passes, 3 one refuses.
    """
    if check and force:
        raise click.UsageError("--check promotes nothing, and so forces nothing: give it without --force")
    file = read_config_file(config)
    with tracked_run("promote", config=file.config, reason=reason) as run, production(file.config) as access:
        registry = access.registry
        target = registry.find(version) if version else registry.at(CHALLENGER)
        if target is None:
            return nothing_to_do(f"{registry.model_name} has no {CHALLENGER}; train a model, or name a --version")
        if not check:
            access.record_manual_change()
        champion = registry.at(CHAMPION)
        if champion is not None and champion.number == target.number:
            nothing_to_do(f"version {target.number} is the champion already")
            return 0 if check else publish_champion(access, file.config)  # a job before may not have got so far
        challenger = access.fetch(target.number)
        incumbent = fetched_champion(access, champion, must=not force)
        verdicts = rejection_gates(registry, access.audit, target)
        verdicts += _own_gates(challenger, champion, incumbent, config=file.config)
        differ = champion is not None and challenger.weights_hash != champion.weights
        if champion is not None and differ and not _stranger(challenger, incumbent):
            read = partial(_panel, challenger, sales, quarantine=quarantine)
            verdicts += _against(access, challenger, champion, incumbent, read=read, force=force, config=file.config)
        wanted = replace(access.change("promote", target.number, champion=champion, why=reason or ""), forced=force)
        code = decide(access, wanted, verdicts, versions=(challenger, incumbent), file=file, check=check)
        if not code and not check:
            print(next_lines("serve", config=config, page=artifact_place(run, REPORT)))
        return code


def _stranger(challenger: LoadedVersion, incumbent: LoadedVersion | None) -> bool:
    """Tells that the two are of different shops: nothing but their products can be compared."""
    return incumbent is not None and not np.isin(challenger.demand.product_ids, incumbent.demand.product_ids).any()


def _own_gates(
    challenger: LoadedVersion,
    champion: RegisteredVersion | None,
    incumbent: LoadedVersion | None,
    *,
    config: Config,
) -> list[Verdict]:
    """Judges the challenger by itself, and that it knows what the champion knows."""
    limits, holds_only, verdicts = config.registry.gates, challenger.holds_only, list[Verdict]()
    strange = _stranger(challenger, incumbent)
    if champion is None or champion.weights != challenger.weights_hash:  # the same weights have passed these before
        verdicts += baseline_gates(challenger.backtest, limits, holds_only=holds_only)
    verdicts += [
        identified_gate(identified_share(challenger.demand, challenger.facts), limits, holds_only=holds_only),
        *state_gates(
            challenger=challenger.meta["state_date"],
            champion=champion.tags.get("state_date") if champion and not strange else None,
            parity=challenger.meta["checks"].get("parity"),
        ),
        golden_gate(challenger.verify(), limits),
    ]
    if champion is not None and incumbent is None:
        lost = "the champion's files, which cannot be read"
        verdicts += [Verdict("products", None, lost, low=limits.products), Verdict("anchors", None, lost, high=0.0)]
    elif incumbent is not None:
        verdicts.append(products_gate(_units(challenger).keys(), _units(incumbent), limits))
        verdicts += [] if strange else [anchors_gate(challenger.anchors.differing(incumbent.anchors))]
    return verdicts


def _units(version: LoadedVersion) -> dict[str, float]:
    """Returns product → typical units per period in a version; NaN where not on sale recently."""
    units = dict(zip(version.facts.product_ids.tolist(), version.facts.typical_units.tolist(), strict=True))
    return {product: units.get(product, math.nan) for product in version.demand.product_ids.tolist()}


def _against(
    access: ProductionAccess,
    challenger: LoadedVersion,
    champion: RegisteredVersion,
    incumbent: LoadedVersion | None,
    *,
    read: Callable[[], Panel],
    force: bool,
    config: Config,
) -> list[Verdict]:
    """Compares the forecasts of challenger and champion on the same folds of the same sales, which `read` reads."""
    limits = config.registry.gates
    if incumbent is None:
        lost = "the champion's files, which cannot be read"
        return [Verdict("against_champion", None, lost, high=limits.champion_ratio)]
    ours, theirs = challenger.config.demand, incumbent.config.demand
    figures: Mapping[str, Any] = incumbent.backtest
    if not comparable(challenger.backtest, figures, settings=(ours, theirs)):
        refit = theirs.model_copy(update={name: getattr(ours, name) for name in FOLDS})
        if refit == ours:
            return [not_compared_gate()]
        try:
            figures = _refitted(challenger, refit, panel=read())
        except SourceError as error:
            if not force:
                raise
            return [Verdict("against_champion", None, str(error), high=limits.champion_ratio)]
    return champion_gates(challenger.backtest, figures, limits, decay=production_decay(access, champion, config=config))


def _panel(challenger: LoadedVersion, sales: str | None, *, quarantine: Path | None) -> Panel:
    """Reads the sales that a challenger was scored on.

    Raises:
        SourceError: They are not named, or are others.
    """
    scored = challenger.backtest.get("data") or {}
    needed = (
        f"champion and challenger were scored on different data, so the champion is refitted on the challenger's; "
        f"give --sales {scored.get('source')!r}, up to {scored.get('last_date')}"
    )
    if sales is None:
        raise SourceError(needed)
    panel = load_panel_from(
        sample_of(sales) if read_partitions(sales) else sales,
        challenger.config.data,
        quarantine=quarantine,
        anchors=challenger.anchors,
        simulated=simulated_sales,
    )
    last = np.datetime64(scored["last_date"], "D")
    if panel.dates[-1] > last:
        panel = panel.through(last)
        panel = panel.select(np.asarray(panel.present.any(axis=1)))
    if fingerprint(panel) != scored.get("fingerprint"):
        raise SourceError(f"--sales hold other sales than those; {needed}")
    return panel


def _refitted(challenger: LoadedVersion, settings: DemandConfig, *, panel: Panel) -> Mapping[str, Any]:
    """Backtests the champion's settings on the challenger's data and folds.

    The champion's own figures come from other days, and its weights may have been trained on the challenger's.
    """
    import_tensorflow()  # takes seconds; most promotions do not need it
    from pricing.demand.backtest import backtest  # noqa: PLC0415

    print(f"refitting the champion's configuration on the challenger's sales, {settings.folds} folds", flush=True)
    calendar = holiday_calendar(panel, challenger.config.data)
    figures: dict[str, Any] = dict(backtest(panel, settings, calendar=calendar, progress=print).figures)
    mlflow.log_dict(figures, "champion_refitted.json")
    return figures
