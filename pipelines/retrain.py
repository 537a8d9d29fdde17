"""Retrain on the newest sales: run etl, train and promote under one lock and one MLflow run."""

from collections.abc import Callable
from pathlib import Path

import click
import mlflow
import yaml

from pipelines.change import REFUSED_BY, needs_person
from pipelines.commands import child_tags, only_one, run_job
from pricing.config import load_config
from pricing.data.etl_output import read_partitions
from pricing.errors import EXIT_NOT_PUBLISHED, EXIT_REFUSED
from pricing.paths import pricing_home
from pricing.runtime.cli import job, option_words, typed
from pricing.runtime.mlflow_runs import set_run_description, tracked_run


@job("retrain", sales="needed", unattended=True)
@click.option("--reason", default="asked for by a person", metavar="WORDS", help="why, for the record")
@click.option("--source", metavar="WHERE", help="recorded as where the sales came from; absent: --sales")
def main(
    *,
    sales: str,
    quarantine: Path | None,
    config: str | None,
    reason: str,
    source: str | None,
    start: Callable[..., int] = run_job,
) -> int:
    """Trains on the newest sales and lets the gates decide what is served; exits with 3 where a person must look."""
    settings = load_config(config)
    home, model = pricing_home().resolve(), settings.registry.model_name
    with (
        only_one("retrain", home=home, model=model) as held,
        tracked_run("retrain", config=settings, reason=reason) as run,
    ):
        file, panel = home / "retrain" / "config.yaml", home / "retrain" / "panel"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
        read = option_words(config=file, output=panel, sales=sales, quarantine=quarantine)
        if read_partitions(sales) is None:
            start("etl", read, run=run, keep=held)
            given = option_words(config=file, sales=panel)
        else:  # each partition is checked where it is read
            given = option_words(config=file, sales=sales, quarantine=quarantine)
        words = [*given, *option_words(source=source or sales, reason=reason)]
        start("train", words, run=run, keep=held)
        if not settings.registry.auto_promote:
            return _say(f"left to a person: registry.auto_promote is off; `{typed('promote')}` puts it to the gates")
        words = [*given, *option_words(version=child_tags(run, "train")["version"], reason=reason)]
        code = start("promote", words, run=run, fine=(0, EXIT_REFUSED, EXIT_NOT_PUBLISHED), keep=held)
        decided = child_tags(run, "promote")
        if code == EXIT_REFUSED and needs_person(decided):
            return _say(f"kept the champion: refused by {decided[REFUSED_BY]}; a person must look", code=EXIT_REFUSED)
        if code == EXIT_REFUSED:
            return _say("kept the champion: a gate refused the new version")
        return _say("promoted, not published" if code else "promoted", code=code)


def _say(verdict: str, *, code: int = 0) -> int:
    mlflow.set_tag("verdict", verdict)
    set_run_description(verdict)
    print(verdict)
    return code
