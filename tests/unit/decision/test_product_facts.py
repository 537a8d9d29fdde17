"""What the last days of a history say of each product; and the last price charged, which no fault moves."""

import datetime as dt
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy import nan

from pricing.config import load_config
from pricing.data.anchors import Anchors
from pricing.data.build import build_panel
from pricing.data.calendar import Plan
from pricing.data.missing_rows import COUNTED
from pricing.decision.last_price import last_prices
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts, carry_facts, carry_last_price
from pricing.decision.request import PriceRequest
from pricing.demand.state import span
from pricing.registry.union import unite_facts
from tests.kit.decision import config
from tests.kit.decision import facts as kit_facts
from tests.kit.panels import DAYS, panel
from tests.kit.versions import make_demand, make_panel


def test_the_facts_are_those_of_the_last_day() -> None:
    price = np.full(DAYS, 10.0)
    price[100:] = 11.5

    facts = ProductFacts.from_panel(panel(price=price, stock=np.linspace(99, 40, DAYS)))

    assert facts.state_date == np.datetime64("2025-04-30")
    assert (facts.price[0], facts.list_price[0], facts.unit_cost[0], facts.stock[0]) == (11.5, 12.0, 6.0, 37.0)
    assert facts.last_change[0] == np.datetime64("2025-01-01") + 100


def test_the_facts_hold_the_prices_that_persons_charged_and_not_those_since() -> None:
    price = np.full((2, DAYS), 10.0)
    price[0, 5], price[0, 7], price[:, 100:] = 9.0, 11.0, 30.0
    whole = panel(products=2, price=price)
    anchors = Anchors.from_panel(whole.through(whole.dates[99]).select(np.array([0])))

    facts = ProductFacts.from_panel(whole.select(np.array([0])), anchors=anchors)
    alone = ProductFacts.from_panel(whole)

    assert (facts.anchor_price[0], facts.seen_low[0], facts.seen_high[0]) == (12.0, 9.0, 11.0)
    assert (alone.anchor_price[1], alone.seen_low[1], alone.seen_high[1]) == (12.0, 10.0, 30.0)


def test_the_others_margin_is_that_of_their_sales_at_anchors_and_known_costs() -> None:
    made = kit_facts(
        product_ids=np.array(["a", "b", "c"]),
        categories=np.full(3, "tea"),
        price=np.full(3, 1.0),  # a last price counts for nothing
        list_price=np.array([10.0, 20.0, 30.0]),
        anchor_price=np.array([nan, 24.0, nan]),
        anchor_cost=np.array([nan, 6.0, nan]),
        unit_cost=np.array([4.0, 7.0, 9.0]),
        tax_rate=np.full(3, 0.2),
        typical_units=np.array([5.0, 3.0, 1.0]),
        cost_assumed=np.array([False, False, True]),
    )

    tea, anchored = 10.0 / 1.2, 24.0 * 7.0 / 6.0 / 1.2  # a regular price moves with its cost
    of_both = 1 - (5 * 4.0 + 3 * 7.0) / (5 * tea + 3 * anchored)
    np.testing.assert_allclose(made.others_margin, [1 - 7.0 / anchored, 1 - 4.0 / tea, of_both])
    few = replace(made, typical_units=np.array([5.0, 3.0, 10.0]), cost_assumed=np.array([True, False, True]))
    # Costs are known of less than half of what the others of the first two sell.
    np.testing.assert_allclose(few.others_margin, [nan, nan, 1 - 7.0 / anchored])


def test_the_stock_is_what_the_last_count_less_what_sold_since_leaves() -> None:
    stock = np.full((6, DAYS), np.nan)
    stock[0], stock[1], stock[2] = 50.0, 2.0, 8.0
    stock[3, -3], stock[4, -3], stock[5, -COUNTED - 1] = 50.0, 5.0, 50.0
    units, present = np.full((6, DAYS), 3.0), np.ones((6, DAYS), dtype=bool)
    units[2, -1], present[2, -1] = np.nan, False

    found = ProductFacts.from_panel(panel(products=6, stock=stock, units_sold=units, present=present)).stock

    assert found.tolist() == pytest.approx([47.0, np.nan, 8.0, 41.0, np.nan, np.nan], nan_ok=True)


