"""Try prices or a strategy on a product or on many: units, revenue and profit beside today's, and what limits cost."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from flask import Blueprint, abort, render_template, request

from console.decisions import change_in_percent
from console.pages.common import current_shop, current_table, line
from console.shop import Served, Shop
from console.worklist import PAGE, Pick, Worklist
from pricing.arrays import Floats, Ints
from pricing.data.net_price import net_price, unit_profit
from pricing.decision.reasons import BIT, GUARDRAILS
from pricing.errors import RequestError

MOST = 300  # products that are tried at a time: those with the most money
page = Blueprint("what_if", __name__)


@page.get("/what-if")
def show() -> str:
    """Shows the outcome of a change in per cent, or of a strategy, on a product or on a list."""
    shop = current_shop()
    table = current_table()
    pick = Pick.of(request.args)
    product = request.args.get("product", "")
    if product in table.rows:
        rows = [table.rows[product]]
    else:
        product = ""
        rows = table.pick(pick).tolist()
    change = change_in_percent(request.args.get("change"))
    strategy = request.args.get("try", "")
    served = shop.served
    if strategy and (served is None or strategy not in served.pricer.policy.names):
        abort(400, "there is no such strategy")

    tried = None
    trouble = ""
    if served is None:
        trouble = "No version is published yet, so nothing can be tried."
    elif not rows:
        trouble = "No product is in this list."
    else:
        try:
            tried = try_prices(shop, served, table, rows, change=change / 100, strategy=strategy)
        except RequestError as error:
            trouble = str(error)
    return render_template(
        "what_if.html",
        table=table,
        pick=pick,
        product=product,
        change=change,
        strategy=strategy,
        tried=tried,
        trouble=trouble,
        left_out=len(rows) - len(tried.rows) if tried else 0,
        most=MOST,
        lines=[(line(table, row), price) for row, price in tried.rows[:PAGE]] if tried else (),
    )


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
    sells = [row for row in rows[:MOST] if table.number["expected_units"][row] > 0]
    if not sells:
        raise RequestError("nothing says how much of these products sells, so there is nothing to try")
    pricer = served.pricer
    day = shop.day(table)
    requests = [shop.request(table, row) for row in sells]
    details = pricer.price_detailed(requests, today=day)
    stock = np.nan_to_num(table.number["current_stock"][sells], nan=np.inf)
    cost = np.array([each.unit_cost for each in details])
    tax_rate = np.array([each.tax_rate for each in details])

    now = table.before[sells]
    proposed = table.number["proposed_price"][sells]
    if strategy:
        asked = [shop.request(table, row, strategy=strategy) for row in sells]
        tried = np.array([each.recommended_price for each in pricer.price(asked, today=day)])
    else:
        tried = pricer.policy.allowed.grid.nearest(now * (1 + change))

    def sold(prices: Floats) -> Floats:
        return np.asarray(np.minimum(pricer.demand_at(requests, prices.tolist(), today=day), stock))

    def profit(prices: Floats) -> Floats:
        return np.asarray(sold(prices) * unit_profit(prices, cost, tax_rate=tax_rate))

    def totals(prices: Floats) -> dict[str, float]:
        units = sold(prices)
        return {
            "profit": float(profit(prices).sum()),
            "revenue": float((units * net_price(prices, tax_rate)).sum()),
            "units": float(units.sum()),
            "moved": float(table.grid.moved(prices, now).sum()),
        }

    wanted = np.array([each.wanted for each in details])
    return Tried(
        totals={"today": totals(now), "proposed": totals(proposed), "tried": totals(tried)},
        costs=_costs(table.bits[sells], profit(wanted) - profit(proposed)),
        rows=list(zip(sells, tried.tolist(), strict=True)),
    )


def _costs(bits: Ints, missed: Floats) -> list[tuple[str, int, float]]:
    """Each guardrail that binds any product, how many, and the profit missed on these; the dearest first."""
    binding = {name: (bits & BIT[name]) > 0 for name in GUARDRAILS}
    costs = [(name, int(rows.sum()), float(missed[rows].sum())) for name, rows in binding.items() if rows.any()]
    return sorted(costs, key=lambda cost: -cost[2])
