"""Change the champion: measure how far prices would move, report the gates, refuse or move the alias, and publish."""

import datetime as dt
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import click
import mlflow
import numpy as np

from pipelines.steps.production import ProductionAccess
from pipelines.steps.publishing import publish_champion
from pricing.config import Config, ConfigFile, served_config
from pricing.data.findings import Finding
from pricing.decision.pricer import Pricer
from pricing.errors import EXIT_REFUSED, RegistryError, VersionError
from pricing.paths import PARENT_VARIABLE
from pricing.quoting import escape_markdown
from pricing.registry.gates import HOLDS_ONLY, Verdict, explained, failed, price_moves_gate
from pricing.registry.knowledge import HOLDS_ONLY_MEANING
from pricing.registry.mlflow_registry import RegisteredVersion
from pricing.registry.price_moves import list_prices, measure_moves, sample_requests
from pricing.registry.promotion import REJECTED, AuditEntry, move, record_refusal
from pricing.registry.version import LoadedVersion
from pricing.runtime.cli import flag
from pricing.runtime.invocation import notice
from pricing.runtime.mlflow_runs import name_run, set_run_description

REPORT = "promotion.md"  # the artefact of the run
REFUSED_BY = "refused_by"  # tag of a promotion's or a rollback's run: the gates that refused it, joined by commas
MOST_PRODUCTS = 1000  # that are priced, at most: a sample within categories
SHOWN = 10  # prices that the report lists
_LOGGED = 1000  # prices in the run's table
_DONE = {"promote": "promoted", "rollback": "rolled back", "anchor": "moved"}
_CALLING = ("price_moves", REJECTED)  # gates whose refusal a person must look at: a job that meets one ends so


def needs_person(tags: Mapping[str, str]) -> bool:
    """Returns True where a promotion, by its run's tags, was refused for what a person must look at."""
    return bool(set(_CALLING) & set(tags.get(REFUSED_BY, "").split(",")))


def forcible(function: Callable[..., int]) -> Callable[..., int]:
    """Adds the options that overrule gates, for the record with a reason."""

    def check(context: click.Context, _parameter: click.Parameter, reason: str | None) -> str | None:
        if context.params["force"] and not reason:
            raise click.UsageError("--force needs --reason: the record says why a gate was overruled")
        return reason

    forced = flag("--force", help="go on although a gate fails; needs --reason", is_eager=True)
    return forced(click.option("--reason", callback=check, metavar="WORDS", help="why, for the record")(function))


def fetched_champion(
    access: ProductionAccess, champion: RegisteredVersion | None, *, must: bool
) -> LoadedVersion | None:
    """Returns the champion's files; None without a champion, or where they cannot be read and need not be.

    Raises:
        RegistryError: They must be read, and the registry lacks them.
        VersionError: They must be read, and are damaged.
    """
    try:
        return None if champion is None else access.fetch(champion.number)
    except (RegistryError, VersionError) as error:
        if must:
            raise
        print(f"note: the champion cannot be read: {error}")
        return None


def decide(
    access: ProductionAccess,
    wanted: AuditEntry,
    verdicts: Sequence[Verdict],
    *,
    versions: tuple[LoadedVersion, LoadedVersion | None],
    file: ConfigFile,
    check: bool = False,
) -> int:
    """Measures how far prices move, reports what all gates found, and refuses the change, or makes and publishes it.

    The versions are that which is to become champion, and the champion, if there is one that can be read. With `check`
    nothing is changed, and the record says nothing. Returns the job's exit code.

    Raises:
        RegistryError: Another change came first, or the registry does not answer.
    """
    number = str(wanted.to_version)
    moved, moves = _moves(versions, file, names=(number, wanted.from_version or "none"))
    verdicts = explained([*verdicts, moved], versions[0].circumstances())
    missed = failed(verdicts)
    because = f"fails {_names(missed)}" if missed else "passes every gate"
    wanted = replace(
        wanted,
        why=wanted.why or because,
        forced=wanted.forced and bool(missed),
        gates=[verdict.as_json() for verdict in verdicts],
    )
    text = report(access.registry.model_name, wanted, verdicts, moves=moves)
    mlflow.log_text(text, REPORT)
    print(text)

    if check:
        _conclude(wanted, "checked", note=text)
        print(f"only checked: version {number} {because}; nothing was changed", file=sys.stderr)
        return EXIT_REFUSED if missed else 0
    if missed and not wanted.forced:
        return _refuse(access, wanted, missed, note=text)
    return put_in_force(access, wanted, file.config, holds_only=versions[0].holds_only, note=text)


