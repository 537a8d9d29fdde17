"""What is told as an alert, how severe it is, under which key, and since when."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from monitoring.alert import compose
from monitoring.launch import ActionResult
from monitoring.policy import PolicyOutcome
from pricing.config import Config, load_config
from pricing.data.findings import Finding

RETRAIN = PolicyOutcome("retrain", "error 0.6, backtest 0.4", "decay")
CALM = PolicyOutcome("none", "all is well", "nothing")
DECAY = PolicyOutcome("none", "error grew; a job is running", "decay")
DRIFT = PolicyOutcome("none", "inputs drifted", "drift")
STALE = PolicyOutcome("refresh", "the states are 29 days old", "stale")
IDLE = ActionResult("nothing was started")


def alert(seen, outcome, *, off=0.0, findings=(), result=IDLE):
    newest = replace(seen.verdicts[-1], off=off)
    changed = replace(seen, verdicts=[*seen.verdicts[:-1], newest], findings=list(findings))
    return compose(outcome, result, evaluation=changed, todo=())


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
    found = alert(seen, outcome, result=ActionResult("", failures))

    assert (found and found.severity) == severity


def test_stale_states_that_nobody_carries_forward_are_a_warning(seen):
    assert alert(seen, STALE, result=replace(IDLE, by_hand=True)).severity == "warning"


@pytest.mark.parametrize(("off", "severity"), [(0.1, "info"), (0.3, "warning"), (1.04, "critical")])
def test_an_alert_is_as_severe_as_forecasts_are_off_whatever_is_done_about_it(seen, off, severity):
    assert alert(seen, DECAY, off=off).severity == severity
    assert alert(seen, DRIFT, off=off).severity == severity


def test_what_asks_for_no_job_but_for_a_look_goes_out_as_a_warning_by_name(seen):
    note = alert(seen, CALM, findings=[Finding("scored_few", "warning", sentence="look at this")])

    assert (note.severity, note.what, note.key) == ("warning", "look at this", "scored_few")
    assert [(one.kind, one.severity) for one in note.findings] == [("scored_few", "warning")]
    assert alert(seen, CALM, findings=[Finding("sampled", "note", sentence="x")]) is None


def test_each_fault_is_an_alert_of_its_own(seen):
    empty = PolicyOutcome("page", "900 values", "fault", fault="column_empty-comp_gap")

    keys = [
        alert(seen, each).key
        for each in (empty, replace(empty, reason="901"), replace(empty, fault="sales_stopped"), DRIFT)
    ]

    assert keys == [*(["column_empty-comp_gap-page"] * 2), "sales_stopped-page", "drift-none-"]


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

    found = compose(RETRAIN, IDLE, evaluation=replace(seen, verdicts=verdicts))

    assert str(found.since) == since


@pytest.mark.parametrize("channel", ["webhook", "sns"])
def test_a_channel_without_an_address_is_refused(channel):
    values = load_config().model_dump(mode="json")
    values["monitoring"] |= {"alerts": [channel]}

    with pytest.raises(ValidationError, match=f"endpoints.{channel}"):
        Config.model_validate(values)
