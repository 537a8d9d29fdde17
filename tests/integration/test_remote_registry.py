"""The registry on a real server: MLflow over HTTP, its database in PostgreSQL, its files in S3."""

import datetime as dt
import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from pipelines import etl, history, promote, refresh, retrain, rollback, train, tune
from pricing.decision.request import PriceRequest
from pricing.errors import RegistryError
from pricing.registry.audit import Audit
from pricing.registry.mlflow_registry import Registry
from pricing.registry.rest import ListedVersion, RestRegistry
from pricing.registry.version import load
from pricing.runtime.cli import EXIT_REFUSED
from tests.integration.test_promote import Shop, whole
from tests.kit.mlflow_jobs import FOREIGN, TINY, write_sales
from tests.kit.servers import free_port, object_store, postgres, python, running

__all__ = ["whole"]
GATES: dict[str, Any] = TINY["registry"]["gates"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*type hint:UserWarning"),  # MLflow's own classes
]


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(scope="module")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    with object_store(folder / "s3", bucket="mlflow") as environment:
        environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # eight processes that nobody here needs
        command = python(
            "mlflow", "server", "--backend-store-uri", database, "--artifacts-destination", "s3://mlflow/a"
        )
        command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        url = f"http://127.0.0.1:{port}"
        with running(command, ready=f"{url}/health", log=folder / "mlflow.log", environment=environment):
            yield url


@pytest.fixture
def shop(server: str, database: str, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("PRICING_DATABASE_URL", database)
    monkeypatch.setenv("PRICING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PRICING_ACTOR", "ann")
    mlflow.set_tracking_uri(server)
    mlflow.set_experiment("pricing")
    yield Shop(tmp_path, Registry("pricing", uri=server), whole)
    mlflow.set_tracking_uri(None)


def test_a_version_is_promoted_refused_refreshed_rolled_back_and_served_from_a_server(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = shop.add(days=150)
    assert promote.main([]) == 0
    assert shop.registry.aliases() == {"challenger": first, "champion": first}

    shop.add(seed=2, wape=0.9)
    assert promote.main([]) == EXIT_REFUSED

    second = shop.add(seed=3, days=150)
    assert promote.main([]) == 0
    assert shop.registry.aliases()["previous"] == first

    assert refresh.main(["--sales", shop.sales(160)]) == 0
    assert promote.main([]) == 0
    refreshed = shop.registry.find("champion")
    assert refreshed.weights == shop.registry.find(second).weights
    assert shop.registry.aliases()["previous"] == first

    assert rollback.main(["--reason", "complaints"]) == 0
    assert shop.registry.aliases()["champion"] == first
    assert shop.registry.aliases()["previous"] == refreshed.number

    capsys.readouterr()
    assert history.main(["--all", "true"]) == 0
    shown = capsys.readouterr().out
    assert [entry.outcome for entry in shop.entries()] == ["done", "refused", "done", "done", "done"]
    assert "rollback" in shown
    assert "promote: refused" in shown
    _served_prices_are_the_librarys(shop, tmp_path)
    _read_alike_without_mlflow(shop, tmp_path)

    shop.registry.delete(second)
    assert second not in [version.number for version in shop.registry.versions()]
    with pytest.raises(RegistryError):
        shop.registry.download(second, tmp_path / "gone")


@pytest.fixture
def remote(server: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder from which every job works with the server, and a search with a database of its own beside it."""
    engine = create_engine(database, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE studies")
    engine.dispose()
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("PRICING_DATABASE_URL", database)
    monkeypatch.setenv("PRICING_TUNING_STORAGE", make_url(database).set(database="studies").render_as_string(False))
    monkeypatch.setenv("PRICING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PRICING_ACTOR", "ann")
    yield tmp_path
    mlflow.set_tracking_uri(None)


def test_every_job_works_against_a_server_from_raw_sales_to_history(
    remote: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = pd.read_csv(write_sales(remote / "all.csv", products=4, days=122, moves=False))
    days = sorted(everything["date"].unique())
    for name, last in (("first", days[112]), ("later", days[117])):
        everything[everything["date"] <= last].to_csv(remote / f"{name}.csv", index=False)
    settings = _settings(remote / "fair.yaml", champion_ratio=9.0)
    strict = _settings(remote / "strict.yaml", champion_ratio=0.01)
    # Other weights than the champion's, whichever trial wins: the same weights are not judged against themselves.
    searched = _settings(remote / "searched.yaml", champion_ratio=9.0, recency_half_life=90)
    panel = str(remote / "panel")
    registry = Registry("remote", uri=os.environ["MLFLOW_TRACKING_URI"])

    assert etl.main(["--config", settings, "--sales", str(remote / "first.csv"), "--output", panel]) == 0
    assert train.main(["--config", settings, "--sales", panel]) == 0
    assert promote.main(["--config", settings]) == 0
    assert registry.aliases() == {"challenger": "1", "champion": "1"}

    assert tune.main(["--config", searched, "--sales", panel, "--trials", "2", "--workers", "2"]) == 0
    assert {run.info.status for run in _runs("trial")} <= {"FINISHED", "KILLED"}
    assert len({run.data.tags["pid"] for run in _runs("trial")}) == 2, "two workers shared the study"
    assert registry.aliases() == {"challenger": "2", "champion": "1"}
    assert promote.main(["--config", strict]) == EXIT_REFUSED
    assert registry.aliases()["champion"] == "1"
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRICING_HOME", str(remote / "another machine"))
        assert tune.main(["--config", searched, "--sales", panel, "--trials", "2"]) == 0
    assert f"concluded by {os.uname().nodename} (run {_runs('tune')[-1].info.run_id})" in capsys.readouterr().out
    assert registry.aliases() == {"challenger": "2", "champion": "1"}

    assert refresh.main(["--config", settings, "--sales", str(remote / "later.csv")]) == 0
    assert registry.aliases() == {"challenger": "3", "champion": "1"}, "the refused proposal waits no more"
    assert promote.main(["--config", settings]) == 0
    assert registry.find("champion").weights == registry.find("1").weights

    recent = _settings(remote / "recent.yaml", champion_ratio=9.0, recency_half_life=60)
    assert retrain.main(["--config", recent, "--sales", str(remote / "all.csv"), "--reason", "decay"]) == 0
    assert registry.aliases() == {"challenger": "4", "champion": "4", "previous": "3"}
    _both_were_scored_on_the_same_folds(registry, remote)

    assert rollback.main(["--config", settings, "--reason", "complaints"]) == 0
    assert registry.aliases()["champion"] == "3"
    capsys.readouterr()
    assert history.main(["--config", settings, "--all", "true"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line[:1].isdigit()]
    assert [line[1] for line in lines] == ["1", "(2)", "3", "4", "3"]
    assert _runs("etl")[0].info.artifact_uri.startswith("mlflow-artifacts:")


def _both_were_scored_on_the_same_folds(registry: Registry, folder: Path) -> None:
    """The champion has other settings and other data: it is refitted on the challenger's before they are compared."""
    entry = Audit(os.environ["PRICING_DATABASE_URL"]).entries(registry.identity())[-1]
    refitted = mlflow.artifacts.load_dict(f"runs:/{entry.run_id}/champion_refitted.json")
    champion, challenger = (load(registry.download(number, folder / f"got-{number}")) for number in ("3", "4"))
    cutoffs = [[fold["cutoff"] for fold in one["folds"]] for one in (refitted, challenger.backtest, champion.backtest)]
    assert challenger.config.demand.recency_half_life == 60
    assert champion.config.demand.recency_half_life is None
    assert cutoffs[0] == cutoffs[1] != cutoffs[2]
    assert refitted["wape"] != pytest.approx(champion.backtest["wape"])
    (gate,) = [gate for gate in entry.gates if gate["name"] == "against_champion"]
    assert gate["figure"] == pytest.approx(challenger.backtest["wape"] / refitted["wape"])


def _settings(path: Path, *, champion_ratio: float, **demand: float) -> str:
    gates = {**GATES, "champion_ratio": champion_ratio}
    registry = {"model_name": "remote", "auto_promote": True, "plots": False, "gates": gates}
    # One fold: what jobs do with a server is the same for two, which train more.
    changed = {"demand": {**TINY["demand"], "folds": 1, **demand}, "tuning": {**TINY["tuning"], "batch": 1}}
    path.write_text(yaml.safe_dump({**TINY, **changed, "registry": registry}))
    return str(path)


def _runs(job: str) -> list[Run]:
    client = MlflowClient()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, filter_string=f"tags.job = '{job}'"))


def _read_alike_without_mlflow(shop: Shop, tmp_path: Path) -> None:
    rest, whole = RestRegistry("pricing", uri=shop.registry.uri), shop.registry.find("champion")

    assert rest.at("champion") == rest.version(whole.number) == ListedVersion(whole.number, whole.created_ms)
    assert rest.at("nobody") is rest.version("999") is None
    assert RestRegistry("nothing", uri=shop.registry.uri).at("champion") is None
    by_mlflow = shop.registry.download(whole.number, tmp_path / "by_mlflow")
    without = rest.download(whole.number, tmp_path / "without")
    contents = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (by_mlflow, without)
    ]
    assert contents[0] == contents[1] != {}
    assert load(without).verify().requests > 0


