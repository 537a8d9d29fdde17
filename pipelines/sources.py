"""Read the tables that the configuration names into rows of the contract, and say in the run what came of it."""

import datetime as dt
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow

from pipelines.commands import only_one
from pricing.config import Config
from pricing.config_sources import SourcesConfig
from pricing.csv_text import quote_formulas
from pricing.data.findings import Finding, QualityError, ordered
from pricing.data.manifest import Manifest
from pricing.errors import SourceError
from pricing.fileio import replace_atomically
from pricing.paths import pricing_home, sources_folder
from pricing.runtime.alerts import as_findings
from pricing.runtime.cli import notice
from pricing.sources.collect import Collected, collect
from pricing.sources.set_aside import ReasonCount, SetAside
from pricing.sources.source_reader import Window

ARTIFACT = "sources.json"


@dataclass(frozen=True)
class SourcesRead:
    """What a read of the sources gave.

    Attributes:
        manifest: What was read, and the rows; where nothing differs it is not published.
        findings: What a person should know of.
        lines: What came of it, one line each.
    """

    manifest: Manifest
    findings: tuple[Finding, ...]
    lines: list[str]


_TOLD = 0.2  # share of the limit on bad rows from which a person is told
_FEED = "competitor_feed"


def read_sources(
    config: Config, *, run_id: str, window: Window | None, dry_run: bool, quarantine: Path | None
) -> SourcesRead:
    """Reads the configured tables and publishes what is new, in the active run.

    Rows that cannot be used are written to `sources_NAME.csv` in the quarantine, whether or not one is given; files of
    an earlier run whose tables have none now are removed. A dry run leaves the quarantine as it is.

    Args:
        config: Its section `sources` names the tables.
        run_id: Of the active run.
        window: Which days are read; None: what is new.
        dry_run: Whether it is only said what would change.
        quarantine: A folder for rows that cannot be used; None: PRICING_HOME/quarantine.

    Raises:
        ConfigError: The configuration names no tables.
        SourceError: A table cannot be read to its end; rows and panel stay as they were.
        QualityError: More rows cannot be used than `data.quality.most_set_aside` allows.
        LockError: Another run is reading them.
    """
    began = time.monotonic()
    place = quarantine or pricing_home() / "quarantine"

    found: list[Finding] = []

    def check(manifest: Manifest, set_aside: SetAside) -> None:
        written = {} if dry_run else _write_set_aside(set_aside, place)
        found.extend(_refuse_too_many(manifest, set_aside, config, written=written))

    with only_one("sources", home=pricing_home().resolve()):
        collected = collect(
            config,
            folder=sources_folder(),
            run_id=run_id,
            window=window,
            check=check,
            dry_run=dry_run,
            now=dt.datetime.now(dt.UTC),
            environment=os.environ,
        )
    manifest = collected.manifest
    found += _competitor_findings(collected)
    notice(*as_findings([one for one in found if one.level == "set_aside"]))
    mlflow.log_text(manifest.model_dump_json(indent=1), ARTIFACT)
    mlflow.set_tags({**manifest.lineage(), "sources_changed": str(collected.published).lower()})
    lines = _said(collected, dry_run=dry_run, seconds=time.monotonic() - began)
    return SourcesRead(manifest, tuple(ordered(found)), lines)


def _competitor_findings(collected: Collected) -> list[Finding]:
    """One for each competitor's API that was not read whole, or whose prices are old."""
    statuses = () if collected.competitors is None else collected.competitors.statuses
    advice = (
        "Look at what the run of etl says of it; until it answers, the prices seen last count, up to a configured age"
    )
    return [
        Finding(
            _FEED,
            "note" if one.state == "stale" else "set_aside",
            sentence=f"{one.source}: {one.state}: {one.why}",
            advice=advice,
        )
        for one in statuses
        if one.state != "fresh"
    ]


