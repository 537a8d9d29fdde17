"""Try prices or a strategy on a product or on many: units, revenue and profit beside today's, and what limits cost."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from console.shop import Served, Shop
from console.worklist import Worklist
from pricing.arrays import Floats
from pricing.data.net_price import net_price, unit_profit
from pricing.decision.reasons import BIT, GUARDRAILS
from pricing.errors import RequestError

MOST = 300  # products that are tried at a time: those with the most money


@dataclass(frozen=True)
class Tried:
    """A what-if in the period priced, over all products; revenue is net of tax."""

    totals: dict[str, dict[str, float]]  # prices today, proposed and tried → profit, revenue, units, how many moved
    costs: list[tuple[str, int, float]]  # guardrail, products that it binds, profit that it takes; dearest first
    rows: list[tuple[int, float]]  # of the table, with the price tried


def try_prices(
    shop: Shop, served: Served, table: Worklist, rows: Sequence[int], *, change: float, strategy: str
) -> Tried:
    """Tries today's prices times 1 + `change`, or those of a strategy where one is named, on rows of the table.

    What does not sell, and what is beyond MOST, is left out.

    Raises:
        RequestError: None of them can be priced.
    """
    pricer, day = served.pricer, shop.day(table)
    sells = [row for row in rows[:MOST] if table.number["expected_units"][row] > 0]
    if not sells:
        raise RequestError("nothing says how much of these products sells, so there is nothing to try")
    requests = [shop.request(table, row) for row in sells]
    details = pricer.price_detailed(requests, today=day)
    now, wanted = table.before[sells], np.array([one.wanted for one in details])
    proposed = table.number["proposed_price"][sells]
    if strategy:
        asked = [shop.request(table, row, strategy=strategy) for row in sells]
        tried = np.array([one.recommended_price for one in pricer.price(asked, today=day)])
    else:
        tried = pricer.policy.allowed.grid.nearest(now * (1 + change))
    cost, tax_rate = np.array([(one.unit_cost, one.tax_rate) for one in details]).T
    stock = np.nan_to_num(table.number["current_stock"][sells], nan=np.inf)

    def sold(prices: Floats) -> Floats:
        return np.asarray(np.minimum(pricer.demand_at(requests, prices.tolist(), today=day), stock))

    def profit(prices: Floats, units: Floats) -> Floats:
        return np.asarray(units * unit_profit(prices, cost, tax_rate=tax_rate))

    totals = {}
    for name, prices in {"today": now, "proposed": proposed, "tried": tried}.items():
        units, moved = sold(prices), table.grid.moved(prices, now)
        figures = {"profit": profit(prices, units), "revenue": units * net_price(prices, tax_rate), "units": units}
        totals[name] = {key: float(values.sum()) for key, values in (figures | {"moved": moved}).items()}
    missed = profit(wanted, sold(wanted)) - profit(proposed, sold(proposed))
    costs = []
    for name in GUARDRAILS:
        binds = (table.bits[sells] & BIT[name]) > 0
        if binds.any():
            costs.append((name, int(binds.sum()), float(missed[binds].sum())))
    costs.sort(key=lambda one: -one[2])
    return Tried(totals, costs, list(zip(sells, tried.tolist(), strict=True)))
