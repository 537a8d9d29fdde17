"""Fixtures for tests of decisions: demand of constant elasticity, facts of a few products, a configuration."""

import copy
import datetime as dt
from functools import cache, partial
from typing import Any

import numpy as np

from pricing.config import Config, load_config
from pricing.data.event_windows import Lift
from pricing.decision.cadence import LONGEST, next_deliveries
from pricing.decision.limits import PricingContext
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision.request import Decision, PriceRequest
from pricing.demand.curve import DemandAt, DemandGrid, Offers
from pricing.demand.grades import CATEGORY, OWN_HISTORY, TESTED

TODAY = dt.date(2025, 3, 2)  # a Sunday, the day after the facts
NEXT_DELIVERY = 7  # periods that `demand` looks ahead
NODES = (2.0, 2.3, 2.7, 3.0)
NO_DAY = np.datetime64("NaT", "D")


@cache
def _defaults() -> dict[str, Any]:
    return load_config().model_dump(mode="json")


def config(**decision: Any) -> Config:
    """The default configuration with some keys of its decision section replaced; `guardrails` are merged.

    The largest move, the range of past prices and calibration are off, so that a test sees the decision itself.
    """
    values = copy.deepcopy(_defaults())
    guardrails = decision.pop("guardrails", {})
    values["decision"] |= {"confidence_slope": 1.0} | decision
    values["decision"]["guardrails"] |= {"max_move": None, "seen": None} | guardrails
    return Config.model_validate(values, strict=False)


class Eventless:
    """Demand that no event lifts."""

    def events_on(self, date: dt.date, *, category: int) -> tuple[Lift, ...]:
        """Returns no event."""
        return ()


class ConstantElasticity(Eventless):
    """Demand 10 × (price / list price) ^ −elasticity at every node, its size the same for every horizon."""

    def __init__(
        self,
        *,
        elasticities: tuple[float, ...] = (2.5,),
        weight: tuple[float, ...] | None = None,
        size: float = 50.0,
    ) -> None:
        self.product_ids = np.array(["apple", "bread", "cocoa"])
        self.categories = np.array(["fruit", "pantry"])
        self.elasticities = np.array(elasticities)
        self.weight = np.full(len(elasticities), 1 / len(elasticities)) if weight is None else np.array(weight)
        self.size = size

    def curves(self, offers: Offers) -> DemandAt:
        return partial(self._grid, offers)

    def _grid(self, offers: Offers, prices: np.ndarray) -> DemandGrid:
        ratio = np.log(prices / offers.list_price[:, None])
        first = 10.0 * np.exp(-self.elasticities[None, :, None] * ratio[:, None, :])
        size = np.full(len(prices), self.size)
        source = np.where(offers.product >= 0, 0, 1)
        grade = np.where(offers.product >= 0, OWN_HISTORY, CATEGORY)
        until = first * offers.periods[:, None, None]
        return DemandGrid(first, until, size, size, self.weight, source, grade, np.ones(len(prices)))


FOUR = ConstantElasticity(elasticities=NODES)


def pricer(
    known: ProductFacts | None = None, *, jump: float | None = None, demand: Any = FOUR, **decision: Any
) -> Pricer:
    """Prices three products, or those of other facts, by a demand of four elasticities, by another or by rule alone."""
    return Pricer(demand, known or facts(), config(**decision), version="7", largest_jump=jump)


def ask(product_id: str = "apple", **fields: Any) -> PriceRequest:
    """A request for a Friday with ample stock; some fields replaced."""
    return PriceRequest(**({"product_id": product_id, "current_stock": 1000.0, "day_of_week": "Friday"} | fields))


def answer(request: PriceRequest, by: Pricer, today: dt.date = TODAY) -> Decision:
    """The decision of one request."""
    return by.price([request], today=today)[0]


