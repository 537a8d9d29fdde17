"""A version is loaded as it was packed, or refused by name."""

import io
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from pricing.arrays import flatten
from pricing.config import load_config
from pricing.decision.product_facts import ProductFacts
from pricing.demand.competitor import CompetitorEffects
from pricing.demand.forward_pass import Networks
from pricing.demand.model import DemandModel
from pricing.errors import VersionError
from pricing.registry import files
from pricing.registry.version import FORMAT, LoadedVersion, load, read_anchors
from tests.kit.promotions import history_anchors, packed
from tests.kit.versions import make_demand, make_panel, with_feast, with_test

ARRAY = "products/price.npy"


def learnt() -> DemandModel:
    """A model with all that one may have: named events, effects of the competitor, tests, and networks."""
    panel = make_panel()
    model, count = with_feast(make_demand(panel), date=str(panel.dates[-1] + 9)), len(panel.product_ids)
    effects = CompetitorEffects(np.full(count, 0.3, np.float32), np.full(count, 0.1, np.float32), np.arange(count))
    networks = Networks({"demand-0-0": model.weights}, panel.dates[:1])
    return replace(model, competitor=effects, networks=networks, tested=with_test(model.table()).tested)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> LoadedVersion:
    return packed(tmp_path_factory.mktemp("packed") / "version", mae=np.float32("nan"), demand=learnt())


@pytest.fixture
def copy(version: LoadedVersion, tmp_path: Path) -> Path:
    return Path(shutil.copytree(version.folder, tmp_path / "version"))


def header(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / files.HEADER).read_text()))


def rewrite(folder: Path, **changes: Any) -> None:
    """Changes the header and its checksum with it, as whoever packs otherwise would."""
    changed = {**header(folder), **changes}
    del changed["checksum"]
    (folder / files.HEADER).write_text(json.dumps({**changed, "checksum": files.digest(changed)}))


