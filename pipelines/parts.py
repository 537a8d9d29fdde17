"""Work on partitions of sales: fit, refresh and price one at a time, and unite what came out.

A result is one object in the published store, or among the prices, and one that is there is not made again: a job that
was killed goes on where it was. Workers read versions from the registry.
"""

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import mlflow

from pipelines.calendar import with_plan
from pipelines.carry import Carried, Parity, carry, with_coming_holidays
from pricing.config import Config, ModelConfig
from pricing.data.anchors import Anchors, version_anchors
from pricing.data.load import LoadedSales, load_sales
from pricing.data.panel import Event, Panel
from pricing.data.partitions import Partitions, part_of, read_partitions
from pricing.decision.experiment_results import find_draws
from pricing.decision.product_facts import ProductFacts
from pricing.decision_log.read import read_drawn
from pricing.demand.adoption import adopt
from pricing.demand.model import DemandModel
from pricing.errors import RegistryError, VersionError
from pricing.objects import ObjectStore, open_store
from pricing.paths import log_url, tracking_uri
from pricing.registry import files
from pricing.registry.mlflow_registry import Registry
from pricing.registry.published import published_url
from pricing.registry.union import unite_facts
from pricing.registry.version import LoadedVersion, Origin, load, pack
from pricing.runtime.inputs import describe_data, fingerprint
from pricing.runtime.workers import map_partitions

_log = logging.getLogger(__name__)
SAMPLE = "sample.tar"  # the version that was trained on the sample


@dataclass(frozen=True)
class Work:
    """What the work on each partition of a job needs beside its number."""

    sales: str
    config: Config
    quarantine: Path | None
    anchors: Anchors | None  # in force
    prefix: str = ""  # of the keys of its results
    number: str = ""  # of the version that is refreshed
    checksums: Mapping[str, str] = field(default_factory=dict)  # of its files
    events: tuple[Event, ...] | None = None
    rebuild: bool = False
    drawn: Sequence[Mapping[str, Any]] = ()  # lines of the decision log on drawn prices

    def read(self, number: int, *, anchors: Anchors | None, **others: Any) -> LoadedSales:
        """Reads and checks a partition's sales; what was found is logged."""
        quarantine = self.quarantine and self.quarantine / f"part={number}"
        loaded = load_sales(
            part_of(self.sales, number), self.config.data, quarantine=quarantine, anchors=anchors, **others
        )
        for finding in loaded.findings:
            _log.warning("partition %d: %s: %s", number, finding.check, finding)
        return loaded


@dataclass(frozen=True)
class Parts:
    """The versions of all partitions, each with its `.tar` beside its folder, and what they know together."""

    versions: tuple[LoadedVersion, ...]
    facts: ProductFacts
    anchors: Anchors


def results() -> ObjectStore:
    """The store that results are kept in until they are united."""
    return open_store(published_url())


def fit_part(work: Work, number: int) -> None:
    """Models the products of a partition with the sample's networks, and keeps their version."""
    if _there(work, number):
        return
    panel = work.read(number, anchors=work.anchors).panel
    anchors = version_anchors(work.anchors and work.anchors.of(panel.product_ids), panel)
    serving, draws = work.config.serving, find_draws(panel, work.drawn)
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
    _keep(work, number, demand=demand, facts=facts, anchors=anchors, origin=Origin("train", _described(work, panel)))


def refresh_part(work: Work, number: int) -> None:
    """Carries the version of a partition over new days, and keeps it."""
    if _there(work, number):
        return
    with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
        version = _part(work, number, Path(scratch) / "version")
        known = (work.anchors or version.anchors).of(version.demand.product_ids)
        panel = work.read(number, anchors=known, past=version.learner.encoded.tail, events=work.events).panel
        carried = carry(
            version,
            panel,
            facts=version.whole_facts(),
            anchors=known.extended(panel),
            serving=work.config.serving,
            rebuild=work.rebuild,
        )
        checks = {"parity": carried.parity.difference, "parity_from_scratch": carried.parity.from_scratch}
        origin = Origin("refresh", _described(work, panel), work.number, checks)
        _keep(work, number, demand=carried.demand, facts=carried.facts, anchors=carried.anchors, origin=origin)