def _refuse(access: ProductionAccess, wanted: AuditEntry, missed: Sequence[Verdict], *, note: str) -> int:
    """Records, alerts and prints that gates refuse a change; returns the job's exit code."""
    record_refusal(access.registry, access.audit, wanted)
    if os.environ.get(PARENT_VARIABLE):  # whoever starts a promotion by hand reads what it prints
        calling = [verdict for verdict in missed if verdict.name in _CALLING]
        notice(*(Finding(verdict.name, "breach", sentence=verdict.sentence) for verdict in calling))
    mlflow.set_tag(REFUSED_BY, ",".join(verdict.name for verdict in missed))
    _conclude(wanted, "refused", note=note)

    stays = f"the champion stays {wanted.from_version}" if wanted.from_version else "serving prices by rule"
    print(f"refused: version {wanted.to_version} fails {_names(missed)}; {stays}", file=sys.stderr)
    print("each gate: docs/shop/held.md; --force true --reason WORDS overrules them, in an emergency", file=sys.stderr)
    return EXIT_REFUSED


def _names(verdicts: Sequence[Verdict]) -> str:
    return ", ".join(verdict.name for verdict in verdicts)


def put_in_force(access: ProductionAccess, wanted: AuditEntry, config: Config, *, holds_only: bool, note: str) -> int:
    """Makes a version the champion, records, prints and publishes it; returns the job's exit code.

    Raises:
        RegistryError: Another change came first, or the registry does not answer.
    """
    wanted = replace(wanted, why=f"{wanted.why}; {HOLDS_ONLY}: prices stay") if holds_only else wanted
    try:
        entry = move(access.registry, access.audit, wanted)
    except RegistryError as error:
        _conclude(wanted, "lost", note=f"{note}\nNot made champion: {error}")
        raise
    _conclude(wanted, _DONE[wanted.action], note=note)
    print(f"version {wanted.to_version} is the champion of {access.registry.model_name} now (record {entry.sequence})")
    if holds_only:
        print(HOLDS_ONLY_MEANING)
    return publish_champion(access, config)


def _moves(
    versions: tuple[LoadedVersion, LoadedVersion | None], file: ConfigFile, *, names: tuple[str, str]
) -> tuple[Verdict, str]:
    """Prices a sample of the catalogue by both versions; returns the gate's verdict and a table of the furthest moves.

    Both price with the settings that they are served with, but without `serving.largest_jump`: it would hide how far
    the version itself goes.
    """
    candidate, champion = versions
    facts = champion.facts if champion is not None else None
    last = max(version.demand.state_date for version in versions if version is not None)

    def served(version: LoadedVersion, name: str) -> Pricer:
        return version.pricer(version=name, config=served_config(version.config, file, name=name).config)

    requests = sample_requests(candidate.facts, facts, size=MOST_PRODUCTS, day=last + dt.timedelta(days=1))
    listed = list_prices(np.array([request.product_id for request in requests]), candidate.facts, facts)
    before = None if champion is None else served(champion, names[1])
    moves = measure_moves(requests, served(candidate, names[0]), before, listed=listed, today=last)
    verdict = price_moves_gate(moves, file.config.registry.gates.price_moves)
    mlflow.log_text(moves.table(_LOGGED), "price_moves.md")
    if verdict.figure is not None:
        mlflow.log_metric("price_moves/log_ratio", verdict.figure)
    return verdict, moves.table(SHOWN)


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
        f"- {wanted.action}, against {wanted.from_version or 'no champion, so the baseline alone counts'}",
        f"- by {wanted.who} at {wanted.at}",
        f"- why: {wanted.why}",
        "",
        "| gate | | figure | needed | what was measured |",
        "|---|---|---|---|---|",
        *map(_row, verdicts),
    ]
    if moves:
        lines += ["", "## Prices that would move furthest", "", moves]
    return "\n".join([*lines, ""])


def _row(verdict: Verdict) -> str:
    came = "said" if not verdict.needed else "pass" if verdict.passed else "**FAIL**"
    words = verdict.words if verdict.passed or not verdict.advice else f"{verdict.words}; {verdict.advice}"
    cells = (verdict.name, came, verdict.measured, verdict.needed or "–", escape_markdown(words))
    return f"| {' | '.join(cells)} |"
