"""Offers from answers and tables: what is read, and what is set aside with which reason."""

import datetime as dt
from typing import Any

import pandas as pd
import pytest

from pricing.errors import SourceError
from pricing.sources.competitor_offers import (
    COLUMNS,
    SET_ASIDE,
    AnswerPage,
    OfferBatch,
    count_reasons,
    join_batches,
    offers_from_table,
    read_offers,
    reference_page,
)

NOW = dt.datetime(2026, 3, 10, 12, tzinfo=dt.UTC)
PLAIN = {
    "competitor": "Rival",
    "product_id": "P1",
    "price": 10.0,
    "currency": "EUR",
    "observed_at": "2026-03-10T06:00Z",
}


def answer(*rows: Any, **others: Any) -> OfferBatch:
    page = AnswerPage([{**PLAIN, **row} for row in rows])
    return read_offers(page, source="rival", fetched_at=NOW, run_id="run-1", **others)


def table(frame: pd.DataFrame, **others: Any) -> OfferBatch:
    return offers_from_table(frame, source="archive", seen_at=NOW, run_id="run-1", **others)


def test_an_offer_is_read_with_where_and_when_it_came_from() -> None:
    batch = answer({"in_stock": True, "delivery_cost": 2, "ean": "4006381333931", "anything": [1]})

    (row,) = batch.offers.to_dict("records")
    assert {name: row[name] for name in ("source", "run_id", "item", "price", "in_stock", "delivery_cost")} == {
        "source": "rival",
        "run_id": "run-1",
        "item": "ean:4006381333931",
        "price": 10.0,
        "in_stock": True,
        "delivery_cost": 2.0,
    }
    assert (row["seen_at"], row["observed_at"]) == (NOW, NOW.replace(hour=6))
    assert {name: str(kind) for name, kind in batch.offers.dtypes.items()} == COLUMNS


def test_times_are_kept_in_utc() -> None:
    batch = answer({"observed_at": "2026-03-10T08:00:00+02:00"})

    assert batch.offers["observed_at"].iloc[0] == NOW.replace(hour=6)


@pytest.mark.parametrize(
    ("change", "reason", "found"),
    [
        ({"price": "10"}, "schema", "price"),
        ({"price": True}, "schema", "price"),
        ({"price": None}, "schema", "price"),
        ({"in_stock": "yes"}, "schema", "in_stock: Input should be a valid boolean"),
        ({"observed_at": "2026-03-10T06:00:00"}, "schema", "observed_at: Input should have timezone info"),
        ({"product_id": 17}, "schema", "product_id: Input should be a valid string"),
        ({"price": 0}, "price_not_above_zero", "price 0.0"),
        ({"price": -1}, "price_not_above_zero", "price -1.0"),
        ({"currency": "€"}, "currency_unknown", "currency €"),
        ({"delivery_cost": -1}, "delivery_cost_below_zero", "delivery_cost -1.0"),
        ({"product_id": " "}, "no_id", "item absent"),
        ({"competitor": None}, "no_competitor", "competitor absent"),
        ({"tax_included": False}, "net_price_without_tax_rate", "tax_included False"),
        ({"tax_rate": 20}, "tax_rate_out_of_range", "tax_rate 20.0"),
        ({"observed_at": "2026-03-10T12:20:00Z"}, "observed_in_the_future", "observed_at 2026-03-10 12:20:00+00:00"),
    ],
)
def test_an_offer_that_cannot_be_used_is_set_aside_with_its_reason(
    change: dict[str, Any], reason: str, found: str
) -> None:
    batch = answer(change, {})

    assert len(batch.offers) == 1
    (row,) = batch.set_aside.to_dict("records")
    assert row["reason"] == reason
    assert row["found"].startswith(found)
    assert tuple(batch.set_aside.columns) == SET_ASIDE


def test_a_clock_a_little_ahead_of_ours_is_no_future() -> None:
    assert len(answer({"observed_at": "2026-03-10T12:10:00Z"}).offers) == 1


def test_the_configured_competitor_is_that_of_offers_that_name_none() -> None:
    batch = answer({"competitor": None}, {"competitor": "Other"}, competitor="Rival")

    assert batch.offers["competitor"].tolist() == ["Rival", "Other"]


