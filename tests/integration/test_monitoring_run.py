import datetime as dt
import json
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest
import yaml
from mlflow import MlflowClient

from monitoring.__main__ import main
from monitoring.policy import JobHistory
from monitoring.tracking import last_nightly_refresh, retrainings, with_recorded
from pipelines.steps.commands import only_one
from pricing.data.panel import Panel, save_panel
from pricing.decision_log.write import LogWriter
from pricing.runtime.mlflow_runs import tracked_run
from tests.kit.mlflow_jobs import enter
from tests.kit.monitoring_world import World, backtest_figures, build, entries
from tests.kit.panels import put
from tests.kit.price_api import PriceApi, price_api
from tests.kit.promotions import packed

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def home(tmp_path, empty_store, monkeypatch):
    here = enter(tmp_path, monkeypatch, template=empty_store)
    here.home.mkdir()
    MlflowClient().create_experiment("pricing", (tmp_path / "artifacts").as_uri())
    yield here.home
    while mlflow.active_run():
        mlflow.end_run()


def prepare(home: Path, world: World, *, days=range(300, 392)) -> Panel:
    panel, truth = build(world)
    writer = LogWriter(home / "segments", url=str(home / "decisions"))
    writer.append(entries(panel, truth, days=days))
    writer.close()
    save_panel(panel, home / "panel")
    return panel


def crown(home: Path, world: World, *, state_date: str) -> None:
    """Registers a champion with the backtest of a model that knows the world before its change."""
    panel, truth = build(World(**{**world.__dict__, "change_day": None, "days": 300}))
    packed(home / "version", panel=panel, **backtest_figures(panel, truth))
    client = MlflowClient()
    run = client.create_run(client.get_experiment_by_name("pricing").experiment_id)
    client.log_artifacts(run.info.run_id, str(home / "version"), "model/artifacts/version")
    client.create_registered_model("pricing")
    source, tags = f"{run.info.artifact_uri}/model", {"state_date": state_date, "weights": "w"}
    version = client.create_model_version("pricing", source, run.info.run_id, tags=tags)
    client.set_registered_model_alias("pricing", "champion", version.version)


def monitor(home: Path, *more: str, **settings: object) -> int:
    """Monitors, with some settings of the section `monitoring` changed."""
    path = home / "config.yaml"
    path.write_text(yaml.safe_dump({"monitoring": settings}))
    return main(["--sales", str(home / "panel"), "--config", str(path), *more])


def by(hook: PriceApi) -> dict[str, object]:
    """The settings of alerts that go to a webhook."""
    return {"alerts": ["webhook"], "endpoints": {"webhook_url": hook.url}}


def report(home: Path) -> dict:
    return json.loads((home / "monitoring" / "latest" / "outcome.json").read_text())


def last_run():
    client = MlflowClient()
    experiment = client.get_experiment_by_name("pricing")
    return client.search_runs([experiment.experiment_id], filter_string="tags.job = 'monitor'")[0]


def codes(document: dict) -> set[str]:
    return {finding["code"] for finding in document["findings"]}


def test_an_unchanged_world_is_reported_and_nothing_is_done(home):
    world = World(days=392)
    prepare(home, world)
    crown(home, world, state_date="2024-10-01")

    assert monitor(home) == 0

    run = last_run()
    assert run.info.status == "FINISHED"
    assert run.data.tags["outcome"] in ("none", "refresh")
    assert 0.2 < run.data.metrics["wape"] < 0.6
    assert run.data.metrics["windows_in_breach"] == 0
    assert run.data.tags["champion"] == "1"
    names = {item.path for item in MlflowClient().list_artifacts(run.info.run_id)}
    assert {"drift.html", "outcome.json", "scored_decisions.csv"} <= names
    assert "has not decayed" in report(home)["explanation"]
    assert list((home / "monitoring" / "evidently").glob("*/snapshots/*.json"))


def retrained(experiment: str, status: str = "FINISHED") -> None:
    """The run that a retraining leaves, whoever started it."""
    client = MlflowClient()
    run = client.create_run(client.get_experiment_by_name(experiment).experiment_id, tags={"job": "retrain"})
    client.log_param(run.info.run_id, "registry.model_name", "pricing")
    client.set_terminated(run.info.run_id, status)


def test_a_regime_change_is_decay_and_asks_for_a_retraining_until_the_cooldown_of_one(home):
    world = World(days=392, change_day=364, demand_factor=0.55, price_factor=0.85, comp_factor=0.8)
    prepare(home, world, days=range(350, 392))
    crown(home, world, state_date="2025-01-26")

    assert monitor(home) == 0

    document = report(home)
    assert document["outcome"]["cause"] == "decay"
    assert "has decayed" in document["explanation"]
    assert "Inputs have drifted: the competitor's prices." in document["explanation"]  # and not our own
    assert last_run().data.tags["outcome"] == "retrain"

    retrained("Default")  # where `mlflow run` without --experiment-name, or a night, may have put it

    assert monitor(home) == 0

    assert report(home)["outcome"]["cause"] == "decay"
    assert last_run().data.tags["outcome"] == "none"  # so that a second night starts no second retraining