def demand(
    elasticity: float | list[float],
    *,
    level: float = 10,
    size: float = 50,
    grade: int = TESTED,
    known: float = 1,
    diverted: float = 0.0,
) -> DemandAt:
    """Demand of constant elasticity, or one per node, around a list price of 10."""
    nodes = np.atleast_1d(np.asarray(elasticity, dtype=float))

    def demand_at(prices: np.ndarray) -> DemandGrid:
        first = level * np.exp(-nodes[:, None] * np.log(prices / 10.0)[:, None, :])
        sizes, zeros = np.full(len(prices), size), np.zeros(len(prices), int)
        weight = np.full(len(nodes), 1 / len(nodes))
        until = first * NEXT_DELIVERY
        shape = (sizes, sizes, weight, zeros, zeros + grade, zeros + known)
        return DemandGrid(first, until, *shape, diverted=diverted)

    return demand_at


def facts(**columns: Any) -> ProductFacts:
    """Facts of three products, cost 6 and list price 10; some columns replaced."""
    weekly = np.eye(LONGEST, dtype=np.float32)[[6, 6, 6]]
    values: dict[str, Any] = {
        "period": "day",
        "state_date": np.datetime64("2025-03-01"),
        "product_ids": np.array(["apple", "bread", "cocoa"]),
        "categories": np.array(["fruit", "pantry", "pantry"]),
        "names": np.array(["", "", ""]),
        "price": np.full(3, 10.0),
        "last_price": np.full(3, np.nan),
        "former_price": np.full(3, np.nan),
        "list_price": np.full(3, 10.0),
        "unit_cost": np.full(3, 6.0),
        "cost_assumed": np.zeros(3, dtype=bool),
        "stock": np.full(3, 100.0),
        "comp_price": np.full(3, np.nan),
        "comp_price_date": np.full(3, NO_DAY),
        "tax_rate": np.zeros(3),
        "seen_low": np.full(3, np.nan),
        "seen_high": np.full(3, np.nan),
        "stock_counts": np.zeros((3, 0), np.uint8),
        "stock_jumps": np.zeros((3, 0), np.uint8),
        "delivery_gaps": weekly,
        "last_delivery": np.full(3, np.datetime64("2025-03-01")),
        "deliveries": next_deliveries(weekly, np.zeros(3)),
        "last_change": np.full(3, NO_DAY),
        "typical_units": np.full(3, 10.0),
        "anchor_price": np.full(3, np.nan),
        "anchor_cost": np.full(3, np.nan),
        "recurring": (),
    }
    return ProductFacts(**(values | columns))


def pricing_context(**columns: Any) -> PricingContext:
    """One request or several: list price 10, cost 6, current price 10, ample stock; some columns replaced.

    The next delivery is known, so that the supply is the stock.
    """
    length = max((len(np.atleast_1d(column)) for column in columns.values()), default=1)
    values: dict[str, Any] = {
        "current_price": 10.0,
        "current_known": True,
        "list_price": 10.0,
        "unit_cost": 6.0,
        "tax_rate": 0.0,
        "cost_sd": 0.0,
        "cost_assumed": False,
        "last_price": np.nan,
        "anchor_price": np.nan,
        "seen_low": np.nan,
        "seen_high": np.nan,
        "others_margin": 0.0,
        "comp_price": np.nan,
        "stock": np.inf,
        "is_promo": False,
        "days_since_change": np.inf,
        "strategy": 0,
        "keep": 0,
    }
    values |= {"supply": columns.get("stock", np.inf)} | columns
    known, listed = np.asarray(values["anchor_price"], float), np.asarray(values["list_price"], float)
    values.setdefault("anchor", np.where(np.isfinite(known), known, listed))
    filled = {name: np.full(length, column) for name, column in values.items() if name != "target_margin"}
    target = columns.get("target_margin")
    return PricingContext(**filled, target_margin=None if target is None else np.full(length, target))


def without_guardrail(guardrails: dict[str, Any], name: str) -> dict[str, Any]:
    """A configuration of guardrails without the one that a reason names so; an anchor is no configuration's."""
    off = {"min_margin": 0.0, "min_days": 0, "endings": []}
    known = "endings" if name == "price_rung" else name
    return guardrails | ({known: off.get(known)} if known in guardrails else {})
