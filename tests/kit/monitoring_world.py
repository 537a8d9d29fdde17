"""A small world for monitoring's tests: a shop of known demand, and a pricing model of known quality."""

import datetime as dt
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from monitoring.decisions import Joined, join
from pipelines.steps.evaluation import weekly
from pricing.data.panel import Panel
from pricing.decision.request import Decision, DetailedDecision, PriceRequest
from pricing.decision_log.write import LogEntry
from tests.kit import panels

NOW = dt.datetime(2024, 6, 1, 3, tzinfo=dt.UTC)
FIRST = np.datetime64("2024-01-01")
PROMISED = {"wape_mean": 0.4, "wape_naive": 0.6, "bias": 0.0}  # by a backtest
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True)
class World:
    """What the shop is like, and from `change_day` on what a regime makes of it."""

    products: int = 40
    days: int = 200
    seed: int = 0  # of everything random
    change_day: int | None = None  # first day of the regime; None: none comes
    demand_factor: float = 1.0
    price_factor: float = 1.0  # of charged prices
    promo_factor: float = 1.0  # of the share of promotions
    stock_factor: float = 1.0
    cost_factor: float = 1.0
    comp_factor: float = 1.0
    live_day: int | None = None  # first day that a pricer sets the prices, inside guardrails; None: the shop does


@dataclass(frozen=True)
class Truth:
    """What only the test knows."""

    mean: NDArray[np.float64]  # (product, day) expected demand at the price charged
    old: NDArray[np.float64]  # (product, day) the same as if no regime had come
    elasticity: NDArray[np.float64]  # (product,) before any regime


