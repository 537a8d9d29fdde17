"""The history of offers is what was seen, when it was seen: only ever added to."""

import datetime as dt
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.errors import SourceError
from pricing.sources.competitor_history import append_offers, read_history
from pricing.sources.competitor_offers import COLUMNS
from tests.kit.competitor_offers import offers


def seen(day: int, *prices: float, observed: int | None = None, **others: Any) -> pd.DataFrame:
    """Offers of products P0, P1, … seen on a day of March, observed on it or on another."""
    times = {"seen_at": f"2026-03-{day:02}T03:00:00Z", "observed_at": f"2026-03-{observed or day:02}T02:00:00Z"}
    return offers(*[{"product_id": f"P{n}", "price": price, **times, **others} for n, price in enumerate(prices)])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_offers_come_back_as_they_were_seen(tmp_path: Path) -> None:
    first, second = seen(1, 10, 20), seen(2, 11, in_stock=False, delivery_cost=3, ean="96385074")

    append_offers(tmp_path, second, run_id="night-2")
    append_offers(tmp_path, first, run_id="night-1")

    found = read_history(tmp_path)
    pd.testing.assert_frame_equal(found, pd.concat([first, second], ignore_index=True))
    assert {name: str(kind) for name, kind in found.dtypes.items()} == COLUMNS


def test_the_same_answer_again_changes_nothing(tmp_path: Path) -> None:
    append_offers(tmp_path, seen(1, 10, 20), run_id="night-1")
    before = files(tmp_path)

    again = append_offers(tmp_path, seen(2, 10, 20, observed=1), run_id="night-2")

    assert (again.new, again.known, again.path) == (0, 2, None)
    assert files(tmp_path) == before


def test_only_what_is_new_is_written_and_no_file_is_changed(tmp_path: Path) -> None:
    append_offers(tmp_path, seen(1, 10, 20), run_id="night-1")
    before = files(tmp_path)

    done = append_offers(tmp_path, seen(2, 10, 25, 30, observed=1), run_id="night-1")

    assert (done.new, done.known) == (2, 1)
    assert {name: text for name, text in files(tmp_path).items() if name in before} == before
    assert read_history(tmp_path)["price"].tolist() == [10, 20, 25, 30]


def test_an_offer_twice_in_one_answer_is_one(tmp_path: Path) -> None:
    twice = pd.concat([seen(1, 10), seen(1, 10)], ignore_index=True)

    assert append_offers(tmp_path, twice, run_id="night-1").new == 1


def test_a_correction_is_kept_beside_what_it_corrects(tmp_path: Path) -> None:
    append_offers(tmp_path, seen(1, 10), run_id="night-1")
    append_offers(tmp_path, seen(2, 12, observed=1), run_id="night-2")

    found = read_history(tmp_path)

    assert found["price"].tolist() == [10, 12]
    assert [each.day for each in found["seen_at"]] == [1, 2]


def test_an_archive_counts_as_seen_when_it_was_observed_and_only_the_first_time(tmp_path: Path) -> None:
    append_offers(tmp_path, seen(9, 10, observed=1), run_id="night-1", backfill={"shops"})
    append_offers(tmp_path, seen(9, 11, observed=2), run_id="night-2", backfill={"shops"})

    found = read_history(tmp_path)

    assert [each.day for each in found["seen_at"]] == [1, 9]


def test_what_is_no_archive_counts_when_it_came(tmp_path: Path) -> None:
    append_offers(tmp_path, seen(9, 10, observed=1), run_id="night-1")

    assert read_history(tmp_path)["seen_at"].iloc[0].day == 9


def test_a_part_of_the_history_is_read_by_time_and_source(tmp_path: Path) -> None:
    append_offers(tmp_path, seen(1, 10), run_id="night-1")
    append_offers(tmp_path, seen(5, 11).assign(source=pd.array(["other"], dtype="string")), run_id="night-2")

    late = read_history(tmp_path, since=dt.datetime(2026, 3, 4, tzinfo=dt.UTC))
    own = read_history(tmp_path, sources=["shops"])

    assert (late["price"].tolist(), own["price"].tolist()) == ([11], [10])


def test_nothing_is_read_where_nothing_is(tmp_path: Path) -> None:
    done = append_offers(tmp_path / "new", seen(1, 10)[:0], run_id="night-1")

    assert (done.new, done.path) == (0, None)
    assert read_history(tmp_path / "new").empty


def test_a_damaged_file_is_named_and_nothing_is_made_up(tmp_path: Path) -> None:
    path = append_offers(tmp_path, seen(1, 10), run_id="night-1").path
    assert path is not None
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(SourceError, match=r"night-1-[0-9a-f]{12}\.parquet"):
        read_history(tmp_path)


def test_a_draft_that_a_crash_left_is_no_history(tmp_path: Path) -> None:
    (tmp_path / "seen=2026-03-01").mkdir()
    (tmp_path / "seen=2026-03-01" / ".night-1.parquet.abcd.draft").write_bytes(b"half")
    (tmp_path / "seen=2026-03-01" / ".half.parquet").write_bytes(b"half")

    assert read_history(tmp_path).empty


@pytest.mark.parametrize("run_id", ["../escape", "", "a/b", ".hidden"])
def test_a_run_that_would_leave_the_folder_is_refused(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(SourceError, match="run id"):
        append_offers(tmp_path, seen(1, 10), run_id=run_id)


@settings(max_examples=15)
@given(nights=st.lists(st.lists(st.sampled_from([8.0, 9.0, 10.0]), min_size=1, max_size=3), min_size=1, max_size=4))
def test_the_order_in_which_runs_are_repeated_changes_nothing(
    nights: list[list[float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("history")
    batches = [seen(day, *prices) for day, prices in enumerate(nights, start=1)]
    for number, batch in enumerate(batches):
        append_offers(folder, batch, run_id=f"night-{number}")
    before = files(folder)

    for number, batch in reversed(list(enumerate(batches))):
        append_offers(folder, batch, run_id=f"night-{number}")

    assert files(folder) == before
