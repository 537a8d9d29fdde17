"""The newest table of `pricing price` as columns, a row a product, and the lists that a person picks from it."""

import datetime as dt
import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pandas as pd

from console import words
from pricing.arrays import Bools, Floats, Ints
from pricing.config_models import DecisionConfig
from pricing.decision.allowed_prices import AllowedPrices, PriceGrid
from pricing.decision.approval import approval, cost_step, frozen_price, given_price
from pricing.decision.decide import Policy
from pricing.decision.limits import EDGE, HardContext
from pricing.decision.product_facts import ProductFacts
from pricing.decision.reasons import BIT
from pricing.decision.switches import NO_SWITCHES, Review, Switch, Switches
from pricing.errors import SourceError, first_line
from pricing.registry.control import Heard

PAGE = 50
SAME = 0.01  # a proposal that differs by less than this fraction from one that was rejected is the same one again
STATES = ("open", "automatic", "approved", "rejected", "by hand", "held")
OPEN, AUTOMATIC, APPROVED, REJECTED, BY_HAND, HELD = range(len(STATES))
EYES = sum(BIT[code] for code in ("low_confidence", "model_failed", "cost", "largest_jump", "stock_short"))
_EXPECTED = ("expected_gain", "gain_low", "gain_high", "worst_case", "confidence")  # of the model's price
_NUMBERS = (
    "current_price",
    "proposed_price",
    "list_price",
    "unit_cost",
    "tax_rate",
    "expected_units",
    "comp_price_used",
    "current_stock",
    *_EXPECTED,
)
_TEXTS = (
    "product_id",
    "name",
    "category",
    "strategy",
    "reasons",
    "binds",
    "gave_way",
    "step",
    "date",
    "decision_id",
    "model_version",
)
_CENTS = PriceGrid(0.01)
WAYS = {"up": 1, "down": -1, "stay": 0}


@dataclass(frozen=True)
class Pick:
    """The list that a person wants to see, as its address has it."""

    show: str = "todo"
    category: str = ""
    strategy: str = ""
    reason: str = ""
    way: str = ""  # of WAYS
    least: float = 0.0  # size of the move, per cent
    q: str = ""  # part of a product's id or name
    sort: str = "money"
    page: int = 1

    @classmethod
    def of(cls, given: Mapping[str, str]) -> "Pick":
        """Reads an address; what makes no sense there counts as absent."""
        texts = {name: given[name][:200] for name in _DEFAULTS if given.get(name)}
        return cls(**texts | {"least": _number(given.get("least")), "page": max(int(_number(given.get("page"))), 1)})  # type: ignore[arg-type]

    def query(self, **changes: Any) -> str:
        """The same list as the end of an address, on its first page unless `changes` say otherwise."""
        pick = replace(self, **({"page": 1} | changes))
        return urlencode({name: value for name, value in vars(pick).items() if value != _DEFAULTS[name]})


_DEFAULTS = vars(Pick())


def _number(text: str | None) -> float:
    try:
        value = float(text or 0)
    except ValueError:
        return 0.0
    return value if 0 <= value < 1e9 else 0.0


