"""Promote a version to champion if it passes every gate, and record the decision."""

import argparse
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import mlflow
import numpy as np

from pipelines.calendar import holiday_calendar
from pipelines.history import report
from pipelines.price_moves import judge_moves
from pipelines.production import (
    NOTHING_TO_DO,
    REFUSED_BY,
    ProductionAccess,
    call_person,
    now,
    production,
    production_error,
)
from pipelines.publish import publish_champion
from pipelines.quiet import import_tensorflow
from pricing.config import Config, read_config_file
from pricing.config_models import GatesConfig
from pricing.data.load import load_panel_from
from pricing.errors import RegistryError, SourceError, VersionError
from pricing.registry import CHALLENGER, CHAMPION
from pricing.registry.gates import (
    FOLDS,
    ProductionError,
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
    unmeasured,
)
from pricing.registry.mlflow_registry import RegisteredVersion
from pricing.registry.promotion import (
    PromotionRequest,
    move,
    record_manual_change,
    record_refusal,
    recorded_reason,
    rejected,
    rejections,
)
from pricing.registry.version import HOLDS_ONLY_MEANING, LoadedVersion, identified_share
from pricing.runtime.cli import EXIT_REFUSED, UsageError, job_options, next_lines, run_main
from pricing.runtime.inputs import fingerprint
from pricing.runtime.mlflow_runs import artifact_place, name_run, set_run_description, tracked_run
from pricing.served_config import kept_settings
from simulation.market import simulated_sales

_OF_FORECASTS = ("beats_naive", "against_champion", "bias", "coverage")  # gates, or how their names begin


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
        target = _target(access, options.version)
        if target is None:
            return _nothing(f"{config.registry.model_name} has no {CHALLENGER}; {_instead(access)}")
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
            incumbent = _incumbent(access, champion, scratch=scratch, must=not options.force)
            verdicts = _judge(access, challenger, champion, incumbent, target=target, options=options, config=config)
            moved, table = judge_moves(
                challenger,
                incumbent if isinstance(incumbent, LoadedVersion) else None,
                names={"candidate": target.number, "champion": champion.number if champion else "none"},
                file=file,
                limits=config.registry.gates.price_moves,
                without=_why_without(incumbent),
            )
            verdicts.append(moved)
            holds_only = challenger.holds_only
        requested = PromotionRequest(
            action="promote",
            to=target.number,
            expected=champion.number if champion else None,
            who=access.who,
            at=now(),
            why=recorded_reason(options.reason or _because(verdicts), holds_only=holds_only),
            forced=options.force and bool(failed(verdicts)),
            gates=tuple(verdict.as_json() for verdict in verdicts),
            run_id=run.info.run_id,
        )
        model = config.registry.model_name
        if options.check:
            return _checked(requested, verdicts, model=model, table=table)
        code = _decide(access, requested, verdicts, model=model, holds_only=holds_only, table=table)
        if code == 0:
            code = publish_champion(access, config)
            print(next_lines("serve", config=options.config, page=artifact_place(run, "promotion.md")))
        return code


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = job_options("promote", "Makes the challenger the champion if it passes every gate.", needs_sales=False)
    options.add_argument("--version", metavar="N", help="promote this version; absent: the challenger")
    options.add_flag("--force", help="promote although a gate fails; needs --reason")
    options.add_argument("--reason", metavar="WORDS", help="why, for the record")
    options.add_flag("--check", help="only say what the gates find: no alias moves, and the record says nothing")
    parsed = options.parse(argv)
    if parsed.check and parsed.force:
        raise UsageError("--check promotes nothing, and so forces nothing: give it without --force")
    if parsed.force and not parsed.reason:
        raise UsageError("--force needs --reason: the record says why a gate was overruled")
    return parsed


def _target(access: ProductionAccess, reference: str | None) -> RegisteredVersion | None:
    return access.registry.find(reference) if reference else access.registry.at(CHALLENGER)


def _instead(access: ProductionAccess) -> str:
    """What to do where no version waits: one that was rolled back from waits no more, and is named."""
    versions = {version.number: version.weights for version in access.registry.versions()}
    record = access.audit.entries(access.registry.identity()) if versions else []
    found = rejections(record, versions)
    left = sorted((number for number in set(versions) & set(found) if found[number].number == number), key=int)
    if not left:
        return "train a model first"
    return (
        f"version {left[-1]} was rolled back from and returns by force alone: train a model, or give "
        f"--version {left[-1]} --force true --reason WHY"
    )


def _because(verdicts: Sequence[Verdict]) -> str:
    missed = ", ".join(verdict.name for verdict in failed(verdicts))
    return f"fails {missed}" if missed else "passes every gate"


