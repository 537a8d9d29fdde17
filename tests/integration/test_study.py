"""Machines that share one study on PostgreSQL: which of them concludes it, and what becomes of a lost one's trials."""

import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from pipelines import tune
from pipelines.study import DEFAULT, RETRIES, begun, conclusion, open_study, others, retry_lost_trials, running_trial
from pipelines.trial import TrialBatch, run_batch
from pricing.config import Config, load_config
from pricing.data.panel import Panel
from tests.kit.mlflow_jobs import ROOT, JobFolder, place, write_config
from tests.kit.servers import postgres
from tests.kit.versions import shared_panel

UNTESTED = 4  # seconds after which a machine is taken for lost


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture
def url(server: str, request: pytest.FixtureRequest) -> str:
    """A database of its own for each test."""
    name = f"d{abs(hash(request.node.name))}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return make_url(server).set(database=name).render_as_string(False)


@pytest.fixture
def here(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobFolder]:
    spot = place(tmp_path, template=empty_store)
    for name, value in spot.environment().items():
        monkeypatch.setenv(name, value)
    mlflow.set_tracking_uri(spot.uri)
    yield spot
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    tiny = load_config(write_config(tmp_path_factory.mktemp("config") / "tiny.yaml"))
    return tiny.model_copy(update={"tuning": tiny.tuning.model_copy(update={"silent_seconds": UNTESTED})})


