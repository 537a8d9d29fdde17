"""The commands freeze, override and unfreeze: what they write, publish and refuse."""

import datetime as dt
import os
from pathlib import Path

import pytest

from pipelines import freeze, override, unfreeze
from pipelines.history import of_prices
from pricing.config import load_config
from pricing.decision.switches import Control, parse_control
from pricing.errors import EXIT_NOT_PUBLISHED
from pricing.objects import FolderStore
from pricing.registry.control import ControlRecord
from pricing.registry.published_store import Pointer, PublishedVersion, pointer_key, put_version
from pricing.registry.version import load
from tests.kit.versions import loaded_version, shared_version

NOW = dt.datetime(2023, 8, 1, 12, tzinfo=dt.UTC)
JOBS = {"freeze": freeze.main, "override": override.main, "unfreeze": unfreeze.main}


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PRICING_DATABASE_URL", f"sqlite:///{tmp_path}/new/shared.db")
    monkeypatch.setenv("PRICING_PUBLISHED", str(tmp_path / "published"))
    monkeypatch.delenv("PRICING_CONFIG", raising=False)
    monkeypatch.setenv("PRICING_ACTOR", "ada@ops")
    return os.environ["PRICING_DATABASE_URL"]


def run(action: str, *words: str) -> int:
    return JOBS[action](words, now=lambda: NOW)


def record(url: str) -> ControlRecord:
    return ControlRecord(url, model="pricing", store=FolderStore(Path(os.environ["PRICING_PUBLISHED"])))


def control(url: str) -> Control:
    return record(url).control()


def test_what_is_frozen_given_and_ended_is_on_record_and_published(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("freeze", "--all", "--reason", "wrong costs")
    run("override", "--product", "tea", "--price", "0.07", "--until", "2023-08-02T08:00", "--reason", "deal", "--force")
    run("freeze", "--category", "drinks", "--until", "2023-08-01T20:00+00:00", "--reason", "feed")
    run("unfreeze", "--all", "--reason", "mended")
    capsys.readouterr()
    run("freeze", "--list")

    entries = record(url).entries()
    mirrored = parse_control((tmp_path / "published" / "pricing" / "control.json").read_bytes())
    assert [(one.who, one.kind) for one in entries] == [
        ("ada@ops", "switch"), ("ada@ops", "switch"), ("ada@ops", "switch"), ("ada@ops", "unfreeze"),
    ]  # fmt: skip
    assert [(one.action, one.name, one.price, one.below_cost) for one in mirrored.switches] == [
        ("override", "tea", 0.07, True), ("freeze", "drinks", None, False),
    ]  # fmt: skip
    assert capsys.readouterr().out.count("ada@ops") == 2
    told = list(of_prices(load_config(), everything=True))
    assert [line.split()[1] for line in told[1:]] == 4 * ["ada@ops:"]


@pytest.mark.parametrize(
    ("zone", "until", "end"),
    [
        ("America/New_York", "2023-11-05", "2023-11-06T05:00+00:00"),  # a day of 25 hours
        ("America/New_York", "2023-11-05T00:00+00:00", "2023-11-05T00:00+00:00"),
        ("null", "2023-11-05", "2023-11-06T00:00+00:00"),
        ("Europe/Berlin", "2023-08-01", "2023-08-01T22:00+00:00"),  # today
    ],
)
def test_a_bare_day_counts_to_its_end_where_the_shop_is(
    url: str, tmp_path: Path, zone: str, until: str, end: str
) -> None:
    (tmp_path / "mine.yaml").write_text(f"time_zone: {zone}")
    common = ("--until", until, "--reason", "fair", "--config", str(tmp_path / "mine.yaml"))

    run("freeze", "--all", *common)
    run("override", "--product", "tea", "--price", "5", *common)

    assert [one.until for one in control(url).switches] == [dt.datetime.fromisoformat(end)] * 2


def test_what_people_typed_is_listed_without_what_a_terminal_obeys(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run("freeze", "--product", "tea\x1b[2J", "--reason", "wrong \u202ecosts\nIn force: nothing")
    capsys.readouterr()

    run("freeze", "--list")

    listed = [*capsys.readouterr().out.splitlines(), *of_prices(load_config(), everything=True)]
    assert len([line for line in listed if "tea" in line]) == 2
    assert all(line.replace("\n", "").isprintable() for line in listed)


def publish_version(folder: Path) -> None:
    store = FolderStore(folder / "published")
    version = PublishedVersion("7", load(shared_version()).meta["checksum"])
    put_version(store, version, model="pricing", folder=shared_version())
    store.put(pointer_key("pricing"), Pointer("pricing", 1, version).to_json())


@pytest.mark.parametrize(
    "words", [("--product", "p00001"), ("--product", "socks"), ("--category", "Toiletry"), ("--category", "")]
)
def test_a_typing_error_freezes_nothing(url: str, tmp_path: Path, words: tuple[str, ...]) -> None:
    publish_version(tmp_path)

    assert run("freeze", *words, "--reason", "wrong costs") == 2

    assert not control(url).switches
    category = str(loaded_version().facts.categories[0])
    assert run("freeze", "--product", "P00001", "--reason", "wrong costs") == 0
    assert run("freeze", "--category", category, "--reason", "wrong costs") == 0


def test_while_the_table_is_away_what_was_published_last_is_listed(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("freeze", "--product", "tea", "--reason", "wrong costs")
    (tmp_path / "new" / "shared.db").unlink()
    capsys.readouterr()

    assert run("freeze", "--list") == 0

    assert "freeze of product tea" in capsys.readouterr().out
    assert run("freeze", "--product", "jam", "--reason", "wrong costs") == 2
    mirrored = parse_control((tmp_path / "published" / "pricing" / "control.json").read_bytes())
    assert [one.name for one in mirrored.switches] == ["tea"]
    assert run("freeze", "--all", "--reason", "wrong costs", "--now") == 0
    mirrored = parse_control((tmp_path / "published" / "pricing" / "control.json").read_bytes())
    assert [one.whose for one in mirrored.switches] == ["product tea", "everything"]
    assert not (tmp_path / "new" / "shared.db").exists()


@pytest.mark.parametrize(
    "words",
    [
        "freeze --reason x",
        "freeze --all --product tea --reason x",
        "freeze --all",
        "freeze --all --reason x --until 2023-07-01T08:00",
        "freeze --all --reason x --until 2023-07-31",
        "freeze --all --reason x --until soon",
        "freeze --all --reason x --until 0001-01-01T00:00+14:00",
        "freeze --all --reason x --until 9999-12-31",
        "freeze --all --reason x --price 5",
        "override --product tea --price 5 --reason x",
        "override --product tea --until 2023-08-02T08:00 --reason x",
        "override --product tea --price -5 --until 2023-08-02T08:00 --reason x",
        "override --product tea --category drinks --price 5 --until 2023-08-02T08:00 --reason x --force",
        "unfreeze --product tea --reason x",
    ],
)
def test_a_command_that_does_not_say_what_to_do_changes_nothing(url: str, words: str, tmp_path: Path) -> None:
    action, *rest = words.split()

    assert run(action, *rest) == 2

    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "published").exists()


def test_a_freeze_counts_though_the_store_is_away_and_its_exit_code_says_so(url: str, tmp_path: Path) -> None:
    (tmp_path / "published").write_text("a file in the way")

    code = run("freeze", "--product", "tea", "--reason", "wrong costs")

    assert code == EXIT_NOT_PUBLISHED
    assert [one.name for one in control(url).switches] == ["tea"]
