"""What is started, what is told, how severe it is, and what a person is asked to do."""

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from monitoring import actions
from monitoring.actions import Task, tasks
from monitoring.evaluate import evaluate_decisions, metrics
from monitoring.policy import Finding, PolicyOutcome
from monitoring.report import newest_week, page
from monitoring.store import MonitoringStore
from monitoring.tracking import ChampionRecord
from pricing.config import Config, load_config
from pricing.errors import DeliveryError
from pricing.runtime.cli import CommandLine, typed
from tests.kit.monitoring_world import World, build, entries, joined, redecided

NOW = dt.datetime(2024, 6, 1, 3, tzinfo=dt.UTC)
LATER = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
CONFIG = load_config().monitoring
RETRAIN = PolicyOutcome("retrain", "error 0.6, backtest 0.4", "decay")
CALM = PolicyOutcome("none", "all is well", "nothing")
DECAY = PolicyOutcome("none", "error grew; a job is running", "decay")
DRIFT = PolicyOutcome("none", "inputs drifted", "drift")
STALE = PolicyOutcome("refresh", "the states are 29 days old", "stale")
IDLE = actions.ActionResult("nothing was started")
LINE = CommandLine({"sales": "sales.csv", "config": "my.yaml"})
PROMISED = {"wape_mean": 0.4, "wape_naive": 0.6, "bias": 0.0}
PANEL, TRUTH = build(World(products=24, days=120))


@pytest.fixture(scope="module")
def seen():
    found = joined(entries(PANEL, TRUTH, days=range(60, 120)), PANEL, now=LATER)
    return evaluate_decisions(PANEL, found, champion=ChampionRecord("3", PROMISED), config=CONFIG)


@pytest.fixture
def store(tmp_path):
    return MonitoringStore(f"sqlite:///{tmp_path / 'monitoring.db'}", model="shop")


class Door:
    def __init__(self, well=True, refuses=False):
        self.well, self.refuses, self.started = well, refuses, []

    def run(self, action, *, reason):
        if self.refuses:
            raise DeliveryError("no machine")
        self.started.append((action, reason))
        return self.well, "its log"


def begin(store, launcher, outcome=RETRAIN):
    _, job = store.claim(lambda _past: outcome, now=NOW)
    return actions.act(outcome, job, launcher=launcher, store=store)


def test_a_due_job_is_started_with_its_reason_and_remembered_and_nothing_else_is(store):
    launcher = Door()

    begin(store, launcher, CALM)
    begin(store, launcher, PolicyOutcome("page", "", "fault"))
    result = begin(store, launcher)

    assert launcher.started == [("retrain", RETRAIN.reason)]
    assert "ended well" in result.text
    assert store.past(now=NOW).retrained == NOW


@pytest.mark.parametrize(("hours", "codes"), [(1, []), (7, ["job_lost"])])
def test_a_job_whose_end_cannot_be_learnt_is_given_up_as_neither_failed_nor_done(store, hours, codes):
    store.claim(lambda _past: RETRAIN, now=NOW)
    later = NOW + dt.timedelta(hours=hours)

    kept = actions.lost_jobs(store, now=later, lock_hours=6, gives_up=False)  # a run that calls nobody
    findings = actions.lost_jobs(store, now=later, lock_hours=6)

    assert kept == []
    assert [finding.code for finding in findings] == codes
    assert (store.past(now=later).running_since is None) is bool(codes)
    assert (store.past(now=later).failed, store.past(now=later).retrained) == (0, None)


def test_jobs_that_fail_or_are_refused_or_nobody_may_start_say_so(store):
    failed, refused = begin(store, Door(well=False)), begin(store, Door(refuses=True))

    assert failed.failures
    assert store.past(now=NOW).failed == 1
    assert (refused.failures, store.running()) == (("no machine",), {})
    assert actions.act(RETRAIN, None, launcher=None, store=store).by_hand
    assert actions.act(RETRAIN, None, launcher=Door(), store=store, acting=False).by_hand
    assert not actions.act(RETRAIN, None, launcher=None, store=store, within_night=True).by_hand


