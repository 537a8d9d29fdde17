"""Work on partitions of sales: fit, refresh and price one at a time, and unite what came out.

A result is one object in the published store, or among the prices, and one that is there is not made again: a job that
was killed goes on where it was. Workers refresh versions from the registry and price what is published.
"""

import datetime as dt
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from pipelines.steps.carry import Carried, Parity, carry, with_coming_holidays
from pipelines.steps.decisions import COLUMNS, as_frame, decide, requests_for_all_products
from pipelines.steps.sales import with_plan
from pricing import __version__
from pricing.arrays import Strings
from pricing.config import Config, ModelConfig
from pricing.data.anchors import Anchors
from pricing.data.calendar import Plan
from pricing.data.etl_output import Partitions, part_of, read_partitions
from pricing.data.load import load_sales
from pricing.data.panel import Event, Panel
from pricing.decision.allowed_prices import PriceGrid
from pricing.decision.experiment_results import find_draws
from pricing.decision.explanation import main_step
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision.request import PriceRequest
from pricing.decision.switches import Control
from pricing.decision_log.write import LogEntry, put_decisions
from pricing.demand.adoption import adopt
from pricing.demand.model import DemandModel
from pricing.errors import ConfigError, HistoryError, RegistryError, VersionError
from pricing.objects import ObjectStore, open_store
from pricing.paths import log_url, pricing_home, tracking_uri
from pricing.registry import files
from pricing.registry.mlflow_registry import Registry
from pricing.registry.published_store import PublishedVersion, fetch_version, published_url
from pricing.registry.union import unite_facts
from pricing.registry.version import LoadedVersion, Origin, load, pack
from pricing.runtime.mlflow_runs import describe_data, fingerprint
from pricing.runtime.workers import map_partitions

_log = logging.getLogger(__name__)
SAMPLE = "sample.tar"  # the version that was trained on the sample


@dataclass(frozen=True)
class Work:
    """What the work on each partition of a job needs beside its number."""

    sales: str
    config: Config
    prefix: str  # of the keys of its results, which depend on all that a result depends on
    quarantine: Path | None
    anchors: Anchors  # in force
    events: tuple[Event, ...]
    number: str = ""  # of the version that is refreshed
    checksums: Mapping[str, str] = field(default_factory=dict)  # of its files
    rebuild: bool = False
    drawn: Sequence[Mapping[str, Any]] = ()  # lines of the decision log on drawn prices

    def read(self, number: int, **others: Any) -> Panel:
        """Reads and checks a partition's sales; what was found is logged."""
        quarantine = self.quarantine and self.quarantine / f"part={number}"
        known: dict[str, Any] = {"quarantine": quarantine, "anchors": self.anchors, "events": self.events}
        loaded = load_sales(part_of(self.sales, number), self.config.data, **known, **others)
        for finding in loaded.findings:
            _log.warning("partition %d: %s: %s", number, finding.check, finding)
        return loaded.panel

    def anchored(self, panel: Panel, *more: Strings) -> Anchors:
        """The anchors of a panel's products and of some more."""
        return self.anchors.of(np.concatenate([panel.product_ids, *more])).extended(panel)

    def keep(self, number: int, origin: Origin, **learnt: Any) -> None:
        """Packs what was learnt of a partition, and keeps it."""
        with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
            made = pack(
                Path(scratch) / "version", config=self.config, backtest={}, holds_only=False, origin=origin, **learnt
            )
            results().put(self.key(number), files.tar(made.folder))

    def key(self, number: int) -> str:
        """The key of a partition's result."""
        return f"{self.prefix}{number:05}.tar"


@dataclass(frozen=True)
class Parts:
    """The versions of all partitions, each with its `.tar` beside its folder, and what they know together."""

    versions: tuple[LoadedVersion, ...]
    facts: ProductFacts
    anchors: Anchors


def results() -> ObjectStore:
    """The store that results are kept in until they are united."""
    return open_store(published_url())


