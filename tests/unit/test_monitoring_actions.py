import datetime as dt
import json
import logging
import re
from dataclasses import replace
from operator import attrgetter

import numpy as np
import pandas as pd
import pytest

from monitoring import actions, alarms
from monitoring.__main__ import weekly_figures
from monitoring.decisions import load_decisions
from monitoring.drift import ColumnDrift, Drift, Threshold
from monitoring.evaluate import evaluate_decisions, metrics, rules, situation
from monitoring.launchers import job_launcher
from monitoring.performance import Breach
from monitoring.policy import Finding, JobHistory, PolicyOutcome, decide
from monitoring.report import WeeklySummary, drift_head, weekly_page
from monitoring.samples import MONITORED_COLUMNS
from monitoring.store import MonitoringStore
from monitoring.todo import Task
from monitoring.tracking import NO_CHAMPION, ChampionRecord, grouped
from pricing.config import load_config, parse_config
from pricing.decision_log.write import LogWriter
from pricing.errors import ConfigError
from pricing.runtime.alerts import Alert, AlertMemory, DeliveryError, LogNotifier, alert_notifiers
from tests.kit.monitoring_world import World, build, entries, redecided, tabulated

NOW = dt.datetime(2024, 6, 1, 3, tzinfo=dt.UTC)
CONFIG = load_config().monitoring
RETRAIN = PolicyOutcome("retrain", "error 0.6, backtest 0.4", "decay")
CALM = PolicyOutcome("none", "all is well", "nothing")
PANEL, _ = build(World(products=4, days=60))


@pytest.fixture(scope="module")
def seen():
    decisions, findings = tabulated([], now=NOW)
    return evaluate_decisions(PANEL, decisions, findings, champion=NO_CHAMPION, config=CONFIG)


@pytest.fixture
def store(tmp_path):
    return MonitoringStore(tmp_path / "monitoring.db")


@pytest.fixture
def memory(tmp_path):
    return AlertMemory(tmp_path / "alerts.db")


class Door:
    def __init__(self, ended=True, refuses=False):
        self.end, self.refuses, self.started = ended, refuses, []

    def start(self, order):
        if self.refuses:
            raise DeliveryError("no machine")
        self.started.append((order.action, order.reason))
        self.order = order
        return "handle"

    def ended(self, handle):
        return self.end

    wait = ended


class Mailbox:
    channel = "webhook"

    def __init__(self, refuses=False):
        self.refuses, self.alerts = refuses, []

    def send(self, alert):
        if self.refuses:
            raise DeliveryError("no post")
        self.alerts.append(alert)
        return True


def repeat(hours=0):
    return actions.Repeat(NOW + dt.timedelta(hours=hours), 24, "page.html")


@pytest.mark.parametrize("action", ["none", "page"])
def test_nothing_is_started_unless_it_is_due(store, action):
    launcher = Door()

    actions.start(PolicyOutcome(action, "", "nothing"), launcher=launcher, store=store, now=NOW)

    assert launcher.started == []


def test_a_due_job_is_started_with_its_reason_and_remembered(store):
    launcher = Door()

    result = actions.start(RETRAIN, launcher=launcher, store=store, now=NOW)

    assert launcher.started == [("retrain", RETRAIN.reason)]
    assert "ended well" in result.text
    assert store.past(now=NOW).retrained == NOW


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("3", "4", "version 4 is the champion now, it was 3"),
        ("3", "3", "the champion stays 3"),
        ("3", "unknown", "which version serves now is unknown"),
        ("unknown", "4", "which version serves now is unknown"),
        ("unknown", "unknown", "which version serves now is unknown"),
    ],
)
def test_a_job_that_ended_tells_which_version_serves_now(store, before, after, says):
    ended = actions.start(RETRAIN, launcher=Door(), store=store, now=NOW)
    going = actions.start(RETRAIN, launcher=Door(ended=None), store=store, now=NOW)

    assert actions.with_champion(ended, before=before, after=after).text.endswith(says)
    assert actions.with_champion(going, before=before, after=after) == going


