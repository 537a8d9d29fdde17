"""The follower's faults: whatever becomes of store, disk, pointer or version, the last good version answers."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from pricing.decision.switches import Control, Switches, parse_control
from pricing.errors import SourceError
from pricing.registry.published_store import BAKED, control_key, pointer_key, versions_prefix
from serving.follower import RETRY_SECONDS, Follower
from serving.settings import Settings
from tests.kit.control import freeze
from tests.kit.serving import MODEL, publish, settings_in
from tests.kit.versions import raise_prices, shared_version

FROZEN = Control(Switches([freeze()])).to_json()


def offer(settings: Settings, number: str, **more: Any) -> None:
    """Publishes version 7, or under another number a version of other weights."""
    publish(settings.published, shared_version() if number == "7" else shared_version(2), version=number, **more)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A version 7 is published."""
    found = settings_in(tmp_path)
    offer(found, "7")
    return found


def started(settings: Settings, *, looks: int = 1, clock: Callable[[], float] = lambda: 1000.0) -> Follower:
    found = Follower(settings, clock=clock)
    for _ in range(looks):
        found.look()
    return found


def served(follower: Follower) -> tuple[str, str]:
    return follower.current.champion.name, follower.following.state


def versions(settings: Settings) -> Path:
    return settings.home / "serving" / versions_prefix(MODEL)


def published(settings: Settings, key: str = "") -> Path:
    return Path(settings.published) / (key or pointer_key(MODEL))


def own(settings: Settings, key: str = "") -> Path:
    return settings.home / "serving" / (key or pointer_key(MODEL))


def take_away(settings: Settings) -> Path:
    """Puts a file where the store was, so that nothing can be read there; returns where the store is now."""
    away = Path(settings.published).rename(settings.home / "away")
    Path(settings.published).write_text("no store")
    return away


def control(settings: Settings, content: bytes) -> None:
    published(settings, control_key(MODEL)).write_bytes(content)


def freeze_all(settings: Settings) -> None:
    control(settings, FROZEN)


def frozen(follower: Follower) -> bool:
    return [one.action for one in follower.current.control.switches] == ["freeze"]


def damage(folder: Path) -> None:
    (array,) = folder.rglob("products/list_price.npy")
    array.write_bytes(array.read_bytes()[:-1] + b"\x7f")


def test_what_is_published_is_served_and_a_new_version_replaces_it_at_the_next_look(settings: Settings) -> None:
    follower = started(settings)
    first, current = served(follower), follower.current
    (versions(settings) / ".8-0123456789abcdef.aa.partial").mkdir()
    follower.look()
    unchanged = follower.current
    offer(settings, "8", challenger=("7", shared_version()))

    follower.look()

    assert unchanged is current
    assert first == ("7", "following")
    assert served(follower) == ("8", "following")
    assert follower.current.challenger is current.champion
    assert {path.name.split("-")[0] for path in versions(settings).iterdir()} == {"7", "8"}


def test_a_challenger_that_cannot_be_fetched_costs_the_champion_nothing(settings: Settings) -> None:
    offer(settings, "8", challenger=("9", shared_version(3)))
    shutil.rmtree(next(published(settings, versions_prefix(MODEL)).glob("9-*")))

    follower = started(settings)

    assert served(follower) == ("8", "following")
    assert follower.current.challenger is None


def test_a_restart_while_the_store_is_away_serves_the_last_good_version_at_once(settings: Settings) -> None:
    freeze_all(settings)
    started(settings)
    away = take_away(settings)

    restarted = started(settings, looks=0)
    at_once = served(restarted), frozen(restarted)
    restarted.look()
    later = served(restarted)
    Path(settings.published).unlink()
    away.rename(settings.published)
    offer(settings, "8")
    restarted.look()

    assert at_once == (("7", "starting"), True)
    assert later == ("7", "unreachable")
    assert served(restarted) == ("8", "following")


@pytest.mark.parametrize("content", [None, b"{half", b"[" * 100_000])
def test_a_damaged_or_deleted_pointer_changes_nothing_and_is_healed_by_the_next(
    settings: Settings, content: bytes | None
) -> None:
    follower, whole = started(settings), published(settings).read_bytes()
    published(settings).unlink()
    if content is not None:
        published(settings).write_bytes(content)
    follower.look()
    during = served(follower)
    published(settings).write_bytes(whole)
    follower.look()

    assert during == ("7", "none" if content is None else "refused")
    assert served(follower) == ("7", "following")


@pytest.mark.parametrize("fault", ["damaged", "another version", "documents"])
def test_what_is_wrong_on_its_disk_is_fetched_anew_at_the_next_start(settings: Settings, fault: str) -> None:
    freeze_all(settings)
    started(settings)
    keys = (pointer_key(MODEL), control_key(MODEL)) if fault == "documents" else ()
    for key in keys:
        own(settings, key).write_bytes(b"{half")
    if fault == "damaged":
        damage(versions(settings))
    elif fault == "another version":
        (folder,) = versions(settings).iterdir()
        shutil.rmtree(folder)
        shutil.copytree(shared_version(2), folder)

    follower = started(settings, looks=0)
    assert follower.current.champion.name == "none"
    follower.look()

    assert (served(follower), frozen(follower)) == (("7", "following"), True)
    assert [own(settings, key).read_bytes() for key in keys] == [published(settings, key).read_bytes() for key in keys]
    assert follower.current.champion.version is not None
    follower.current.champion.version.verify()
    take_away(settings)
    assert started(settings, looks=0).current.champion.name == "7"


