"""Fixtures for tests of promotions: versions whose backtests pass or fail on purpose, an in-memory registry."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pricing.config import Config, load_config
from pricing.data.anchors import Anchors
from pricing.data.own_prices import NO_SPANS, OwnSpans
from pricing.data.panel import Panel
from pricing.decision.product_facts import ProductFacts
from pricing.demand.model import DemandModel
from pricing.errors import RegistryError, VersionError
from pricing.registry.files import read_header
from pricing.registry.promotion import AuditEntry
from pricing.registry.version import LoadedVersion, Origin, pack
from tests.kit.versions import make_demand, make_panel, shared_version

PERSONS = 100  # first periods of every history, which people priced


def figures(**changes: Any) -> dict[str, Any]:
    """A backtest's figures that pass every gate, with some of them changed."""
    good: dict[str, Any] = {
        "wape": 0.40,
        "wape_baseline": 0.50,
        "baseline": "direct",
        "bias": 0.02,
        "coverage_80": 0.81,
        "coverage_95": 0.95,
        "folds": [{"cutoff": "2024-04-01", "wape": 0.41, "wape_baseline": 0.50}],
        "by_volume": {name: {"wape": 0.40, "wape_baseline": 0.50} for name in ("low", "mid", "high")},
        "elasticity": {"mean": -2.5, "sd_mean": 0.4, "share_sane": 1.0},
    }
    return {**good, **changes}


def history_anchors(panel: Panel) -> Anchors:
    """The anchors of one history, the same for all its versions: the platform went live after PERSONS periods."""
    return Anchors.from_panel(panel.through(panel.dates[PERSONS - 1])).extended(panel)


def packed(
    folder: Path,
    *,
    panel: Panel | None = None,
    seed: int = 1,
    data: dict[str, Any] | None = None,
    anchors: Anchors | None = None,
    own_prices: OwnSpans = NO_SPANS,
    holds_only: bool = False,
    config: Config | None = None,
    demand: DemandModel | None = None,
    **changes: Any,
) -> LoadedVersion:
    """Packs a version; its weights depend on the seed unless `demand` is given."""
    panel = panel or make_panel()
    anchors = anchors or history_anchors(panel)
    about = {"fingerprint": "f1", "source": "sales.csv", "last_date": str(panel.dates[-1]), **(data or {})}
    return pack(
        folder,
        demand=demand or make_demand(panel, seed=seed),
        facts=ProductFacts.from_panel(panel, anchors=anchors),
        config=config or load_config(),
        backtest={**figures(**changes), "data": about},
        origin=Origin(kind="train", data=about, own_prices=own_prices),
        holds_only=holds_only,
        anchors=anchors,
    )


def asked(to: str, expected: str | None = None, **changes: Any) -> AuditEntry:
    """A change of the champion that a person asks for."""
    said: dict[str, Any] = {"who": "ann", "at": "2024-05-01T10:00:00+00:00", "why": "better", "action": "promote"}
    return AuditEntry(**{**said, "to_version": to, "from_version": expected, **changes})


if TYPE_CHECKING:  # the fakes stand for the real ones, without MLflow
    from pricing.registry.mlflow_registry import RegisteredVersion, Registry
else:
    Registry = object


@dataclass(frozen=True)
class FakeVersion:
    number: str
    weights: str
    checksum: str = ""


@dataclass
class FakeRegistry(Registry):
    """Versions 1 to 9, three to a set of weights; setting the alias `fails_at` fails once."""

    pointed: dict[str, str] = field(default_factory=dict)
    fails_at: str | None = None

    def identity(self) -> str:
        return "pricing@1"

    def aliases(self) -> dict[str, str]:
        return dict(self.pointed)

    def find(self, reference: str) -> "RegisteredVersion":
        number = self.pointed.get(reference, reference)
        if number not in set("123456789"):
            raise RegistryError(f"pricing has no version or alias {reference!r}")
        return cast(
            "RegisteredVersion", FakeVersion(number, f"weights-{(int(number) - 1) // 3}", self.checksum(number))
        )

    def checksum(self, number: str) -> str:
        return ""

    def versions(self) -> "list[RegisteredVersion]":
        return [self.find(number) for number in "123456789"]

    def set_alias(self, alias: str, number: str) -> None:
        if self.fails_at == alias:
            self.fails_at = None
            raise RegistryError("the registry does not answer")
        self.pointed[alias] = number

    def remove_alias(self, alias: str) -> None:
        self.pointed.pop(alias, None)


@dataclass
class PackedRegistry(FakeRegistry):
    """Versions whose files there are: each of weights of its own, unless `folders` names another folder."""

    model_name: str = "shop"
    folders: dict[str, Path] = field(default_factory=dict)

    def folder(self, number: str) -> Path:
        return self.folders.get(number) or shared_version(int(number))

    def checksum(self, number: str) -> str:
        try:
            return str(read_header(self.folder(number))["checksum"])
        except VersionError:  # files that are gone
            return "0" * 64

    def download(self, reference: str, to: str | Path) -> Path:
        if not self.folder(reference).is_dir():
            raise RegistryError(f"the files of version {reference} are gone")
        return Path(shutil.copytree(self.folder(reference), to))


def without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}
