"""The nights of a shop: which jobs run, in which order, and what a night leaves that was cut off at any of them."""

import datetime as dt
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pipelines import nightly, retrain
from pipelines.steps.commands import JobError
from pricing.config import load_config
from pricing.decision_log.read import open_log
from pricing.errors import EXIT_NOT_PUBLISHED, EXIT_REFUSED, Terminated
from tests.kit.mlflow_jobs import enter, place, write_config, write_sales
from tests.kit.monitoring_world import World, build, entries, write_log

WORLD = World(products=3, days=60)
DAY = str(dt.datetime.now(dt.UTC).date() - dt.timedelta(days=2))
STAGES = ("etl", "monitor", "refresh", "promote")


@dataclass
class Jobs:
    """Stands in for the jobs: notes what was started, answers with given exit codes, or breaks at one."""

    codes: dict[str, int] = field(default_factory=dict)
    found: dict[str, str] = field(default_factory=dict)  # by monitoring
    refreshed: str | None = "7"
    refused_by: str = ""
    breaks: dict[str, BaseException] = field(default_factory=dict)
    started: list[tuple[str, list[str]]] = field(default_factory=list)

    def __call__(self, module: str, options: Sequence[str], *, run: Run, fine: Sequence[int] = (0,), **_: Any) -> int:
        self.started.append((module, list(options)))
        if module in self.breaks:
            raise self.breaks.pop(module)
        tags = {"mlflow.parentRunId": run.info.run_id, "job": module}
        if module in ("refresh", "train") and self.refreshed is not None:
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
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> Path:
    here = enter(tmp_path, monkeypatch, template=empty_store)
    monkeypatch.delenv("PRICING_DECISIONS_URL", raising=False)
    write_log(here.home / "decisions", entries(*build(WORLD), days=range(50, 51)), day=DAY)
    return tmp_path


def night(home: Path, jobs: Jobs, *, auto: bool = True) -> int:
    """One night; `auto` is registry.auto_refresh."""
    settings = write_config(home / "config.yaml", auto_refresh=auto)
    return nightly.main(["--sales", "sales.csv", "--config", str(settings)], start=jobs)


def crown(home: Path, *, challenger: bool = False) -> None:
    """A champion, and maybe a challenger with other weights; their files are of no matter here."""
    client = MlflowClient()
    client.create_registered_model("pricing")
    for alias, weights in (("champion", "a"), ("challenger", "b"))[: 1 + challenger]:
        version = client.create_model_version("pricing", (home / "model").as_uri(), tags={"weights": weights})
        client.set_registered_model_alias("pricing", alias, version.version)


def nights(job: str = "nightly") -> list[tuple[str, str]]:
    client = MlflowClient()
    runs = client.search_runs(
        [one.experiment_id for one in client.search_experiments()],
        filter_string=f"tags.job = '{job}'",
        order_by=["attributes.start_time ASC"],
    )
    return [(run.info.status, run.data.tags.get("verdict", "")) for run in runs]


FAULT = {"outcome": "page", "sales_at_fault": "true"}
GREW = {"outcome": "retrain", "reason": "error grew"}
RETRAINED = (*STAGES[:2], "retrain", *STAGES[2:])
STAYS = "the sales may be at fault, so states stay as they are"
NIGHTS = [  # jobs, exit code, what was started, what the night says
    (Jobs(codes={"promote": EXIT_NOT_PUBLISHED}), 0, STAGES, "states are up to date"),
    (Jobs(codes={"publish": 2}), EXIT_NOT_PUBLISHED, STAGES, "states are up to date"),
    (Jobs(codes={"etl": 2}), 2, STAGES[:1], ""),
    (Jobs(codes={"refresh": 2}), 2, STAGES[:3], ""),
    (Jobs(codes={"promote": EXIT_REFUSED}, refused_by="parity,price_moves"), 3, STAGES, "a gate refused the refreshed"),
    (Jobs(codes={"promote": EXIT_REFUSED}, refused_by="not_rejected"), 3, STAGES, "a gate refused the refreshed"),
    (Jobs(codes={"promote": EXIT_REFUSED}, refused_by="fresh"), 0, STAGES, "a gate refused the refreshed"),
    (Jobs(refreshed=None), 0, STAGES[:-1], "states were up to date already"),
    (Jobs(found=GREW), 0, RETRAINED, "retrained: error grew; "),
    (Jobs(found={"outcome": "page"}), 0, STAGES, "monitoring asks for a person"),
    (Jobs(found=FAULT), 0, STAGES[:2], f"monitoring asks for a person; see its report; {STAYS}"),
    # What monitoring found counts also where it failed afterwards, such as at an alert; else it stumbled before.
    (Jobs(codes={"monitor": 2}), 2, STAGES, "states are up to date"),
    (Jobs(codes={"monitor": 2}, found=GREW), 2, RETRAINED, "retrained: error grew; "),
    (Jobs(codes={"monitor": 2}, found=FAULT), 2, STAGES[:2], f"monitoring asks for a person; see its report; {STAYS}"),
]


