"""The command line that all programs share: strict options, one clear message for a known error, exit codes, signals.

An empty value counts as absent and an unknown option is refused by name, as `mlflow run` needs it.
"""

import argparse
import io
import logging
import math
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TextIO

from pricing.errors import NO_SALES, PricingError, nearest
from pricing.paths import CHECKOUT, pricing_home

if TYPE_CHECKING:
    from pricing.runtime.alerts import AlertFinding

_log = logging.getLogger(__name__)

CONFIG_VARIABLE = "PRICING_CONFIG"
EXIT_BUG = 1  # as Python itself ends a program with a traceback
EXIT_KNOWN_ERROR = 2
EXIT_REFUSED = 3  # promote: a gate refused the version
EXIT_NOT_PUBLISHED = 4  # what the job changed is in force, and serving does not know of it yet: `pricing publish`
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
_TRUE = ("true", "yes", "1", "on")
_FALSE = ("false", "no", "0", "off")
_WITHOUT_SALES = ("price", "promote", "history", "publish")  # jobs that take no sales
_MADE = {"sales": "SALES", "config": "CONFIG"}  # options that have a variable of make


@dataclass
class Invocation:
    """The job that this process runs, as far as it is known; filled in as it comes to be known.

    Attributes:
        job: Its name, as in `pricing JOB`.
        config: The configuration file that it was given.
        findings: What it noticed and people should hear of, whether or not it fails.
    """

    job: str = ""
    config: str | None = None
    findings: list["AlertFinding"] = field(default_factory=list)


_invocation: ContextVar[Invocation | None] = ContextVar("invocation", default=None)


def notice(*findings: "AlertFinding") -> None:
    """Notes what a job found; when it ends, well or not, alerts carry it (`monitoring.alerts`)."""
    invocation = _invocation.get()
    if invocation is not None:
        invocation.findings.extend(findings)


class Terminated(BaseException):
    """SIGTERM arrived. Not an Exception, so that no handler of ordinary errors swallows it."""


class UsageError(PricingError):
    """A command line that cannot be understood; names the option at fault and the nearest known one."""


