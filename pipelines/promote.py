"""Promote a version to champion if it passes every gate, and record the decision."""

import argparse
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import mlflow
import numpy as np

from pipelines.calendar import holiday_calendar
from pipelines.price_moves import judge_moves
from pipelines.production import (
    NOTHING_TO_DO,
    REFUSED_BY,
    ProductionAccess,
    call_person,
    now,
    production,
    production_decay,
)
from pipelines.publish import publish_champion
from pipelines.quiet import import_tensorflow
from pricing.config import Config, read_config_file
from pricing.config_models import DemandConfig
from pricing.data.load import load_panel_from
from pricing.errors import RegistryError, SourceError, VersionError
from pricing.markdown_text import escape_markdown
from pricing.registry import CHALLENGER, CHAMPION
from pricing.registry.audit import Action, AuditEntry
from pricing.registry.gates import (
    FOLDS,
    Verdict,
    anchors_gate,
    baseline_gates,
    champion_gates,
    comparable,
    failed,
    golden_gate,
    identified_gate,
    not_compared_gate,
    products_gate,
    state_gates,
)
from pricing.registry.mlflow_registry import RegisteredVersion
from pricing.registry.promotion import (
    move,
    record_manual_change,
    record_refusal,
    recorded_reason,
    rejection_gates,
)
from pricing.registry.version import HOLDS_ONLY_MEANING, LoadedVersion, identified_share
from pricing.runtime.cli import EXIT_REFUSED, Options, UsageError, job_options, next_lines, run_main
from pricing.runtime.inputs import fingerprint
from pricing.runtime.mlflow_runs import artifact_place, name_run, set_run_description, tracked_run
from pricing.served_config import kept_settings
from simulation.market import simulated_sales

REPORT = "promotion.md"  # the artefact of the run


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns 0 when promoted or nothing to do, 3 when refused by a gate, 2 on a known error.

    4 says that it is promoted and could not be published.

    With --check 0 says that every gate passes, 3 that one refuses, and nothing is changed.
    """
    return run_main(_promote, argv, unattended=True)


def _promote(argv: Sequence[str] | None) -> int:
    options = _options(argv)
    file = read_config_file(options.config)
    config = file.config
    with tracked_run("promote", config=config, reason=options.reason) as run, production(config) as access:
        target = access.registry.find(options.version) if options.version else access.registry.at(CHALLENGER)
        if target is None:
            return _nothing(f"{config.registry.model_name} has no {CHALLENGER}; train a model, or name a --version")
        if not options.check:
            record_manual_change(access.registry, access.audit, who=access.who, at=now())
        champion = access.registry.at(CHAMPION)
        if champion is not None and champion.number == target.number:
            _nothing(f"version {target.number} is the champion already")
            return 0 if options.check else publish_champion(access, config)  # a job before may not have got so far
        with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
            challenger = access.fetch(target.number, scratch)
            if kept := kept_settings(challenger.config, file, name=target.number):
                print(f"note: {kept}")
            incumbent = fetched_champion(access, champion, scratch=scratch, must=not options.force)
            verdicts = _judge(access, challenger, champion, incumbent, target=target, options=options, config=config)
            names = {"candidate": target.number, "champion": champion.number if champion else "none"}
            limits = config.registry.gates.price_moves
            moved, moves = judge_moves(challenger, incumbent, names=names, file=file, limits=limits)
            holds_only = challenger.holds_only
        verdicts.append(moved)
        wanted = asked(access, "promote", target.number, champion, options=options, why=_because(verdicts))
        code = decide(access, wanted, verdicts, config=config, holds_only=holds_only, moves=moves, check=options.check)
        if not code and not options.check:
            print(next_lines("serve", config=options.config, page=artifact_place(run, REPORT)))
        return code


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = job_options("promote", "Makes the challenger the champion if it passes every gate.", needs_sales=False)
    options.add_argument("--version", metavar="N", help="promote this version; absent: the challenger")
    options.add_flag("--check", help="only say what the gates find: no alias moves, and the record says nothing")
    parsed = forcible(options, argv)
    if parsed.check and parsed.force:
        raise UsageError("--check promotes nothing, and so forces nothing: give it without --force")
    return parsed


def forcible(options: Options, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses a command line that may overrule gates, which needs a reason."""
    options.add_flag("--force", help="go on although a gate fails; needs --reason")
    options.add_argument("--reason", metavar="WORDS", help="why, for the record")
    parsed = options.parse(argv)
    if parsed.force and not parsed.reason:
        raise UsageError("--force needs --reason: the record says why a gate was overruled")
    return parsed


def _because(verdicts: Sequence[Verdict]) -> str:
    missed = ", ".join(verdict.name for verdict in failed(verdicts))
    return f"fails {missed}" if missed else "passes every gate"


def _nothing(why: str) -> int:
    mlflow.set_tag("verdict", NOTHING_TO_DO)
    set_run_description(f"{NOTHING_TO_DO.capitalize()}: {why}.")
    print(f"{NOTHING_TO_DO}: {why}")
    return 0