NONE = (pytest.approx(nan, nan_ok=True), "NaT")


@pytest.mark.parametrize(
    ("comp", "arrays", "expected"),
    [
        # sold out or gone, as its last row says
        ([[9, 9, nan, nan], [8, 8, 8, 8.5], [7, nan, nan, 7.5]], {}, [NONE, (8.5, "2025-01-04"), (7.5, "2025-01-04")]),
        # a feed that stopped leaves the prices of its last day, with their age
        ([[9, 9, nan, nan], [8, nan, nan, nan]], {"comp_price_age": 1.0}, [(9.0, "2025-01-01"), NONE]),
        # a product without a row keeps what its last one says
        ([[9, 9, nan, nan], [8] * 4], {"present": [[1, 1, 0, 0], [1] * 4]}, [(9.0, "2025-01-02"), (8.0, "2025-01-04")]),
        # a row without sales or stock may be one that was left out
        ([[9, 9, nan], [8] * 3], {"units_sold": [[3, 3, 0], [3] * 3]}, [(9.0, "2025-01-02"), (8.0, "2025-01-03")]),
        ([[9, 9, nan], [8] * 3], {"units_sold": [[3, 3, 0], [3] * 3], "stock": 5.0}, [NONE, (8.0, "2025-01-03")]),
    ],
)
def test_the_newest_competitors_price_is_that_of_the_last_row_that_tells(
    comp: Any, arrays: dict[str, Any], expected: list[Any]
) -> None:
    made = {name: np.asarray(value, dtype=bool if name == "present" else float) for name, value in arrays.items()}
    comp = np.asarray(comp, dtype=np.float32)

    found = ProductFacts.from_panel(panel(products=len(comp), days=comp.shape[1], comp_price=comp, **made))

    assert list(zip(found.comp_price.tolist(), found.comp_price_date.astype(str).tolist(), strict=True)) == expected


def test_a_competitors_price_that_is_too_old_is_unknown_to_all_that_learns() -> None:
    ages, settings = [0.0] * 7 + [float(day) for day in range(1, 22)], load_config().data
    columns = {"units_sold": 5.0, "price": 5.0, "comp_price": 4.5, "comp_price_age": ages}
    sales = pd.DataFrame({"date": pd.date_range("2026-03-02", periods=28), "product_id": "tea", **columns})

    found = build_panel(sales, settings)

    assert np.isnan(found.comp_price[0]).tolist() == [False] * 21 + [True] * 7
    assert ProductFacts.from_panel(found).comp_price_date[0] == np.datetime64("2026-03-08")


def test_typical_units_leave_out_days_that_stock_cut_short() -> None:
    units = np.full(DAYS, 8.0)
    units[::2] = 2.0
    stock = np.full(DAYS, 100.0)
    stock[::2] = 2.0

    found = ProductFacts.from_panel(panel(units_sold=units, stock=stock, list_price=10.0)).typical_units

    assert found[0] == pytest.approx(8.0)


def test_prices_are_the_decimals_that_were_written_not_what_single_precision_makes_of_them() -> None:
    facts = ProductFacts.from_panel(panel(price=6.74, list_price=7.3, unit_cost=0.94, comp_price=123456.78))

    found = (facts.price[0], facts.list_price[0], facts.unit_cost[0], facts.comp_price[0])
    assert found == (6.74, 7.3, 0.94, 123456.78)


