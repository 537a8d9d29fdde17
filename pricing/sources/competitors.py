"""Ask competitors' APIs and tables, keep what was seen, and match it to products."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd

from pricing.config_competitors import CompetitorsConfig
from pricing.sources.competitor_api import FetchResult, SourceStatus, fetch_offers
from pricing.sources.competitor_history import append_offers, read_history
from pricing.sources.competitor_matching import match_offers, write_unmatched
from pricing.sources.competitor_offers import OfferBatch, join_batches

FOLDER = "competitors"  # of the store: history, answers as they came, and what could not be matched
UNMATCHED = "unmatched.csv"


@dataclass(frozen=True)
class CompetitorsRead:
    """What is known of competitors' prices.

    Attributes:
        offers: All offers seen so far that are of a product.
        statuses: How each API answered in this run.
        new: Offers that nobody had seen before.
        set_aside: Offers of this run that cannot be used, with reason.
        unmatched: Reason: number of offers without a product.
        examples: Some of those in words.
        first_days: Run that saw offers: the first day that they count for.
    """

    offers: pd.DataFrame
    statuses: tuple[SourceStatus, ...]
    new: int
    set_aside: pd.DataFrame
    unmatched: Mapping[str, int]
    examples: tuple[str, ...]
    first_days: Mapping[str, dt.date]


def read_competitors(
    config: CompetitorsConfig,
    *,
    table: OfferBatch | None,
    catalogue: pd.DataFrame,
    mapping: pd.DataFrame | None,
    folder: Path,
    run_id: str,
    zone: ZoneInfo,
    environment: Mapping[str, str] | None,
) -> CompetitorsRead:
    """Reads the offers of this run, adds them to the history, and matches the whole of it.

    Args:
        config: The APIs, and how offers are matched.
        table: Offers of a table; None without one.
        catalogue: Our products: product_id and, where known, ean.
        mapping: A competitor's items and our products; None without one.
        folder: Of the store.
        run_id: Of the job.
        zone: The shop's.
        environment: Holds the secrets; None: nobody is asked and nothing is kept, as in a dry run.

    Raises:
        SourceError: The history cannot be read or written.
        ConfigError: An adapter does not exist.
    """
    history = folder / FOLDER / "history"
    fetched = FetchResult(join_batches([]), (), frozenset())
    new = 0
    if environment is not None:
        fetched = fetch_offers(config, state_dir=folder / FOLDER, run_id=run_id, environment=environment)
    batch = join_batches([fetched.batch, *([table] if table is not None else [])])
    trusted = {name for name, api in config.apis.items() if api.known == "observed"}
    dated = batch.offers["source"].isin(trusted)
    offers = batch.offers.assign(seen_at=batch.offers["seen_at"].mask(dated, batch.offers["observed_at"]))
    if environment is not None:
        tables = set(offers["source"].unique()) - set(config.apis)  # an archive at first, as what an API says is one
        new = append_offers(history, offers, run_id=run_id, backfill=fetched.backfill | tables).new
    seen = read_history(history)
    if environment is None and table is not None:
        seen = pd.concat([seen, table.offers], ignore_index=True).drop_duplicates(ignore_index=True)
    matched = match_offers(seen, catalogue=catalogue, mapping=mapping, config=config.matching)
    if environment is not None:
        write_unmatched(folder / FOLDER / UNMATCHED, matched.unmatched)
    firsts = seen[["seen_at", "observed_at"]].max(axis=1).groupby(seen["run_id"]).min()
    return CompetitorsRead(
        matched.offers,
        fetched.statuses,
        new,
        batch.set_aside,
        matched.reasons(),
        tuple(matched.examples()),
        {str(run): known.tz_convert(zone).date() for run, known in firsts.items()},
    )
