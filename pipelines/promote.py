"""Promote a version: make the challenger the champion if it passes every gate."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np

from pipelines.steps.change import REPORT, decide, fetched_champion, forcible
from pipelines.steps.production import ProductionAccess, production, production_decay
from pipelines.steps.publishing import publish_champion
from pipelines.steps.sales import holiday_calendar
from pipelines.steps.verdict import nothing_to_do
from pricing.config import Config, read_config_file, served_config
from pricing.config_models import DemandConfig, GatesConfig
from pricing.data.etl_output import sample_of
from pricing.data.load import load_panel_from
from pricing.data.panel import Panel
from pricing.errors import EXIT_REFUSED, SourceError
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
from pricing.registry.given_prices import given_prices
from pricing.registry.knowledge import identified_share
from pricing.registry.mlflow_registry import RegisteredVersion
from pricing.registry.promotion import rejection_gates
from pricing.registry.version import LoadedVersion
from pricing.runtime.cli import flag, job, next_lines
from pricing.runtime.mlflow_runs import artifact_place, fingerprint, tracked_run
from simulation.market import simulated_sales

UNATTENDED = (
    "From now on its prices go live without a person: decision.approve_beyond is null. With 0.05 every move of more "
    "than 5 % waits until somebody approves it in the console (console/README.md)"
)
_LOST = "the champion's files, which cannot be read"


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
        rivals = _Rivals(challenger, champion, incumbent)
        verdicts = rejection_gates(registry, access.audit, target)
        verdicts += rivals.own_gates(file.config.registry.gates)
        if rivals.comparable:
            verdicts += _forecast_gates(rivals, access, file.config, sales=sales, quarantine=quarantine, force=force)

        wanted = replace(access.change("promote", target.number, champion=champion, why=reason or ""), forced=force)
        code = decide(access, wanted, verdicts, versions=(challenger, incumbent), file=file, check=check)
        if code == EXIT_REFUSED or check:
            return code
        served = served_config(challenger.config, file, name=target.number).config.decision
        if champion is None and served.approve_beyond is None:
            print(UNATTENDED)
        if not code:
            print(next_lines("serve", config=config, page=artifact_place(run, REPORT)))
        return code


@dataclass(frozen=True)
class _Rivals:
    """A challenger, the champion, and the champion's files: None where they cannot be read, and need not be."""

    challenger: LoadedVersion
    champion: RegisteredVersion | None
    incumbent: LoadedVersion | None

    @cached_property
    def same_weights(self) -> bool:
        """True for a refresh of the champion: its weights have passed the gates on forecasts before."""
        return self.champion is not None and self.champion.weights == self.challenger.weights_hash

    @cached_property
    def strangers(self) -> bool:
        """True where the two are of different shops: nothing but their products can be compared."""
        if self.incumbent is None:
            return False
        return not np.isin(self.challenger.demand.product_ids, self.incumbent.demand.product_ids).any()

    @property
    def comparable(self) -> bool:
        """True where their forecasts are to be compared."""
        return self.champion is not None and not self.same_weights and not self.strangers

    def own_gates(self, limits: GatesConfig) -> list[Verdict]:
        """Judges the challenger by itself, and that it knows what the champion knows."""
        challenger = self.challenger
        holds_only = challenger.holds_only
        share = identified_share(challenger.demand, challenger.facts)
        return [
            *([] if self.same_weights else baseline_gates(challenger.backtest, limits, holds_only=holds_only)),
            identified_gate(share, limits, holds_only=holds_only),
            *state_gates(
                challenger=challenger.meta["state_date"],
                champion=self.champion.tags.get("state_date") if self.champion and not self.strangers else None,
                parity=challenger.meta["checks"].get("parity"),
            ),
            golden_gate(challenger.verify(), limits),
            *self._knowledge_gates(limits),
        ]

    def _knowledge_gates(self, limits: GatesConfig) -> list[Verdict]:
        """Judges that the challenger knows the champion's products and anchors."""
        if self.champion is None:
            return []
        if self.incumbent is None:
            return [
                Verdict("products", None, _LOST, low=limits.products),
                Verdict("anchors", None, _LOST, high=0.0),
            ]
        verdicts = [products_gate(_units(self.challenger).keys(), _units(self.incumbent), limits)]
        if not self.strangers:
            verdicts.append(anchors_gate(self.challenger.anchors.differing(self.incumbent.anchors)))
        return verdicts


def _units(version: LoadedVersion) -> dict[str, float]:
    """Returns product → typical units per period in a version; NaN where not on sale recently."""
    units = dict(zip(version.facts.product_ids.tolist(), version.facts.typical_units.tolist(), strict=True))
    return {product: units.get(product, math.nan) for product in version.demand.product_ids.tolist()}


def _forecast_gates(
    rivals: _Rivals,
    access: ProductionAccess,
    config: Config,
    *,
    sales: str | None,
    quarantine: Path | None,
    force: bool,
) -> list[Verdict]:
    """Compares the forecasts of challenger and champion on the same folds of the same sales."""
    challenger = rivals.challenger
    champion = rivals.champion
    incumbent = rivals.incumbent
    limits = config.registry.gates
    if champion is None or incumbent is None:
        return [Verdict("against_champion", None, _LOST, high=limits.champion_ratio)]
    ours = challenger.config.demand
    theirs = incumbent.config.demand
    figures: Mapping[str, Any] = incumbent.backtest
    if not comparable(challenger.backtest, figures, settings=(ours, theirs)):
        refit = theirs.model_copy(update={name: getattr(ours, name) for name in FOLDS})
        if refit == ours:
            return [not_compared_gate()]
        try:
            figures = _refitted(
                challenger, refit, panel=_panel(challenger, sales, config=config, quarantine=quarantine)
            )
        except SourceError as error:
            if not force:
                raise
            return [Verdict("against_champion", None, str(error), high=limits.champion_ratio)]
    decay = production_decay(access, champion, config=config)
    return champion_gates(challenger.backtest, figures, limits, decay=decay)


def _panel(challenger: LoadedVersion, sales: str | None, *, config: Config, quarantine: Path | None) -> Panel:
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
        sample_of(sales),
        challenger.config.data,
        quarantine=quarantine,
        given=partial(given_prices, config),
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
    from pricing.demand.backtest import backtest  # noqa: PLC0415 - TensorFlow, which most promotions do not need

    print(f"refitting the champion's configuration on the challenger's sales, {settings.folds} folds", flush=True)
    calendar = holiday_calendar(panel, challenger.config.data)
    figures: dict[str, Any] = dict(backtest(panel, settings, calendar=calendar, progress=print).figures)
    mlflow.log_dict(figures, "champion_refitted.json")
    return figures
