"""What price tests teach: the truth where history misleads, from prices that were charged."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pipelines.price_test import report
from pricing.decision.price_test_results import Draws, estimate_elasticity, find_draws, price_test_cost
from pricing.decision.price_tests import NO_TESTS, Plan, PriceTest

from pricing.data.panel import Panel, Period
from pricing.decision.pricer import Pricer
from pricing.decision.request import PriceRequest
from pricing.decision_log.format import LogEntry, read_decisions
from pricing.decision_log.writer import LogWriter
from tests.kit.decision import TODAY, ConstantElasticity, config, facts

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
    return panel, drawn(draw, name="spring"), test


def drawn(deviation: np.ndarray, *, name: str) -> Draws:
    """A draw a week of a daily panel that begins on a Monday."""
    week = np.broadcast_to(np.arange(deviation.shape[1]) // 7, deviation.shape)
    return Draws(deviation, np.full(deviation.shape, name), week, deviation.size)


def panel_of(
    names: np.ndarray, dates: np.ndarray, *, units: np.ndarray, price: np.ndarray, period: Period = "day"
) -> Panel:
    shape = units.shape
    values: dict[str, Any] = {
        name: np.full(shape, value, np.float32)
        for name, value in (("list_price", 10), ("unit_cost", 6), ("stock", np.nan), ("comp_price", np.nan))
    }
    values |= {name: np.zeros(shape, np.float32) for name in ("comp_price_age", "tax_rate")}
    return Panel(
        period=period,
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
        found = estimate_elasticity(panel, draws)
        low, high = found.interval
        inside += low <= TRUTH <= high

        log_price = np.log(panel.price) - np.log(panel.price).mean(axis=1, keepdims=True)
        log_units = np.log(panel.units_sold + 0.5)
        naive = float((log_price * log_units).sum() / (log_price**2).sum())
        assert naive - TRUTH > 1.0  # biased towards zero, and beyond

    assert 12 <= inside <= 20  # of 20 intervals that hold 80 %
    assert found.error < 0.6


def test_the_draws_are_unbiased() -> None:
    found = [estimate_elasticity(*confounded(seed=seed)[:2]).value for seed in range(100, 140)]

    assert abs(np.mean(found) - TRUTH) < 3 * np.std(found) / np.sqrt(len(found))


def test_without_draws_nothing_is_told() -> None:
    panel, draws, _ = confounded(seed=0, products=3)
    nothing = Draws(np.full(draws.deviation.shape, np.nan), draws.name, draws.week, 0)

    assert np.isnan(estimate_elasticity(panel, nothing).value)
    assert np.isnan(price_test_cost(panel, nothing, rng=np.random.default_rng(0)).value)


def test_the_cost_is_that_of_the_moved_weeks() -> None:
    draw = np.tile(np.repeat([-0.05, 0.0, 0.05], 7), (6, 1))
    dates = np.datetime64("2025-03-03") + np.arange(21)
    names = np.array([f"P{number}" for number in range(6)])
    units = np.where(draw == 0, 10.0, 8.0)
    panel = panel_of(names, dates, units=units, price=np.full(draw.shape, 10.0))

    found = price_test_cost(panel, drawn(draw, name="a"), rng=np.random.default_rng(0))

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
            log.append([LogEntry.of(asked, answer, at=at)])
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


def test_decisions_without_a_draw_late_ones_and_the_shadow_are_no_draws(tmp_path: Path) -> None:
    _, records = logged(tmp_path)
    plain = [{**one, "test": None} for one in records]
    shadow = [{**one, "shadow": True} for one in records]
    late = [{**one, "at": "2026-01-01T00:00:00.000+00:00"} for one in records]
    dates = np.datetime64(MONDAY) + np.arange(21)
    panel = panel_of(np.array(["apple"]), dates, units=np.ones((1, 21)), price=np.full((1, 21), 10.0))

    assert all(find_draws(panel, some).logged == 0 for some in (plain, shadow, late))


def decision(
    date: dt.date, price: float, *, at: dt.date | None = None, test: PriceTest | None = None
) -> dict[str, Any]:
    """A line of the log for apple; the draw is that of `test`."""
    draw = test.draw("apple", date) if test else None
    line = draw and {"name": draw.test, "deviation": draw.deviation, "end": str(draw.end)}
    made = dt.datetime.combine(at or date, dt.time(9), dt.UTC).isoformat(timespec="milliseconds")
    return {
        "product_id": "apple", "date": str(date), "at": made, "shadow": False, "test": line,
        "decision": {"recommended_price": price},
    }  # fmt: skip


SPRING = PriceTest("spring", {"apple": 10.0}, 0.05, MONDAY, 4)


def days_after(days: int) -> dt.date:
    return MONDAY + dt.timedelta(days=days)


def found(price: list[float], records: list[dict[str, Any]], *, first: dt.date = MONDAY, **options: Any) -> Draws:
    """The draws that apple's recorded prices show, by day or by week from `first` on."""
    step = 7 if options.get("period") == "week" else 1
    dates = np.datetime64(first) + step * np.arange(len(price))
    plan = options.pop("plan", NO_TESTS)
    panel = panel_of(np.array(["apple"]), dates, units=np.ones((1, len(price))), price=np.array([price]), **options)
    return find_draws(panel, records, plan=plan)


