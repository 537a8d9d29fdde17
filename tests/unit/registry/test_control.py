"""The control table decides what is in force; its mirror outlives it and is never overwritten by less."""

import datetime as dt
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pricing.decision.experiments import Arm, Experiment
from pricing.decision.switches import NO_CONTROL, Control, Switch, Switches, Unfreeze, parse_control
from pricing.errors import ConfigError, RegistryError, SourceError
from pricing.objects import FolderStore
from pricing.registry.control import ControlRecord, known_control
from tests.kit import control as kit

NOW = dt.datetime(2026, 3, 2, 8, tzinfo=dt.UTC)
KEY = "shop/control.json"


def freeze(name: str = "tea", **more: Any) -> Switch:
    return kit.freeze("product", name, by="ann", **more)


def unfreeze(name: str = "tea") -> Unfreeze:
    return Unfreeze(scope="product", name=name, reason="mended", by="bob", at=NOW)


def experiment(name: str, *products: str) -> Experiment:
    arms = (Arm("keep", share=0.1),)
    return Experiment(name, dt.date(2026, 3, 2), None, arms, dict.fromkeys(products, "keep"))


def plan(record: ControlRecord, one: Experiment) -> Experiment:
    return record.append_experiment(one.name, lambda known: known.plus(one), who="ann", at=NOW)


def frozen(control: Control) -> set[str]:
    return {one.name for one in control.switches}


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "published")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/new/pricing.db"


@pytest.fixture
def record(url: str, store: FolderStore) -> ControlRecord:
    return ControlRecord(url, model="shop", store=store)


def insert(tmp_path: Path, kind: str, body: str) -> None:
    """As a hand in the database would."""
    with closing(sqlite3.connect(tmp_path / "new" / "pricing.db")) as database, database:
        last = database.execute("SELECT max(sequence) FROM pricing_control").fetchone()[0]
        values = ("shop", last + 1, "2026-03-02", "eve", kind, body)
        database.execute(
            "INSERT INTO pricing_control (model, sequence, at, who, kind, body) VALUES (?,?,?,?,?,?)", values
        )


def test_the_last_entry_of_each_switch_and_experiment_counts_and_all_stay_on_record(record: ControlRecord) -> None:
    record.append(freeze("tea"))
    record.append(freeze("jam", until=NOW + dt.timedelta(hours=1)))
    plan(record, experiment("spring", "rye"))
    record.append(unfreeze("tea"))
    day = dt.date(2026, 3, 20)
    record.append_experiment("spring", lambda known: known.ended("spring", after=day), who="bob", at=NOW)

    control, later = record.control(at=NOW), record.control(at=NOW + dt.timedelta(hours=1))

    assert (frozen(control), frozen(later), control.entries, control.unread) == ({"jam"}, set(), 5, ())
    assert [(one.name, one.end) for one in control.experiments.every] == [("spring", day)]
    assert [(one.who, one.kind) for one in record.entries()] == [
        ("ann", "switch"), ("ann", "switch"), ("ann", "experiment"), ("bob", "unfreeze"), ("bob", "experiment"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("switch", "{half"),
        ("explode", "{}"),
        ("experiment", '{"name": "spring", "start": "2026-03-03", "weeks": 1, "arms": [], "products": {}}'),
    ],
)
def test_a_row_that_cannot_be_read_is_named_and_disarms_no_other(
    record: ControlRecord, tmp_path: Path, kind: str, body: str
) -> None:
    record.append(freeze("tea"))
    plan(record, experiment("spring", "rye"))
    insert(tmp_path, kind, body)
    record.append(freeze("jam"))
    plan(record, experiment("summer", "oat"))

    control = record.control()

    assert frozen(control) == {"tea", "jam"}
    assert [one.name for one in control.experiments.every] == ["spring", "summer"]
    assert (len(control.unread), control.entries) == (1, 5)
    with pytest.raises(ConfigError):
        plan(record, experiment("autumn", "oat"))  # has a product of another one, and writes nothing
    with closing(sqlite3.connect(tmp_path / "new" / "pricing.db")) as database, pytest.raises(sqlite3.Error):
        database.execute("DELETE FROM pricing_control")
    assert record.control().to_json() == control.to_json()


def test_the_mirror_is_what_the_table_says_and_is_written_where_that_has_changed_or_it_is_damaged(
    record: ControlRecord, store: FolderStore, url: str, tmp_path: Path
) -> None:
    nothing = (record.mirror(now=NOW).to_json(), store.get(KEY), (tmp_path / "new").exists())
    record.append(freeze("tea", until=NOW + dt.timedelta(hours=1)))
    record.append(freeze("jam"))
    plan(record, experiment("spring", "rye"))
    record.mirror(now=NOW)
    both = parse_control(store.get(KEY) or b"")
    store.put(KEY, b"{half")
    record.mirror(now=NOW + dt.timedelta(hours=1))

    assert nothing == (NO_CONTROL.to_json(), None, False)
    assert ControlRecord(url, model="other", store=store).entries() == []
    assert (frozen(both), both.entries) == ({"tea", "jam"}, 3)
    assert both.experiments == record.control().experiments
    assert frozen(parse_control(store.get(KEY) or b"")) == {"jam"}