def alert(seen, outcome, *, off=0.0, findings=(), result=IDLE, todo=()):
    newest = replace(seen.verdicts[-1], off=off)
    changed = replace(seen, verdicts=[*seen.verdicts[:-1], newest], findings=list(findings))
    return actions.compose(outcome, result, evaluation=changed, todo=todo)


@pytest.mark.parametrize(
    ("outcome", "failures", "severity"),
    [
        (CALM, (), None),
        (CALM, ("sns: no",), "critical"),
        (RETRAIN, (), "warning"),
        (RETRAIN, ("failed",), "critical"),
        (PolicyOutcome("page", "sales stopped", "fault"), (), "critical"),
        (PolicyOutcome("refresh", "drifted", "drift"), (), "info"),
        (DECAY, (), "info"),
        (STALE, (), "info"),
    ],
)
def test_severity_follows_what_a_person_must_do(seen, outcome, failures, severity):
    found = alert(seen, outcome, result=actions.ActionResult("", failures))

    assert (found and found.severity) == severity


def test_stale_states_that_nobody_carries_forward_are_a_warning(seen):
    assert alert(seen, STALE, result=replace(IDLE, by_hand=True)).severity == "warning"


@pytest.mark.parametrize(("off", "severity"), [(0.1, "info"), (0.3, "warning"), (1.04, "critical")])
def test_an_alert_is_as_severe_as_forecasts_are_off_whatever_is_done_about_it(seen, off, severity):
    assert alert(seen, DECAY, off=off).severity == severity
    assert alert(seen, DRIFT, off=off).severity == severity


def test_what_asks_for_no_job_but_for_a_look_goes_out_as_a_warning_by_name(seen):
    note = alert(seen, CALM, findings=[Finding("scored_few", "warning", "look at this")])

    assert (note.severity, note.what, note.key) == ("warning", "look at this", "scored_few")
    assert [(one.name, one.severity) for one in note.findings] == [("scored_few", "warning")]
    assert alert(seen, CALM, findings=[Finding("sampled", "note", "x")]) is None


def test_each_fault_is_an_alert_of_its_own(seen):
    empty = PolicyOutcome("page", "900 values", "fault", fault="column_empty-comp_gap")

    keys = [
        alert(seen, each).key
        for each in (empty, replace(empty, reason="901"), replace(empty, fault="sales_stopped"), DRIFT)
    ]

    assert keys == [*(["column_empty-comp_gap-page"] * 2), "sales_stopped-page", "drift-none-"]


def listed(seen, outcome=CALM, result=IDLE, findings=(), **changes):
    return tasks(replace(seen, findings=list(findings), **changes), outcome, result, line=LINE)


def test_a_job_that_nobody_started_is_first_and_its_command_is_given(seen):
    damaged = Finding("log_damaged", "warning", "5 line(s) are damaged")

    first, second = listed(seen, RETRAIN, replace(IDLE, by_hand=True), [damaged])

    commands = (typed("retrain --sales sales.csv --config my.yaml"), typed("promote --config my.yaml"))
    assert first == Task("Train a new model, and promote it", "error 0.6, backtest 0.4", commands)
    assert second.why == "5 line(s) are damaged"
    assert listed(seen) == []


def test_a_job_that_the_platform_started_is_nobodys_task_unless_it_failed_or_did_not_help(seen):
    failed = actions.ActionResult("a retrain failed", ("retrain failed: log",))

    assert listed(seen, RETRAIN, actions.ActionResult("a retrain was started")) == []
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
    found = listed(seen, findings=[Finding(code, level, "why so", about="comp_gap")])

    assert [task.commands for task in found] == listed_as


