"""A disk that lost what was fetched: a damaged version is never served, and is fetched anew."""

import shutil
from pathlib import Path

import pytest

from serving.champion import Champion
from serving.current_version import Pointer, write_pointer
from tests.kit.serving import point_at, settings_in
from tests.kit.versions import shared_version
from tests.unit.test_follower import FakeRegistry, ListedVersion, follower, places, pointed


def test_a_version_damaged_since_it_was_verified_is_fetched_anew(tmp_path: Path) -> None:
    registry = FakeRegistry(ListedVersion("7"))
    follower(registry, tmp_path).poll()
    (places(tmp_path).versions / "7-1" / "version.json").write_text("66")

    restarted = follower(registry, tmp_path)

    assert pointed(tmp_path) is None
    assert restarted.poll().state == "following"
    assert registry.downloads == ["7", "7"]
    assert (places(tmp_path).versions / "7-1" / "version.json").read_text() == "7"


def test_a_sound_version_is_not_fetched_again_after_a_restart(tmp_path: Path) -> None:
    registry = FakeRegistry(ListedVersion("7"))
    follower(registry, tmp_path).poll()

    follower(registry, tmp_path).poll()

    assert registry.downloads == ["7"]


def test_a_pointer_to_a_folder_that_is_gone_leads_to_another_download(tmp_path: Path) -> None:
    registry = FakeRegistry(ListedVersion("7"))
    write_pointer(places(tmp_path).pointer, Pointer("7", 1, "7-1"))

    assert follower(registry, tmp_path).poll().served == "7"
    assert registry.downloads == ["7"]


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", None])
def test_a_worker_serves_no_version_with_a_damaged_array(tmp_path: Path, content: bytes | None) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(shared_version(), folder)
    array = folder / "products" / "list_price.npy"
    whole = bytearray(array.read_bytes())
    whole[-1] ^= 0xFF
    array.write_bytes(bytes(whole) if content is None else content)
    settings = settings_in(tmp_path / "home")
    point_at(settings, folder, version="7")

    champion = Champion(settings)

    assert champion.served is champion.rules
