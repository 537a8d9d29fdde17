"""Trials of a study as child runs, the search that outlives failures and kills, and the challenger at its end."""

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml
from mlflow.entities import Run
from optuna.trial import TrialState

from pipelines import tune
from pipelines.tune import DEFAULT, Search, StudyError, ended, open_study, without_newest_fold
from pricing.config import Config, load_config
from pricing.config_models import DemandConfig
from pricing.data.panel import Panel
from pricing.errors import HistoryError
from tests.kit.mlflow_jobs import ROOT, JobFolder, enter, write_config, write_sales
from tests.kit.versions import shared_panel


@pytest.fixture
def here(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> JobFolder:
    return enter(tmp_path, monkeypatch, template=empty_store)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return load_config(write_config(tmp_path_factory.mktemp("config") / "tiny.yaml"))


def _study(here: JobFolder, config: Config) -> optuna.Study:
    study = open_study(f"sqlite:///{here.folder / 'study.db'}", name="s", tuning=config.tuning)
    study.enqueue_trial({}, user_attrs={DEFAULT: True})
    return study


def _parent(here: JobFolder) -> str:
    return str(here.client.create_run("0").info.run_id)


def _score(*wapes: list[float]) -> Any:
    """A backtest whose folds score as given, one list a trial."""
    trials = iter(wapes)

    def score(panel: Panel, demand: DemandConfig, *, calendar: Any, on_fold: Any) -> Any:
        folds = next(trials)
        for number, wape in enumerate(folds):
            on_fold(number, {"wape": wape})
        return SimpleNamespace(figures={"wape": sum(folds) / len(folds)})

    return score


def _run(study: optuna.Study, config: Config, score: Any, *, parent: str, count: int) -> None:
    search = Search(shared_panel(), config, study.study_name, "", parent)
    search.run_trials(study, count=count, score=score)


def _children(here: JobFolder, parent: str) -> list[Run]:
    found = here.runs(**{"mlflow.parentRunId": parent})
    return sorted(found, key=lambda run: int(run.data.tags["trial"]))


def test_each_trial_is_a_child_run_and_a_pruned_one_is_killed(here: JobFolder, config: Config) -> None:
    study, parent = _study(here, config), _parent(here)

    _run(study, config, _score([0.4, 0.5], [0.3, 0.3], [0.9, 0.9]), parent=parent, count=3)

    runs = _children(here, parent)
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED", "KILLED"]
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert runs[0].data.metrics["wape"] == pytest.approx(0.45)
    history = here.client.get_metric_history(runs[0].info.run_id, "fold/wape")
    assert [(entry.step, entry.value) for entry in history] == [(1, 0.4), (2, 0.5)]
    assert "after fold 1 of 2" in runs[2].data.tags["verdict"]
    assert set(runs[1].data.params) == {"units", "steps", "context", "learning_rate"}


def test_the_default_settings_are_never_pruned(here: JobFolder, config: Config) -> None:
    study, parent = _study(here, config), _parent(here)
    _run(study, config, _score([0.2, 0.2], [0.1, 0.1], [0.1, 0.1]), parent=parent, count=3)
    study.enqueue_trial({}, user_attrs={DEFAULT: True})

    _run(study, config, _score([0.9, 0.9]), parent=parent, count=1)

    assert (study.trials[-1].state, study.trials[-1].params) == (TrialState.COMPLETE, {})


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (HistoryError("the window is longer than the history"), "longer than the history"),
        (float("nan"), "nothing was sold"),
        (KeyboardInterrupt(), "interrupted (SIGINT)"),
    ],
)
def test_a_trial_without_a_score_ends_in_the_study_and_in_mlflow_and_fails_alone(
    here: JobFolder, config: Config, outcome: Any, said: str
) -> None:
    study, parent, ended = _study(here, config), _parent(here), isinstance(outcome, KeyboardInterrupt)

    def score(*_: Any, **__: Any) -> Any:
        if isinstance(outcome, BaseException):
            raise outcome
        return SimpleNamespace(figures={"wape": outcome})

    with pytest.raises(KeyboardInterrupt) if ended else nullcontext():
        _run(study, config, score, parent=parent, count=2)

    runs = _children(here, parent)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * (1 if ended else 2)
    assert {run.info.status for run in runs} == {"FAILED"}
    assert said in runs[0].data.tags["failure"]