def prefix_of(config: Config, partitions: Partitions, *question: object) -> str:
    """Where results lie that depend on a question, such as the settings, on the sales and on this library."""
    return f"{config.registry.model_name}/parts/{files.digest([question, partitions.made, __version__])[:16]}/"


def fit_part(work: Work, number: int) -> None:
    """Models the products of a partition with the sample's networks, and keeps their version."""
    if results().keys(work.key(number)):
        return
    panel, serving = work.read(number), work.config.serving
    anchors, draws = work.anchored(panel), find_draws(panel, work.drawn)
    demand = adopt(
        panel,
        work.config.demand,
        like=_sample(work.prefix),
        tested=draws.deviation if draws.used else None,
        live_since=anchors.since,
    )
    facts = ProductFacts.from_panel(
        panel, anchors=anchors, largest_jump=serving.largest_jump, confirmed=serving.jump_confirmed
    )
    origin = Origin("train", describe_data(panel, sales=work.sales, fingerprint=fingerprint(panel)))
    work.keep(number, origin, demand=demand, facts=facts, anchors=anchors)


def refresh_part(work: Work, number: int) -> None:
    """Carries the version of a partition over new days, and keeps it."""
    if results().keys(work.key(number)):
        return
    name = files.part_name(number)
    content = Registry(work.config.registry.model_name, uri=tracking_uri()).content(work.number, name)
    if files.checksum(content) != work.checksums[name]:
        raise VersionError(f"version {work.number}: {name} is not the file that was registered; train again")
    with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
        version = load(files.untar(content, Path(scratch) / "version"))
        panel = work.read(number, past=version.learner.encoded.tail)
        anchors, serving = work.anchored(panel, version.demand.product_ids), work.config.serving
        facts = version.whole_facts()
        carried = carry(version, panel, facts=facts, anchors=anchors, serving=serving, rebuild=work.rebuild)
        data = describe_data(panel, sales=work.sales, fingerprint=fingerprint(panel))
        checks = {"parity": carried.parity.difference, "parity_from_scratch": carried.parity.from_scratch}
        origin = Origin("refresh", data, work.number, checks)
        work.keep(number, origin, demand=carried.demand, facts=carried.facts, anchors=anchors)


@lru_cache(maxsize=1)
def _sample(prefix: str) -> DemandModel:
    """The sample's model, once a process; its mapped arrays outlive their files."""
    with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
        return _unpacked(prefix + SAMPLE, Path(scratch) / "version").learner


def _unpacked(key: str, folder: Path) -> LoadedVersion:
    content = results().get(key)
    if content is None:
        raise RegistryError(f"{key} is gone from {published_url()}; start the job again")
    folder.with_suffix(".tar").write_bytes(content)
    return load(files.untar(content, folder), mapped=False)  # hundreds of them would open too many files


def united(work: Work, part: Callable[[Work, int], None], *, partitions: Partitions, scratch: Path) -> Parts:
    """Maps work over the partitions, and fetches the versions that it made.

    Raises:
        PricingError: A partition failed, which is named, or ends on another day than the others.
        ConfigError: Rows would be set aside on the disk of a worker elsewhere.
    """
    if work.quarantine and "://" in work.config.scale.scheduler:
        raise ConfigError(
            "--quarantine: workers elsewhere would keep it; set the rows aside before they are partitioned"
        )
    tell_slowest(map_partitions(part, work, range(partitions.count), scale=work.config.scale))
    versions = [_unpacked(work.key(number), scratch / f"{number:05}") for number in range(partitions.count)]
    days = [version.demand.state_date for version in versions]
    if late := [number for number, day in enumerate(days) if day != max(days)]:
        raise HistoryError(
            f"partition {late[0]} ends on {days[late[0]]}, others on {max(days)}: give rows up to one day in "
            "each, or fewer partitions"
        )
    facts = unite_facts([version.whole_facts() for version in versions])
    apart = work.anchors.of(np.setdiff1d(work.anchors.product_ids, facts.product_ids))  # of products not sold now
    return Parts(tuple(versions), facts, apart.joined(*(version.anchors for version in versions)))


