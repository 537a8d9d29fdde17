"""A model version: everything a decision needs, packed into one folder and loaded from it. No MLflow, no pandas."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import pricing
from pricing.arrays import below, flatten, restore
from pricing.config import ModelConfig, parse_model_config
from pricing.data.anchors import Anchors
from pricing.data.net_price import unit_profit
from pricing.data.own_prices import NO_SPANS, OwnSpans
from pricing.data.panel import CONTRACT_VERSION
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import NOT_READ, ProductFacts
from pricing.demand.grades import LEAST_FORTNIGHTS, PRIOR_ONLY
from pricing.demand.model import DemandModel
from pricing.demand.table import DemandTable
from pricing.errors import ConfigError, VersionError, first_line
from pricing.registry import files, golden
from pricing.registry.causes import Circumstances
from pricing.registry.knowledge import identified_share
from pricing.registry.union import unite_tables

FORMAT = 10  # of a version's files: no other is read

REFRESH = "refresh"  # the folder of what is needed to carry a version forward, and to price by it is not
_OWN_PRICES = f"{REFRESH}/own_prices"
_SERVED = ("table", "products", "backtest", "config")
GOLDEN = "golden"  # the name of a version in its golden requests
_UNFIT = (AttributeError, LookupError, TypeError, ValueError)  # what the files of another library raise


@dataclass(frozen=True)
class Origin:
    """Where a version comes from."""

    kind: Literal["train", "refresh"]  # whether its weights are new, or those of the registry's version `parent`
    data: Mapping[str, Any]  # the sales that it was computed on, as JSON: `fingerprint`, `source`, `rows`, …
    parent: str | None = None
    checks: Mapping[str, Any] = field(default_factory=dict)  # measured while it was made, such as a refresh's `parity`
    own_prices: OwnSpans = NO_SPANS  # the platform's, in the sales that it was trained on
    parts: tuple["LoadedVersion", ...] = ()  # versions of the partitions that it unites, each with a `.tar` beside it


@dataclass(frozen=True)
class LoadedVersion:
    """A version read from its folder: `meta` is its header, `config` the configuration that it was built with.

    `backtest` has the figures of its walk-forward backtest, and as `data` what they were scored on. What reads a file
    that is missing or damaged raises VersionError.
    """

    folder: Path
    demand: DemandTable
    facts: ProductFacts
    config: ModelConfig
    meta: dict[str, Any]
    backtest: dict[str, Any]
    anchors: Anchors

    @property
    def weights_hash(self) -> str:
        """The hash of its weights: versions that share it differ in their states only."""
        return str(self.meta["weights"])

    @property
    def holds_only(self) -> bool:
        """True where no price rests on its elasticities, and so prices stay, but for stock and guardrails."""
        return bool(self.meta["holds_only"])

    @cached_property
    def learner(self) -> DemandModel:
        """The weights and states that it learnt with, to carry it forward; no price needs them."""
        content = files.read(self.folder, parts=(REFRESH, "learner"))
        try:
            return restore(DemandModel, _part(content.arrays, REFRESH), content.documents["learner"])
        except _UNFIT as error:
            raise VersionError(f"{self.folder}: cannot be carried forward: {first_line(error)}; train again") from error

    @property
    def own_prices(self) -> OwnSpans:
        """The platform's own prices as of its training; see `read_own_prices`."""
        return read_own_prices(self.folder)

    @property
    def partitions(self) -> int:
        """The partitions whose versions it was united from; 0 of an ordinary version."""
        return sum(name.startswith(f"{files.PARTS}/") for name in self.meta["files"])

    def whole_facts(self) -> ProductFacts:
        """The facts with the columns that only carrying them forward reads (`product_facts.NOT_READ`)."""
        part = f"{REFRESH}/facts"
        content = files.read(self.folder, parts=(part,), mapped=False)
        return replace(self.facts, **_part(content.arrays, part))  # type: ignore[arg-type]

    def pricer(self, *, version: str, config: ModelConfig | None = None, largest_jump: float | None = None) -> Pricer:
        """Makes the pricer of this version, named `version` in its decisions.

        A `config` replaces the one that it was built with. A price lies `largest_jump` from the last one charged at
        most (`serving.largest_jump`); None: any distance.
        """
        demand = _priced_by(self.demand, holds_only=self.holds_only)
        return Pricer(demand, self.facts, config or self.config, version=version, largest_jump=largest_jump)

    def verify(self) -> tuple[float, ...]:
        """Prices the golden requests and compares them with what was recorded at packing; returns milliseconds of each.

        Raises:
            VersionError: An answer differs; names the request and the field.
        """
        return golden.compare(self.pricer(version=GOLDEN), self.meta["golden"], where=str(self.folder))

    def circumstances(self) -> Circumstances:
        """Gathers the figures of it and its sales that may have made a gate refuse it."""
        facts = self.facts
        profit = unit_profit(facts.price, facts.unit_cost, tax_rate=np.nan_to_num(facts.tax_rate))
        evidence = self.demand.evidence
        fortnights = np.maximum(evidence.fortnights, evidence.drawn)[: len(self.demand.product_ids)]
        sold_out, rows, left_out = (float(self.backtest.get(name) or 0) for name in ("censored", "rows", "left_out"))
        return Circumstances(
            products=len(facts.product_ids),
            below_cost=int((~facts.cost_assumed & (profit < 0)).sum()),
            few_moves=int((fortnights < LEAST_FORTNIGHTS).sum()),
            sold_out=sold_out / max(rows + left_out, 1.0),
            short=self.backtest.get("history") or (),
        )


