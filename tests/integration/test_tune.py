import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import optuna
import pytest
from mlflow.entities import Run
from optuna.trial import TrialState

from pipelines.study import DEFAULT, StudyError, open_study, retry_lost_trials
from pipelines.trial import TrialBatch, run_batch
from pipelines.tune import without_newest_fold
from pricing.config import Config, load_config
from pricing.config_models import DemandConfig
from pricing.data.panel import Panel
from pricing.errors import HistoryError
from tests.kit.mlflow_jobs import JobFolder, place, write_config, write_sales
from tests.kit.versions import shared_panel


@pytest.fixture
def here(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobFolder]:
    spot = place(tmp_path, template=empty_store)
    for name, value in spot.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(spot.uri)
    yield spot
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return load_config(write_config(tmp_path_factory.mktemp("config") / "tiny.yaml"))


def _study(here: JobFolder, config: Config, *, default: bool = True) -> optuna.Study:
    study = open_study(str(here.folder / "journal.log"), name="s", tuning=config.tuning)
    if default:
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
    batch = TrialBatch(parent, count=count, budget=99, deadline=float("inf"))
    run_batch(study, shared_panel(), config, batch=batch, score=score)


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
    assert set(runs[1].data.params) == {"units", "learning_rate", "recency_half_life"}


def test_the_default_settings_are_tried_first_and_never_pruned(here: JobFolder, config: Config) -> None:
    study, parent = _study(here, config, default=False), _parent(here)
    _run(study, config, _score([0.1, 0.1], [0.1, 0.1]), parent=parent, count=2)
    study.enqueue_trial({}, user_attrs={DEFAULT: True})

    _run(study, config, _score([0.9, 0.9]), parent=parent, count=1)

    assert study.trials[-1].state is TrialState.COMPLETE
    assert study.trials[-1].params == {}


def test_settings_that_cannot_be_trained_fail_alone(here: JobFolder, config: Config) -> None:
    study, parent = _study(here, config), _parent(here)

    def score(panel: Panel, demand: DemandConfig, **_: Any) -> Any:
        raise HistoryError("the window is longer than the history")

    _run(study, config, score, parent=parent, count=2)

    assert [run.info.status for run in _children(here, parent)] == ["FAILED", "FAILED"]
    assert _children(here, parent)[0].data.tags["failure"] == "the window is longer than the history"


def test_a_score_that_is_no_number_is_a_failed_trial(here: JobFolder, config: Config) -> None:
    study, parent = _study(here, config), _parent(here)

    _run(study, config, _score([float("nan")]), parent=parent, count=1)

    assert (study.trials[0].state, _children(here, parent)[0].info.status) == (TrialState.FAIL, "FAILED")


def test_an_interrupted_trial_is_ended_in_the_study_and_in_mlflow(here: JobFolder, config: Config) -> None:
    study, parent = _study(here, config), _parent(here)

    def score(panel: Panel, demand: DemandConfig, **_: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _run(study, config, score, parent=parent, count=1)

    (run,) = _children(here, parent)
    assert (study.trials[0].state, run.info.status) == (TrialState.FAIL, "FAILED")
    assert run.data.tags["failure"] == "interrupted (SIGINT)"


def test_no_trial_begins_beyond_the_budget_or_the_deadline(here: JobFolder, config: Config) -> None:
    study, parent = _study(here, config), _parent(here)
    score = _score(*[[0.4, 0.4]] * 9)

    run_batch(study, shared_panel(), config, batch=TrialBatch(parent, 9, budget=2, deadline=float("inf")), score=score)
    run_batch(study, shared_panel(), config, batch=TrialBatch(parent, 9, budget=9, deadline=0.0), score=score)

    assert len(study.trials) == 2


def test_a_study_goes_on_where_it_was_left(here: JobFolder, config: Config) -> None:
    parent = _parent(here)
    _run(_study(here, config), config, _score([0.4, 0.4]), parent=parent, count=1)

    again = _study(here, config, default=False)
    _run(again, config, _score([0.3, 0.3]), parent=parent, count=1)

    assert [trial.value for trial in again.trials] == pytest.approx([0.4, 0.3])


@pytest.mark.slow
def test_machines_whose_processes_have_equal_numbers_draw_different_trials(
    here: JobFolder, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)  # as in containers

    drawn = [
        open_study(str(here.folder / machine), name="s", tuning=config.tuning).ask().suggest_float("rate", 0, 1)
        for machine in ("one", "other")
    ]

    assert drawn[0] != drawn[1]


def test_a_trial_that_a_crash_cut_off_is_ended_and_its_settings_are_tried_again(
    here: JobFolder, config: Config
) -> None:
    study, parent = _study(here, config), _parent(here)
    code = f"""
    import os, sys
    from pipelines.study import open_study
    from pipelines.trial import TrialBatch, run_batch
    from pricing.config import load_config
    from tests.kit.versions import shared_panel
    config = load_config({str(here.folder / "tiny.yaml")!r})
    study = open_study({str(here.folder / "journal.log")!r}, name="s", tuning=config.tuning)
    def score(*_, **__):
        os._exit(9)
    run_batch(study, shared_panel(), config, batch=TrialBatch({parent!r}, 1, 9, float("inf")), score=score)
    """
    write_config(here.folder / "tiny.yaml")
    root = Path(__file__).parents[2]
    crashed = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=root, check=False)
    assert crashed.returncode == 9
    assert study.trials[0].state is TrialState.RUNNING

    retry_lost_trials(study)
    _run(study, config, _score([0.4, 0.4]), parent=parent, count=1)

    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]
    assert study.trials[1].user_attrs[DEFAULT] is True


