"""What price tests teach: the truth where history misleads, from prices that were charged."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.price_test import report
from pricing.data.panel import Panel
from pricing.decision.log import read_decisions
from pricing.decision.log_writer import LogWriter
from pricing.decision.price_test_results import Draws, cost_of, elasticity_from, find_draws
from pricing.decision.price_tests import Plan, PriceTest
from pricing.decision.pricer import Pricer
from pricing.decision.request import PriceRequest
from serving.prices import entry
from tests.decision_kit import TODAY, ConstantElasticity, config, facts

MONDAY = dt.date(2025, 3, 3)
WEEKS = 8
TRUTH = -2.5


def confounded(*, seed: int, products: int = 60) -> tuple[Panel, Draws, PriceTest]:
    """Daily sales in which prices follow a hidden demand, upwards, and a test moves them besides."""
    rng = np.random.default_rng(seed)
    names = np.array([f"P{number:02d}" for number in range(products)])
    test = PriceTest("spring", dict.fromkeys(names.tolist(), 10.0), 0.05, MONDAY, WEEKS)
    days = [MONDAY + dt.timedelta(days=day) for day in range(7 * WEEKS)]
    hidden = np.repeat(rng.normal(0, 0.2, (products, WEEKS)), 7, axis=1) - np.linspace(0, 0.5, 7 * WEEKS)
    draw = np.array([[test.draw(name, day).deviation for day in days] for name in names.tolist()])
    log_price = np.log(10.0) + 0.3 * hidden + draw
    level = rng.normal(2.0, 0.5, (products, 1))
    units = rng.poisson(np.exp(level + hidden + TRUTH * (log_price - np.log(10.0))))
    panel = panel_of(names, np.array(days, dtype="datetime64[D]"), units=units, price=np.exp(log_price))
    return panel, Draws(draw, np.full(draw.shape, "spring"), draw.size), test


def panel_of(names: np.ndarray, dates: np.ndarray, *, units: np.ndarray, price: np.ndarray) -> Panel:
    shape = units.shape
    values: dict[str, Any] = {
        name: np.full(shape, value, np.float32)
        for name, value in (("list_price", 10), ("unit_cost", 6), ("stock", np.nan), ("comp_price", np.nan))
    }
    return Panel(
        period="day",
        product_ids=names,
        categories=np.full(len(names), "a"),
        dates=dates,
        present=np.ones(shape, bool),
        units_sold=units.astype(np.float32),
        price=price.astype(np.float32),
        is_promo=np.zeros(shape, np.float32),
        is_holiday=np.zeros(shape, np.float32),
        cost_assumed=np.zeros(len(names), bool),
        **values,
    )


def test_the_draws_alone_tell_what_a_regression_on_all_prices_does_not() -> None:
    inside = 0
    for seed in range(20):
        panel, draws, _ = confounded(seed=seed)
        found = elasticity_from(panel, draws)
        low, high = found.interval
        inside += low <= TRUTH <= high

        log_price = np.log(panel.price) - np.log(panel.price).mean(axis=1, keepdims=True)
        log_units = np.log(panel.units_sold + 0.5)
        naive = float((log_price * log_units).sum() / (log_price**2).sum())
        assert naive - TRUTH > 1.0  # biased towards zero, and beyond

    assert 12 <= inside <= 20  # of 20 intervals that hold 80 %
    assert found.error < 0.6


def test_the_draws_are_unbiased() -> None:
    found = [elasticity_from(*confounded(seed=seed)[:2]).value for seed in range(100, 140)]

    assert abs(np.mean(found) - TRUTH) < 3 * np.std(found) / np.sqrt(len(found))


def test_without_draws_nothing_is_told() -> None:
    panel, draws, _ = confounded(seed=0, products=3)
    nothing = Draws(np.full(draws.deviation.shape, np.nan), draws.name, 0)

    assert np.isnan(elasticity_from(panel, nothing).value)
    assert np.isnan(cost_of(panel, nothing, rng=np.random.default_rng(0)).value)


def test_the_cost_is_that_of_the_moved_weeks() -> None:
    draw = np.tile(np.repeat([-0.05, 0.0, 0.05], 7), (6, 1))
    dates = np.datetime64("2025-03-03") + np.arange(21)
    names = np.array([f"P{number}" for number in range(6)])
    units = np.where(draw == 0, 10.0, 8.0)
    panel = panel_of(names, dates, units=units, price=np.full(draw.shape, 10.0))

    found = cost_of(panel, Draws(draw, np.full(draw.shape, "a"), draw.size), rng=np.random.default_rng(0))

    assert found.value == pytest.approx(1 - (10 + 8 + 8) / 30)
    assert found.error == pytest.approx(0, abs=1e-9)


def logged(folder: Path, *, days: int = 21) -> tuple[PriceTest, list[dict[str, Any]]]:
    """The log of a shop that asks for apple and cocoa every morning; apple is tested."""
    test = PriceTest("spring", {"apple": 10.0}, 0.05, MONDAY, 3)
    pricer = Pricer(ConstantElasticity(), facts(), config(), version="1")
    log = LogWriter(folder)
    for day in range(days):
        date = MONDAY + dt.timedelta(days=day)
        for product in ("apple", "cocoa"):
            asked = PriceRequest(product_id=product, current_stock=1e6, day_of_week=f"{date:%A}", date=date)
            (answer,) = pricer.price_detailed([asked], today=TODAY, tests=Plan((test,)))
            at = dt.datetime.combine(date, dt.time(6), dt.UTC)
            log.append([entry(asked, answer, at=at)])
    log.close()
    return test, read_decisions(folder).records


def test_draws_come_back_from_the_log_where_the_price_was_charged(tmp_path: Path) -> None:
    test, records = logged(tmp_path)
    names, dates = np.array(["apple", "cocoa"]), np.datetime64(MONDAY) + np.arange(21)
    charged = {(one["product_id"], one["date"]): one["decision"]["recommended_price"] for one in records}
    price = np.array([[charged[name, str(day)] for day in dates] for name in names.tolist()])
    price[0, 4] *= 1.03  # a shop that did otherwise
    panel = panel_of(names, dates, units=np.full(price.shape, 5.0), price=price)

    draws = find_draws(panel, records)

    expected = [test.draw("apple", day.astype(dt.date)).deviation for day in dates]
    expected[4] = np.nan
    np.testing.assert_allclose(draws.deviation[0], expected, rtol=1e-6)
    assert np.isnan(draws.deviation[1]).all()
    assert (draws.logged, draws.used) == (21, 20)
    assert set(draws.name[0]) == {"spring", ""}


def test_decisions_of_former_times_and_of_the_shadow_are_no_draws(tmp_path: Path) -> None:
    _, records = logged(tmp_path)
    old = [{name: value for name, value in one.items() if name != "test"} for one in records]
    shadow = [{**one, "shadow": True} for one in records]
    late = [{**one, "at": "2026-01-01T00:00:00.000+00:00"} for one in records]
    dates = np.datetime64(MONDAY) + np.arange(21)
    panel = panel_of(np.array(["apple"]), dates, units=np.ones((1, 21)), price=np.full((1, 21), 10.0))

    assert all(find_draws(panel, some).logged == 0 for some in (old, shadow, late))


def test_the_report_says_what_was_found_and_shows_no_name_raw(tmp_path: Path) -> None:
    panel, draws, test = confounded(seed=1)
    evil = PriceTest("<b>|x", test.prices, 0.05, MONDAY, WEEKS)
    records = [
        {
            "product_id": name, "date": str(day), "at": f"{day}T06:00:00", "shadow": False,
            "decision": {"recommended_price": float(panel.price[row, column])},
            "test": {"name": evil.name, "deviation": float(draws.deviation[row, column])},
        }
        for row, name in enumerate(panel.product_ids.tolist())
        for column, day in enumerate(panel.dates.tolist())
    ]  # fmt: skip

    page = report(panel, Plan((evil,)), records, model=None)

    assert "<b>" not in page
    assert "&lt;b&gt;\\|x" in page
    assert f"{elasticity_from(panel, draws).value:+.2f} (" in page
    assert "of 3,360." in page