def pack(
    folder: str | Path,
    *,
    demand: DemandModel,
    facts: ProductFacts,
    config: ModelConfig,
    backtest: Mapping[str, Any],
    origin: Origin,
    holds_only: bool,
    anchors: Anchors,
) -> LoadedVersion:
    """Writes a version into a new folder and reads it back, so that what is returned is what was written.

    The same parts give the same bytes. Nothing is left behind when it fails. `backtest` is `Backtest.figures`, and as
    `data` what they were scored on, with its `fingerprint`. With `holds_only` no price may rest on its elasticities
    (`identified_share`); a refresh learns none, so it passes its parent's backtest, `holds_only` and
    own prices unchanged.

    Where the origin has versions of partitions it prices their products, and `demand` is of a sample of them.

    Raises:
        VersionError: The folder is not empty, or a part cannot be written.
    """
    folder = Path(folder)
    table = demand.table()
    if origin.parts:
        table = unite_tables([part.demand for part in origin.parts], like=table)

    pricer = Pricer(_priced_by(table, holds_only=holds_only), facts, config, version=GOLDEN)
    on_sale = facts.product_ids[np.isfinite(facts.typical_units)]
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
        "products": len(table.product_ids),
        "identified": round(identified_share(table, facts), 6),
        "holds_only": holds_only,
        "golden": golden.record(pricer, table, on_sale=on_sale, today=demand.state_date),
    }
    documents, arrays = _flattened(table, facts, demand, anchors)
    arrays |= {f"{_OWN_PRICES}/{name}": array for name, array in flatten(origin.own_prices)[0].items()}
    documents["backtest"] = backtest
    documents["config"] = config.model_dump(mode="json", include=set(ModelConfig.model_fields))
    packed = [part.folder.with_suffix(".tar") for part in origin.parts]
    files.write(folder, files.Files(documents, arrays, packed), header=header)
    return load(folder)