def _described(work: Work, panel: Panel) -> dict[str, object]:
    return describe_data(panel, sales=work.sales, fingerprint=fingerprint(panel))


def _there(work: Work, number: int) -> bool:
    key = f"{work.prefix}{number:05}.tar"
    return key in results().keys(key)


def _keep(work: Work, number: int, **learnt: Any) -> None:
    with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
        made = pack(Path(scratch) / "version", config=work.config, backtest={}, holds_only=False, **learnt)
        results().put(f"{work.prefix}{number:05}.tar", files.tar(made.folder))


@lru_cache(maxsize=1)
def _sample(prefix: str) -> DemandModel:
    """The sample's model, once a process; its mapped arrays outlive their files."""
    with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
        return _unpacked(prefix + SAMPLE, Path(scratch) / "version").learner


def _unpacked(key: str, folder: Path) -> LoadedVersion:
    content = results().get(key)
    if content is None:
        raise RegistryError(f"{key} is gone from {published_url()}; start the job again")
    files.untar(content, folder)
    return load(folder)


def _part(work: Work, number: int, folder: Path) -> LoadedVersion:
    """The version of a partition, of the one that is refreshed, from the registry."""
    name = files.part_name(number)
    content = Registry(work.config.registry.model_name, uri=tracking_uri()).content(work.number, name)
    if files.checksum(content) != work.checksums[name]:
        raise VersionError(f"version {work.number}: {name} is not the file that was registered; train again")
    files.untar(content, folder)
    return load(folder)


def united(work: Work, part: Callable[[Work, int], None], *, partitions: Partitions, scratch: Path) -> Parts:
    """Maps work over the partitions, and fetches the versions that it made.

    Raises:
        PricingError: A partition failed, which is named.
    """
    done = map_partitions(part, work, range(partitions.count), scale=work.config.scale)
    tell_slowest([seconds for _, seconds in done])
    versions = []
    for number in range(partitions.count):
        tar = scratch / f"{number:05}.tar"
        tar.write_bytes(results().get(f"{work.prefix}{number:05}.tar") or b"")
        files.untar(tar.read_bytes(), tar.with_suffix(""))
        versions.append(load(tar.with_suffix("")))
    first, *others = (version.anchors for version in versions)
    facts = unite_facts([version.whole_facts() for version in versions])
    return Parts(tuple(versions), facts, first.joined(*others))


def prefix_of(model: str, question: str, partitions: Partitions) -> str:
    """Where results lie that depend on a question, such as the settings, and on nothing but the sales."""
    return f"{model}/parts/{question[:16]}-{partitions.made}/"


def forget(work: Work) -> None:
    """Deletes the results that a registered version holds now."""
    results().delete([key for key in results().keys(work.prefix) if "/parts/" in key])


def tell_slowest(seconds: Sequence[float]) -> None:
    """Logs how long the slowest partition took, and which it was."""
    slowest = max(range(len(seconds)), key=seconds.__getitem__)
    mlflow.log_metrics({"partitions": float(len(seconds)), "slowest_partition_seconds": seconds[slowest]})
    mlflow.set_tag("slowest_partition", str(slowest))


def fitting(work: Work, partitions: Partitions) -> Work:
    """The work of a training, whose results depend on sales, settings, anchors and the draws of experiments."""
    config, drawn = work.config, read_drawn(log_url())
    anchors = work.anchors.digest() if work.anchors is not None else ""
    question = files.digest(
        [config.model_dump(mode="json", include=set(ModelConfig.model_fields)), anchors, len(drawn)]
    )
    return replace(work, drawn=drawn, prefix=prefix_of(config.registry.model_name, question, partitions))


def kept_sample(work: Work, *, folder: Path) -> LoadedVersion | None:
    """The version of the sample of a training that was cut off; None where there is none."""
    key = work.prefix + SAMPLE
    return _unpacked(key, folder) if key in results().keys(key) else None


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
        holds_only=sample.holds_only,
    )


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
            f"{sales} has {count} partitions and the version {version.partitions}: a series must stay in its own; give "
            f"sales with {wanted} (pricing partition), or train anew"
        )
    return found
