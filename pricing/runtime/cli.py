"""The command line that all programs share: jobs as click commands, one message for a known error, exit codes, signals.

`mlflow run` passes every declared parameter, an absent one as an empty string, which counts as not given.
"""

import logging
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import click
from click.core import ParameterSource

from pricing.errors import (
    EXIT_BUG,
    EXIT_INTERRUPTED,
    EXIT_KNOWN_ERROR,
    EXIT_TERMINATED,
    NO_SALES,
    PricingError,
    Terminated,
)
from pricing.fileio import redact_text, redact_url
from pricing.paths import PARENT_VARIABLE, pricing_home
from pricing.runtime.invocation import RUNNING, Invocation

_log = logging.getLogger(__name__)

CONFIG_VARIABLE = "PRICING_CONFIG"
DAY = click.DateTime(["%Y-%m-%d"])
FILE = click.Path(path_type=Path)
POSITIVE = click.FloatRange(min=0, min_open=True)
_WITHOUT_SALES = ("price", "promote", "history", "publish", "doctor", "serve")  # commands that need no sales
SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True}


class Job(click.Command):
    """A click command that is also the `main` of its module: called with words, it returns the exit code."""

    unattended = False

    def __call__(self, argv: Sequence[str] | None = None, **instead: object) -> int:
        """Runs the job by itself, as `run` does; `instead` are further arguments of its function."""
        return run(self, argv, instead=instead)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the options that have a value."""
        return super().parse_args(ctx, _given(args))

    def invoke(self, ctx: click.Context) -> int:
        """Runs the job and returns its exit code."""
        config = ctx.params.get("config")
        invocation = RUNNING.get()
        if invocation is not None:
            invocation.job = str(self.name)
            invocation.config = config
            invocation.unattended |= self.unattended
        if ctx.get_parameter_source("config") is ParameterSource.ENVIRONMENT:
            _log.info("configuration: %s, which %s names", config, CONFIG_VARIABLE)
        if self.callback is None:
            raise TypeError(f"{self.name} is a job without a function")
        return int(ctx.invoke(self.callback, **ctx.params, **(ctx.obj or {})))


class JobGroup(click.Group):
    """Jobs below one name, such as `pricing experiment list`; called as a `Job` is."""

    def __call__(self, argv: Sequence[str] | None = None, **instead: object) -> int:
        """Runs the job that the first word names."""
        return run(self, argv, instead=instead)


def _given(words: Sequence[str]) -> list[str]:
    """Leaves out options whose value is empty; words after `--` stay as they are."""
    end = words.index("--") if "--" in words else len(words)
    kept = list[str]()
    for word, following in zip_longest(words[:end], words[1:end]):
        valueless = word.startswith("--") and (following == "" or word.endswith("="))
        if word and not valueless:
            kept.append(word)
    return [*kept, *words[end:]]


def job(
    name: str, *, sales: Literal["needed", "optional"] | None = None, config: bool = True, unattended: bool = False
) -> Callable[[Callable[..., int]], Job]:
    """Makes a job of a function that takes the options by name and returns the exit code.

    Args:
        name: As in `pricing JOB`.
        sales: Whether it reads sales, and so takes --sales and --quarantine; one that needs them invents none.
        config: Whether it takes --config.
        unattended: Whether a schedule may run it: then errors, and what it noticed, go out as alerts.
    """

    def decorate(function: Callable[..., int]) -> Job:
        if sales is not None:
            function = _QUARANTINE(_sales(needed=sales == "needed")(function))
        if config:
            function = _CONFIG(function)
        made = click.command(name, cls=Job, context_settings=SETTINGS)(function)
        made.unattended = unattended
        return made

    return decorate


def flag(*names: str, help: str, is_eager: bool = False) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Adds a switch that may stand alone or take true/false, since `mlflow run` always passes a value."""
    value: dict[str, Any] = {"type": bool, "is_flag": False, "flag_value": True, "default": False}
    return click.option(*names, metavar="true|false", help=help, is_eager=is_eager, **value)


_CONFIG = click.option(
    "--config",
    envvar=CONFIG_VARIABLE,
    show_envvar=True,
    metavar="FILE",
    help="YAML laid over config/default.yaml, or the bare name of a file beside it, such as small",
)
_QUARANTINE = click.option(
    "--quarantine",
    type=FILE,
    metavar="DIR",
    help="write bad rows with their reasons here and go on; absent: bad rows stop the job",
)


