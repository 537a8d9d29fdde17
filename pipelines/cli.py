"""The command line that all jobs share: strict options, one clear message for a known error, exit codes, logging."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from pricing.errors import PricingError
from pricing.options import Options
from pricing.output import reader_may_leave
from pricing.places import pricing_home

EXIT_KNOWN_ERROR = 2
EXIT_REFUSED = 3  # promote: a gate refused the version
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class Terminated(BaseException):
    """SIGTERM arrived. Not an Exception, so that no handler of ordinary errors swallows it."""


def job_options(job: str, description: str, *, sales: bool = True, needs_sales: bool = True) -> Options:
    """Makes the parser of one job with the options that all jobs share.

    Args:
        job: The module's name, as in `python -m pipelines.JOB`.
        description: What the job does, one sentence.
        sales: Whether the job reads sales, and so takes --sales and --quarantine.
        needs_sales: Whether it cannot do without them.
    """
    options = Options(f"python -m pipelines.{job}", description)
    options.add_argument("--config", default=None, metavar="FILE", help="YAML laid over config/default.yaml")
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
    with _sigterm_raises(), reader_may_leave():
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
    """Sends our own log lines from INFO (or PRICING_LOG_LEVEL) and everyone else's warnings to standard error.

    What TensorFlow and MLflow say of themselves at every start is left out, here and in the jobs that this one starts.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # a missing GPU is an error to it
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    logging.getLogger("mlflow").setLevel(_level("MLFLOW_LOGGING_LEVEL", "WARNING"))  # it may be imported already
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # warns of each network that is compiled anew
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    level = _level("PRICING_LOG_LEVEL", "INFO")
    for name in ("pricing", "pipelines"):
        logging.getLogger(name).setLevel(level)


def _level(variable: str, default: str) -> str:
    level = os.environ.get(variable, default).upper()
    return level if level in logging.getLevelNamesMapping() else default


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
