"""Absent rows and zeros that may be stock-outs: counted, asked about where the sales do not say, and never guessed."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from pricing.config import load_config
from pricing.config_models import DataConfig
from pricing.data.build import build_panel
from pricing.data.panel import SERIES, Panel
from pricing.demand.state import span
from pricing.errors import MissingRowsError

CONFIG = load_config().data
START = pd.Timestamp("2024-03-01")


def config(**changes: object) -> DataConfig:
    return CONFIG.model_copy(update=changes)


def rows(days: list[int], units: list[float], *, product: str = "A", **columns: object) -> pd.DataFrame:
    dates = [START + pd.Timedelta(days=day) for day in days]
    return pd.DataFrame({"date": dates, "product_id": product, "units_sold": units, **({"price": 2.0} | columns)})


def sold(*, days: int = 200, rate: float = 1.0) -> pd.DataFrame:
    """Poisson sales of every product on every day, zeros among them."""
    rng = np.random.default_rng(0)
    units = rng.poisson(rate, (6, days)).astype(float)
    return pd.concat([rows(list(range(days)), units[i].tolist(), product=f"P{i}") for i in range(6)])


def with_sales(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["units_sold"] > 0]


@pytest.mark.parametrize("setting", [None, "unknown", "error"])
def test_what_lies_before_the_first_and_after_the_last_row_is_no_gap(setting: str | None) -> None:
    frame = pd.concat([rows([0, 1, 2, 3], [1, 1, 1, 1]), rows([1, 2], [5, 5], product="B")])

    assert_array_equal(build_panel(frame, config(missing=setting)).present[1], [False, True, True, False])
    if setting == "error":
        with pytest.raises(MissingRowsError, match="2024-03-02"):
            build_panel(frame[frame["date"] != START + pd.Timedelta(days=1)], config(missing=setting))


def test_an_absent_row_counts_as_a_zero_at_the_last_price_where_it_is_said_to_be_one() -> None:
    frame = rows([0, 3, 4], [1.0, 2.0, 1.0], price=[2.0, 3.0, 3.0], stock=[9.0, 9.0, 9.0], is_promo=[1, 0, 0])
    frame = pd.concat([frame, rows([1, 5], [1.0, 1.0], product="B", stock=9.0, is_promo=0)])

    panel = build_panel(frame, config(missing="zero"))

    assert_array_equal(panel.present, [[True] * 6, [False] + [True] * 5])
    assert_array_equal(panel.units_sold[0], [1, 0, 0, 2, 1, 0])
    assert_array_equal(panel.price[0], [2, 2, 2, 3, 3, 3])
    assert_array_equal(panel.is_promo[0], [1, 1, 1, 0, 0, 0])
    assert_array_equal(panel.stock[0], [9, np.nan, np.nan, 9, 9, np.nan])
    assert_array_equal(panel.units_sold[1], [np.nan, 1, 0, 0, 0, 1])


@pytest.mark.parametrize("grams", [1.0, 0.25])
def test_sales_that_leave_out_days_without_a_sale_are_asked_about(grams: float) -> None:
    frame = with_sales(sold())
    frame["units_sold"] *= grams

    with pytest.raises(MissingRowsError):
        build_panel(frame, CONFIG)


def test_rows_lost_by_chance_and_gaps_of_fast_sellers_and_weighed_goods_are_no_zeros_left_out() -> None:
    kept = np.random.default_rng(1).random(1200) > 0.3
    weighed = sold()[kept]
    weighed["units_sold"] *= np.random.default_rng(2).uniform(0.9, 1.1, len(weighed))

    for frame in (sold()[kept], sold(rate=12.0)[kept], with_sales(weighed)):
        assert not build_panel(frame, CONFIG).present.all()


UNITS = st.lists(st.sampled_from([0.0, 0.0, 1.0, 2.0, 9.0]), min_size=30, max_size=30)


def same(one: Panel, other: Panel) -> None:
    for name in ("product_ids", "dates", *SERIES):
        assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def history(products: list[list[float]]) -> pd.DataFrame:
    """A table in which somebody buys something on every day, and every product begins with a sale."""
    products = [[1.0, *units[1:]] for units in products]
    frames = [rows(list(range(30)), units, product=f"P{i}") for i, units in enumerate(products)]
    frames.append(rows(list(range(30)), [1.0] * 30, product="daily"))
    frame = pd.concat(frames, ignore_index=True)
    moved = frame["units_sold"].cumsum() % 3  # prices move with sales alone, so that a zero is at the last one
    return frame.assign(price=2.0 + moved.astype(float))


@given(products=st.lists(UNITS, min_size=1, max_size=3), chance=st.sampled_from([None, 1e-4, 0.05]))
def test_leaving_out_zeros_changes_nothing_where_absent_rows_are_zeros(
    products: list[list[float]], chance: float | None
) -> None:
    whole = history(products)
    setting = config(missing="zero", zero_run=chance, list_price_window=10)

    same(build_panel(with_sales(whole), setting), build_panel(whole, setting))


@given(
    products=st.lists(UNITS, min_size=1, max_size=3),
    nights=st.sets(st.integers(1, 29), min_size=1, max_size=4).map(sorted),
    lost=st.sets(st.integers(0, 89), max_size=12),
    empty=st.sets(st.integers(0, 89), max_size=12),
    missing=st.sampled_from(["zero", "unknown"]),
    chance=st.sampled_from([None, 1e-4, 0.05]),
)
@example(  # zeros were doubted before the night, which chance alone seldom draws
    products=[[0.0] * 6 + [9.0] + [0.0] * 23], nights=[20], lost=set(), empty=set(), missing="zero", chance=0.05
)
def test_newer_rows_are_settled_as_in_the_whole_history(
    products: list[list[float]],
    nights: list[int],
    lost: set[int],
    empty: set[int],
    missing: str,
    chance: float | None,
) -> None:
    whole = history(products)
    whole["stock"] = np.where(whole.index.isin(empty), 0.0, np.nan)
    whole = whole[(whole["product_id"] == "daily") | ~whole.index.isin(lost)]
    setting = config(missing=missing, zero_run=chance, list_price_window=10)
    day = (whole["date"] - START).dt.days
    at_once = build_panel(whole, setting)

    past = build_panel(whole[day < nights[0]], setting)
    for begin, end in zip(nights, [*nights[1:], 30], strict=True):
        sold_by = whole[day < end]["product_id"].unique()
        newer = build_panel(whole[(day >= begin) & (day < end)], setting, past=span(past, max(begin - 10, 0), begin))
        assert missing == "unknown" or set(newer.product_ids) == set(sold_by)
        for name in ("present", "units_sold", "price", "is_promo"):
            ours = getattr(at_once, name)[np.isin(at_once.product_ids, newer.product_ids), begin:end]
            assert_array_equal(getattr(newer, name), ours, err_msg=name)
        past = build_panel(whole[day < end], setting)


def poisson(mean: float, days: int) -> list[float]:
    return list(np.random.default_rng(0).poisson(mean, days).astype(float))


def unknown(units: list[float], **columns: object) -> np.ndarray:
    """The days of one product's rows that are taken for unknown."""
    panel = build_panel(rows(list(range(len(units))), units, **columns), CONFIG)
    return np.flatnonzero(~panel.present[0])


