"""Regular prices that hold in a closed loop: what the platform charges never moves them."""

import dataclasses
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from pricing.arrays import flatten, restore
from pricing.data.anchors import Anchors
from pricing.data.build import build_panel
from pricing.data.panel import SERIES, Panel
from tests.unit.data.test_build import START, rows
from tests.unit.data.test_build import UNASKED as CONFIG

LIVE = 6  # the first day whose prices are the platform's
PRICE = st.sampled_from([0.5, 1.0, 2.0, 3.0, 50.0])


def day(number: int) -> np.datetime64:
    return np.datetime64("2024-03-01") + number


def history() -> Panel:
    return build_panel(rows(list(range(LIVE)), price=4.0), CONFIG)


ANCHORS = Anchors.from_panel(history())


def charged(prices: dict[str, dict[int, float]]) -> pd.DataFrame:
    return pd.concat(
        [rows(list(series), product=name, price=list(series.values())) for name, series in prices.items()],
        ignore_index=True,
    )


def test_anchors_are_what_the_list_price_was_when_persons_priced_last() -> None:
    panel = build_panel(rows([0, 1, 2, 3], price=[4.0, 5.0, 3.0, 4.0]), CONFIG)

    anchors = Anchors.from_panel(panel)

    assert (anchors.since, anchors.dates.tolist()) == (day(4), [day(3).item()])
    assert anchors.list_price.tolist() == panel.list_price[:, -1].tolist()
    assert (anchors.seen_low.tolist(), anchors.seen_high.tolist()) == ([3.0], [5.0])


LIVE_PRICES = st.dictionaries(
    st.sampled_from(["A", "B", "C"]),
    st.dictionaries(st.integers(LIVE, 20), PRICE, min_size=1, max_size=10),
    min_size=1,
)
PERSONS_PRICES = st.dictionaries(
    st.sampled_from(["A", "B"]), st.dictionaries(st.integers(0, LIVE - 1), PRICE, min_size=1), min_size=1
)


@given(persons=PERSONS_PRICES, live=LIVE_PRICES)
def test_no_price_of_the_platforms_own_moves_a_list_price_or_an_assumed_cost(
    persons: dict[str, dict[int, float]], live: dict[str, dict[int, float]]
) -> None:
    before = build_panel(charged(persons), CONFIG)
    first = persons | {name: {min(series): series[min(series)]} for name, series in live.items() if name not in persons}
    anchors = dataclasses.replace(Anchors.from_panel(before), since=day(LIVE))

    panel = build_panel(
        charged({name: persons.get(name, {}) | live.get(name, {}) for name in first}), CONFIG, anchors=anchors
    )

    anchored = np.array(
        [
            before.list_price[before.product_ids == name, -1][0] if name in persons else min(first[name].items())[1]
            for name in panel.product_ids.tolist()
        ]
    )
    theirs = (panel.dates >= day(LIVE)) & np.isfinite(panel.price)
    expected = np.broadcast_to(anchored[:, None], theirs.shape)
    assert_array_equal(panel.list_price[theirs], expected[theirs])
    assert_allclose(panel.unit_cost[theirs], 0.5 * expected[theirs])


@given(persons=PERSONS_PRICES, live=LIVE_PRICES, cutoff=st.integers(0, 20), given_on=st.sets(st.integers(0, 20)))
def test_newer_rows_with_their_past_are_anchored_as_in_the_whole_history(
    persons: dict[str, dict[int, float]],
    live: dict[str, dict[int, float]],
    cutoff: int,
    given_on: set[int],
) -> None:
    frame = charged({name: persons.get(name, {}) | live.get(name, {}) for name in persons | live})
    number = (frame["date"] - START).dt.days
    frame["unit_cost"] = np.where(number.isin(given_on), 0.3 * frame["price"], np.nan)
    anchors = dataclasses.replace(Anchors.from_panel(build_panel(charged(persons), CONFIG)), since=day(LIVE))
    past, newer = frame[number <= cutoff], frame[number > cutoff]
    if past.empty or newer.empty:
        return

    panel = build_panel(newer, CONFIG, past=build_panel(past, CONFIG, anchors=anchors), anchors=anchors)

    whole = build_panel(frame, CONFIG, anchors=anchors)
    whole = whole.select(np.isin(whole.product_ids, panel.product_ids))
    for name in SERIES:
        assert_array_equal(getattr(panel, name), getattr(whole, name)[:, np.isin(whole.dates, panel.dates)], name)