@pytest.mark.parametrize(("jobs", "code", "started", "says"), NIGHTS)
def test_what_jobs_find_and_how_they_end_decides_what_a_night_does_and_how_it_ends(
    home: Path, jobs: Jobs, code: int, started: tuple[str, ...], says: str
) -> None:
    crown(home, challenger=True)  # which waits for a person, neither stops the states nor is promoted

    assert night(home, jobs) == code

    assert jobs.names == started
    ((status, verdict),) = nights()
    assert (status, verdict.startswith(says)) == ("FAILED" if code == 2 else "FINISHED", True)
    assert ([module for module, _ in jobs.started[-2:]] == ["publish", "price"]) is (started != STAGES[:1])
    if "promote" in started:
        assert jobs.words("promote")[-4:] == ["--version", "7", "--reason", "nightly refresh"]
    if "retrain" in started:
        assert jobs.words("retrain")[-2:] == ["--reason", "error grew"]


@pytest.mark.parametrize(
    ("end", "code", "failure"), [(Terminated(), 143, "stopped by SIGTERM"), (JobError("no prices"), 2, "no prices")]
)
def test_a_night_that_gives_no_prices_ends_as_that_whatever_it_stumbled_over_before(
    home: Path, end: BaseException, code: int, failure: str
) -> None:
    crown(home)

    assert night(home, Jobs(codes={"monitor": 2}, breaks={"price": end})) == code

    (run,) = MlflowClient().search_runs(["0", "1"], filter_string="tags.job = 'nightly'")
    assert (run.info.status, run.data.tags["failure"]) == ("FAILED", failure)


@pytest.mark.parametrize("stage", STAGES)
def test_a_night_cut_off_at_any_stage_is_made_good_by_the_next(home: Path, stage: str) -> None:
    crown(home)
    jobs = Jobs(breaks={stage: Terminated()})

    assert night(home, jobs) == 143
    assert jobs.names == STAGES[: STAGES.index(stage) + 1]
    jobs.started.clear()
    assert night(home, jobs) == 0

    assert jobs.names == STAGES
    assert [status for status, _ in nights()] == ["FAILED", "FINISHED"]


@pytest.mark.parametrize("code", [0, EXIT_REFUSED])
def test_the_first_night_trains_looks_at_nothing_and_ends_as_its_training(home: Path, code: int) -> None:
    jobs = Jobs(codes={"retrain": code})

    assert night(home, jobs) == code

    assert jobs.names == ("etl", "retrain")
    assert "there is no champion yet" in jobs.words("retrain")


def test_what_monitoring_found_in_another_night_counts_for_nothing(home: Path) -> None:
    crown(home)
    night(home, Jobs(found=GREW))

    assert night(home, jobs := Jobs(breaks={"monitor": JobError("it did not get as far as a run")})) == 2

    assert jobs.names == STAGES


def test_a_night_ends_with_the_error_of_which_nobody_was_told(home: Path) -> None:
    crown(home)

    night(home, Jobs(breaks={"monitor": JobError("told", told=True), "refresh": JobError("untold")}))

    (run,) = MlflowClient().search_runs(["0", "1"], filter_string="tags.job = 'nightly'")
    assert run.data.tags["failure"] == "untold"


def test_where_auto_refresh_is_off_a_person_promotes_the_states(home: Path) -> None:
    crown(home)

    assert night(home, jobs := Jobs(), auto=False) == 0

    assert jobs.names == STAGES[:-1]
    assert "a person promotes the refreshed states (version=7)" in nights()[-1][1]


def found(log: Path) -> tuple[list[Any], int]:
    with open_log(str(log)) as (con, damaged):
        return con.execute("SELECT decision_id FROM decisions ORDER BY ALL").fetchall(), damaged


def test_a_night_archives_past_days_of_the_decision_log_and_deletes_those_older_than_configured(home: Path) -> None:
    crown(home)
    log = home / "home" / "decisions"
    before = found(log)
    write_log(log, entries(*build(WORLD), days=range(50, 51)), worker="old", day="2020-01-01")

    assert night(home, Jobs()) == 0

    assert not list(log.glob("lines/*/*"))
    assert {path.name for path in log.glob("parquet/*")} == {f"date={DAY}"}
    assert found(log) == before


