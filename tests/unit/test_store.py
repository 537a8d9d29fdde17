"""The folder of tables: files that never change, a manifest that is switched at once."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pricing.config import load_config
from pricing.data.load import load_panel_from
from pricing.data.manifest import MANIFEST, Manifest, has_manifest, read_manifest, read_rows
from pricing.data.panel import load_panel, save_panel
from pricing.data.source import read_sales
from pricing.errors import SourceError
from pricing.sources.store import FORMER, KEPT, Draft, Store


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

    with pytest.raises(SourceError, match=r"0\.[0-9a-f]+\.parquet: .*run etl with --full true"):
        read_rows(tmp_path)


@pytest.mark.parametrize("damage", ["no json", "other format", "path"])
def test_a_damaged_manifest_is_refused_and_reads_nothing_it_should_not(tmp_path: Path, damage: str) -> None:
    published(tmp_path, rows())
    path = tmp_path / MANIFEST
    known: dict[str, Any] = json.loads(path.read_text())
    if damage == "no json":
        path.write_text(path.read_text()[:100])
    elif damage == "other format":
        path.write_text(json.dumps({**known, "format": 2}))
    else:
        known["rows"]["2026-03/0"]["file"] = "../../secret.aa.parquet"
        path.write_text(json.dumps(known))

    with pytest.raises(SourceError, match="is damaged or of another format"):
        read_rows(tmp_path)


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
