"""A model version: everything a decision needs, packed into one folder and loaded from it. No MLflow, no pandas."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import pricing
from pricing.arrays import Floats, Ints, below, flatten, restore
from pricing.config import ModelConfig, parse_model_config
from pricing.data.anchors import Anchors
from pricing.data.net_price import unit_profit
from pricing.data.panel import CONTRACT_VERSION
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import NOT_READ, ProductFacts
from pricing.demand.grades import GRADES, LEAST_FORTNIGHTS, PRIOR_ONLY, flag_names, why_held
from pricing.demand.model import DemandModel
from pricing.demand.table import DemandTable
from pricing.errors import ConfigError, VersionError, first_line
from pricing.registry import files, golden
from pricing.registry.gates import Circumstances
from pricing.registry.union import unite_tables

FORMAT = 5  # of a version's files: no other is read

MEANINGS: Mapping[str, str] = {
    "tested": "prices drawn at random in experiments tell how demand answers to price",
    "own_history": "the product's own price changes tell how demand answers to price",
    "category": "the product's own price changes tell too little, so its elasticity is that of its category",
    "prior_only": "too little tells how demand answers to price, so the price stays, or goes back to list price from "
    "above, but for stock and guardrails",
}
HOLDS_ONLY_MEANING = (
    "the version is holds_only: it knows too little of elasticities, so it forecasts and every price stays, or goes "
    "back to list price from above, but for stock, guardrails and strategies that rest on no elasticity"
)

ELASTICITY_DIGITS = 2  # decimals of an elasticity, wherever it is shown

REFRESH = "refresh"  # the folder of what is needed to carry a version forward, and to price by it is not
_SERVED = ("table", "products", "backtest", "config")
_OF_OTHER_PARTS = (AttributeError, LookupError, TypeError, ValueError)  # what the files of another library raise


@dataclass(frozen=True)
class ShownCompetitor:
    """The effect of the competitor's price on a product's demand, as every place shows it.

    `effect` is by how many per cent demand rises when that price does by one, `low` and `high` are the ends of its 80 %
    interval; all None where it is unknown. `moves` counts those in the history that it was estimated from.
    """

    effect: float | None
    low: float | None
    high: float | None
    moves: int
    words: str


def shown_competitor(demand: DemandTable, row: int) -> ShownCompetitor:
    """The effect of the competitor's price on the product in a row, −1 for one that is not known."""
    one = demand.competitor.spread(np.array([row])) if demand.competitor is not None and row >= 0 else None
    moves = int(one.moves[0]) if one is not None else 0
    if one is None or not np.isfinite(one.mean[0]):
        words = f"What the competitor's price does to demand is unknown; moves of it in the history: {moves}."
        return ShownCompetitor(None, None, None, moves, words)
    effect, low, high = (round(float(ends[0]), ELASTICITY_DIGITS) + 0.0 for ends in (one.mean, *one.interval()))
    doubt = ", so perhaps nothing" if low <= 0 <= high else ""
    doubt += ", and prices take it for nothing" if effect < 0 else ""
    words = (
        f"A competitor 1 % dearer changes demand by {effect:+.2f} % "
        f"(80 % interval {low:+.2f} to {high:+.2f}{doubt}; {moves} moves of its price)."
    ).replace("-", "−")
    return ShownCompetitor(effect, low, high, moves, words)