def test_a_fault_is_listed_once_whether_rules_or_findings_name_it(seen):
    stopped = PolicyOutcome("page", "nothing was decided for 9 days", "fault", fault="decisions_stopped")

    (task,) = listed(seen, stopped, findings=[Finding("decisions_stopped", "warning", "9 days older")])

    assert task.why == stopped.reason


def test_a_hostile_name_and_what_it_is_said_of_stand_on_the_page_as_text(seen):
    evil = "</td><script>alert(1)</script>"
    hostile = replace(PANEL, categories=np.where(PANEL.categories == "cat-1", evil, PANEL.categories))
    frame = seen.joined.frame
    found = replace(
        seen,
        findings=[Finding("log_damaged", "warning", evil)],
        by_category=[replace(seen.newest, name=f"category {evil}")],
    )
    week = newest_week(hostile, frame, holdout=None, rng=np.random.default_rng(0))

    shown = page(found, week, outcome=replace(CALM, reason=evil), done=evil, tasks=[Task(evil, evil, (evil,))])

    assert "<script" not in shown
    assert shown.count("&lt;script&gt;alert(1)") == 7


def test_decisions_that_sales_do_not_score_are_counted_as_a_share_and_told():
    made = entries(PANEL, TRUTH, days=range(100, 120))
    lost = [
        redecided(one, product_id=f"{also}{one.request.product_id}", decision_id=f"{also}{number}")
        for also in ("X", "Y")
        for number, one in enumerate(made)
    ]
    found = joined([*made, *lost], PANEL, now=LATER)

    third = evaluate_decisions(PANEL, found, champion=ChampionRecord("3"), config=CONFIG)

    assert metrics(third, backtest_wape=0.4)["share_scored"] == pytest.approx(1 / 3, abs=0.03)
    assert "scored_few" in {finding.code for finding in third.findings}


def test_a_new_champion_is_not_blamed_for_the_decisions_of_the_one_before():
    panel, truth = build(World(products=20, days=60, change_day=30, demand_factor=0.4))
    made = [
        *entries(panel, truth, days=range(30, 50), version="1"),
        *entries(panel, truth, days=range(50, 60), version="2"),
    ]
    found = joined(made, panel, now=LATER)

    old, new = (
        evaluate_decisions(panel, found, champion=champion, config=CONFIG)
        for champion in (ChampionRecord("1", PROMISED), ChampionRecord("2", PROMISED, others=frozenset("1")))
    )

    assert all(verdict.breaches for verdict in old.verdicts)
    assert [verdict.judged for verdict in new.verdicts] == [False, False, True]
    assert {finding.code: finding.count for finding in new.findings}["other_weights"] == 20 * 20
    assert metrics(new, backtest_wape=0.4)["rows_scored"] == 20 * 10
    assert metrics(new, backtest_wape=0.4)["wape"] == new.own.wape.value != new.newest.wape.value


@pytest.mark.parametrize("channel", ["webhook", "sns"])
def test_a_channel_without_an_address_is_refused(channel):
    values = load_config().model_dump(mode="json")
    values["monitoring"] |= {"alerts": [channel]}

    with pytest.raises(ValidationError, match=f"endpoints.{channel}"):
        Config.model_validate(values)


@pytest.mark.parametrize(
    ("breached", "since"),
    [((True, True, True), "2024-05-01"), ((True, False, True), "2024-05-15"), ((False, False, False), "2024-05-15")],
)
def test_an_alert_dates_the_matter_from_its_first_unbroken_window(seen, breached, since):
    newest = seen.verdicts[-1]
    verdicts = [
        replace(newest, score=replace(newest.score, name=f"{day} to {day}"), breaches={"bias": "off"} if bad else {})
        for day, bad in zip(("2024-05-01", "2024-05-08", "2024-05-15"), breached, strict=True)
    ]

    found = actions.compose(RETRAIN, IDLE, evaluation=replace(seen, verdicts=verdicts))

    assert str(found.since) == since