def fetched_champion(
    access: ProductionAccess, champion: RegisteredVersion | None, *, scratch: str, must: bool
) -> LoadedVersion | None:
    """Returns the champion's files; None without a champion, or where they cannot be read and need not be.

    Raises:
        RegistryError: They must be read, and the registry lacks them.
        VersionError: They must be read, and are damaged.
    """
    try:
        return None if champion is None else access.fetch(champion.number, scratch)
    except (RegistryError, VersionError) as error:
        if must:
            raise
        print(f"note: the champion cannot be read: {error}")
        return None


def _judge(
    access: ProductionAccess,
    challenger: LoadedVersion,
    champion: RegisteredVersion | None,
    incumbent: LoadedVersion | None,
    *,
    target: RegisteredVersion,
    options: argparse.Namespace,
    config: Config,
) -> list[Verdict]:
    limits, holds_only, ours = config.registry.gates, challenger.holds_only, _units(challenger)
    same = champion is not None and champion.weights == challenger.weights_hash
    theirs = _units(incumbent) if incumbent is not None else {}
    strange = bool(theirs) and ours.keys().isdisjoint(theirs)  # of another shop: nothing else of the two compares
    verdicts = rejection_gates(access.registry, access.audit, target)
    if not same:  # the same weights have passed the baseline gates before; only the states are new
        verdicts += baseline_gates(challenger.backtest, limits, holds_only=holds_only)
    verdicts += [
        identified_gate(identified_share(challenger.demand, challenger.facts), limits, holds_only=holds_only),
        *state_gates(
            challenger=challenger.meta["state_date"],
            champion=champion.tags.get("state_date") if champion and not strange else None,
            parity=challenger.meta["checks"].get("parity"),
            limits=limits,
        ),
        golden_gate(challenger.verify(), limits),
    ]
    if champion is None:
        return verdicts
    if incumbent is None:
        lost = "the champion's files, which cannot be read"
        verdicts += [Verdict("products", None, lost, low=limits.products), Verdict("anchors", None, lost, high=0.0)]
        return verdicts if same else [*verdicts, Verdict("against_champion", None, lost, high=limits.champion_ratio)]
    verdicts.append(products_gate(ours.keys(), theirs, limits))
    if not strange:
        verdicts.append(anchors_gate(challenger.anchors.differing(incumbent.anchors)))
    if same or strange:
        return verdicts
    return verdicts + _against(access, challenger, champion, incumbent, options=options, config=config)


def _against(
    access: ProductionAccess,
    challenger: LoadedVersion,
    champion: RegisteredVersion,
    incumbent: LoadedVersion,
    *,
    options: argparse.Namespace,
    config: Config,
) -> list[Verdict]:
    """Compares the forecasts of challenger and champion on the same folds of the same sales."""
    limits, ours, theirs = config.registry.gates, challenger.config.demand, incumbent.config.demand
    figures: Mapping[str, Any] = incumbent.backtest
    if not comparable(challenger.backtest, figures, settings=(ours, theirs)):
        refit = theirs.model_copy(update={name: getattr(ours, name) for name in FOLDS})
        if refit == ours:
            return [not_compared_gate()]
        try:
            figures = _refitted(challenger, refit, options=options)
        except SourceError as error:
            if not options.force:
                raise
            return [Verdict("against_champion", None, str(error), high=limits.champion_ratio)]
    decay = production_decay(access, champion, config=config)
    return champion_gates(challenger.backtest, figures, limits, decay=decay)


def _units(version: LoadedVersion) -> dict[str, float]:
    """Returns product → typical units per period in a version; NaN where not on sale recently."""
    units = dict(zip(version.facts.product_ids.tolist(), version.facts.typical_units.tolist(), strict=True))
    return {product: units.get(product, math.nan) for product in version.demand.product_ids.tolist()}


def _refitted(challenger: LoadedVersion, settings: DemandConfig, *, options: argparse.Namespace) -> Mapping[str, Any]:
    """Backtests the champion's settings on the challenger's data and folds.

    The champion's own figures come from other days, and its weights may have been trained on the challenger's.
    """
    scored = challenger.backtest.get("data") or {}
    source = scored.get("source")
    needed = (
        f"champion and challenger were scored on different data, so the champion is refitted on the challenger's; "
        f"give --sales {source!r}, up to {scored.get('last_date')}"
    )
    if options.sales is None:
        raise SourceError(needed)
    panel = load_panel_from(
        options.sales,
        challenger.config.data,
        quarantine=options.quarantine,
        anchors=challenger.anchors,
        simulated=simulated_sales,
    )
    if str(panel.dates[-1]) > str(scored.get("last_date")):
        panel = panel.through(np.datetime64(scored["last_date"], "D"))
        panel = panel.select(np.asarray(panel.present.any(axis=1)))
    if fingerprint(panel) != scored.get("fingerprint"):
        raise SourceError(f"{options.sales}: holds other sales than those; {needed}")
    import_tensorflow()  # takes seconds; most promotions do not need it
    from pricing.demand.backtest import backtest  # noqa: PLC0415

    print(f"refitting the champion's configuration on {source}, {settings.folds} folds", flush=True)
    evaluated = backtest(
        panel,
        settings,
        calendar=holiday_calendar(panel, challenger.config.data),
        progress=lambda words: print(words, flush=True),
    )
    figures: dict[str, Any] = dict(evaluated.figures)
    mlflow.log_dict(figures, "champion_refitted.json")
    return figures


