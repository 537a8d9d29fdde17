import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pricing
from pricing.config import load_config
from pricing.decision.product_facts import ProductFacts
from pricing.errors import VersionError
from pricing.registry import files
from pricing.registry.version import FORMAT, LoadedVersion, load, read_anchors, read_backtest
from tests.kit.promotions import history_anchors, packed
from tests.kit.versions import make_demand, make_panel

LIBRARY = pricing.__version__.replace(".", r"\.")


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> LoadedVersion:
    return packed(tmp_path_factory.mktemp("packed") / "version")


@pytest.fixture
def copy(version: LoadedVersion, tmp_path: Path) -> Path:
    return Path(shutil.copytree(version.folder, tmp_path / "version"))


def rewrite_header(folder: Path, **changes: Any) -> None:
    """Changes the header and its checksum with it, as whoever packs otherwise would."""
    write_header(folder, {**json.loads((folder / files.HEADER).read_text()), **changes})


def write_header(folder: Path, header: dict[str, Any]) -> None:
    header = {key: value for key, value in header.items() if key != "checksum"}
    (folder / files.HEADER).write_text(json.dumps({**header, "checksum": files.digest(header)}))


def every_file(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_is_loaded_is_what_was_packed(version: LoadedVersion) -> None:
    panel = make_panel()
    anchors = history_anchors(panel)
    demand, facts = make_demand(panel), ProductFacts.from_panel(panel, anchors=anchors)

    loaded = load(version.folder)

    for part, original in (
        (loaded.demand, demand.table()),
        (loaded.learner, demand),
        (loaded.whole_facts(), facts),
    ):
        arrays, expected = part.to_arrays(), original.to_arrays()
        assert arrays.keys() == expected.keys()
        for name in arrays:
            np.testing.assert_array_equal(arrays[name], expected[name])
        assert part.meta() == original.meta()
    assert loaded.config.model_dump() == load_config().model_dump(include={"data", "demand", "decision"})
    assert loaded.weights_hash == demand.weights_hash()
    assert loaded.backtest["wape"] == 0.40
    assert loaded.anchors.same(anchors)


def test_every_array_is_mapped_and_cannot_be_written_to(version: LoadedVersion) -> None:
    for name, array in version.demand.to_arrays().items():
        assert isinstance(array.base, np.memmap), name
        assert not array.flags.writeable, name


def test_the_same_parts_give_the_same_bytes(version: LoadedVersion, tmp_path: Path) -> None:
    again = packed(tmp_path / "again")

    one, other = every_file(version.folder), every_file(again.folder)
    assert [path.relative_to(version.folder) for path in one] == [path.relative_to(again.folder) for path in other]
    assert all(first.read_bytes() == second.read_bytes() for first, second in zip(one, other, strict=True))


def test_no_file_of_a_version_holds_a_pickle_or_an_object(version: LoadedVersion) -> None:
    for path in every_file(version.folder):
        if path.suffix == ".json":
            json.loads(path.read_text())
            continue
        assert path.suffix == ".npy"
        with path.open("rb") as handle:
            assert np.lib.format.read_magic(handle) == (1, 0)
            shape, _, dtype = np.lib.format.read_array_header_1_0(handle)
            assert not dtype.hasobject
            assert len(handle.read()) == int(np.prod(shape)) * dtype.itemsize, "nothing follows the array"


def test_loading_needs_none_of_the_heavy_libraries(version: LoadedVersion) -> None:
    heavy = ("mlflow", "pandas", "scipy", "keras", "tensorflow", "sklearn", "sqlalchemy")
    program = (
        "import sys; from pricing.registry.version import load; "
        f"load({str(version.folder)!r}).verify(); print([name for name in {heavy} if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("at", ["version.json", "backtest.json", "config.json", "products/price.npy"])
def test_a_changed_byte_is_found(copy: Path, at: str) -> None:
    content = bytearray((copy / at).read_bytes())
    place = content.rindex(b"1") if at.endswith("json") else len(content) - 3
    content[place] ^= 0x03
    (copy / at).write_bytes(bytes(content))

    with pytest.raises(VersionError, match=r"damaged|cannot be read"):
        load(copy)


def test_prices_need_nothing_that_only_a_refresh_reads(copy: Path) -> None:
    for path in every_file(copy / "refresh"):
        path.write_bytes(b"damaged")

    loaded = load(copy)

    assert loaded.verify().requests > 0
    for read in (lambda: loaded.learner, loaded.whole_facts):
        with pytest.raises(VersionError, match=r"refresh/.* is damaged"):
            read()


@pytest.mark.parametrize("name", ["../secret.npy", "/etc/passwd", "arrays/../../x.npy", "arrays/x.pkl", "model.pkl"])
def test_a_header_cannot_reach_beyond_its_folder_nor_name_other_files(copy: Path, name: str) -> None:
    rewrite_header(copy, files={name: "0" * 64})

    with pytest.raises(VersionError, match="is no file of a version"):
        load(copy)


def test_golden_requests_reach_a_product_a_stock_out_a_category_and_a_stranger(version: LoadedVersion) -> None:
    cases = version.meta["golden"]["cases"]

    assert {case["decision"]["source"] for case in cases} == {"model", "category", "rule"}
    assert any(case["request"]["current_stock"] == 0 for case in cases)
    assert version.verify().requests == len(cases) == len(version.verify().latency_ms)


def test_a_version_that_answers_otherwise_than_when_it_was_packed_is_refused(copy: Path) -> None:
    golden = json.loads((copy / files.HEADER).read_text())["golden"]
    golden["cases"][0]["decision"]["recommended_price"] += 0.01
    rewrite_header(copy, golden=golden)

    loaded = load(copy)

    with pytest.raises(VersionError, match="answers recommended_price"):
        loaded.verify()


def test_a_version_without_golden_requests_shows_nothing(copy: Path) -> None:
    golden = json.loads((copy / files.HEADER).read_text())["golden"]
    rewrite_header(copy, golden={**golden, "cases": []})

    with pytest.raises(VersionError, match="carries no golden request"):
        load(copy).verify()


def test_an_object_array_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(VersionError, match="plain numbers, strings and dates"):
        files.write(tmp_path / "v", header={}, documents={}, arrays={"a": np.array([None], dtype=object)})

    assert list(tmp_path.iterdir()) == []


def test_a_version_never_replaces_what_is_there(version: LoadedVersion, copy: Path) -> None:
    with pytest.raises(VersionError, match="give a path that does not exist yet"):
        packed(copy)

    assert every_file(copy)[0].read_bytes() == every_file(version.folder)[0].read_bytes()


def test_figures_that_are_not_finite_become_null(tmp_path: Path) -> None:
    version = packed(tmp_path / "version", wape=float("nan"), bias=np.float32(0.5))

    assert version.backtest["wape"] is None
    assert version.backtest["bias"] == 0.5


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        npy(np.array([{"a": 1}], dtype=object)),
        npy(np.zeros(2, [("a", "<f8")])),
        npy(np.ones(9))[:-1],
        b"PK\x03\x04",
        b"",
    ],
    ids=["pickle", "records", "cut", "archive", "empty"],
)
def test_what_is_no_plain_array_is_refused_even_with_the_right_checksum(copy: Path, content: bytes) -> None:
    path = copy / "products" / "price.npy"
    path.write_bytes(content)
    listed = json.loads((copy / files.HEADER).read_text())["files"]
    rewrite_header(copy, files={**listed, "products/price.npy": files._sha256(path)})

    with pytest.raises(VersionError, match=r"price\.npy"):
        load(copy)


@pytest.mark.parametrize("changes", [{"contract": 99}, {"format": FORMAT - 1}, {"weights": None}, {"golden": None}])
def test_another_contract_or_format_is_refused_and_its_anchors_outlive_it(copy: Path, changes: dict[str, Any]) -> None:
    anchors = load(copy).anchors
    rewrite_header(copy, **changes)

    for read in (load, read_backtest):
        with pytest.raises(VersionError):
            read(copy)
    assert read_anchors(copy).same(anchors)
