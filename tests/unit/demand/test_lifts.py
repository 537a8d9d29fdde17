"""Where events stand and what their lifts make of each period: placing, the calendar to come, what serves."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from pipelines.steps.carry import parity
from pricing.data.event_windows import EventLifts, place, spread
from pricing.data.features import past_features
from pricing.data.panel import Event
from pricing.demand.curve import Offers
from pricing.demand.model import DemandModel
from pricing.demand.state import encode_panel, span
from tests.kit.demand_fakes import make_model, make_panel

START = np.datetime64("2024-01-01")
DATES = START + np.arange(60)
NAMES = ["Feast", "Fair", "School"]


def event(name: str, first: int, last: int | None = None, **more: object) -> Event:
    around = {"before": 2, "after": 1} | more
    return Event(name, START + first, START + (first if last is None else last), **around)  # type: ignore[arg-type]


def make_lifts(panel_dates: np.ndarray = DATES, *, events: tuple[Event, ...]) -> EventLifts:
    """Lifts of two categories, all different, for windows of two days before and one after."""
    positions = np.array([-2, -1, 0, 1])
    value = np.random.default_rng(5).normal(0, 0.4, (3, len(NAMES), 4)).astype(np.float32)
    categories = np.array(["a", "b"])
    placed = list(place(events, NAMES, panel_dates, period="day"))
    return EventLifts(
        category=np.arange(5) % 2,
        categories=categories,
        names=np.array(NAMES),
        positions=positions,
        value=value,
        sd=np.full(value.shape, 0.1, np.float32),
        seen=np.full(len(NAMES), 2),
        dates=panel_dates,
        by_period=spread(placed, value, positions, categories=categories, periods=len(panel_dates)),
        events=events,
    )


def placed(*events: Event) -> dict[int, tuple[str, int]]:
    return {each.at: (NAMES[each.event], each.position) for each in place(events, NAMES, DATES, period="day")}


def test_a_window_counts_the_days_around_and_a_day_belongs_rather_to_the_event_ahead() -> None:
    found = placed(event("Feast", 10, 12), event("Fair", 14))

    assert found == {
        8: ("Feast", -2),
        9: ("Feast", -1),
        **dict.fromkeys((10, 11, 12), ("Feast", 0)),
        13: ("Fair", -1),
        14: ("Fair", 0),
        15: ("Fair", 1),
    }


@given(
    st.lists(
        st.tuples(st.integers(-5, 65), st.integers(0, 5), st.sampled_from(NAMES), st.booleans()),
        min_size=1,
        max_size=8,
    )
)
def test_no_day_has_two_events_that_give_way_to_each_other(drawn: list[tuple[int, int, str, bool]]) -> None:
    events = [event(name, first, first + length, overlay=overlay) for first, length, name, overlay in drawn]

    found = list(place([each for each in events if not each.overlay], NAMES, DATES, period="day"))
    with_overlays = list(place(events, NAMES, DATES, period="day"))

    assert max(Counter(each.at for each in found).values(), default=0) <= 1
    assert set(with_overlays) >= {*found}
    assert all(0 <= each.at < len(DATES) and -2 <= each.position <= 1 for each in with_overlays)


def test_overlays_add_up_and_one_category_has_its_own() -> None:
    events = (event("Feast", 10), event("School", 5, 20, overlay=True), event("Fair", 10, category="b", overlay=True))
    lifts = make_lifts(events=events)
    on = lifts.positions.tolist().index(0)

    of_a, of_b, unknown = lifts.by_period[:, 10]

    assert of_a == pytest.approx(lifts.value[0, 0, on] + lifts.value[0, 2, on])
    assert of_b == pytest.approx(lifts.value[1, :, on].sum())
    assert unknown == pytest.approx(lifts.value[2, 0, on] + lifts.value[2, 2, on])


def test_a_newer_calendar_changes_nothing_that_was_encoded() -> None:
    lifts = make_lifts(events=(event("Feast", 10), event("Feast", 50)))
    moved = (event("Feast", 12), event("Fair", 32), event("Feast", 55), event("Parade", 70))

    newer = lifts.with_calendar(moved, since=START + 30, until=START + 90, period="day")

    assert_array_equal(newer.by_period[:, :31], lifts.by_period[:, :31])
    assert (newer.by_period[:, 31] != 0).all(), "the day before the Fair, of which no state has read"
    assert (newer.by_period[:, 50] == 0).all()
    assert_array_equal(newer.by_period[:, 55], lifts.by_period[:, 50])
    assert (newer.by_period[:, 70] == 0).all(), "an event that was never seen lifts nothing"
    assert [each.name for each in newer.events] == ["Feast", "Fair", "Feast", "Parade"]
    again = newer.with_calendar((), since=START + 30, until=START + 90, period="day")
    assert_array_equal(again.by_period, newer.by_period)


PANEL = make_panel()
EVENTS = (event("Feast", 30), event("Feast", 95), event("Fair", 85, 86), event("School", 80, 120, overlay=True))


def lifted(model: DemandModel, *, panel: object = PANEL) -> DemandModel:
    """The model with lifts, its states encoded by them."""
    lifts = make_lifts(PANEL.dates[0] + np.arange(90 + 99), events=EVENTS)
    norms = replace(model.norms, lifts=lifts)
    return replace(model, norms=norms, encoded=encode_panel(model.weights, panel, norms=norms, tail=20))  # type: ignore[arg-type]


PLAIN = make_model(PANEL)
LIFTED = lifted(PLAIN)
TABLE = LIFTED.table()


def lift(row: int, *, days: int, category: int = -1) -> float:
    """Log units that the table's events add to a request's first period."""
    asked = Offers(
        product=np.array([row]),
        category=np.array([category]),
        date=np.array([PANEL.dates[-1] + days]),
        list_price=np.array([10.0]),
        comp_price=np.array([np.nan]),
        is_promo=np.zeros(1),
        periods=np.array([1]),
    )
    tables = (TABLE, replace(TABLE, lifts=None))
    lifted, silent = (table.curves(asked)(np.array([[10.0]])).first[0, :, 0].mean() for table in tables)
    return float(np.log(lifted / silent))


@pytest.mark.parametrize(("row", "category", "group"), [(0, -1, 0), (1, -1, 1), (-1, 0, 0), (-1, 1, 1), (-1, -1, 2)])
def test_a_forecast_has_the_lift_of_its_day_and_category(row: int, category: int, group: int) -> None:
    for days in (1, 5, 6, 7, 40):
        expected = LIFTED.norms.lifts.by_period[group, 89 + days]
        assert lift(row, days=days, category=category) == pytest.approx(expected, abs=1e-4)
    assert [lift(row, days=days, category=category) for days in (200, -3)] == [0, 0]  # off the calendar


def test_an_event_pulls_no_level_up() -> None:
    norms = LIFTED.norms
    busy = replace(PANEL, units_sold=(PANEL.units_sold * np.exp(norms.lifts.of(PANEL.dates))).astype(np.float32))

    plain, _ = past_features(PANEL, norms=replace(norms, lifts=None))
    restated, _ = past_features(busy, norms=norms)
    pulled, _ = past_features(busy, norms=replace(norms, lifts=None))

    # The same restated units, but more of them were sold on the event's days, which therefore weigh more.
    assert_allclose(restated.level, plain.level, atol=0.01)
    assert np.abs(pulled.level - plain.level).max() > 0.1


def test_states_carried_forward_across_events_equal_those_encoded_from_scratch() -> None:
    longer = make_panel(periods=130)
    longer = replace(longer, events=(event("Feast", 99), event("Fair", 110)))
    until = lifted(PLAIN, panel=span(longer, 0, 90))

    carried = until.refresh(longer)

    assert parity(carried, longer).from_scratch
    assert parity(carried, longer).difference < 1e-5
    assert carried.norms.lifts.by_period.shape[1] == 130 + 99
    fair_in_school = carried.norms.lifts.value[0, 1:, 2].sum()  # which had begun before the newer calendar did
    assert carried.norms.lifts.by_period[0, 110] == pytest.approx(fair_in_school)


def test_new_products_get_the_lifts_of_their_category() -> None:
    rows = np.array([0, 0, 1, 2, 3, 4, 4])
    names = np.array(["P0", "P00", "P1", "P2", "P3", "P4", "Q"])
    longer = replace(PANEL.select(rows), product_ids=names, categories=np.array(["a", "b", "b", "a", "b", "a", "new"]))

    grown = LIFTED.refresh(longer)

    assert grown.norms.lifts.category.tolist() == [0, 1, 1, 0, 1, 0, 2]
    assert grown.category.tolist() == grown.norms.lifts.category.tolist()
