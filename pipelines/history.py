"""Shows what was in production when, by whom and why."""

import sys
from collections.abc import Sequence

from pipelines.production import now, production
from pipelines.promotion_report import history_lines
from pricing.config import load_config
from pricing.registry.promotion import notice
from pricing.runtime.cli import job_options, run_main


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns the exit code."""
    return run_main(_history, argv)


def _history(argv: Sequence[str] | None) -> int:
    options = job_options("history", "Shows what was in production when.", sales=False)
    options.add_flag("--all", help="also what was refused, or lost to another promotion at the same time")
    chosen = options.parse(argv)
    config = load_config(chosen.config)
    with production(config) as doors:
        name = config.registry.model_name
        aliases = doors.registry.aliases()
        if not doors.registry.versions():
            print(f"{name} has no versions on {doors.registry.uri} yet")
            return 0
        notice(doors.registry, doors.audit, who=doors.who, at=now())
        entries = doors.audit.entries(doors.registry.identity())
        print(f"{name} on {doors.registry.uri}")
        print("  ".join(f"{alias}: {number}" for alias, number in sorted(aliases.items())) or "no aliases")
        print()
        if entries:
            print("\n".join(history_lines(entries, everything=chosen.all)))
        else:
            print("nothing was promoted yet")
    return 0


if __name__ == "__main__":
    sys.exit(main())