def test_a_job_that_goes_on_is_settled_later(store):
    launcher = Door(ended=None)
    actions.start(RETRAIN, launcher=launcher, store=store, now=NOW)

    actions.reconcile_jobs(store, launcher, now=NOW, lock_hours=6)
    assert store.past(now=NOW).running_since == NOW

    launcher.end = True
    actions.reconcile_jobs(store, launcher, now=NOW, lock_hours=6)
    assert store.past(now=NOW).running_since is None
    assert store.past(now=NOW).retrained == NOW


class Silent(Door):
    def ended(self, handle):
        raise DeliveryError("ecs describe_tasks: no route")


@pytest.mark.parametrize(
    ("launcher", "handle", "hours", "code", "running"),
    [
        (Silent(), "arn", 1, "job_unknown", True),
        (Silent(), "arn", 7, "job_lost", False),
        (Door(ended=None), "", 1, None, True),  # another run is just starting it
        (Door(ended=None), "", 7, "job_lost", False),
        (None, "arn", 1, "job_unknown", True),
        (None, "arn", 7, "job_lost", False),
        (Door(ended=False), "arn", 1, "job_failed", False),
        (Door(ended=None), "arn", 7, None, True),  # known to run: a matter for the rules
    ],
)
def test_a_job_whose_end_cannot_be_learnt_is_a_finding_and_given_up_as_neither_failed_nor_done(
    store, launcher, handle, hours, code, running
):
    store.started(action="retrain", cause="decay", reason="", handle=handle, now=NOW)
    later = NOW + dt.timedelta(hours=hours)

    findings = actions.reconcile_jobs(store, launcher, now=later, lock_hours=6)

    assert [(finding.code, finding.level) for finding in findings] == ([(code, "warning")] if code else [])
    assert (store.past(now=later).running_since is not None) is running
    assert store.past(now=later).failed == (code == "job_failed")
    assert store.past(now=later).retrained is None


def test_a_job_that_is_given_up_calls_a_person_and_leaves_the_sales_alone(seen):
    lost = replace(seen, findings=[*seen.findings, Finding("job_lost", "warning", "nobody knows")])

    outcome = decide(situation(lost, now=NOW, config=CONFIG), JobHistory(), rules(CONFIG))

    assert (outcome.action, outcome.fault, outcome.reason) == ("page", "job_lost", "nobody knows")
    assert not outcome.doubts_sales


def test_a_run_that_calls_nobody_gives_no_job_up(store):
    store.started(action="retrain", cause="decay", reason="", handle="arn", now=NOW)
    later = NOW + dt.timedelta(hours=7)

    (finding,) = actions.reconcile_jobs(store, Silent(), now=later, lock_hours=6, gives_up=False)

    assert finding.code == "job_unknown"
    assert store.past(now=later).running_since == NOW


def test_decay_that_an_unknown_refresh_was_to_mend_is_not_refreshed_for_ever(seen, store):
    decayed = replace(
        situation(seen, now=NOW, config=CONFIG), decayed=(True, True, True), why="error grew", state_age=30, broken=()
    )
    job = store.started(action="refresh", cause="decay", reason="", handle="arn", now=NOW)
    store.ended(job, succeeded=None, now=NOW)
    week = NOW + dt.timedelta(days=8)

    outcome = decide(replace(decayed, now=week), store.past(now=week), rules(CONFIG))

    assert outcome.action == "retrain"


def test_a_job_that_failed_is_a_failure(store):
    result = actions.start(RETRAIN, launcher=Door(ended=False), store=store, now=NOW)

    assert result.failures
    assert store.past(now=NOW).failed == 1


def test_a_job_is_noted_before_its_door_is_opened_and_not_settled_while_it_is(store):
    noted = []

    class MonitoredColumn(Door):
        def start(self, order):
            actions.reconcile_jobs(store, Door(ended=False), now=NOW, lock_hours=6)  # as another run would just now
            noted.append(store.past(now=NOW).running_since)
            return super().start(order)

    outcome, job = store.claim(lambda _: RETRAIN, now=NOW)
    actions.start(outcome, launcher=MonitoredColumn(ended=None), store=store, now=NOW, job=job)

    assert noted == [NOW]
    assert store.running() == [(job, "handle", NOW)]


def test_a_door_that_refuses_leaves_nothing_running(store):
    result = actions.start(RETRAIN, launcher=Door(refuses=True), store=store, now=NOW)

    assert result.failures == ("no machine",)
    assert store.running() == []


