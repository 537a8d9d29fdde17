"""Alerts: which go out, by which channel, what they say of a job, and that nothing secret leaves with them."""

import datetime as dt
import os
import sys
from pathlib import Path
from unittest.mock import Mock

import click
import pytest

from pipelines.steps import commands
from pipelines.steps.commands import JobError, run_job
from pricing import config
from pricing.config import load_config
from pricing.config_models import MonitoringConfig
from pricing.data.findings import Finding
from pricing.errors import EXIT_REFUSED, DeliveryError, HistoryError, LockError, PricingError
from pricing.runtime.alerts import (
    CHANNELS,
    UNTOLD,
    Alert,
    deliver,
    report_failure,
    report_findings,
    run_page,
)
from pricing.runtime.cli import Job, job
from pricing.runtime.invocation import Invocation, notice

ALERT = Alert("decay", "warning", "error grew", dt.date(2024, 6, 1), "0.6", "retrained", "nothing")
POST = CHANNELS["webhook"]
DOUBT = Finding("price_unit", "warning", sentence="price of 3 products is 100 times their own past since 2024-05-30")


class Mailbox:
    """A channel that keeps what it takes."""

    def __init__(self) -> None:
        self.alerts = list[Alert]()

    def __call__(self, alert: Alert, _config: MonitoringConfig) -> None:
        self.alerts.append(alert)


def refuse(_alert: Alert, _config: MonitoringConfig) -> None:
    raise DeliveryError("no post")