def _flattened(
    table: DemandTable, facts: ProductFacts, learner: DemandModel, anchors: Anchors
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The documents and the arrays of a version's folder, by names and paths without suffix."""
    table_arrays, table_rest = flatten(table)
    facts_arrays, facts_rest = flatten(facts)
    learner_arrays, learner_rest = flatten(learner)
    anchors_arrays, _ = flatten(anchors)
    parts = {
        "table": table_arrays,
        "products": {name: array for name, array in facts_arrays.items() if name not in NOT_READ},
        "anchors": anchors_arrays | {"since": np.array([anchors.since])},
        REFRESH: learner_arrays,
        f"{REFRESH}/facts": {name: facts_arrays[name] for name in NOT_READ},
    }
    arrays = {f"{part}/{name}": array for part, own in parts.items() for name, array in own.items()}
    return {"table": table_rest, "products": facts_rest, "learner": learner_rest}, arrays


def load(folder: str | Path, *, mapped: bool = True) -> LoadedVersion:
    """Reads a version but for what it learnt with; its arrays stay on disk, mapped read-only, or are read.

    Raises:
        VersionError: The folder holds no version, a file is missing or damaged, or the version is of
            another format or data contract: train again.
    """
    folder = Path(folder)
    header = files.read_header(folder)
    for name, known in (("format", FORMAT), ("contract", CONTRACT_VERSION)):
        if header.get(name) != known:
            raise VersionError(f"{folder}: has {name} {header.get(name)}, expected {known}; {_train_again(header)}")
    content = files.read(folder, parts=_SERVED, mapped=mapped)
    try:
        documents = content.documents
        demand = restore(DemandTable, _part(content.arrays, "table"), documents["table"])
        facts = restore(ProductFacts, NOT_READ | _part(content.arrays, "products"), documents["products"])
        if not all((ids[:-1] < ids[1:]).all() for ids in (demand.product_ids, facts.product_ids)):
            raise ValueError("its products are not in order")  # in which they are looked up
        return LoadedVersion(
            folder=folder,
            demand=demand,
            facts=facts,
            config=parse_model_config(documents["config"], where=f"{folder}/config.json"),
            meta=header,
            backtest=documents["backtest"],
            anchors=read_anchors(folder),
        )
    except (ConfigError, *_UNFIT) as error:
        raise VersionError(f"{folder}: cannot be read: {first_line(error)}; {_train_again(header)}") from error


def _priced_by(demand: DemandTable, *, holds_only: bool) -> DemandTable:
    """The demand that prices rest on: of a `holds_only` version, elasticities that are all graded *prior only*."""
    return replace(demand, grade=np.full_like(demand.grade, PRIOR_ONLY)) if holds_only else demand


def read_anchors(folder: str | Path) -> Anchors:
    """Reads a version's anchors alone, whichever library packed it: they must outlive an update of the library.

    Raises:
        VersionError: The folder holds no version, a file is missing or damaged, or it holds no anchors.
    """
    arrays = below(files.read(Path(folder), parts=("anchors",), mapped=False).arrays, "anchors")
    try:
        return restore(Anchors, arrays, {"since": arrays["since"][0]})
    except (KeyError, ValueError) as error:
        raise VersionError(f"{folder}: holds no anchors that this library can read: {error}") from error


def read_own_prices(folder: str | Path) -> OwnSpans:
    """Reads a version's marks of the platform's own prices, whichever library packed it; none where it holds none.

    Raises:
        VersionError: The folder holds no version, or a file is missing or damaged.
    """
    arrays = below(files.read(Path(folder), parts=(_OWN_PRICES,), mapped=False).arrays, _OWN_PRICES)
    return restore(OwnSpans, arrays, {}) if arrays else NO_SPANS


def _train_again(header: Mapping[str, Any]) -> str:
    return f"pricing {header.get('library')} packed it, and this is pricing {pricing.__version__}; train again"


def _part(arrays: Mapping[str, NDArray[Any]], part: str) -> dict[str, NDArray[Any]]:
    """A part's arrays as plain views of the mapped ones: indexing a memmap itself takes twice as long."""
    return {name: array.view(np.ndarray) for name, array in below(arrays, part).items()}