def drawn_for(date: dt.date) -> float:
    draw = SPRING.draw("apple", date)
    assert draw is not None
    return draw.deviation


@pytest.mark.parametrize("day", [0, 2], ids=["on Mondays", "on Wednesdays"])
def test_a_decision_is_in_force_until_the_next_one(day: int) -> None:
    """A shop that asks for prices once a week."""
    asked = [days_after(day + 7 * week) for week in range(3)]
    records = [decision(date, 9.0 + number, test=SPRING) for number, date in enumerate(asked)]
    price = [8.0] * day + [9.0] * 7 + [10.0] * 7 + [11.0] * 7

    draws = found(price, records)

    expected = [np.nan] * day + [drawn_for(date) for date in asked for _ in range(7)]
    np.testing.assert_allclose(draws.deviation[0], expected)
    assert (draws.logged, draws.used) == (21, 21)
    assert len(set(draws.week[0][day:])) == 3


def test_a_decision_outside_the_test_ends_a_draw_and_one_before_the_sales_goes_on() -> None:
    records = [decision(days_after(1), 9.5, test=SPRING), decision(days_after(5), 9.5)]

    draws = found([9.5] * 6, records, first=days_after(3))

    assert np.isfinite(draws.deviation[0]).tolist() == [True, True, False, False, False, False]


@pytest.mark.parametrize(
    ("plan", "until"),
    [
        (NO_TESTS, 28),
        (Plan((SPRING,)), 28),
        (Plan((SPRING,)).without("spring", after=days_after(17)), 17),
    ],
)
def test_a_decision_is_in_force_no_longer_than_its_test(plan: Plan, until: int) -> None:
    records = [decision(days_after(8), 9.5, test=SPRING)]

    draws = found([9.5] * 35, records, plan=plan)

    assert np.flatnonzero(np.isfinite(draws.deviation[0])).tolist() == list(range(8, until))


def test_a_price_that_was_not_charged_is_left_out_and_counts_again_when_it_is_back() -> None:
    records = [decision(MONDAY, 9.5, test=SPRING)]

    draws = found([9.5, 9.5, 8.0, 8.0, 9.5], records)

    assert np.isfinite(draws.deviation[0]).tolist() == [True, True, False, False, True]
    assert (draws.logged, draws.used) == (5, 3)


@pytest.mark.parametrize("asked", [0, 3, 6])
def test_on_a_weekly_panel_a_decision_counts_for_the_week_in_which_it_was_asked_for(asked: int) -> None:
    records = [decision(days_after(7), 9.5, at=days_after(7 + asked), test=SPRING)]

    draws = found([9.0, 9.5, 9.5], records, period="week")

    np.testing.assert_allclose(draws.deviation[0], [np.nan, *[drawn_for(days_after(7))] * 2])


def test_a_week_in_whose_middle_the_price_changed_has_no_draw_but_the_next_one_has() -> None:
    records = [
        decision(MONDAY, 9.5, test=SPRING),
        decision(days_after(7), 10.0, at=days_after(7), test=SPRING),
        decision(days_after(7), 10.5, at=days_after(10), test=SPRING),
    ]

    draws = found([9.5, 10.2, 10.5, 10.5], records, period="week")

    assert np.isfinite(draws.deviation[0]).tolist() == [True, False, True, True]


def test_a_daily_log_is_laid_on_the_weeks_of_a_weekly_panel() -> None:
    records = [decision(days_after(day), 9.5 if day < 7 else 10.5, test=SPRING) for day in range(14)]

    draws = found([9.5, 10.5], records, period="week")

    np.testing.assert_allclose(draws.deviation[0], [drawn_for(MONDAY), drawn_for(days_after(7))])


def test_a_decision_made_after_its_period_tells_nothing() -> None:
    late = [decision(MONDAY, 9.5, at=days_after(7), test=SPRING)]

    assert found([9.5, 9.5], late, period="week").logged == 0
    assert found([9.5] * 9, late).logged == 0


def test_errors_hold_together_the_periods_of_one_draw() -> None:
    panel, draws, _ = confounded(seed=2, products=20)
    fortnights = Draws(draws.deviation, draws.name, draws.week // 2, draws.logged)

    by_week, by_fortnight = estimate_elasticity(panel, draws), estimate_elasticity(panel, fortnights)

    assert by_week.value == by_fortnight.value
    assert by_week.error != by_fortnight.error


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
    assert f"{estimate_elasticity(panel, draws).value:+.2f} (" in page
    assert "of 3,360." in page


def test_the_report_ends_draws_with_a_test_that_was_stopped() -> None:
    plan = Plan((SPRING,)).without("spring", after=days_after(3))
    dates = np.datetime64(MONDAY) + np.arange(7)
    panel = panel_of(np.array(["apple"]), dates, units=np.ones((1, 7)), price=np.full((1, 7), 9.5))

    page = report(panel, plan, [decision(MONDAY, 9.5, test=SPRING)], model=None)

    assert "| spring | 2025-03-03 to 2025-03-05 | 1 | ± 5.0% | 3 |" in page