@pytest.mark.parametrize("fate", ["moved", "emptied", "restored"])
def test_a_table_that_lost_entries_is_away_and_nothing_is_overwritten(
    record: ControlRecord, store: FolderStore, url: str, tmp_path: Path, fate: str
) -> None:
    file = tmp_path / "new" / "pricing.db"
    record.append(freeze("tea"))
    copy = file.read_bytes()
    record.append(freeze("jam"))
    record.mirror(now=NOW)
    kept = store.get(KEY)
    whole = file.read_bytes()
    if fate == "restored":
        file.write_bytes(copy)
    else:
        file.unlink()
        if fate == "emptied":
            sqlite3.connect(file).close()

    for act in (
        record.control,
        lambda: record.mirror(now=NOW),
        lambda: record.append(freeze("rye")),
        lambda: plan(record, experiment("spring", "oat")),
    ):
        with pytest.raises(RegistryError):
            act()
    while_away = known_control("shop", url=url, store=store)

    assert store.get(KEY) == kept
    assert frozen(while_away) == {"tea", "jam"}
    assert fate != "moved" or not file.exists()
    file.write_bytes(whole)
    record.append(freeze("rye"))
    assert frozen(record.mirror(now=NOW)) == {"tea", "jam", "rye"}


def test_switches_that_a_restored_table_lacks_are_named(record: ControlRecord, tmp_path: Path) -> None:
    file = tmp_path / "new" / "pricing.db"
    record.append(freeze("tea"))
    copy = file.read_bytes()
    record.append(freeze("jam\nrye"), freeze("oat"))
    record.mirror(now=NOW)
    file.write_bytes(copy)

    with pytest.raises(RegistryError) as caught:
        record.append(freeze("rye"))

    found = str(caught.value)
    assert [name in found for name in ("product jam\\nrye", "product oat", "tea", "\n")] == [True, True, False, False]


def test_while_the_database_is_away_a_job_takes_what_was_published_last(tmp_path: Path, store: FolderStore) -> None:
    away = f"sqlite:///{tmp_path}/pricing.db"
    (tmp_path / "pricing.db").write_text("this is no database at all, but text")
    with pytest.raises(RegistryError):
        known_control("shop", url=away, store=store)
    ended = freeze("jam", until=NOW)
    store.put(KEY, Control(Switches([freeze(), ended]), sequence=3).to_json())

    control = known_control("shop", url=away, store=store, at=NOW)

    assert (frozen(control), control.sequence) == ({"tea"}, 3)


def test_a_freeze_made_while_the_database_is_away_counts_at_once_and_is_recorded_when_it_is_back(
    record: ControlRecord, store: FolderStore, url: str, tmp_path: Path
) -> None:
    file = tmp_path / "new" / "pricing.db"
    record.append(freeze("tea"))
    record.mirror(now=NOW)
    published = parse_control(store.get(KEY) or b"")
    file.rename(tmp_path / "away.db")

    record.freeze_unrecorded(freeze("jam"), now=NOW - dt.timedelta(hours=1))

    during = parse_control(store.get(KEY) or b"")
    assert (frozen(during), during.sequence) == ({"tea", "jam"}, published.sequence + 1)
    (tmp_path / "away.db").rename(file)
    assert frozen(known_control("shop", url=url, store=store)) == {"tea", "jam"}, (
        "jobs keep to it before it is recorded"
    )
    record.append(freeze("rye"))
    record.mirror(now=NOW)
    record.mirror(now=NOW)
    after = parse_control(store.get(KEY) or b"")
    assert (frozen(after), after.unrecorded, after.sequence) == ({"tea", "jam", "rye"}, (), during.sequence + 1)
    assert [entry.read().name for entry in record.entries()] == ["tea", "jam", "rye"]  # type: ignore[union-attr]
    record.append(unfreeze("jam"))
    assert frozen(record.mirror(now=NOW)) == {"tea", "rye"}


def test_what_was_recorded_and_not_published_by_a_crash_is_recorded_once(
    record: ControlRecord, store: FolderStore
) -> None:
    record.freeze_unrecorded(freeze("jam"), now=NOW)
    unrecorded = store.get(KEY) or b""
    record.mirror(now=NOW)
    store.put(KEY, unrecorded)

    record.mirror(now=NOW)

    assert [entry.kind for entry in record.entries()] == ["switch"]
    once = parse_control(store.get(KEY) or b"")
    assert once.unrecorded == ()
    record.mirror(now=NOW, again=True)
    assert parse_control(store.get(KEY) or b"").sequence > once.sequence


def test_a_document_that_cannot_be_read_to_its_end_takes_no_freeze(record: ControlRecord, store: FolderStore) -> None:
    content = Control().to_json().replace(b'"switches": []', b'"switches": [{"action": "explode"}]')
    store.put(KEY, content)

    with pytest.raises(SourceError):
        record.freeze_unrecorded(freeze(), now=NOW)

    assert store.get(KEY) == content


def test_a_store_that_is_away_keeps_no_freeze_from_the_table(url: str, tmp_path: Path) -> None:
    (tmp_path / "published").write_text("a file in the way")
    record = ControlRecord(url, model="shop", store=FolderStore(tmp_path / "published"))

    record.append(freeze())

    with pytest.raises(SourceError):
        record.mirror(now=NOW)
    assert frozen(record.control()) == {"tea"}
