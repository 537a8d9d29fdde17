"""What serving follows is what the aliases name: verified, whole, and of a sequence that only rises."""

import datetime as dt
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.publish import follow
from pricing.decision.control import NO_CONTROL, Control
from pricing.decision.experiments import Arm, Experiment, Experiments
from pricing.errors import PricingError, SourceError, VersionError
from pricing.objects import FolderStore
from pricing.registry import CHAMPION
from pricing.registry.audit import Audit
from pricing.registry.promotion import PromotionRequest, move
from pricing.registry.publish import KEPT, champion_is_published, publish
from pricing.registry.published import (
    Pointer,
    PublishedVersion,
    fetch_version,
    parse_pointer,
    pointer_key,
    versions_prefix,
    whole,
)
from pricing.registry.version import load
from tests.kit.promotions import PackedRegistry

NOW = dt.datetime(2026, 3, 2, 8, tzinfo=dt.UTC)


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[Audit]:
    record = Audit(f"sqlite:///{tmp_path / 'pricing.db'}")
    yield record
    record.close()


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "published")


@pytest.fixture
def registry(audit: Audit) -> PackedRegistry:
    made = PackedRegistry()
    promote(made, audit, "1")
    return made


def promote(registry: PackedRegistry, audit: Audit, to: str, action: Any = "promote") -> None:
    expected = registry.pointed.get(CHAMPION)
    move(registry, audit, PromotionRequest(action, to, expected, who="ann", at="2026-03-02", why="x"))


def run(
    registry: PackedRegistry,
    audit: Audit,
    store: FolderStore,
    *,
    tried: Control = NO_CONTROL,
    now: dt.datetime = NOW,
    **more: Any,
) -> Any:
    return publish(registry, audit, store, control=lambda: tried, now=now, who="ann", **more)


def pointer(store: FolderStore) -> Pointer:
    return parse_pointer(store.get(pointer_key("shop")) or b"", model="shop")


def tries(number: str, *, weeks: int | None = None) -> Control:
    arms = (Arm("challenger", share=0.5, of=number), Arm("rule", share=0.5))
    one = Experiment("spring", dt.date(2026, 2, 2), weeks, arms, products={"tea": "rule"})
    return Control(experiments=Experiments((one,)))


def put_folders(store: FolderStore, *numbers: int, model: str = "shop") -> list[str]:
    keys = [f"{versions_prefix(model)}{number}-{'0' * 16}/version.json" for number in numbers]
    for key in keys:
        store.put(key, b"{}")
    return keys


def test_what_is_published_can_be_fetched_and_prices(
    registry: PackedRegistry, audit: Audit, store: FolderStore, tmp_path: Path
) -> None:
    before = champion_is_published(registry, store)

    found = run(registry, audit, store)

    assert not before
    assert champion_is_published(registry, store)
    assert found == pointer(store)
    assert (found.champion.number, found.previous, found.arms) == ("1", None, ())
    fetch_version(store, found.champion, model="shop", folder=tmp_path / "fetched")
    assert load(tmp_path / "fetched").verify().requests > 0
    assert not any("/refresh/" in key for key in store.keys(""))


def test_a_rollback_is_published_with_a_higher_sequence(
    registry: PackedRegistry, audit: Audit, store: FolderStore
) -> None:
    found = [run(registry, audit, store)]
    for to, action in (("4", "promote"), ("1", "rollback")):
        promote(registry, audit, to, action)
        found.append(run(registry, audit, store))

    assert [one.champion.number for one in found] == ["1", "4", "1"]
    assert [one.previous and one.previous.number for one in found] == [None, "1", "4"]
    assert found[0].sequence < found[1].sequence < found[2].sequence


def test_an_alias_that_was_moved_by_hand_is_recorded_and_published(
    registry: PackedRegistry, audit: Audit, store: FolderStore
) -> None:
    before = run(registry, audit, store)
    registry.pointed[CHAMPION] = "4"
    unpublished = champion_is_published(registry, store)

    found = run(registry, audit, store)

    assert not unpublished
    assert found.champion.number == "4"
    assert found.sequence > before.sequence
    assert audit.entries("pricing@1")[-1].action == "by_hand"


def test_without_a_champion_what_was_published_stays(
    registry: PackedRegistry, audit: Audit, store: FolderStore
) -> None:
    first = run(registry, audit, store)
    del registry.pointed[CHAMPION]

    assert run(registry, audit, store) is None
    assert pointer(store) == first


def test_arms_are_the_versions_of_experiments_that_are_not_over(
    registry: PackedRegistry, audit: Audit, store: FolderStore
) -> None:
    first = run(registry, audit, store)
    tried = run(registry, audit, store, tried=tries("7"))
    over = run(registry, audit, store, tried=tries("7", weeks=4))
    champion_itself = run(registry, audit, store, tried=tries("1"))

    assert [arm.number for arm in tried.arms] == ["7"]
    assert whole(store, tried.arms[0], model="shop")
    assert (over.arms, champion_itself.arms) == ((), ())
    assert first.sequence < tried.sequence < over.sequence


@pytest.mark.parametrize("content", [b"{half", b'{"format": 1}', None])
def test_a_pointer_that_cannot_be_read_is_written_anew_above_all_that_it_may_have_said(
    registry: PackedRegistry, audit: Audit, store: FolderStore, content: bytes | None
) -> None:
    run(registry, audit, store)
    run(registry, audit, store, tried=tries("7"))
    last = run(registry, audit, store)
    if content is None:
        store.delete([pointer_key("shop")])
    else:
        store.put(pointer_key("shop"), content)

    found = run(registry, audit, store, now=NOW + dt.timedelta(minutes=1))

    assert found.sequence > last.sequence
    assert pointer(store) == found