def forget(work: Work) -> None:
    """Deletes the results that a registered version holds now."""
    results().delete(results().keys(work.prefix))


def tell_slowest(seconds: Sequence[float]) -> None:
    """Logs how long the slowest partition took, and which it was."""
    slowest = max(range(len(seconds)), key=seconds.__getitem__)
    mlflow.log_metrics({"partitions": float(len(seconds)), "slowest_partition_seconds": seconds[slowest]})
    mlflow.set_tag("slowest_partition", str(slowest))


def kept_sample(work: Work, *, folder: Path) -> LoadedVersion | None:
    """The version of the sample of a training that was cut off; None where there is none."""
    key = work.prefix + SAMPLE
    return _unpacked(key, folder) if results().keys(key) else None


def spread(sample: LoadedVersion, work: Work, partitions: Partitions, *, folder: Path) -> LoadedVersion:
    """Models the products of all partitions as the sample's were, and packs the version that unites them."""
    results().put(work.prefix + SAMPLE, files.tar(sample.folder))
    parts = united(work, fit_part, partitions=partitions, scratch=folder.parent)
    data = {**sample.backtest["data"], "rows": partitions.rows, "partitions": partitions.made}
    return pack(
        folder,
        demand=sample.learner,
        facts=with_plan(parts.facts, work.config.data),
        config=work.config,
        backtest=sample.backtest,
        origin=Origin("train", data, parts=parts.versions),
        anchors=parts.anchors,
        holds_only=identified_of(parts.versions) < work.config.registry.gates.identified,
    )


def identified_of(versions: Sequence[LoadedVersion]) -> float:
    """The `identified_share` of the products of all partitions, by that of each of their versions."""
    weights = [float(np.nansum(version.facts.typical_units)) for version in versions]
    if not any(weights):  # nothing sold lately: then all products count the same
        weights = [float(version.meta["products"]) for version in versions]
    return float(np.average([version.meta["identified"] for version in versions], weights=weights))


def refresh_parts(
    version: LoadedVersion,
    sample: Panel,
    partitions: Partitions,
    *,
    work: Work,
    facts: ProductFacts,
    scratch: Path,
) -> Carried:
    """Carries the versions of all partitions over new days, and the model of the sample with them.

    `sample` are its sales, `facts` those of the version with the plans that count now. The anchors are in the `work`.
    """
    parts = united(work, refresh_part, partitions=partitions, scratch=scratch)
    known = parts.facts.planned(facts.promotions, deliveries=facts.planned_deliveries)
    demand = version.learner.refresh(sample, rebuild=work.rebuild)
    demand = with_coming_holidays(demand, known, country=version.config.data.country)
    checks = [part.meta["checks"] for part in parts.versions]
    checked = Parity(max(each["parity"] for each in checks), all(each["parity_from_scratch"] for each in checks))
    return Carried(demand, known, parts.anchors, checked, parts.versions)


def partitioned_as(version: LoadedVersion, sales: str) -> Partitions | None:
    """Tells how sales are partitioned that a version is to be carried over; None where neither is.

    Raises:
        RegistryError: Only one of them is, or into another number of partitions.
    """
    found = read_partitions(sales)
    count = 0 if found is None else found.count
    if count != version.partitions:
        wanted = f"--count {version.partitions}" if version.partitions else "no partitions"
        raise RegistryError(
            f"{sales} has {count} partitions, the version is of {version.partitions}: a series must stay in its own; "
            f"give sales with {wanted} (pricing partition), or train anew"
        )
    return found


