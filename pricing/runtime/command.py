"""The command `pricing`, a click group that imports a job once it is started, so that no program imports another."""

import importlib
import os
import sys

import click

from pricing import __version__
from pricing.errors import PricingError
from pricing.paths import CHECKOUT
from pricing.runtime.cli import SETTINGS, JobGroup

_OURS = ("pricing", "etl", "pipelines", "serving", "monitoring", "console", "simulation")
# Job → the module whose `main` it is, and what it does.
BUILD = {
    "etl": ("pipelines.etl", "Reads sales, checks every row, and saves the panel."),
    "partition": ("etl.partition", "Writes sales in partitions, for jobs on more series than fit into memory."),
    "train": ("pipelines.train", "Trains a model on sales and registers it as the challenger."),
    "tune": ("pipelines.tune", "Searches for better settings and proposes the best as challenger."),
    "promote": ("pipelines.promote", "Makes the challenger the champion if it passes every gate."),
    "rollback": ("pipelines.rollback", "Makes an earlier version the champion again."),
    "anchor": ("pipelines.anchor", "Moves regular prices, which the platform's own prices never move."),
    "history": ("pipelines.history", "Shows what was in production when."),
    "publish": ("pipelines.publish", "Publishes what aliases, experiments and switches name."),
    "refresh": ("pipelines.refresh", "Carries a version's states over new days, with the same weights."),
    "retrain": ("pipelines.retrain", "Trains on the newest sales and lets the gates decide."),
    "nightly": ("pipelines.nightly", "Monitors, refreshes or retrains, lets the gates decide, and prices."),
    "experiment": ("pipelines.experiment", "Plans, lists, stops and evaluates experiments."),
    "price": ("pipelines.price", "Prices a file of requests, or every product."),
    "market": ("pipelines.market", "Shows what each pricing policy earns on a simulated market."),
}
ANSWER = {
    "serve": ("serving.__main__", "Serves prices over HTTP."),
    "console": ("console.app", "Shows managers what moves and why, and takes their decisions: web pages."),
    "freeze": ("pipelines.freeze", "Keeps prices as they are, of everything, a category or a product."),
    "override": ("pipelines.override", "Gives a product a price for a while."),
    "unfreeze": ("pipelines.unfreeze", "Ends a freeze or an override."),
}
WATCH = {
    "monitor": ("monitoring.__main__", "Compares decisions with the sales that followed."),
    "decisions": ("pipelines.decisions", "Shows why a product had its price at a moment."),
}
HELP = {
    "demo": ("pricing.runtime.demo", "Opens console and service on a simulated shop that is trained already."),
    "doctor": ("pricing.runtime.doctor", "Says what is missing on this machine, and what to do."),
}
SECTIONS = {
    "Build models (extra training)": BUILD,
    "Answer and decide": ANSWER,
    "Watch (extra training)": WATCH,
    "Begin": HELP,
}
JOBS = {name: job for section in SECTIONS.values() for name, job in section.items()}
# Not in the list: `make demo`, and what `etl` starts to read the shop's tables.
STARTED = {"loop": "pipelines.loop", "rows": "etl.run"}


class _Jobs(JobGroup):
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = JOBS[cmd_name][0] if cmd_name in JOBS else STARTED.get(cmd_name)
        if module is None:
            return None
        try:
            command: click.Command = importlib.import_module(module).main
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] in _OURS:
                raise
            raise PricingError(
                f"{cmd_name} needs the package {error.name}, which is not installed: install the extra training"
            ) from error
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, jobs in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, about) for name, (_, about) in jobs.items()])


@click.group(
    "pricing",
    cls=_Jobs,
    commands={name: click.Command(name) for name in JOBS},  # the names, for the hint where one is mistyped
    no_args_is_help=True,
    context_settings=SETTINGS,
)
@click.version_option(__version__, message="pricing %(version)s")
def main() -> None:
    """Learns how demand answers to price, and serves prices. `pricing JOB --help` shows a job's own options."""
    if not CHECKOUT:  # a folder with a serving.py or a monitoring/ of its own must not stand before ours in a child
        os.environ.setdefault("PYTHONSAFEPATH", "1")


if __name__ == "__main__":
    sys.exit(main())