def shown_elasticities(demand: DemandTable, rows: Ints, *, holds_only: bool) -> dict[str, NDArray[Any]]:
    """Describes the elasticities of products `rows` and how well they are known, as columns (row,), for every place.

    `elasticity_low` and `_high` are the ends of the 80 % interval. `grade` is one of `grades.GRADES`, `moves` and
    `prices` count price moves and distinct prices that it was learnt from, `doubts` names what speaks against it
    (`grades.FLAGS`, joined by commas), `why` says why the price stays where it does (`grades.why_held`). A row of −1 is
    a product that the model does not know.
    """
    evidence, known = demand.evidence, rows >= 0
    figures = zip(("", "_low", "_high"), demand.elasticities(np.where(known, rows, 0)), strict=True)
    grade, moves, prices, fortnights, flags = (
        np.where(known, column[rows], 0)
        for column in (demand.grade, evidence.moves, evidence.prices, evidence.fortnights, evidence.flags)
    )
    all_stay = "stays, as all do: too little of what is sold has a known answer to price (holds_only)"
    why = [
        why_held(one, moves=number, fortnights=of_them) or (all_stay if holds_only else "")
        for one, number, of_them in zip(grade.tolist(), moves.tolist(), fortnights.tolist(), strict=True)
    ]
    return {
        **{
            f"elasticity{end}": np.where(known, np.round(values.astype(np.float64), ELASTICITY_DIGITS), np.nan)
            for end, values in figures
        },
        "grade": np.array(GRADES)[grade],
        "moves": moves,
        "prices": prices,
        "doubts": np.array([", ".join(flag_names(bits)) for bits in flags.tolist()], dtype=np.str_),
        "why": np.array(why, dtype=np.str_),
    }


def unit_shares(demand: DemandTable, facts: ProductFacts) -> Floats:
    """(product,) share of the units sold recently, in the demand model's order.

    A product that has not been on sale recently weighs 0; where all weigh 0, all count the same.
    """
    sold = dict(zip(facts.product_ids.tolist(), np.nan_to_num(facts.typical_units).tolist(), strict=True))
    units = np.array([sold.get(product, 0.0) for product in demand.product_ids.tolist()])
    units = units if units.any() else np.ones(len(units))
    return np.asarray(units / max(float(units.sum()), 1e-300))


def shares_by_grade(demand: DemandTable, facts: ProductFacts) -> dict[str, float]:
    """Share of the units per grade, highest grade first; all 0 without products."""
    shares = unit_shares(demand, facts)
    found = [float(shares[demand.grade[: len(shares)] == grade].sum()) for grade in range(len(GRADES))]
    return {name: found[grade] for grade, name in reversed(tuple(enumerate(GRADES)))}


def identified_share(demand: DemandTable, facts: ProductFacts) -> float:
    """Share of the units whose elasticity is known from more than a prior, 0…1.

    Below `registry.gates.identified` a version must be `holds_only`: no price may rest on its elasticities.
    """
    return float(unit_shares(demand, facts)[demand.grade[: len(demand.product_ids)] != PRIOR_ONLY].sum())


def circumstances_of(version: "LoadedVersion") -> Circumstances:
    """Gathers the figures of a version that may have made a gate refuse it."""
    facts, moved = version.facts, version.demand.evidence
    rate = np.nan_to_num(facts.tax_rate)
    cheap = ~facts.cost_assumed & (unit_profit(facts.price, facts.unit_cost, tax_rate=rate) < 0)
    few = np.maximum(moved.fortnights, moved.drawn)[: len(version.demand.product_ids)] < LEAST_FORTNIGHTS
    sold_out, rows, left_out = (float(version.backtest.get(name) or 0) for name in ("censored", "rows", "left_out"))
    return Circumstances(
        products=len(facts.product_ids),
        below_cost=int(cheap.sum()),
        few_moves=int(few.sum()),
        sold_out=sold_out / max(rows + left_out, 1.0),
        short=version.backtest.get("history") or (),
    )


