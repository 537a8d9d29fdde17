"""What serving follows is what the aliases name: verified, whole, and of a sequence that only rises."""

import datetime as dt
import json
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from pipelines.publish import follow
from pricing.decision.experiments import Arm, Experiment, Experiments
from pricing.decision.switches import NO_CONTROL, Control
from pricing.errors import SourceError, VersionError
from pricing.objects import FolderStore
from pricing.registry import CHAMPION
from pricing.registry.promotion import Audit, move
from pricing.registry.publish import KEPT, champion_is_published, publish
from pricing.registry.published_store import (
    Pointer,
    PublishedVersion,
    fetch_version,
    parse_pointer,
    pointer_key,
    versions_prefix,
    whole,
)
from pricing.registry.version import load
from tests.kit.promotions import PackedRegistry, asked
from tests.kit.versions import raise_prices

NOW = dt.datetime(2026, 3, 2, 8, tzinfo=dt.UTC)


class Shop:
    """A registry whose version 1 is champion, its record and its store."""

    def __init__(self, folder: Path) -> None:
        self.audit = Audit(f"sqlite:///{folder / 'pricing.db'}")
        self.store = FolderStore(folder / "published")
        self.registry = PackedRegistry()
        self.promote("1")

    def promote(self, to: str, **changes: Any) -> None:
        move(self.registry, self.audit, asked(to, self.registry.pointed.get(CHAMPION), **changes))

    def publish(self, *, tried: Control = NO_CONTROL, now: dt.datetime = NOW, **more: Any) -> Any:
        given = {"registry": self.registry, "store": self.store, **more}
        return publish(audit=self.audit, control=lambda: tried, now=now, who="ann", **given)

    @property
    def pointer(self) -> Pointer:
        return parse_pointer(self.store.get(pointer_key("shop")) or b"", model="shop")

    def put_folders(self, *numbers: int, model: str = "shop") -> list[str]:
        keys = [f"{versions_prefix(model)}{number}-{'0' * 16}/version.json" for number in numbers]
        for key in keys:
            self.store.put(key, b"{}")
        return keys


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def tries(number: str, *, weeks: int | None = None) -> Control:
    arms = (Arm("challenger", share=0.5, of=number), Arm("rule", share=0.5))
    one = Experiment("spring", dt.date(2026, 2, 2), weeks, arms, products={"tea": "rule"})
    return Control(experiments=Experiments((one,)))


def test_what_is_published_can_be_fetched_and_prices(shop: Shop, tmp_path: Path) -> None:
    before = champion_is_published(shop.registry, shop.store)

    found = shop.publish()

    assert (before, champion_is_published(shop.registry, shop.store)) == (False, True)
    assert found == shop.pointer
    assert (found.champion.number, found.challenger) == ("1", None)
    fetch_version(shop.store, found.champion, model="shop", folder=tmp_path / "fetched")
    assert load(tmp_path / "fetched").verify()
    assert not any("/refresh/" in key for key in shop.store.keys(""))


def test_a_rollback_and_a_move_by_hand_are_published_with_a_higher_sequence(shop: Shop) -> None:
    found = [shop.publish()]
    for to, action in (("4", "promote"), ("1", "rollback")):
        shop.promote(to, action=action)
        found.append(shop.publish())
    shop.registry.pointed[CHAMPION] = "4"
    unpublished = champion_is_published(shop.registry, shop.store)
    found.append(shop.publish())

    assert [one.champion.number for one in found] == ["1", "4", "1", "4"]
    assert found[0].sequence < found[1].sequence < found[2].sequence < found[3].sequence
    assert not unpublished
    assert shop.audit.entries("pricing@1")[-1].action == "by_hand"
    del shop.registry.pointed[CHAMPION]
    assert shop.publish() is None
    assert shop.pointer == found[-1], "without a champion what was published stays"


def test_what_is_published_again_has_a_higher_sequence_than_any_before(shop: Shop) -> None:
    old = shop.publish(now=NOW - dt.timedelta(days=1))
    served = shop.publish(again=True)
    shop.store.put(pointer_key("shop"), old.to_json())  # as a backup would
    unchanged = shop.publish()

    mended = shop.publish(again=True, now=NOW + dt.timedelta(hours=1))

    assert unchanged == old
    assert mended.served == old.served
    assert old.sequence < served.sequence < mended.sequence == shop.pointer.sequence


def test_the_challenger_is_the_version_of_an_experiment_that_is_not_over(shop: Shop) -> None:
    tried = shop.publish(tried=tries("7"))
    over = shop.publish(tried=tries("7", weeks=4))
    champion_itself = shop.publish(tried=tries("1"))

    assert tried.challenger.number == "7"
    assert whole(shop.store, tried.challenger, model="shop")
    assert (over.challenger, champion_itself.challenger) == (None, None)
    assert tried.sequence < over.sequence


