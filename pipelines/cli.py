"""The command line that all jobs share: strict options, one clear message for a known error, exit codes, logging."""

import argparse
import difflib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pipelines.places import pricing_home
from pricing.errors import PricingError

EXIT_KNOWN_ERROR = 2
EXIT_REFUSED = 3  # promote: a gate refused the version
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

_TRUE = ("true", "yes", "1", "on")
_FALSE = ("false", "no", "0", "off")


class UsageError(PricingError):
    """A command line that cannot be understood; names the option at fault and the nearest known one."""


class Terminated(BaseException):
    """SIGTERM arrived. Not an Exception, so that no handler of ordinary errors swallows it."""


class Options(argparse.ArgumentParser):
    """An argument parser as strict as `mlflow run` needs it.

    `mlflow run` passes every declared parameter, an absent one as an empty string, and appends an undeclared
    `-P key=value` as `--key value`. So an empty value counts as not given, and an unknown option is refused by name.
    """

    def __init__(self, job: str, description: str) -> None:
        super().__init__(
            prog=f"python -m pipelines.{job}",
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
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
        options, unknown = self.parse_known_args(given)
        if unknown:
            raise UsageError(self._explain_unknown(unknown))
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
            near = difflib.get_close_matches(name.replace("-", "_"), known, n=1, cutoff=0.0)
            parts.append(f"unknown option {name}" + (f", the nearest known one is {near[0]}" if near else ""))
        return "; ".join(parts) + f"; see {self.prog} --help"


def job_options(job: str, description: str, *, sales: bool = True) -> Options:
    """Makes the parser of one job with the options that all jobs share.

    Args:
        job: The module's name, as in `python -m pipelines.JOB`.
        description: What the job does, one sentence.
        sales: Whether the job reads sales, and so takes --sales and --quarantine.
    """
    options = Options(job, description)
    options.add_argument("--config", default=None, metavar="FILE", help="YAML laid over config/default.yaml")
    if sales:
        options.add_argument(
            "--sales",
            default=None,
            metavar="WHERE",
            help="CSV or Parquet (file or folder), SQLAlchemy URL, s3:// or completejourney; absent: simulated market",
        )
        options.add_argument(
            "--quarantine",
            default=None,
            type=Path,
            metavar="DIR",
            help="write bad rows with their reasons here and go on; absent: bad rows stop the job",
        )
    return options


def run_main(job: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None) -> int:
    """Runs one job at the program's edge and returns the process's exit code.

    A PricingError becomes one message on standard error and exit code 2, and, where `mlflow run` started the job,
    the run's reason for failing. SIGINT gives 130, SIGTERM 143. Anything else is a bug and keeps its traceback.

    Args:
        job: Takes the options not yet parsed, returns the exit code.
        argv: The command line after the program's name; sys.argv's when None.
    """
    configure_logging()
    os.environ.setdefault("PRICING_HOME", str(pricing_home()))
    with _sigterm_raises():
        try:
            return job(argv)
        except PricingError as error:
            print(f"error: {error}", file=sys.stderr)
            _record_failure(str(error))
            return EXIT_KNOWN_ERROR
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return EXIT_INTERRUPTED
        except Terminated:
            print("stopped by SIGTERM", file=sys.stderr)
            return EXIT_TERMINATED


def configure_logging() -> None:
    """Sends our own log lines from INFO (or PRICING_LOG_LEVEL) and everyone else's warnings to standard error."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    level = os.environ.get("PRICING_LOG_LEVEL", "INFO").upper()
    if level not in logging.getLevelNamesMapping():
        level = "INFO"
    for name in ("pricing", "pipelines"):
        logging.getLogger(name).setLevel(level)


def _switch(word: str) -> bool:
    if word.lower() in _TRUE:
        return True
    if word.lower() in _FALSE:
        return False
    raise argparse.ArgumentTypeError(f"expected true or false, found {word!r}")


def _record_failure(reason: str) -> None:
    # Only a job that `mlflow run` started has a run before it has opened one; mlflow's import takes a second.
    if os.environ.get("MLFLOW_RUN_ID"):
        from pipelines.tracking import explain_failure  # noqa: PLC0415

        explain_failure(os.environ["MLFLOW_RUN_ID"], reason)


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
