"""Request a price for every product on sale, from what is known of it, on the day that is priced."""

import datetime as dt
import math
from typing import Any, get_args

import numpy as np

from pricing.arrays import Bools
from pricing.data.panel import STEP_DAYS
from pricing.decision.product_facts import ProductFacts
from pricing.decision.request import PriceRequest, Weekday


def on_sale(facts: ProductFacts) -> Bools:
    """(product,) True where there is a price, and sales of the last 28 periods are known and not silent."""
    return np.isfinite(facts.price) & np.isfinite(facts.typical_units)


def requests_for_all_products(
    facts: ProductFacts, *, day: dt.date | None = None, rows: slice = slice(None)
) -> list[PriceRequest]:
    """Builds a request for every product that is `on_sale`, with the closing stock where it is known.

    Args:
        facts: What is known of each product.
        day: First day of the period; the one after the facts by default.
        rows: Of the facts.
    """
    day = day or facts.state_date.astype(dt.date) + dt.timedelta(days=STEP_DAYS[facts.period])
    known = on_sale(facts)[rows]
    ids = facts.product_ids[rows][known]
    stocks = facts.stock[rows][known]
    asked: dict[str, Any] = {"day_of_week": get_args(Weekday)[day.weekday()], "date": day}
    return [
        PriceRequest(product_id=product_id, current_stock=None if math.isnan(stock) else stock, **asked)
        for product_id, stock in zip(ids.tolist(), stocks.tolist(), strict=True)
    ]


def day_priced(facts: ProductFacts, *, today: dt.date, horizon: int) -> dt.date:
    """The first day of the period that is priced where no requests are given.

    It is the period that today lies in, or the first one after the states where that is later. A today that lies beyond
    the horizon is not forecast: then it is the first one after the states, too.
    """
    last: dt.date = facts.state_date.astype(dt.date)
    step = STEP_DAYS[facts.period]
    ahead = (today - last).days // step
    return last + dt.timedelta(days=step * (ahead if 1 <= ahead <= horizon else 1))
