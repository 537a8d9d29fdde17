import datetime as dt
import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from pricing.errors import RegistryError
from pricing.registry.mlflow_registry import Registry
from pricing.registry.version import load
from tests.kit.promotions import packed

pytestmark = pytest.mark.filterwarnings("ignore:.*type hint:UserWarning")  # MLflow's own classes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tmp_path_factory.mktemp("packed") / "version").folder


@pytest.fixture(scope="module")
def registry(folder: Path, empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with two versions; the second bears the alias champion."""
    place = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        uri = f"sqlite:///{shutil.copy(empty_store, place / 'mlflow.db')}"
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment("pricing")
        registry = Registry("pricing", uri=uri)
        assert registry.aliases() == {}
        assert registry.versions() == []
        with mlflow.start_run():
            registry.log_version(folder, tags={"colour": "blue"})
            registry.set_alias("champion", registry.log_version(folder))
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
        yield registry


def test_a_registered_version_says_what_it_is(registry: Registry, folder: Path) -> None:
    first, second = registry.versions()

    assert (first.number, second.number) == ("1", "2")
    assert (first.aliases, second.aliases) == ((), ("champion",))
    assert (first.weights, first.checksum) == (load(folder).weights_hash, load(folder).meta["checksum"])
    assert first.tags["colour"] == "blue"
    assert first.tags["kind"] == "train"
    assert first.run_id
    assert first.created_ms < 1000 * dt.datetime.now(dt.UTC).timestamp()
    assert registry.find("champion") == registry.find("2") == second
    assert registry.at("champion") == second
    assert registry.at("previous") is None


def test_what_is_downloaded_is_what_was_logged(registry: Registry, folder: Path, tmp_path: Path) -> None:
    fetched = registry.download("champion", tmp_path / "deep" / "here")

    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert sorted(path.relative_to(fetched) for path in fetched.rglob("*") if path.is_file()) == names
    assert all((fetched / name).read_bytes() == (folder / name).read_bytes() for name in names)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["here"]


def test_aliases_move_and_go_and_an_unknown_reference_says_what_there_is(registry: Registry) -> None:
    registry.set_alias("challenger", "1")
    registry.set_alias("challenger", "2")
    assert registry.aliases() == {"challenger": "2", "champion": "2"}

    registry.remove_alias("challenger")
    registry.remove_alias("challenger")

    assert registry.aliases() == {"champion": "2"}
    for reference in ("9", "nobody"):
        with pytest.raises(RegistryError, match=reference):
            registry.find(reference)
