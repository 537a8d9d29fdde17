"""Alerts: which go out, by which channel, what they say of a job, and that nothing secret leaves with them."""

import datetime as dt
import os
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from pricing import config
from pricing.config_models import Severity
from pricing.data.findings import Finding
from pricing.errors import EXIT_NOT_PUBLISHED, EXIT_REFUSED, DeliveryError, HistoryError, LockError, PricingError
from pricing.runtime import alerts
from pricing.runtime.alerts import (
    Alert,
    AlertFinding,
    Delivery,
    Notifier,
    alert_notifiers,
    deliver,
    report_failure,
    report_findings,
    run_page,
)
from pricing.runtime.cli import Invocation, Job, job, notice

NOW = dt.datetime(2024, 6, 1, 3, tzinfo=dt.UTC)
DOUBT = AlertFinding("price_unit", "warning", "price of 3 products is 100 times their own past since 2024-05-30")


class Mailbox(Notifier):
    """A channel that keeps what it takes."""

    def __init__(self, channel: Any = "webhook", *, refuses: bool = False) -> None:
        super().__init__(channel)
        self.refuses, self.alerts = refuses, list[Alert]()

    def send(self, alert: Alert) -> None:
        if self.refuses:
            raise DeliveryError("no post")
        self.alerts.append(alert)


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
    monkeypatch.setattr(alerts, "alert_notifiers", lambda _config: [mailbox])
    return mailbox


def alert(severity: Severity = "info", key: str = "decay") -> Alert:
    return Alert(key, severity, "error grew", dt.date(2024, 6, 1), "0.6", "retrained", "nothing")


def sent(what: Alert, *doors: Notifier, hours: float = 0) -> Delivery:
    return deliver(what, doors, now=NOW + dt.timedelta(hours=hours), every_hours=24)


def a_job(error: Exception | None = None, *found: AlertFinding, unattended: bool = True) -> Job:
    """A job that notices something and ends well, or with an error."""

    @job("etl", unattended=unattended)
    def reads(*, config: str | None) -> int:
        notice(*found)
        if error is not None:
            raise error
        return 0

    return reads


def invocation(name: str = "etl", *found: AlertFinding) -> Invocation:
    return Invocation(name, os.environ["PRICING_CONFIG"], findings=list(found))


def test_the_same_alert_waits_but_not_another_nor_one_that_grew_more_severe(box: Mailbox) -> None:
    for hours in (0, 1, 23, 24):
        sent(alert(), box, hours=hours)
    sent(alert(key="drift"), box)
    sent(alert("critical"), box)

    assert [(one.key, one.severity) for one in box.alerts] == [
        *[("decay", "info")] * 2,
        *[("drift", "info"), ("decay", "critical")],
    ]


def test_an_alert_counts_as_sent_only_on_the_channels_that_took_it() -> None:
    box = Mailbox(refuses=True)

    first = sent(alert("warning"), Notifier("log"), box)
    box.refuses = False
    later = [sent(alert("warning"), Notifier("log"), box) for _ in range(2)]

    assert (first.failures, [one.told for one in (first, *later)]) == (("no post",), [False, True, True])
    assert len(box.alerts) == 1


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
    assert [(one.name, one.severity) for one in told.findings] == [("late", "critical"), ("price_unit", "warning")]
    assert all(words in told.text for words in ("90 days of history", "the feed is late", DOUBT.text))


@pytest.mark.parametrize("error", [PricingError, RuntimeError])
def test_no_password_of_an_error_leaves_with_an_alert(box: Mailbox, error: type[Exception]) -> None:
    report_failure(invocation(), error("cannot reach postgresql://ann:hush@db/shop?password=hush"), status=1)

    (told,) = box.alerts
    assert "hush" not in f"{told} {told.subject} {told.text}"
    assert "db/shop" in told.what


def test_the_same_failure_is_told_once_and_another_at_once_and_a_bug_is_named_as_one(box: Mailbox) -> None:
    for error in (PricingError("3 rows are bad"), PricingError("4 rows are bad"), ZeroDivisionError()):
        report_failure(invocation(), error, status=2)

    assert [one.how_bad for one in box.alerts] == ["3 rows are bad", "ZeroDivisionError: ZeroDivisionError"]


class ChildError(PricingError):
    of_child = True


class ToldError(PricingError):
    told = True


@pytest.mark.parametrize(
    ("child", "refuses", "jobs"),
    [
        (lambda: report_failure(invocation(), PricingError("bad rows"), status=2), False, ["etl"]),
        (lambda: report_failure(invocation(), ToldError("of which an alert went out"), status=2), False, []),
        (lambda: report_failure(invocation(), PricingError("bad rows"), status=2), True, ["nightly"]),
        (lambda: None, False, ["nightly"]),  # killed before it could say anything
        (lambda: report_findings(invocation("etl", DOUBT), status=EXIT_NOT_PUBLISHED), False, ["etl"]),
        (lambda: report_findings(invocation("etl", DOUBT), status=EXIT_REFUSED), False, ["etl", "nightly"]),
        (lambda: report_findings(invocation("etl", DOUBT)), False, ["etl", "nightly"]),
    ],
    ids=["told", "told before", "refused by the channel", "killed", "not published", "refused by a gate", "well"],
)
def test_a_failure_that_a_started_job_has_told_is_not_told_again_by_its_parent(
    child: Any, refuses: bool, jobs: list[str], box: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.refuses = refuses
    monkeypatch.setenv("PRICING_PARENT_RUN_ID", "night")
    child()
    box.refuses = False
    monkeypatch.delenv("PRICING_PARENT_RUN_ID")
    monkeypatch.setenv("MLFLOW_RUN_ID", "night")

    report_failure(invocation("nightly"), ChildError("etl ended with 2"), status=2)

    assert [one.job for one in box.alerts] == jobs


def test_a_job_that_ends_well_or_is_refused_tells_what_it_noticed_but_not_mere_information(box: Mailbox) -> None:
    moved = AlertFinding("price_moves", "critical", "median 4.6")
    report_findings(invocation("etl", AlertFinding("gaps", "info", "x")))
    report_findings(invocation("etl", DOUBT))
    report_findings(invocation("promote", moved), status=EXIT_REFUSED)

    well, refused = box.alerts
    assert (well.severity, well.key, well.exit_status) == ("warning", "findings-etl-price_unit", None)
    assert DOUBT.text in well.text
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
    monkeypatch.setattr(alerts, "alert_notifiers", alert_notifiers)

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
