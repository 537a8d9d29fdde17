"""Policies that know no more than a shop: hold list prices, cost-plus, follow the competitor, rules, and random."""

import numpy as np
import pandas as pd

from pricing.arrays import Floats
from pricing.data.market_rollforward import Requests

RULE_ELASTICITY = 2.5  # what the rules take every product's to be, for running out
USUAL_DAYS = 28
USUAL_GAP = 7.0  # days between deliveries where a history shows none


def static(requests: Requests) -> Floats:
    """Holds list prices."""
    return requests.list_price


def match_competitor(requests: Requests) -> Floats:
    """Charges what the competitor charges, inside the bounds; list price where that is not known."""
    price = np.where(np.isnan(requests.comp_price), requests.list_price, requests.comp_price)
    return np.clip(price, requests.lowest, requests.highest)


class CostPlus:
    """Cost times the usual mark-up of the product's category in the history."""

    def __init__(self, history: pd.DataFrame) -> None:
        markup = (history["list_price"] / history["unit_cost"]).groupby(history["category"]).median()
        self._markup = markup.to_dict()
        self._otherwise = float(markup.median())

    def __call__(self, requests: Requests) -> Floats:
        """Prices a morning."""
        markup = np.array([self._markup.get(category, self._otherwise) for category in requests.category])
        price: Floats = np.clip(requests.unit_cost * markup, requests.lowest, requests.highest)
        return price


class DeliveryGaps:
    """How long stock has to last: until the delivery that is announced, else a product's median gap between deliveries.

    A delivery is a day that opens with more stock than the recorded day before it left.
    """

    def __init__(self, history: pd.DataFrame) -> None:
        rows = history.sort_values(["product_id", "date"])
        by = rows.groupby("product_id")
        left = (by["stock"].shift(1) - by["units_sold"].shift(1)).to_numpy()
        jumps = rows[rows["stock"].to_numpy() > left + 1e-6]
        gap = jumps.groupby("product_id")["date"].diff().dt.days
        self._gap = gap.groupby(jumps["product_id"]).median().dropna().to_dict()
        self._otherwise = float(np.median(list(self._gap.values()))) if self._gap else USUAL_GAP

    def days_left(self, requests: Requests) -> Floats:
        """(request,) days from today, counted, that the stock has to last."""
        if not np.isnat(requests.next_delivery).any():
            return requests.days_left.astype(np.float64)
        return np.array([self._gap.get(product, self._otherwise) for product in requests.product_id])


class Rules:
    """Cost-plus, and dearer when stock would run out before the next delivery.

    What would sell until then is the product's mean day over the last four weeks, stocked-out days left out.
    """

    def __init__(self, history: pd.DataFrame) -> None:
        self._cost_plus, self._gaps = CostPlus(history), DeliveryGaps(history)
        self._recent = history.iloc[:0]
        self._usual: dict[str, float] = {}
        self.refresh(history)

    def refresh(self, rows: pd.DataFrame) -> None:
        """Learns what usually sells from newly recorded rows."""
        recent = pd.concat([self._recent, rows]) if len(self._recent) else rows
        recent = recent[recent["date"] > recent["date"].max() - pd.Timedelta(days=USUAL_DAYS)]
        self._recent = recent
        served = recent[recent["units_sold"] < recent["stock"]]
        self._usual |= served.groupby("product_id")["units_sold"].mean().to_dict()

    def __call__(self, requests: Requests) -> Floats:
        """Prices a morning."""
        price = self._cost_plus(requests)
        usual = np.array([self._usual.get(product, 0.0) for product in requests.product_id])
        short = usual * self._gaps.days_left(requests) / np.maximum(requests.stock, 0.5)
        dearer = price * np.maximum(short, 1.0) ** (1 / RULE_ELASTICITY)
        return np.clip(dearer, requests.lowest, requests.highest)
