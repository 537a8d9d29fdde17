import datetime as dt
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from pricing.config import load_config
from pricing.config_models import Channel
from pricing.errors import HistoryError, LockError, PricingError, SourceError
from pricing.runtime import failures
from pricing.runtime.alerts import (
    Alert,
    AlertFinding,
    AlertMemory,
    DeliveryError,
    LeastSeverity,
    LogNotifier,
    Notifier,
    alert_memory,
    alert_notifiers,
    as_findings,
    deliver,
    run_page,
)
from pricing.runtime.cli import EXIT_REFUSED, Invocation, Job, job, notice
from pricing.runtime.failures import report_failure, report_findings

ROOT = Path(__file__).parents[2]
NOW = dt.datetime(2024, 6, 1, 3, tzinfo=dt.UTC)
ALERT = Alert("decay-retrain", "info", "error grew", dt.date(2024, 6, 1), "0.6", "retrained", "nothing")
DOUBT = AlertFinding("price_unit", "warning", "price of 3 products is 100 times their own past since 2024-05-30")


@pytest.fixture(autouse=True)
def _no_run_of_an_earlier_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs of these tests have no run of MLflow; one that another test left in this process is not theirs."""
    monkeypatch.delitem(sys.modules, "pricing.runtime.mlflow_runs", raising=False)


class Mailbox:
    channel: Channel = "webhook"

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses, self.alerts = refuses, list[Alert]()

    def send(self, alert: Alert) -> bool:
        if self.refuses:
            raise DeliveryError("no post")
        self.alerts.append(alert)
        return True


@dataclass(frozen=True)
class Found:
    check: str
    level: str
    sentence: str


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MLFLOW_RUN_ID", "PRICING_CONFIG", "PRICING_PARENT_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PRICING_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.shop:5000/")


@pytest.fixture
def memory(tmp_path: Path) -> AlertMemory:
    return AlertMemory(tmp_path / "alerts.db")


def test_the_same_alert_waits_and_another_does_not(memory: AlertMemory) -> None:
    memory.sent("decay", now=NOW)

    due = [memory.due("decay", every_hours=24, now=NOW + dt.timedelta(hours=hour)) for hour in (0, 1, 23, 24)]

    assert due == [False, False, False, True]
    assert memory.due("drift", every_hours=24, now=NOW)


def test_an_alert_that_grew_more_severe_does_not_wait(memory: AlertMemory) -> None:
    box = Mailbox()

    for severity in ("info", "info", "critical"):
        alert = Alert("k", severity, "x", dt.date(2024, 6, 1), "", "", "")  # type: ignore[arg-type]
        deliver(alert, [box], memory=memory, every_hours=20, now=NOW)

    assert [alert.severity for alert in box.alerts] == ["info", "critical"]


class Pager(Mailbox):
    channel: Channel = "sns"


def test_an_alert_counts_as_sent_only_on_the_channels_that_took_it(memory: AlertMemory) -> None:
    warning = Alert("k", "warning", "x", dt.date(2024, 6, 1), "", "", "")
    box, pager = Mailbox(refuses=True), Pager()
    doors: list[Notifier] = [LogNotifier(), LeastSeverity(pager, least="critical"), box]

    first = deliver(warning, doors, memory=memory, every_hours=20, now=NOW)
    box.refuses = False
    second = deliver(warning, doors, memory=memory, every_hours=20, now=NOW)
    third = deliver(warning, doors, memory=memory, every_hours=20, now=NOW)

    assert (first.failures, [one.told for one in (first, second, third)]) == (("no post",), [False, True, True])
    assert (len(box.alerts), pager.alerts) == (1, [])


def test_a_channel_that_took_an_alert_does_not_get_it_again_because_another_failed(memory: AlertMemory) -> None:
    box = Mailbox()

    for _ in range(2):
        deliver(ALERT, [box, Pager(refuses=True)], memory=memory, every_hours=20, now=NOW)

    assert len(box.alerts) == 1


def test_a_memory_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "alerts.db").write_bytes(b"no database at all, but long enough to be looked at" * 40)

    with pytest.raises(SourceError, match=r"alerts\.db"):
        alert_memory()


def test_a_channel_takes_alerts_from_its_least_severity_on() -> None:
    box = Mailbox()
    door = LeastSeverity(box, least="warning")

    for severity in ("info", "warning", "critical"):
        door.send(Alert("k", severity, "x", dt.date(2024, 6, 1), "", "", ""))  # type: ignore[arg-type]

    assert [alert.severity for alert in box.alerts] == ["warning", "critical"]


def test_the_configuration_sets_the_least_severity_of_a_channel() -> None:
    config = load_config().monitoring.model_copy(update={"least_severity": {"log": "critical"}})

    assert [type(door) for door in alert_notifiers(config)] == [LeastSeverity]


def test_a_run_is_linked_where_mlflow_has_pages_and_the_link_holds_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_page("r1", experiment="7", pages="") == "https://mlflow.shop:5000/#/experiments/7/runs/r1"
    shown = run_page("r1", experiment="7", pages="http://ui", artifact="summary.html")
    assert shown == "http://ui/#/experiments/7/runs/r1/artifacts/summary.html"

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")

    assert run_page("r1", experiment="7", pages="") == ""


def test_findings_of_other_checks_keep_name_and_words_and_get_a_severity() -> None:
    found = as_findings([Found("a", "note", "x"), Found("b", "set_aside", "y"), Found("c", "stop", "z")])

    assert [one.severity for one in found] == ["info", "warning", "critical"]
    assert found[1] == AlertFinding("b", "warning", "y")


def test_a_job_that_fails_says_which_it_was_why_with_which_status_and_what_was_found() -> None:
    box = Mailbox()
    error = HistoryError("90 days of history, 120 are needed\ngive more\n" + "line\n" * 20)
    error.findings = [Found("late", "stop", "the feed is late")]  # type: ignore[attr-defined]

    assert report_failure(Invocation("etl", findings=[DOUBT]), error, status=2, notifiers=[box]) == []

    (alert,) = box.alerts
    assert (alert.job, alert.exit_status, alert.severity) == ("etl", 2, "critical")
    assert alert.what == "etl failed: 90 days of history, 120 are needed"
    assert len(alert.how_bad.splitlines()) == 6
    assert "- late (critical): the feed is late\n- price_unit (warning): price of 3 products" in alert.text
    assert "Job: etl (exit status 2)" in alert.text


def test_the_same_failure_is_told_once_and_another_at_once() -> None:
    box = Mailbox()

    for words in ("3 rows are bad", "4 rows are bad", "the disk is full"):
        report_failure(Invocation("etl"), PricingError(words), status=2, notifiers=[box])

    assert [alert.how_bad for alert in box.alerts] == ["3 rows are bad", "the disk is full"]


def test_a_bug_is_named_as_one() -> None:
    box = Mailbox()

    report_failure(Invocation("train"), ZeroDivisionError(), status=1, notifiers=[box])

    assert box.alerts[0].how_bad == "ZeroDivisionError: ZeroDivisionError"
    assert "fault of the program" in box.alerts[0].todo


class ChildError(PricingError):
    of_child = True


def test_a_failure_that_a_started_job_has_told_is_not_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Mailbox()
    monkeypatch.setenv("PRICING_PARENT_RUN_ID", "night")
    report_failure(Invocation("etl"), PricingError("bad rows"), status=2, notifiers=[box])
    monkeypatch.delenv("PRICING_PARENT_RUN_ID")
    monkeypatch.setenv("MLFLOW_RUN_ID", "night")

    report_failure(Invocation("nightly"), ChildError("etl ended with 2"), status=2, notifiers=[box])

    assert [alert.job for alert in box.alerts] == ["etl"]


@pytest.mark.parametrize("delivered", [True, False])
def test_a_failure_that_a_started_job_could_not_tell_is_told_by_its_parent(
    delivered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Mailbox()
    monkeypatch.setenv("PRICING_PARENT_RUN_ID", "night")
    if not delivered:
        doors: list[Notifier] = [LogNotifier(), Mailbox(refuses=True)]
        report_failure(Invocation("etl"), PricingError("bad"), status=2, notifiers=doors)
    monkeypatch.delenv("PRICING_PARENT_RUN_ID")
    monkeypatch.setenv("MLFLOW_RUN_ID", "night")

    report_failure(Invocation("nightly"), ChildError("etl was killed"), status=2, notifiers=[box])

    assert [alert.job for alert in box.alerts] == ["nightly"]


def test_a_job_that_ends_well_tells_what_it_noticed_by_name_but_not_mere_information() -> None:
    box = Mailbox()

    report_findings(Invocation("etl", findings=[AlertFinding("gaps", "info", "x")]), notifiers=[box])
    report_findings(Invocation("etl", findings=[DOUBT]), notifiers=[box])

    (alert,) = box.alerts
    assert (alert.severity, alert.what) == ("warning", "etl ended well and found: price_unit")
    assert DOUBT.text in alert.text


def test_a_refusal_that_calls_a_person_says_so_and_leaves_a_later_failure_to_be_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    box = Mailbox()
    moved = AlertFinding("price_moves", "critical", "median 4.6")
    monkeypatch.setenv("PRICING_PARENT_RUN_ID", "night")
    report_findings(Invocation("promote", findings=[moved]), status=EXIT_REFUSED, notifiers=[box])
    monkeypatch.delenv("PRICING_PARENT_RUN_ID")
    monkeypatch.setenv("MLFLOW_RUN_ID", "night")

    report_failure(Invocation("nightly"), ChildError("compact was killed"), status=2, notifiers=[box])

    assert [(alert.job, alert.exit_status) for alert in box.alerts] == [("promote", 3), ("nightly", 2)]
    assert box.alerts[0].what == "promote was refused by what a person must look at: price_moves"
    assert "champion and its prices stay" in box.alerts[0].done


def raising(error: Exception | None, *, unattended: bool = True, finds: Sequence[AlertFinding] = ()) -> Job:
    """A job that notices something and ends with an error, if any."""

    @job("etl", unattended=unattended)
    def reads(*, config: str | None) -> int:
        notice(*finds)
        if error is not None:
            raise error
        return 0

    return reads


def test_doors_that_fail_are_said_and_change_no_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "mine.yaml"
    settings.write_text("monitoring: {alerts: [webhook], endpoints: {webhook_url: 'no address'}}")

    assert raising(HistoryError("too short"), finds=[DOUBT])(["--config", str(settings)]) == 2

    said = capsys.readouterr().err.splitlines()
    assert said[0] == "error: too short"
    assert any(line.startswith("no alert: webhook: the alert failed-etl-price_unit was not taken") for line in said)


def test_a_configuration_that_cannot_be_read_is_said_to_keep_alerts_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text("monitoring: {alert: [sns]}")
    monkeypatch.chdir(tmp_path)

    @job("etl", unattended=True)
    def reads(*, config: str | None) -> int:
        load_config(config)
        return 0

    assert reads(["--config", "mine.yaml"]) == 2

    assert "no alert: the configuration cannot be read, so its alert channels are unknown" in capsys.readouterr().err


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mailbox:
    """The only door of the configuration that PRICING_CONFIG names."""
    settings = tmp_path / "doors.yaml"
    settings.write_text("monitoring: {alerts: [webhook], endpoints: {webhook_url: 'http://chat'}}")
    monkeypatch.setenv("PRICING_CONFIG", str(settings))
    mailbox = Mailbox()
    monkeypatch.setattr(failures, "alert_notifiers", lambda _config: [mailbox])
    return mailbox


@pytest.mark.parametrize(
    ("words", "error", "unattended", "severities"),
    [
        ((), HistoryError("too short"), True, ["critical"]),
        ((), LockError("nightly is running already: process 7"), True, ["warning"]),
        ((), HistoryError("too short"), False, []),
        (("--salse", "x"), None, True, []),
        ((), click.UsageError("--force needs --reason"), True, []),
    ],
    ids=["a job", "a job that waits", "a person's command", "a mistyped option", "options that do not fit"],
)
def test_only_what_goes_wrong_without_anybody_watching_is_told(
    box: Mailbox, words: tuple[str, ...], error: Exception | None, unattended: bool, severities: list[str]
) -> None:
    assert raising(error, unattended=unattended)(words) == 2

    assert [alert.severity for alert in box.alerts] == severities


@pytest.mark.parametrize("unattended", [True, False])
def test_a_bug_and_a_finding_are_told_of_unattended_jobs_alone(box: Mailbox, unattended: bool) -> None:
    assert raising(None, unattended=unattended, finds=[DOUBT])([]) == 0
    with pytest.raises(ZeroDivisionError):
        raising(ZeroDivisionError(), unattended=unattended)([])

    assert [alert.severity for alert in box.alerts] == (["warning", "critical"] if unattended else [])


def test_the_unattended_jobs_are_those_with_an_mlflow_run_and_publish() -> None:
    sources = [path for program in ("pipelines", "monitoring", "serving") for path in (ROOT / program).rglob("*.py")]
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sources}

    tells = {name for name, text in texts.items() if "unattended=True" in text}

    assert tells == {name for name, text in texts.items() if 'tracked_run("' in text} | {"pipelines/publish.py"}


def test_where_alerts_go_to_the_log_only_a_failure_leaves_no_trace_beside_its_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert raising(HistoryError("too short"))([]) == 2

    assert capsys.readouterr().err == "error: too short\n"
    assert not (tmp_path / "alerts.db").exists()