@given(live=st.dictionaries(st.integers(LIVE, 20), PRICE, min_size=2), cutoff=st.integers(LIVE, 20))
def test_anchors_carried_on_night_after_night_are_those_of_the_whole_history(
    live: dict[int, float], cutoff: int
) -> None:
    frame = charged({"A": dict.fromkeys(range(LIVE), 4.0) | live, "B": live})
    whole = build_panel(frame, CONFIG, anchors=ANCHORS)

    nightly = ANCHORS.extended(whole.through(day(cutoff))).extended(whole)

    assert nightly.digest() == ANCHORS.extended(whole).digest()


def _prices(anchors: Anchors, product: str) -> dict[str, list[float]]:
    columns = anchors.columns(np.array([product]))
    return {name: columns[name].tolist() for name in ("list_price", "seen_low", "seen_high")}


def test_an_anchor_remembers_the_cost_that_it_was_set_at_unless_it_was_assumed() -> None:
    panel = history()
    known = replace(panel, unit_cost=np.full_like(panel.unit_cost, 2.5), cost_assumed=np.zeros(1, np.bool_))

    assert Anchors.from_panel(known).columns(known.product_ids)["unit_cost"].tolist() == [2.5]
    assert np.isnan(ANCHORS.columns(known.product_ids)["unit_cost"]).all()


def test_a_cost_that_came_late_is_the_anchors_and_not_the_one_assumed_before() -> None:
    late = rows([8, 9, 10], product="B", price=10.0, unit_cost=[np.nan, np.nan, 3.0])
    panel = build_panel(pd.concat([charged({"A": {0: 4.0}}), late]), CONFIG, anchors=ANCHORS)

    anchors = ANCHORS.extended(panel)

    assert panel.unit_cost[1, 8:].tolist() == [5.0, 5.0, 3.0]
    assert anchors.columns(np.array(["B"]))["unit_cost"].tolist() == [3.0]


@pytest.mark.parametrize(
    ("charged_for", "expected"),
    [
        ({8: 7.0, 9: 70.0, 10: 71.0}, {"list_price": [7.0], "seen_low": [7.0], "seen_high": [7.0]}),
        ({2: 2.0, 4: 3.0, 8: 70.0, 9: 80.0}, {"list_price": [3.0], "seen_low": [2.0], "seen_high": [3.0]}),
    ],
    ids=["launched since", "sold before"],
)
def test_a_product_unknown_so_far_is_anchored_where_a_person_priced_it(
    charged_for: dict[int, float], expected: dict[str, list[float]]
) -> None:
    panel = build_panel(charged({"A": {0: 4.0}, "B": charged_for}), CONFIG, anchors=ANCHORS)

    assert _prices(ANCHORS.extended(panel), "B") == expected
    assert (panel.list_price[1, 8:] == expected["list_price"][0]).all()


def test_what_is_given_in_the_rows_wins() -> None:
    frame = rows([0, 7, 8], price=[4.0, 6.0, 9.0], list_price=[np.nan, 8.0, np.nan], unit_cost=[np.nan, np.nan, 1.0])

    panel = build_panel(frame, CONFIG, anchors=ANCHORS)

    assert panel.list_price[0, [0, 6, 7, 8]].tolist() == [4.0, 4.0, 8.0, 4.0]
    assert panel.unit_cost[0, [6, 7, 8]].tolist() == [2.0, 4.0, 1.0]


def test_a_moved_anchor_holds_from_its_day_on_and_counts_as_seen() -> None:
    moved = ANCHORS.moved(np.array(["A"]), np.array([5.0]), date=day(8))

    panel = build_panel(rows(list(range(10)), price=4.0), CONFIG, anchors=moved)
    assert panel.list_price[0].tolist() == [4.0] * 8 + [5.0] * 2
    assert _prices(moved, "A") == {"list_price": [5.0], "seen_low": [4.0], "seen_high": [5.0]}
    twice = moved.moved(np.array(["A"]), np.array([4.5]), date=day(8))
    assert twice.columns(np.array(["A"]))["list_price"] == [4.5]
    assert restore(Anchors, *flatten(moved)).digest() == moved.digest()
