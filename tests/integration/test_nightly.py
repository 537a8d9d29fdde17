"""The nights of a shop: which jobs run, in which order, and what a night leaves that was cut off at any of them."""

import datetime as dt
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pipelines import nightly
from pipelines.commands import JobError
from pricing.config import load_config
from pricing.decision_log.read import open_log
from pricing.errors import EXIT_NOT_PUBLISHED, EXIT_REFUSED, Terminated
from tests.kit.mlflow_jobs import FOREIGN, place, write_config
from tests.kit.monitoring_world import World, build, entries, write_log

pytestmark = pytest.mark.filterwarnings("ignore:.*type hint:UserWarning")  # MLflow's own classes
WORLD = World(products=3, days=60)
DAY = str(dt.datetime.now(dt.UTC).date() - dt.timedelta(days=2))
STAGES = ("etl", "monitor", "refresh", "promote")


class Jobs:
    """Stands in for the jobs: notes what was started, answers with given exit codes, or breaks at one."""

    def __init__(self) -> None:
        self.started: list[tuple[str, list[str]]] = []
        self.codes: dict[str, int] = {}
        self.breaks: dict[str, BaseException] = {}
        self.refreshed: str | None = "7"
        self.found: dict[str, str] = {}
        self.refused_by = ""

    def __call__(self, module: str, options: Sequence[str], *, run: Run, fine: Sequence[int] = (0,), **_: Any) -> int:
        self.started.append((module, list(options)))
        if module in self.breaks:
            raise self.breaks.pop(module)
        job = module
        tags = {"mlflow.parentRunId": run.info.run_id, "job": job}
        if module == "refresh" and self.refreshed is not None:
            tags["version"] = self.refreshed
        tags |= self.found if module == "monitor" else {}
        tags |= {"refused_by": self.refused_by} if self.refused_by and module == "promote" else {}
        MlflowClient().create_run(run.info.experiment_id, tags=tags)
        code = self.codes.get(module, 0)
        if code not in fine:
            raise JobError(f"{module} ended with exit code {code}")
        return code

    @property
    def names(self) -> tuple[str, ...]:
        """All but the last two of a night that has a champion."""
        return tuple(module for module, _ in self.started if module not in ("publish", "price"))

    def words(self, module: str) -> list[str]:
        return next(options for name, options in self.started if name == module)


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> Path:
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    here = place(tmp_path, template=empty_store)
    monkeypatch.setenv("PRICING_HOME", str(here.home))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", here.uri)
    monkeypatch.delenv("PRICING_DECISIONS_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(here.uri)
    write_log(here.home / "decisions", entries(*build(WORLD), days=range(50, 51)), day=DAY)
    return tmp_path


@pytest.fixture
def night(home: Path, jobs: Jobs) -> Callable[..., int]:
    """One night; `auto` is registry.auto_refresh."""

    def run(*, auto: bool = True) -> int:
        settings = write_config(home / "config.yaml", auto_refresh=auto)
        return nightly.main(["--sales", "sales.csv", "--config", str(settings)], start=jobs)

    return run


def crown(home: Path, *, challenger: bool = False) -> None:
    """A champion, and maybe a challenger with other weights; their files are of no matter here."""
    client = MlflowClient()
    client.create_registered_model("pricing")
    for alias, weights in (("champion", "a"), ("challenger", "b"))[: 1 + challenger]:
        version = client.create_model_version("pricing", (home / "model").as_uri(), tags={"weights": weights})
        client.set_registered_model_alias("pricing", alias, version.version)


def nights() -> list[tuple[str, str]]:
    client = MlflowClient()
    runs = client.search_runs(
        [one.experiment_id for one in client.search_experiments()],
        filter_string="tags.job = 'nightly'",
        order_by=["attributes.start_time ASC"],
    )
    return [(run.info.status, run.data.tags.get("verdict", "")) for run in runs]


@pytest.mark.parametrize(("code", "ends"), [(0, 0), (2, EXIT_NOT_PUBLISHED)])
def test_a_night_ends_by_publishing_the_champion_and_says_where_that_fails(
    jobs: Jobs, home: Path, night: Callable[..., int], code: int, ends: int
) -> None:
    crown(home)
    jobs.codes |= {"publish": code, "promote": EXIT_NOT_PUBLISHED}

    assert night() == ends

    assert [module for module, _ in jobs.started[-2:]] == ["publish", "price"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_night_cut_off_at_any_stage_is_made_good_by_the_next(
    jobs: Jobs, home: Path, night: Callable[..., int], stage: str
) -> None:
    crown(home)
    jobs.breaks[stage] = Terminated()

    assert night() == 143
    assert jobs.names == STAGES[: STAGES.index(stage) + 1]
    jobs.started.clear()
    assert night() == 0

    assert jobs.names == STAGES
    assert [status for status, _ in nights()] == ["FAILED", "FINISHED"]


@pytest.mark.parametrize(("by", "code"), [("parity,price_moves", 3), ("not_rejected", 3), ("fresh", 0), ("", 0)])
def test_a_night_whose_prices_would_move_far_ends_as_refused(
    jobs: Jobs, home: Path, night: Callable[..., int], by: str, code: int
) -> None:
    crown(home)
    jobs.codes["promote"] = EXIT_REFUSED
    jobs.refused_by = by

    assert night() == code

    assert nights() == [("FINISHED", f"a gate refused the refreshed states{f' ({by})' if by else ''}")]


def test_a_night_whose_sales_cannot_be_read_ends_there_and_says_so(
    jobs: Jobs, home: Path, night: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    crown(home)
    jobs.codes["etl"] = 2

    assert night() == 2

    assert jobs.names == STAGES[:1]
    assert [status for status, _ in nights()] == ["FAILED"]
    assert "error: etl ended with exit code 2" in capsys.readouterr().err


@pytest.mark.parametrize("code", [0, EXIT_REFUSED])
def test_the_first_night_trains_looks_at_nothing_and_ends_as_its_training(
    jobs: Jobs, night: Callable[..., int], code: int
) -> None:
    jobs.codes["retrain"] = code

    assert night() == code

    assert jobs.names == ("etl", "retrain")
    assert "there is no champion yet" in jobs.words("retrain")


@pytest.mark.parametrize(
    ("outcome", "auto", "then", "says"),
    [
        ("refresh", True, STAGES[2:], "states are up to date"),
        ("none", False, ("refresh",), "a person promotes the refreshed states (version=7)"),
    ],
)
def test_states_go_forward_or_wait_for_a_person(
    jobs: Jobs, home: Path, night: Callable[..., int], outcome: str, auto: bool, then: tuple[str, ...], says: str
) -> None:
    crown(home)
    jobs.found = {"outcome": outcome}

    assert night(auto=auto) == 0

    assert jobs.names == (*STAGES[:2], *then)
    assert says in nights()[-1][1]


@pytest.mark.parametrize("where", ["pricing", "Default"])
def test_a_second_night_within_the_cooldown_retrains_no_more(
    jobs: Jobs, home: Path, night: Callable[..., int], where: str
) -> None:
    crown(home)
    jobs.found = {"outcome": "retrain"}
    night()
    client = MlflowClient()
    experiment = client.get_experiment_by_name(where).experiment_id  # `mlflow run` without --experiment-name
    run = client.create_run(experiment, tags={"job": "retrain"})  # as the retraining would have left it
    client.log_param(run.info.run_id, "registry.model_name", "pricing")
    client.set_terminated(run.info.run_id, "FINISHED", end_time=int(dt.datetime.now(dt.UTC).timestamp() * 1000))
    jobs.started.clear()

    assert night() == 0

    assert "retrain" not in jobs.names
    assert "less than 7 days old" in nights()[-1][1]


@pytest.mark.parametrize("code", [0, 2], ids=["well", "an alert was not delivered"])
@pytest.mark.parametrize(
    ("outcome", "then", "says"),
    [
        ("", STAGES[2:], "states are up to date"),  # it stumbled before it found anything
        ("retrain", ("retrain", *STAGES[2:]), "retrained on sales.csv: error grew; "),
        ("page", STAGES[2:], "monitoring asks for a person"),
    ],
)
def test_what_monitoring_found_decides_what_follows_also_where_it_failed_afterwards(
    jobs: Jobs, home: Path, night: Callable[..., int], outcome: str, then: tuple[str, ...], says: str, code: int
) -> None:
    crown(home)
    jobs.codes["monitor"] = code
    jobs.found = {"outcome": outcome, "reason": "error grew"} if outcome else {}

    assert night() == code

    assert jobs.names == (*STAGES[:2], *then)
    ((status, verdict),) = nights()
    assert (status, verdict.startswith(says)) == ("FAILED" if code else "FINISHED", True)
    if outcome == "retrain":
        assert jobs.words("retrain")[-2:] == ["--reason", "error grew"]


@pytest.mark.parametrize("code", [0, 2])
def test_states_do_not_go_on_over_sales_that_may_be_at_fault(
    jobs: Jobs, home: Path, night: Callable[..., int], code: int
) -> None:
    crown(home)
    jobs.codes["monitor"] = code
    jobs.found = {"outcome": "page", "sales_at_fault": "true"}

    assert night() == code

    assert jobs.names == STAGES[:2]
    assert nights()[-1][1].endswith("the sales may be at fault, so states stay as they are")


def test_what_monitoring_found_in_another_night_counts_for_nothing(
    jobs: Jobs, home: Path, night: Callable[..., int]
) -> None:
    crown(home)
    jobs.found = {"outcome": "retrain", "reason": "error grew"}
    assert night() == 0
    jobs.started.clear()
    jobs.found, jobs.codes["monitor"] = {}, 2

    assert night() == 2

    assert jobs.names == STAGES


def test_a_challenger_that_waits_for_a_person_neither_stops_the_states_nor_is_promoted(
    jobs: Jobs, home: Path, night: Callable[..., int]
) -> None:
    crown(home, challenger=True)

    assert night() == 0

    assert jobs.names == STAGES
    assert jobs.words("promote")[-4:] == ["--version", "7", "--reason", "nightly refresh"]


def test_a_night_without_new_sales_promotes_nothing_at_all(jobs: Jobs, home: Path, night: Callable[..., int]) -> None:
    crown(home, challenger=True)
    jobs.refreshed = None

    assert night() == 0

    assert jobs.names == STAGES[:-1]
    assert nights()[-1][1] == "states were up to date already"


def found(log: Path) -> tuple[list[Any], int]:
    with open_log(str(log)) as (con, damaged):
        return con.execute("SELECT decision_id FROM decisions ORDER BY ALL").fetchall(), damaged


def test_a_night_archives_past_days_of_the_decision_log_and_deletes_those_older_than_configured(
    jobs: Jobs, home: Path, night: Callable[..., int]
) -> None:
    crown(home)
    log = home / "home" / "decisions"
    before = found(log)
    write_log(log, entries(*build(WORLD), days=range(50, 51)), worker="old", day="2020-01-01")

    assert night() == 0

    assert not list(log.glob("lines/*/*"))
    assert {path.name for path in log.glob("parquet/*")} == {f"date={DAY}"}
    assert found(log) == before


def test_a_night_deletes_old_copies_of_the_same_weights(
    home: Path, night: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    crown(home)
    asked: list[dt.datetime] = []

    def deleted(*_: Any, before: dt.datetime) -> list[str]:
        asked.append(before)
        return ["2"]

    monkeypatch.setattr(nightly, "delete_outdated", deleted)

    assert night() == 0

    kept = dt.timedelta(days=load_config().registry.keep_days)
    assert abs(asked[0] + kept - dt.datetime.now(dt.UTC)) < dt.timedelta(hours=1)
    assert "1 version(s) older than" in nights()[-1][1]


def test_an_archive_that_cannot_be_written_costs_no_prices_and_the_night_ends_failed(
    jobs: Jobs, home: Path, night: Callable[..., int]
) -> None:
    crown(home)
    (home / "home" / "decisions" / "parquet").write_text("in the way")

    assert night() == 2

    assert jobs.names == STAGES
    assert nights() == [("FAILED", "states are up to date")]


@pytest.mark.parametrize("remembered", [False, True])
def test_without_a_decision_log_states_go_forward_and_one_that_is_gone_is_for_monitoring_to_judge(
    jobs: Jobs, home: Path, night: Callable[..., int], remembered: bool
) -> None:
    crown(home)
    shutil.rmtree(home / "home" / "decisions")
    if remembered:
        (home / "home" / "monitoring").mkdir()

    assert night() == 0

    assert jobs.names == (STAGES if remembered else ("etl", "refresh", "promote"))
    assert ("nothing to monitor" in nights()[-1][1]) is not remembered
