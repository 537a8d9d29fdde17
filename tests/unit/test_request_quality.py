"""Decisions against the days before: what requests lack, prices that nobody charges, logs that end."""

import datetime as dt
from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd
import pytest
from pricing.data.request_quality import request_findings

from pricing.config import load_config
from pricing.data.quality import MEANINGS

CONFIG = load_config().data.quality
PRODUCTS, DAYS = 10, 60
START = np.datetime64("2024-01-01")
FAULT = DAYS - 3
LAST = dt.date.fromisoformat(str(START + DAYS - 1))
Change = Callable[[pd.DataFrame], pd.DataFrame | None]


@cache
def sound() -> pd.DataFrame:
    """Ten products priced each day; prices move, and each price asked is the current one a day later."""
    rng = np.random.default_rng(2)
    product, day = (axis.ravel() for axis in np.meshgrid(np.arange(PRODUCTS), np.arange(DAYS), indexing="ij"))
    asked = np.round(10 * np.exp(0.05 * rng.standard_normal(len(product))), 2)
    current = np.where(day == 0, asked, np.roll(asked, 1))
    seen = rng.random(len(product)) < 0.9
    return pd.DataFrame(
        {
            "date": pd.to_datetime((START + day).astype("datetime64[s]")),
            "product_id": [f"P{row}" for row in product],
            "recommended_price": asked,
            "current_price": current,
            "stock": rng.integers(0, 40, len(product)).astype(float),
            "comp_price": np.where(seen, np.round(10 * rng.uniform(0.8, 1.2, len(product)), 2), np.nan),
        }
    )


def found(change: Change | None = None, *, last_sales: dt.date = LAST, until: dt.date = LAST) -> dict[str, str]:
    frame = sound().copy()
    changed = change(frame) if change else None
    findings = request_findings(frame if changed is None else changed, CONFIG, last_sales=last_sales, until=until)
    assert all(one.advice == MEANINGS[one.name][1] for one in findings)
    return {one.name: one.first_day for one in findings if one.level != "note"}


def since(frame: pd.DataFrame, number: int = FAULT) -> "pd.Series[bool]":
    return frame["date"] >= pd.Timestamp(START + number)


def put(column: str, value: float, *, number: int = FAULT) -> Change:
    def change(frame: pd.DataFrame) -> None:
        frame.loc[since(frame, number), column] = value

    return change


def frozen(frame: pd.DataFrame) -> None:
    last = frame[~since(frame)].dropna().groupby("product_id")["comp_price"].last()
    frame.loc[since(frame), "comp_price"] = frame["product_id"].map(last)


def overridden(frame: pd.DataFrame) -> None:
    frame.loc[since(frame, FAULT + 1), "current_price"] *= 1.05


def day(number: int) -> str:
    return str(START + number)


@pytest.mark.parametrize(
    ("change", "name", "first"),
    [
        (put("comp_price", np.nan), "request_comp_price_null", FAULT),
        (put("stock", 0), "request_stock_zero", FAULT),
        (frozen, "request_comp_price_frozen", FAULT),
        (overridden, "prices_overridden", FAULT),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_fault_of_requests_has_its_name_and_first_day_and_no_other(change: Change, name: str, first: int) -> None:
    assert found(change) == {name: day(first)}


def test_honest_requests_have_no_finding() -> None:
    assert found() == {}
    assert request_findings(sound()[:0], CONFIG) == ()


def test_a_column_missing_for_a_day_is_only_noted() -> None:
    assert found(put("comp_price", np.nan, number=DAYS - 1)) == {}
    assert [one.level for one in request_findings(sound().assign(comp_price=np.nan), CONFIG)] == []  # never was there


@pytest.mark.parametrize(("days", "late"), [(3, False), (4, True)])
def test_sales_and_decisions_that_stop_are_late_after_some_days(*, days: int, late: bool) -> None:
    ended = LAST - dt.timedelta(days=days)
    first = str(ended + dt.timedelta(days=1))

    assert found(last_sales=ended) == ({"sales_late": first} if late else {})
    stopped = found(lambda frame: frame[frame["date"] <= pd.Timestamp(ended)])
    assert stopped == ({"decisions_late": first} if late else {})


def test_prices_that_are_kept_tell_nothing_of_overrides() -> None:
    kept = sound().assign(current_price=sound()["recommended_price"])

    assert [one.name for one in request_findings(kept, CONFIG)] == []


def test_the_table_is_not_changed() -> None:
    before = sound().copy(deep=True)

    found(overridden)

    pd.testing.assert_frame_equal(sound(), before)
