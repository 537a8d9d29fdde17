import datetime as dt
from dataclasses import replace

import pytest

from monitoring.actions import ActionResult, compose
from monitoring.evaluate import evaluate_decisions
from monitoring.policy import Finding, PolicyOutcome
from monitoring.todo import Task, tasks
from monitoring.tracking import NO_CHAMPION
from pricing.config import load_config
from pricing.runtime.cli import CommandLine
from tests.kit.monitoring_world import World, build, tabulated

NOW = dt.datetime(2024, 6, 1, 3, tzinfo=dt.UTC)
PANEL, _ = build(World(products=4, days=60))
LINE = CommandLine({"sales": "sales.csv", "config": "my.yaml"})
CALM = PolicyOutcome("none", "all is well", "nothing")
RETRAIN = PolicyOutcome("retrain", "error 0.6, backtest 0.4", "decay")
IDLE = ActionResult("nothing was started")


@pytest.fixture(scope="module")
def seen():
    decisions, findings = tabulated([], now=NOW)
    found = evaluate_decisions(PANEL, decisions, findings, champion=NO_CHAMPION, config=load_config().monitoring)
    return replace(found, findings=[])


def listed(evaluation, outcome=CALM, result=IDLE, **more):
    return tasks(evaluation, outcome, result, line=LINE, **more)


@pytest.mark.parametrize(
    ("checkout", "command"),
    [
        (True, "make refresh SALES='my sales.csv' CONFIG=my.yaml"),
        (False, "pricing refresh --sales 'my sales.csv' --config my.yaml"),
    ],
)
def test_a_command_names_the_sales_and_settings_of_this_run_and_can_be_pasted(checkout, command):
    line = CommandLine({"sales": "my sales.csv", "config": "my.yaml"}, checkout=checkout)

    assert line.job("refresh") == command
    assert "sales" not in line.job("promote")


def test_where_all_is_well_there_is_nothing_to_do(seen):
    assert listed(seen) == []


def test_a_job_that_nobody_started_is_first_and_its_command_is_given(seen):
    lost = replace(seen, findings=[Finding("log_damaged", "warning", "5 line(s) are damaged")])

    first, second = listed(lost, RETRAIN, replace(IDLE, by_hand=True))

    assert first == Task(
        "Train a new model, and promote it",
        "error 0.6, backtest 0.4",
        (
            "make retrain SALES=sales.csv CONFIG=my.yaml",
            "make promote CONFIG=my.yaml",
        ),
    )
    assert second.why == "5 line(s) are damaged"


def test_a_job_that_the_platform_started_is_nobodys_task_unless_it_failed(seen):
    assert listed(seen, RETRAIN, ActionResult("a retrain was started")) == []
    (task,) = listed(seen, RETRAIN, ActionResult("a retrain was started and failed", ("retrain failed: log",)))
    assert (task.what, task.why) == ("Look at the job that failed", "retrain failed: log")


@pytest.mark.parametrize(
    ("code", "level", "says"),
    [
        ("column_empty", "breach", "Mend the source"),
        ("column_empty", "note", ""),
        ("no_decisions", "warning", "make price"),
        ("champion_unknown", "warning", "make train SALES=sales.csv CONFIG=my.yaml"),
        ("elasticity_unidentified", "warning", "make experiment"),
        ("rows_few", "warning", ""),  # nothing that a person could do about it
        ("something_new", "breach", "Look at what is named"),
    ],
)
def test_findings_that_a_person_can_act_on_are_tasks(seen, code, level, says):
    found = listed(replace(seen, findings=[Finding(code, level, "why so", about="comp_gap")]))

    assert bool(found) is bool(says)
    for task in found:
        assert says in task.text
        assert task.why == "why so"


def test_a_fault_is_listed_once_whether_rules_or_findings_name_it(seen):
    stopped = replace(seen, findings=[Finding("decisions_stopped", "warning", "the newest decision is 9 days older")])

    (task,) = listed(
        stopped, PolicyOutcome("page", "nothing was decided for 9 days", "fault", fault="decisions_stopped")
    )

    assert task.why == "nothing was decided for 9 days"
    assert "silent_days" in task.what


def test_retraining_that_does_not_help_sends_a_person_to_the_history(seen):
    (task,) = listed(seen, PolicyOutcome("page", "error grew, although retrained", "decay"))

    assert task.commands == ("make history CONFIG=my.yaml ARGS='-P all=true'",)


def test_decisions_that_all_wait_say_for_which_day(seen):
    day = dt.date(2024, 3, 2)
    waiting = replace(seen, joined=replace(seen.joined, waiting=4, waiting_for=day))

    (task,) = listed(waiting)

    assert "2024-03-02" in task.what
    assert task.commands == ("make monitor SALES=sales.csv CONFIG=my.yaml",)


def test_an_alert_tells_the_command_and_what_happens_until_then(seen):
    todo = ["Mend the source of this column in the sales"]
    fault = PolicyOutcome("page", "comp_gap is empty", "fault", fault="column_empty-comp_gap")

    asked = compose(RETRAIN, replace(IDLE, by_hand=True), evaluation=seen, link="", todo=["Train: mlflow run"])
    mended = compose(fault, IDLE, evaluation=seen, link="", todo=todo)
    calm = compose(RETRAIN, IDLE, evaluation=seen, link="")

    assert asked.todo == "Train: mlflow run"
    assert mended.todo.startswith("Mend the source of this column in the sales. Until the source that is named")
    assert calm.todo.startswith("Nothing while a job runs")
