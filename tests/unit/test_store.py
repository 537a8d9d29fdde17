"""The folder of tables: files that never change, a manifest that is switched at once."""

import datetime as dt
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pricing.config import load_config
from pricing.data.load import load_panel_from
from pricing.data.manifest import (
    FORMER,
    MANIFEST,
    Change,
    Manifest,
    corrected_since,
    has_manifest,
    read_manifest,
    read_rows,
)
from pricing.data.panel import load_panel, save_panel
from pricing.data.source import read_sales
from pricing.errors import SourceError
from pricing.sources.store import KEPT, Draft, Store


def rows(day: str = "2026-03-02", units: float = 3) -> pd.DataFrame:
    days = pd.date_range(day, periods=4)
    return pd.DataFrame({"date": days, "product_id": "P1", "units_sold": [units, 2.0, 1.0, 4.0], "price": 2.5})


def manifest(draft: Draft, *, minute: int = 0, settings: str = "s") -> Manifest:
    return Manifest(
        run_id=f"run{minute}",
        made_at=dt.datetime(2026, 3, 7, 4, minute, tzinfo=dt.UTC),
        period="day",
        settings=settings,
        sources={},
        tables=draft.tables,
        rows=draft.rows,
    )


def published(folder: Path, frame: pd.DataFrame, *, minute: int = 0, partition: str = "2026-03/0") -> bool:
    with Store(folder).draft() as draft:
        draft.put("sales", partition.partition("/")[0], frame)
        draft.put_rows(partition, frame)
        return draft.publish(manifest(draft, minute=minute))


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_published_folder_is_read_as_sales_by_every_job(tmp_path: Path) -> None:
    published(tmp_path / "sources", rows())

    frame = read_sales(str(tmp_path / "sources"))
    panel = load_panel_from(str(tmp_path / "sources"), load_config().data)

    assert frame["units_sold"].tolist() == [3, 2, 1, 4]
    assert panel.units_sold.tolist() == [[3, 2, 1, 4]]


def test_a_panel_says_which_manifest_it_was_made_from_and_keeps_it_when_saved(tmp_path: Path) -> None:
    published(tmp_path / "sources", rows())

    panel = load_panel_from(str(tmp_path / "sources"), load_config().data)
    save_panel(panel, tmp_path / "panel")

    known = read_manifest(tmp_path / "sources")
    assert load_panel(tmp_path / "panel").lineage == {"manifest": known.id, "etl_run_id": "run0"}


def test_the_same_tables_again_change_nothing(tmp_path: Path) -> None:
    published(tmp_path, rows())
    before, text = files(tmp_path), (tmp_path / MANIFEST).read_bytes()

    changed = published(tmp_path, rows(), minute=1)

    assert not changed
    assert (files(tmp_path), (tmp_path / MANIFEST).read_bytes()) == (before, text)


def test_a_change_replaces_its_partition_alone(tmp_path: Path) -> None:
    published(tmp_path, rows())
    published(tmp_path, rows("2026-04-01"), minute=1, partition="2026-04/0")
    before = read_manifest(tmp_path)

    published(tmp_path, rows("2026-04-01", units=9), minute=2, partition="2026-04/0")

    after = read_manifest(tmp_path)
    assert after.rows["2026-03/0"] == before.rows["2026-03/0"]
    assert after.rows["2026-04/0"] != before.rows["2026-04/0"]
    assert after.id != before.id


def test_a_draft_that_is_not_published_leaves_readers_and_folder_as_they_were(tmp_path: Path) -> None:
    published(tmp_path, rows())
    before = files(tmp_path)

    with Store(tmp_path).draft() as draft:
        draft.put_rows("2026-03/0", rows(units=99))

    assert files(tmp_path) == before
    assert read_rows(tmp_path)["units_sold"].tolist() == [3, 2, 1, 4]


def test_what_a_killed_run_left_is_swept_by_the_next(tmp_path: Path) -> None:
    published(tmp_path, rows())
    orphan = tmp_path / "rows" / "2026-03" / "0.00ff.parquet"
    orphan.write_bytes(b"half")

    published(tmp_path, rows(), minute=1)

    assert not orphan.exists()


def test_files_of_a_former_manifest_stay_for_jobs_that_still_read_them(tmp_path: Path) -> None:
    published(tmp_path, rows())
    former = read_manifest(tmp_path)

    published(tmp_path, rows(units=9), minute=1)

    assert (tmp_path / former.rows["2026-03/0"].file).is_file()
    assert len(list((tmp_path / FORMER).iterdir())) == 1


@pytest.mark.parametrize("damage", ["truncated", "newer format", "no text"])
def test_a_former_manifest_that_cannot_be_read_stops_no_run_and_no_file_is_removed_beside_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    published(tmp_path, rows())
    published(tmp_path, rows(units=9), minute=1)
    (kept,) = (tmp_path / FORMER).iterdir()
    known = kept.read_text()
    contents = {
        "truncated": known[:100].encode(),
        "newer format": json.dumps({**json.loads(known), "format": 2}).encode(),
        "no text": b"\xff\xfe",
    }
    kept.write_bytes(contents[damage])
    before = files(tmp_path)

    assert published(tmp_path, rows(units=7), minute=2)

    assert files(tmp_path) >= before
    assert str(kept) in caplog.text
    assert read_rows(tmp_path)["units_sold"].iloc[0] == 7


def test_what_cannot_be_swept_hides_no_error_of_the_run(tmp_path: Path) -> None:
    published(tmp_path, rows())
    (tmp_path / MANIFEST).with_name(FORMER).mkdir()
    (tmp_path / FORMER / "20260301T0-a.json").write_text("{")

    with pytest.raises(ZeroDivisionError), Store(tmp_path).draft():
        raise ZeroDivisionError


