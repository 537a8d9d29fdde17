"""Read a retailer's tables, what is new of them, into the store, and make rows of the contract of them."""

import datetime as dt
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from pricing.config import Config
from pricing.config_models import DataConfig
from pricing.config_sources import SourcesConfig
from pricing.data.manifest import Manifest
from pricing.errors import SOURCES, ConfigError, SourceError
from pricing.sources.as_seen import BEGINNING, category_changed
from pricing.sources.competitors import CompetitorsRead
from pricing.sources.derive import derive_rows, products_sold, put_plans, unchanged
from pricing.sources.set_aside import SetAside
from pricing.sources.source_reader import Window
from pricing.sources.source_run import SourceRun
from pricing.sources.store import Store

_log = logging.getLogger(__name__)
FORMAT = 1
"""Increased when the same tables would become other rows, so that the next run makes them anew."""


@dataclass(frozen=True)
class Collected:
    """What a run did.

    Attributes:
        manifest: The tables and rows as they are now; in a dry run, as they would be.
        published: Whether anything differs from before, and is what readers see now.
        set_aside: Rows that could not be used.
        competitors: How the competitors' sources answered; None without any.
        since: First month whose rows were made anew; None: all.
    """

    manifest: Manifest
    published: bool
    set_aside: SetAside
    competitors: CompetitorsRead | None
    since: str | None


def collect(
    config: Config,
    *,
    folder: Path,
    run_id: str,
    window: Window | None = None,
    check: Callable[[Manifest, SetAside], None] = lambda manifest, set_aside: None,
    dry_run: bool = False,
    now: dt.datetime,
    environment: Mapping[str, str],
) -> Collected:
    """Reads every source, replaces what changed in the store, and publishes it at once; a failure changes nothing.

    Sales, stock and competitors' prices are read from `late_days` before the newest day that is known of them, or from
    the day of the oldest row that changed since, where the source names a column of changes. Other sources are small,
    and are read whole. The same sources again change nothing.

    Args:
        config: The sources, the grain, and how long a statement to a database may take.
        folder: The store's.
        run_id: Of the job.
        window: Which days are read; None: what is new.
        check: Called with what is about to be published, and with the rows set aside; an error of it stops the run.
        dry_run: Whether nothing is published, no competitor is asked, and no answer is kept.
        now: The time, with its zone.
        environment: The variables that locations and credentials name.

    Raises:
        SourceError: A source cannot be read to its end, or the store cannot be read or written.
        ConfigError: No sources are configured, or an adapter of a competitor's API does not exist.
    """
    if config.sources is None:
        raise ConfigError(
            f"--sales {SOURCES} reads the tables that the section sources of your configuration names, and it has "
            "none: docs/data.md shows one"
        )
    sources, data = config.sources, config.data
    store = Store(folder)
    settings = _settings(sources, data)
    full = (window is not None and window.full) or store.manifest is None or store.manifest.settings != settings
    if full and store.manifest is not None and store.manifest.settings != settings:
        _log.warning("the configuration of the sources has changed: all of them are read again")
    if full and window is not None and window.first is not None:
        raise SourceError(
            "nothing has been read of the sources yet, or their configuration has changed, so that all of them must be "
            "read: run etl without --since first"
        )
    today = now.astimezone(ZoneInfo(sources.zone)).date()
    run = SourceRun(
        sources,
        data=data,
        store=store,
        run_id=run_id,
        window=Window(full=True) if full else window or Window(),
        keep=not dry_run,
        now=now,
        environment=environment,
    )
    with store.draft() as draft:
        before = products_sold(draft)  # of the tables as they were
        run.read(draft)
        competitors = run.competitors(draft)
        full, known, newest = full or run.reads_all, products_sold(draft), run.sources["sales"].newest
        if category_changed(before, known):
            run.touch(BEGINNING)
        if store.manifest is not None and store.manifest.through is not None and newest is not None:
            waited = store.manifest.through + dt.timedelta(days=1)
            run.touch(waited if waited < today and waited <= newest else None)  # what was not over then may be now
        derived = unchanged(store)
        if full or run.touched is not None:
            derived = derive_rows(
                store,
                draft,
                config=sources,
                period=data.period,
                known=known,
                touched=None if full else run.touched,
                today=today,
                offers=None if competitors is None else competitors.offers,
            )
        told = put_plans(draft, config=sources, known=known)
        manifest = Manifest(
            run_id=run_id,
            made_at=now,
            period=data.period,
            settings=settings,
            sources=run.sources,
            tables={name: parts for name, parts in draft.tables.items() if parts},
            rows=draft.rows,
            joins=derived.joins,
            changes=derived.changes,
            through=today - dt.timedelta(days=1),
            notes=[*run.notes, *told, *derived.notes],
            offer_runs=[] if competitors is None else sorted(competitors.first_days),
            plans=draft.plans,
        )
        check(manifest, run.set_aside)
        published = not dry_run and draft.publish(manifest)
    return Collected(manifest, published, run.set_aside, competitors, derived.since)


def _settings(config: SourcesConfig, data: DataConfig) -> str:
    """Fingerprint of all that shapes rows; when a source is due and how an API is asked does not."""
    values = config.model_dump(mode="json", exclude={"keep_raw_days": True, "competitors": {"apis", "raw_days"}})
    for source in values.values():
        if isinstance(source, dict):
            for name in ("due", "late_days", "updated"):
                source.pop(name, None)
    text = json.dumps([FORMAT, data.period, values], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