def build(world: World) -> tuple[Panel, Truth]:
    """Makes the panel of a world and the truth behind it."""
    rng = np.random.default_rng(world.seed)
    shape = (world.products, world.days)
    base = np.exp(rng.normal(2.2, 0.7, world.products))
    list_price = np.round(np.exp(rng.normal(2.5, 0.5, world.products)), 2)
    elasticity = rng.normal(-2.4, 0.4, world.products)
    day = np.arange(world.days)
    changed = day >= (world.days if world.change_day is None else world.change_day)
    promo = np.stack([_spells(rng, world, changed) for _ in range(world.products)])
    depth = (
        np.where(promo, 0.18, 0.0)
        + np.repeat(rng.uniform(-0.05, 0.05, (world.products, world.days // 7 + 1)), 7, 1)[:, : world.days]
    )
    price = np.round(list_price[:, None] * (1 - depth) * np.where(changed, world.price_factor, 1.0), 2)
    if world.live_day is not None:
        ours = _priced(world, list_price=list_price, promo=promo, last=price[:, world.live_day - 1])
        price[:, world.live_day :] = ours[:, world.live_day :]
    week = 1 + 0.25 * np.isin(day % 7, (4, 5))
    season = 1 + 0.1 * np.sin(2 * np.pi * day / 365)
    common = np.exp(_slow(rng, world.days, 0.05))  # a slow shock to all products
    answer = (price / list_price[:, None]) ** elasticity[:, None] * (1 + 0.2 * promo)
    old = base[:, None] * week * season * common * answer
    mean = old * np.where(changed, world.demand_factor, 1.0)
    demand = rng.negative_binomial(6, 6 / (6 + mean)).astype(float)
    stock = np.ceil(base[:, None] * rng.uniform(1.5, 5.0, shape) * np.where(changed, world.stock_factor, 1.0))
    costs = np.where(changed, world.cost_factor, 1.0)
    walks = np.stack([_slow(rng, world.days, 0.06) for _ in range(world.products)])
    rivals = np.where(changed, world.comp_factor, 1.0)
    made = panels.panel(
        products=world.products,
        days=world.days,
        units_sold=np.minimum(demand, stock),
        price=price,
        list_price=list_price[:, None],
        unit_cost=0.6 * list_price[:, None] * costs,
        stock=stock,
        comp_price=list_price[:, None] * np.exp(walks) * rivals,
        is_promo=promo,
    )
    panel = replace(
        made,
        product_ids=np.array([f"SKU{row:05d}" for row in range(world.products)]),
        categories=np.array([f"cat-{row % 4}" for row in range(world.products)]),
        dates=FIRST + np.arange(world.days),
    )
    return panel, Truth(mean, old, elasticity)


def entries(
    panel: Panel, truth: Truth, *, days: range, seed: int = 1, noise: float = 0.1, version: str = "3"
) -> list[LogEntry]:
    """Makes the decisions of a model that knows the world as it was before any regime, up to `noise` in log demand.

    The shop charges what was recommended: the panel's price.
    """
    rng = np.random.default_rng(seed)
    made = []
    for day in days:
        date = panel.dates[day].astype(dt.date)
        at = dt.datetime.combine(date - dt.timedelta(days=1), dt.time(22), tzinfo=dt.UTC)
        for row, product in enumerate(panel.product_ids):
            price, cost = float(panel.price[row, day]), float(panel.unit_cost[row, day])
            grid = price * np.linspace(0.75, 1.3, 9)
            units = truth.old[row, day] * np.exp(rng.normal(0, noise)) * (grid / price) ** truth.elasticity[row]
            expected = float(np.interp(price, grid, units))
            decision = Decision(
                recommended_price=round(price, 2),
                confidence=0.7,
                price_range=(round(price * 0.97, 2), round(price * 1.03, 2)),
                expected_units=expected,
                expected_margin=expected * (price - cost),
                source="model",
                reasons=[],
                binds=[],
                gave_way=[],
                strategy="margin",
                model_version=version,
                decision_id=f"{date}-{product}",
            )
            request = PriceRequest(
                product_id=str(product),
                current_stock=float(panel.stock[row, day]),
                day_of_week=WEEKDAYS[date.weekday()],  # type: ignore[arg-type]
                comp_price=float(panel.comp_price[row, day]),
                date=date,
            )
            made.append(
                LogEntry(
                    request,
                    detailed(
                        decision,
                        date=date,
                        category=str(panel.categories[row]),
                        current_price=float(panel.price[row, max(day - 1, 0)]),
                        list_price=float(panel.list_price[row, day]),
                        unit_cost=cost,
                        candidate_prices=grid.tolist(),
                        candidate_units=units.tolist(),
                    ),
                    at,
                )
            )
    return made


def detailed(decision: Decision, **figures: Any) -> DetailedDecision:
    """A decision with figures behind it, of which the log keeps those given."""
    price = decision.recommended_price
    steps = dict.fromkeys(("best", "target", "wanted", "settled", "against"), price)
    return DetailedDecision(decision, **{"tax_rate": 0.0, "candidate_sizes": [], **steps, **figures})


def redecided(entry: LogEntry, *, at: dt.datetime | None = None, product_id: str = "", **changes: Any) -> LogEntry:
    """The entry with other values: of its own, of its decision, or of the figures behind that."""
    request = entry.request.model_copy(update={"product_id": product_id}) if product_id else entry.request
    decided = {name: changes.pop(name) for name in Decision.model_fields if name in changes}
    decision = entry.answer.decision.model_copy(update=decided)
    return LogEntry(request, entry.answer._replace(decision=decision, **changes), at or entry.at)


def write_log(folder: Path, made: Sequence[LogEntry], *, worker: str = "w", day: str = "2026-01-01") -> None:
    """Writes decisions into the log in a folder, as the object of one day."""
    lines = [entry.encode(worker, number) for number, entry in enumerate(made, start=1)]
    path = folder / "lines" / day / f"{worker}-000000.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(lines))


def joined(made: Sequence[LogEntry], panel: Panel, *, now: dt.datetime, **given: Any) -> Joined:
    """What monitoring makes of a log with these decisions, and of the sales."""
    with tempfile.TemporaryDirectory() as folder:
        write_log(Path(folder), made)
        return join(folder, panel, now=now, **given)


def earlier_weeks_error(panel: Panel) -> NDArray[np.float64]:
    """(product, day) mean difference to the same weekday one to four weeks earlier; NaN in the first four weeks."""
    error = np.full(panel.units_sold.shape, np.nan)
    past = [np.abs(panel.units_sold[:, 28:] - panel.units_sold[:, 28 - 7 * lag : -7 * lag]) for lag in range(1, 5)]
    error[:, 28:] = np.mean(past, axis=0)
    return error


def backtest_figures(panel: Panel, truth: Truth) -> dict[str, object]:
    """The walk-forward figures that such a model would have had on the last 28-day folds before the panel's end."""
    rng = np.random.default_rng(2)
    naive = earlier_weeks_error(panel)
    figures, weeks = [], []
    for fold in range(3, 0, -1):
        window = slice(len(panel.dates) - 28 * fold, len(panel.dates) - 28 * (fold - 1))
        actual = panel.units_sold[:, window].astype(float)
        error = truth.old[:, window] * np.exp(rng.normal(0, 0.1, actual.shape)) - actual
        clean = ~panel.censored[:, window]
        sold = actual[clean].sum()
        figures.append(
            {
                "cutoff": str(panel.dates[window.start - 1]),
                "wape_mean": float(np.abs(error[clean]).sum() / sold),
                "wape_naive": float(naive[:, window][clean].sum() / sold),
                "bias": float(error[clean].sum() / sold),
            }
        )
        product, step = np.nonzero(clean)
        rows = {"actual": actual, "forecast": error + actual, "naive": actual + naive[:, window]}
        frame = pd.DataFrame({name: values[clean] for name, values in rows.items()})
        frame = frame.assign(cutoff=panel.dates[window.start - 1], step=1 + step, product_id=product)
        weeks += weekly(frame.assign(pit_low=0.4, pit_high=0.5))
    means = {key: float(np.mean([fold[key] for fold in figures])) for key in ("wape_mean", "wape_naive", "bias")}  # type: ignore[arg-type]
    return {**means, "coverage_80": 0.8, "coverage_95": 0.95, "folds": figures, "weeks": weeks}


def without(panel: Panel, *columns: str) -> Panel:
    """The panel with columns that nobody filled."""
    return replace(panel, **{name: np.full(panel.units_sold.shape, np.nan, np.float32) for name in columns})


def live_join(panel: Panel, *, since: int, products: int | None = None) -> pd.DataFrame:
    """What the join would give where we priced the first so many products from a day on, as charged, unforecast."""
    rows = len(panel.product_ids) if products is None else products
    product, day = np.indices((rows, len(panel.dates) - since)).reshape(2, -1)
    at = (product, since + day)
    return pd.DataFrame(
        {
            "product_id": panel.product_ids[product],
            "category": panel.categories[product],
            "period": pd.to_datetime(panel.dates)[since + day],
            "scored": np.zeros(len(day), dtype=bool),
            "forecast": np.full(len(day), np.nan),
            "units_sold": panel.units_sold[at].astype(float),
            "pricing": np.full(len(day), "followed"),
            "live": np.ones(len(day), dtype=bool),
            "held_out": np.zeros(len(day), dtype=bool),
            "comp_price": panel.comp_price[at].astype(float),
            "stock": panel.stock[at].astype(float),
        }
    )


def _priced(
    world: World, *, list_price: NDArray[np.float64], promo: NDArray[np.bool_], last: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(product, day) prices of a pricer that goes to its own idea of each product's best price.

    It moves by 10 % a day at most, within 0.70 to 1.35 of list price, changes its mind slowly, and takes 18 % off while
    the shop advertises the offer.
    """
    rng = np.random.default_rng(world.seed + 50_000)
    best = rng.uniform(-0.15, 0.12, world.products)[:, None] + np.stack(
        [_slow(rng, world.days, 0.03) for _ in range(world.products)]
    )
    wanted = np.clip(list_price[:, None] * np.exp(best) * np.where(promo, 0.82, 1.0), 0.7 * list_price[:, None], None)
    wanted = np.minimum(wanted, 1.35 * list_price[:, None])
    price = np.empty_like(wanted)
    for day in range(world.days):
        if day >= (world.live_day or 0):
            last = np.round(np.clip(wanted[:, day], 0.9 * last, 1.1 * last), 2)
        price[:, day] = last
    return price


def _spells(rng: np.random.Generator, world: World, changed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Promotions of a week, about one week in ten."""
    weeks = world.days // 7 + 1
    chance = np.repeat(rng.random(weeks), 7)[: world.days]
    promoted: NDArray[np.bool_] = chance < np.where(changed, 0.1 * world.promo_factor, 0.1)
    return promoted


def _slow(rng: np.random.Generator, days: int, scale: float) -> NDArray[np.float64]:
    """A stationary autoregression with a memory of about two weeks."""
    steps = rng.normal(0, scale * np.sqrt(1 - 0.93**2), days)
    path = np.empty(days)
    level = rng.normal(0, scale)
    for day in range(days):
        level = 0.93 * level + steps[day]
        path[day] = level
    return path