@dataclass(frozen=True, eq=False)
class Worklist:
    """A price table; (product,) each. Money in currency units, shares as fractions; NaN where unknown."""

    key: str  # of this table and no other
    made: dt.datetime
    text: Mapping[str, np.ndarray[Any, Any]]  # by the names of _TEXTS
    number: Mapping[str, Floats]  # by those of _NUMBERS, and `charged`: the price that serving gives
    bits: Ints  # reasons, and guardrails that bind
    state: Ints  # index into STATES
    rows: Mapping[str, int]  # product → its row
    names: Mapping[str, list[str]]  # every category, and every strategy
    orders: Mapping[str, Ints] = field(default_factory=dict)  # by words.SORTS: every row, as proposals come
    seen: int = 0  # sequence of the last entry of the control record that it rests on
    switches: Switches = NO_SWITCHES  # in force, with the prices approved last
    grid: PriceGrid = _CENTS  # prices are compared in its steps

    @cached_property
    def before(self) -> Floats:
        """The price that a change is counted from: the current one, or list price where that is unknown."""
        return np.where(np.isnan(self.number["current_price"]), self.number["list_price"], self.number["current_price"])

    @cached_property
    def change(self) -> Floats:
        """The proposal's change, a fraction; 0 where none is made."""
        return self._moved(self.number["proposed_price"])

    @cached_property
    def charges(self) -> Bools:
        """Another price than now may be charged."""
        return np.asarray(self._moved(self.number["charged"]) != 0)

    @cached_property
    def waits(self) -> Bools:
        """A proposal waits, and no other price than now may be charged meanwhile."""
        return np.asarray((self.state == OPEN) & ~self.charges)

    @cached_property
    def gain(self) -> Floats:
        """Expected gain; 0 where unknown."""
        return np.nan_to_num(self.number["expected_gain"])

    def standing(
        self, heard: Heard, switches: Switches, *, policy: Policy, facts: ProductFacts | None = None
    ) -> "Worklist":
        """The table with where each proposal stands, and the price that serving makes of it.

        A price that a person set stands in for the proposal, and nothing is expected of it.

        Args:
            heard: What people said of proposals.
            switches: Those in force, with the prices approved last.
            policy: The limit of approval, the step of prices and the hard guardrails that serving has.
            facts: What serving knows of the products; None without a version.
        """
        beyond, grid = policy.config.approve_beyond, policy.allowed.grid
        proposed = self.number["proposed_price"]
        approved = self._column(switches.approved)
        floor = cost_step(self.number["unit_cost"], self.number["tax_rate"], grid, assumed=self._cost_assumed)
        found = approval(
            proposed,
            before=self.before,
            approved=approved,
            floor=floor,
            drawn=self.bits & BIT["price_test"] > 0,
            beyond=beyond,
            grid=grid,
        )
        charged = np.where(found.waits, found.kept, proposed)

        # The state: the last of these that holds.
        seen = np.isfinite(approved) & ~found.waits & ((beyond is not None) | ~grid.moved(proposed, approved))
        again = np.abs(proposed / self._column(_rejected(heard)) - 1) < SAME
        state = np.where(again, REJECTED, OPEN)
        state = np.where(found.waits | (beyond is None), state, AUTOMATIC)
        state = np.where(seen, APPROVED, state)
        state = np.where((self.change != 0) | found.waits | (seen & self._wants_eyes), state, HELD)

        bits = self.bits.copy()
        freezes = any(switch.price is None for switch in switches)
        frozen = self._frozen(policy.allowed, facts) if freezes else charged
        for switch in sorted(switches, key=lambda switch: switch.scope):  # all, category, product: the narrowest counts
            mine = self._under(switch)
            if switch.price is None:
                charged[mine] = frozen[mine]
                bits[mine] = BIT["frozen"]
            else:
                charged[mine] = given_price(switch.price, floor[mine], below_cost=switch.below_cost, grid=grid)
                bits[mine] = BIT["overridden"]
            state[mine] = BY_HAND

        by_hand = state == BY_HAND
        number = dict(self.number)
        number |= {name: np.where(by_hand, np.nan, number[name]) for name in _EXPECTED}
        number |= {"charged": charged, "proposed_price": np.where(by_hand, charged, proposed)}
        return replace(self, number=number, bits=bits, state=state, seen=heard.sequence, switches=switches, grid=grid)

    def pick(self, pick: Pick) -> Ints:
        """The rows of a list, in its order."""
        mask = self.shown(pick.show) & self.matching(pick)
        order = self.orders.get(pick.sort, self.orders["money"])
        rows = order[mask[order]]
        return np.asarray(rows[np.argsort(self.state[rows] == BY_HAND, kind="stable")])  # nothing is expected of these

    def matching(self, pick: Pick) -> Bools:
        """The rows that the filters of a list leave, whichever list it is."""
        mask = np.ones(len(self.bits), np.bool_)
        for name in ("category", "strategy"):
            if getattr(pick, name):
                mask &= self.text[name] == getattr(pick, name)
        if pick.reason:
            mask &= (self.bits & BIT.get(pick.reason, 0)) > 0
        if pick.way:
            mask &= np.sign(self.change) == WAYS.get(pick.way)
        if pick.least:
            mask &= np.abs(self.change) >= pick.least / 100 - EDGE
        if pick.q:
            wanted = pick.q.strip().casefold()
            texts = map("\n".join, zip(self.rows, self.text["name"].tolist(), strict=True))
            mask &= np.fromiter((wanted in text.casefold() for text in texts), np.bool_, len(mask))
        return mask

    def shown(self, show: str) -> Bools:
        """The rows of a list before its filters."""
        if show == "all":
            return np.ones(len(self.bits), np.bool_)
        if show in STATES:
            return np.asarray(self.state == STATES.index(show))
        return np.asarray((self.state == OPEN) | ((self.state == HELD) & self._wants_eyes))

    def counted(self, rows: Bools) -> tuple[int, tuple[float, float, float]]:
        """How many rows are marked, their expected gain and its 80 % interval, as if all products erred alike.

        Every number of products on a page comes from here: a mask of `shown`, `matching`, or both.
        """
        mean = float(self.gain[rows].sum())
        low, high = (
            float(np.nansum(self.number[name][rows] - self.number["expected_gain"][rows]))
            for name in ("gain_low", "gain_high")
        )
        return int(rows.sum()), (mean, mean + low, mean + high)

    def why(self, row: int, decision: DecisionConfig) -> str:
        """Why the price of a row moves, or stays, in words."""
        strategy = decision.strategies.get(str(self.text["strategy"][row]))
        kind = strategy.kind if strategy else ""
        return words.why(str(self.text["step"][row]), int(self.bits[row]), float(self.change[row]), kind)

    @property
    def _wants_eyes(self) -> Bools:
        return (self.bits & EYES) > 0

    @property
    def _cost_assumed(self) -> Bools:
        return (self.bits & BIT["cost_assumed"]) > 0

    def _column(self, of: Mapping[str, float]) -> Floats:
        """(product,) a number by product; NaN where there is none."""
        found = np.full(len(self.bits), np.nan)
        for product in of.keys() & self.rows.keys():
            found[self.rows[product]] = of[product]
        return found

    def _under(self, switch: Switch) -> Ints:
        """The rows that a switch is meant for."""
        if switch.scope == "all":
            return np.arange(len(self.bits))
        if switch.scope == "category":
            return np.flatnonzero(self.text["category"] == switch.name)
        row = self.rows.get(switch.name)
        return np.array([] if row is None else [row], np.int64)

    def _frozen(self, allowed: AllowedPrices, facts: ProductFacts | None) -> Floats:
        """(product,) what a freeze makes of the price charged now."""
        current, listed = self.number["current_price"], self.number["list_price"]
        known = {name: np.full(len(self.bits), np.nan) for name in ("last_price", "anchor_price")}
        if facts is not None:
            known = {name: facts.column(name, self.text["product_id"]) for name in known}
        context = HardContext(
            current_price=np.where(np.isnan(current), allowed.grid.nearest(listed), current),
            list_price=listed,
            unit_cost=self.number["unit_cost"],
            tax_rate=self.number["tax_rate"],
            cost_assumed=self._cost_assumed,
            **known,
        )
        return frozen_price(context, allowed)

    def _moved(self, price: Floats) -> Floats:
        return np.where(self.grid.moved(price, self.before), price / self.before - 1, 0.0)


