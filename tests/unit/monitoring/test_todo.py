"""What a person is asked to do, and by which commands."""

from dataclasses import replace

import pytest

from monitoring.launch import ActionResult
from monitoring.policy import PolicyOutcome
from monitoring.todo import Task, tasks
from pricing.data.findings import Finding
from pricing.runtime.cli import typed

RETRAIN = PolicyOutcome("retrain", "error 0.6, backtest 0.4", "decay")
CALM = PolicyOutcome("none", "all is well", "nothing")
IDLE = ActionResult("nothing was started")
GIVEN = {"sales": "sales.csv", "config": "my.yaml"}


def listed(seen, outcome=CALM, result=IDLE, findings=(), **changes):
    return tasks(replace(seen, findings=list(findings), **changes), outcome, result, given=GIVEN)


def test_a_job_that_nobody_started_is_first_and_its_command_is_given(seen):
    damaged = Finding("log_damaged", "warning", sentence="5 line(s) are damaged")

    first, second = listed(seen, RETRAIN, replace(IDLE, by_hand=True), [damaged])

    commands = (typed("retrain --sales sales.csv --config my.yaml"), typed("promote --config my.yaml"))
    assert first == Task("Train a new model, and promote it", "error 0.6, backtest 0.4", commands)
    assert second.why == "5 line(s) are damaged"
    assert listed(seen) == []


def test_a_job_that_the_platform_started_is_nobodys_task_unless_it_failed_or_did_not_help(seen):
    failed = ActionResult("a retrain failed", ("retrain failed: log",))

    assert listed(seen, RETRAIN, ActionResult("a retrain was started")) == []
    assert [one.why for one in listed(seen, RETRAIN, failed)] == ["retrain failed: log"]
    (history,) = listed(seen, PolicyOutcome("page", "error grew, although retrained", "decay"))
    assert history.commands == (typed("history --config my.yaml --all true"),)


@pytest.mark.parametrize(
    ("code", "level", "listed_as"),
    [
        ("column_empty", "breach", [()]),
        ("column_empty", "note", []),
        ("no_decisions", "warning", [(typed("price --config my.yaml --applied true"),)]),
        ("rows_few", "warning", []),  # nothing that a person could do about it
        ("something_new", "breach", [()]),
    ],
)
def test_findings_that_a_person_can_act_on_are_tasks_with_their_commands(seen, code, level, listed_as):
    found = listed(seen, findings=[Finding(code, level, sentence="why so", about="comp_gap")])

    assert [task.commands for task in found] == listed_as


def test_a_fault_is_listed_once_whether_rules_or_findings_name_it(seen):
    stopped = PolicyOutcome("page", "nothing was decided for 9 days", "fault", fault="decisions_stopped")

    (task,) = listed(seen, stopped, findings=[Finding("decisions_stopped", "warning", sentence="9 days older")])

    assert task.why == stopped.reason