EMPTY = [*[6.0] * 100, *[0.0] * 10, *[6.0] * 20]  # ten days without a sale


def counted(left: float) -> list[float]:
    """A stock counted two days before them, which tells of the days up to seven later."""
    return [np.nan] * 98 + [12.0 + left] + [np.nan] * 31


@pytest.mark.parametrize(
    ("units", "stock", "doubted"),
    [
        (EMPTY, [np.nan] * 130, range(102, 110)),  # a zero or two happen
        (EMPTY[:110], [np.nan] * 110, range(102, 110)),
        (EMPTY, [5000.0] * 130, []),
        (EMPTY, counted(500.0), range(106, 110)),
        (EMPTY, counted(0.0), range(102, 110)),
        (EMPTY, [np.nan] * 100 + [0.0] * 6 + [np.nan] * 24, range(108, 110)),  # off sale: no part of the run
    ],
)
def test_a_run_of_zeros_too_long_for_chance_is_a_stock_out_where_the_stock_does_not_say_otherwise(
    units: list[float], stock: list[float], doubted: list[int]
) -> None:
    assert unknown(units, stock=stock).tolist() == [*doubted]


def test_zeros_of_a_product_that_was_on_the_shelf_are_demand_and_of_one_that_was_not_say_nothing() -> None:
    never = [1.0] * 100 + [0.0] * 8 + [1.0] * 22

    assert unknown(EMPTY, stock=[np.nan] * 130, available=[1.0] * 130).tolist() == []
    assert unknown(EMPTY, stock=[np.nan] * 130, available=[np.nan] * 130).tolist() == [*range(102, 110)]
    assert unknown(EMPTY, stock=[np.nan] * 130, available=never).tolist() == []


