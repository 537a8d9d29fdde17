"""Price requests by a version as of a day, and all products of a version in parts, so many at a time.

A part's prices are one object, and one that is there is not made again: a job that was killed goes on where it was.
Workers price what is published.
"""

import datetime as dt
import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.steps.decisions import as_frame, decide
from pipelines.steps.parts import log_slowest
from pricing import __version__
from pricing.config import Config, ModelConfig
from pricing.data.calendar import Plan
from pricing.decision.allowed_prices import PriceGrid
from pricing.decision.every_product import requests_for_all_products
from pricing.decision.explanation import main_step
from pricing.decision.pricer import Pricer
from pricing.decision.request import PriceRequest
from pricing.decision.switches import Control
from pricing.decision_log.write import LogEntry, put_decisions
from pricing.errors import ConfigError
from pricing.objects import ObjectStore, open_store
from pricing.paths import log_url, pricing_home
from pricing.registry import files
from pricing.registry.published_store import PublishedVersion, fetch_version, published_url
from pricing.registry.version import LoadedVersion, load
from pricing.runtime.workers import map_partitions

SUMMED = [  # columns that a summary of prices needs, in the order of `decisions.COLUMNS`
    "product_id",
    "date",
    "recommended_price",
    "confidence",
    "expected_margin",
    "expected_gain",
    "gain_low",
    "gain_high",
    "source",
    "reasons",
    "current_price",
    "list_price",
    "proposed_price",
]


@dataclass(frozen=True, eq=False)
class Pricing:
    """How requests are priced: by which version and settings, as of which day, and whether prices are charged.

    It can be sent to another machine, which fetches the version from the published store.
    """

    folder: Path
    name: str
    checksum: str
    settings: Config
    served: ModelConfig
    plans: tuple[Plan, Plan]  # of promotions and deliveries
    control: Control
    today: dt.date
    day: dt.date  # that is priced where no requests are given
    applied: bool

    @cached_property
    def loaded(self) -> LoadedVersion:
        """The version, where this is."""
        with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:  # what is mapped outlives it
            folder = self.folder
            model = self.settings.registry.model_name
            if not folder.is_dir():
                folder = Path(scratch) / "version"
                published = PublishedVersion(self.name, self.checksum)
                fetch_version(open_store(published_url()), published, model=model, folder=folder)
            return load(folder)

    @cached_property
    def pricer(self) -> Pricer:
        """The pricer of that version, with the plans that count now."""
        promotions, deliveries = self.plans
        facts = self.loaded.facts.planned(promotions, deliveries=deliveries)
        jump = self.settings.serving.largest_jump
        return replace(self.loaded, facts=facts).pricer(version=self.name, config=self.served, largest_jump=jump)

    @cached_property
    def prefix(self) -> str:
        """The beginning of the keys of the day's prices, in `price_place`: others for whatever prices depend on."""
        plans = [plan.spans() for plan in self.plans]
        settings = [self.served.model_dump(mode="json"), self.settings.serving.largest_jump, self.settings.scale.series]
        switched = [self.control.to_json().decode(), plans, self.today, self.applied]
        question = files.digest([self.checksum, __version__, settings, switched])
        return f"prices/{self.settings.registry.model_name}/day={self.day}/{question[:16]}/"

    def price(self, requests: list[PriceRequest]) -> pd.DataFrame:
        """Prices requests, and logs the prices where they are charged; see `decide` and `as_frame`."""
        answers = decide(self.pricer, requests, today=self.today, control=self.control)
        answered = list(zip(requests, answers, strict=True))
        if self.applied:
            at = dt.datetime.now(dt.UTC)
            put_decisions(log_url(), [LogEntry(request, answer, at) for request, answer in answered])
        found = as_frame(answered)
        names = self.loaded.facts.column("names", found["product_id"].to_numpy(np.str_), missing="")
        return found.assign(name=names, step=[main_step(answer, self.pricer) for answer in answers])


def price_place() -> str:
    """Where prices lie in parts: in the published store on S3, which other machines reach, else in PRICING_HOME."""
    return published_url() if published_url().startswith("s3://") else str(pricing_home())


def price_parts(asked: Pricing, products: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Prices all products of a version, so many at a time; returns what a summary needs, and whole what changes.

    Files of prices that were made of the same things are not made again.

    Raises:
        ConfigError: Workers elsewhere cannot reach the version.
    """
    scale = asked.settings.scale
    if "://" in scale.scheduler and not asked.name.isdigit():
        raise ConfigError("--version: workers elsewhere read what is published, no folder; give a version's number")
    numbers = range(-(-products // scale.series))
    log_slowest(map_partitions(price_part, asked, numbers, scale=scale))
    store = open_store(price_place())
    summed = [_read(store, f"{asked.prefix}{_file(number)}", SUMMED) for number in numbers]
    changed = [_read(store, f"{asked.prefix}changed/{_file(number)}") for number in numbers]
    return pd.concat(summed, ignore_index=True), pd.concat(changed, ignore_index=True)


def _file(number: int) -> str:
    return f"part={number:05}.parquet"


def _read(store: ObjectStore, key: str, columns: list[str] | None = None) -> pd.DataFrame:
    return pd.read_parquet(BytesIO(store.get(key) or b""), columns=columns)


def price_part(asked: Pricing, number: int) -> None:
    """Prices the products of one file, and those that change once more apart."""
    store = open_store(price_place())
    if store.keys(asked.prefix + _file(number)):
        return
    size = asked.settings.scale.series
    rows = slice(number * size, (number + 1) * size)
    prices = asked.price(requests_for_all_products(asked.loaded.facts, day=asked.day, rows=rows))
    current = prices["current_price"].to_numpy(np.float64)
    grid = PriceGrid(asked.served.decision.price_step)
    changes = grid.moved(prices["recommended_price"].to_numpy(), current) | np.isnan(current)
    changes |= prices["recommended_price"] != prices["proposed_price"]
    store.put(f"{asked.prefix}changed/{_file(number)}", prices[changes].to_parquet(index=False))
    store.put(asked.prefix + _file(number), prices.to_parquet(index=False))
