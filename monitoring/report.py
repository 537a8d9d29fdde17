"""The page of a run as self-contained HTML without scripts, and the business figures of its newest week."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from monitoring.evaluate import Evaluation
from monitoring.policy import PolicyOutcome
from monitoring.todo import Task
from pricing.data.net_price import net_price, unit_profit
from pricing.data.panel import STEP_DAYS, Panel
from pricing.decision.experiment_results import UNKNOWN, Interval, profit_gain, spans
from pricing.decision.experiments import Experiment
from pricing.paths import page_css

GAIN_DAYS = 28  # of the newest window, in which pricing's gain is told
MOST_CATEGORIES = 15


@dataclass(frozen=True)
class BusinessFigures:
    """Business figures of one week, of the whole shop or of a category. Money is in currency units, net of tax."""

    name: str  # "all", or the category
    units: float
    revenue: float
    margin: float  # revenue less the cost of what was sold
    discount: float  # how far prices paid lay below list prices, as a fraction of list
    turns: float  # units sold as a fraction of the mean stock at opening; NaN where stock is unknown
    sold_out: float  # fraction of product-days with a known stock that ended sold out
    assumed: float  # fraction of the revenue whose cost is assumed from a configured margin, not given


@dataclass(frozen=True)
class Effect:
    """Effect of pricing on margin, against static prices."""

    margin: Interval  # change of margin, as a fraction, with its 95 % interval over products
    text: str  # the same in a sentence, or why there is no estimate


@dataclass(frozen=True)
class Week:
    """Business figures of the newest week."""

    name: str  # its dates
    now: BusinessFigures
    before: BusinessFigures | None  # of the week before; None when there is none
    categories: list[BusinessFigures]  # by descending margin
    effect: Effect


def newest_week(panel: Panel, joined: pd.DataFrame, *, holdout: Experiment | None, rng: np.random.Generator) -> Week:
    """Computes the figures of the newest week, the week before and each category, and the gain over 28 days."""
    days = STEP_DAYS[panel.period]
    total = len(panel.dates)
    step = 7 // days
    newest = slice(max(0, total - step), total)
    before = slice(max(0, total - 2 * step), newest.start)
    every = np.ones(len(panel.product_ids), dtype=bool)
    categories = [
        line(panel, name=str(category), rows=panel.categories == category, periods=newest)
        for category in np.unique(panel.categories)
    ]
    return Week(
        name=f"{panel.dates[newest.start]} to {panel.dates[-1] + np.timedelta64(days - 1, 'D')}",
        now=line(panel, name="all", rows=every, periods=newest),
        before=line(panel, name="all", rows=every, periods=before) if newest.start else None,
        categories=sorted(categories, key=lambda one: -one.margin)[:MOST_CATEGORIES],
        effect=effect(panel, joined, holdout, window=max(1, GAIN_DAYS // days), rng=rng),
    )


def line(panel: Panel, *, name: str, rows: NDArray[np.bool_], periods: slice) -> BusinessFigures:
    """Adds up the panel over some products and periods."""
    part = panel.select(rows)
    seen = part.present[:, periods]
    units = np.where(seen, part.units_sold[:, periods], 0.0)
    price, list_price, cost, tax_rate = (
        np.nan_to_num(value[:, periods])
        for value in (part.price, part.list_price, part.unit_cost, panel.tax_rates()[rows])
    )
    paid = float((units * price).sum())
    at_list = float((units * list_price).sum())
    kept = units * net_price(price, tax_rate)
    revenue = float(kept.sum())
    guessed = float(kept[part.cost_assumed].sum())
    stock = part.stock[:, periods]
    known = np.isfinite(stock) & seen
    per_period = known.any(axis=0).sum()
    mean_stock = stock[known].sum() / per_period if per_period else 0.0
    return BusinessFigures(
        name=name,
        units=float(units.sum()),
        revenue=revenue,
        margin=float((units * unit_profit(price, cost, tax_rate=tax_rate)).sum()),
        discount=1 - paid / at_list if at_list > 0 else float("nan"),
        turns=float(units[known].sum() / mean_stock) if mean_stock > 0 else float("nan"),
        sold_out=float(part.censored[:, periods].sum() / known.sum()) if known.any() else float("nan"),
        assumed=guessed / revenue if revenue > 0 else float(part.cost_assumed.any()),
    )


def effect(
    panel: Panel, joined: pd.DataFrame, holdout: Experiment | None, *, window: int, rng: np.random.Generator
) -> Effect:
    """Estimates the effect of pricing on margin: products priced as recommended against those that keep their prices.

    See `experiment_results.profit_gain`; the newest window is compared with the time before the experiment began.
    """
    kept = frozenset[str]() if holdout is None else holdout.in_arm("keep")
    if holdout is None or not kept:
        keep = "pricing experiment plan --name holdout --keep 0.1 has some keep theirs"
        return Effect(UNKNOWN, f"No products keep their prices, so what pricing earns cannot be told apart; {keep}.")
    before, after = spans(panel, start=holdout.start, most=window)
    if joined.empty or after.start >= after.stop:
        return Effect(UNKNOWN, "No decision has met its sales yet.")
    followed = joined[(joined["period"] >= pd.Timestamp(panel.dates[after.start])) & (joined["pricing"] == "followed")]
    gain = profit_gain(panel, set(followed["product_id"]) - kept, kept, before=before, after=after, rng=rng)
    found = gain.profit
    if not np.isfinite(found.value):
        text = f"{gain.others} held-out and {gain.products} priced products sold before and after: too few."
        return Effect(found, text)
    sure = "a gain" if found.low > 0 else "a loss" if found.high < 0 else "which may be chance"
    low = share(found.low, sign=True)
    high = share(found.high, sign=True)
    more = "more" if found.value >= 0 else "less"
    counts = f"{gain.products} priced, {gain.others} held-out products"
    text = f"Priced products earned {abs(found.value):.1%} {more} margin than at static prices, {sure}"
    return Effect(found, f"{text} (95 % between {low} and {high}; {counts}).")


def page(evaluation: Evaluation, week: Week, *, outcome: PolicyOutcome, done: str, tasks: Sequence[Task]) -> str:
    """Returns the page: for a category manager above, for an analyst below."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"share": share, "plain": plain, "band": band, "sentence": sentence}
    columns = evaluation.drift.columns
    return environment.get_template("page.html").render(
        evaluation=evaluation,
        week=week,
        outcome=outcome,
        done=done,
        tasks=tasks,
        trust=_trust(evaluation),
        columns=sorted(columns, key=lambda one: (not one.drifted, -one.value / one.threshold.value)),
        most=max((line.margin for line in week.categories), default=0.0),
        levels={"breach": "problem", "warning": "look", "note": "note"},
        shades={"breach": "bad", "warning": "look", "note": "soft"},
        page_css=page_css(),
    )


