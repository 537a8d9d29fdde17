"""Promote a version if it passes every gate, go back to an earlier one, and show the record of who did so and why."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np

from pipelines.anchor import register_with_anchors
from pipelines.freeze import control_record, sentence
from pipelines.publish import publish_champion
from pipelines.steps.change import REPORT, decide, fetched_champion
from pipelines.steps.production import ProductionAccess, nothing_to_do, production, production_decay
from pipelines.steps.sales import holiday_calendar
from pricing.config import Config, load_config, read_config_file, served_config
from pricing.config_models import DemandConfig
from pricing.data.etl_output import read_partitions, sample_of
from pricing.data.load import load_panel_from
from pricing.data.panel import Panel
from pricing.errors import EXIT_REFUSED, ConfigError, RegistryError, SourceError
from pricing.objects import open_store
from pricing.registry import CHALLENGER, CHAMPION, PREVIOUS
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
from pricing.registry.knowledge import identified_share
from pricing.registry.mlflow_registry import RegisteredVersion
from pricing.registry.promotion import AuditEntry, earlier_champion, rejection_gates, rejections, weights_of
from pricing.registry.publish import champion_is_published
from pricing.registry.published_store import published_url
from pricing.registry.version import LoadedVersion
from pricing.runtime.cli import flag, job, next_lines, typed
from pricing.runtime.mlflow_runs import artifact_place, fingerprint, tracked_run
from simulation.market import simulated_sales

SHOWN = 20  # entries about prices in the history, where not all are asked for
UNATTENDED = (
    "From now on its prices go live without a person: decision.approve_beyond is null. With 0.05 every move of more "
    "than 5 % waits until somebody approves it in the console (console/README.md)"
)


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
        if code == EXIT_REFUSED or check:
            return code
        served = served_config(challenger.config, file, name=target.number).config.decision
        if champion is None and served.approve_beyond is None:
            print(UNATTENDED)
        if not code:
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
    from pricing.demand.backtest import backtest  # noqa: PLC0415 - TensorFlow, which most promotions do not need

    print(f"refitting the champion's configuration on the challenger's sales, {settings.folds} folds", flush=True)
    calendar = holiday_calendar(panel, challenger.config.data)
    figures: dict[str, Any] = dict(backtest(panel, settings, calendar=calendar, progress=print).figures)
    mlflow.log_dict(figures, "champion_refitted.json")
    return figures


@job("rollback", unattended=True)
@click.option("--version", metavar="N", help="the version to go back to; absent: the last champion before this one")
@forcible
def rollback(*, config: str | None, version: str | None, force: bool, reason: str | None) -> int:
    """Makes an earlier version the champion again, with the anchors in force.

    Exit codes: 0 rolled back, or nothing to do; 2 an error; 3 a gate refuses; 4 rolled back and not published.
    """
    file = read_config_file(config)
    with tracked_run("rollback", config=file.config, reason=reason), production(file.config) as access:
        access.record_manual_change()
        champion = access.registry.at(CHAMPION)
        target = access.registry.find(version) if version else _earlier(access, champion)
        if champion is not None and champion.number == target.number:
            nothing_to_do(f"version {target.number} is the champion already")
            return publish_champion(access, file.config)  # a job before may not have got so far
        number, found = target.number, access.fetch(target.number)
        found.verify()
        anchors = access.anchors_for(found)
        if found.anchors.differing(anchors):
            number = register_with_anchors(found, anchors, access=access, parent=number)
            found = access.fetch(number)
        incumbent = fetched_champion(access, champion, must=False)  # it may be why one goes back
        why = reason or f"back to {version or 'the last champion before'}"
        wanted = replace(access.change("rollback", number, champion=champion, why=why), forced=force)
        verdicts = rejection_gates(access.registry, access.audit, target)
        code = decide(access, wanted, verdicts, versions=(found, incumbent), file=file)
        states = str(found.meta["state_date"])
        if code != EXIT_REFUSED and champion is not None and states < champion.tags.get("state_date", ""):
            print(f"its states end on {states}, the last champion's on {champion.tags['state_date']}:")
            print(f"`{typed('refresh')}` carries them forward, and `{typed('promote')}` puts them in force")
        return code


def _earlier(access: ProductionAccess, champion: RegisteredVersion | None) -> RegisteredVersion:
    """Returns the last champion with other weights that was not itself rolled back from, by the audit record.

    The alias `previous` may be wrong after an interrupted promotion; it is used only where the record has no entry,
    such as in a new database. Without that alias the last other champion counts, even one with the same weights.
    """
    versions = weights_of(access.registry)
    record = access.audit.entries(access.registry.identity())
    bad = rejections(record, versions)
    number, weights = (champion.number, champion.weights) if champion else ("none", "")
    others = {one: its for one, its in versions.items() if one != number and one not in bad}
    found = earlier_champion(record, others, weights=weights)
    if found is None:
        previous = access.registry.aliases().get(PREVIOUS)
        found = previous or earlier_champion(record, others, weights="")
        if previous is not None and versions.get(previous) == weights:
            found = None
    if found not in others:
        raise RegistryError(
            f"there is no earlier champion to go back to: the champion is {number}, and no other version has been one, "
            "still exists and was not rolled back from; name a --version, or freeze prices meanwhile"
        )
    return access.registry.find(found)


@job("history")
@flag(
    "--all",
    "everything",
    help="also what was refused, or lost to another at the same time, and older words of prices",
)
def history(*, config: str | None, everything: bool) -> int:
    """Shows what was in production when, and what persons said of prices."""
    settings = load_config(config)
    with production(settings) as access:
        print("\n".join([*_told(access, everything=everything), *told_of_prices(settings, everything=everything)]))
    return 0


def told_of_prices(config: Config, *, everything: bool) -> list[str]:
    """Formats what persons said of prices, newest last: the last SHOWN, or `everything`."""
    entries = control_record(config).entries()
    said = [f"\nSaid of prices, {len(entries):,} entries"] if entries else []
    for entry in entries if everything else entries[-SHOWN:]:
        try:
            words = sentence(entry.read())
        except ConfigError as error:
            words = f"cannot be read ({error})"
        said.append(f"{entry.at}  {entry.who}: {words}")
    return said


def _told(access: ProductionAccess, *, everything: bool) -> list[str]:
    registry = access.registry
    versions, aliases = weights_of(registry), registry.aliases()
    if not versions:
        return [f"{registry.model_name} has no versions on {registry.uri} yet"]
    access.record_manual_change()
    entries = access.audit.entries(registry.identity())
    said = [f"{registry.model_name} on {registry.uri}"]
    said.append("  ".join(f"{alias}: {number}" for alias, number in sorted(aliases.items())) or "no aliases")
    if CHAMPION in aliases:
        try:
            if not champion_is_published(registry, open_store(published_url())):
                said.append(f"the champion is not published, `{typed('publish')}` mends it")
        except SourceError as error:
            said.append(f"the champion is not published, or cannot be looked up: {error}")
    said += ["", *(_lines(entries, everything=everything) if entries else ["nothing was promoted yet"])]
    for number, rejection in sorted(rejections(entries, versions).items(), key=lambda pair: int(pair[0])):
        back = f"`{typed('promote')} --version {number} --force true --reason WORDS` brings it back"
        said.append(f"version {number} is rejected: {rejection.words()}; {back}")
    return said


def _lines(entries: Sequence[AuditEntry], *, everything: bool) -> list[str]:
    """Formats the record as a table, newest last: each champion with its period, or `everything`."""
    done = [entry for entry in entries if entry.outcome == "done"]
    until = {entry.sequence: later.at for entry, later in pairwise(done)}
    rows = [("#", "champion", "from", "until", "how", "who", "why")]
    for entry in entries if everything else done:
        to, how = entry.to_version or "none", entry.action.replace("_", " ") + (", forced" if entry.forced else "")
        end = until.get(entry.sequence, "now")
        if entry.outcome != "done":
            to, how, end = f"({to})", f"{how}: {entry.outcome}", ""
        rows.append((str(entry.sequence), to, entry.at, end, how, entry.who, entry.why))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
