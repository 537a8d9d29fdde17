"""Ask once more before prices of a person count that move far or lie below cost."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flask import render_template, request

from console.shop import Shop
from console.worklist import Worklist
from pricing.data.net_price import with_tax
from pricing.decision.limits import EDGE

SHOWN = 10  # prices that are shown, the largest moves first


def confirmation(shop: Shop, table: Worklist, prices: Mapping[str, float], *, back: str, content: str = "") -> str:
    """The page that asks about prices (by product) once more and sends the form again.

    Empty where the form is that answer already, or no price is doubtful. `content` is the price file that gave the
    prices; only without one are they raised to cost.
    """
    asked = [] if request.form.get("sure") else doubtful(shop, table, prices)
    if not asked:
        return ""
    kept = list(request.form.items(multi=True))
    if content:
        kept.append(("content", content))
    return render_template(
        "confirm.html",
        table=table,
        asked=asked,
        back=back,
        count=len(prices),
        kept=kept,
        most=SHOWN,
        raised=not content,
    )


def doubtful(shop: Shop, table: Worklist, prices: Mapping[str, float]) -> list[dict[str, Any]]:
    """The prices to ask about, largest move first: product, name, old and new price, change, cost with tax, and why.

    A move is far beyond `decision.approve_beyond`, or where that is null beyond `decision.guardrails.max_move`.
    """
    limit = shop.decision.guardrails.max_move if shop.beyond is None else shop.beyond
    rows = [table.rows[product] for product in prices]
    old = table.before[rows]
    new = np.array(list(prices.values()))
    cost = with_tax(table.number["unit_cost"][rows], table.number["tax_rate"][rows])

    change = new / old - 1
    far = ~(np.abs(change) <= (np.inf if limit is None else limit + EDGE))  # also from a price that is not known
    below = new < cost * (1 - EDGE)
    order = np.argsort(-np.abs(change), kind="stable")
    return [
        {
            "product": str(table.text["product_id"][rows[place]]),
            "name": str(table.text["name"][rows[place]]),
            "old": float(old[place]),
            "new": float(new[place]),
            "change": float(change[place]),
            "cost": float(cost[place]),
            "far": limit if far[place] else None,
            "below": bool(below[place]),
        }
        for place in order[(far | below)[order]].tolist()
    ]
