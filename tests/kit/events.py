"""Sales of two categories with an event whose true lift is known, to compare learnt lifts with."""

from dataclasses import replace

import numpy as np

from pricing.data.panel import Event, Panel
from tests.kit.panels import panel

START = np.datetime64("2021-01-04")  # a Monday
FEAST = (60, 415, 790, 1180)  # day of the Feast in each of three years, and of the one to come
QUIET = (200, 570, 935)
TRUE = {"a": {-1: 0.3, 0: 0.6, 1: -0.2}, "b": {-1: 0.3, 0: 1.0, 1: -0.2}}  # log units by category and position
PERIODS = 1095


def event(name: str, day: int, **more: object) -> Event:
    around = {"before": 1, "after": 1} | more
    return Event(name, START + day, START + day, **around)  # type: ignore[arg-type]


CALENDAR = (
    *(event("Feast", day) for day in FEAST),
    *(event("Quiet", day) for day in QUIET),
    event("Never", 1200),
)


def make_panel(
    *,
    events: tuple[Event, ...] = CALENDAR,
    products: int = 24,
    mean: float = 20.0,
    periods: int = PERIODS,
    lift: object = TRUE,
    seed: int = 0,
) -> Panel:
    """Poisson sales in two categories with a week, prices that move, a day's shock, and lifts of the Feast."""
    rng = np.random.default_rng(seed)
    shape = (products, periods)
    categories = np.array(["a", "b"])[np.arange(products) % 2]
    price = (10.0 * np.exp(rng.choice([0.0, -0.1, 0.1], shape))).astype(np.float32)
    week = np.tile([0.0, -0.1, -0.1, 0.0, 0.1, 0.4, 0.3], periods // 7 + 1)[:periods]
    log = np.log(mean) + week + rng.normal(0, 0.05, periods) - 2.0 * np.log(price / 10.0)
    for row, category in enumerate(categories):
        for day in FEAST:
            for position, value in lift.get(category, {}).items():  # type: ignore[attr-defined]
                if 0 <= day + position < periods:
                    log[row, day + position] += value
    units = rng.poisson(np.exp(log))
    return replace(
        panel(products=products, days=periods, units_sold=units, price=price, list_price=10.0, comp_price_age=np.nan),
        product_ids=np.array([f"P{row:03d}" for row in range(products)]),
        categories=categories,
        dates=START + np.arange(periods),
        events=events,
    )
