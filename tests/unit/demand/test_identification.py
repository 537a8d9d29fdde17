"""What price changes of a small panel say: events, draws, changes by the platform, bias; and the grade earned."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from pricing.data.panel import Panel, Period
from pricing.demand.batches import FeatureTable, build_table
from pricing.demand.estimation import Estimates, estimate_round, with_draws
from pricing.demand.falsification import UNTESTED, FalsificationTest, FalsificationTests
from pricing.demand.grades import (
    CATEGORY,
    KINDS_DISAGREE,
    OWN_HISTORY,
    PRIOR_ONLY,
    TESTED,
    TREND,
    blank_evidence,
    gather_evidence,
    grade_products,
    moves_of,
)
from pricing.demand.identification import centre_of_margins
from pricing.demand.nuisances import EventForecast
from pricing.demand.price_changes import (
    SCORED_PERIODS,
    after_cuts,
    around_price_changes,
    find_price_changes,
    select_sample,
)
from pricing.demand.regression import Shift
from tests.kit.demand_fakes import make_norms, make_panel
from tests.kit.panels import panel

PRODUCTS, DAYS = 12, 240


def table_of(price: np.ndarray, units: np.ndarray | None = None) -> tuple[Panel, FeatureTable]:
    """A panel of products at (product, day) prices, without gaps or stock-outs."""
    products, days = price.shape
    base = make_panel(products=products, periods=days)
    panel = replace(
        base,
        present=np.ones(price.shape, bool),
        price=price.astype(np.float32),
        list_price=np.full(price.shape, 10.0, np.float32),
        unit_cost=np.full(price.shape, 6.0, np.float32),
        stock=np.full(price.shape, np.nan, np.float32),
        units_sold=(np.full(price.shape, 20.0) if units is None else units).astype(np.float32),
        is_promo=np.zeros(price.shape, np.float32),
    )
    norms = replace(make_norms(panel), usual_price=np.full(products, 10.0, np.float32))
    return panel, build_table(panel, norms=norms, category=np.zeros(products, int))


def steps_at(*days: int) -> np.ndarray:
    price = np.full(60, 10.0)
    for day in days:
        price[day:] *= 0.9
    return price[None]


def test_windows_near_a_move_hold_no_move() -> None:
    _, table = table_of(steps_at(30, 40))
    moved = find_price_changes(table)

    before, coming = around_price_changes(table, moved, first=-SCORED_PERIODS)
    later, past = around_price_changes(table, moved, first=4)

    assert sorted(before.at.tolist()) == [27, 28, 29, 37, 38, 39]
    assert set(coming.tolist()) == {30, 40}
    assert sorted(later.at.tolist()) == [34, 35, 36, 44, 45, 46]
    assert set(past.tolist()) == {30, 40}
    assert not moved[later.product, later.at].any()
    np.testing.assert_array_equal(table.log_price[0, later.cutoff], table.log_price[0, later.at])


def test_a_cut_that_is_over_is_forecast_from_before_it() -> None:
    price = np.full((1, 60), 10.0)
    price[0, 30:35] = 8.0
    _, table = table_of(price)

    events, depth, lasted = after_cuts(table, find_price_changes(table))

    assert events.at.tolist() == list(range(35, 42))
    assert (events.cutoff == 29).all()
    np.testing.assert_allclose(depth, np.log(0.8), rtol=1e-4)
    assert (lasted == 5).all()


def test_moves_of_the_platform_itself_are_left_out() -> None:
    panel, table = table_of(steps_at(30, 40))
    own = np.zeros(panel.present.shape, bool)
    own[:, 40:] = True

    sample = select_sample(panel, table, tested=None, own=own)

    assert sample.moves.at.tolist() == list(range(30, 40))


def test_a_price_test_is_no_ordinary_move() -> None:
    price = np.full((1, 60), 10.0)
    price[0, 30:37] = 10.5
    panel, table = table_of(price)
    tested = np.full((1, 60), np.nan)
    tested[0, 30:37] = np.log(1.05)

    sample = select_sample(panel, table, tested=tested, own=None)

    assert len(sample.moves) == 0
    assert sample.tests.at.tolist() == list(range(30, 37))
    assert (sample.tests.cutoff == 29).all()
    np.testing.assert_allclose(sample.draw, np.log(1.05))


def moving(truth: float, *, seed: int, trend: float = 0.0, offset: float = -2.0) -> Callable[..., Estimates]:
    """A round of estimation on weekly random prices.

    Demand answers by `truth`, and `trend` times the move is a demand that only coincides.
    """
    rng = np.random.default_rng(seed)
    weeks = DAYS // 7 + 1
    log_price = np.repeat(rng.normal(0, 0.08, (PRODUCTS, weeks)), 7, axis=1)[:, :DAYS]
    move = np.diff(log_price, axis=1, prepend=log_price[:, :1])
    near = sum(np.roll(move, shift, axis=1) for shift in range(-SCORED_PERIODS, 7))
    mean = 30.0 * np.exp(truth * log_price + trend * near)
    panel, table = table_of(10.0 * np.exp(log_price), rng.poisson(mean).astype(float))
    sample = select_sample(panel, table, tested=None, own=None)
    residual = (table.log_price[sample.moves.product, sample.moves.at]).astype(float)
    events = sample.everything
    norms = replace(make_norms(panel), elasticity=np.full(PRODUCTS, offset, np.float32))
    expected = 30.0 * np.exp(offset * table.log_price[events.product, events.at])
    forecast = EventForecast(expected, np.full(len(events), 1e4))
    moved = replace(sample, residual=residual)
    return partial(estimate_round, moved, table, forecast, norms=norms, doubt=0.0, least=0.0)


def test_random_prices_pass_every_test_and_are_found() -> None:
    estimated = moving(-2.8, seed=1, offset=-2.7)

    known = estimated(so_far=None)
    again = estimated(so_far=known)

    assert known.level == pytest.approx(-2.8, abs=0.1)
    assert known.step == pytest.approx(known.level + 2.7)
    assert known.checks.doubt < 0.3
    assert (known.error < 0.5).all()
    assert again.step == 0.0
    np.testing.assert_allclose(again.error, known.error)  # rounds that agree add no error


def test_a_demand_that_moves_with_prices_before_and_after_widens_all() -> None:
    known = moving(-2.0, seed=1, trend=0.9)(so_far=None)
    found = known.posterior(category=np.zeros(PRODUCTS, int), centre=np.zeros(1))
    blind = replace(known, bias=0.0).posterior(category=np.zeros(PRODUCTS, int), centre=np.zeros(1))

    assert known.level > -1.5
    assert known.bias >= known.checks.doubt > 0.5
    assert known.checks.flags & TREND
    assert (found.sd > 1.3 * blind.sd).all()
    assert np.mean(found.mean + 1.2816 * found.sd) > np.log(2.0)


def test_the_ladder_and_what_no_test_sees_add_to_the_bias_that_all_share() -> None:
    estimated = moving(-2.8, seed=1)

    known = estimated(so_far=None)
    doubted = estimated(so_far=None, doubt=0.5, least=0.15)

    assert doubted.level == known.level
    assert doubted.bias == pytest.approx(np.sqrt(known.bias**2 + 0.5**2 + (0.15 * known.level) ** 2))


def test_estimates_without_errors_are_as_doubtful_as_the_bias_that_all_share() -> None:
    sure = replace(known_of(-2.5, 1e-3), bias=0.15 * 2.5)

    found = sure.posterior(category=np.zeros(5, int), centre=np.zeros(1))

    np.testing.assert_allclose(found.sd, 0.15, rtol=0.1)


def shift_of(value: float, *error: float) -> Shift:
    nil = np.zeros(len(error))
    return Shift(
        nil + value, np.array(error), np.full(1, np.inf), value, max(error), 0.0, 0.0, 0.0, 0.0, nil, 0.0, nil, 0.0
    )


def known_of(value: float, error: float) -> Estimates:
    """Estimates of five products from changes by people, all likely biased."""
    checks = FalsificationTests(UNTESTED, UNTESTED, UNTESTED, {})
    return Estimates(
        value=np.full(5, value),
        error=np.full(5, error),
        category_information=np.full(1, 5.0 / error**2),
        level=value,
        level_error=0.1,
        step=0.0,
        moved=0.0,
        bias=0.9,
        shift=shift_of(0.0, *[error] * 5),
        checks=checks,
    )


def drawn(known: Estimates, shift: Shift) -> Estimates:
    return with_draws(known, shift, old=np.full(5, -2.0, np.float32), category=np.zeros(5, int))


def test_draws_overrule_what_other_changes_say() -> None:
    found = drawn(known_of(-1.6, 0.3), shift_of(-0.5, *[0.4] * 5))

    assert found.level == pytest.approx(-2.5, abs=0.15)
    np.testing.assert_allclose(found.value, -2.5, atol=0.15)
    assert found.tested is not None
    around, noise = (0.5 * 0.9) ** 2, (0.3**2 + 0.4**2) / 5
    of_gap = 0.64**2 * around * noise / (around + noise)  # people's changes have 0.64 of the weight
    np.testing.assert_allclose(found.error, np.sqrt(0.24**2 + of_gap))
    assert (found.bias * found.exposure < 0.1).all()
    assert found.bias < known_of(-1.6, 0.3).bias / 2
    np.testing.assert_allclose([found.tested.observed, found.tested.tested], [[-1.6], [-2.5]])
    assert found.tested.products.tolist() == [5]


LENGTH = 112
NONE = (0, 0, 0)  # moves, fortnights with one, fortnights with a draw


def prices(*days: int, by: float = 0.9, length: int = LENGTH) -> np.ndarray:
    """Daily prices that change by the factor `by`, and back, on each of `days` in turn."""
    turns = np.isin(np.arange(length), days).cumsum()
    return np.where(turns % 2, 10.0 * by, 10.0)


def panel_of(*price: np.ndarray, period: Period = "day", parents: list[str] | None = None) -> Panel:
    base = make_panel(products=len(price), periods=len(price[0]))
    ids = None if parents is None else np.array(parents)
    present = np.ones(base.present.shape, np.bool_)
    return replace(base, price=np.array(price, np.float32), present=present, period=period, parent_ids=ids)


@pytest.mark.parametrize(
    ("told", "period", "expected"),
    [
        ([10, 10, 10.21, 10.21, 10.21], "day", [2]),
        ([10, 10, 9.79, 9.79, 9.79], "day", [2]),
        ([10, 10, 10.19, 10.19, 10.19], "day", []),  # less than 2 %
        ([10, 10, 9, 9, 10], "day", []),  # stands two days
        ([10, 10, 10, 9, 9], "day", []),  # who knows for how long
        ([10, 9, 9, 9, 10, 10, 10], "day", [1, 4]),
        ([10, 9, 9.05, 9, 9], "day", [1]),  # stands but for rounding
        ([10, 9, 10, 9, 10, 9, 10], "day", []),  # wobbles
        ([9, 9, 9, 9, 9], "day", []),  # the first price is no move
        ([10, 10, 9, 10, 10], "week", [2, 3]),
        ([10, 10, 10.1, 10.1, 10.1], "week", []),
    ],
)
def test_a_move_is_two_per_cent_and_stands_three_days_or_a_week(
    told: list[float], period: Period, expected: list[int]
) -> None:
    price = np.array([told])

    found = moves_of(price, np.ones(price.shape, np.bool_), period=period)

    assert np.flatnonzero(found[0]).tolist() == expected


def test_prices_that_the_platform_set_are_no_moves() -> None:
    panel = panel_of(prices(20, 40, 60))

    found = gather_evidence(panel, own=np.arange(LENGTH)[None] >= 50)

    assert (found.moves[0], found.fortnights[0], found.prices[0]) == (2, 2, 2)


def test_stores_of_one_parent_are_counted_together() -> None:
    panel = panel_of(prices(16), prices(16, 33), prices(60, by=0.8), parents=["Q", "Q", "R"])
    drawn = np.full((3, LENGTH), np.nan)
    drawn[0, 70:84], drawn[1, 84:98] = 0.05, -0.05

    found = gather_evidence(panel, tested=drawn)

    assert found.moves.tolist() == [2, 2, 1]
    assert found.fortnights.tolist() == [2, 2, 1]
    assert found.drawn.tolist() == [2, 2, 0]


@pytest.mark.parametrize(("period", "fortnights"), [("day", 1), ("week", 4)])
def test_moves_of_one_fortnight_count_once(period: Period, fortnights: int) -> None:
    panel = panel_of(prices(1, 4, 7, length=16), prices(2, 4, 6, 8, length=16), period=period)

    assert gather_evidence(panel).fortnights[1] == fortnights


@pytest.mark.parametrize(
    ("products", "expected"),
    [
        ([(4, 4, 0)], [OWN_HISTORY]),
        ([(40, 3, 0)], [PRIOR_ONLY]),
        ([(4, 4, 3)], [OWN_HISTORY]),
        ([(0, 0, 4)], [TESTED]),
        ([(9, 9, 4)], [TESTED]),
        ([(3, 2, 0), (3, 2, 0), (2, 1, 0), NONE], [CATEGORY] * 4),
        ([(3, 2, 0), (2, 2, 0), (2, 1, 0), NONE], [PRIOR_ONLY] * 4),  # seven moves
        ([(9, 3, 0), (9, 3, 0), NONE], [PRIOR_ONLY] * 3),  # of two products
        ([(3, 2, 0), (3, 2, 0), (0, 0, 2), NONE], [CATEGORY] * 4),  # draws are moves, too
        ([(6, 4, 0), (1, 1, 0), (1, 1, 0)], [OWN_HISTORY, CATEGORY, CATEGORY]),
    ],
)
def test_a_grade_is_what_the_moves_earn(products: list[tuple[int, int, int]], expected: list[int]) -> None:
    categories = np.array([*("tea" for _ in products), "jam"])
    moves, fortnights, drawn = np.array([*products, NONE]).T
    panel = replace(panel_of(*[prices()] * len(categories)), categories=categories)
    evidence = replace(blank_evidence(len(categories)), moves=moves, fortnights=fortnights, drawn=drawn)

    told = grade_products(evidence, panel).tolist()
    doubtful = grade_products(replace(evidence, flags=np.full(len(categories), TREND)), panel).tolist()

    assert told == [*expected, PRIOR_ONLY]  # no other category lends anything
    assert doubtful == told  # falsification tests change no grade


@pytest.mark.parametrize(("parents", "expected"), [("QQQR", PRIOR_ONLY), ("QRSR", CATEGORY)])
def test_the_stores_of_one_product_do_not_make_a_category(parents: str, expected: int) -> None:
    panel = panel_of(*[prices(20, 40, 60)] * 3, prices(), parents=list(parents))
    panel = replace(panel, categories=np.array(["a"] * 4))

    assert grade_products(gather_evidence(panel), panel)[3] == expected


def test_a_bias_widens_by_what_its_own_noise_does_not_explain() -> None:
    assert FalsificationTest(0.5, 0.01).excess == pytest.approx(0.25, rel=0.01)
    assert FalsificationTest(0.1, 0.2).excess == 0.0
    assert FalsificationTest(-5.4, 3.9).excess < 0.01  # a test so noisy can tell nothing
    assert UNTESTED.excess == 0.0


def test_the_doubt_takes_the_worst_trend_once_and_no_promotion() -> None:
    before, later = FalsificationTest(0.4, 0.01), FalsificationTest(0.3, 0.01)
    both = FalsificationTests(before, later, UNTESTED, {"promoted": FalsificationTest(-2.0, 0.1)})

    assert both.doubt == pytest.approx(0.4, rel=0.01)
    assert (both.disagreement, both.flags) == (UNTESTED, TREND)
    alike, rare = (replace(both, kinds={"rises": FalsificationTest(0.8, 0.01, share=share)}) for share in (0.5, 0.02))
    assert alike.flags == TREND | KINDS_DISAGREE
    assert alike.doubt == pytest.approx(np.hypot(0.4, 0.4), rel=0.01)  # half the difference from either
    assert rare.doubt == pytest.approx(np.sqrt(0.4**2 + 0.8**2 / 2), rel=0.03)  # or off by all of it in one of two


def test_half_of_what_a_margin_says_of_the_elasticity_counts_before_the_data() -> None:
    sales = panel(products=3, list_price=10.0, unit_cost=9.0, tax_rate=0.0)
    assumed = replace(sales, cost_assumed=np.array([True, False, False]))

    found = centre_of_margins(assumed, np.array([0, 1, 1]))

    assert found.tolist() == [0.0, pytest.approx(0.5 * np.log(10.0 / 2.3))]
