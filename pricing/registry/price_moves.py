"""How far a promotion would move prices: a sample of the catalogue, before and after it."""

import datetime as dt
import math
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd

from pricing.arrays import Floats, Strings
from pricing.data.features import FULL_PROMO_CUT
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision.request import PriceRequest, Weekday
from pricing.quoting import escape_markdown

SEED = 7  # of the sample: the same products each time
P95 = 0.95
DEEPEST_CUT = 0.75  # of the regular price; a price further below it is of another unit or pack, and no cut


def beyond_most(sizes: Floats) -> float:
    """The 95th percentile of products' moves: the size that at most a twentieth of them passes, but always one of them.

    One that moves far, as where a person has moved its anchor, is no fault; the largest jump bounds it.
    """
    passing = max(math.floor((1 - P95) * len(sizes) + 1e-9), 1)
    return float(np.sort(sizes)[::-1][passing]) if len(sizes) > passing else 0.0


@dataclass(frozen=True)
class PriceMoves:
    """Prices of the same requests. Arrays are (request,), currency units.

    `charged` is what production charged last, `regular` the regular price where that is a cut, else the same;
    `candidate` is after the promotion, `champion` before it, NaN without one.
    """

    product_ids: tuple[str, ...]
    charged: Floats
    regular: Floats
    champion: Floats
    candidate: Floats

    def moved(self, before: Floats) -> Floats:
        """(request,) how far the candidate's price lies from the one before, in logs; the end of a cut is no move."""
        return np.abs(self._beyond(self.candidate) - self._beyond(before))

    def _beyond(self, prices: Floats) -> Floats:
        """(request,) log of each price over the nearest one between the price charged last and the regular one."""
        return np.asarray(np.log(prices / np.clip(prices, self.charged, self.regular)))

    def sizes(self, before: Floats) -> Floats:
        """(product,) each product's largest move from the prices before, where both are known."""
        sizes = pd.Series(self.moved(before)).groupby(np.array(self.product_ids)).max()
        return sizes.dropna().to_numpy()

    def worst(self, count: int) -> list[int]:
        """The places of the requests whose prices would move furthest, the furthest first."""
        size = np.fmax(self.moved(self.champion), self.moved(self.charged))
        order = np.argsort(-np.nan_to_num(size), kind="stable")
        return [int(place) for place in order[:count]]

    def table(self, count: int) -> str:
        """The prices that would move furthest, as a Markdown table."""
        lines = ["| product | last charged | regular | champion | candidate | factor |", "|---|---|---|---|---|---|"]
        for place in self.worst(count):
            charged, regular, champion, candidate = (
                float(prices[place]) for prices in (self.charged, self.regular, self.champion, self.candidate)
            )
            factor = candidate / (charged if math.isnan(champion) else champion)
            prices = ["–" if math.isnan(price) else f"{price:g}" for price in (charged, regular, champion, candidate)]
            cells = [escape_markdown(self.product_ids[place]), *prices, f"× {factor:.3g}"]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)


def measure_moves(
    requests: list[PriceRequest], candidate: Pricer, champion: Pricer | None, *, listed: Floats, today: dt.date
) -> PriceMoves:
    """Prices the requests by the candidate and, where there is one, the champion; `listed` are their `list_prices`."""

    def priced(pricer: Pricer) -> Floats:
        return np.array([decision.recommended_price for decision in pricer.price(requests, today=today)], np.float64)

    charged = np.array([request.current_price or np.nan for request in requests], np.float64)
    cut = 1 - charged / listed
    return PriceMoves(
        product_ids=tuple(request.product_id for request in requests),
        charged=charged,
        regular=np.where((cut >= FULL_PROMO_CUT) & (cut <= DEEPEST_CUT), listed, charged),
        champion=np.full(len(requests), np.nan) if champion is None else priced(champion),
        candidate=priced(candidate),
    )


def last_charged(product_ids: Strings, candidate: ProductFacts, champion: ProductFacts | None) -> Floats:
    """(product,) the price charged last, by the champion first: newer sales may be at fault; NaN without any."""
    return _first_known(product_ids, champion, candidate, "last_price", "price")


def list_prices(product_ids: Strings, candidate: ProductFacts, champion: ProductFacts | None) -> Floats:
    """(product,) the list price, by the champion where it has one; NaN where neither has one."""
    return _first_known(product_ids, champion, candidate, "list_price")


def _first_known(product_ids: Strings, champion: ProductFacts | None, candidate: ProductFacts, *names: str) -> Floats:
    """(product,) its first price of these names, by the champion before the candidate; NaN without any."""
    found = np.full(len(product_ids), np.nan)
    for facts in filter(None, (champion, candidate)):
        for name in names:
            found = np.where(np.isnan(found), facts.column(name, product_ids), found)
    return found


def sample_requests(
    candidate: ProductFacts, champion: ProductFacts | None, *, size: int, day: dt.date
) -> list[PriceRequest]:
    """Plain requests for at most `size` products on sale at the price charged last: for all, or within categories."""
    charged = last_charged(candidate.product_ids, candidate, champion)
    known = np.isfinite(charged)
    on_sale = known & (np.nan_to_num(candidate.typical_units) > 0)
    rows = _stratified(np.flatnonzero(on_sale if on_sale.any() else known), candidate.categories, size=size)
    weekday = get_args(Weekday)[day.weekday()]
    return [
        PriceRequest(product_id=str(candidate.product_ids[row]), day_of_week=weekday, current_price=float(charged[row]))
        for row in rows
    ]


def _stratified(rows: np.ndarray, categories: Strings, *, size: int) -> list[int]:
    """At most `size` of the rows, from each category its share of them, the same ones each time."""
    if len(rows) <= size:
        return [int(row) for row in rows]
    shuffled = np.random.default_rng(SEED).permutation(rows)
    by_category = shuffled[np.argsort(categories[shuffled], kind="stable")]
    places = np.linspace(0, len(rows) - 1, num=size).astype(np.int64)
    return sorted(int(row) for row in by_category[places])
