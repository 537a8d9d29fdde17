"""Show the promotion history: which version was champion when, by whom and why."""

import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise

from pipelines.production import now, production
from pricing.config import load_config
from pricing.errors import SourceError
from pricing.markdown_text import escape_markdown
from pricing.objects import open_store
from pricing.registry import CHAMPION
from pricing.registry.audit import AuditEntry
from pricing.registry.gates import Verdict, failed
from pricing.registry.mlflow_registry import Registry
from pricing.registry.promotion import PromotionRequest, Rejection, record_manual_change, rejections
from pricing.registry.publish import champion_is_published
from pricing.registry.published import published_url
from pricing.runtime.cli import job_options, run_main

_AT_LEAST = ("elasticity_sane", "identified", "products")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns the exit code."""
    return run_main(_history, argv)


def _history(argv: Sequence[str] | None) -> int:
    options = job_options("history", "Shows what was in production when.", sales=False)
    options.add_flag("--all", help="also what was refused, or lost to another promotion at the same time")
    chosen = options.parse(argv)
    config = load_config(chosen.config)
    with production(config) as access:
        name = config.registry.model_name
        aliases = access.registry.aliases()
        if not access.registry.versions():
            print(f"{name} has no versions on {access.registry.uri} yet")
            return 0
        record_manual_change(access.registry, access.audit, who=access.who, at=now())
        entries = access.audit.entries(access.registry.identity())
        print(f"{name} on {access.registry.uri}")
        print("  ".join(f"{alias}: {number}" for alias, number in sorted(aliases.items())) or "no aliases")
        if CHAMPION in aliases and (told := _not_published(access.registry)):
            print(told)
        print()
        if entries:
            print("\n".join(history_lines(entries, everything=chosen.all)))
        else:
            print("nothing was promoted yet")
        versions = {version.number: version.weights for version in access.registry.versions()}
        for line in rejected_lines(rejections(entries, versions)):
            print(line)
    return 0


def _not_published(registry: Registry) -> str:
    """Says that serving does not find the champion; empty where it does."""
    try:
        if champion_is_published(registry, open_store(published_url())):
            return ""
        why = "`pricing publish` mends it"
    except SourceError as error:
        why = f"or cannot be looked up: {error}"
    return f"the champion is not published, {why}"


def report(model: str, requested: PromotionRequest, verdicts: Sequence[Verdict], *, moves: str = "") -> str:
    """Returns a Markdown report on a requested promotion or rollback.

    Args:
        model: The registered model's name.
        requested: The requested promotion, with actor and reason.
        verdicts: Results of the gates.
        moves: Table of the prices that would move furthest; empty for none.
    """
    missed = failed(verdicts)
    if not missed:
        outcome = f"passes all {len(verdicts)} gates"
    elif requested.forced:
        outcome = f"fails {len(missed)} of {len(verdicts)} gates and is forced"
    else:
        outcome = f"fails {len(missed)} of {len(verdicts)} gates and is refused"
    against = f"version {requested.expected}" if requested.expected else "no champion, so the baselines alone count"
    lines = [
        f"# {model} version {requested.to} {outcome}",
        "",
        f"- against: {against}",
        f"- by {requested.who} at {requested.at}",
        f"- why: {requested.why}",
        "",
        "| gate | | figure | needed |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {verdict.name} | {_outcome(verdict)} | {_figure(verdict)} | {_needed(verdict)} |" for verdict in verdicts
    ]
    lines += ["", *(f"- {verdict.name}: {escape_markdown(verdict.sentence)}" for verdict in verdicts), ""]
    lines += ["## Prices that would move furthest", "", moves, ""] if moves else []
    return "\n".join(lines)


def history_lines(entries: Sequence[AuditEntry], *, everything: bool) -> list[str]:
    """Formats the audit record as a table, newest last: each champion with its period.

    Args:
        entries: The record, oldest first.
        everything: Include promotions that were refused or lost to a concurrent one.
    """
    shown = [entry for entry in entries if everything or entry.outcome == "done"]
    done = [entry for entry in entries if entry.outcome == "done"]
    until = {entry.sequence: later.at for entry, later in pairwise(done)}
    rows = [("#", "champion", "from", "until", "how", "who", "why")]
    for entry in shown:
        changed = entry.outcome == "done"
        how = entry.action.replace("_", " ") + (", forced" if entry.forced else "")
        rows.append(
            (
                str(entry.sequence),
                (entry.to_version or "none") if changed else f"({entry.to_version})",
                entry.at,
                until.get(entry.sequence, "now") if changed else "",
                how if changed else f"{how}: {entry.outcome}",
                entry.who,
                entry.why,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def rejected_lines(found: Mapping[str, Rejection]) -> list[str]:
    """Formats what is rejected, one version a line."""
    return [
        f"version {number} is rejected: {rejection.words()}; "
        f"`pricing promote --version {number} --force true --reason WORDS` brings it back"
        for number, rejection in sorted(found.items(), key=lambda pair: int(pair[0]))
    ]


def _outcome(verdict: Verdict) -> str:
    if verdict.threshold is None:
        return "said"
    return "pass" if verdict.passed else "**FAIL**"


def _figure(verdict: Verdict) -> str:
    return "not measured" if verdict.figure is None else f"{verdict.figure:.4g}"


def _needed(verdict: Verdict) -> str:
    if verdict.threshold is None:
        return "–"
    if isinstance(verdict.threshold, tuple):
        return f"{verdict.threshold[0]:g} to {verdict.threshold[1]:g}"
    return f"{'≥' if verdict.name in _AT_LEAST else '≤'} {verdict.threshold:g}"


if __name__ == "__main__":
    sys.exit(main())
