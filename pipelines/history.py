"""Show the promotion history: which version was champion when, by whom and why."""

import sys
from collections.abc import Sequence
from itertools import pairwise

from pipelines.production import now, production
from pricing.config import load_config
from pricing.errors import SourceError
from pricing.objects import open_store
from pricing.registry import CHAMPION
from pricing.registry.audit import AuditEntry
from pricing.registry.mlflow_registry import Registry
from pricing.registry.promotion import record_manual_change, rejections, weights_of
from pricing.registry.publish import champion_is_published
from pricing.registry.published import published_url
from pricing.runtime.cli import job_options, run_main


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns the exit code."""
    return run_main(_history, argv)


def _history(argv: Sequence[str] | None) -> int:
    options = job_options("history", "Shows what was in production when.", sales=False)
    options.add_flag("--all", help="also what was refused, or lost to another promotion at the same time")
    chosen = options.parse(argv)
    config = load_config(chosen.config)
    with production(config) as access:
        registry, name = access.registry, config.registry.model_name
        versions, aliases = weights_of(registry), registry.aliases()
        if not versions:
            print(f"{name} has no versions on {registry.uri} yet")
            return 0
        record_manual_change(registry, access.audit, who=access.who, at=now())
        entries = access.audit.entries(registry.identity())
        print(f"{name} on {registry.uri}")
        print("  ".join(f"{alias}: {number}" for alias, number in sorted(aliases.items())) or "no aliases")
        if CHAMPION in aliases and (told := _not_published(registry)):
            print(told)
        print()
        print("\n".join(_lines(entries, everything=chosen.all)) if entries else "nothing was promoted yet")
        for number, rejection in sorted(rejections(entries, versions).items(), key=lambda pair: int(pair[0])):
            back = f"`pricing promote --version {number} --force true --reason WORDS` brings it back"
            print(f"version {number} is rejected: {rejection.words()}; {back}")
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


def _lines(entries: Sequence[AuditEntry], *, everything: bool) -> list[str]:
    """Formats the record as a table, newest last: each champion with its period, or `everything`."""
    done = [entry for entry in entries if entry.outcome == "done"]
    until = {entry.sequence: later.at for entry, later in pairwise(done)}
    rows = [("#", "champion", "from", "until", "how", "who", "why")]
    for entry in entries if everything else done:
        to, how = entry.to_version or "none", entry.action.replace("_", " ") + (", forced" if entry.forced else "")
        if entry.outcome != "done":
            rows.append((str(entry.sequence), f"({to})", entry.at, "", f"{how}: {entry.outcome}", entry.who, entry.why))
        else:
            end = until.get(entry.sequence, "now")
            rows.append((str(entry.sequence), to, entry.at, end, how, entry.who, entry.why))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


if __name__ == "__main__":
    sys.exit(main())