def _sales(*, needed: bool) -> Callable[[Callable[..., int]], Callable[..., int]]:
    def check(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
        if needed and value is None:
            raise click.UsageError(NO_SALES)
        return value

    return click.option(
        "--sales",
        callback=check,
        metavar="WHERE",
        help="CSV or Parquet (file or folder), SQLAlchemy URL, s3://, etl (what etl made of the configured tables), "
        "or simulated (the built-in market)",
    )


def command_line(job: str, given: Mapping[str, str], /, **options: str) -> str:
    """Returns the command that starts a job by hand, quoted for a shell, without passwords.

    Of the sales, config and quarantine that this run was `given` it has those that the job takes.
    """
    kept = {key: value for key, value in given.items() if key == "config" or job not in _WITHOUT_SALES}
    return typed(" ".join([job, *map(shlex.quote, map(redact_url, option_words(**kept | options)))]))


def option_words(**options: object) -> list[str]:
    """Returns the command line of options that are not None."""
    return [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]


def typed(words: str) -> str:
    """Returns a command of `pricing` to type here: by its place where it is not on PATH, as in a checkout."""
    beside = Path(sys.executable).with_name("pricing")
    by_name = shutil.which("pricing") or not beside.exists()
    return f"{'pricing' if by_name else os.path.relpath(beside)} {words}"


def next_lines(name: str, *, config: str | None, page: str) -> str:
    """Returns two lines: which job comes next, on which configuration, and which page to look at before."""
    return f"next:    {command_line(name, {'config': config} if config else {})}\nlook at: {page}"


def run(
    command: click.Command, argv: Sequence[str] | None = None, *, instead: Mapping[str, object] | None = None
) -> int:
    """Runs a command, turns errors and signals into exit codes, and returns the exit code.

    A PricingError becomes one message on standard error and exit code 2, and, where `mlflow run` started the job,
    the run's reason for failing. SIGINT gives 130, SIGTERM 143. Anything else is a bug and keeps its traceback. Errors
    and bugs of an unattended job, or of one that a job started, and what it noticed, go out as alerts where
    `monitoring.alerts` names more than the log, but for what a person mistyped; what prevents that is printed on
    standard error and changes no exit code. A reader of the output that leaves, as `| head` does, ends the job with 1.
    `instead`: see `Job`.
    """
    configure_logging()
    os.environ.setdefault("PRICING_HOME", str(pricing_home()))
    started = PARENT_VARIABLE in os.environ  # by a job, which tells nobody what this one does
    invocation = Invocation(config=os.environ.get(CONFIG_VARIABLE), unattended=started)
    token = RUNNING.set(invocation)
    try:
        with _sigterm_raises():
            shown = command.name if command.name == "pricing" else f"pricing {command.name}"
            words = list(sys.argv[1:] if argv is None else argv)
            with command.make_context(shown, words, obj=instead) as context:
                code: int = command.invoke(context)
            sys.stdout.flush()
            if invocation.findings:
                _alert(invocation, status=code)
    except click.exceptions.Exit as ended:
        code = ended.exit_code
    except click.ClickException as error:  # who mistypes a command sees the message
        error.show()
        _record_failure(error.format_message())
        code = error.exit_code
        if started:
            _alert(invocation, error, status=code)
    except PricingError as error:
        print(f"error: {redact_text(str(error))}", file=sys.stderr)
        _record_failure(str(error))
        code = EXIT_KNOWN_ERROR
        _alert(invocation, error, status=code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes when it ends
        code = EXIT_BUG
    except Exception as error:
        _alert(invocation, error, status=EXIT_BUG)
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = EXIT_INTERRUPTED
    except Terminated:
        print("stopped by SIGTERM", file=sys.stderr)
        code = EXIT_TERMINATED
    finally:
        RUNNING.reset(token)
    return code


def configure_logging() -> None:
    """Logs our own packages from INFO (or PRICING_LOG_LEVEL) and all others from WARNING to standard error.

    Start-up messages of TensorFlow, MLflow and Dask are left out, here and in the jobs that this one starts.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # it logs a missing GPU as an error
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "WARNING")
    logging.getLogger("mlflow").setLevel(_level("MLFLOW_LOGGING_LEVEL", "WARNING"))  # it may be imported already
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # warns of each network that is compiled anew
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    level = _level("PRICING_LOG_LEVEL", "INFO")
    for name in ("pricing", "etl", "pipelines", "monitoring", "console"):
        logging.getLogger(name).setLevel(level)


def _level(variable: str, default: str) -> str:
    level = os.environ.get(variable, default).upper()
    return level if level in logging.getLevelNamesMapping() else default


def _alert(invocation: Invocation, error: Exception | None = None, *, status: int) -> None:
    if not invocation.unattended:
        return
    # Only a job that failed or noticed something reads the settings of alerts.
    from pricing.runtime import alerts  # noqa: PLC0415

    if error is None:
        troubles = alerts.report_findings(invocation, status=status)
    else:
        troubles = alerts.report_failure(invocation, error, status=status)
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