def _rejected(heard: Heard) -> dict[str, float]:
    """Product → the price that a person rejected last."""
    said = heard.words.items()
    return {
        product: word.prices[product] for product, word in said if isinstance(word, Review) and word.verdict == "reject"
    }


def read_table(content: bytes, *, key: str, made: dt.datetime) -> Worklist:
    """Reads a price table, before any person's word on it.

    Raises:
        SourceError: It cannot be read, or lacks a column.
    """
    try:
        # An empty field is an unknown number, and no text is: a product may be named NA.
        frame = pd.read_csv(
            io.BytesIO(content),
            compression="gzip",
            dtype=dict.fromkeys(_TEXTS, str),
            keep_default_na=False,
            na_values=dict.fromkeys(_NUMBERS, ""),
            float_precision="round_trip",
        )
        if missing := sorted({*_TEXTS, *_NUMBERS} - set(frame.columns)):
            raise SourceError(f"the price table lacks {', '.join(missing)}; make it again with pricing price")
        frame = frame.drop_duplicates("product_id").sort_values("product_id")
        texts = {name: frame[name].to_numpy(dtype=np.str_) for name in _TEXTS}
        numbers = {name: frame[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in _NUMBERS}
        for name in ("list_price", "unit_cost", "tax_rate"):
            if np.isnan(numbers[name]).any():
                raise SourceError(f"the price table has rows without {name}; make it again with pricing price")
    except (OSError, ValueError, TypeError) as error:
        raise SourceError(f"the price table cannot be read ({first_line(error)})") from error
    said = np.char.add(np.char.add(texts["reasons"], " "), texts["binds"])
    unique, place = np.unique(said, return_inverse=True)
    bits = np.array([sum(BIT.get(code, 0) for code in joined.split()) for joined in unique.tolist()], np.int64)
    rows = {product: row for row, product in enumerate(texts["product_id"].tolist())}
    names = {name: np.unique(texts[name]).tolist() for name in ("category", "strategy")}
    state = np.full(len(rows), HELD)
    table = Worklist(key, made, texts, numbers, bits[place] if len(bits) else state, state, rows, names)
    size, doubt = -np.abs(table.change), np.nan_to_num(table.number["confidence"])
    keys = {"money": (size, -table.gain), "move": (-table.gain, size), "doubt": (-table.gain, doubt)}
    orders = {name: np.lexsort(key) for name, key in keys.items()} | {"product": np.arange(len(rows))}
    return replace(table, orders=orders)
