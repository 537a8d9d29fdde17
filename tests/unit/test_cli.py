import argparse
import logging
import os
import signal
import string
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.errors import HistoryError
from pricing.runtime.cli import UsageError, configure_logging, job_options, run_main


@pytest.fixture(autouse=True)
def _no_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.delenv("PRICING_CONFIG", raising=False)
    monkeypatch.setenv("PRICING_HOME", str(tmp_path))


def _parse(*words: str) -> argparse.Namespace:
    options = job_options("train", "Trains.", needs_sales=False)
    options.add_argument("--min_history", type=int, default=120)
    options.add_flag("--force", help="go on")
    return options.parse(words)


def test_an_absent_parameter_arrives_as_an_empty_string_and_counts_as_not_given() -> None:
    options = _parse("--sales", "", "--config=", "--min_history", "", "--force", "")

    assert (options.sales, options.config, options.min_history, options.force) == (None, None, 120, False)


def test_the_help_says_what_a_configuration_may_be_called() -> None:
    said = " ".join(job_options("train", "Trains.").format_help().split())

    assert "YAML laid over config/default.yaml, or the bare name of a file beside it, such as small" in said


@pytest.mark.parametrize(
    ("words", "config", "said"),
    [
        ((), "env.yaml", ["configuration: env.yaml, which PRICING_CONFIG names"]),
        (("--config", ""), "env.yaml", ["configuration: env.yaml, which PRICING_CONFIG names"]),
        (("--config", "mine.yaml"), "mine.yaml", []),
        (("--config=mine.yaml",), "mine.yaml", []),
    ],
)
def test_without_the_option_the_configuration_is_that_of_the_environment_and_the_log_says_so(
    words: tuple[str, ...],
    config: str,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("PRICING_CONFIG", "env.yaml")

    with caplog.at_level(logging.INFO):
        options = _parse(*words)

    assert options.config == config
    assert [record.getMessage() for record in caplog.records] == said


@pytest.mark.parametrize("words", [(), ("--sales", ""), ("--sales=",)])
def test_a_job_that_needs_sales_says_what_to_give_where_none_are_named(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=r"no sales are named: give --sales WHERE .* or --sales simulated"):
        job_options("train", "Trains.").parse(words)


def test_an_empty_value_of_an_unknown_option_is_still_refused() -> None:
    with pytest.raises(UsageError, match="unknown option --salse, the nearest known one is --sales"):
        _parse("--salse", "")


def test_an_unknown_option_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(UsageError, match="unknown option --min-history, the nearest known one is --min_history"):
        _parse("--min-history", "28")


def test_every_unknown_option_is_named() -> None:
    with pytest.raises(UsageError, match=r"--confg.*--quarantin"):
        _parse("--confg=x", "--quarantin", "y")


def test_an_abbreviated_option_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown option --min"):
        _parse("--min", "3")


@given(name=st.text(string.ascii_lowercase, min_size=1, max_size=12).map("--".__add__), value=st.text(max_size=5))
def test_no_undeclared_option_passes_in_silence(name: str, value: str) -> None:
    declared = {"--sales", "--config", "--quarantine", "--min_history", "--force", "--help"}

    if name not in declared:
        with pytest.raises(UsageError, match="unknown option"):
            _parse(name, value)


def test_a_value_without_an_option_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unexpected argument 'sales\.csv'"):
        _parse("sales.csv")


def test_a_value_of_the_wrong_kind_names_the_option_and_the_value() -> None:
    with pytest.raises(UsageError, match=r"--min_history.*'soon'"):
        _parse("--min_history", "soon")


def test_an_option_without_its_value_is_refused() -> None:
    with pytest.raises(UsageError, match="--sales: expected one argument"):
        _parse("--sales")


@pytest.mark.parametrize(
    ("words", "expected"),
    [((), False), (("--force",), True), (("--force", "true"), True), (("--force", "False"), False)],
)
def test_a_flag_may_stand_alone_or_take_a_value(words: tuple[str, ...], expected: bool) -> None:
    assert _parse(*words).force is expected


def test_a_flag_takes_no_other_word() -> None:
    with pytest.raises(UsageError, match="expected true or false, found 'maybe'"):
        _parse("--force", "maybe")


def test_a_known_error_is_one_message_on_standard_error_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    def job(argv: object) -> int:
        raise HistoryError("90 days of history, 120 are needed")

    code = run_main(job, [])

    out, err = capsys.readouterr()
    assert (code, out, err) == (2, "", "error: 90 days of history, 120 are needed\n")


def test_a_bug_keeps_its_traceback() -> None:
    def job(argv: object) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_main(job, [])


def test_an_interrupt_gives_130() -> None:
    def job(argv: object) -> int:
        raise KeyboardInterrupt

    assert run_main(job, []) == 130


def test_sigterm_gives_143_and_the_old_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def job(argv: object) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    assert run_main(job, []) == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_help_exits_0_and_shows_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        run_main(lambda argv: (_parse(*(argv or ())), 0)[1], ["--help"])

    assert leaving.value.code == 0
    assert "--min_history" in capsys.readouterr().out


@pytest.mark.parametrize(("given", "level"), [("debug", logging.DEBUG), ("loud", logging.WARNING)])
def test_a_level_of_mlflows_logging_in_any_case_is_taken_and_none_ends_the_job(
    monkeypatch: pytest.MonkeyPatch, given: str, level: int
) -> None:
    monkeypatch.setenv("MLFLOW_LOGGING_LEVEL", given)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    before = logging.getLogger("mlflow").level
    try:
        configure_logging()
        assert logging.getLogger("mlflow").level == level
    finally:
        logging.getLogger("mlflow").setLevel(before)


@pytest.mark.parametrize(("given", "found"), [({}, "true 1"), ({"MLFLOW_DISABLE_TELEMETRY": "false"}, "false 1")])
@pytest.mark.parametrize("program", ["pipelines", "monitoring"])
def test_programs_forbid_telemetry_before_mlflow_is_imported_unless_a_person_allows_it(
    program: str, given: dict[str, str], found: str
) -> None:
    names = ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    look = f"import os, sys, {program}; print(*(os.environ[name] for name in {names}), 'mlflow' in sys.modules)"

    said = subprocess.run([sys.executable, "-c", look], env=kept | given, capture_output=True, text=True, check=True)

    assert said.stdout.strip() == f"{found} False"
