"""A model version: everything a decision needs, packed into one folder and loaded from it. No MLflow, no pandas."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import pricing
from pricing.config import ModelConfig, parse_model_config
from pricing.data.anchors import Anchors
from pricing.data.panel import CONTRACT_VERSION, STEP_DAYS
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.demand.model import DemandModel
from pricing.errors import ConfigError, VersionError
from pricing.registry import files, golden
from pricing.registry.former_formats import FORMAT, READERS, readable, upgrade
from pricing.registry.golden import Verification
from pricing.registry.knowledge import identified_share, without_grades

# What a header must say, and what it stands for when it does not say it.
_NEEDED = ("weights", "backtest", "kind", "state_date", "golden", "holds_only")
_ABSENT: dict[str, Any] = {"parent": None, "data": {}, "checks": {}}
Kind = Literal["train", "refresh"]


@dataclass(frozen=True)
class Origin:
    """Where a version comes from.

    Attributes:
        kind: "train" when its weights are new, "refresh" when they are an older version's.
        data: What it was computed on, as JSON: `fingerprint`, `source`, `rows`, `first_date`, `last_date`, ….
        parent: The registry version whose weights a refresh carries.
        checks: What was measured while it was made, such as a refresh's `parity`.
    """

    kind: Kind
    data: Mapping[str, Any]
    parent: str | None = None
    checks: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadedVersion:
    """A version read from its folder.

    Attributes:
        folder: Where it was read from.
        demand: What sells at which price.
        facts: What is known of each product at the state's date.
        config: The configuration it was built with.
        meta: `version.json`: `kind`, `parent`, `data`, `weights`, `backtest` (hashes), `state_date`, `products`, ….
        backtest: The figures of its walk-forward backtest, and as `data` what they were scored on.
        anchors: The regular prices that no price of the platform's own moves. A version packed without any has the list
            prices that it knew on its last day, and no prices seen.
    """

    folder: Path
    demand: DemandModel
    facts: ProductFacts
    config: ModelConfig
    meta: dict[str, Any]
    backtest: dict[str, Any]
    anchors: Anchors

    @cached_property
    def weights_hash(self) -> str:
        """Which weights these are: versions that share it differ in their states only."""
        return str(self.meta["weights"])

    @cached_property
    def holds_only(self) -> bool:
        """Whether no price rests on its elasticities: it forecasts, and prices stay, but for stock and guardrails."""
        return bool(self.meta["holds_only"])

    def pricer(self, *, version: str, config: ModelConfig | None = None) -> Pricer:
        """What answers requests by this version.

        Args:
            version: The name that its decisions carry, usually the registry's version number.
            config: Replaces the configuration that the version was built with.
        """
        return _pricer(self.demand, self.facts, config or self.config, version=version, holds_only=self.holds_only)

    def verify(self) -> Verification:
        """Prices the golden requests and compares them with what was recorded at packing.

        Raises:
            VersionError: An answer differs; names the request and the field.
        """
        return golden.compare(self.pricer(version="golden"), self.meta["golden"], where=str(self.folder))


def pack(
    folder: str | Path,
    *,
    demand: DemandModel,
    facts: ProductFacts,
    config: ModelConfig,
    backtest: Mapping[str, Any],
    origin: Origin,
    holds_only: bool,
    anchors: Anchors | None = None,
) -> LoadedVersion:
    """Writes a version into a new folder and reads it back, so that what is returned is what was written.

    The same parts give the same bytes. Nothing is left behind when it fails.

    Args:
        folder: Must not exist, or be empty.
        demand: The fitted demand model.
        facts: What is known of each product at the model's state date.
        config: The configuration that both were built with.
        backtest: `Backtest.figures`, and as `data` what they were scored on, with its `fingerprint`; a refresh
            passes its parent's unchanged.
        origin: What the version was computed from.
        holds_only: Whether no price may rest on its elasticities; see `knowledge.knows_too_little`. A refresh learns
            none, so it passes its parent's unchanged.
        anchors: The regular prices in force; absent, they are the list prices of `facts`.

    Raises:
        VersionError: A part that cannot be written, or that answers otherwise once it is read back.
    """
    folder = Path(folder)
    pricer = _pricer(demand, facts, config, version="golden", holds_only=holds_only)
    header = {
        "format": FORMAT,
        "contract": CONTRACT_VERSION,
        "library": pricing.__version__,
        "kind": origin.kind,
        "parent": origin.parent,
        "data": dict(origin.data),
        "checks": dict(origin.checks),
        "weights": demand.weights_hash(),
        "backtest": files.digest(backtest),
        "state_date": demand.state_date,
        "period": demand.period,
        "horizon": demand.horizon,
        "products": len(demand.product_ids),
        "identified": round(identified_share(demand, facts), 6),
        "holds_only": holds_only,
        "golden": golden.record(
            pricer, golden.choose_requests(demand, today=demand.state_date), today=demand.state_date
        ),
    }
    documents = {
        "backtest": backtest,
        "config": config.model_dump(mode="json", include=set(ModelConfig.model_fields)),
        "demand": demand.meta(),
        "facts": facts.meta(),
    }
    arrays = {
        **{f"demand/{name}": array for name, array in demand.to_arrays().items()},
        **{f"facts/{name}": array for name, array in facts.to_arrays().items()},
        **{f"anchors/{name}": array for name, array in (anchors.to_arrays() if anchors else {}).items()},
    }
    files.write(folder, header=header, documents=documents, arrays=arrays)
    return load(folder)


def load(folder: str | Path, *, check: bool = True) -> LoadedVersion:
    """Reads a version; its arrays stay on disk, mapped read-only.

    Args:
        folder: Where `version.json` lies.
        check: Compares every file with its checksum; a process that maps what another one has checked may not.

    Raises:
        VersionError: The folder holds no version, a file is missing or damaged, or the version belongs to
            a format that this library cannot read or to another data contract; says which and what to do.
    """
    folder = Path(folder)
    header = files.read_header(folder)
    _accept(header, where=folder)
    content = files.read(folder, check=check)
    try:
        content = upgrade(content)
        _check_parts(content.header, where=folder)
        documents = content.documents
        return LoadedVersion(
            folder=folder,
            demand=DemandModel.from_arrays(_part(content.arrays, "demand"), documents["demand"]),
            facts=ProductFacts.from_arrays(_part(content.arrays, "facts"), documents["facts"]),
            config=parse_model_config(documents["config"], where=f"{folder}/config.json"),
            meta={**_ABSENT, **content.header},
            backtest=documents["backtest"],
            anchors=_anchors(content),
        )
    except ConfigError as error:
        packer = header.get("library")
        raise VersionError(
            f"{error}; pricing {packer} packed it, and this is pricing {pricing.__version__}: "
            f"install the one that packed it, or train again"
        ) from error
    except (KeyError, ValueError) as error:
        raise VersionError(f"{folder}: cannot be read by this library: {error}; pack the model again") from error


def _pricer(demand: DemandModel, facts: ProductFacts, config: ModelConfig, *, version: str, holds_only: bool) -> Pricer:
    return Pricer(without_grades(demand) if holds_only else demand, facts, config, version=version)


def read_anchors(folder: str | Path) -> Anchors:
    """Reads a version's anchors alone, whichever library packed it: they must outlive an update of the library.

    Raises:
        VersionError: The folder holds no version, a file is missing or damaged, or it knows no list prices.
    """
    content = files.read(Path(folder))
    try:
        return _anchors(_upgraded(content))
    except (KeyError, ValueError) as error:
        raise VersionError(f"{folder}: holds no list prices that this library can read: {error}") from error


def read_backtest(folder: str | Path) -> dict[str, Any]:
    """Reads the figures of a version's walk-forward backtest alone, whichever library packed it; no checksum is taken.

    Raises:
        VersionError: The folder holds no version, a file is missing, or it holds no backtest.
    """
    content = files.read(Path(folder), check=False)
    try:
        backtest: dict[str, Any] = _upgraded(content).documents["backtest"]
    except KeyError as error:
        raise VersionError(f"{folder}: holds no backtest that this library can read: {error}") from error
    return backtest


def _upgraded(content: files.Files) -> files.Files:
    """The content in the present format; one of a format that has no reader as it is."""
    return upgrade(content) if readable(content.header.get("format")) else content


def _anchors(content: files.Files) -> Anchors:
    stored = _part(content.arrays, "anchors")
    if stored:
        return Anchors.from_arrays(stored)
    facts, about = _part(content.arrays, "facts"), content.documents["facts"]
    known = np.isfinite(facts["list_price"])
    state_date = np.datetime64(about["state_date"], "D")
    list_price = facts["list_price"][known].astype(np.float32)
    unseen = np.full(len(list_price), np.nan, np.float32)
    return Anchors(
        since=state_date + np.timedelta64(STEP_DAYS[about["period"]], "D"),
        product_ids=facts["product_ids"][known],
        dates=np.full(len(list_price), state_date),
        list_price=list_price,
        seen_low=unseen,
        seen_high=unseen,
    )


def _accept(header: Mapping[str, Any], *, where: Path) -> None:
    """Refuses, by name, a version of an unknown format or of another contract."""
    library, contract = str(header.get("library")), header.get("contract")
    oldest = min(READERS, default=FORMAT)
    refused = {
        f"format {header.get('format')}": "" if readable(header.get("format")) else f"formats {oldest} to {FORMAT}",
        f"data contract {contract}": "" if contract == CONTRACT_VERSION else f"data contract {CONTRACT_VERSION}",
    }
    for found, known in refused.items():
        if known:
            raise VersionError(
                f"{where}: has {found} and was packed by pricing {library}; this is pricing {pricing.__version__}, "
                f"which reads {known}; {_mended(library)}"
            )


def _check_parts(header: Mapping[str, Any], *, where: Path) -> None:
    """Refuses, by name, a header of the present format that lacks a part."""
    missing = [key for key in _NEEDED if header.get(key) in (None, "", {})]
    if missing:
        raise VersionError(f"{where}: its {files.HEADER} lacks {', '.join(missing)}; pack the model again")


def _mended(library: str) -> str:
    if library == pricing.__version__:  # a release in the making changes under one number
        return "other code of the same number packed it: use that code (its run names the commit), or train again"
    return f"install pricing {library}, or train again"


def _part(arrays: Mapping[str, NDArray[Any]], part: str) -> dict[str, NDArray[Any]]:
    """A part's arrays as plain views of the mapped ones: indexing a memmap itself takes twice as long."""
    found = {name.removeprefix(f"{part}/"): array for name, array in arrays.items() if name.startswith(f"{part}/")}
    return {name: array.view(np.ndarray) for name, array in found.items()}
