"""The command `pricing`: starts every program by its module's name, so that no program imports another.

Importing it is cheap: what a job needs is loaded once that job is started, and the one-line descriptions are read from
the sources.
"""

import ast
import importlib.util
import os
import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from pricing import __version__
from pricing.errors import nearest
from pricing.paths import CHECKOUT
from pricing.runtime.cli import EXIT_KNOWN_ERROR

_OURS = ("pricing", "etl", "pipelines", "serving", "monitoring", "console", "simulation")


@dataclass(frozen=True)
class Job:
    """One program that the command starts.

    Attributes:
        module: As in `python -m MODULE`.
        words: Options that stand before the user's own.
        about: One line for the list of jobs; the first line of the module's docstring when None.
    """

    module: str
    words: tuple[str, ...] = ()
    about: str | None = None


BUILD = {
    "etl": Job("pipelines.etl"),
    "train": Job("pipelines.train"),
    "tune": Job("pipelines.tune"),
    "promote": Job("pipelines.promote"),
    "rollback": Job("pipelines.rollback"),
    "anchor": Job("pipelines.anchor"),
    "history": Job("pipelines.history"),
    "publish": Job("pipelines.publish"),
    "refresh": Job("pipelines.refresh"),
    "retrain": Job("pipelines.retrain"),
    "nightly": Job("pipelines.nightly"),
    "experiment": Job("pipelines.experiment"),
    "price": Job("pipelines.price"),
    "market": Job("pipelines.market"),
}
ANSWER = {
    "serve": Job("serving"),
    "freeze": Job(
        "pipelines.freeze",
        ("freeze",),
        "Keeps prices as they are, of everything, a category or a product, till you end it.",
    ),
    "override": Job(
        "pipelines.freeze", ("override",), "Gives a product, a category or everything a price for a while."
    ),
    "unfreeze": Job("pipelines.freeze", ("unfreeze",), "Ends a freeze or an override."),
}
WATCH = {"monitor": Job("monitoring"), "console": Job("console")}
HELP = {"doctor": Job("pricing.runtime.doctor")}
SECTIONS = {
    "Build models (extra training)": BUILD,
    "Answer requests (extra serving)": ANSWER,
    "Watch and decide (extra training)": WATCH,
    "Set up": HELP,
}
JOBS = {name: job for section in SECTIONS.values() for name, job in section.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Starts the job that a command line names; returns the exit code where none was started, else that job's.

    Args:
        argv: The words after `pricing`; sys.argv's when None.
    """
    chosen = read(argv)
    if isinstance(chosen, Chosen):
        # Outside of click, which has exit codes of its own for interrupts.
        return start(chosen.name, JOBS[chosen.name], words=chosen.words)
    return chosen


@dataclass(frozen=True)
class Chosen:
    """A job that a command line names, and its options."""

    name: str
    words: tuple[str, ...]


def read(argv: Sequence[str] | None = None) -> Chosen | int:
    """Reads a command line; where it names no job, says so, or shows what was asked for, and returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["help"]:  # `pricing help JOB` is `pricing JOB --help`
        words = [*words[1:2], "--help"]
    try:
        chosen = _commands.main(words, prog_name="pricing", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return chosen if isinstance(chosen, Chosen) else int(chosen or 0)


def start(name: str, job: Job, *, words: Sequence[str]) -> int:
    """Runs a job in this process as `python -m MODULE WORDS` would; its own SystemExit carries the exit code.

    Args:
        name: What the command calls it.
        job: Its module.
        words: Its options, passed on unchanged.
    """
    if not CHECKOUT:  # a folder with a serving.py or a monitoring/ of its own must not stand before ours in a child
        os.environ.setdefault("PYTHONSAFEPATH", "1")
    sys.argv = [name, *job.words, *words]
    try:
        runpy.run_module(job.module, run_name="__main__", alter_sys=True)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in _OURS:
            raise
        click.echo(
            f"error: {name} needs the package {error.name}, which is not installed: install pricing[{_extra(name)}]",
            err=True,
        )
        return EXIT_KNOWN_ERROR
    return 0


def about(job: Job) -> str:
    """Says in one line what a job does, without importing its module."""
    if job.about is not None:
        return job.about
    spec = importlib.util.find_spec(job.module)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{job.module}.__main__")
    if spec is None or spec.origin is None:
        return ""
    words = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return words.partition("\n")[0]


def _extra(name: str) -> str:
    return "serving" if name in ANSWER else "training"


class _Job(click.Command):
    """A job, which reads its options, --help among them, itself."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.args = list(args)
        return ctx.args

    def invoke(self, ctx: click.Context) -> Chosen:
        return Chosen(str(self.name), tuple(ctx.args))


class _Jobs(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        given = args[0]
        if given not in self.commands and not given.startswith("-"):
            near = nearest(given, self.commands)
            ctx.fail(f"unknown job {given!r}" + (f"; the nearest known one is {near}" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, JOBS))
        for title, jobs in SECTIONS.items():
            with formatter.section(title):
                for name, job in jobs.items():
                    formatter.write(f"  {name:<{width}}  {about(job)}\n")


@click.group(
    cls=_Jobs,
    commands={name: _Job(name) for name in JOBS},
    help="Learns how demand answers to price, and serves prices. `pricing JOB --help` shows a job's own options.",
)
@click.version_option(__version__, message="pricing %(version)s")
def _commands() -> None:
    pass


if __name__ == "__main__":
    sys.exit(main())
