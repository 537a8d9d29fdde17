"""The newest table of `pricing price` as columns, a row a product, and the lists that a person picks from it."""

import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pandas as pd

from pricing.arrays import Bools, Floats, Ints
from pricing.csv_text import unquote_formulas
from pricing.data.net_price import with_tax
from pricing.decision.reasons import BIT
from pricing.decision.switches import Review, Switch, Switches, Unfreeze
from pricing.errors import SourceError, first_line

FILES = ("prices.csv", "prices.parquet")  # in PRICING_HOME, as `pricing price` names them
PAGE = 50
SAME = 0.01  # a proposal that differs by less than this fraction from one that was rejected is the same one again
STILL = 5e-5  # a smaller change of price, a fraction, is none
STATES = ("open", "automatic", "approved", "rejected", "by hand", "held")
OPEN, AUTOMATIC, APPROVED, REJECTED, BY_HAND, HELD = range(len(STATES))
EYES = sum(BIT[code] for code in ("low_confidence", "model_failed", "cost", "largest_jump", "stock_short"))
_NUMBERS = (
    *("current_price", "proposed_price", "list_price", "unit_cost", "tax_rate", "confidence", "expected_units"),
    *("expected_gain", "gain_low", "gain_high", "comp_price_used", "current_stock"),
)
_TEXTS = ("product_id", "category", "strategy", "reasons", "binds", "gave_way", "date", "decision_id", "model_version")


@dataclass(frozen=True)
class Pick:
    """What a person wants to see, as the address says it."""

    show: str = "todo"
    category: str = ""
    strategy: str = ""
    reason: str = ""
    way: str = ""  # up or down
    least: float = 0.0  # size of the move, per cent
    q: str = ""  # part of a product's id
    sort: str = "money"
    page: int = 1

    @classmethod
    def of(cls, given: Mapping[str, str]) -> "Pick":
        """Reads an address; what makes no sense there counts as absent."""
        numbers = {"least": _number(given.get("least")), "page": max(int(_number(given.get("page"))), 1)}
        texts = {name: given.get(name, "")[:200] for name in ("category", "strategy", "reason", "way", "q")}
        chosen = {"show": given.get("show") or "todo", "sort": given.get("sort") or "money"}
        return cls(**texts, **chosen, **numbers)  # type: ignore[arg-type]

    def query(self, **changes: Any) -> str:
        """The same list as the end of an address, on its first page unless `changes` say otherwise."""
        one = replace(self, **({"page": 1} | changes))
        return urlencode({name: value for name, value in vars(one).items() if value != _DEFAULTS[name]})


_DEFAULTS = vars(Pick())


def _number(text: str | None) -> float:
    try:
        value = float(text or 0)
    except ValueError:
        return 0.0
    return value if 0 <= value < 1e9 else 0.0


@dataclass(frozen=True)
class Word:
    """The last word of a person on a product."""

    kind: str  # approve, reject, freeze, override or unfreeze
    by: str
    at: dt.datetime
    reason: str
    price: float | None = None


@dataclass(frozen=True, eq=False)
class Worklist:
    """A price table; (product,) each. Money in currency units, shares as fractions; NaN where unknown."""

    key: str  # of this table and no other
    made: dt.datetime
    text: Mapping[str, np.ndarray[Any, Any]]  # by the names of _TEXTS
    number: Mapping[str, Floats]  # by those of _NUMBERS
    bits: Ints  # reasons, and guardrails that bind

    @cached_property
    def rows(self) -> dict[str, int]:
        """Product → its row."""
        return {product: row for row, product in enumerate(self.text["product_id"].tolist())}

    @cached_property
    def day(self) -> dt.date:
        """The first day priced."""
        return dt.date.fromisoformat(min(self.text["date"].tolist())[:10])

    @cached_property
    def before(self) -> Floats:
        """The price that a change is counted from: the current one, or list price where that is unknown."""
        return np.where(np.isnan(self.number["current_price"]), self.number["list_price"], self.number["current_price"])

    @cached_property
    def change(self) -> Floats:
        """The proposal's change, a fraction; 0 where none is made."""
        change = self.number["proposed_price"] / self.before - 1
        return np.where(np.abs(change) > STILL, np.nan_to_num(change), 0.0)

    @cached_property
    def gain(self) -> Floats:
        """Expected gain; 0 where unknown."""
        return np.nan_to_num(self.number["expected_gain"])

    @cached_property
    def _orders(self) -> Mapping[str, Ints]:
        size, doubt = -np.abs(self.change), np.nan_to_num(self.number["confidence"])
        keys = {"money": (size, -self.gain), "move": (-self.gain, size), "doubt": (-self.gain, doubt)}
        return {name: np.lexsort(key) for name, key in keys.items()} | {"product": np.arange(len(self.bits))}

    @cached_property
    def _lower(self) -> list[str]:
        return [product.casefold() for product in self.text["product_id"].tolist()]

    @cached_property
    def names(self) -> dict[str, list[str]]:
        """The categories and strategies that there are."""
        return {name: np.unique(self.text[name]).tolist() for name in ("category", "strategy")}

    def states(self, words: Mapping[str, Word], switches: Switches, *, beyond: float | None) -> Ints:
        """(product,) index into STATES: what serving makes of the proposal, and what persons said of it."""
        proposed, moves, known = self.number["proposed_price"], self.change != 0, self.rows
        approved, rejected, by_hand = np.full(len(moves), np.nan), np.zeros(len(moves)), np.zeros(len(moves), np.bool_)
        for product in switches.approved.keys() & known.keys():
            approved[known[product]] = switches.approved[product]
        for product in words.keys() & known.keys():
            word = words[product]
            rejected[known[product]] = word.price if word.kind == "reject" and word.price else np.nan
        for switch in switches:
            if switch.scope == "product":
                by_hand[self.rows.get(switch.name, slice(0, 0))] = True
            else:
                by_hand |= True if switch.scope == "all" else self.text["category"] == switch.name
        limit, has = STILL if beyond is None else beyond + STILL, np.isfinite(approved)
        cost = with_tax(self.number["unit_cost"], self.number["tax_rate"])
        floor = np.where(self.bits & BIT["cost_assumed"], np.nan, cost)  # below a known cost nothing is charged
        with np.errstate(divide="ignore", invalid="ignore"):
            near = np.abs(proposed / np.fmax(np.where(has, approved, self.before), floor) - 1) <= limit
            again = np.abs(proposed / rejected - 1) < SAME
        found = np.where(again, REJECTED, OPEN)
        found = np.where(near & (beyond is not None), AUTOMATIC, found)
        found = np.where(near & has, APPROVED, found)
        waits, looked_at = has & ~near & (beyond is not None), has & near & ((self.bits & EYES) > 0)
        found = np.where(moves | waits | looked_at, found, HELD)
        return np.where(by_hand, BY_HAND, found)

    def pick(self, pick: Pick, states: Ints) -> Ints:
        """The rows of a list, in its order."""
        mask = self._shown(pick.show, states)
        for name in ("category", "strategy"):
            if getattr(pick, name):
                mask &= self.text[name] == getattr(pick, name)
        if pick.reason:
            mask &= (self.bits & BIT.get(pick.reason, 0)) > 0
        if pick.way:
            mask &= self.change > 0 if pick.way == "up" else self.change < 0
        if pick.least:
            mask &= np.abs(self.change) >= pick.least / 100 - STILL
        if pick.q:
            wanted = pick.q.strip().casefold()
            mask &= np.fromiter((wanted in product for product in self._lower), np.bool_, len(mask))
        order = self._orders.get(pick.sort, self._orders["money"])
        return np.asarray(order[mask[order]])

    def _shown(self, show: str, states: Ints) -> Bools:
        if show == "all":
            return np.ones(len(states), np.bool_)
        if show in STATES:
            return np.asarray(states == STATES.index(show))
        return np.asarray((states == OPEN) | ((states == HELD) & ((self.bits & EYES) > 0)))