def test_a_kept_manifest_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published(tmp_path, rows())

    def half(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:50])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", half)
    with pytest.raises(SourceError, match="No space left"):
        published(tmp_path, rows(units=9), minute=1)

    assert list((tmp_path / FORMER).iterdir()) == []


def change(kind: Any, day: str) -> Change:
    first = dt.date.fromisoformat(day)
    return Change(kind=kind, rows=1, first_day=first, last_day=first, products=1)


@pytest.fixture
def history(tmp_path: Path) -> list[Manifest]:
    """Manifests of five nights."""
    nights = [["new", "2025-01-01"], ["late", "2026-02-03"], ["new", "2026-03-01"], ["corrected", "2026-02-01"], []]
    made = []
    for minute, night in enumerate(nights):
        with Store(tmp_path).draft() as draft:
            draft.put_rows("2026-03/0", rows(units=minute))
            found = manifest(draft, minute=minute)
            made.append(found.model_copy(update={"changes": [change(*night)] if night else []}))
            draft.publish(made[-1])
    return made


@pytest.mark.parametrize(
    ("known", "now", "day"),
    [(0, 4, "2026-02-01"), (0, 2, "2026-02-03"), (1, 2, None), (3, 4, None), (2, 3, "2026-02-01"), (4, 4, None)],
)
def test_the_earliest_change_between_two_manifests_is_found(
    tmp_path: Path, history: list[Manifest], known: int, now: int, day: str | None
) -> None:
    found = corrected_since(tmp_path, known=history[known].lineage(), now=history[now].lineage())

    assert found == (day and dt.date.fromisoformat(day))


def test_changes_are_found_beside_a_damaged_manifest_and_from_a_manifest_that_is_no_longer_kept(
    tmp_path: Path, history: list[Manifest], caplog: pytest.LogCaptureFixture
) -> None:
    paths = sorted((tmp_path / FORMER).iterdir())
    paths[0].unlink()
    paths[3].write_text("{")

    found = corrected_since(tmp_path, known=history[0].lineage(), now=history[4].lineage())

    assert found == dt.date(2026, 2, 3)
    assert str(paths[3]) in caplog.text
    assert corrected_since(tmp_path, known=history[0].lineage(), now={"manifest": "other", "etl_run_id": "x"}) is None
    assert corrected_since(tmp_path, known={}, now=history[4].lineage()) is None


def test_former_manifests_are_bounded(tmp_path: Path) -> None:
    for minute in range(KEPT + 5):
        published(tmp_path, rows(units=minute), minute=minute)

    assert len(list((tmp_path / FORMER).iterdir())) == KEPT
    assert len(list((tmp_path / "rows").rglob("*.parquet"))) == KEPT + 1


def test_an_emptied_partition_is_gone(tmp_path: Path) -> None:
    published(tmp_path, rows())

    with Store(tmp_path).draft() as draft:
        draft.put_rows("2026-04/0", rows("2026-04-01"))
        draft.put_rows("2026-03/0", rows()[:0])
        draft.publish(manifest(draft, minute=1))

    assert read_rows(tmp_path)["date"].min() == pd.Timestamp("2026-04-01")


@pytest.mark.parametrize("what", ["missing", "truncated", "fewer rows"])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, what: str) -> None:
    published(tmp_path, rows())
    path = tmp_path / read_manifest(tmp_path).rows["2026-03/0"].file
    if what == "missing":
        path.unlink()
    elif what == "truncated":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        rows()[:2].to_parquet(path)

    with pytest.raises(SourceError, match=r"0\.[0-9a-f]+\.parquet: .*move the folder away"):
        read_rows(tmp_path)


@pytest.mark.parametrize("damage", ["no json", "other format", "path"])
def test_a_damaged_manifest_is_refused_and_reads_nothing_it_should_not(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "home" / "sources"
    published(folder, rows())
    rows().to_parquet(tmp_path / "secret.aa.parquet")
    path = folder / MANIFEST
    known: dict[str, Any] = json.loads(path.read_text())
    if damage == "no json":
        path.write_text(path.read_text()[:100])
    elif damage == "other format":
        path.write_text(json.dumps({**known, "format": 2}))
    else:
        known["rows"]["2026-03/0"]["file"] = "../../secret.aa.parquet"
        path.write_text(json.dumps(known))

    with pytest.raises(SourceError, match="is damaged or of another format"):
        read_rows(folder)


def test_a_folder_without_a_manifest_says_what_makes_one(tmp_path: Path) -> None:
    assert not has_manifest(tmp_path)
    with pytest.raises(SourceError, match="run etl with --sales sources"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "other",
    [
        rows().assign(units_sold=[3, 2, 1, 4.5]),
        rows().assign(units_sold=[3, 2, 1, np.nan]),
        rows()[::-1],
        rows().assign(product_id=["P1", "P1", "P1", None]),
        rows().rename(columns={"price": "list_price"}),
        rows().assign(date=rows()["date"] + pd.Timedelta(days=1)),
    ],
    ids=["value", "missing", "order", "text", "name", "date"],
)
def test_any_other_value_is_another_fingerprint(tmp_path: Path, other: pd.DataFrame) -> None:
    with Store(tmp_path).draft() as draft:
        draft.put_rows("2026-03/0", rows())
        assert draft.put_rows("2026-03/0", other)
        assert not draft.put_rows("2026-03/0", other.copy())