@pytest.fixture(autouse=True)
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mailbox:
    """The only channel of the configuration that PRICING_CONFIG names; no run of another test's job is known."""
    monkeypatch.delitem(sys.modules, "pricing.runtime.mlflow_runs", raising=False)
    for name in ("MLFLOW_RUN_ID", "PRICING_PARENT_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    settings = tmp_path / "doors.yaml"
    settings.write_text("monitoring: {alerts: [webhook], endpoints: {webhook_url: 'http://chat'}}")
    monkeypatch.setenv("PRICING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PRICING_CONFIG", str(settings))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.shop:5000/")
    mailbox = Mailbox()
    monkeypatch.setitem(CHANNELS, "webhook", mailbox)
    return mailbox


def a_job(error: Exception | None = None, *found: Finding, unattended: bool = True) -> Job:
    """A job that notices something and ends well, or with an error."""

    @job("etl", unattended=unattended)
    def reads(*, config: str | None) -> int:
        notice(*found)
        if error is not None:
            raise error
        return 0

    return reads


def invocation(name: str = "etl", *found: Finding) -> Invocation:
    return Invocation(name, os.environ["PRICING_CONFIG"], findings=list(found))


def test_an_alert_goes_out_each_time_and_by_each_channel_whatever_becomes_of_it_on_others(
    box: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CHANNELS, "sns", refuse)
    settings = load_config().monitoring.model_copy(update={"alerts": ["sns", "log", "webhook"]})

    failures = [deliver(ALERT, settings) for _ in range(2)]

    assert failures == [["no post"]] * 2
    assert box.alerts == [ALERT] * 2


def test_a_run_is_linked_where_mlflow_has_pages_and_the_link_holds_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_page("r1", experiment="7", pages="") == "https://mlflow.shop:5000/#/experiments/7/runs/r1"
    shown = run_page("r1", experiment="7", pages="http://ui", artifact="summary.html")
    assert shown == "http://ui/#/experiments/7/runs/r1/artifacts/summary.html"

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")

    assert run_page("r1", experiment="7", pages="") == ""


def test_a_job_that_fails_says_which_it_was_why_with_which_status_and_what_was_found(box: Mailbox) -> None:
    error = HistoryError("90 days of history, 120 are needed\ngive more\n" + "line\n" * 20)
    error.findings = [Finding("late", "stop", sentence="the feed is late")]  # type: ignore[attr-defined]

    assert report_failure(invocation("etl", DOUBT), error, status=2) == []

    (told,) = box.alerts
    assert (told.job, told.exit_status, told.severity) == ("etl", 2, "critical")
    assert len(told.how_bad.splitlines()) == 6
    assert [(one.kind, one.severity) for one in told.findings] == [("late", "critical"), ("price_unit", "warning")]
    assert all(words in told.text for words in ("90 days of history", "the feed is late", DOUBT.sentence))


@pytest.mark.parametrize("error", [PricingError, RuntimeError])
def test_no_password_of_an_error_leaves_with_an_alert(box: Mailbox, error: type[Exception]) -> None:
    report_failure(invocation(), error("cannot reach postgresql://ann:hush@db/shop?password=hush"), status=1)

    (told,) = box.alerts
    assert "hush" not in f"{told} {told.subject} {told.text}"
    assert "db/shop" in told.what


def test_each_failure_has_a_key_without_its_figures_and_a_bug_is_named_as_one(box: Mailbox) -> None:
    for error in (PricingError("3 rows are bad"), PricingError("4 rows are bad"), ZeroDivisionError()):
        report_failure(invocation(), error, status=2)

    first, again, bug = box.alerts
    assert first.key == again.key != bug.key
    assert (first.how_bad, bug.how_bad) == ("3 rows are bad", "ZeroDivisionError: ZeroDivisionError")


@pytest.mark.parametrize(
    ("error", "found", "sent"),
    [
        (JobError("etl ended with exit code 2", told=True), (), 0),
        (JobError("etl ended with exit code 2", told=True), (DOUBT,), 1),  # of which nobody has told yet
        (JobError("etl ended with exit code -9"), (), 1),
    ],
)
def test_what_an_alert_has_said_is_not_said_again(
    error: JobError, found: tuple[Finding, ...], sent: int, box: Mailbox
) -> None:
    report_failure(invocation("nightly", *found), error, status=2)

    assert len(box.alerts) == sent


@pytest.mark.parametrize(
    ("ends", "tags", "told"),
    [
        ("sys.exit(2)", {}, True),
        ("sys.exit(1)", {}, True),
        ("sys.exit(2)", {UNTOLD: "no post"}, False),
        ("os.kill(os.getpid(), 9)", {}, False),
        ("sys.exit(143)", {}, False),
    ],
)
def test_a_job_that_was_stopped_or_whose_alert_was_not_delivered_has_told_nobody(
    ends: str, tags: dict[str, str], told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stops.py").write_text(f"import os, sys\n{ends}\n")
    monkeypatch.setattr(commands, "COMMAND", (sys.executable, "-m", "stops"))
    monkeypatch.setattr(commands, "child_tags", lambda *_: tags)
    run = Mock(info=Mock(run_id="1", experiment_id="0"))
    monkeypatch.setattr(commands, "child_environment", lambda _run: {**os.environ, "PYTHONPATH": str(tmp_path)})

    with pytest.raises(JobError) as caught:
        run_job("etl", [], run=run)

    assert caught.value.told is told


def test_a_job_that_ends_well_or_is_refused_tells_what_it_noticed_but_not_mere_information(box: Mailbox) -> None:
    moved = Finding("price_moves", "breach", sentence="median 4.6")
    report_findings(invocation("etl", Finding("gaps", "note", sentence="x")))
    report_findings(invocation("etl", DOUBT))
    report_findings(invocation("promote", moved), status=EXIT_REFUSED)

    well, refused = box.alerts
    assert (well.severity, well.key, well.exit_status) == ("warning", "findings-etl-price_unit", None)
    assert DOUBT.sentence in well.text
    assert (refused.key, refused.exit_status) == ("findings-promote-price_moves", 3)


def test_an_invalid_configuration_is_said_by_its_bare_name_too_but_not_a_mistyped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop.yaml").write_text("monitoring: {alerts: [fax]}")
    monkeypatch.setattr(config, "SETTINGS", tmp_path)

    said = [report_failure(Invocation("etl", name), PricingError("x"), status=2) for name in ("shop", "shpo")]

    assert [len(troubles) for troubles in said] == [1, 0]


def test_doors_that_fail_are_said_and_change_no_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text("monitoring: {alerts: [webhook], endpoints: {webhook_url: 'no address'}}")
    monkeypatch.setitem(CHANNELS, "webhook", POST)

    assert a_job(HistoryError("no"), DOUBT)(["--config", str(tmp_path / "mine.yaml")]) == 2

    said = capsys.readouterr().err.splitlines()
    assert said[0] == "error: no"
    assert any(line.startswith("no alert: webhook: the alert failed-etl-price_unit was not taken") for line in said)


@pytest.mark.parametrize(
    ("words", "error", "unattended", "severities"),
    [
        ((), HistoryError("too short"), True, ["critical"]),
        ((), LockError("nightly is running already: process 7"), True, ["warning"]),
        ((), None, True, ["warning"]),
        ((), HistoryError("too short"), False, []),
        ((), None, False, []),
        (("--salse", "x"), None, True, []),
        ((), click.UsageError("--force needs --reason"), True, []),
    ],
)
def test_only_what_goes_wrong_without_anybody_watching_is_told(
    box: Mailbox, words: tuple[str, ...], error: Exception | None, unattended: bool, severities: list[str]
) -> None:
    code = a_job(error, DOUBT, unattended=unattended)(words)

    assert code == (0 if error is None and not words else 2)
    assert [one.severity for one in box.alerts] == severities


@pytest.mark.parametrize("words", [(), ("--salse", "x")])
def test_of_a_job_that_a_job_started_everything_is_told_since_nobody_reads_it(
    words: tuple[str, ...], box: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRICING_PARENT_RUN_ID", "night")

    assert a_job(HistoryError("too short"), unattended=False)(words) == 2

    assert [one.severity for one in box.alerts] == ["critical"]
