"""Promotions and events of a retailer's calendars, in the forms that the data settings read."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.config_sources import EventSource, PromotionSource
from pricing.data.calendar_tables import read_plan
from pricing.data.calendar_tables import read_promotions as read_written
from pricing.sources.calendars import (
    EVENT_COLUMNS,
    on_promotion,
    promotion_plan,
    read_events,
    read_promotions,
    unknown_promotions,
)
from pricing.sources.identifiers import Identifiers
from pricing.sources.set_aside import SetAside
from tests.kit.chunks import chunk

COLUMNS = "product_id category store first last"
SOLD = pd.DataFrame(
    {
        "product_id": ["tea", "tea", "tea", "jam"],
        "store": ["n", "s", "w", "n"],
        "category": ["drinks", "drinks", "drinks", "spreads"],
    }
).astype("str")


def promotions(*rows: tuple[Any, ...], aside: SetAside | None = None) -> pd.DataFrame:
    source = PromotionSource(location="p.csv")
    return read_promotions([chunk(COLUMNS, *rows)], source, ids=Identifiers(), set_aside=aside or SetAside())


def plan(*rows: tuple[Any, ...], separate: bool = False) -> list[tuple[str, str, str]]:
    found = promotion_plan(promotions(*rows), SOLD, separate=separate)
    return [(row.product_id, str(row.first.date())[5:], str(row.last.date())[5:]) for row in found.itertuples()]


def test_promotions_of_a_category_and_of_everything_are_those_of_each_product() -> None:
    found = plan((None, "spreads", None, "2026-03-02", "2026-03-04"), (None, None, None, "2026-05-01", "2026-05-01"))

    assert found == [("jam", "03-02", "03-04"), ("jam", "05-01", "05-01"), ("tea", "05-01", "05-01")]


def test_promotions_that_overlap_or_touch_are_one() -> None:
    spans = [("03-02", "03-04"), ("03-05", "03-06"), ("03-03", "03-03"), ("03-08", "03-09")]

    found = plan(*(("jam", None, None, f"2026-{first}", f"2026-{last}") for first, last in spans))

    assert found == [("jam", "03-02", "03-06"), ("jam", "03-08", "03-09")]


def test_where_stores_are_summed_a_promotion_counts_while_half_of_the_stores_have_it() -> None:
    found = plan(("tea", None, "n", "2026-03-02", "2026-03-06"), ("tea", None, "s", "2026-03-04", "2026-03-09"))

    assert found == [("tea", "03-04", "03-06")]  # two of three stores


def test_where_stores_are_separate_a_promotion_is_of_its_store() -> None:
    found = plan(
        ("tea", None, "n", "2026-03-02", "2026-03-06"), ("jam", None, None, "2026-03-04", "2026-03-09"), separate=True
    )

    assert found == [("jam@n", "03-04", "03-09"), ("tea@n", "03-02", "03-06")]


def test_promotions_of_what_nobody_sells_are_listed() -> None:
    given_ = promotions(
        ("pen", None, None, "2026-03-02", "2026-03-02"),
        (None, "toys", None, "2026-03-02", "2026-03-02"),
        ("tea", None, None, "2026-03-02", "2026-03-02"),
    )

    lost = unknown_promotions(given_, SOLD)

    assert lost[["product_id", "category"]].to_numpy().tolist() == [["", "toys"], ["pen", ""]]


@pytest.mark.parametrize(
    ("first", "last", "reason"),
    [
        ("2026-03-02", None, "last must not be missing"),
        ("2026-03-02", "2026-03-01", "last must not come before first"),
        ("2/3/2026", "2026-03-05", "first must be a day such as 2026-11-27"),
        ("2026-03-02", "2199-12-31", "a promotion must end within 3,660 days"),
    ],
)
def test_a_promotion_without_usable_days_is_set_aside(first: str, last: str | None, reason: str) -> None:
    aside = SetAside()

    found = promotions(("tea", None, None, first, last), aside=aside)

    assert (len(found), [count.reason for count in aside.counts]) == (0, [reason])


SPANS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.integers(0, 6)), max_size=12)


@settings(max_examples=100, deadline=None)
@given(spans=SPANS, length=st.sampled_from([1, 7]))
def test_a_day_is_promoted_if_any_span_of_its_product_has_it(spans: list[tuple[str, int, int]], length: int) -> None:
    base = np.datetime64("2026-03-01")
    rows = [(product, None, None, str(base + begin), str(base + begin + days)) for product, begin, days in spans]
    sold = pd.DataFrame({"product_id": ["a", "b"], "store": "", "category": ""}).astype("str")
    asked = pd.DataFrame([(p, base + d) for p in "abc" for d in range(-8, 40)], columns=["product_id", "date"])

    found = on_promotion(
        promotion_plan(promotions(*rows), sold, separate=False), asked["product_id"], asked["date"], days=length
    )

    begins = (asked["date"].to_numpy().astype("datetime64[D]") - base).astype(int)
    expected = [
        any(p == product and begin <= day + length - 1 and day <= begin + more for p, begin, more in spans)
        for product, day in zip(asked["product_id"], begins, strict=True)
    ]
    assert found.tolist() == expected


def test_the_plan_and_the_events_are_read_by_the_data_settings_as_they_are(tmp_path: Path) -> None:
    written = promotion_plan(promotions(("jam", None, None, "2026-03-02", "2026-03-04")), SOLD, separate=False)
    written.to_csv(tmp_path / "plan.csv", index=False)
    events = read_events(
        [chunk("date name last_date", ("2026-07-01", "Fair", "2026-07-03"), ("2026-08-01", "Race", None))],
        EventSource(location="e.csv"),
        set_aside=SetAside(),
    )
    events.to_csv(tmp_path / "events.csv", index=False)

    plan_read = read_written(str(tmp_path / "plan.csv"))
    events_read = read_plan(
        str(tmp_path / "events.csv"), key="data.events", needed=("date", "name"), optional=("last_date", "category")
    )

    assert plan_read.product_id.tolist() == ["jam"]
    assert events_read["last_date"].dt.strftime("%m-%d").tolist() == ["07-03", "08-01"]
    assert tuple(events.columns) == EVENT_COLUMNS


def test_an_event_without_a_name_or_a_day_is_set_aside() -> None:
    aside = SetAside()

    found = read_events(
        [chunk("date name", ("2026-07-01", None), ("soon", "Fair"), ("2026-07-01", "Fair"), ("2026-07-01", "Fair"))],
        EventSource(location="e.csv"),
        set_aside=aside,
    )

    assert (len(found), aside.rows_of("events")) == (1, 2)
