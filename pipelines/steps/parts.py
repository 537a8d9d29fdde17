"""Work on partitions of sales: fit or refresh one at a time, and unite what came out.

A result is one object in the published store, and one that is there is not made again: a job that was killed goes on
where it was. Workers refresh versions from the registry.
"""

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import mlflow
import numpy as np

from pipelines.steps.carry import Carried, Parity, carry, with_coming_holidays
from pipelines.steps.sales import with_plan
from pricing import __version__
from pricing.arrays import Strings
from pricing.config import Config
from pricing.data.anchors import Anchors
from pricing.data.etl_output import Partitions, part_of, read_partitions
from pricing.data.load import load_sales
from pricing.data.own_prices import NO_MOVES, NO_SPANS, Moves, OwnSpans
from pricing.data.panel import Event, Panel
from pricing.decision.experiment_results import find_draws
from pricing.decision.product_facts import ProductFacts
from pricing.demand.adoption import adopt
from pricing.demand.model import DemandModel
from pricing.errors import ConfigError, HistoryError, RegistryError, VersionError
from pricing.objects import ObjectStore, open_store
from pricing.paths import tracking_uri
from pricing.registry import files
from pricing.registry.mlflow_registry import Registry
from pricing.registry.published_store import published_url
from pricing.registry.union import unite_facts
from pricing.registry.version import LoadedVersion, Origin, load, pack
from pricing.runtime.mlflow_runs import describe_data, fingerprint
from pricing.runtime.workers import map_partitions

_log = logging.getLogger(__name__)
SAMPLE = "sample.tar"  # the version that was trained on the sample


@dataclass(frozen=True)
class Work:
    """Work of a job on partitions of sales: reads one, anchors its products, and keeps its result."""

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
    moves: Moves = NO_MOVES  # of the decision log
    given: Moves = NO_MOVES  # prices that the platform gave, which are no surprise in the sales
    own_prices: OwnSpans = NO_SPANS  # in force

    def read(self, number: int, **others: Any) -> Panel:
        """Reads and checks a partition's sales; what was found is logged."""
        loaded = load_sales(
            part_of(self.sales, number),
            self.config.data,
            quarantine=self.quarantine and self.quarantine / f"part={number}",
            anchors=self.anchors,
            events=self.events,
            given=lambda: self.given,
            **others,
        )
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
    panel = work.read(number)
    anchors = work.anchored(panel)
    draws = find_draws(panel, work.drawn)
    spans = work.own_prices.extended(panel, work.moves, since=anchors.since)
    demand = adopt(
        panel,
        work.config.demand,
        like=_sample(work.prefix),
        tested=draws.deviation if draws.used else None,
        own=spans.marks(panel, since=anchors.since),
    )
    serving = work.config.serving
    facts = ProductFacts.from_panel(
        panel, anchors=anchors, largest_jump=serving.largest_jump, confirmed=serving.jump_confirmed
    )
    origin = Origin("train", describe_data(panel, sales=work.sales, fingerprint=fingerprint(panel)), own_prices=spans)
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
        anchors = work.anchored(panel, version.demand.product_ids)
        carried = carry(
            version,
            panel,
            facts=version.whole_facts(),
            anchors=anchors,
            serving=work.config.serving,
            rebuild=work.rebuild,
        )
        data = describe_data(panel, sales=work.sales, fingerprint=fingerprint(panel))
        origin = Origin("refresh", data, work.number, carried.parity.checks, own_prices=version.own_prices)
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
    log_slowest(map_partitions(part, work, range(partitions.count), scale=work.config.scale))
    versions = [_unpacked(work.key(number), scratch / f"{number:05}") for number in range(partitions.count)]
    days = [version.demand.state_date for version in versions]
    behind = [number for number, day in enumerate(days) if day != max(days)]
    if behind:
        raise HistoryError(
            f"partition {behind[0]} ends on {days[behind[0]]}, others on {max(days)}: give rows up to one day in each, "
            "or fewer partitions"
        )
    facts = unite_facts([version.whole_facts() for version in versions])
    apart = work.anchors.of(np.setdiff1d(work.anchors.product_ids, facts.product_ids))  # of products not sold now
    return Parts(tuple(versions), facts, apart.joined(*(version.anchors for version in versions)))


def forget(work: Work) -> None:
    """Deletes the results that a registered version holds now."""
    results().delete(results().keys(work.prefix))


def log_slowest(seconds: Sequence[float]) -> None:
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
    own = NO_SPANS.joined(*(version.own_prices for version in parts.versions))
    data = {**sample.backtest["data"], "rows": partitions.rows, "partitions": partitions.made}
    return pack(
        folder,
        demand=sample.learner,
        facts=with_plan(parts.facts, work.config.data),
        config=work.config,
        backtest=sample.backtest,
        origin=Origin("train", data, own_prices=own, parts=parts.versions),
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
    """Returns the partitions of sales that a version is to be carried over; None where neither has any.

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
