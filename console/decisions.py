"""Read a form as decisions on prices: approve, reject, freeze, set free, or give another price."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flask import abort, g

from console.shop import Shop
from console.worklist import APPROVED, AUTOMATIC, BY_HAND, Worklist
from pricing.arrays import Floats
from pricing.decision.allowed_prices import PriceGrid
from pricing.decision.switches import Review, Switch, Unfreeze

HIGHEST = 1e9  # of a price
Decision = Switch | Unfreeze | Review


def decisions_of(
    shop: Shop, table: Worklist, action: str, rows: Sequence[int], *, form: Mapping[str, str]
) -> list[Decision]:
    """The decisions of a form on rows of the table: one verdict on all products, or a switch for each.

    Aborts with 400 where the form cannot be meant, and without a reason, which only an approval may lack.
    """
    reason = form.get("reason", "").strip()[:1000] or ("as proposed" if action == "approve" else "")
    if not reason:
        abort(400, "say why, in the field beside the buttons: whoever reads the record later wants to know")
    moment = dt.datetime.now(dt.UTC).replace(microsecond=0)
    signed: dict[str, Any] = {"reason": reason, "by": g.person.name, "at": moment}
    products = table.text["product_id"][rows].tolist()
    if action in ("approve", "reject"):
        _refuse_verdict(shop, action, table.state[rows])
        proposed = table.number["proposed_price"][rows].tolist()
        return [Review(verdict=action, prices=dict(zip(products, proposed, strict=True)), **signed)]  # type: ignore[arg-type]

    scoped = [{**signed, "scope": "product", "name": product} for product in products]
    if action == "unfreeze":
        own = {switch.name for switch in table.switches if switch.scope == "product"}
        if not own.issuperset(products):
            abort(400, "some of these are set for their category or for everything: pricing unfreeze ends that")
        return [Unfreeze(**each) for each in scoped]
    if action == "freeze":
        return [Switch(action="freeze", **each) for each in scoped]
    prices, until = _given(shop, table.before[rows], form, after=moment)
    return [
        Switch(action="override", price=price, until=until, **each) for price, each in zip(prices, scoped, strict=True)
    ]


def _refuse_verdict(shop: Shop, action: str, states: Any) -> None:
    """Aborts where an approval or a rejection would change nothing."""
    if shop.beyond is None:
        abort(400, "no price waits for approval: decision.approve_beyond is not set; a freeze keeps one")
    if (states == BY_HAND).any():
        abort(400, "some of these prices are set by hand: set them free first")
    if action == "reject" and np.isin(states, (AUTOMATIC, APPROVED)).any():
        abort(400, "some of these prices wait for nobody: a rejection would not keep them, a freeze does")


def _given(
    shop: Shop, before: Floats, form: Mapping[str, str], *, after: dt.datetime
) -> tuple[list[float], dt.datetime]:
    """The prices that a form gives products with these prices now, in whole steps, and the moment when they end."""
    price = form.get("price", "").replace(",", ".")
    change = change_in_percent(form.get("percent"))
    try:
        until = shop.config.end_of(dt.date.fromisoformat(form.get("until") or shop.soon))
        wanted = np.array([float(price)]) if price else before * (1 + change / 100)
    except ValueError:
        abort(400, "expected a price such as 4.99, and a day such as 2026-03-06, of this century or the next")
    if not price and not change:
        abort(400, "say which price, or by how many per cent it changes")
    if len(wanted) != len(before):
        abort(400, "one price is for one product; change many by per cent")
    if not ((wanted > 0) & (wanted < HIGHEST)).all():
        abort(400, "expected a price above 0 that somebody could pay")
    if until <= after:
        abort(400, "the end date has passed")
    prices: list[float] = PriceGrid(shop.decision.price_step).nearest(wanted).tolist()
    return prices, until


def change_in_percent(text: str | None) -> float:
    """Reads a change in per cent, 0 where none is given; aborts with 400 where it is none that a price may make."""
    try:
        value = float((text or "0").replace(",", "."))
    except ValueError:
        abort(400, "expected per cent, such as -5")
    if not -90 <= value <= 400:
        abort(400, "expected a change between −90 and 400 per cent")
    return value
