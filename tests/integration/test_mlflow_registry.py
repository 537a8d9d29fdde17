import datetime as dt
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from pricing.errors import RegistryError, VersionError
from pricing.registry import files
from pricing.registry.mlflow_registry import DESCRIPTION_LIMIT, Registry, shortened
from pricing.registry.version import load
from tests.kit.promotions import packed

pytestmark = pytest.mark.filterwarnings("ignore:.*type hint:UserWarning")  # MLflow's own classes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tmp_path_factory.mktemp("packed") / "v").folder


@pytest.fixture(scope="module")
def registry(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with two versions; the second bears the alias champion."""
    place = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        uri = f"sqlite:///{place / 'mlflow.db'}"
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment("pricing")
        registry = Registry("pricing", uri=uri)
        assert registry.aliases() == {}
        assert registry.versions() == []
        with mlflow.start_run():
            registry.log_version(folder, tags={"colour": "blue"})
            registry.set_alias("champion", registry.log_version(folder))
        mlflow.set_tracking_uri(None)
        yield registry


def test_a_registered_version_says_what_it_is(registry: Registry, folder: Path) -> None:
    first, second = registry.versions()

    assert (first.number, second.number) == ("1", "2")
    assert (first.aliases, second.aliases) == ((), ("champion",))
    assert first.weights == load(folder).weights_hash
    assert first.tags["colour"] == "blue"
    assert first.tags["kind"] == "train"
    assert first.run_id
    assert first.created_ms < 1000 * dt.datetime.now(dt.UTC).timestamp()
    assert registry.find("champion") == registry.find("2") == second
    assert registry.at("champion") == registry.version("2") == second
    assert registry.at("previous") is None
    assert registry.version("3") is None


def test_a_model_that_does_not_exist_yet_has_no_alias_and_no_version(registry: Registry) -> None:
    empty = Registry("nothing", uri=registry.uri)

    assert empty.at("champion") is None
    assert empty.version("1") is None


def test_an_alias_that_cannot_be_one_is_an_error(registry: Registry) -> None:
    with pytest.raises(RegistryError):
        registry.at("")


def test_what_is_downloaded_is_what_was_logged(registry: Registry, folder: Path, tmp_path: Path) -> None:
    fetched = registry.download("champion", tmp_path / "deep" / "here")

    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert sorted(path.relative_to(fetched) for path in fetched.rglob("*") if path.is_file()) == names
    assert all((fetched / name).read_bytes() == (folder / name).read_bytes() for name in names)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["here"]


def test_no_file_that_is_logged_is_a_pickle(registry: Registry) -> None:
    logged = list(Path(registry.uri.removeprefix("sqlite:///")).parent.rglob("models/*/artifacts/**/*"))

    kinds = {path.suffix for path in logged if path.is_file()} - {""}
    assert kinds == {".npy", ".json", ".py", ".txt", ".yaml", ".typed"}


def test_a_download_never_replaces_what_is_there(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "file").write_text("mine")

    with pytest.raises(RegistryError, match="in the way"):
        registry.download("1", tmp_path / "here")

    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_files_that_are_gone_are_one_clear_line(registry: Registry, folder: Path, tmp_path: Path) -> None:
    (lost,) = [
        path
        for path in Path(registry.uri.removeprefix("sqlite:///")).parent.glob("mlruns/*/models/*")
        if registry.find("1").tags and path.name in registry._client.get_model_version("pricing", "1").source
    ]
    hidden = lost.rename(lost.with_name("hidden"))
    try:
        with pytest.raises(RegistryError) as caught:
            registry.download("1", tmp_path / "here")
    finally:
        hidden.rename(lost)

    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_version_is_only_logged_under_a_run(registry: Registry, folder: Path) -> None:
    with pytest.raises(RegistryError, match="open one first"):
        registry.log_version(folder)


@pytest.mark.parametrize(
    ("reference", "words"),
    [("9", "has no version 9 .*; its newest is 2"), ("nobody", "no version or alias 'nobody' .*: champion")],
)
def test_an_unknown_reference_says_what_there_is(registry: Registry, reference: str, words: str) -> None:
    with pytest.raises(RegistryError, match=words):
        registry.find(reference)


def test_aliases_move_and_go(registry: Registry) -> None:
    registry.set_alias("challenger", "1")
    registry.set_alias("challenger", "2")
    assert registry.aliases() == {"challenger": "2", "champion": "2"}

    registry.remove_alias("challenger")
    registry.remove_alias("challenger")

    assert registry.aliases() == {"champion": "2"}


def test_another_registry_of_the_same_name_is_told_apart(registry: Registry) -> None:
    assert registry.identity() == f"pricing@{registry._client.get_registered_model('pricing').creation_timestamp}"
    assert Registry("pricing", uri=registry.uri).identity() == registry.identity()


def test_a_dead_server_is_one_clear_line_within_seconds() -> None:
    with pytest.raises(RegistryError) as caught:
        Registry("pricing", uri="http://127.0.0.1:9").find("champion")

    assert "\n" not in str(caught.value)
    assert "http://127.0.0.1:9" in str(caught.value)
    assert int(os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]) <= 2, "MLflow's own seven retries take minutes"


def test_a_description_is_cut_at_a_paragraph_where_the_registry_has_no_room() -> None:
    short = "word " * 900
    long = "\n\n".join(f"Paragraph {number}. {'word ' * 100}" for number in range(20))

    cut = shortened(long)

    assert shortened(short) == short
    assert len(long) > DESCRIPTION_LIMIT >= len(cut)
    assert cut.endswith("the whole text is an artefact of the run.*")
    assert all(paragraph in long.split("\n\n") for paragraph in cut.split("\n\n")[:-1])
    assert len(shortened("x" * 6000)) == DESCRIPTION_LIMIT


def test_a_version_of_too_many_files_is_refused_before_it_is_downloaded(
    registry: Registry, folder: Path, tmp_path: Path
) -> None:
    planted = Path(shutil.copytree(folder, tmp_path / "planted"))
    (planted / "more").mkdir()
    for place in range(files.MOST_FILES):
        (planted / "more" / f"{place}.json").touch()
    with mlflow.start_run():
        number = registry.log_version(planted)

    with pytest.raises(VersionError, match=f"version {number} of .* has 1,001 files or more, and a version has 1,000"):
        registry.download(number, tmp_path / "here" / "version")

    assert list((tmp_path / "here").iterdir()) == []


@pytest.fixture
def tracked(registry: Registry) -> Iterator[Registry]:
    """The registry, where MLflow itself looks for models."""
    mlflow.set_tracking_uri(registry.uri)
    yield registry
    mlflow.set_tracking_uri(None)


@pytest.mark.parametrize("reference", ["1", "2"])
def test_the_pyfunc_names_its_version_as_the_service_does_and_takes_whole_numbers(
    tracked: Registry, folder: Path, reference: str
) -> None:
    model = mlflow.pyfunc.load_model(f"models:/{tracked.model_name}/{reference}")
    product = str(load(folder).facts.product_ids[0])
    whole = pd.DataFrame(
        [{"product_id": product, "current_stock": 150, "day_of_week": "Friday", "comp_price": 20, "list_price": 21}]
    )

    answer = model.predict(whole)
    fractional = model.predict(whole.astype({"current_stock": float, "comp_price": float, "list_price": float}))

    assert answer["model_version"].tolist() == [reference]
    assert answer["recommended_price"].tolist() == fractional["recommended_price"].tolist()


def test_the_pyfunc_of_a_folder_names_the_hash_of_its_weights(tracked: Registry, tmp_path: Path) -> None:
    where = Path(mlflow.artifacts.download_artifacts(f"models:/{tracked.model_name}/1", dst_path=str(tmp_path)))
    (where / "registered_model_meta").unlink()
    version = load(where / "artifacts" / "version")

    request = {"product_id": "x", "day_of_week": "Friday", "list_price": 9.5}
    answer = mlflow.pyfunc.load_model(str(where)).predict(pd.DataFrame([request]))

    assert answer["model_version"].tolist() == [version.weights_hash[:12]]