def test_sales_of_a_product_that_was_never_available_leave_it_unknown_for_how_long_it_was() -> None:
    panel = build_panel(rows([0, 1, 2], [3.0, 0.0, 1.0], available=[0.0, 0.0, 0.5]), CONFIG)

    assert_array_equal(panel.available, [[np.nan, 0.0, 0.5]])
    assert any("never available" in note for note in panel.notes)


def test_a_delisted_product_is_unknown_for_a_window_at_most_and_then_sells_nothing() -> None:
    found = unknown([*EMPTY[:100], *[0.0] * 150])

    assert 10 < len(found) <= CONFIG.list_price_window
    assert found[-1] < 100 + CONFIG.list_price_window


@pytest.mark.parametrize(
    ("units", "stock", "silent"),
    [
        (EMPTY, [np.nan] * 130, False),  # it sells again
        (EMPTY[:102], [np.nan] * 102, False),  # a zero or two happen
        (EMPTY[:103], [np.nan] * 103, True),
        (EMPTY[:110], [np.nan] * 109 + [4.0], False),
        (EMPTY[:105], counted(500.0)[:105], False),  # what was counted is left
        (EMPTY[:110], counted(500.0)[:110], True),
        ([*EMPTY[:100], *[0.0] * 150], [np.nan] * 250, True),  # long after the window in which it is unknown
        (poisson(0.02, 700), [np.nan] * 700, False),
    ],
)
@pytest.mark.parametrize("missing", ["unknown", "zero"])
def test_a_product_is_silent_while_nobody_knows_that_it_is_still_sold(
    units: list[float], stock: list[float], silent: bool, missing: str
) -> None:
    frame, settings = rows(list(range(len(units))), units, stock=stock), config(missing=missing)

    whole = build_panel(frame, settings)
    newest = build_panel(frame.tail(2), settings, past=whole.through(whole.dates[-3]))

    assert whole.silent == (("A",) if silent else ())
    assert whole.through(whole.dates[-1]).silent == ()
    if len(units) < 250:
        assert newest.silent == whole.silent


@pytest.mark.parametrize(
    "units",
    [
        poisson(0.1, 400),
        poisson(0.02, 700),
        list(np.random.default_rng(0).negative_binomial(0.2, 0.2 / 0.7, 500).astype(float)),
        list(np.where(np.random.default_rng(1).random(400) < 0.05, 50.0, 0.0)),  # lots of 50
        list(np.random.default_rng(2).poisson(6.0 * np.exp(-np.arange(200) / 50)).astype(float)),  # fading out
        list(np.where(np.arange(210) % 7 == 6, 0.0, 8.0)),  # closed on Sundays
    ],
)
def test_slow_lumpy_fading_and_closed_products_have_no_stock_outs(units: list[float]) -> None:
    assert not len(unknown(units))