def test_every_answer_is_whole_steps_or_a_price_that_was_given() -> None:
    cents = np.random.default_rng(0).integers(1, 10_000, (3, 300, 1)) / 100
    facts = ProductFacts.from_panel(panel(products=300, price=cents[0], list_price=cents[1], unit_cost=cents[2]))
    ids = facts.product_ids.tolist()
    requests = [PriceRequest(product_id=each, current_stock=9.0, day_of_week="Friday") for each in ids]

    details = Pricer(None, facts, config(), version="1").price_detailed(requests, today=dt.date(2025, 5, 1))

    answers = np.array([detail.decision.recommended_price for detail in details])
    above = cents[2, :, 0] > 1.35 * cents[1, :, 0]
    assert ((answers == np.round(answers, 2)) | (answers == cents[0, :, 0])).all()
    assert (answers >= cents[2, :, 0]).all()
    assert above.any()
    assert answers[above].tolist() == cents[2, above, 0].tolist()  # the floor is the cost, not a cent above it


KNOWN = (6.6, 6.6, 6.6)  # nights that agree for long enough


def last(*nights: float, charged: tuple[bool, ...] = ()) -> float:
    shown = np.array([charged or (True,) * len(nights)])
    return float(last_prices(np.array([nights]), shown, largest_jump=0.3, confirmed=3)[0, 0])


@pytest.mark.parametrize(
    ("nights", "expected"),
    [
        ((*KNOWN, 6.5), 6.5),
        ((*KNOWN, 660.0, 660.0), 6.6),  # a fault of two nights
        ((*KNOWN, 660.0, 660.0, 660.0), 660.0),  # charged for as long as confirms it
        ((*KNOWN, 660.0, 6.5, 660.0, 660.0), 6.5),
        ((*KNOWN, 660.0, 0.066, 660.0, 0.066), 6.6),  # no price in a row
        ((*KNOWN, 9.9, 9.5, 9.7), 9.7),  # a person's new price, which the platform then moves
        ((*KNOWN, 8.5, 10.9), 10.9),  # step by step, each within the jump
        ((*KNOWN, 3.3, 3.3, 3.3, 6.5, 3.2, 6.6, 650.0), 6.6),  # a promotion, and the regular price again
        ((nan, 6.6, 6.5), nan),
        ((nan, 6.6, 6.5, 6.4), 6.4),  # a first price counts once it was charged for as long
        ((660.0, 6.6, 6.6), nan),  # a fault of its first night
        ((660.0, 6.6, 6.6, 6.6), 6.6),
        ((6.6, 660.0, 6.6, 6.6, 6.6), 6.6),
    ],
)
def test_a_price_further_away_or_a_first_one_counts_once_it_was_charged_for_some_periods_in_a_row(
    nights: tuple[float, ...], expected: float
) -> None:
    assert last(*nights) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("whole", [False, True], ids=["new rows alone", "the whole history"])
def test_a_fault_in_the_first_row_of_a_new_product_becomes_the_last_price_in_no_refresh(whole: bool) -> None:
    launch, serving = 100, load_config().serving
    price = np.full((2, DAYS), 6.5)
    price[1, :launch], price[1, launch] = nan, 650.0
    every = panel(products=2, price=price, present=np.isfinite(price))
    known = every.through(every.dates[launch - 1])
    facts, anchors, carried, anew = ProductFacts.from_panel(known), Anchors.from_panel(known), [], []

    for day in range(launch, launch + serving.jump_confirmed + 3):
        tail, kept = span(every, day - 34, day + 1), span(every, day - 35, day)
        history = every.through(every.dates[day]) if whole else tail
        new = carry_facts(facts, tail, history, kept=kept, whole=whole)
        last_price, former_price = carry_last_price(
            facts, new, history=history, tail=tail, kept=kept, anchors=anchors, serving=serving
        )
        facts = replace(new, last_price=last_price, former_price=former_price)
        carried.append(facts.last_price[1])
        trained = {"largest_jump": serving.largest_jump, "confirmed": serving.jump_confirmed}
        anew.append(ProductFacts.from_panel(history, **trained).last_price[1])

    np.testing.assert_array_equal([carried, anew], [[nan] * serving.jump_confirmed + [6.5] * 3] * 2)