@dataclass(frozen=True)
class Origin:
    """Where a version comes from."""

    kind: Literal["train", "refresh"]  # whether its weights are new, or those of the registry's version `parent`
    data: Mapping[str, Any]  # the sales that it was computed on, as JSON: `fingerprint`, `source`, `rows`, …
    parent: str | None = None
    checks: Mapping[str, Any] = field(default_factory=dict)  # measured while it was made, such as a refresh's `parity`
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

    @cached_property
    def weights_hash(self) -> str:
        """The hash of its weights: versions that share it differ in their states only."""
        return str(self.meta["weights"])

    @cached_property
    def holds_only(self) -> bool:
        """True where no price rests on its elasticities, and so prices stay, but for stock and guardrails."""
        return bool(self.meta["holds_only"])

    @cached_property
    def learner(self) -> DemandModel:
        """The weights and states that it learnt with, to carry it forward; no price needs them."""
        content = files.read(self.folder, parts=(REFRESH, "learner"))
        try:
            return restore(DemandModel, _part(content.arrays, REFRESH), content.documents["learner"])
        except _OF_OTHER_PARTS as error:
            raise VersionError(f"{self.folder}: cannot be carried forward: {first_line(error)}; train again") from error

    @property
    def partitions(self) -> int:
        """The partitions whose versions it was united from; 0 of an ordinary version."""
        return sum(name.startswith(f"{files.PARTS}/") for name in self.meta["files"])

    def whole_facts(self) -> ProductFacts:
        """The facts with the columns that only carrying them forward reads (`product_facts.NOT_READ`)."""
        known = files.read(self.folder, parts=(f"{REFRESH}/facts",), mapped=False)
        return replace(self.facts, **_part(known.arrays, f"{REFRESH}/facts"))  # type: ignore[arg-type]

    def pricer(self, *, version: str, config: ModelConfig | None = None, largest_jump: float | None = None) -> Pricer:
        """Makes the pricer of this version, named `version` in its decisions.

        A `config` replaces the one that it was built with. A price lies `largest_jump` from the last one charged at
        most (`serving.largest_jump`); None: any distance.
        """
        known = _priced_by(self.demand, holds_only=self.holds_only)
        return Pricer(known, self.facts, config or self.config, version=version, largest_jump=largest_jump)

    def verify(self) -> tuple[float, ...]:
        """Prices the golden requests and compares them with what was recorded at packing; returns milliseconds of each.

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
    anchors: Anchors,
) -> LoadedVersion:
    """Writes a version into a new folder and reads it back, so that what is returned is what was written.

    The same parts give the same bytes. Nothing is left behind when it fails. `backtest` is `Backtest.figures`, and as
    `data` what they were scored on, with its `fingerprint`. With `holds_only` no price may rest on its elasticities
    (`identified_share`); a refresh learns none, so it passes its parent's backtest and `holds_only` unchanged.

    Where the origin has versions of partitions it prices their products, and `demand` is of a sample of them.

    Raises:
        VersionError: The folder is not empty, or a part cannot be written.
    """
    folder, table = Path(folder), demand.table()
    if origin.parts:
        table = unite_tables([part.demand for part in origin.parts], like=table)
    pricer = Pricer(_priced_by(table, holds_only=holds_only), facts, config, version="golden")
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
    (served, of_table), (known, of_facts), (learnt, of_learner) = map(flatten, (table, facts, demand))
    documents = {
        "backtest": backtest,
        "config": config.model_dump(mode="json", include=set(ModelConfig.model_fields)),
        "table": of_table,
        "products": of_facts,
        "learner": of_learner,
    }
    parts = {
        "table": served,
        "products": {name: array for name, array in known.items() if name not in NOT_READ},
        "anchors": flatten(anchors)[0] | {"since": np.array([anchors.since])},
        REFRESH: learnt,
        f"{REFRESH}/facts": {name: known[name] for name in NOT_READ},
    }
    arrays = {f"{part}/{name}": array for part, of in parts.items() for name, array in of.items()}
    packed = [part.folder.with_suffix(".tar") for part in origin.parts]
    files.write(folder, files.Files(documents, arrays, packed), header=header)
    return load(folder)


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
    except (ConfigError, *_OF_OTHER_PARTS) as error:
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


def _train_again(header: Mapping[str, Any]) -> str:
    return f"pricing {header.get('library')} packed it, and this is pricing {pricing.__version__}; train again"


def _part(arrays: Mapping[str, NDArray[Any]], part: str) -> dict[str, NDArray[Any]]:
    """A part's arrays as plain views of the mapped ones: indexing a memmap itself takes twice as long."""
    return {name: array.view(np.ndarray) for name, array in below(arrays, part).items()}