def test_a_published_version_that_is_damaged_is_refused_by_name_and_the_last_good_goes_on(settings: Settings) -> None:
    clock = Mock(return_value=1000.0)
    follower = started(settings, clock=clock)
    offer(settings, "8")
    bad = next(published(settings, versions_prefix(MODEL)).glob("8-*"))
    shutil.copytree(bad, bad.with_name("whole"))
    damage(bad)
    freeze_all(settings)
    follower.look()
    during, refused = served(follower), list(follower.following.refused)
    frozen_meanwhile = frozen(follower)
    shutil.rmtree(bad)
    bad.with_name("whole").rename(bad)
    follower.look()
    soon = served(follower)
    clock.return_value += RETRY_SECONDS
    follower.look()

    assert during == soon == ("7", "refused")
    assert refused == ["8"]
    assert frozen_meanwhile
    assert served(follower) == ("8", "following")


@pytest.mark.parametrize("what", ["pipe", "size"])
@pytest.mark.parametrize("of", [pointer_key, control_key])
def test_a_pipe_or_a_document_of_any_size_in_the_store_holds_up_no_task(
    settings: Settings, of: Callable[[str], str], what: str
) -> None:
    freeze_all(settings)
    follower = started(settings)
    path = published(settings, of(MODEL))
    whole = path.read_bytes()
    path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    else:
        with path.open("wb") as file:
            file.truncate(600_000_000)

    follower.look()

    assert served(follower) == ("7", "unreachable")
    assert frozen(follower)
    path.unlink()
    path.write_bytes(whole)
    follower.look()
    assert served(follower) == ("7", "following")


def test_what_nobody_foresaw_ends_no_following_and_is_counted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class UnforeseenError(Exception):
        pass

    follower = started(settings)
    offer(settings, "8")
    with monkeypatch.context() as patch:
        patch.setattr("serving.follower.load", Mock(side_effect=UnforeseenError))
        follower.look()
        follower.look()
    during = served(follower), follower.failures, sum(record.exc_info is not None for record in caplog.records)
    follower.look()

    assert during == (("7", "refused"), 2, 1)
    assert served(follower) == ("8", "following")


@pytest.mark.parametrize("fault", [MemoryError(), KeyError("x"), None], ids=str)
def test_whatever_a_version_makes_of_the_code_that_reads_it_or_answers_otherwise_the_last_good_goes_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, fault: Exception | None
) -> None:
    follower = started(settings)
    offer(settings, "8")
    if fault is None:
        raise_prices(monkeypatch)
    else:
        monkeypatch.setattr("serving.follower.load", Mock(side_effect=fault))
    follower.look()

    assert served(follower) == ("7", "refused")
    assert list(follower.following.refused) == ["8"]


def test_a_lower_sequence_is_refused_even_after_a_restart(settings: Settings) -> None:
    offer(settings, "8", sequence=9)
    started(settings)
    offer(settings, "7", sequence=8)

    follower = started(settings)

    assert served(follower) == ("8", "refused")
    offer(settings, "7", sequence=10)
    follower.look()
    assert served(follower) == ("7", "following")


def test_a_control_of_lower_sequence_ends_no_freeze_even_after_a_restart(settings: Settings) -> None:
    control(settings, replace(parse_control(FROZEN), sequence=9).to_json())
    started(settings)
    control(settings, Control(sequence=8).to_json())

    follower = started(settings)
    during = frozen(follower)
    control(settings, Control(sequence=9).to_json())
    follower.look()

    assert during
    assert not frozen(follower)


def bake(settings: Settings) -> None:
    publish(str(settings.home / BAKED), shared_version(2), version="3", sequence=50)


def test_the_baked_version_answers_where_no_pointer_can_be_read(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    bake(settings)
    published(settings).parent.mkdir(parents=True)
    published(settings).write_bytes(b"{half")
    follower = started(settings)
    baked = served(follower)
    published(settings).unlink()
    offer(settings, "3", sequence=1)  # the same one, and a freeze
    freeze_all(settings)
    follower.look()
    same = served(follower), frozen(follower)
    offer(settings, "7", sequence=2)
    follower.look()

    assert baked == ("3", "refused")
    assert same == (("3", "following"), True)
    assert served(follower) == ("7", "following")


def test_a_disk_that_takes_no_document_leaves_what_is_served(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pricing.objects.FolderStore.put", Mock(side_effect=SourceError("No space left on device")))

    assert served(started(settings)) == ("7", "following")


def test_no_version_answers_in_a_new_task_until_it_knows_what_persons_have_set(settings: Settings) -> None:
    bake(settings)
    control(settings, b"{half")

    follower = started(settings)
    before = served(follower)
    freeze_all(settings)
    follower.look()

    assert before == ("none", "refused")
    assert (served(follower), frozen(follower)) == (("7", "following"), True)


@pytest.mark.parametrize("content", [None, b"{half", b'{"format": 2}'])
def test_whatever_becomes_of_the_control_what_was_known_stays_in_force(
    settings: Settings, content: bytes | None
) -> None:
    follower = started(settings)
    freeze_all(settings)
    follower.look()
    if content is None:
        published(settings, control_key(MODEL)).unlink()
    else:
        control(settings, content)
    follower.look()
    during = frozen(follower)
    control(settings, Control().to_json())
    follower.look()

    assert during
    assert not frozen(follower)


def test_a_freeze_that_can_no_longer_be_read_stays_and_another_unread_entry_disarms_none(settings: Settings) -> None:
    follower, document = started(settings), json.loads(FROZEN)
    control(settings, json.dumps(document).encode())
    follower.look()
    document["switches"][0]["a later field"] = True
    document["switches"].append({"action": "explode"})
    control(settings, json.dumps(document).encode())
    follower.look()

    assert frozen(follower)
    assert len(follower.current.control.unread) == 2
