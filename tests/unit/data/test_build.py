"""Rows become a panel: dense, derived in one place, and blind to the future."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from pricing.config_models import DataConfig
from pricing.data.build import build_panel
from pricing.data.derived_columns import LIST_PRICE_QUANTILE
from pricing.data.panel import SERIES
from pricing.errors import ContractError

CONFIG = DataConfig(
    period="day",
    country="US",
    margin={"default": 0.5, "tea": 0.25},
    list_price_window=4,
    promo_cut=0.1,
)
UNASKED = CONFIG.model_copy(update={"missing": "unknown", "zero_run": 0.05})
START = pd.Timestamp("2024-03-01")


def rows(days: list[int], *, product: str = "A", **columns: object) -> pd.DataFrame:
    frame = pd.DataFrame({"date": [START + pd.Timedelta(days=day) for day in days], "product_id": product, **columns})
    return frame if "units_sold" in frame else frame.assign(units_sold=1.0)


def test_a_gap_carries_the_price_and_holds_no_sales_and_a_product_has_nothing_before_its_launch() -> None:
    early = rows([0, 3], price=[2.0, 4.0], units_sold=[9.0, 1.0], stock=[9.0, 8.0], is_promo=[1, 1])

    panel = build_panel(pd.concat([early, rows([1], product="B", price=5.0)]), CONFIG)

    assert panel.product_ids.tolist() == ["A", "B"]
    assert_array_equal(panel.present, [[True, False, False, True], [False, True, False, False]])
    assert_array_equal(panel.price, [[2, 2, 2, 4], [np.nan, 5, 5, 5]])
    assert_array_equal(panel.units_sold[0], [9, np.nan, np.nan, 1])
    assert_array_equal(panel.censored[0], [True, False, False, False])
    assert_array_equal(panel.stock[0], [9, np.nan, np.nan, 8])
    assert_array_equal(panel.is_promo[0], [1, 0, 0, 1])
    assert_array_equal(panel.list_price[1], [np.nan, 5, 5, 5])
    assert_array_equal(panel.unit_cost[1], [np.nan, 2.5, 2.5, 2.5])


@given(st.lists(st.sampled_from([1.0, 2.0, 2.5, 3.0, 8.0]), min_size=1, max_size=12))
def test_an_absent_list_price_is_the_high_quantile_of_recent_prices(prices: list[float]) -> None:
    panel = build_panel(rows(list(range(len(prices))), price=prices), CONFIG)

    recent = [sorted(prices[max(0, day - 3) : day + 1]) for day in range(len(prices))]
    expected = [window[math.ceil(LIST_PRICE_QUANTILE * (len(window) - 1) - 1e-9)] for window in recent]
    assert panel.list_price[0].tolist() == expected


def test_the_last_cost_given_is_carried_and_before_it_a_margin_is_assumed() -> None:
    frame = pd.concat(
        [
            rows([0, 1, 2], price=4.0, unit_cost=[np.nan, 1.0, np.nan], category="tea"),
            rows([0, 2], product="B", price=8.0, unit_cost=np.nan, category="jam"),
        ]
    )

    panel = build_panel(frame, CONFIG)

    assert_array_equal(panel.unit_cost, [[3, 1, 1], [4, 4, 4]])
    assert_array_equal(panel.cost_assumed, [False, True])


@pytest.mark.parametrize(("cut", "absent"), [(None, 0), (0.1, 1)])
def test_an_absent_promotion_is_what_the_plan_says_or_a_cut_below_list(
    tmp_path: Path, cut: float | None, absent: int
) -> None:
    plan = tmp_path / "plan.csv"
    plan.write_text("product_id,first,last\nA,2024-03-02,2024-03-03\nstranger,2024-03-01,2024-03-09\n")
    planned = CONFIG.model_copy(update={"promo_cut": cut, "promotions": str(plan)})
    sales = rows([0, 1, 2, 3, 4], price=[10.0, 9.5, 8.0, 9.0, 9.01], list_price=10.0, is_promo=[1, None, 0, None, None])

    panel = build_panel(sales, planned)

    assert_array_equal(panel.is_promo, [[1, 1, 0, absent, 0]])


def test_a_category_is_the_latest_and_one_for_all_when_absent() -> None:
    frame = pd.concat(
        [
            rows([0, 1, 2], price=1.0, category=["tea", "jam", None]),
            rows([0], product="B", price=1.0, category=[None]),
        ]
    )

    assert build_panel(frame, CONFIG).categories.tolist() == ["jam", "all"]
    assert build_panel(frame.drop(columns="category"), CONFIG).categories.tolist() == ["all", "all"]


def test_an_absent_holiday_comes_from_the_rows_of_the_day_then_from_the_calendar() -> None:
    days = [121, 122, 123, 125]  # 30 June, 1 July, 2 July, 4 July
    frame = pd.concat(
        [
            rows(days, price=1.0, is_holiday=[0, 1, np.nan, np.nan]),
            rows(days[:2], product="B", price=1.0, is_holiday=[0, np.nan]),
        ]
    )

    panel = build_panel(frame, CONFIG)

    assert_array_equal(panel.is_holiday, [[0, 1, 0, 0, 1], [0, 1, 0, 0, 1]])
    assert panel.holidays_given
    assert not build_panel(frame.drop(columns="is_holiday"), CONFIG).holidays_given


def test_a_weekly_panel_steps_by_weeks_and_refuses_other_days() -> None:
    weekly = CONFIG.model_copy(update={"period": "week"})

    panel = build_panel(rows([0, 14], price=1.0), weekly)

    assert panel.dates.astype(str).tolist() == ["2024-03-01", "2024-03-08", "2024-03-15"]
    with pytest.raises(ContractError, match="weekly dates must fall on one weekday"):
        build_panel(rows([0, 8], price=1.0), weekly)


History = dict[tuple[int, str], dict[str, object]]
MAYBE = st.one_of(st.just(float("nan")), st.sampled_from([1.0, 2.0, 4.0]))
FLAG = st.sampled_from([0.0, 1.0, float("nan")])
ROW = st.fixed_dictionaries(
    {
        "units_sold": st.sampled_from([0.0, 1.0, 7.0]),
        "price": st.sampled_from([1.0, 2.0, 3.0]),
        "category": st.sampled_from(["tea", "jam", None]),
        "list_price": MAYBE,
        "unit_cost": MAYBE,
        "stock": MAYBE,
        "comp_price": MAYBE,
        "comp_price_age": st.sampled_from([0.0, 3.0, 20.0, float("nan")]),
        "tax_rate": st.sampled_from([0.0, 0.2, float("nan")]),
        "is_promo": FLAG,
        "is_holiday": FLAG,
    }
)
CELL = st.tuples(st.integers(0, 9), st.sampled_from(["A", "B", "C"]))
HISTORY = st.dictionaries(CELL, ROW, min_size=1, max_size=20)


def _table(history: History) -> pd.DataFrame:
    keys = ({"date": START + pd.Timedelta(days=day), "product_id": product} for day, product in history)
    return pd.DataFrame([key | row for key, row in zip(keys, history.values(), strict=True)])


@given(
    past=HISTORY,
    future=HISTORY,
    other_future=HISTORY,
    cutoff=st.integers(0, 9),
    missing=st.sampled_from(["zero", "unknown"]),
)
def test_changing_rows_after_a_day_changes_nothing_of_the_panel_up_to_it(
    past: History, future: History, other_future: History, cutoff: int, missing: str
) -> None:
    past = {cell: row for cell, row in past.items() if cell[0] <= cutoff} or {(0, "A"): next(iter(past.values()))}
    day = np.datetime64("2024-03-01") + max(cell[0] for cell in past)
    panels = []
    for later in (future, other_future):
        after = {(cell[0] + cutoff + 1, cell[1]): row for cell, row in later.items()}
        panel = build_panel(_table(past | after), UNASKED.model_copy(update={"missing": missing})).through(day)
        panels.append(panel.select(np.flatnonzero(panel.present.any(axis=1))))

    for name in ("product_ids", "dates", *SERIES):
        assert_array_equal(getattr(panels[0], name), getattr(panels[1], name))


@given(
    history=HISTORY,
    cutoff=st.integers(0, 8),
    absent=st.sets(st.sampled_from(["category", "unit_cost", "is_promo", "tax_rate"])),
)
@example(  # a rate of 0 from before anything was taxed says nothing of the category's rate
    history={(0, "B"): {"price": 1.0, "tax_rate": 0.0}, (1, "C"): {"price": 1.0, "category": "tea", "tax_rate": 0.2}},
    cutoff=0,
    absent=set(),
)
def test_newer_rows_with_their_past_are_derived_as_in_the_whole_history(
    history: History, cutoff: int, absent: set[str]
) -> None:
    history |= {(0, "A"): {"price": 2.0}, (9, "A"): {"price": 1.0}}  # something on either side of the cutoff
    frame = _table(history).drop(columns=["list_price", *absent], errors="ignore")
    day = START + pd.Timedelta(days=cutoff)
    past, newer = frame[frame["date"] <= day], frame[frame["date"] > day]

    panel = build_panel(newer, UNASKED, past=build_panel(past, UNASKED))

    whole = build_panel(frame, UNASKED)
    whole = whole.select(np.isin(whole.product_ids, panel.product_ids))
    for name in SERIES:
        assert_array_equal(getattr(panel, name), getattr(whole, name)[:, np.isin(whole.dates, panel.dates)])
    assert panel.dates[-1] == whole.dates[-1]
    assert panel.categories.tolist() == whole.categories.tolist()
    assert panel.cost_assumed.tolist() == whole.cost_assumed.tolist()


def test_the_newest_name_counts_and_one_that_is_too_long_is_cut() -> None:
    frame = pd.concat(
        [
            rows([0, 1, 2], price=2.0, name=["Tea", "Green tea", None]),
            rows([0], product="B", price=5.0, name=["x" * 300]),
            rows([2], product="C", price=5.0),
        ]
    )

    assert build_panel(frame, CONFIG).names == {"A": "Green tea", "B": "x" * 200}
    assert build_panel(frame.drop(columns="name"), CONFIG).names == {}