def test_a_night_deletes_old_copies_of_the_same_weights(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crown(home)
    asked: list[dt.datetime] = []

    def deleted(*_: Any, before: dt.datetime) -> list[str]:
        asked.append(before)
        return ["2"]

    monkeypatch.setattr(nightly, "delete_outdated", deleted)

    assert night(home, Jobs()) == 0

    kept = dt.timedelta(days=load_config().registry.keep_days)
    assert abs(asked[0] + kept - dt.datetime.now(dt.UTC)) < dt.timedelta(hours=1)
    assert "1 version(s) older than" in nights()[-1][1]


def test_an_archive_that_cannot_be_written_costs_no_prices_and_the_night_ends_failed(home: Path) -> None:
    crown(home)
    (home / "home" / "decisions" / "parquet").write_text("in the way")

    assert night(home, jobs := Jobs()) == 2

    assert jobs.names == STAGES
    assert nights() == [("FAILED", "states are up to date")]


@pytest.mark.parametrize("remembered", [False, True])
def test_without_a_decision_log_states_go_forward_and_one_that_is_gone_is_for_monitoring_to_judge(
    home: Path, remembered: bool
) -> None:
    crown(home)
    jobs = Jobs()
    shutil.rmtree(home / "home" / "decisions")
    if remembered:
        (home / "home" / "monitoring").mkdir()

    assert night(home, jobs) == 0

    assert jobs.names == (STAGES if remembered else ("etl", "refresh", "promote"))
    assert ("nothing to monitor" in nights()[-1][1]) is not remembered


@pytest.mark.parametrize(
    ("auto", "refused_by", "code", "ends", "verdict"),
    [
        (True, "", 0, 0, "promoted"),
        (True, "fresh", EXIT_REFUSED, 0, "kept the champion: a gate"),
        (True, "not_rejected", EXIT_REFUSED, EXIT_REFUSED, "kept the champion: refused by not_rejected"),
        (False, "", 0, 0, "left to a person"),
    ],
)
def test_a_retraining_ends_as_its_promotion(
    home: Path, auto: bool, refused_by: str, code: int, ends: int, verdict: str
) -> None:
    settings = str(write_config(home / "tiny.yaml", auto_promote=auto))
    jobs = Jobs(codes={"promote": code}, refused_by=refused_by)

    assert retrain.main(["--sales", "sales.csv", "--config", settings], start=jobs) == ends

    assert nights("retrain")[0][1].startswith(verdict)
    assert all(settings in words for _, words in jobs.started)  # no copy, in which secrets would be hidden


@pytest.mark.slow
def test_nights_retrain_first_then_carry_states_forward_and_may_be_repeated(tmp_path: Path, empty_store: Path) -> None:
    here = place(tmp_path, template=empty_store)
    settings = str(write_config(here.folder / "tiny.yaml", auto_promote=True))
    sales = pd.read_csv(write_sales(here.folder / "sales.csv", products=4, days=122, moves=False))

    def until(day: int) -> list[str]:
        path = here.folder / f"{day}.csv"
        sales[sales["date"] <= sorted(sales["date"].unique())[day - 1]].to_csv(path, index=False)
        return ["nightly", "--sales", str(path), "--config", settings]

    for said in ("there is no champion yet", "nothing to do"):
        done = here.run(*until(110))
        assert (done.returncode, said in done.stdout) == (0, True), done.stderr
        assert here.aliases()["champion"] == "1"

    for stage in ("refresh", "promote"):
        process = here.start(*until(116))
        assert process.stdout is not None
        while f"--- {stage}" not in process.stdout.readline():
            pass
        os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()
        process.wait(60)
        assert here.aliases()["champion"] == "1"
    assert here.aliases()["challenger"] == "2", "the second of these nights had carried states forward"
    last = here.run(*until(116))  # some nights were missed meanwhile; it catches up

    assert last.returncode == 0, last.stderr
    assert here.aliases()["champion"] == "2", "what that night had registered was not registered again"
    version = here.client.get_model_version("pricing", "2")
    day = sorted(sales["date"].unique())[115]
    assert (version.tags["kind"], version.tags["state_date"]) == ("refresh", day)
    runs = sorted(here.runs(job="nightly"), key=lambda run: run.info.start_time)
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED", "KILLED", "KILLED", "FINISHED"]
    assert len(here.runs(job="train")) == 1
