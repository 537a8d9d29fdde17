"""Prices of the platform's own, which teach no elasticity, against people's, which do."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from pricing.data.own_prices import NO_MOVES, NO_SPANS, Moves, OwnSpans
from pricing.data.panel import STEP_DAYS, Panel, Period
from tests.kit.panels import panel

SINCE = 2  # the first champion's period
PRICES = [4.0, 4.01, 4.03, 4.5, 5.0]  # the first two are the same but for what labels round
Given = dict[tuple[int, int], float]  # product and period → the price that the log moved to


def sold(prices: list[list[float]], *, period: Period = "day") -> Panel:
    made = panel(products=len(prices), days=len(prices[0]), price=prices)
    return replace(made, period=period, dates=made.dates[0] + STEP_DAYS[period] * np.arange(len(prices[0])))


def log_of(sales: Panel, given: Given, *, first: int, last: int) -> Moves:
    """A log of moves that covers the periods from the first to the last."""
    day = sales.dates[0] + STEP_DAYS[sales.period] * np.array([at for _, at in given], np.int64)
    names = [sales.product_ids[product] for product, _ in given]
    covered = sales.dates[0] + STEP_DAYS[sales.period] * np.arange(first, last + 1)
    return Moves(np.array(names, np.str_), day, np.array(list(given.values())), days=covered)


def marks(sales: Panel, moves: Moves, stored: OwnSpans = NO_SPANS) -> list[list[bool]]:
    since = sales.dates[0] + STEP_DAYS[sales.period] * SINCE
    found: list[list[bool]] = stored.extended(sales, moves, since=since).marks(sales, since=since).tolist()
    return found


CASES = {
    "an override after a champion is a person's": ([4, 4, 5, 5, 3, 3], {2: 5.0}, (2, 9), "001100"),
    "a held product's rows are people's": ([4, 4, 4, 4, 4, 4], {}, (2, 9), "000000"),
    "a move that nobody charged changes nothing": ([4, 4, 4, 4, 4, 4], {3: 5.0}, (2, 9), "000000"),
    "a return to the platform's price is own again": ([4, 4, 5, 3, 5, 5], {2: 5.0}, (2, 9), "001011"),
    "a price within 0.5 % counts": ([4, 4, 5.02, 5.02], {2: 5.0}, (2, 9), "0011"),
    "a price further off does not": ([4, 4, 5.04, 5.04], {2: 5.0}, (2, 9), "0000"),
    "rounding is no change": ([4, 4, 5, 5.009, 5], {2: 5.0}, (2, 9), "00111"),
    "a move of 28 days ago counts": ([4] * 30 + [5], {2: 5.0}, (2, 40), "0" * 30 + "1"),
    "an older one does not": ([4] * 31 + [5], {2: 5.0}, (2, 40), "0" * 32),
    "a later one does not": ([4, 4, 5, 5], {3: 5.0}, (2, 9), "0000"),
    "the last of several is not the only one": ([4, 4, 4, 5], {2: 5.0, 3: 6.0}, (2, 9), "0001"),
    "a launch at the platform's price is own": ([math.nan, math.nan, math.nan, 5], {3: 5.0}, (2, 9), "0001"),
    "a move before the history counts": ([4, 5], {-3: 5.0}, (-9, 9), "01"),
    "without a log the platform set all": ([4, 4, 5, 3], {}, None, "0011"),
    "after the log's last day it set all": ([4, 4, 5, 3, 3, 3], {}, (2, 4), "000001"),
    "before its first day it set all": ([4, 4, 5, 5, 6, 3], {4: 6.0}, (3, 5), "001110"),
    "a held price stays a person's after days without a log": ([4, 4, 4, 4, 4, 4], {}, (4, 9), "001100"),
}


@pytest.mark.parametrize(("prices", "given", "logged", "expected"), CASES.values(), ids=CASES)
def test_a_price_is_the_platforms_from_a_change_to_a_price_of_the_log_on(
    prices: list[float], given: dict[int, float], logged: tuple[int, int] | None, expected: str
) -> None:
    sales = sold([prices])
    moves = NO_MOVES
    if logged is not None:
        moves = log_of(sales, {(0, at): price for at, price in given.items()}, first=logged[0], last=logged[1])

    assert marks(sales, moves) == [[mark == "1" for mark in expected]]


@pytest.mark.parametrize(("weeks", "own"), [(4, True), (5, False)])
def test_a_week_counts_as_a_week(weeks: int, own: bool) -> None:
    sales = sold([[4.0] * (SINCE + weeks) + [5.0]], period="week")

    assert marks(sales, log_of(sales, {(0, SINCE): 5.0}, first=0, last=20))[0][-1] is own


def test_a_move_counts_for_its_own_product() -> None:
    sales = sold([[4.0, 4.0, 5.0], [4.0, 4.0, 5.0], [4.0, 4.0, 5.0]])
    moves = log_of(sales, {(1, 2): 5.0}, first=2, last=9)
    stranger = replace(moves, product_ids=np.array(["zebra"]))

    assert np.array(marks(sales, moves))[:, 2].tolist() == [False, True, False]
    assert not np.array(marks(sales, stranger)).any()


def test_a_day_on_which_the_log_has_a_hole_keeps_the_old_rule() -> None:
    sales = sold([[4.0, 4.0, 4.0, 4.0, 5.0, 5.0, 5.0, 6.0]])
    moves = log_of(sales, {}, first=2, last=7)
    holed = replace(moves, days=moves.days[moves.days != sales.dates[4]])

    assert marks(sales, moves)[0] == [False] * 8
    assert marks(sales, holed)[0] == [False] * 4 + [True] * 3 + [False]


@st.composite
def histories(draw: st.DrawFn, *, least: int = 1) -> tuple[Panel, Given]:
    """Sales of two products, and moves of the log, also before the sales."""
    periods = draw(st.integers(least, 80))
    price = st.lists(st.sampled_from(PRICES), min_size=periods, max_size=periods)
    runs = st.integers(1, 12)
    prices = [np.repeat(draw(price), draw(runs))[:periods].tolist() for _ in range(2)]
    launched = draw(st.integers(0, periods))
    prices[1][:launched] = [math.nan] * launched
    place = st.tuples(st.integers(0, 1), st.integers(-40, periods + 5))
    given = draw(st.dictionaries(place, st.sampled_from(PRICES), max_size=20))
    return sold(prices, period=draw(st.sampled_from(["day", "week"]))), given


def by_loop(sales: Panel, given: Given, *, first: int, last: int) -> list[list[bool]]:
    """The rule, row by row."""
    delay = 28 // STEP_DAYS[sales.period]
    found = []
    for product, prices in enumerate(sales.price.tolist()):
        row: list[bool] = []
        state = False
        before = math.nan
        for at, price in enumerate(prices):
            covered = first <= at <= last
            if not abs(math.log(price) - math.log(before)) <= 0.002:
                recent = [given.get((product, at - ago), math.nan) for ago in range(delay + 1)]
                state = any(abs(math.log(price / each)) <= 0.005 for each in recent) if covered else at >= SINCE
            row.append(state if covered else at >= SINCE)
            before = price
        found.append(row)
    return found


@given(history=histories(), first=st.integers(-5, 60), length=st.integers(0, 60))
def test_the_marks_are_those_of_a_loop(history: tuple[Panel, Given], first: int, length: int) -> None:
    sales, given = history

    found = marks(sales, log_of(sales, given, first=first, last=first + length))

    assert found == by_loop(sales, given, first=first, last=first + length)


@given(history=histories(least=35), begins=st.integers(0, 10), ends=st.integers(30, 80), lost=st.integers(0, 60))
def test_stored_marks_and_a_shorter_log_give_what_the_whole_log_gives(
    history: tuple[Panel, Given], begins: int, ends: int, lost: int
) -> None:
    """An earlier training saw the log up to `ends`; since then the log has lost the periods before `lost`."""
    sales, given = history
    since = sales.dates[0] + STEP_DAYS[sales.period] * SINCE
    delay = 28 // STEP_DAYS[sales.period]
    trained = sales.through(sales.dates[min(ends, len(sales.dates) - 1)])
    lost = max(min(lost, len(trained.dates) - delay), begins)
    whole = log_of(sales, given, first=begins, last=90)
    shorter = log_of(sales, {key: price for key, price in given.items() if key[1] >= lost}, first=lost, last=90)

    stored = NO_SPANS.extended(trained, whole, since=since)
    carried = stored.extended(sales, shorter, since=since)

    expected = NO_SPANS.extended(sales, whole, since=since)
    for name, values in vars(expected).items():
        assert_array_equal(getattr(carried, name), values)


@given(histories(), st.integers(0, 40))
def test_spans_of_parts_are_those_of_the_whole(history: tuple[Panel, Given], last: int) -> None:
    sales, given = history
    since = sales.dates[0]
    moves = log_of(sales, given, first=0, last=last)

    parts = [NO_SPANS.extended(sales.select([row]), moves, since=since) for row in (1, 0)]

    whole = NO_SPANS.extended(sales, moves, since=since)
    assert_array_equal(NO_SPANS.joined(*parts).marks(sales, since=since), whole.marks(sales, since=since))
