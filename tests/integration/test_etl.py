"""The etl job from the command line: a panel for the jobs that follow, or a reason and nothing at all."""

from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow.entities import Run

from pipelines.etl import main, page_file
from pricing.config import load_config
from pricing.data.panel import load_panel
from tests.kit.shop import Shop

GOOD = "date,product_id,units_sold,price\n2024-01-01,A,2,3.5\n2024-01-02,A,0,3.0\n2024-01-03,B,1,2.0\n"


@pytest.fixture(autouse=True)
def own_place(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("PRICING_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("plan", ["promotions", "deliveries"])
def test_a_plan_that_cannot_be_used_stops_the_job_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], plan: str
) -> None:
    (tmp_path / "sales.csv").write_text(GOOD)
    (tmp_path / "plan.csv").write_text("product_id,first\nA,2024-02-01\n")
    (tmp_path / "own.yaml").write_text(f"data: {{{plan}: plan.csv}}\n")

    assert main(["--sales", "sales.csv", "--config", "own.yaml"]) == 2

    assert f"data.{plan}" in capsys.readouterr().err
    assert not (tmp_path / "home" / "panel").exists()


def test_bad_rows_are_set_aside_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_text(GOOD.replace(",A,0,", ",<script>,-4,"))

    code = main(["--sales", "sales.csv", "--output", "panel", "--quarantine", "bad"])

    assert code == 0
    assert "units_sold must be at least 0" in (tmp_path / "bad" / "bad_rows.csv").read_text()
    assert "units_sold must be at least 0" in page()
    assert "&lt;script&gt;" in page()
    assert "<script>" not in page()
    assert load_panel("panel").present.sum() == 2


def test_bad_input_ends_with_a_reason_a_failed_run_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = "column price must be there"
    (tmp_path / "sales.csv").write_text(GOOD.replace("price", "cost"))

    code = main(["--sales", "sales.csv", "--output", "panel"])

    said = capsys.readouterr().err
    assert code == 2
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "panel").exists()
    assert message in page()
    assert latest_run().info.status == "FAILED"
    assert message in latest_run().data.tags["failure"]


def latest_run() -> Run:
    return mlflow.search_runs(search_all_experiments=True, output_format="list")[0]


def page(panel: str = "panel") -> str:
    return page_file(Path(panel)).read_text(encoding="utf-8")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path)
    shop.trade(40)
    settings = {"time_zone": "Europe/Berlin", "data": {"missing": "zero"}, "etl": {"tables": shop.tables}}
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(settings))
    return shop


def test_a_shops_tables_become_a_panel_with_their_plans(shop: Shop) -> None:
    assert main(["--sales", "etl", "--output", "panel", "--config", "shop.yaml"]) == 0

    panel, run = load_panel("panel"), latest_run()
    assert panel.lineage["etl_run_id"] == run.info.run_id
    assert "Spring fair" in {event.name for event in panel.events}
    assert load_config("shop.yaml").data.deliveries == "etl"
    assert "stock only" not in page()
    read = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/etl.json")
    assert read["kept"]
    assert all(f"<td>{name}</td>" in page() for name in read["tables"])