@pytest.fixture
def study(url: str, config: Config) -> optuna.Study:
    return open_study(url, name="s", tuning=config.tuning)


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes this process one of another machine."""
    return lambda name: monkeypatch.setattr(socket, "gethostname", lambda: name)


def good(panel: Panel, demand: Any, *, calendar: Any, on_fold: Any) -> Any:
    on_fold(0, {"wape": 0.4})
    return SimpleNamespace(figures={"wape": 0.4})


def run(study: optuna.Study, config: Config, score: Any, *, parent: str, count: int = 1) -> None:
    run_batch(study, shared_panel(), config, batch=TrialBatch(parent, count, 99, float("inf")), score=score)


def parent_of(here: JobFolder) -> str:
    return str(here.client.create_run("0").info.run_id)


def lose(study: optuna.Study, here: JobFolder, *, default: bool = False) -> optuna.Trial:
    """A trial that its machine began and will never speak of again."""
    if default:
        study.enqueue_trial({}, user_attrs={DEFAULT: True})
    with running_trial(study) as trial:
        if not default:
            trial.suggest_int("units", 4, 8, step=4)
        trial.set_user_attr("run_id", parent_of(here))
    return trial


def end_one(study: optuna.Study) -> None:
    with running_trial(study) as trial:
        study.tell(trial, 0.4)


def test_of_machines_that_end_a_study_together_one_concludes_it_and_the_others_say_who(
    study: optuna.Study, url: str, config: Config
) -> None:
    end_one(study)
    start, answered = threading.Barrier(4), threading.Semaphore(0)
    concluded: list[str] = []
    said: dict[str, str] = {}

    def end(run_id: str) -> None:
        mine = open_study(url, name="s", tuning=config.tuning)
        start.wait()
        with conclusion(mine, run_id=run_id, tuning=config.tuning, storage=url) as claim:
            if not claim.mine:
                said[run_id] = claim.who
                answered.release()
                return
            concluded.append(run_id)
            for _ in range(3):
                assert answered.acquire(timeout=30)
            claim.outcome = "nothing beat the default settings; version 5"

    machines = [threading.Thread(target=end, args=(f"run-{number}",)) for number in range(4)]
    for machine in machines:
        machine.start()
    for machine in machines:
        machine.join(60)

    (winner,) = concluded
    assert len(said) == 3
    assert all(f"(run {winner}) is concluding it" in words for words in said.values())
    with conclusion(study, run_id="late", tuning=config.tuning, storage=url) as claim:
        assert not claim.mine
        assert claim.who.endswith(f"(run {winner}): nothing beat the default settings; version 5")


def test_a_conclusion_that_failed_is_left_to_the_next_and_more_trials_are_concluded_anew(
    study: optuna.Study, url: str, config: Config
) -> None:
    end_one(study)

    def claim() -> Any:
        return conclusion(study, run_id="r", tuning=config.tuning, storage=url)

    with pytest.raises(KeyboardInterrupt), claim():
        raise KeyboardInterrupt
    with claim() as second:
        assert second.mine
    with claim() as third:
        assert not third.mine
    end_one(study)
    with claim() as fourth:
        assert fourth.mine


@pytest.mark.slow
def test_a_conclusion_whose_machine_vanished_is_taken_over(
    study: optuna.Study, url: str, config: Config, on: Callable[[str], None]
) -> None:
    end_one(study)
    lost = open_study(url, name=f"s: concluded after {begun(study)}", tuning=config.tuning)
    on("elsewhere")
    with running_trial(lost):
        pass
    on("here")
    with conclusion(study, run_id="early", tuning=config.tuning, storage=url) as claim:
        assert not claim.mine, "it may be alive"

    time.sleep(UNTESTED + 2)

    with conclusion(study, run_id="late", tuning=config.tuning, storage=url) as claim:
        assert claim.mine


@pytest.mark.slow
def test_trials_of_a_vanished_machine_are_tried_again_and_cost_the_study_nothing(
    study: optuna.Study, config: Config, here: JobFolder, on: Callable[[str], None]
) -> None:
    on("elsewhere")
    first, second = lose(study, here, default=True), lose(study, here)
    on("here")
    retry_lost_trials(study)
    assert [trial.number for trial in others(study)] == [0, 1], "they may be alive"

    time.sleep(UNTESTED + 2)
    retry_lost_trials(study)
    retry_lost_trials(study)  # as another machine would

    assert others(study) == []
    assert [trial.state.name for trial in study.trials] == ["FAIL", "FAIL", "WAITING", "WAITING"]
    assert begun(study) == 0
    ended = [here.client.get_run(trial.user_attrs["run_id"]) for trial in (first, second)]
    assert [one.info.status for one in ended] == ["FAILED", "FAILED"]
    assert "nothing more was heard of it from elsewhere" in ended[0].data.tags["failure"]
    run(study, config, good, parent=parent_of(here), count=2)
    again = study.trials[2:]
    assert [trial.state for trial in again] == [TrialState.COMPLETE] * 2
    assert {trial.user_attrs["host"] for trial in again} == {"here"}
    assert begun(study) == 2
    defaults = [trial for trial in again if trial.user_attrs.get(DEFAULT)]
    assert [trial.params for trial in defaults] == [{}]
    assert [trial.params["units"] for trial in again if trial not in defaults] == [second.params["units"]]


@pytest.mark.slow
def test_a_long_trial_that_gives_signs_of_life_is_left_alone(
    study: optuna.Study, config: Config, here: JobFolder, on: Callable[[str], None]
) -> None:
    on("elsewhere")

    with running_trial(study):
        time.sleep(UNTESTED + 2)
        on("here")
        retry_lost_trials(study)

    assert study.trials[0].state is TrialState.RUNNING


@pytest.mark.slow
def test_a_trial_that_comes_back_after_it_was_taken_for_lost_counts_once(
    study: optuna.Study, config: Config, here: JobFolder
) -> None:
    """Its machine was cut off from the database only; somebody else has tried its settings meanwhile."""
    parent = parent_of(here)

    def cut_off(panel: Panel, demand: Any, *, calendar: Any, on_fold: Any) -> Any:
        study.tell(0, state=TrialState.FAIL)
        return good(panel, demand, calendar=calendar, on_fold=on_fold)

    run(study, config, cut_off, parent=parent)
    run(study, config, good, parent=parent)

    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]
    runs = {entry.data.tags["trial"]: entry for entry in here.runs(**{"mlflow.parentRunId": parent})}
    assert [runs[number].info.status for number in "01"] == ["FAILED", "FINISHED"]
    assert "taken for lost" in runs["0"].data.tags["failure"]


def test_settings_that_took_several_processes_down_are_left_alone(study: optuna.Study, here: JobFolder) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()

    for _ in range(RETRIES + 1):
        trial = lose(study, here, default=not study.trials)
        trial.set_user_attr("pid", gone.pid)
        retry_lost_trials(study)

    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * (RETRIES + 1)
    assert begun(study) == 1


def test_a_search_out_of_budget_waits_for_trials_of_other_machines(
    study: optuna.Study, config: Config, here: JobFolder, capsys: pytest.CaptureFixture[str], on: Callable[[str], None]
) -> None:
    on("elsewhere")
    trial = lose(study, here)
    on("here")
    ended: list[float] = []

    def end() -> None:
        time.sleep(1)
        ended.append(time.monotonic())
        study.tell(trial, 0.4)

    threading.Thread(target=end).start()
    search = tune.Search("s", "", here.folder, trials=1, minutes=0, workers=2)
    tune._work(study, search, config, run=here.client.create_run("0"))

    assert time.monotonic() >= ended[0]
    assert "waiting for 1 trial(s) that elsewhere still runs" in capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_share_one_study(study: optuna.Study, config: Config, here: JobFolder, url: str) -> None:
    parent = parent_of(here)
    write_config(here.folder / "tiny.yaml")
    code = f"""
    import time
    from pipelines.study import open_study
    from pipelines.trial import TrialBatch, run_batch
    from pricing.config import load_config
    from types import SimpleNamespace
    from tests.kit.versions import shared_panel
    config = load_config({str(here.folder / "tiny.yaml")!r})
    study = open_study({url!r}, name="s", tuning=config.tuning)
    def score(panel, demand, *, calendar, on_fold):
        time.sleep(0.5)
        return SimpleNamespace(figures={{"wape": 0.4}})
    run_batch(study, shared_panel(), config, batch=TrialBatch({parent!r}, 3, 99, float("inf")), score=score)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    working = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]

    codes = [process.wait(120) for process in working]

    assert codes == [0, 0]
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 6
    assert len({trial.user_attrs["pid"] for trial in study.trials}) == 2
    assert {run.info.status for run in here.runs(**{"mlflow.parentRunId": parent})} == {"FINISHED"}