_SUMMED = {  # columns that a summary of prices needs
    *("product_id", "date", "recommended_price", "confidence", "expected_margin", "expected_gain", "gain_low"),
    *("gain_high", "source", "reasons", "current_price", "list_price", "proposed_price"),
}


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
            folder, model = self.folder, self.settings.registry.model_name
            if not folder.is_dir():
                folder, published = Path(scratch) / "version", PublishedVersion(self.name, self.checksum)
                fetch_version(open_store(published_url()), published, model=model, folder=folder)
            return load(folder)

    @cached_property
    def pricer(self) -> Pricer:
        """The pricer of that version."""
        return self.pricer_of(self.loaded)

    def pricer_of(self, version: LoadedVersion) -> Pricer:
        """The pricer of a version with the plans that count now."""
        promotions, deliveries = self.plans
        planned = replace(version, facts=version.facts.planned(promotions, deliveries=deliveries))
        jump = self.settings.serving.largest_jump
        return planned.pricer(version=self.name, config=self.served, largest_jump=jump)

    @cached_property
    def prefix(self) -> str:
        """The beginning of the keys of the day's prices, in `price_place`: others for whatever prices depend on."""
        plans = [sorted(plan.spans().items()) for plan in self.plans]
        settings = [self.served.model_dump(mode="json"), self.settings.serving.largest_jump, self.settings.scale.series]
        switched = [self.control.to_json().decode(), repr(plans), self.today, self.applied]
        question = files.digest([self.checksum, __version__, settings, switched])
        return f"prices/{self.settings.registry.model_name}/day={self.day}/{question[:16]}/"

    def price(self, requests: list[PriceRequest], pricer: Pricer) -> pd.DataFrame:
        """Prices requests, and logs the prices where they are charged; see `decide` and `as_frame`."""
        answers = decide(pricer, requests, today=self.today, control=self.control)
        if self.applied:
            at = dt.datetime.now(dt.UTC)
            put_decisions(log_url(), [LogEntry(*pair, at) for pair in zip(requests, answers, strict=True)])
        found = as_frame(zip(requests, answers, strict=True))
        names = self.loaded.facts.column("names", found["product_id"].to_numpy(np.str_), missing="")
        return found.assign(name=names, step=[main_step(answer, pricer) for answer in answers])


def price_place() -> str:
    """Where prices lie in parts: in the published store on S3, which other machines reach, else in PRICING_HOME."""
    return published_url() if published_url().startswith("s3://") else str(pricing_home())


def price_parts(asked: Pricing, products: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Prices all products of a version, so many at a time; returns what a summary needs, and whole what changes.

    Files of prices that were made of the same things are not made again.

    Raises:
        ConfigError: Workers elsewhere cannot reach the version.
    """
    if "://" in asked.settings.scale.scheduler and not asked.name.isdigit():
        raise ConfigError("--version: workers elsewhere read what is published, no folder; give a version's number")
    numbers = range(-(-products // asked.settings.scale.series))
    tell_slowest(map_partitions(price_part, asked, numbers, scale=asked.settings.scale))
    store = open_store(price_place())

    def read(folder: str, columns: list[str] | None) -> pd.DataFrame:
        found = (store.get(f"{asked.prefix}{folder}part={number:05}.parquet") or b"" for number in numbers)
        return pd.concat([pd.read_parquet(BytesIO(each), columns=columns) for each in found], ignore_index=True)

    return read("", [name for name in COLUMNS if name in _SUMMED]), read("changed/", None)


def price_part(asked: Pricing, number: int) -> None:
    """Prices the products of one file, and those that change once more apart."""
    store, size = open_store(price_place()), asked.settings.scale.series
    key = f"part={number:05}.parquet"
    if store.keys(asked.prefix + key):
        return
    requests = requests_for_all_products(
        asked.loaded.facts, day=asked.day, rows=slice(number * size, (number + 1) * size)
    )
    prices = asked.price(requests, asked.pricer)
    grid, current = PriceGrid(asked.served.decision.price_step), prices["current_price"].to_numpy(np.float64)
    moves = grid.moved(prices["recommended_price"].to_numpy(), current) | np.isnan(current)
    moves |= prices["recommended_price"] != prices["proposed_price"]
    store.put(f"{asked.prefix}changed/{key}", prices[moves].to_parquet(index=False))
    store.put(asked.prefix + key, prices.to_parquet(index=False))
