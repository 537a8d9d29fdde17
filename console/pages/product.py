"""One product: how its price comes about, what other prices would earn, sales so far, and the form that decides."""

from typing import Any

import numpy as np
from flask import Blueprint, abort, render_template

from console import charts
from console.pages.common import current_shop, current_table, line
from console.shop import Served, Shop
from console.worklist import BY_HAND, Worklist
from pricing.arrays import place_in
from pricing.decision.explanation import explain, lost_to_others
from pricing.decision.reasons import meanings
from pricing.errors import RequestError
from pricing.registry.knowledge import shown_elasticities, words_of_tests

PRICES_TRIED = 25  # of a curve
REACH = 0.35  # how far from list price a curve goes, a fraction
page = Blueprint("product", __name__)


@page.get("/products/<path:product>")
def show(product: str) -> str:
    """Shows a product of the price table; what the version or the panel does not know is left out."""
    shop = current_shop()
    table = current_table()
    row = table.rows.get(product)
    if row is None:
        abort(404, f"no product {product!r} is in the price table")
    codes = (str(table.text[name][row]).split() for name in ("reasons", "binds", "gave_way"))
    return render_template(
        "product.html",
        table=table,
        line=line(table, row),
        word=shop.hear().words.get(product),
        reasons=meanings(*codes).values(),
        sales=_sales(shop, product),
        **(_priced(shop, shop.served, table, row) if shop.served else {}),
    )


def _sales(shop: Shop, product: str) -> Any:
    """Charts of prices and of units sold; None without a panel that knows the product."""
    row = None if shop.panel is None else place_in(shop.panel.product_ids, product)
    return None if shop.panel is None or row is None else charts.history(shop.panel, row)


def _priced(shop: Shop, served: Served, table: Worklist, row: int) -> dict[str, Any]:
    """The explanation of a price, the outcomes of other prices and the elasticity, by their names in the template."""
    product = str(table.text["product_id"][row])
    elasticity = _elasticity(served, product)
    found: dict[str, Any] = {"delivery": served.version.facts.next_delivery(product), "elasticity": elasticity}
    found["tested"] = words_of_tests(served.version.demand).get(str(table.text["category"][row]))
    asked = shop.request(table, row)
    day = shop.day(table)
    try:
        found["summary"] = explain(
            asked,
            served.pricer,
            today=day,
            switches=table.switches,
            experiments=shop.hear().control().experiments,
            elasticity=elasticity["own"]["elasticity"] if elasticity else None,
        )
        found["steps"] = charts.waterfall(found["summary"])
        tried = served.pricer.simulate(asked, today=day, prices=_prices_to_try(table, row))
    except RequestError as error:
        found["untold"] = str(error)
    else:
        marked = float(table.number["proposed_price"][row])
        word = "by hand" if table.state[row] == BY_HAND else "proposed"
        found["curve"] = charts.curve(tried, marked=marked, word=word)
    return found


def _prices_to_try(table: Worklist, row: int) -> list[float]:
    """Prices around the list price, from end to end of a range that holds the price before and the one proposed."""
    list_price = float(table.number["list_price"][row])
    shown = float(table.before[row]), float(table.number["proposed_price"][row])
    lowest = min(list_price * (1 - REACH), *shown)
    highest = max(list_price * (1 + REACH), *shown)
    prices: list[float] = np.linspace(lowest, highest, PRICES_TRIED).tolist()
    return prices


def _elasticity(served: Served, product: str) -> dict[str, Any] | None:
    """A product's elasticity beside its category's; None where the version does not know it."""
    demand = served.version.demand
    row = place_in(demand.product_ids, product)
    if row is None:
        return None
    columns = shown_elasticities(demand, np.array([row]), holds_only=served.version.holds_only)
    of_category = len(demand.product_ids) + demand.category[row]  # the categories' rows come behind the products'
    mean, low, high = demand.elasticities(np.array([of_category]))
    return {
        "own": {name: column[0].item() for name, column in columns.items()},
        "category": {"elasticity": float(mean[0]), "low": float(low[0]), "high": float(high[0])},
        "lost": lost_to_others(float(demand.diversion[row])),
    }