def _served_prices_are_the_librarys(shop: Shop, tmp_path: Path) -> None:
    version = shop.fetch("champion")
    rows: list[dict[str, Any]] = [
        {
            "product_id": str(version.demand.product_ids[0]),
            "current_stock": 150,
            "day_of_week": "Friday",
            "comp_price": 20,
        },
        {"product_id": "nobody knows", "current_stock": 0, "day_of_week": "Monday", "list_price": 9.5},
        {
            "product_id": str(version.demand.product_ids[1]),
            "current_stock": 3.5,
            "day_of_week": "Sunday",
            "is_promo": True,
        },
    ]
    port = free_port()
    command = python("mlflow", "models", "serve", "-m", "models:/pricing@champion", "--env-manager", "local")
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    url = f"http://127.0.0.1:{port}"

    # Outside the project's folder: the version itself brings the library.
    with running(command, ready=f"{url}/ping", log=tmp_path / "serve.log", folder=tmp_path):
        body = json.dumps({"dataframe_records": rows, "params": {"today": "2024-06-03"}}).encode()
        request = urllib.request.Request(f"{url}/invocations", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            served = json.load(answer)["predictions"]

    requests = [PriceRequest(**({"comp_price": None} | row)) for row in rows]  # an empty cell of a table is a null
    expected = version.pricer(version="x").price(requests, today=dt.date(2024, 6, 3))
    assert [one["recommended_price"] for one in served] == [one.recommended_price for one in expected]
    assert [one["confidence"] for one in served] == pytest.approx([one.confidence for one in expected], rel=1e-6)
    assert [one["reasons"] for one in served] == [one.reasons for one in expected]