def test_without_a_trigger_the_deed_says_that_a_person_must_do_it(store):
    assert "by hand" in actions.start(RETRAIN, launcher=None, store=store, now=NOW).text


def test_an_alert_says_what_since_when_how_bad_what_was_done_and_what_to_do(seen):
    alert = actions.compose(RETRAIN, actions.ActionResult("a retrain was started"), evaluation=seen, link="page.html")

    for part in ("What: ", "Since: 2024-02-", "How bad: ", "What the platform did: a retrain", "What to do: "):
        assert part in alert.text
    assert len(alert.subject) <= 100


@pytest.mark.parametrize(
    ("outcome", "failures", "severity"),
    [
        (CALM, (), None),
        (CALM, ("sns: no",), "critical"),
        (RETRAIN, (), "warning"),
        (RETRAIN, ("failed",), "critical"),
        (PolicyOutcome("page", "sales stopped", "fault"), (), "critical"),
        (PolicyOutcome("refresh", "drifted", "drift"), (), "info"),
        (PolicyOutcome("none", "in cooldown", "decay"), (), "info"),
    ],
)
def test_severity_follows_what_a_person_must_do(seen, outcome, failures, severity):
    alert = actions.compose(outcome, actions.ActionResult("", failures), evaluation=seen, link="")

    assert (alert and alert.severity) == severity


def test_the_same_alert_goes_out_once_a_day(seen, memory):
    box = Mailbox()

    for hours in (0, 5, 23, 25):
        actions.notify(
            RETRAIN, actions.ActionResult("done"), evaluation=seen, notifiers=[box], memory=memory, repeat=repeat(hours)
        )

    assert len(box.alerts) == 2


def test_another_fault_on_the_same_day_goes_out_and_the_same_one_does_not(seen, memory):
    box = Mailbox()
    empty = PolicyOutcome(
        "page", "comp_gap has no values, 900 in the reference", "fault", fault="column_empty-comp_gap"
    )
    stopped = PolicyOutcome("page", "sales stopped", "fault", fault="sales_stopped")

    for hours, fault in enumerate((empty, stopped, replace(empty, reason="comp_gap has no values, 901 …"))):
        actions.notify(
            fault, actions.ActionResult(""), evaluation=seen, notifiers=[box], memory=memory, repeat=repeat(hours)
        )

    assert [alert.what for alert in box.alerts] == [empty.reason, stopped.reason]


def test_a_nightly_run_that_is_earlier_than_yesterdays_skips_no_alert(seen, memory):
    box = Mailbox()
    yesterday = actions.Repeat(NOW, CONFIG.repeat_hours, "")
    earlier = replace(yesterday, now=NOW + dt.timedelta(hours=23, minutes=59, seconds=30))

    for when in (yesterday, earlier):
        actions.notify(RETRAIN, actions.ActionResult(""), evaluation=seen, notifiers=[box], memory=memory, repeat=when)

    assert len(box.alerts) == 2


def test_an_alert_counts_as_sent_only_after_it_was(seen, memory):
    class Killed(Mailbox):
        def send(self, alert):
            raise KeyboardInterrupt

    box = Mailbox()
    with pytest.raises(KeyboardInterrupt):
        actions.notify(
            RETRAIN, actions.ActionResult(""), evaluation=seen, notifiers=[Killed()], memory=memory, repeat=repeat()
        )
    actions.notify(RETRAIN, actions.ActionResult(""), evaluation=seen, notifiers=[box], memory=memory, repeat=repeat())

    assert len(box.alerts) == 1


def test_a_door_that_fails_hinders_no_other_and_an_undelivered_alert_goes_again(seen, memory):
    box = Mailbox()

    alone = actions.notify(
        RETRAIN,
        actions.ActionResult(""),
        evaluation=seen,
        notifiers=[Mailbox(refuses=True)],
        memory=memory,
        repeat=repeat(),
    )
    both = actions.notify(
        RETRAIN,
        actions.ActionResult(""),
        evaluation=seen,
        notifiers=[Mailbox(refuses=True), box],
        memory=memory,
        repeat=repeat(),
    )

    assert (alone, both) == (["no post"], ["no post"])
    assert len(box.alerts) == 1