def _nothing(why: str) -> int:
    mlflow.set_tag("verdict", NOTHING_TO_DO)
    set_run_description(f"{NOTHING_TO_DO.capitalize()}: {why}.")
    print(f"{NOTHING_TO_DO}: {why}")
    return 0


def _incumbent(
    access: ProductionAccess, champion: RegisteredVersion | None, *, scratch: str, must: bool
) -> LoadedVersion | RegistryError | VersionError | None:
    """Returns the champion's files; None without a champion, the error where they cannot be read and need not be.

    Raises:
        RegistryError: They must be read, and the registry lacks them.
        VersionError: They must be read, and are damaged.
    """
    if champion is None:
        return None
    try:
        return access.fetch(champion.number, scratch)
    except (RegistryError, VersionError) as error:
        if must:
            raise
        return error


def _why_without(incumbent: LoadedVersion | RegistryError | VersionError | None) -> str:
    return "there is no champion yet" if incumbent is None else f"the champion cannot be read: {incumbent}"


def _judge(
    access: ProductionAccess,
    challenger: LoadedVersion,
    champion: RegisteredVersion | None,
    incumbent: LoadedVersion | RegistryError | VersionError | None,
    *,
    target: RegisteredVersion,
    options: argparse.Namespace,
    config: Config,
) -> list[Verdict]:
    number, rejection = target.number, rejected(access.registry, access.audit, target)
    refused = [rejection.verdict()] if rejection is not None else []
    limits = config.registry.gates
    golden = golden_gate(challenger.verify().latency_ms, limits)
    theirs = _units(incumbent) if isinstance(incumbent, LoadedVersion) else {}
    strange = bool(theirs) and _units(challenger).keys().isdisjoint(theirs)
    states = state_gates(
        number=number,
        challenger=challenger.meta["state_date"],
        champion=champion.tags.get("state_date") if champion and not strange else None,
        parity=challenger.meta["checks"].get("parity"),
        limits=limits,
    )
    holds = challenger.holds_only
    share = identified_share(challenger.demand, challenger.facts)
    known = identified_gate(share, limits, holds_only=holds)
    baselines = baseline_gates(challenger.backtest, limits, holds_only=holds)
    if champion is None or incumbent is None:
        return [*refused, *baselines, known, *states, golden]
    if strange:  # of another shop: nothing else of the two can be compared
        return [*refused, *baselines, known, *states, golden, products_gate((), theirs, limits)]
    known_error = production_error(access, champion, config=config)
    against = _against(challenger, champion, incumbent, known_error, number=number, options=options, limits=limits)
    if champion.weights == challenger.weights_hash:
        # The same weights have passed the baseline gates before; only the states are new.
        return [*refused, known, *states, golden, *against]
    return [*refused, *baselines, known, *states, golden, *against]


def _against(
    challenger: LoadedVersion,
    champion: RegisteredVersion,
    incumbent: LoadedVersion | RegistryError | VersionError,
    known_error: ProductionError | None,
    *,
    number: str,
    options: argparse.Namespace,
    limits: GatesConfig,
) -> list[Verdict]:
    same = champion.weights == challenger.weights_hash
    if not isinstance(incumbent, LoadedVersion):
        lost = [
            ("products", limits.products),
            ("anchors", 0.0),
            *([] if same else [("against_champion", limits.champion_ratio)]),
        ]
        return [unmeasured(name, threshold, str(incumbent)) for name, threshold in lost]
    known = [
        products_gate(_units(challenger).keys(), _units(incumbent), limits),
        anchors_gate(challenger.anchors.differing(incumbent.anchors), number=number),
    ]
    if same:
        return known
    try:
        figures: Mapping[str, Any] = incumbent.backtest
        settings = challenger.config.demand, incumbent.config.demand
        if not comparable(challenger.backtest, incumbent.backtest, settings=settings):
            if _same_settings(challenger, incumbent):
                return [*known, not_compared_gate(known_error)]
            figures = _refitted(challenger, incumbent, options=options)
    except SourceError as error:
        if not options.force:
            raise
        return [*known, unmeasured("against_champion", limits.champion_ratio, str(error))]
    return [*known, *champion_gates(challenger.backtest, figures, limits, production=known_error)]


def _units(version: LoadedVersion) -> dict[str, float]:
    """Returns product → typical units per period in a version; NaN where not on sale recently."""
    units = dict(zip(version.facts.product_ids.tolist(), version.facts.typical_units.tolist(), strict=True))
    return {product: units.get(product, math.nan) for product in version.demand.product_ids.tolist()}


