"""Access to production for jobs: the registry, the audit record of promotions, anchors, and the actor."""

import datetime as dt
import logging
import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import mlflow

from pricing.config import Config
from pricing.data.anchors import Anchors, matching_anchors
from pricing.data.own_prices import NO_SPANS, OwnSpans
from pricing.data.panel import Panel
from pricing.decision.product_facts import ProductFacts
from pricing.demand.model import DemandModel
from pricing.errors import RegistryError, VersionError
from pricing.fileio import utc_stamp
from pricing.paths import actor, database_url, pricing_home, tracking_uri
from pricing.registry import CHAMPION, PREVIOUS
from pricing.registry.mlflow_registry import RegisteredVersion, Registry
from pricing.registry.promotion import Action, Audit, AuditEntry, record_manual_change
from pricing.registry.version import LoadedVersion, Origin, load, pack, read_anchors, read_own_prices
from pricing.runtime.mlflow_runs import connect, runs_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProductionAccess:
    """The registry, the record of promotions, and who acts."""

    registry: Registry
    audit: Audit
    who: str
    scratch: Path  # a folder for versions, which goes when the access ends

    def fetch(self, number: str) -> LoadedVersion:
        """Downloads a version and loads it.

        Raises:
            RegistryError: The registry lacks it or is unreachable.
            VersionError: It is damaged, another one than was registered, or belongs to another contract or library.
        """
        version = load(self.registry.download(number, self.scratch / number / "version"))
        if version.meta["checksum"] != self.registry.find(number).checksum:
            raise VersionError(f"version {number}: its files are not those that were registered; train again")
        return version

    def change(self, action: Action, to_version: str, *, champion: RegisteredVersion | None, why: str) -> AuditEntry:
        """Makes the entry of a change that this job asks for, against the champion that it has judged."""
        run = mlflow.active_run()
        return AuditEntry(
            at=utc_stamp(dt.datetime.now(dt.UTC)),
            who=self.who,
            action=action,
            why=why,
            from_version=champion.number if champion else None,
            to_version=to_version,
            run_id=run.info.run_id if run else None,
        )

    def register(
        self,
        base: LoadedVersion,
        *,
        demand: DemandModel,
        facts: ProductFacts,
        anchors: Anchors,
        origin: Origin,
        tags: Mapping[str, str] | None = None,
        words: str,
    ) -> str:
        """Registers a version with the weights and settings of `base` and new states; returns its number.

        Raises:
            RegistryError: There is no active run, the registry refuses, or the partitions of `base` are left out.
        """
        if base.partitions != len(origin.parts):
            raise RegistryError(
                "of partitions prices move with list_price in the sales: partition those, and refresh the version"
            )
        packed = pack(
            self.scratch / f"of-{origin.parent}" / "version",
            demand=demand,
            facts=facts,
            config=base.config,
            backtest=base.backtest,
            origin=replace(origin, own_prices=base.own_prices),
            anchors=anchors,
            holds_only=base.holds_only,
        )
        return self.registry.log_version(packed.folder, tags=tags, description=words)

    def record_manual_change(self) -> None:
        """Records where the champion was changed past the record."""
        record_manual_change(self.registry, self.audit, who=self.who, at=utc_stamp(dt.datetime.now(dt.UTC)))

    def anchors_for(self, version: LoadedVersion) -> Anchors:
        """Returns the anchors to refresh a version with: those in force, or else its own.

        Raises:
            RegistryError: See `without_past`.
        """
        anchors = matching_anchors(without_past(self.registry).anchors, version.demand.product_ids)
        return version.anchors if anchors is None else anchors


@contextmanager
def production(config: Config) -> Iterator[ProductionAccess]:
    """Opens the registry and the audit record.

    Raises:
        RegistryError: The registry is unreachable, or PRICING_DATABASE_URL is no usable address.
    """
    registry = Registry(config.registry.model_name, uri=connect())
    pricing_home().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
        yield ProductionAccess(registry, Audit(database_url()), actor(), Path(scratch))


@dataclass(frozen=True, eq=False)
class InForce:
    """Anchors, past and own prices of the champion, with which new sales are read."""

    anchors: Anchors | None = None  # None before any promotion
    past: Panel | None = None  # the end of the history that the champion has read, to compare sales with
    own_prices: OwnSpans = NO_SPANS


def without_past(registry: Registry) -> InForce:
    """Returns anchors and own prices in production: the champion's, or else the previous one's.

    Where neither can be read, those of the newest readable version are used: all versions inherit them.

    Raises:
        RegistryError: There has been a champion and no version's anchors can be read, or the registry is unreachable.
    """
    leading = [entry for entry in (registry.at(CHAMPION), registry.at(PREVIOUS)) if entry is not None]
    troubles: list[str] = []
    for entry in (*leading, *(reversed(registry.versions()) if leading else ())):
        try:
            with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
                folder = registry.download(entry.number, Path(scratch) / "version")
                found = InForce(read_anchors(folder), own_prices=read_own_prices(folder))
        except (RegistryError, VersionError) as error:
            troubles.append(str(error))
            continue
        if troubles:
            _log.warning("the anchors are those of version %s, since %s", entry.number, troubles[0])
        return found
    if not leading:
        return InForce()
    raise RegistryError(
        f"list prices cannot be told from the platform's own prices, since no version's anchors can be read "
        f"({troubles[0]}); restore its files, or delete the aliases {CHAMPION} and {PREVIOUS} to begin anew"
    )


def production_decay(access: ProductionAccess, champion: RegisteredVersion, *, config: Config) -> float:
    """Returns how many times its backtest's error the champion's is in production; 1 where it is not in decay.

    Refreshes of the champion count as the champion: they have its weights. Read from the newest of monitoring's runs
    in MLflow that found it, within monitoring's window.
    """
    alike = {version.number for version in access.registry.versions() if version.weights == champion.weights}
    since = dt.datetime.now(dt.UTC) - dt.timedelta(days=config.monitoring.window)
    recent = f"tags.job = 'monitor' and attributes.start_time > {int(since.timestamp() * 1000)}"
    for run in runs_of(recent, model=config.registry.model_name):
        ratio = run.data.metrics.get("wape_to_backtest", math.nan)
        if run.data.tags.get("champion") in alike and math.isfinite(ratio):
            return float(ratio) if ratio > 1 + config.monitoring.error_tolerance else 1.0
    return 1.0


def in_force(config: Config) -> InForce:
    """Reads anchors, past and own prices of the champion at once; where it cannot be read, all but the past.

    Raises:
        RegistryError: See `without_past`.
    """
    registry = Registry(config.registry.model_name, uri=tracking_uri())
    champion = registry.at(CHAMPION)
    try:
        if champion is not None:
            with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
                version = load(registry.download(champion.number, Path(scratch) / "version"))
                return InForce(version.anchors, version.learner.encoded.tail, version.own_prices)
    except (RegistryError, VersionError) as error:
        _log.warning("sales are compared with their own past only: %s", error)
    return without_past(registry)
