"""Versions made to harm whoever reads them, each with checksums that are right."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from pricing.errors import VersionError
from pricing.registry import files, golden
from pricing.registry.version import load
from tests.kit.versions import shared_version

ARRAY, DOCUMENT = "products/price.npy", "products.json"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(shared_version(), tmp_path / "version"))


def write_header(folder: Path, **changes: Any) -> None:
    header = {**json.loads((folder / files.HEADER).read_text()), **changes}
    del header["checksum"]
    (folder / files.HEADER).write_text(json.dumps({**header, "checksum": files.digest(header)}))


def plant(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    listed = json.loads((folder / files.HEADER).read_text())["files"]
    write_header(folder, files={**listed, name: files._sha256(folder / name)})


def npy(header: str, *, data: bytes = b"", format_version: bytes = b"\x01\x00") -> bytes:
    text = header.encode()
    length = len(text).to_bytes(2 if format_version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + format_version + length + text + data


def described(shape: str, *, descr: str = "<f8") -> str:
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy(described("(1000000000000,)"), data=bytes(80)), "no plain array"),
        (npy(described(f"({2**32}, {2**32})", descr="|i1")), "no plain array"),
        (npy(described("(-1, -10)"), data=bytes(80)), "no plain array"),
        (npy(described("(10,)", descr="|O"), data=bytes(80)), "no plain array"),
        (npy(described("(10,)", descr="|V8"), data=bytes(80)), r"holds \|V8"),
        (npy("{'descr': '<f8', 'shape': (((("), "no plain array"),
        (npy("(" * 9_000), "no plain array"),
        (npy("-" * 9_000 + "1"), "no plain array"),
        (npy('{\'descr\': """<f8'), "no plain array"),
        (npy("9" * 60_000), "no plain array"),
        (npy(described("(10,)"), data=bytes(80), format_version=b"\x02\x00"), "no plain array"),
        (b"PK\x03\x04 no archive", "no plain array"),
        (b"PK\x05\x06" + bytes(18), "no plain array"),
        (b"", "no plain array"),
    ],
)
def test_an_array_made_to_harm_is_refused_by_name(copy: Path, content: bytes, words: str) -> None:
    plant(copy, ARRAY, content)

    with pytest.raises(VersionError, match=words) as raised:
        load(copy)

    assert ARRAY in str(raised.value)


@pytest.mark.parametrize("levels", [files.MOST_LEVELS + 1, 100_000])
@pytest.mark.parametrize("brackets", ["[]", '{"a":}'])
def test_a_document_of_many_levels_is_refused_by_name(copy: Path, levels: int, brackets: str) -> None:
    content = brackets[:-1] * levels + "1" + brackets[-1] * levels
    plant(copy, DOCUMENT, content.encode())

    with pytest.raises(VersionError, match=r"products\.json: cannot be read as JSON"):
        load(copy)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"files": {}, "checksum": "", "x": NaN}'])
def test_a_header_made_to_harm_is_refused(copy: Path, content: bytes) -> None:
    (copy / files.HEADER).write_bytes(content)

    with pytest.raises(VersionError, match=r"version\.json"):
        load(copy)


def test_a_file_larger_than_any_of_a_version_is_refused_unread(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_sha256", lambda _: pytest.fail("it was read"))
    os.truncate(copy / min(path.name for path in copy.glob("*.json")), files.MOST_BYTES + 1)  # a hole: it takes no room

    with pytest.raises(VersionError, match="at most"):
        files.read(copy, parts=("backtest",))


def test_a_document_larger_than_any_of_a_version_is_refused(copy: Path) -> None:
    plant(copy, DOCUMENT, b'"' + b"x" * files.MOST_JSON_BYTES + b'"')

    with pytest.raises(VersionError, match="is the most"):
        load(copy)


def test_more_files_than_any_version_has_are_refused_unread(copy: Path) -> None:
    write_header(copy, files={f"a{'_' * place}.json": "" for place in range(files.MOST_FILES + 1)})

    with pytest.raises(VersionError, match="1,001"):
        load(copy)


def test_many_golden_requests_are_refused_before_one_is_priced(copy: Path) -> None:
    recorded = json.loads((copy / files.HEADER).read_text())["golden"]
    write_header(copy, golden={**recorded, "cases": recorded["cases"][:1] * (golden.MOST_REQUESTS + 1)})

    with pytest.raises(VersionError, match="101"):
        load(copy).verify()


@pytest.mark.parametrize("linked", ["version.json", ARRAY, "products"])
def test_a_link_in_the_place_of_a_file_is_refused(copy: Path, tmp_path: Path, linked: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    (copy / linked).rename(elsewhere)
    (copy / linked).symlink_to(elsewhere)

    with pytest.raises(VersionError, match=r"link|holds no|missing"):
        load(copy)


@pytest.mark.parametrize("planted", [10**12, 10**30, 0, -1, 1e308, None, "28", [28]])
@pytest.mark.parametrize(("at", "key"), [("table", "horizon"), ("learner", "horizon"), ("learner", "own_periods")])
def test_periods_out_of_all_proportion_are_refused_before_arrays_of_that_length_are_made(
    copy: Path, at: str, key: str, planted: Any
) -> None:
    meta = json.loads((copy / f"{at}.json").read_text())
    plant(copy, f"{at}.json", json.dumps({**meta, key: planted}).encode())

    with pytest.raises(VersionError, match=rf"{at}\.json: {key} is"):
        _ = load(copy).learner
