"""Whatever a command cannot do is one clear line, a non-zero exit code, and a registry as it was."""

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from monitoring import __main__ as monitor
from pipelines import etl, price, promote, refresh, rollback, train, tune
from pricing.registry.mlflow_registry import Registry
from tests.kit.mlflow_jobs import enter, write_config, write_sales

DEAD = "http://127.0.0.1:9"
DEAD_DATABASE = "postgresql://me:secret@127.0.0.1:9/x"


@pytest.fixture
def registry(stocked_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    here = enter(tmp_path, monkeypatch, template=stocked_store)
    write_config(tmp_path / "tiny.yaml")
    write_sales(tmp_path / "sales.csv", products=2, days=115)
    return Registry("pricing", uri=here.uri)


def refused(job: Any, *words: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert job(words) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if " WARNING " not in line]
    assert len(error) == 1, error
    assert error[0].startswith("error: ")
    return error[0]


@pytest.mark.parametrize(
    ("job", "words"), [(promote.main, ()), (price.main, ()), (monitor.main, ("--sales", "sales.csv"))]
)
def test_a_registry_that_does_not_answer_stops_every_job(
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    job: Any,
    words: tuple[str, ...],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)

    assert "does not answer" in refused(job, *words, capsys=capsys)


@pytest.mark.parametrize(
    ("job", "words", "said"),
    [
        (promote.main, "--version 99", "pricing has no version"),
        (rollback.main, "--version nobody", "nobody"),
        (refresh.main, "--version 99 --sales sales.csv", "pricing has no version"),
        (price.main, "--version nobody", "nobody"),
        (train.main, "--sales none.csv", "none.csv"),
        (promote.main, "--version champion --config none.yaml", "none.yaml"),
        (etl.main, "--sales ftp://", "ftp://"),
        (tune.main, "--config tiny.yaml --sales sales.csv", "***@127.0.0.1:9/x"),
    ],
)
def test_what_is_not_there_or_makes_no_sense_changes_nothing(
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    job: Any,
    words: str,
    said: str,
) -> None:
    monkeypatch.setenv("PRICING_TUNING_STORAGE", DEAD_DATABASE)

    line = refused(job, *words.split(), capsys=capsys)

    assert said in line
    assert "secret" not in line
    assert registry.aliases() == {"champion": "1"}
    assert len(registry.versions()) == 1
    assert not [run for run in MlflowClient().search_runs(["1"]) if run.info.status == "RUNNING"]
