"""Which grade a history earns: by moves and draws alone."""

from dataclasses import replace

import numpy as np
import pytest

from pricing.data.panel import Panel, Period
from pricing.demand.endogeneity import UNTESTED, FalsificationTest, FalsificationTests
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
from tests.kit.demand_fakes import make_panel

DAYS = 112
NONE = (0, 0, 0)  # moves, fortnights with one, fortnights with a draw


def prices(*days: int, by: float = 0.9, length: int = DAYS) -> np.ndarray:
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

    found = gather_evidence(panel, own=np.arange(DAYS)[None] >= 50)

    assert (found.moves[0], found.fortnights[0], found.prices[0]) == (2, 2, 2)


def test_stores_of_one_parent_are_counted_together() -> None:
    panel = panel_of(prices(16), prices(16, 33), prices(60, by=0.8), parents=["Q", "Q", "R"])
    drawn = np.full((3, DAYS), np.nan)
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
