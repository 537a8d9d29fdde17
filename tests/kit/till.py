"""A wine shop with a till, whose shelf prices, openings and elasticities are known: what it exports, and the truth."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pricing.arrays import Floats

FIRST = np.datetime64("2025-01-06", "D")  # a Monday
ELASTICITY = -3.0
TAX_RATE = 0.19
SIX_BOTTLES, SIX_BOTTLES_OFF = 6, 0.05
REGULARS_OFF = 0.10
_BOTTLES, _BOTTLES_CHANCE = (1, 2, 3, 6), (0.60, 0.20, 0.08, 0.12)
_WEEKDAYS = np.array([0.7, 0.8, 0.9, 1.0, 1.5, 2.0, 0.0])  # closed on Sundays
_GRAPES = ("red", "white", "sparkling")


@dataclass(frozen=True)
class Till:
    """What the shop exports, as tables with its own column names, and the truth behind it."""

    lines: pd.DataFrame  # sold_at, article, bottles, paid (of the whole line), discount (taken off the line)
    articles: pd.DataFrame  # article, name, grape, purchase_price (net), shelf_price (of today), tax_rate
    counts: pd.DataFrame  # counted_on, article, bottles: each Sunday's, when the shop is closed
    deliveries: pd.DataFrame  # article, date; the shop does not export them
    truth: pd.DataFrame  # date, product_id, shelf_price, stock (at opening), units_sold; a row a product and day

    def write(self, folder: Path) -> None:
        """Writes lines.csv, articles.csv and counts.csv."""
        for name in ("lines", "articles", "counts"):
            getattr(self, name).to_csv(folder / f"{name}.csv", index=False)


def shelf_prices(rng: np.random.Generator, *, usual: float, days: int, moves: int, promotions: int) -> Floats:
    """(day,) shelf prices: some lasting moves of 5 to 15 %, and promotions of one or two weeks at 15 or 20 % off."""
    regular = np.full(days, usual)
    possible = np.arange(20, days - 10, 15)
    for day in np.sort(rng.choice(possible, size=min(moves, len(possible)), replace=False)):
        regular[day:] = round(float(regular[day - 1] * rng.choice([0.9, 0.95, 1.05, 1.1, 1.15])), 1)
    price = regular.copy()
    for day in rng.choice(np.arange(10, days - 20), size=promotions, replace=False):
        length = int(rng.choice([7, 14]))
        price[day : day + length] = np.round(regular[day : day + length] * rng.choice([0.8, 0.85]), 1)
    return price


def till(*, products: int = 40, days: int = 400, seed: int, regulars: float = 0.2, buyers: float = 1.2) -> Till:
    """Simulates the shop.

    Args:
        products: Number of wines.
        days: Number of days, from a Monday on.
        seed: Of every draw.
        regulars: Share of buyers who pay 10 % less.
        buyers: Median number of buyers of a wine a day, at its usual price.
    """
    rng = np.random.default_rng(seed)
    dates = FIRST + np.arange(days)
    lines, articles, counts, deliveries, truth = [], [], [], [], []
    for number in range(products):
        name = f"W{number:03d}"
        usual = round(float(np.exp(rng.uniform(np.log(6), np.log(40)))), 1)
        shelf = shelf_prices(rng, usual=usual, days=days, moves=int(rng.integers(2, 6)), promotions=2)
        rate = buyers * np.exp(rng.normal(0, 0.8)) * _WEEKDAYS[np.arange(days) % 7]
        visits = rng.poisson(rate * (shelf / usual) ** ELASTICITY)
        weekly = 1.85 * buyers * 7.0 * np.exp(rng.normal(0, 0.2))
        rhythm = int(rng.choice([7, 14]))  # days between deliveries, which come on Wednesdays before opening
        stock = np.ceil(6 * weekly * rhythm / 7)
        full = stock
        sold_a_day = np.zeros(days)
        opening = np.zeros(days)
        for day in range(days):
            if day % 7 == 2 and day // 7 % (rhythm // 7) == 0 and stock < full:
                deliveries.append((name, dates[day]))
                stock = full
            opening[day] = stock
            if day % 7 == 6:
                counts.append((dates[day], name, int(stock)))
            moments = np.sort(rng.uniform(9 * 3600, 19 * 3600, visits[day])).astype("timedelta64[s]")
            for moment in moments:
                bottles = min(int(rng.choice(_BOTTLES, p=_BOTTLES_CHANCE)), int(stock))
                if bottles == 0:
                    continue
                off = SIX_BOTTLES_OFF if bottles >= SIX_BOTTLES else 0.0
                off = REGULARS_OFF if rng.random() < regulars else off
                paid = round(bottles * shelf[day] * (1 - off), 2)
                discount = round(max(bottles * shelf[day] - paid, 0.0), 2)
                lines.append((dates[day] + moment, name, bottles, paid, discount))
                stock -= bottles
                sold_a_day[day] += bottles
        cost = round(usual / (1 + TAX_RATE) * (1 + 1 / ELASTICITY), 2)
        articles.append((name, f"{name}, {_GRAPES[number % 3]}", _GRAPES[number % 3], cost, shelf[-1], TAX_RATE))
        truth.append(
            pd.DataFrame(
                {"date": dates, "product_id": name, "shelf_price": shelf, "stock": opening, "units_sold": sold_a_day}
            )
        )
    made = pd.DataFrame(lines, columns=["sold_at", "article", "bottles", "paid", "discount"])
    return Till(
        lines=made.sort_values("sold_at", ignore_index=True),
        articles=pd.DataFrame(
            articles, columns=["article", "name", "grape", "purchase_price", "shelf_price", "tax_rate"]
        ),
        counts=pd.DataFrame(counts, columns=["counted_on", "article", "bottles"]),
        deliveries=pd.DataFrame(deliveries, columns=["article", "date"]),
        truth=pd.concat(truth, ignore_index=True),
    )
