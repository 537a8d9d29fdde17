"""Train on the newest sales and let the gates decide what is served."""

from collections.abc import Callable
from pathlib import Path

import click

from pipelines.steps.change import REFUSED_BY, needs_person
from pipelines.steps.commands import DECIDED, child_tags, only_one, run_job
from pipelines.steps.verdict import conclude
from pricing.config import load_config
from pricing.data.etl_output import read_partitions
from pricing.errors import EXIT_REFUSED
from pricing.paths import pricing_home
from pricing.runtime.cli import job, option_words, typed
from pricing.runtime.mlflow_runs import tracked_run


@job("retrain", sales="needed", unattended=True)
@click.option("--reason", default="asked for by a person", metavar="WORDS", help="why, for the record")
def main(
    *, sales: str, quarantine: Path | None, config: str | None, reason: str, start: Callable[..., int] = run_job
) -> int:
    """Trains on the newest sales and lets the gates decide what is served; exits with 3 where a person must look."""
    settings = load_config(config)
    home = pricing_home().resolve()
    with (
        only_one("retrain", home=home, model=settings.registry.model_name) as held,
        tracked_run("retrain", config=settings, reason=reason) as run,
    ):
        given = option_words(config=config, sales=sales, quarantine=quarantine)
        if read_partitions(sales) is None:  # else each partition is checked where it is read
            panel = home / "retrain" / "panel"
            start("etl", [*given, *option_words(output=panel)], run=run, keep=held)
            given = option_words(config=config, sales=panel)
        start("train", [*given, *option_words(reason=reason)], run=run, keep=held)
        if not settings.registry.auto_promote:
            by_hand = f"`{typed('promote')}` puts it to the gates"
            return conclude(f"left to a person: registry.auto_promote is off; {by_hand}")

        words = [*given, *option_words(version=child_tags(run, "train")["version"], reason=reason)]
        code = start("promote", words, run=run, fine=DECIDED, keep=held)
        decided = child_tags(run, "promote")
        if code == EXIT_REFUSED and needs_person(decided):
            return conclude(f"kept the champion: refused by {decided[REFUSED_BY]}; a person must look", code=code)
        if code == EXIT_REFUSED:
            return conclude("kept the champion: a gate refused the new version")
        return conclude("promoted, not published" if code else "promoted", code=code)
