"""Simulate the outcomes of a price: demand, sales, revenue and profit with intervals, and the risk of a stock-out."""

import datetime as dt
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pricing.arrays import Floats
from pricing.data.counting_units import in_steps
from pricing.data.net_price import net_price, unit_profit
from pricing.decision.request import Source, Spread
from pricing.decision.stock import chance_above, expected_sales
from pricing.demand.curve import DemandAt

INTERVAL = (0.1, 0.9)
REACH = 100.0  # times the list price, up or down, within which prices can be tried
_HALVINGS = 60


class Outcome(BaseModel):
    """What one price is expected to lead to until the next delivery. Money in the currency of the sales history."""

    model_config = ConfigDict(frozen=True)

    price: float
    strategy: str | None = Field(description="The strategy that chose the price; null where the price was given.")
    allowed: bool = Field(description="Whether the guardrails allow the price.")
    demand: Spread = Field(description="Units that shoppers would buy if stock were ample.")
    units: Spread = Field(description="Units sold, no more than the stock where it is known.")
    revenue: Spread = Field(description="Net of tax.")
    margin: Spread = Field(description="Profit over the cost of the units sold, net of tax.")
    stock_out: float | None = Field(
        description="Chance that the stock is gone before the next delivery; null where it is unknown."
    )


class Simulation(BaseModel):
    """A what-if: the same product, day and stock at several prices."""

    model_config = ConfigDict(frozen=True)

    product_id: str
    date: dt.date = Field(description="First day of the first period.")
    periods: int = Field(
        description="Periods until the next delivery, over which everything is counted; where that is uncertain, the "
        "median of the equally likely times over which it is."
    )
    current_price: float | None
    list_price: float
    unit_cost: float
    tax_rate: float = Field(description="Tax that prices include, a fraction of the net price.")
    comp_price_used: float | None = Field(description="The competitor's price that counted; null where none did.")
    comp_price_age: float | None = Field(description="Its age in days, also of one that was too old to be used.")
    experiment: str | None = Field(
        default=None,
        description="The experiment and arm that the product is in that day, such as holdout/keep or spring/draw: what "
        "it asks of /get_price is not tried here; null where it is in none.",
    )
    switch: Literal["freeze", "override"] | None = Field(
        default=None, description="Whether a person has frozen or given the product's price: /get_price answers that."
    )
    price_limits: tuple[float, float] = Field(description="The lowest and highest price that the guardrails allow.")
    source: Source
    model_version: str
    outcomes: list[Outcome]


class Tried(NamedTuple):
    """A price to try, the strategy that chose it or None where it was given, and whether the guardrails allow it."""

    price: float
    strategy: str | None
    allowed: bool


def outcomes(
    tried: Sequence[Tried], demand_at: DemandAt, *, stock: float, unit_cost: float, tax_rate: float
) -> list[Outcome]:
    """Computes the outcome of each price, in order.

    The intervals cover parameter uncertainty and chance together: quantiles of the mixture of the nodes' negative
    binomials. Demand is that of one request at prices (1, candidate); stock is infinite where unknown.
    """
    prices = np.unique([one.price for one in tried])
    grid = demand_at(prices[None])
    unit = float(np.broadcast_to(grid.unit, 1)[0])  # the amount that the negative binomial counts as one
    mean = np.maximum(grid.until[0] / unit, 1e-9)  # (node, candidate)
    size = np.broadcast_to(grid.until_size[0], mean.shape)
    low, high = (unit * _quantile(mean, size, grid.weight, level) for level in INTERVAL)
    wanted = unit * (grid.weight @ mean)
    sold, gone = np.minimum(wanted, stock), np.ones(len(prices))
    if 0 < stock < np.inf:
        there = np.full_like(mean, in_steps(np.array([stock]), np.array([unit]))[0])
        sold = np.minimum(unit * (grid.weight @ expected_sales(mean, size=size, stock=there)), stock)
        last = np.maximum(np.ceil(there) - 1, 0.0)  # sold out: demand exceeds all units but the last
        gone = grid.weight @ chance_above(mean, size=size, units=last)
    made = []
    for one in tried:
        place = int(np.searchsorted(prices, one.price))
        demand = Spread(mean=float(wanted[place]), low=float(low[place]), high=float(high[place]))
        units = Spread(mean=float(sold[place]), low=min(demand.low, stock), high=min(demand.high, stock))
        made.append(
            Outcome(
                price=one.price,
                strategy=one.strategy,
                allowed=one.allowed,
                demand=demand,
                units=units,
                revenue=_times(units, net_price(one.price, tax_rate)),
                margin=_times(units, unit_profit(one.price, unit_cost, tax_rate=tax_rate)),
                stock_out=float(gone[place]) if stock < np.inf else None,
            )
        )
    return made


def _times(units: Spread, worth: float) -> Spread:
    ends = sorted((units.low * worth, units.high * worth))
    return Spread(mean=units.mean * worth, low=ends[0], high=ends[1])


def _quantile(mean: Floats, size: Floats, weight: Floats, level: float) -> Floats:
    """(candidate,) the least whole number of units that demand exceeds with probability ≤ 1 − level; by bisection."""
    below = np.full(mean.shape[1], -1.0)
    above = np.ceil(mean.max(axis=0) * 20 + 60 / np.minimum(size[0], 1.0))
    for _ in range(_HALVINGS):
        middle = np.floor((below + above) / 2)
        exceeded = weight @ chance_above(mean, size=size, units=np.broadcast_to(np.maximum(middle, 0.0), mean.shape))
        passed = (exceeded <= 1 - level) & (middle >= 0)
        above, below = np.where(passed, middle, above), np.where(passed, below, middle)
        if ((above - below) <= 1).all():
            break
    return np.asarray(above)
