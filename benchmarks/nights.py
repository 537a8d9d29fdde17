"""Measure where sixty nightly decisions end on sales whose truth nobody knows, and how many rest on a prior alone.

No sale follows a decision, since nobody knows what it would have sold: each night prices the same day again, with the
price of the night before as the current one, so that what is seen is where the decisions come to rest.
"""

import datetime as dt
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from benchmarks.forecast_data import m5, orange_juice
from benchmarks.table import markdown
from pipelines.calendar import holiday_calendar
from pricing.config import Config, load_config, parse_config
from pricing.data.build import build_panel
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision.request import Decision, PriceRequest, Weekday
from pricing.demand.grades import GRADES, PRIOR_ONLY
from simulation.completejourney import completejourney_sales
from simulation.config import HELD_OUT_SEEDS
from simulation.market import MarketConfig, simulate

GROCERY = Path(__file__).parent.parent / "config" / "grocery.yaml"
NIGHTS = 60
AMPLE = 1e9  # units: what no product sells, so that stock moves nothing
LIMITS = ("at_band", "at_seen", "at_cost")
READERS = {"m5": m5, "oj": orange_juice}
SAME = 0.006  # relative; a price this near the one before is the same but for rounding
PUBLIC = {
    "m5": ("M5, Walmart, daily", {"missing": "unknown"}, {}),
    "oj": ("Dominick's orange juice, weekly", {"period": "week", "list_price_window": 8}, {
        "horizon": 4, "step": 4, "min_history": 40, "checkpoint": 8, "context": 52, "own_periods": 8}),
}  # fmt: skip


def changed(data: dict[str, object], demand: dict[str, object]) -> Config:
    """The default configuration with some keys of two sections replaced."""
    values = load_config().model_dump(mode="json")
    values["data"] |= data
    values["demand"] |= demand
    return parse_config(values, where="benchmarks.nights")


def sales(paths: Mapping[str, str]) -> Iterator[tuple[str, Callable[[], pd.DataFrame], Config]]:
    """Name, sales and configuration of everything that is to be priced."""
    for title, kind in (("prices never moved", "no_prices"), ("one or two changes a product", "few_prices")):
        market = MarketConfig(kind, seed=HELD_OUT_SEEDS["foreign"][0])
        yield f"simulated: {title}", lambda market=market: simulate(market).frame(), load_config()
    yield "Complete Journey, weekly", completejourney_sales, load_config(GROCERY)
    for name, (title, data, demand) in PUBLIC.items():
        if path := paths.get(name):
            yield title, lambda name=name, path=path: READERS[name](path), changed(data, demand)


def price_nights(pricer: Pricer, facts: ProductFacts) -> tuple[np.ndarray, list[Decision]]:
    """(night, product) prices, the last of the history first; and the decisions of the last night."""
    today = facts.state_date.astype(dt.date) + dt.timedelta(days=1)
    day = get_args(Weekday)[today.weekday()]
    known = np.flatnonzero(np.isfinite(facts.price))
    prices, decisions = [facts.price[known]], []
    for _ in range(NIGHTS):
        requests = [
            PriceRequest(product_id=name, current_stock=AMPLE, day_of_week=day, date=today, current_price=float(price))
            for name, price in zip(facts.product_ids[known].tolist(), prices[-1], strict=True)
        ]
        decisions = pricer.price(requests, today=today)
        prices.append(np.array([decision.recommended_price for decision in decisions]))
    return np.array(prices), decisions


def measure(name: str, frame: pd.DataFrame, config: Config) -> list[str]:
    """A data set's row of the table."""
    from pricing.demand.training import fit  # noqa: PLC0415 - imports TensorFlow

    panel = build_panel(frame, config.data)
    model = fit(panel, config.demand, calendar=holiday_calendar(panel, config.data)).model.table()
    facts = ProductFacts.from_panel(panel)
    prices, decisions = price_nights(Pricer(model, facts, config, version="nights"), facts)
    known = np.isfinite(facts.price)
    units = np.nan_to_num(facts.typical_units)[known]
    grade = np.asarray(model.grade)[np.searchsorted(model.product_ids, facts.product_ids[known])]
    kept = np.minimum(prices[0], facts.list_price[known])
    moved = np.abs(prices[-1] / kept - 1) > SAME
    limited = np.array([any(code in one.reasons for code in LIMITS) for one in decisions])
    mean, low, high = model.elasticities(np.arange(len(model.product_ids)))
    shares = {one: float(units[grade == number].sum() / units.sum()) for number, one in enumerate(GRADES)}
    prior, others = (
        float(moved[some].mean()) if some.any() else 0.0 for some in (grade == PRIOR_ONLY, grade > PRIOR_ONLY)
    )
    return [
        *(name, str(len(grade)), ", ".join(f"{one} {share:.0%}" for one, share in shares.items() if share >= 0.005)),
        *(f"{np.median(mean):.2f}", f"× {np.median(low / high):.1f}", f"{prior:.1%}", f"{others:.0%}"),
        *(f"{(moved & limited).mean():.1%}", f"{limited.mean():.1%}", f"{np.median(prices[-1] / prices[0] - 1):+.1%}"),
        f"{(np.abs(prices[-1] / prices[-2] - 1) > SAME).mean():.1%}",
        f"{np.median([decision.confidence for decision in decisions]):.2f}",
    ]


def report(paths: Mapping[str, str]) -> str:
    """The table, with the public data sets whose paths are given."""
    rows = []
    for name, load, config in sales(paths):
        rows.append(measure(name, load(), config))
        print(rows[-1], file=sys.stderr, flush=True)
    head = ["sales", "products", "units by grade", "elasticity", "interval", "moved, prior only", "moved, others"]
    head += ["moved to a limit", "at a limit", "median change", "still moving", "confidence"]
    return markdown(head, rows)