def test_the_log_door_writes_one_line(caplog):
    alert = Alert("k", "critical", "what", dt.date(2024, 6, 1), "bad", "done", "todo")

    with caplog.at_level(logging.INFO):
        LogNotifier().send(alert)

    (line,) = caplog.records
    assert line.levelno == logging.ERROR
    assert "\n" not in line.getMessage()


def test_the_configuration_names_its_doors(tmp_path):
    assert job_launcher(CONFIG, parameters={}, folder=tmp_path) is None
    assert [type(launcher) for launcher in alert_notifiers(CONFIG)] == [LogNotifier]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"breaches": 4}, "breaches"),
        ({"maturities": [7, 1]}, "maturities"),
        ({"alerts": ["webhook"]}, "endpoints.webhook_url"),
        ({"alerts": ["sns"]}, "endpoints.sns_topic"),
        ({"trigger": "ecs"}, "endpoints.ecs_cluster"),
        ({"alarms": {"a": {"metric": "wape"}}}, "above"),
        ({"alarms": {"a": {"metric": "wape", "above": 1, "days": 8}}}, "days"),
        ({"alarms": {"a": {"metric": "wape", "above": 1, "missing": "ignored"}}}, "missing"),
        ({"false_alarm": 1.5}, "false_alarm"),
        ({"silent_periods": 3}, "silent_days"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_by_name(changes, says):
    values = load_config().model_dump(mode="json")
    values["monitoring"] |= changes

    with pytest.raises(ConfigError, match=says):
        parse_config(values, where="test")


def test_every_alarm_watches_a_metric_that_there_is(seen):
    names = metrics(seen, backtest_wape=0.4)

    assert {alarm.metric for alarm in CONFIG.alarms.values()} <= set(names)


def test_an_alarm_without_a_topic_is_printed_as_a_template_and_needs_no_cloud(capsys):
    assert alarms.main([]) == 0

    resources = json.loads(capsys.readouterr().out)["Resources"]
    late = resources["SalesLateAlarm"]["Properties"]
    assert (late["ComparisonOperator"], late["Threshold"], late["AlarmActions"]) == ("GreaterThanThreshold", 3.0, [])
    days_without_sales = resources["MonitoringSilentAlarm"]["Properties"]
    assert (days_without_sales["ComparisonOperator"], days_without_sales["TreatMissingData"]) == (
        "LessThanThreshold",
        "breaching",
    )


def test_alarms_name_the_setting_that_says_who_is_told(capsys):
    with pytest.raises(SystemExit):
        alarms.main(["--help"])

    assert "absent: monitoring.endpoints.sns_topic" in " ".join(capsys.readouterr().out.split())
    assert attrgetter(alarms.TOPIC_SETTING)(load_config()) == ""


def test_sales_that_stay_away_while_decisions_go_on_are_counted_in_days(seen):
    late = replace(seen, days_without_sales=4)

    assert situation(late, now=NOW, config=CONFIG).silent_days == 4
    assert seen.days_without_sales == 0


def test_decisions_that_stay_away_while_sales_go_on_are_counted_in_days_and_call_a_person(tmp_path):
    panel, truth = build(World(products=4, days=60))
    writer = LogWriter(tmp_path / "segments", url=str(tmp_path))
    writer.append(entries(panel, truth, days=range(30, 50)))
    writer.close()
    decisions, findings = load_decisions(str(tmp_path), now=dt.datetime(2100, 1, 1, tzinfo=dt.UTC))

    stopped = evaluate_decisions(panel, decisions, findings, champion=NO_CHAMPION, config=CONFIG)
    going_on = evaluate_decisions(
        panel.through(panel.dates[49]), decisions, findings, champion=NO_CHAMPION, config=CONFIG
    )

    assert (stopped.days_without_decisions, going_on.days_without_decisions) == (
        11,
        1,
    )  # each was made the evening before
    assert metrics(stopped, backtest_wape=0.4)["days_since_decisions"] == 11
    assert "decisions_stopped" in {finding.code for finding in stopped.findings}
    assert situation(stopped, now=NOW, config=CONFIG).idle_days == 11
    assert CONFIG.alarms["decisions_stopped"].metric == "days_since_decisions"


def test_a_fast_clock_stops_no_sales_and_a_price_for_next_month_hides_no_outage(tmp_path):
    panel, truth = build(World(products=4, days=60))
    made = entries(panel, truth, days=range(30, 50))
    now = dt.datetime.combine(panel.dates[-1].astype(dt.date), dt.time(12), tzinfo=dt.UTC)
    later = now + dt.timedelta(days=9)
    fast = redecided(made[-1], decision_id="fast", at=later, date=later.date())
    ahead = redecided(made[-2], decision_id="ahead", date=now.date() + dt.timedelta(days=30))
    writer = LogWriter(tmp_path / "segments", url=str(tmp_path))
    writer.append([*made, fast, ahead])
    writer.close()
    decisions, findings = load_decisions(str(tmp_path), now=now)

    watched = evaluate_decisions(panel, decisions, findings, champion=NO_CHAMPION, config=CONFIG)

    assert (watched.days_without_sales, watched.days_without_decisions) == (0, 11)
    assert {finding.code: finding.count for finding in watched.findings}["clock_ahead"] == 1


def test_a_log_without_a_live_decision_says_nothing_of_whether_they_stopped(seen):
    assert seen.days_without_decisions is None
    assert situation(seen, now=NOW, config=CONFIG).idle_days == 0


def test_names_from_the_data_cannot_break_out_of_the_page(seen):
    evil = np.array(["<script>alert(1)</script>"] * 4)
    week: WeeklySummary = weekly_figures(replace(PANEL, categories=evil), seen, holdout=None)

    page = weekly_page(seen, week, outcome=CALM, done="<b>nothing</b>")

    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "&lt;b&gt;nothing" in page


@pytest.mark.parametrize("page", ["weekly", "drift"])
def test_a_page_leads_with_what_to_do_why_and_the_command(seen, page):
    task = Task("Train <a> new model", "error & more", ("mlflow run . -e retrain -P 'sales=<x>.csv'", "second"))

    def made(*todo):
        if page == "drift":
            return drift_head(seen, outcome=CALM, tasks=todo)
        week = weekly_figures(PANEL, seen, holdout=None)
        return weekly_page(seen, week, outcome=CALM, done="", tasks=todo)

    first_headings = re.findall(r"<h[12]>(.*?)</h", made(task))[:2]
    assert first_headings[1] == "What needs doing"
    assert "<b>Train &lt;a&gt; new model</b><br>Error &amp; more.<pre>mlflow run . -e retrain" in made(task)
    assert "&lt;x&gt;.csv&#x27;\nsecond</pre>" in made(task)
    assert "<b>Nothing.</b> All is well." in made()


@pytest.mark.parametrize(
    ("assumed", "says", "headline"),
    [
        ([True] * 4, "The cost of all sales is not known", "Margin (on assumed costs) was"),
        ([True, False, False, False], "of sales is not known", "Margin (partly on assumed costs) was"),
        ([False] * 4, "", "Margin was"),
    ],
)
def test_margins_on_assumed_costs_say_so(seen, assumed, says, headline):
    panel = replace(PANEL, cost_assumed=np.array(assumed))
    judged = replace(seen, newest=replace(seen.newest, decisions=5))

    page = weekly_page(judged, weekly_figures(panel, judged, holdout=None), outcome=CALM, done="")

    assert headline in page
    assert (says in page) if says else ("not known" not in page)
    assert ("where the price was charged, on assumed costs" in page) is any(assumed)
    assert page.count("<span class='soft'> (on assumed costs)</span>") == sum(assumed)  # a category each


def test_a_week_after_one_at_a_loss_is_compared_with_nothing(seen):
    costly = PANEL.unit_cost.copy()
    costly[:, -14:-7] *= 9
    panel = replace(PANEL, unit_cost=costly)

    page = weekly_page(seen, weekly_figures(panel, seen, holdout=None), outcome=CALM, done="")

    assert "from the week before" not in page
    assert page.count("on the week before") == 2  # of sales and units


def test_the_page_of_a_shop_without_decisions_claims_nothing(seen):
    page = weekly_page(seen, weekly_figures(PANEL, seen, holdout=None), outcome=CALM, done="")

    assert "nothing to judge" in page
    assert "nan" not in page.lower()


def test_the_weekly_page_speaks_the_managers_words_and_leaves_notes_to_the_other(seen):
    watched = next(one for one in MONITORED_COLUMNS if one.column == "comp_gap")
    moved = ColumnDrift(watched, Threshold("comp_gap", "wasserstein", 0.2, 40, 0.1), 0.3)
    note = Finding("sampled", "note", "drift looks at 10 of 40 products")
    changed = replace(seen, drift=Drift([moved], [], None), findings=[*seen.findings, note])

    judged = replace(changed, newest=replace(changed.newest, decisions=5))

    page = weekly_page(judged, weekly_figures(PANEL, judged, holdout=None), outcome=CALM, done="")
    other = drift_head(judged, outcome=CALM)

    assert "drift looks at" not in page
    assert "drift looks at" in other
    assert "Inputs have drifted (gap to the competitor)" in page
    assert "comp_gap" in other


def test_a_new_champion_is_not_blamed_for_the_decisions_of_the_one_before(tmp_path):
    panel, truth = build(World(products=20, days=60, change_day=30, demand_factor=0.4))
    writer = LogWriter(tmp_path / "segments", url=str(tmp_path))
    writer.append(entries(panel, truth, days=range(30, 50), version="1"))
    writer.append(entries(panel, truth, days=range(50, 60), version="2"))
    writer.close()
    decisions, findings = load_decisions(str(tmp_path), now=dt.datetime(2100, 1, 1, tzinfo=dt.UTC))
    promised = {"wape_mean": 0.4, "wape_naive": 0.6, "bias": 0.0}

    old = evaluate_decisions(panel, decisions, findings, champion=ChampionRecord("1", promised), config=CONFIG)
    new = evaluate_decisions(
        panel, decisions, findings, champion=ChampionRecord("2", promised, others=frozenset("1")), config=CONFIG
    )

    assert all(verdict.breaches for verdict in old.verdicts)
    assert [verdict.judged for verdict in new.verdicts] == [False, False, True]
    assert {finding.code: finding.count for finding in new.findings}["other_weights"] == 20 * 20
    assert metrics(new, backtest_wape=0.4)["rows_scored"] == 20 * 10
    assert metrics(old, backtest_wape=0.4)["rows_scored"] == old.newest.rows
    assert metrics(new, backtest_wape=0.4)["wape"] == new.own.wape.value != new.newest.wape.value


def test_looking_twice_sees_the_same(seen):
    decisions, findings = tabulated([], now=NOW)

    again = evaluate_decisions(PANEL, decisions, findings, champion=NO_CHAMPION, config=CONFIG)

    pd.testing.assert_series_equal(
        pd.Series(metrics(seen, backtest_wape=0.4)), pd.Series(metrics(again, backtest_wape=0.4))
    )


def test_a_long_matter_is_cut_in_the_subject_and_whole_in_the_text():
    alert = Alert("k", "info", "x" * 300, dt.date(2024, 6, 1), "", "", "")

    assert len(alert.subject) == 100
    assert "x" * 300 in alert.text


@pytest.mark.parametrize(
    ("breached", "since"),
    [((True, True, True), "2024-05-01"), ((True, False, True), "2024-05-15"), ((False, False, False), "2024-05-15")],
)
def test_an_alert_dates_the_matter_from_its_first_unbroken_window(seen, breached, since):
    score = seen.verdicts[-1].score
    days = ("2024-05-01", "2024-05-08", "2024-05-15")
    verdicts = [
        replace(seen.verdicts[-1], score=replace(score, name=f"{day} to x"), breaches=(Breach("bias", "off"),) * bad)
        for day, bad in zip(days, breached, strict=True)
    ]

    alert = actions.compose(RETRAIN, actions.ActionResult(""), evaluation=replace(seen, verdicts=verdicts), link="")

    assert str(alert.since) == since


@pytest.mark.parametrize(
    ("name", "in_mlflow"),
    [
        ("drift_price_level", "drift/price_level"),
        ("drift_limit_price_level", "drift_limit/price_level"),
        ("columns_drifted", "columns_drifted"),
        ("wape_low", "wape_low"),
    ],
)
def test_drift_is_named_in_a_group_of_its_own(name: str, in_mlflow: str) -> None:
    assert grouped(name) == in_mlflow