def test_an_offer_is_no_other_thing() -> None:
    batch = read_offers(AnswerPage([7, "x"]), source="rival", fetched_at=NOW, run_id="r")  # type: ignore[list-item]

    assert count_reasons(batch.set_aside) == {"schema": 2}


def test_a_page_without_offers_is_read() -> None:
    batch = answer()

    assert batch.offers.empty
    assert list(batch.offers.columns) == list(COLUMNS)


def test_an_empty_cursor_is_the_last_page() -> None:
    assert reference_page({"offers": [], "next_cursor": ""}).next_page is None


def test_batches_are_joined_and_none_is_lost() -> None:
    whole = join_batches([answer({}), answer({"price": 0}), join_batches([])])

    assert (len(whole.offers), len(whole.set_aside)) == (1, 1)


def test_a_table_gives_the_same_offers_as_an_answer() -> None:
    rows = [{**PLAIN, "in_stock": True, "delivery_cost": 2.5}, {**PLAIN, "price": 0}]

    by_table, by_answer = table(pd.DataFrame(rows)), answer(*rows)

    for one, other in ((by_table.offers, by_answer.offers), (by_table.set_aside, by_answer.set_aside)):
        columns = [name for name in one.columns if name != "source"]
        pd.testing.assert_frame_equal(one[columns], other[columns])


def test_cells_of_a_table_may_be_texts() -> None:
    frame = pd.DataFrame(
        {
            "competitor": ["Rival"] * 3,
            "ean": [4006381333931.0, 4006381333931.0, None],
            "item_id": [None, None, 17],
            "price": ["9.5", "nine", "8"],
            "currency": "EUR",
            "in_stock": ["true", "1", "perhaps"],
            "observed_at": ["2026-03-09", "2026-03-09", "2026-03-09"],
        }
    )

    batch = table(frame)

    assert batch.offers["ean"].tolist() == ["4006381333931"]
    assert batch.set_aside["found"].tolist() == ["price: cannot be read: nine", "in_stock: cannot be read: perhaps"]


def test_times_without_an_offset_are_the_shops_own() -> None:
    frame = pd.DataFrame([{**PLAIN, "observed_at": "2026-03-09 23:30"}, {**PLAIN, "observed_at": "2026-03-09T23:30Z"}])
    typed = pd.DataFrame([PLAIN]).assign(observed_at=pd.Timestamp("2026-03-09 23:30"))

    texts = table(frame, time_zone="Europe/Berlin").offers["observed_at"]
    times = table(typed, time_zone="Europe/Berlin").offers["observed_at"]

    assert [each.hour for each in texts] == [22, 23]
    assert [each.hour for each in times] == [22]


def test_hours_that_clocks_skip_or_repeat_are_read() -> None:
    frame = pd.DataFrame([{**PLAIN, "observed_at": text} for text in ("2025-03-30 02:30", "2025-10-26 02:30")])

    times = table(frame, time_zone="Europe/Berlin").offers["observed_at"]

    assert [each.isoformat() for each in times] == ["2025-03-30T01:00:00+00:00", "2025-10-26T00:30:00+00:00"]


@pytest.mark.parametrize("text", ["", "soon", "10/03/2026", None])
def test_a_time_that_cannot_be_read_is_set_aside(text: str | None) -> None:
    batch = table(pd.DataFrame([{**PLAIN, "observed_at": text}]))

    assert batch.offers.empty
    assert batch.set_aside["reason"].tolist() in (["schema"], ["not_dated"])


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("price", "price"),
        ("observed_at", "observed_at"),
        ("product_id", "product_id, ean or item_id"),
        ("competitor", "competitor"),
    ],
)
def test_a_table_that_lacks_a_column_is_refused(missing: str, words: str) -> None:
    frame = pd.DataFrame([PLAIN]).drop(columns=missing)

    with pytest.raises(SourceError, match=words):
        table(frame)


def test_a_table_is_not_modified() -> None:
    frame = pd.DataFrame([{**PLAIN, "in_stock": "true"}], index=[7])
    before = frame.copy(deep=True)

    table(frame)

    pd.testing.assert_frame_equal(frame, before)