def test_drift_while_forecasts_hold_is_on_the_page_and_calls_nobody(home):
    world = World(days=392, change_day=364, comp_factor=0.8)
    prepare(home, world)
    crown(home, world, state_date="2025-01-26")
    with price_api({}) as hook:
        assert monitor(home, **by(hook)) == 0

    assert report(home)["outcome"]["cause"] == "drift"
    assert hook.bodies == []


def test_a_job_that_fails_is_told_by_itself_and_in_monitorings_alert_and_no_more(home):
    world = World(days=392, change_day=364, demand_factor=0.55)
    prepare(home, world, days=range(350, 392))
    crown(home, world, state_date="2025-01-26")
    with price_api({}) as hook, only_one("retrain", home=home):  # so that another one cannot start
        assert monitor(home, trigger="local", **by(hook)) == 2

    assert [(one["job"], one["severity"]) for one in hook.bodies] == [("retrain", "warning"), ("monitor", "critical")]
    assert "retrain failed" in last_run().data.tags["failure"]


def test_a_feed_that_stopped_calls_a_person_and_retrains_nothing(home):
    world = World(days=392, change_day=364, demand_factor=0.55)
    panel = prepare(home, world, days=range(350, 392))
    save_panel(put(panel, np.s_[:, -28:], comp_price=np.nan), home / "panel")
    crown(home, world, state_date="2025-01-26")

    assert monitor(home) == 0

    assert "column_empty" in codes(report(home))
    assert "comp_level" in report(home)["outcome"]["reason"]
    assert report(home)["outcome"]["fault"].startswith("column_empty-comp_level")
    assert last_run().data.tags["outcome"] == "page"
    assert last_run().data.tags["sales_at_fault"] == "true"  # so that the night carries no states over them


def test_an_alert_that_cannot_be_delivered_fails_the_run_after_the_report_is_written(home):
    prepare(home, World(days=60, products=20), days=range(40, 60))
    assert monitor(home, "--act", "false") == 0
    (home / "decisions").rename(home / "old")  # so that decisions that were compared before are gone

    assert monitor(home, alerts=["webhook"], endpoints={"webhook_url": "http://127.0.0.1:9/"}) == 2

    assert last_run().info.status == "FAILED"
    assert "webhook" in last_run().data.tags["failure"]
    assert last_run().data.tags["outcome"] == "page"  # which the night reads
    assert report(home)["outcome"]["action"] == "page"
    assert report(home)["outcome"]["fault"] == "log_empty"


def test_a_night_without_a_decision_fails_with_one_alert_that_says_where_to_look(home, capsys):
    prepare(home, World(days=60, products=20), days=range(40, 59))  # and none for the last day, on which it sold
    with price_api({}) as hook:
        assert monitor(home, **by(hook)) == 2

    (alert,) = hook.bodies
    assert (alert["key"], alert["severity"]) == ("decisions_stopped-page", "critical")
    assert last_run().info.status == "FAILED"
    assert (last_run().data.tags["outcome"], report(home)["outcome"]["fault"]) == ("page", "decisions_stopped")
    assert str(home / "decisions") in capsys.readouterr().err


def test_retrainings_that_others_started_count_in_whichever_experiment(home):
    for where, status in (("pricing", "FAILED"), ("Default", "FAILED"), ("Default", "FINISHED"), ("pricing", "FAILED")):
        retrained(where, status)
        time.sleep(0.01)  # so that one is newer than the other

    with tracked_run("monitor"):
        past, other = (with_recorded(JobHistory(), retrainings(model)) for model in ("pricing", "another"))

    assert (past.retrained is not None, past.failed) == (True, 1)
    assert (other.retrained, other.failed) == (None, 0)


@pytest.mark.parametrize("within", [True, False])
def test_a_refresh_that_a_night_made_against_decay_counts(home, within):
    client = MlflowClient()
    experiment = client.get_experiment_by_name("pricing").experiment_id
    night = client.create_run(experiment, tags={"job": "nightly"})
    tags = {"job": "monitor", "outcome": "refresh"} | ({"mlflow.parentRunId": night.info.run_id} if within else {})
    run = client.create_run(experiment, tags=tags)
    client.log_param(run.info.run_id, "registry.model_name", "pricing")
    client.set_terminated(run.info.run_id, "FINISHED")

    with tracked_run("monitor"):
        refreshed = last_nightly_refresh("pricing")

    assert (refreshed is not None) == within


def hour(number: float) -> dt.datetime:
    return dt.datetime(2024, 6, 1, tzinfo=dt.UTC) + dt.timedelta(hours=number)


@pytest.mark.parametrize(
    ("runs", "failures", "failed"),
    [
        ([(0, "FINISHED")], [(5, 5.1), (9, 9.1)], 2),  # neither got as far as a run
        ([(9, "FAILED"), (0, "FINISHED")], [(5, 5.1)], 2),  # a person's failed as well
        ([(5.05, "FAILED"), (0, "FINISHED")], [(5, 5.1)], 1),  # one and the same
        ([(7, "FINISHED")], [(5, 5.1), (9, 9.1)], 1),  # the first was made good by a person
    ],
)
def test_a_job_that_failed_before_its_run_was_opened_counts_as_failed(runs, failures, failed):
    started = [(hour(start), status) for start, status in runs]
    past = JobHistory(failed=len(failures), failures=tuple((hour(begin), hour(end)) for begin, end in failures))

    assert with_recorded(past, started).failed == failed
