"""When the next delivery comes, as the stock jumps of a history tell it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.data.panel import Panel
from pricing.decision.cadence import (
    AHEAD,
    BRIDGED,
    LONGEST,
    UNKNOWN,
    carry_jumps,
    delivery_gaps,
    last_deliveries,
    next_deliveries,
    stock_counts,
    stock_jumps,
)
from pricing.demand.curve import DELIVERIES
from pricing.demand.state import span
from tests.kit.panels import DAYS, panel


def delivered(days: np.ndarray, *, sold: np.ndarray, fill: float = 50.0) -> np.ndarray:
    """Opening stocks of a product whose shelf is filled up on the mornings of `days`."""
    stock, shelf = np.zeros(len(sold)), fill
    for day in range(len(sold)):
        if day in days:
            shelf = max(shelf, fill)
        stock[day] = shelf
        shelf -= sold[day]
    return stock


def learnt(history: Panel) -> tuple[np.ndarray, np.ndarray]:
    """The gaps between deliveries and the last one of each product."""
    jumps = stock_jumps(history)
    last = last_deliveries(jumps, state_date=history.dates[-1], period=history.period)
    return delivery_gaps(jumps, categories=history.categories), last


def gaps_of(lengths: list[int]) -> np.ndarray:
    counts = np.bincount(np.array(lengths) - 1, minlength=LONGEST).astype(float)
    return (counts / counts.sum())[None]


@pytest.mark.parametrize(("interval", "phase"), [(3, 1), (7, 0), (7, 4), (14, 9), (28, 5)])
def test_regular_deliveries_are_known_to_the_day(interval: int, phase: int) -> None:
    sold = np.full(365, 4.0)
    stock = delivered(np.arange(phase, 365, interval), sold=sold, fill=4.0 * interval + 30)

    gaps, last = learnt(panel(days=365, units_sold=sold, stock=stock))
    since = (np.datetime64("2025-12-31") - last).astype(float)
    table = next_deliveries(gaps, since)[0]

    for day in range(AHEAD):
        ahead = interval - (365 + day - phase) % interval
        assert table[day].tolist() == [ahead] * DELIVERIES


def simulated(lengths: list[int], since: int, day: int, *, rng: np.random.Generator) -> int:
    while True:
        first = int(rng.choice(lengths))
        if first > since:
            break
    at = first - since  # periods after the state's date
    while at <= day + 1:
        at += int(rng.choice(lengths))
    return at - day - 1


@pytest.mark.parametrize(("since", "day"), [(0, 0), (3, 5), (9, 20)])
def test_uncertain_deliveries_are_quantiles_of_the_renewal_process(since: int, day: int) -> None:
    lengths, rng = [4, 6, 9, 11, 15], np.random.default_rng(0)

    table = next_deliveries(gaps_of(lengths), np.array([float(since)]))[0]

    drawn = [simulated(lengths, since, day, rng=rng) for _ in range(20_000)]
    expected = np.quantile(drawn, (np.arange(DELIVERIES) + 0.5) / DELIVERIES, method="inverted_cdf")
    assert np.abs(table[day].astype(int) - expected).max() <= 1


@given(
    lengths=st.lists(st.integers(1, 80), min_size=1, max_size=8),
    since=st.one_of(st.just(np.nan), st.integers(0, 400).map(float)),
)
def test_every_delivery_lies_ahead_and_its_values_ascend(lengths: list[int], since: float) -> None:
    table = next_deliveries(gaps_of([min(length, LONGEST) for length in lengths]), np.array([since]))[0].astype(int)

    assert (table >= 1).all()
    assert (table <= LONGEST).all()
    assert (np.diff(table, axis=1) >= 0).all()


@pytest.mark.parametrize("every", [2, 7])
def test_a_stock_counted_on_some_days_only_tells_deliveries_all_the_same(every: int) -> None:
    sold = np.full(365, 4.0)
    stock = delivered(np.arange(3, 365, 14), sold=sold, fill=80.0)
    stock[np.arange(365) % every != 0] = np.nan

    gaps, _ = learnt(panel(days=365, units_sold=sold, stock=stock))

    assert gaps[0] @ (np.arange(LONGEST) + 1) == pytest.approx(14.0, abs=0.2)


def test_without_stock_nothing_is_known_of_deliveries() -> None:
    gaps, last = learnt(panel(units_sold=np.full(DAYS, 1.0)))

    assert np.isnan(gaps).all()
    assert np.isnat(last).all()
    assert (next_deliveries(gaps, np.array([np.nan])) == UNKNOWN).all()


@given(data=st.data(), cut=st.integers(2, 500), days=st.integers(2, 500), overlap=st.integers(BRIDGED["day"] + 1, 40))
def test_jumps_carried_forward_are_those_of_the_whole_history(
    data: st.DataObject, cut: int, days: int, overlap: int
) -> None:
    cut = min(cut, days)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    stock = np.where(
        rng.random((3, days)) < data.draw(st.sampled_from([0.1, 0.7])), np.nan, rng.integers(0, 30, (3, days))
    )
    whole = panel(products=3, days=days, units_sold=rng.integers(0, 9, (3, days)), stock=stock)
    begin = max(cut - overlap, 0)

    rows = span(whole, begin, days)

    for read in (stock_jumps, stock_counts):
        before = read(span(whole, 0, cut))
        carried = carry_jumps(before, read(rows), panel=rows, periods=days - cut, since=whole.dates[begin])

        np.testing.assert_array_equal(carried, read(whole))
