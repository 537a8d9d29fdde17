"""Tracking stores: an empty one to copy, and none that a module of tests leaves behind for the next one."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest
import sqlalchemy

from pricing.data.panel import Panel
from pricing.registry import CHAMPION
from pricing.registry.mlflow_registry import Registry
from tests.kit import servers
from tests.kit.mlflow_jobs import enter
from tests.kit.registered_shop import Shop
from tests.kit.versions import make_panel, shared_version


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking database with its tables made, which takes seconds, for tests to copy."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> str:
    """The address of an empty tracking database, the module's own."""
    return f"sqlite:///{shutil.copy(empty_store, tmp_path_factory.mktemp('store') / 'mlflow.db')}"


@pytest.fixture(scope="session")
def stocked_store(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a database with one version in its registry, `shared_version` as champion; making it takes seconds, too."""
    store = tmp_path_factory.mktemp("stocked")
    uri = f"sqlite:///{shutil.copy(empty_store, store / 'mlflow.db')}"
    with environment_kept(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(store)  # where the artifacts go
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment("pricing")
        registry = Registry("pricing", uri=uri)
        with mlflow.start_run():
            registry.set_alias(CHAMPION, registry.log_version(shared_version()))
    return store / "mlflow.db"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    with servers.postgres() as url:
        yield url


@pytest.fixture(scope="module")
def postgres(postgres_server: str, request: pytest.FixtureRequest) -> str:
    """The address of an empty PostgreSQL database, the module's own."""
    name = request.module.__name__.rpartition(".")[-1]
    engine = sqlalchemy.create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return sqlalchemy.make_url(postgres_server).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="module", autouse=True)
def tracking_store_forgotten() -> Iterator[None]:
    with environment_kept():
        yield


@contextmanager
def environment_kept() -> Iterator[None]:
    """Takes back what `mlflow.set_tracking_uri` did, to this process and to the environment that children inherit."""
    before = {name: value for name, value in os.environ.items() if name.startswith(("MLFLOW_", "PRICING_"))}
    yield
    mlflow.set_tracking_uri(None)
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "PRICING_"))]:
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def experiment_forgotten() -> None:
    """MLflow remembers the last experiment of a process by its number, whatever store comes next."""
    mlflow.tracking.fluent._active_experiment_id = None
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)


@pytest.fixture(scope="session")
def whole() -> Panel:
    return make_panel(products=12, days=180)


@pytest.fixture
def shop(empty_store: Path, whole: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    here = enter(tmp_path, monkeypatch, template=empty_store)
    monkeypatch.setenv("PRICING_ACTOR", "ann")
    mlflow.set_experiment("pricing")
    return Shop(tmp_path, Registry("pricing", uri=here.uri), whole)