class Options(argparse.ArgumentParser):
    """An argument parser as strict as `mlflow run` needs it.

    `mlflow run` passes every declared parameter, an absent one as an empty string, and appends an undeclared
    `-P key=value` as `--key value`. So an empty value counts as not given, and an unknown option is refused by name.
    """

    def __init__(self, prog: str, description: str | None) -> None:
        super().__init__(
            prog=prog,
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        self._needs_sales = False

    def add_sales(self, *, needed: bool = True) -> None:
        """Adds --sales; where it is `needed`, a command line without it is refused: no job invents its sales."""
        self._needs_sales = needed
        self.add_argument(
            "--sales",
            metavar="WHERE",
            help="CSV or Parquet (file or folder), SQLAlchemy URL, s3://, etl (what etl made of the "
            "configured tables), or simulated (the built-in market)",
        )

    def add_config(self) -> None:
        """Adds --config; without it the file counts that PRICING_CONFIG names, and the log says so."""
        self.add_argument(
            "--config",
            default=os.environ.get(CONFIG_VARIABLE) or None,
            metavar="FILE",
            help="YAML laid over config/default.yaml, or the bare name of a file beside it, such as small; absent: "
            f"{CONFIG_VARIABLE}'s, if any",
        )

    def add_flag(self, name: str, *, help: str) -> None:
        """Adds a switch that may stand alone or take true/false, since `mlflow run` always passes a value."""
        self.add_argument(name, nargs="?", const=True, default=False, type=_switch, metavar="true|false", help=help)

    def parse(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """Reads the options; `argv` is sys.argv's tail when None.

        Raises:
            UsageError: An option is unknown, lacks its value, has one of the wrong kind, or a required one is absent.
        """
        given = self._without_empty_values(list(sys.argv[1:] if argv is None else argv))
        invocation = _invocation.get()
        if invocation is not None:
            invocation.job, invocation.config = self.prog.removeprefix("pricing "), _config_of(given)
        options, unknown = self.parse_known_args(given)
        if unknown:
            raise UsageError(self._explain_unknown(unknown))
        if self._needs_sales and options.sales is None:
            raise UsageError(NO_SALES)
        named = any(word.partition("=")[0] == "--config" for word in given)
        if "--config" in self._option_string_actions and options.config and not named:
            _log.info("configuration: %s, which %s names", options.config, CONFIG_VARIABLE)
        return options

    def error(self, message: str) -> NoReturn:
        """Raises instead of printing the usage and leaving, so that a run can record why it failed.

        Raises:
            UsageError: Always.
        """
        raise UsageError(f"{message}; see {self.prog} --help")

    def _without_empty_values(self, argv: list[str]) -> list[str]:
        known = self._option_string_actions
        kept: list[str] = []
        position = 0
        while position < len(argv):
            word = argv[position]
            if word in known and argv[position + 1 : position + 2] == [""]:
                position += 2
                continue
            if not (word.endswith("=") and word[:-1] in known):
                kept.append(word)
            position += 1
        return kept

    def _explain_unknown(self, unknown: Sequence[str]) -> str:
        known = [name for name in self._option_string_actions if name.startswith("--")]
        names = [word.partition("=")[0] for word in unknown if word.startswith("-")]
        if not names:
            return f"unexpected argument {unknown[0]!r}: every value follows an option; see {self.prog} --help"
        parts = []
        for name in names:
            near = nearest(name.replace("-", "_"), known, cutoff=0.0)
            parts.append(f"unknown option {name}" + (f", the nearest known one is {near}" if near else ""))
        return "; ".join(parts) + f"; see {self.prog} --help"


def _config_of(words: Sequence[str]) -> str | None:
    """The configuration that a command line names, readable or not; that of the environment where it names none."""
    for position, word in enumerate(words):
        name, separator, value = word.partition("=")
        if name == "--config":
            return value if separator else next(iter(words[position + 1 :]), None)
    return os.environ.get(CONFIG_VARIABLE) or None


def at_least(least: int) -> Callable[[str], int]:
    """Makes the type of an option that is a whole number of at least `least`."""

    def read(word: str) -> int:
        if not word.lstrip("-").isdigit() or int(word) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, found {word!r}")
        return int(word)

    return read


def positive(word: str) -> float:
    """Reads an option that is a number above 0."""
    return _number(word, zero=False)


def not_negative(word: str) -> float:
    """Reads an option that is a number of at least 0."""
    return _number(word, zero=True)


def _number(word: str, *, zero: bool) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf or (number == 0 and not zero):
        raise argparse.ArgumentTypeError(f"expected a number {'of at least' if zero else 'above'} 0, found {word!r}")
    return number


def _switch(word: str) -> bool:
    if word.lower() in _TRUE:
        return True
    if word.lower() in _FALSE:
        return False
    raise argparse.ArgumentTypeError(f"expected true or false, found {word!r}")


@dataclass(frozen=True)
class CommandLine:
    """How jobs are started by hand.

    Attributes:
        given: Options that this run was given and others take as well: sales, config, quarantine.
        checkout: True where jobs are targets of `make`, False where only the command `pricing` is.
    """

    given: Mapping[str, str] = field(default_factory=dict)
    checkout: bool = True

    def job(self, name: str, /, **options: str) -> str:
        """Returns the command that starts a job on the same sales and settings, quoted for a shell."""
        kept = {key: value for key, value in self.given.items() if key == "config" or name not in _WITHOUT_SALES}
        words = {**kept, **options}.items()
        if self.checkout:
            made = [f"{_MADE[key]}={shlex.quote(value)}" for key, value in words if key in _MADE]
            rest = " ".join(f"-P {shlex.quote(f'{key}={value}')}" for key, value in words if key not in _MADE)
            return " ".join([f"make {name}", *made, *([f"ARGS={shlex.quote(rest)}"] if rest else [])])
        given = [shlex.quote(value) if key == "action" else f"--{key} {shlex.quote(value)}" for key, value in words]
        return " ".join([f"pricing {name}", *given])

    def tool(self, name: str) -> str:
        """Returns the command that starts `serve` or `doctor`."""
        return f"make {name}" if self.checkout else f"pricing {name}"


def next_lines(job: str, *, config: str | None, page: str) -> str:
    """Says in two lines which job comes next, as a person types it here, and which page to look at before.

    Args:
        job: Its name, as in `pricing JOB`.
        config: The configuration file that this job was given.
        page: Where the page is.
    """
    line = CommandLine({"config": config} if config else {}, checkout=CHECKOUT)
    return f"next:    {line.job(job)}\nlook at: {page}"


def job_options(job: str, description: str, *, sales: bool = True, needs_sales: bool = True) -> Options:
    """Makes the parser of one job with the options that all jobs share.

    Args:
        job: Its name, as in `pricing JOB`.
        description: What the job does, one sentence.
        sales: Whether the job reads sales, and so takes --sales and --quarantine.
        needs_sales: Whether it cannot do without them.
    """
    options = Options(f"pricing {job}", description)
    options.add_config()
    if sales:
        options.add_sales(needed=needs_sales)
        options.add_argument(
            "--quarantine",
            default=None,
            type=Path,
            metavar="DIR",
            help="write bad rows with their reasons here and go on; absent: bad rows stop the job",
        )
    return options


def run_main(
    job: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None, *, unattended: bool = False
) -> int:
    """Runs one job, turns errors and signals into exit codes, and returns the exit code.

    A PricingError becomes one message on standard error and exit code 2, and, where `mlflow run` started the job,
    the run's reason for failing. SIGINT gives 130, SIGTERM 143. Anything else is a bug and keeps its traceback. Errors
    and bugs of an unattended job, and what it noticed, go out as alerts where `monitoring.alerts` names more than the
    log, but for a command line that cannot be understood; what prevents that is said on standard error and changes no
    exit code.

    Args:
        job: Takes the options not yet parsed, returns the exit code.
        argv: The command line after the program's name; sys.argv's when None.
        unattended: Whether a schedule may run the job, so that nobody reads what it prints: every job that has an
            MLflow run, and publish.
    """
    configure_logging()
    os.environ.setdefault("PRICING_HOME", str(pricing_home()))
    invocation = Invocation()
    token = _invocation.set(invocation)
    with _sigterm_raises(), tolerate_closed_pipe():
        try:
            code = job(argv)
            if unattended and invocation.findings:
                _alert(invocation, status=code)
            return code
        except PricingError as error:
            print(f"error: {error}", file=sys.stderr)
            _record_failure(str(error))
            if unattended and not isinstance(error, UsageError):  # who mistypes a command sees the message
                _alert(invocation, error, status=EXIT_KNOWN_ERROR)
            return EXIT_KNOWN_ERROR
        except Exception as error:
            if unattended:
                _alert(invocation, error, status=EXIT_BUG)
            raise
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return EXIT_INTERRUPTED
        except Terminated:
            print("stopped by SIGTERM", file=sys.stderr)
            return EXIT_TERMINATED
        finally:
            _invocation.reset(token)


def configure_logging() -> None:
    """Logs our own packages from INFO (or PRICING_LOG_LEVEL) and all others from WARNING to standard error.

    Start-up messages of TensorFlow and MLflow are left out, here and in the jobs that this one starts.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # it logs a missing GPU as an error
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    logging.getLogger("mlflow").setLevel(_level("MLFLOW_LOGGING_LEVEL", "WARNING"))  # it may be imported already
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # warns of each network that is compiled anew
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    level = _level("PRICING_LOG_LEVEL", "INFO")
    for name in ("pricing", "etl", "pipelines", "monitoring"):
        logging.getLogger(name).setLevel(level)


def _level(variable: str, default: str) -> str:
    level = os.environ.get(variable, default).upper()
    return level if level in logging.getLevelNamesMapping() else default


def _alert(invocation: Invocation, error: Exception | None = None, *, status: int) -> None:
    # Only a job that failed or noticed something reads the settings of alerts.
    from pricing.runtime import failures  # noqa: PLC0415

    if error is None:
        troubles = failures.report_findings(invocation, status=status)
    else:
        troubles = failures.report_failure(invocation, error, status=status)
    for trouble in troubles:
        print(f"no alert: {trouble}", file=sys.stderr)


def _record_failure(reason: str) -> None:
    # Only a job that `mlflow run` started has a run before it has opened one; mlflow's import takes a second.
    if os.environ.get("MLFLOW_RUN_ID"):
        from pricing.runtime.mlflow_runs import record_failure  # noqa: PLC0415

        record_failure(os.environ["MLFLOW_RUN_ID"], reason)


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread: its owner decides about signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _ClosedPipeOutput(io.TextIOBase):
    def __init__(self, outer: TextIO) -> None:
        self._outer = outer

    def write(self, text: str) -> int:
        try:
            return self._outer.write(text)
        except BrokenPipeError:
            self._discard_output()
            return len(text)

    def flush(self) -> None:
        try:
            self._outer.flush()
        except BrokenPipeError:
            self._discard_output()

    def fileno(self) -> int:
        return self._outer.fileno()

    def isatty(self) -> bool:
        return self._outer.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._outer.encoding

    def _discard_output(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._outer.fileno())
        os.close(nowhere)


@contextmanager
def tolerate_closed_pipe() -> Iterator[None]:
    """Discards standard output once its reader has closed the pipe, instead of ending the job."""
    outer = sys.stdout
    sys.stdout = patient = _ClosedPipeOutput(outer)
    try:
        yield
    finally:
        patient.flush()
        sys.stdout = outer