def asked(
    access: ProductionAccess,
    action: Action,
    number: str,
    champion: RegisteredVersion | None,
    *,
    options: argparse.Namespace,
    why: str,
) -> AuditEntry:
    """Makes the change that a command asks for, as it goes on record; `why` stands in for --reason."""
    run = mlflow.active_run()
    return AuditEntry(
        at=now(),
        who=access.who,
        action=action,
        why=options.reason or why,
        from_version=champion.number if champion else None,
        to_version=number,
        forced=options.force,
        run_id=run.info.run_id if run else None,
    )


def decide(
    access: ProductionAccess,
    wanted: AuditEntry,
    verdicts: Sequence[Verdict],
    *,
    config: Config,
    holds_only: bool,
    moves: str,
    check: bool = False,
) -> int:
    """Reports what the gates found, and refuses the change, or makes and publishes it; returns the exit code.

    `moves` is a table of the prices that would move furthest; with `check` nothing is changed.
    """
    missed, model, number = failed(verdicts), config.registry.model_name, wanted.to_version
    wanted = replace(
        wanted,
        why=recorded_reason(wanted.why, holds_only=holds_only),
        forced=wanted.forced and bool(missed),
        gates=[verdict.as_json() for verdict in verdicts],
    )
    text = report(model, wanted, verdicts, moves=moves)
    mlflow.log_text(text, REPORT)
    print(text)
    if check:
        _conclude(wanted, "checked", note=text)
        print(f"only checked: version {number} {_because(verdicts)}; nothing was changed", file=sys.stderr)
        return EXIT_REFUSED if missed else 0
    if missed and not wanted.forced:
        record_refusal(access.registry, access.audit, wanted)
        call_person(verdicts)
        mlflow.set_tag(REFUSED_BY, ",".join(verdict.name for verdict in missed))
        _conclude(wanted, "refused", note=text)
        stays = f"the champion stays {wanted.from_version}" if wanted.from_version else "serving prices by rule"
        print(f"refused: version {number} {_because(verdicts)}; {stays}", file=sys.stderr)
        for verdict in missed:
            print(f"- {verdict.name}: {verdict.sentence}", file=sys.stderr)
        print("each gate: docs/held.md; --force true --reason WORDS overrules them, in an emergency", file=sys.stderr)
        return EXIT_REFUSED
    try:
        entry = move(access.registry, access.audit, wanted)
    except RegistryError as error:
        _conclude(wanted, "lost", note=f"{text}\nNot made champion: {error}")
        raise
    _conclude(wanted, "rolled back" if wanted.action == "rollback" else "promoted", note=text)
    print(f"version {number} is the champion of {model} now (record {entry.sequence})")
    if holds_only:
        print(HOLDS_ONLY_MEANING)
    return publish_champion(access, config)


def _conclude(wanted: AuditEntry, verdict: str, *, note: str) -> None:
    mlflow.set_tags({"version": wanted.to_version, "verdict": verdict})
    name_run(f"{wanted.action} v{wanted.to_version}: {'forced' if wanted.forced else verdict}")
    set_run_description(note)


def report(model: str, wanted: AuditEntry, verdicts: Sequence[Verdict], *, moves: str = "") -> str:
    """Returns a Markdown report on a change; `moves` is a table of the prices that would move furthest, or empty."""
    missed = failed(verdicts)
    outcome = f"fails {len(missed)} of {len(verdicts)} gates" if missed else f"passes all {len(verdicts)} gates"
    if missed:
        outcome += " and is promoted by force" if wanted.forced else " and is refused"
    lines = [
        f"# {model} version {wanted.to_version} {outcome}",
        "",
        f"- {wanted.action}, against {wanted.from_version or 'no champion, so the baselines alone count'}",
        f"- by {wanted.who} at {wanted.at}",
        f"- why: {wanted.why}",
        "",
        "| gate | | figure | needed | what was measured |",
        "|---|---|---|---|---|",
    ]
    for verdict in verdicts:
        came = "said" if not verdict.needed else "pass" if verdict.passed else "**FAIL**"
        words = verdict.words if verdict.passed or not verdict.advice else f"{verdict.words}; {verdict.advice}"
        cells = (verdict.name, came, verdict.measured, verdict.needed or "–", escape_markdown(words))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *(["", "## Prices that would move furthest", "", moves] if moves else []), ""])


if __name__ == "__main__":
    sys.exit(main())
