"""The registry on a real server: MLflow over HTTP, its database in PostgreSQL, its files in S3."""

import datetime as dt
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest

from pipelines import history, promote, refresh, rollback
from pipelines.cli import EXIT_REFUSED
from pricing.decision.request import PriceRequest
from pricing.registry.aliases import Registry
from tests.integration.test_promote import Shop, whole
from tests.servers import free_port, object_store, postgres, python, running

__all__ = ["whole"]
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


def _served_prices_are_the_librarys(shop: Shop, tmp_path: Path) -> None:
    version = shop.fetch("champion")
    rows: list[dict[str, Any]] = [
        {
            "product_id": str(version.demand.product_ids[0]),
            "current_stock": 150,
            "day_of_week": "Friday",
            "comp_price": 20,
        },
        {"product_id": "nobody knows", "current_stock": 0, "day_of_week": "Monday", "comp_price": None},
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

    requests = [PriceRequest(**row) for row in rows]
    expected = version.pricer(version="x").price(requests, today=dt.date(2024, 6, 3))
    assert [one["recommended_price"] for one in served] == [one.recommended_price for one in expected]
    assert [one["confidence"] for one in served] == pytest.approx([one.confidence for one in expected], rel=1e-6)
    assert [one["reasons"] for one in served] == [one.reasons for one in expected]