def _said(collected: Collected, *, dry_run: bool, seconds: float) -> list[str]:
    manifest = collected.manifest
    read = sum(source.rows for source in manifest.sources.values())
    rows = sum(part.rows for part in manifest.rows.values())
    aside = sum(source.rejected for source in manifest.sources.values())
    state = "would be" if dry_run else "are"
    first = (
        f"sources: {read:,} rows read, {aside:,} set aside; {rows:,} rows of sales {state} in {sources_folder()} "
        f"(manifest {manifest.id}) after {seconds:.1f} s"
    )
    lines = [first]
    for change in manifest.changes if collected.published or dry_run else ():
        span = (
            f"{change.first_day}" if change.first_day == change.last_day else f"{change.first_day} to {change.last_day}"
        )
        lines.append(f"{change.kind}: {change.rows:,} rows of {change.products:,} products, {span}")
    if not collected.published and not dry_run:
        lines.append("nothing differs from the run before")
    for name, source in manifest.sources.items():
        for reason, count in source.reasons.items():
            lines.append(f"set aside: {count:,} rows of {name}: {reason}")
    for join in manifest.joins:
        unmatched = join.unmatched_sales or join.unmatched_table
        examples = f"; {', '.join(join.examples[:4])}" if unmatched else ""
        lines.append(f"join: {join.table} says something of {join.matched:,} of {join.sales_rows:,} rows{examples}")
    return [*lines, *(f"note: {note}" for note in manifest.notes)]


def _write_set_aside(set_aside: SetAside, folder: Path) -> dict[str, Path]:
    """Writes the rows that cannot be used, a file by table, and removes those of tables without; returns the files."""
    written = {}
    for table in dict.fromkeys(count.table for count in set_aside.counts):
        frame = set_aside.frame(table)
        path = folder / f"sources_{table}.csv"
        try:
            with replace_atomically(path) as draft:
                quote_formulas(frame).to_csv(draft, index=False)
        except OSError as error:
            raise SourceError(f"{folder}: the quarantine cannot be written ({error.strerror})") from error
        written[table] = path
    for table in SourcesConfig.model_fields.keys() - written.keys():
        try:
            (folder / f"sources_{table}.csv").unlink(missing_ok=True)
        except OSError as error:
            raise SourceError(f"{folder}: the quarantine cannot be written ({error.strerror})") from error
    return written


def _refuse_too_many(
    manifest: Manifest, set_aside: SetAside, config: Config, *, written: dict[str, Path]
) -> list[Finding]:
    """What rows set aside amount to: a note where they are few, a finding where they are a fifth of the limit.

    Raises:
        QualityError: They pass the limit, and the configuration lets that stop a job.
    """
    limit = config.data.quality.most_set_aside
    found = []
    for name, source in manifest.sources.items():
        dropped = [count for count in set_aside.counts if count.table == name and count.dropped]
        rows = sum(count.rows for count in dropped)
        if not rows:
            continue
        share = rows / source.rows
        passed = share > limit
        worst = max(dropped, key=lambda count: count.rows)
        seen = f"Look at them in {written[name]}" if name in written else "Run etl without --dry_run to see them"
        found.append(
            Finding(
                "contract",
                "stop" if passed else "set_aside" if share > _TOLD * limit else "note",
                rows=rows,
                example=worst.first,
                sentence=f"{rows:,} of {source.rows:,} rows of sources.{name} cannot be used ({share:.1%}; "
                f"data.quality.most_set_aside is {limit:.0%}): {_reasons(dropped)}",
                advice=f"{seen}, and mend the source",
            )
        )
    if any(one.level == "stop" for one in found):
        raise QualityError("what the configuration's sources hold", ordered(found))
    return found


def _reasons(counts: Sequence[ReasonCount]) -> str:
    """The most frequent reasons, with their rows."""
    worst = sorted(counts, key=lambda count: -count.rows)
    named = "; ".join(f"{count.reason}: {count.rows:,}" for count in worst[:3])
    return f"{named}; {len(worst) - 3} more" if len(worst) > 3 else named
