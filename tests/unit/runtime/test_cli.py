"""What every job's command line does: options, errors, exit codes and signals."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from pricing.errors import HistoryError
from pricing.runtime.cli import Job, command_line, flag, job, typed

ROOT = Path(__file__).parents[3]
PRINTS = """
import sys
from pathlib import Path
from pricing.runtime.cli import job

@job("prints", config=False)
def main():
    for number in range(20000):
        print("line", number)
    return 3

sys.exit(main([]))
"""


@pytest.fixture(autouse=True)
def _no_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.delenv("PRICING_CONFIG", raising=False)
    monkeypatch.setenv("PRICING_HOME", str(tmp_path))


@job("train", sales="optional")
@click.option("--min_history", default=120)
@flag("--force", help="go on")
def train(*, seen: dict[str, Any], **options: Any) -> int:
    """Trains."""
    seen.update(options)
    return 3


def parsed(*words: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    assert train(words, seen=seen) == 3
    return seen


def raising(error: type[BaseException] | BaseException) -> Job:
    @job("fails")
    def fails(*, config: str | None) -> int:
        raise error

    return fails


def test_an_absent_parameter_arrives_as_an_empty_string_and_counts_as_not_given() -> None:
    seen = parsed("--sales", "", "--config=", "--min_history", "", "--force", "", "--quarantine", "bad")

    assert seen == {"sales": None, "config": None, "min_history": 120, "force": False, "quarantine": Path("bad")}


def test_without_the_option_the_configuration_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRICING_CONFIG", "env.yaml")

    assert [parsed("--config", given)["config"] for given in ("", "mine.yaml")] == ["env.yaml", "mine.yaml"]


@pytest.mark.parametrize("words", [(), ("--sales", ""), ("--sales=",)])
def test_a_job_that_needs_sales_invents_none(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    @job("etl", sales="needed")
    def etl(**_: Any) -> int:
        return 0

    assert etl(words) == 2
    assert "or --sales simulated" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--min-history", "28"), "'--min_history'"),
        (("--force", "maybe"), "maybe"),
    ],
)
def test_what_cannot_be_understood_is_refused_by_name(
    words: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(words, seen={}) == 2

    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [((), False), (("--force",), True), (("--force", "true"), True), (("--force", "False"), False)],
)
def test_a_flag_may_stand_alone_or_take_a_value(words: tuple[str, ...], expected: bool) -> None:
    assert parsed(*words)["force"] is expected


def test_a_known_error_is_one_message_on_standard_error_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(HistoryError("postgresql://ann:hush@db/shop: 90 days, 120 are needed"))([]) == 2

    assert capsys.readouterr() == ("", "error: postgresql://***@db/shop: 90 days, 120 are needed\n")


def test_sigterm_gives_143_and_the_old_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)

    @job("waits", config=False)
    def waits() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    assert waits([]) == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_command_of_a_job_keeps_what_this_run_was_given_but_for_passwords() -> None:
    given = {"sales": "my sales.csv", "config": "my.yaml"}
    secret = {"sales": "postgresql://ann:hush@db/shop"}

    assert command_line("retrain", given, reason="x") == typed(
        "retrain --sales 'my sales.csv' --config my.yaml --reason x"
    )
    assert command_line("promote", given) == typed("promote --config my.yaml")
    assert command_line("retrain", secret) == typed("retrain --sales 'postgresql://***@db/shop'")


@pytest.mark.parametrize(("given", "found"), [({}, "true 1"), ({"MLFLOW_DISABLE_TELEMETRY": "false"}, "false 1")])
@pytest.mark.parametrize("program", ["pipelines"])
def test_programs_forbid_telemetry_before_mlflow_is_imported_unless_a_person_allows_it(
    program: str, given: dict[str, str], found: str
) -> None:
    names = ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    look = f"import os, sys, {program}; print(*(os.environ[name] for name in {names}), 'mlflow' in sys.modules)"

    said = subprocess.run([sys.executable, "-c", look], env=kept | given, capture_output=True, text=True, check=True)

    assert said.stdout.strip() == f"{found} False"