def _trust(evaluation: Evaluation) -> str:
    if not evaluation.newest.decisions:
        why = evaluation.situation.unjudged or "none was decided for the newest days"
        return f"There is nothing to judge: {why}."
    longer = [sentence(each.sentence) for each in evaluation.findings if each.check == "window_longer"]
    return " ".join([evaluation.explanation, *longer])


def sentence(text: str) -> str:
    """Makes a text a sentence: a capital, and an end."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def plain(value: float) -> str:
    """Writes a number to two places."""
    return f"{value:.2f}" if math.isfinite(value) else "unknown"


def band(interval: Interval, *, sign: bool = False, unknown: str = "unknown") -> str:
    """Writes a fraction in whole per cent with its interval, where there is one."""
    if not math.isfinite(interval.value):
        return unknown
    value, low, high = (share(each, sign=sign, digits=0) for each in (interval.value, interval.low, interval.high))
    return f"{value} ({low} to {high})" if math.isfinite(interval.low) else value


def share(value: float, *, sign: bool = False, digits: int = 1) -> str:
    """Writes a fraction in per cent, with a minus sign (not a hyphen) and no sign on zero."""
    if not np.isfinite(value):
        return "unknown"
    text = f"{value:{'+' if sign else ''}.{digits}%}".replace("-", "−")
    return text if text.strip("+−0.%") else text.lstrip("+−")