def test_a_trial_whose_process_was_killed_is_ended_when_the_search_goes_on(here: JobFolder, config: Config) -> None:
    study, parent = _study(here, config), _parent(here)
    study.ask().set_user_attr("run_id", run := _parent(here))  # and no more is heard of it

    assert ended(study) == 1
    _run(study, config, _score([0.4, 0.4]), parent=parent, count=1)

    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]
    assert here.client.get_run(run).info.status == "FAILED"


def test_a_storage_that_is_none_is_refused_without_its_password(config: Config) -> None:
    with pytest.raises(StudyError, match=r"postgresql://\*\*\*@127\.0\.0\.1:9/x cannot be opened"):
        open_study("postgresql://me:secret@127.0.0.1:9/x", name="s", tuning=config.tuning)


def test_history_that_is_too_short_without_the_held_back_fold_is_refused_before_any_trial(config: Config) -> None:
    with pytest.raises(HistoryError, match="tuning holds the last"):
        without_newest_fold(shared_panel().through(shared_panel().dates[29]), config.demand)


def test_a_search_never_sees_the_newest_fold_and_trains_the_better_settings(
    here: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole job in one process: whatever is tried scores better than the default, and training is only noted."""
    from pricing.demand import backtest  # noqa: PLC0415 - imports TensorFlow

    sales = write_sales(here.folder / "sales.csv", moves=False)
    settings = write_config(here.folder / "tiny.yaml")
    default, last, trained = load_config(str(settings)).demand, set(), []

    def score(panel: Panel, demand: DemandConfig, **_: Any) -> Any:
        if demand.folds > 1:  # the search; else the comparison on the newest fold
            last.add(panel.dates[-1])
        return SimpleNamespace(figures={"wape": 0.4 if demand.learning_rate == default.learning_rate else 0.3})

    monkeypatch.setattr(backtest, "backtest", score)
    monkeypatch.setattr(tune, "run_job", lambda module, words, **_: trained.append((module, words)))
    words = ["--sales", str(sales), "--config", str(settings), "--trials", "3"]

    assert [tune.main(words) for _ in range(2)] == [0, 0]

    assert len(here.runs(job="trial")) == 3  # the second command found the study searched
    newest = np.datetime64(pd.read_csv(sales)["date"].max(), "D")
    assert last == {newest - default.horizon}
    for module, given in trained:
        assert module == "train"
        assert load_config(given[1]).demand.learning_rate != default.learning_rate


@pytest.mark.weekly
@pytest.mark.filterwarnings("ignore")  # what Dask's own sockets leave at its end
def test_trials_run_on_the_workers_of_a_scheduler(here: JobFolder) -> None:
    from distributed import LocalCluster  # noqa: PLC0415 - takes a second

    sales, storage = write_sales(here.folder / "sales.csv", moves=False), f"sqlite:///{here.folder / 'study.db'}"
    settings = write_config(here.folder / "tiny.yaml")
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        scale = {"scale": {"scheduler": cluster.scheduler_address}}
        settings.write_text(yaml.safe_dump({**yaml.safe_load(settings.read_text()), **scale}))
        words = ["--sales", str(sales), "--config", str(settings), "--trials", "2"]
        command = [sys.executable, "-m", "pricing.runtime.command", "tune", *words]
        environment = here.environment(**{tune.STORAGE_VARIABLE: storage})
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert {run.info.status for run in here.runs(job="trial")} <= {"FINISHED", "KILLED"}
    assert len(here.runs(job="trial")) == 2