@pytest.mark.parametrize("damage", ["changed", "deleted", "header"])
def test_a_file_that_is_damaged_or_gone_is_put_again(
    registry: PackedRegistry, audit: Audit, store: FolderStore, damage: str
) -> None:
    first = run(registry, audit, store)
    prefix = f"{versions_prefix('shop')}{first.champion.folder}/"
    key = f"{prefix}version.json" if damage == "header" else f"{prefix}products/price.npy"
    if damage == "deleted":
        store.delete([key])
    else:
        store.put(key, (store.get(key) or b"")[:-1] + b"?")
    broken = whole(store, first.champion, model="shop")

    assert run(registry, audit, store) == first
    assert not broken
    assert whole(store, first.champion, model="shop")


def test_a_version_that_prices_otherwise_than_recorded_is_not_published(
    registry: PackedRegistry, audit: Audit, store: FolderStore, tmp_path: Path
) -> None:
    first = run(registry, audit, store)
    damaged = Path(shutil.copytree(registry.folder("4"), tmp_path / "damaged"))
    (damaged / "config.json").write_text("{}")
    registry.folders["4"] = damaged
    promote(registry, audit, "4")

    with pytest.raises(VersionError):
        run(registry, audit, store)

    assert pointer(store) == first


def test_a_previous_version_or_an_arm_that_cannot_be_read_keeps_no_champion_back(
    registry: PackedRegistry, audit: Audit, store: FolderStore, tmp_path: Path
) -> None:
    promote(registry, audit, "4")
    registry.folders |= {"1": tmp_path / "none", "7": tmp_path / "none"}

    found = run(registry, audit, store, tried=tries("7"))

    assert (found.champion.number, found.previous, found.arms) == ("4", None, ())


def test_of_two_jobs_at_once_the_newest_champion_is_published(
    registry: PackedRegistry, audit: Audit, store: FolderStore
) -> None:
    class Overtaken(PackedRegistry):
        """While it downloads version 1, another job promotes and publishes version 4."""

        def download(self, reference: str, to: str | Path) -> Path:
            if reference == "1":
                promote(registry, audit, "4")
                run(registry, audit, store)
            return super().download(reference, to)

    slow = Overtaken(pointed=registry.pointed)

    found = run(slow, audit, store)

    assert pointer(store) == found
    assert (found.champion.number, found.previous and found.previous.number) == ("4", "1")
    assert whole(store, found.champion, model="shop")


def test_only_versions_of_its_own_that_nothing_names_are_deleted(
    registry: PackedRegistry, audit: Audit, store: FolderStore
) -> None:
    old = put_folders(store, 91, 92, 93, 94, 95)
    strange = [f"{versions_prefix('shop')}{name}/version.json" for name in ("notes", "9", "7-zz", "-1-a")]
    for key in ("shop/notes.txt", "other.json", *strange):
        store.put(key, b"mine")
    others = [*put_folders(store, 1, 2, model="shop2"), *put_folders(store, 1, model="shopping/x")]
    promote(registry, audit, "4")

    found = run(registry, audit, store, tried=tries("7"))

    there = set(store.keys(""))
    assert [key in there for key in old] == [False] * (len(old) - KEPT) + [True] * KEPT
    assert {*others, "shop/notes.txt", "other.json"} <= there
    assert set(strange) <= there
    used = [found.champion, found.previous, *found.arms]
    assert all(whole(store, one, model="shop") for one in used)


@pytest.mark.parametrize(("number", "checksum"), [("../../x", "0" * 64), ("1/../2", "0" * 64), ("1", "../" * 20)])
def test_a_name_that_would_leave_the_prefix_is_none(number: str, checksum: str) -> None:
    with pytest.raises(VersionError):
        PublishedVersion(number, checksum)


def test_a_deletion_that_fails_leaves_the_champion_published(
    registry: PackedRegistry, audit: Audit, tmp_path: Path
) -> None:
    class Held(FolderStore):
        def delete(self, keys: Any) -> None:
            raise SourceError("denied")

    store = Held(tmp_path / "published")
    put_folders(store, 91, 92, 93, 94, 95)

    assert run(registry, audit, store).champion.number == "1"


def test_an_image_is_baked_with_the_champion_alone(registry: PackedRegistry, audit: Audit, store: FolderStore) -> None:
    promote(registry, audit, "4")
    old = put_folders(store, 91, 92, 93, 94)

    found = run(registry, audit, store, tried=tries("7"), alone=True)

    assert found == replace(found, previous=None, arms=())
    assert {key.split("/")[2].partition("-")[0] for key in store.keys("shop/versions/")} == {
        "4",
        *map(str, range(91, 95)),
    }
    assert set(old) <= set(store.keys(""))


def test_the_loop_outlives_what_is_away_and_says_each_change_once(caplog: pytest.LogCaptureFixture) -> None:
    away = SourceError("away")
    answers: list[str | PricingError] = ["version 1", "version 1", away, away, "version 2"]
    thorough: list[bool] = []

    def once(contents: bool) -> str:
        thorough.append(contents)
        found = answers[len(thorough) - 1]
        if isinstance(found, PricingError):
            raise found
        return found

    waited: list[float] = []
    sleep: Callable[[float], None] = waited.append
    with caplog.at_level("INFO", logger="pipelines.publish"):
        follow(once, every=1800.0, rounds=5, sleep=sleep)

    assert [record.levelname for record in caplog.records] == ["INFO", "ERROR", "INFO"]
    assert waited == [1800.0] * 5
    assert thorough == [True, False, False, True, False]