@pytest.mark.parametrize("content", [b"{half", None])
def test_a_pointer_that_cannot_be_read_is_written_anew_above_all_that_it_may_have_said(
    shop: Shop, content: bytes | None
) -> None:
    shop.publish()
    shop.publish(tried=tries("7"))
    last = shop.publish()
    if content is None:
        shop.store.delete([pointer_key("shop")])
    else:
        shop.store.put(pointer_key("shop"), content)

    found = shop.publish(now=NOW + dt.timedelta(minutes=1))

    assert found.sequence > last.sequence
    assert shop.pointer == found


def test_a_version_of_which_a_file_is_gone_is_put_again(shop: Shop) -> None:
    first = shop.publish()
    shop.store.delete([f"{versions_prefix('shop')}{first.champion.folder}/products/price.npy"])
    broken = whole(shop.store, first.champion, model="shop")

    assert shop.publish() == first
    assert (broken, whole(shop.store, first.champion, model="shop")) == (False, True)


@pytest.mark.parametrize("fault", ["damaged", "another", "dearer"])
def test_a_version_that_is_not_the_one_that_was_registered_or_prices_otherwise_is_not_published(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    class Swapped(PackedRegistry):
        """Hands out another folder than the one whose checksum it lists."""

        def download(self, reference: str, to: str | Path) -> Path:
            found = Path(shutil.copytree(self.folder("7" if fault == "another" else reference), to))
            if fault == "damaged":
                (found / "config.json").write_text("{}")
            return found

    first = shop.publish()
    shop.promote("4")
    if fault == "dearer":
        raise_prices(monkeypatch)

    with pytest.raises(VersionError):
        shop.publish(registry=Swapped(pointed=shop.registry.pointed))

    assert shop.pointer == first


def test_a_challenger_that_cannot_be_read_and_a_deletion_that_fails_keep_no_champion_back(tmp_path: Path) -> None:
    class Held(FolderStore):
        def delete(self, keys: Any) -> None:
            raise SourceError("denied")

    shop = Shop(tmp_path)
    shop.store = Held(tmp_path / "published")
    shop.put_folders(91, 92, 93, 94, 95)
    shop.registry.folders["7"] = tmp_path / "none"

    found = shop.publish(tried=tries("7"))

    assert (found.champion.number, found.challenger) == ("1", None)


def test_of_two_jobs_at_once_the_newest_champion_is_published(shop: Shop) -> None:
    class Overtaken(PackedRegistry):
        """While it downloads version 1, another job promotes and publishes version 4."""

        def download(self, reference: str, to: str | Path) -> Path:
            if reference == "1":
                shop.promote("4")
                shop.publish()
            return super().download(reference, to)

    found = shop.publish(registry=Overtaken(pointed=shop.registry.pointed))

    assert shop.pointer == found
    assert found.champion.number == "4"
    assert whole(shop.store, found.champion, model="shop")


def test_only_versions_of_its_own_that_nothing_names_are_deleted(shop: Shop) -> None:
    old = shop.put_folders(91, 92, 93, 94, 95)
    strange = [f"{versions_prefix('shop')}{name}/version.json" for name in ("notes", "9", "7-zz", "-1-a")]
    mine = ["shop/notes.txt", "other.json", *strange]
    for key in mine:
        shop.store.put(key, b"mine")
    others = [*shop.put_folders(1, 2, model="shop2"), *shop.put_folders(1, model="shopping/x")]

    found = shop.publish(tried=tries("7"))

    there = set(shop.store.keys(""))
    assert [key in there for key in old] == [False] * (len(old) - KEPT) + [True] * KEPT
    assert {*others, *mine} <= there
    assert all(whole(shop.store, one, model="shop") for one in found.served)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "other"},
        {"format": 2},
        {"sequence": "1"},
        {"champion": {"number": "1/../2", "checksum": "0" * 64}},
        {"champion": {"number": "1", "checksum": "../" * 20}},
        {"challenger": {"number": "1", "checksum": "../" * 20}},
    ],
)
def test_a_pointer_of_another_form_or_whose_names_would_leave_the_prefix_is_refused(changes: dict[str, Any]) -> None:
    document = json.loads(Pointer("shop", 1, PublishedVersion("1", "0" * 64)).to_json())

    with pytest.raises(VersionError):
        parse_pointer(json.dumps({**document, **changes}).encode(), model="shop")


def test_an_image_is_baked_with_the_champion_alone(shop: Shop) -> None:
    old = shop.put_folders(91, 92, 93, 94)

    assert shop.publish(tried=tries("7"), alone=True).challenger is None
    assert {*old} <= {*shop.store.keys("shop/versions/")}


def test_the_loop_outlives_what_is_away_and_says_each_change_once(caplog: pytest.LogCaptureFixture) -> None:
    answers: list[Any] = ["version 1", "version 1", SourceError("away"), SourceError("away"), "version 2"]
    once = Mock(side_effect=[*answers, KeyboardInterrupt])

    with caplog.at_level("INFO", logger="pipelines.publish"), pytest.raises(KeyboardInterrupt):
        follow(once, every=10.0, sleep=lambda _: None)

    assert [record.levelname for record in caplog.records] == ["INFO", "ERROR", "INFO"]
