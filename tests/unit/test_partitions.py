"""Days of a table are replaced a month at a time, and what changed is told."""

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.sources.partitions import changes, first_difference, put_rows, replace_days, shards
from pricing.sources.store import Draft, Store


def days(first: str, count: int, *, units: float = 1.0, product: str = "P1") -> pd.DataFrame:
    dates = pd.date_range(first, periods=count, unit="s")
    return pd.DataFrame({"date": dates, "product_id": product, "units_sold": np.full(count, units)})


def held(draft: Draft) -> dict[str, float]:
    frame = draft.read("sales")
    return {str(day.date()): units for day, units in zip(frame["date"], frame["units_sold"], strict=True)}


def test_only_the_days_asked_for_are_replaced(tmp_path: Path) -> None:
    with Store(tmp_path).draft() as draft:
        replace_days(draft, "sales", days("2026-03-30", 5), first=None, last=None)

        first = replace_days(
            draft, "sales", days("2026-03-29", 9, units=7), first=dt.date(2026, 3, 31), last=dt.date(2026, 4, 1)
        )

        assert first == dt.date(2026, 3, 31)
        assert held(draft) == {
            "2026-03-30": 1.0, "2026-03-31": 7.0, "2026-04-01": 7.0, "2026-04-02": 1.0, "2026-04-03": 1.0,
        }  # fmt: skip


def test_days_that_a_source_no_longer_has_are_gone(tmp_path: Path) -> None:
    with Store(tmp_path).draft() as draft:
        replace_days(draft, "sales", days("2026-03-30", 5), first=None, last=None)

        first = replace_days(draft, "sales", days("2026-03-30", 1), first=dt.date(2026, 3, 30), last=None)

        assert first == dt.date(2026, 3, 31)
        assert held(draft) == {"2026-03-30": 1.0}


def test_the_same_days_again_change_nothing(tmp_path: Path) -> None:
    with Store(tmp_path).draft() as draft:
        replace_days(draft, "sales", days("2026-03-30", 5), first=None, last=None)
        before = dict(draft.tables["sales"])

        assert replace_days(draft, "sales", days("2026-03-31", 4), first=dt.date(2026, 3, 31), last=None) is None
        assert draft.tables["sales"] == before


@pytest.mark.parametrize("where", [0, 2, 4])
def test_the_first_day_that_differs_is_found(where: int) -> None:
    former, new = days("2026-03-01", 5), days("2026-03-01", 5)
    new.loc[where:, "units_sold"] = 9

    assert first_difference(former, new) == former["date"][where]


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=30), st.integers(1, 16))
def test_a_product_is_always_in_the_same_shard(names: list[str], count: int) -> None:
    found = shards(pd.Series(names, dtype="object"), count)
    again = shards(pd.Series(names[::-1], dtype="object"), count)[::-1]

    assert found.tolist() == again.tolist()
    assert set(found.tolist()) <= set(range(count))


def test_rows_of_later_months_are_replaced_and_earlier_ones_left(tmp_path: Path) -> None:
    both = pd.concat([days("2026-02-27", 4), days("2026-02-27", 4, product="P2")], ignore_index=True)
    with Store(tmp_path).draft() as draft:
        put_rows(draft, both, first=None, count=4)
        before = dict(draft.rows)

        changed = put_rows(draft, both[both["date"] >= "2026-03-01"].assign(units_sold=5.0), first="2026-03", count=4)

        kept = {name: part for name, part in draft.rows.items() if name.startswith("2026-02")}
        assert kept == {name: part for name, part in before.items() if name.startswith("2026-02")}
        assert changed
        assert all(name.startswith("2026-03") for name in changed)


def test_rows_that_are_new_late_corrected_or_withdrawn_are_told_apart() -> None:
    former = days("2026-03-01", 4).drop(index=1)  # 1st, 3rd, 4th
    now = days("2026-03-01", 5).drop(index=2)  # 1st, 2nd, 4th, 5th
    now.loc[3, "units_sold"] = 8  # the 4th

    found = {
        change.kind: (change.rows, str(change.first_day))
        for change in changes(former, now, newest=former["date"].max())
    }

    assert found == {
        "new": (1, "2026-03-05"),
        "late": (1, "2026-03-02"),
        "corrected": (1, "2026-03-04"),
        "withdrawn": (1, "2026-03-03"),
    }


def test_a_column_that_comes_or_goes_corrects_the_rows_that_have_it() -> None:
    former = days("2026-03-01", 3)
    now = former.assign(stock=[4.0, np.nan, 5.0])

    (gained,) = changes(former, now, newest=former["date"].max())
    (lost,) = changes(now, former, newest=former["date"].max())

    assert (gained.kind, gained.rows) == (lost.kind, lost.rows) == ("corrected", 2)


def test_equal_rows_are_no_change() -> None:
    former = days("2026-03-01", 3).assign(stock=[1.0, np.nan, 2.0], category=["a", None, "b"])

    assert changes(former, former.copy(), newest=former["date"].max()) == []