@pytest.mark.parametrize("start", [KNOWN, ()])
def test_a_price_that_is_only_carried_forward_confirms_nothing(start: tuple[float, ...]) -> None:
    shown = (*[True] * len(start), True, False, False)

    assert last(*start, 660.0, 660.0, 660.0, charged=shown) == pytest.approx(6.6 if start else np.nan, nan_ok=True)


def test_a_price_that_a_person_set_counts_at_once_and_until_another_is_confirmed() -> None:
    nights, shown = np.array([[10.0, 10.0, 10.0, 10.0, 10.0]]), np.ones((1, 5), bool)

    def after(place: int) -> float:
        moves = {place: (np.array([0]), np.array([15.0]))}
        return float(last_prices(nights, shown, largest_jump=0.3, confirmed=3, moves=moves)[0, 0])

    assert [after(place) for place in (5, 4, 3, 2)] == [15.0, 15.0, 15.0, 10.0]


@given(
    nights=st.lists(st.sampled_from([5.0, 6.0, 8.0, 50.0, 60.0, 500.0]), min_size=2, max_size=12),
    data=st.data(),
)
def test_night_by_night_or_at_once_the_last_price_is_the_same(nights: list[float], data: st.DataObject) -> None:
    """A refresh knows what was charged last, and the rows since its checkpoint."""
    prices = np.array([nights])
    shown = np.array([data.draw(st.lists(st.booleans(), min_size=len(nights), max_size=len(nights)))])
    settings = {"largest_jump": 0.3, "confirmed": 3}
    at_once = last_prices(prices, shown, **settings)

    known = last_prices(prices[:, :1], shown[:, :1], **settings)
    for night in range(2, len(nights) + 1):
        known = last_prices(prices[:, :night], shown[:, :night], before=known, seen=night - 1, **settings)

    np.testing.assert_array_equal(known, at_once)


@given(
    fault=st.floats(0.001, 1000).filter(lambda factor: not 0.7 <= factor <= 1.3),
    night=st.integers(0, 11),
    known=st.integers(1, 12),
)
def test_no_fault_of_a_night_moves_the_last_price(fault: float, night: int, known: int) -> None:
    nights = np.full(12, 10.0)
    nights[night] *= fault

    found = last(*nights[:known])

    assert found == 10.0 or (np.isnan(found) and known < 6)  # of a new product, two nights on either side of it


def test_names_are_carried_and_united_and_no_state_knows_of_them() -> None:
    whole = panel(products=3)
    first, second, third = whole.product_ids.tolist()
    named = replace(whole, names={first: "Tea", second: "Milk"})
    old = ProductFacts.from_panel(named)
    newer = replace(span(whole, DAYS - 5, DAYS), names={first: "Green tea", third: "Oats"})

    carried = carry_facts(old, span(whole, DAYS - 9, DAYS), newer, kept=span(whole, DAYS - 9, DAYS - 5), whole=False)
    parts = [ProductFacts.from_panel(one.select(rows)) for one, rows in ((named, [0, 2]), (whole, [1]))]

    assert carried.names.tolist() == ["Green tea", "Milk", "Oats"]
    assert unite_facts(parts).names.tolist() == ["Tea", "", ""]
    assert carried.column("names", np.array([third, "stranger"]), missing="").tolist() == ["Oats", ""]
    assert make_demand(replace(make_panel(), names={"P00001": "Tea"})).encoded.tail.names == {}


def test_the_next_delivery_is_the_planned_one_or_the_one_that_the_rhythm_tells() -> None:
    stock = (np.arange(DAYS)[::-1] + 2) % 7 * 3.0 + 3  # filled up every Saturday
    found, none = ProductFacts.from_panel(panel(products=2, stock=stock)), ProductFacts.from_panel(panel())
    day = np.array([found.state_date + 3])
    planned = found.planned(deliveries=Plan(np.array(["p1"]), day, day))

    assert found.next_delivery("p0") == found.last_delivery[0] + 7
    assert [none.next_delivery("p0"), found.next_delivery("p9")] == [None, None]
    assert (planned.next_delivery("p0"), planned.next_delivery("p1")) == (found.next_delivery("p0"), day[0])