def every_file(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_is_loaded_is_what_was_packed(version: LoadedVersion) -> None:
    panel = make_panel()
    anchors = history_anchors(panel)
    demand, facts = learnt(), ProductFacts.from_panel(panel, anchors=anchors)

    loaded = load(version.folder)

    for part, original in ((loaded.demand, demand.table()), (loaded.learner, demand), (loaded.whole_facts(), facts)):
        (arrays, rest), (expected, of_original) = flatten(part), flatten(original)
        assert arrays.keys() == expected.keys()
        for name in arrays:
            np.testing.assert_array_equal(arrays[name], expected[name])
        assert rest == of_original
    for array in flatten(loaded.demand)[0].values():
        assert isinstance(array.base, np.memmap)
        assert not array.flags.writeable
    assert loaded.config.model_dump() == load_config().model_dump(include={"data", "demand", "decision"})
    assert loaded.weights_hash == demand.weights_hash()
    assert (loaded.backtest["wape"], loaded.backtest["mae"]) == (0.40, None)
    assert loaded.anchors.digest() == anchors.digest()


def test_a_version_that_is_read_into_memory_keeps_no_file_open(version: LoadedVersion) -> None:
    read = load(version.folder, mapped=False)

    for part in (read.demand, read.whole_facts(), read.anchors):
        assert not any(isinstance(array.base, np.memmap) for array in flatten(part)[0].values())


def test_the_same_parts_give_the_same_bytes(version: LoadedVersion, tmp_path: Path) -> None:
    again = packed(tmp_path / "again", mae=np.float32("nan"), demand=learnt())
    with pytest.raises(VersionError):
        packed(again.folder, seed=2)  # nor does another replace it

    one, other = every_file(version.folder), every_file(again.folder)
    assert [path.relative_to(version.folder) for path in one] == [path.relative_to(again.folder) for path in other]
    assert all(first.read_bytes() == second.read_bytes() for first, second in zip(one, other, strict=True))


def test_no_file_of_a_version_holds_a_pickle_or_an_object(version: LoadedVersion, tmp_path: Path) -> None:
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
    with pytest.raises(ValueError, match="object"):
        files.write(tmp_path / "v", files.Files({}, {"a": np.array([None], dtype=object)}), header={})
    assert list(tmp_path.iterdir()) == []


def test_loading_needs_none_of_the_heavy_libraries(version: LoadedVersion) -> None:
    heavy = ("mlflow", "pandas", "scipy", "keras", "tensorflow", "sklearn", "sqlalchemy")
    program = (
        "import sys; from pricing.registry.version import load; "
        f"load({str(version.folder)!r}).verify(); print([name for name in {heavy} if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("at", ["version.json", "backtest.json", "config.json", ARRAY])
def test_a_changed_byte_is_found(copy: Path, at: str) -> None:
    content = bytearray((copy / at).read_bytes())
    place = content.rindex(b"1") if at.endswith("json") else len(content) - 3
    content[place] ^= 0x03
    (copy / at).write_bytes(bytes(content))

    with pytest.raises(VersionError, match=at):
        load(copy)


def test_prices_need_nothing_that_only_a_refresh_reads(copy: Path) -> None:
    for path in every_file(copy / "refresh"):
        path.write_bytes(b"damaged")

    loaded = load(copy)

    assert loaded.verify()
    for read in (lambda: loaded.learner, loaded.whole_facts):
        with pytest.raises(VersionError, match="refresh/"):
            read()


def test_golden_requests_reach_a_product_a_stock_out_a_category_and_a_stranger(version: LoadedVersion) -> None:
    cases = version.meta["golden"]["cases"]

    assert {case["decision"]["source"] for case in cases} == {"model", "category", "rule"}
    assert any(case["request"]["current_stock"] == 0 for case in cases)
    assert len(version.verify()) == len(cases)


def dearer(cases: list[Any]) -> list[Any]:
    decision = cases[0]["decision"]
    changed = {**decision, "recommended_price": decision["recommended_price"] + 0.01}
    return [{**cases[0], "decision": changed}, *cases[1:]]


@pytest.mark.parametrize(
    "changed", [dearer, lambda _: [], lambda cases: 12 * cases, lambda cases: [{"request": cases[0]["request"]}]]
)
def test_a_version_that_answers_otherwise_or_shows_nothing_or_too_much_is_refused(
    copy: Path, changed: Callable[[list[Any]], list[Any]]
) -> None:
    recorded = header(copy)["golden"]
    rewrite(copy, golden={**recorded, "cases": changed(recorded["cases"])})

    with pytest.raises(VersionError):
        load(copy).verify()


@pytest.mark.parametrize("changes", [{"contract": 99}, {"format": FORMAT - 1}])
def test_another_contract_or_format_is_refused_and_its_anchors_outlive_it(copy: Path, changes: dict[str, Any]) -> None:
    anchors = load(copy).anchors
    rewrite(copy, **changes)

    with pytest.raises(VersionError):
        load(copy)
    assert read_anchors(copy).digest() == anchors.digest()


@pytest.mark.parametrize("name", ["/etc/passwd", "arrays/../../x.npy", "arrays/x.pkl"])
def test_a_header_cannot_reach_beyond_its_folder_nor_name_other_files(copy: Path, name: str) -> None:
    rewrite(copy, files={name: "0" * 64})

    with pytest.raises(VersionError, match=name):
        load(copy)


@pytest.mark.parametrize(
    "save",
    [
        lambda file: np.save(file, np.array([{}], dtype=object)),
        lambda file: np.save(file, np.zeros(3, dtype="f8,i4")),
        lambda file: np.savez(file, price=np.zeros(3)),
        lambda file: pickle.dump([1.0], file),
        lambda file: file.write(b"\x93NUMPY\x01\x00\x0a\x00{'shape': ("),  # a header that is cut
        lambda _: None,
    ],
)
def test_what_is_no_plain_array_is_refused_by_name(copy: Path, save: Callable[[BinaryIO], None]) -> None:
    content = io.BytesIO()
    save(content)
    (copy / ARRAY).write_bytes(content.getvalue())
    rewrite(copy, files={**header(copy)["files"], ARRAY: files.checksum_of(copy / ARRAY)})

    with pytest.raises(VersionError, match=ARRAY):
        load(copy)


@pytest.mark.parametrize("content", [b"[1]", b'{"files": {}, "checksum": "", "x": NaN}', None])
def test_a_header_that_is_none_or_is_missing_is_refused(copy: Path, content: bytes | None) -> None:
    if content is None:
        (copy / files.HEADER).unlink()
    else:
        (copy / files.HEADER).write_bytes(content)

    with pytest.raises(VersionError, match=files.HEADER):
        load(copy)


@pytest.mark.parametrize("missing", ["horizon", "lifts", "state_date"])
def test_parts_that_this_library_does_not_know_are_refused_by_name(copy: Path, missing: str) -> None:
    known = json.loads((copy / "table.json").read_text())
    del known[missing]
    (copy / "table.json").write_text(json.dumps(known))
    rewrite(copy, files={**header(copy)["files"], "table.json": files.checksum_of(copy / "table.json")})

    with pytest.raises(VersionError, match=missing):
        load(copy)


NEEDED = (
    "table/levels",
    "table/grade",
    "table/evidence/fortnights",
    "table/lifts/by_period",
    "table/competitor/mean",
    "refresh/grade",
    "refresh/evidence/fortnights",
    "refresh/encoded/state/hidden",
    "refresh/norms/promotion",
    "products/price",
    "anchors/dates",
    "refresh/networks/start",
)


@pytest.mark.parametrize("kind", ["absent", "texts"])
@pytest.mark.parametrize("name", NEEDED)
def test_an_array_that_is_missing_or_holds_something_else_is_refused_by_name(copy: Path, name: str, kind: str) -> None:
    listed, path = dict(header(copy)["files"]), copy / f"{name}.npy"
    if kind == "absent":
        del listed[f"{name}.npy"]
    else:
        np.save(path, np.array(["1"]))
        listed[f"{name}.npy"] = files.checksum_of(path)
    rewrite(copy, files=listed)

    with pytest.raises(VersionError, match=name.partition("/")[2]):
        _ = load(copy).learner