def newest_table(home: Path) -> tuple[Path, str] | None:
    """The newest price table of a PRICING_HOME and its key; None where there is none."""
    found = [(path.stat().st_mtime_ns, path) for path in (home / name for name in FILES) if path.is_file()]
    return (max(found)[1], f"{max(found)[0]:x}") if found else None


def read_table(path: Path, *, key: str) -> Worklist:
    """Reads a price table.

    Raises:
        SourceError: It cannot be read, or lacks a column.
    """
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        else:
            text = dict.fromkeys(_TEXTS, str)
            frame = pd.read_csv(path, dtype=text, keep_default_na=False, na_values={name: [""] for name in _NUMBERS})
            frame = unquote_formulas(frame)
        made = dt.datetime.fromtimestamp(path.stat().st_mtime).astimezone()
        if missing := sorted({*_TEXTS, *_NUMBERS} - set(frame.columns)):
            raise SourceError(f"{path}: lacks {', '.join(missing)}; make it again with pricing price")
        frame = frame.drop_duplicates("product_id").sort_values("product_id")
        texts = {name: frame[name].fillna("").astype(str).to_numpy(dtype=np.str_) for name in _TEXTS}
        numbers = {name: frame[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in _NUMBERS}
    except (OSError, ValueError, TypeError) as error:
        raise SourceError(f"{path}: cannot be read ({first_line(error)})") from error
    said = np.char.add(np.char.add(texts["reasons"], " "), texts["binds"])
    unique, place = np.unique(said, return_inverse=True)
    bits = np.array([sum(BIT.get(code, 0) for code in joined.split()) for joined in unique.tolist()], np.int64)
    return Worklist(key, made, texts, numbers, bits[place] if len(bits) else np.zeros(0, np.int64))


@dataclass
class Said:
    """What persons have said so far, by the entries of the control record; reads on where it left off."""

    sequence: int = 0
    words: dict[str, Word] = field(default_factory=dict)  # product → the last one
    switches: dict[tuple[str, str], Switch | Unfreeze] = field(default_factory=dict)
    approved: dict[str, float] = field(default_factory=dict)

    def hear(self, entry: Switch | Unfreeze | Review) -> None:
        """Takes in one entry."""
        if isinstance(entry, Review):
            said = entry.verdict, entry.by, entry.at, entry.reason
            self.words |= {product: Word(*said, price) for product, price in entry.prices.items()}
            self.approved |= entry.prices if entry.verdict == "approve" else {}
            return
        self.switches[entry.scope, entry.name] = entry
        if entry.scope == "product":
            kind, price = (entry.action, entry.price) if isinstance(entry, Switch) else ("unfreeze", None)
            self.approved.pop(entry.name, None)
            self.words[entry.name] = Word(kind, entry.by, entry.at, entry.reason, price)

    def in_force(self, moment: dt.datetime) -> Switches:
        """The switches that have not ended."""
        known: Iterable[Switch] = (one for one in self.switches.values() if isinstance(one, Switch))
        return Switches(known, self.approved).at(moment)


def totals(worklist: Worklist, rows: Ints | Sequence[int]) -> tuple[float, float, float]:
    """Expected gain of some rows, and its 80 % interval, as if products were independent."""
    mean = float(worklist.gain[rows].sum())
    ends = (worklist.number[name][rows] - worklist.number["expected_gain"][rows] for name in ("gain_low", "gain_high"))
    low, high = (math.sqrt(float(np.nansum(end * end))) for end in ends)
    return mean, mean - low, mean + high