def _same_settings(challenger: LoadedVersion, incumbent: LoadedVersion) -> bool:
    """Returns True when the champion's settings, refitted on the challenger's folds, give the challenger again."""
    ours, theirs = challenger.config.demand, incumbent.config.demand
    return theirs.model_copy(update={name: getattr(ours, name) for name in FOLDS}) == ours


def _refitted(challenger: LoadedVersion, incumbent: LoadedVersion, *, options: argparse.Namespace) -> Mapping[str, Any]:
    """Backtests the champion's configuration on the challenger's data and folds, refitted.

    The champion's own figures come from other days, and its weights may have been trained on the challenger's.
    """
    ours, theirs = challenger.config.demand, incumbent.config.demand
    same_folds = {name: getattr(ours, name) for name in FOLDS}
    scored = challenger.backtest.get("data") or {}
    source = scored.get("source")
    asked = (
        f"champion and challenger were scored on different data, so the champion is refitted on the challenger's; "
        f"give --sales {source!r}, up to {scored.get('last_date')}"
    )
    if options.sales is None:
        raise SourceError(asked)
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
        raise SourceError(f"{options.sales}: holds other sales than those; {asked}")
    import_tensorflow()  # takes seconds; most promotions do not need it
    from pricing.demand.backtest import backtest  # noqa: PLC0415

    print(f"refitting the champion's configuration on {source}, {ours.folds} folds", flush=True)
    evaluated = backtest(
        panel,
        theirs.model_copy(update=same_folds),
        calendar=holiday_calendar(panel, challenger.config.data),
        progress=lambda words: print(words, flush=True),
    )
    figures: dict[str, Any] = dict(evaluated.figures)
    mlflow.log_dict(figures, "champion_refitted.json")
    return figures


def _decide(
    access: ProductionAccess,
    requested: PromotionRequest,
    verdicts: Sequence[Verdict],
    *,
    model: str,
    holds_only: bool,
    table: str,
) -> int:
    refused = bool(failed(verdicts)) and not requested.forced
    text = report(model, requested, verdicts, moves=table)
    mlflow.log_text(text, "promotion.md")
    mlflow.log_dict({"to": requested.to, "from": requested.expected, "gates": list(requested.gates)}, "promotion.json")
    print(text)
    if refused:
        record_refusal(access.registry, access.audit, requested)
        call_person(verdicts)
        mlflow.set_tag(REFUSED_BY, ",".join(verdict.name for verdict in failed(verdicts)))
        _conclude(requested, "refused", "refused", note=text)
        stays = requested.expected or "none"
        print(f"refused: version {requested.to} {_because(verdicts)}; the champion stays {stays}", file=sys.stderr)
        for verdict in failed(verdicts):
            print(f"- {verdict.name}: {verdict.sentence}", file=sys.stderr)
        if any(verdict.name.startswith(_OF_FORECASTS) for verdict in failed(verdicts)):
            told = f"the model card of version {requested.to}, its description in MLflow's pages, says where it errs"
            print(f"{told}; more history, or sales mended by what etl's page lists, may pass", file=sys.stderr)
        until = "the champion goes on" if requested.expected else "serving prices by rule until there is a champion"
        print(f"{until}; what each gate asks for: docs/held.md", file=sys.stderr)
        return EXIT_REFUSED
    try:
        entry = move(access.registry, access.audit, requested)
    except RegistryError as error:
        _conclude(requested, "lost", "lost", note=f"{text}\nNot promoted: {error}")
        raise
    _conclude(requested, "promoted", "forced" if requested.forced and failed(verdicts) else "passed", note=text)
    print(f"version {requested.to} is the champion of {model} now (record {entry.sequence})")
    if holds_only:
        print(HOLDS_ONLY_MEANING)
    return 0


def _checked(requested: PromotionRequest, verdicts: Sequence[Verdict], *, model: str, table: str) -> int:
    """Says what a promotion would meet, and changes nothing."""
    text = report(model, requested, verdicts, moves=table)
    mlflow.log_text(text, "promotion.md")
    print(text)
    missed = failed(verdicts)
    _conclude(requested, "checked", "checked, refused" if missed else "checked, passes", note=text)
    print(f"only checked: version {requested.to} {_because(verdicts)}; nothing was changed", file=sys.stderr)
    return EXIT_REFUSED if missed else 0


def _conclude(requested: PromotionRequest, verdict: str, word: str, *, note: str) -> None:
    mlflow.set_tags({"version": requested.to, "verdict": verdict})
    name_run(f"promote v{requested.to}: {word}")
    set_run_description(note)


if __name__ == "__main__":
    sys.exit(main())