def test_a_running_trial_of_a_live_process_is_left_alone(here: JobFolder, config: Config) -> None:
    study = _study(here, config, default=False)
    trial = study.ask()
    trial.set_user_attr("host", os.uname().nodename)
    trial.set_user_attr("pid", os.getppid())

    retry_lost_trials(study)

    assert study.trials[0].state is TrialState.RUNNING


def test_a_storage_that_is_none_is_refused_without_its_password(config: Config) -> None:
    with pytest.raises(StudyError, match=r"postgresql\+psycopg2://me:\*\*\*@127\.0\.0\.1:9/x cannot be opened"):
        open_study("postgresql+psycopg2://me:secret@127.0.0.1:9/x", name="s", tuning=config.tuning)


def test_the_search_never_sees_the_newest_fold(config: Config) -> None:
    panel = shared_panel()

    past = without_newest_fold(panel, config.demand)

    assert past.dates[-1] == panel.dates[-1 - config.demand.horizon - config.demand.gap]


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (10, r"10 days; tuning holds the last demand\.horizon \+ demand\.gap = 14 of them back"),
        (
            30,
            "tuning holds the last 14 days back, and on the others the sales cover 16 days, a model needs at least 28",
        ),
    ],
)
def test_history_that_is_too_short_without_the_held_back_fold_is_refused_before_any_trial(
    config: Config, days: int, words: str
) -> None:
    panel = shared_panel()

    with pytest.raises(HistoryError, match=words):
        without_newest_fold(panel.through(panel.dates[days - 1]), config.demand)

    assert len(without_newest_fold(panel.through(panel.dates[111]), config.demand).dates) == 98


@pytest.mark.slow
def test_a_search_ends_with_the_better_settings_trained_as_challenger(here: JobFolder) -> None:
    sales = write_sales(here.folder / "sales.csv", moves=False)
    settings = write_config(here.folder / "tiny.yaml")
    words = ["--sales", str(sales), "--config", str(settings), "--trials", "3", "--workers", "2"]

    done = here.run("pipelines.tune", *words)

    assert done.code == 0, done.err
    (tune,) = here.runs(job="tune")
    (train,) = here.runs(job="train")
    assert (tune.info.status, train.info.status) == ("FINISHED", "FINISHED")
    assert train.data.tags["mlflow.parentRunId"] == tune.info.run_id
    assert "beat" in tune.data.tags["verdict"]
    assert len(here.runs(job="trial")) == 3
    assert here.aliases() == {"challenger": "1"}
    artifacts = {entry.path for entry in here.client.list_artifacts(tune.info.run_id)}
    assert {"best.yaml", "plots", "trials.csv"} <= artifacts
    assert not any(f"{word}" in done.err for word in ("Traceback", "Warning"))

    assert here.client.list_artifacts(train.info.run_id, "plots") == [], "registry.plots is false"

    again = here.run("pipelines.tune", *words[:-4], "--trials", "3")

    assert again.code == 0, again.err
    assert "3 of 3 trials" in again.out
    assert f"concluded by {os.uname().nodename} (run {tune.info.run_id}): " in again.out
    assert "; version 1" in again.out
    assert (len(here.runs(job="trial")), len(here.runs(job="train"))) == (3, 1)


@pytest.mark.slow
def test_a_study_of_other_sales_is_refused_by_name(here: JobFolder, config: Config) -> None:
    settings = write_config(here.folder / "tiny.yaml")
    other = write_sales(here.folder / "other.csv", products=4, days=115)
    study = open_study(str(here.home / "tuning" / "mine" / "journal.log"), name="mine", tuning=config.tuning)
    study.set_user_attr("data", "another fingerprint")

    done = here.run("pipelines.tune", "--sales", str(other), "--config", str(settings), "--study", "mine")

    assert done.code == 2
    assert "study mine was begun on other sales" in done.err
    (run,) = here.runs(job="tune")
    assert run.info.status == "FAILED"
