"""A panel of constants, and the rows that a panel was built from."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from pricing.data.panel import Panel

DAYS = 120


def panel(*, products: int = 1, days: int = DAYS, **arrays: Any) -> Panel:
    """A panel of a constant price of 10; some arrays replaced, (product, period) or what broadcasts to it."""
    shape = (products, days)
    defaults: dict[str, Any] = {
        "units_sold": 3.0,
        "price": 10.0,
        "list_price": 12.0,
        "unit_cost": 6.0,
        "stock": np.nan,
        "available": np.nan,
        "comp_price": np.nan,
        "comp_price_age": 0.0,
        "tax_rate": 0.0,
        "is_promo": 0.0,
        "is_holiday": 0.0,
    }
    filled = {
        name: np.broadcast_to(np.asarray(value, dtype=np.float32), shape).copy()
        for name, value in (defaults | arrays).items()
        if name != "present"
    }
    return Panel(
        period="day",
        product_ids=np.array(sorted(f"p{place}" for place in range(products))),
        categories=np.full(products, "all"),
        dates=np.datetime64("2025-01-01") + np.arange(days),
        present=np.broadcast_to(arrays.get("present", True), shape).copy(),
        cost_assumed=np.zeros(products, dtype=bool),
        **filled,
    )


def put(panel: Panel, where: Any, **values: Any) -> Panel:
    """The panel with some values of some columns replaced, as by an assignment at `where`."""
    columns = {name: getattr(panel, name).copy() for name in values}
    for name, column in columns.items():
        column[where] = values[name]
    return replace(panel, **columns)


def panel_frame(panel: Panel) -> pd.DataFrame:
    """The panel as contract rows again, ordered by product and date; periods without a row are left out."""
    row, column = np.nonzero(panel.present)
    frame = pd.DataFrame(
        {
            "date": panel.dates[column].astype("datetime64[s]"),
            "product_id": panel.product_ids[row],
            "category": panel.categories[row],
        }
    )
    for name in (
        "units_sold",
        "price",
        "list_price",
        "unit_cost",
        "stock",
        "available",
        "comp_price",
        "is_promo",
        "is_holiday",
    ):
        frame[name] = getattr(panel, name)[row, column]
    return frame
