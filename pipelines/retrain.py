"""Retrain on the newest sales: run etl, train and promote under one lock and one MLflow run."""

from collections.abc import Callable
from pathlib import Path

import click
import mlflow
import yaml
from mlflow import MlflowClient

from pipelines.change import REFUSED_BY, needs_person
from pipelines.commands import child_tags, only_one, run_job
from pipelines.production import NOTHING_TO_DO, production
from pricing.config import Config, load_config
from pricing.data.panel import load_panel
from pricing.paths import pricing_home, tracking_uri
from pricing.registry import CHALLENGER, CHAMPION
from pricing.registry.mlflow_registry import Registry
from pricing.registry.promotion import REJECTED, rejected
from pricing.runtime.alerts import AlertFinding
from pricing.runtime.cli import EXIT_NOT_PUBLISHED, EXIT_REFUSED, job, notice, option_words
from pricing.runtime.inputs import fingerprint, flatten
from pricing.runtime.mlflow_runs import set_run_description, tracked_run


def trained_already(config: Config, panel: Path) -> str | None:
    """Returns the number of a version trained on exactly this panel with these settings, or None.

    So a retraining interrupted after training continues with the gates, and a repeated trigger costs nothing. Checks
    the challenger, the champion, and the newest version (without an alias if training was killed before setting it).

    Args:
        config: The settings.
        panel: Folder of the saved panel.
    """
    registry = Registry(config.registry.model_name, uri=tracking_uri())
    digest = fingerprint(load_panel(panel))
    wanted = dict(flatten(config.model_dump(mode="json", include={"data", "demand", "decision"})))
    for entry in (registry.at(CHALLENGER), registry.at(CHAMPION), *registry.versions()[-1:]):
        if entry is None or not entry.run_id or entry.tags.get("kind") != "train":
            continue  # a refresh reads the sales without training on them
        run = MlflowClient().get_run(entry.run_id)
        if run.data.tags.get("data_fingerprint") == digest and wanted.items() <= run.data.params.items():
            return entry.number
    return None


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
    trained: Callable[..., str | None] = trained_already,
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
        start("etl", read, run=run, keep=held)
        done = trained(settings, panel)
        if done is None:
            words = option_words(config=file, sales=panel, source=source or sales, reason=reason)
            start("train", words, run=run, keep=held)
            done = child_tags(run, "train")["version"]
        else:
            print(f"version {done} was trained on just these sales with these settings; it is not trained again")
            with production(settings) as access:
                found = access.registry.find(done)
                rejection = rejected(access.registry, access.audit, found)
                if rejection is not None:
                    notice(AlertFinding(REJECTED, "critical", f"{rejection.words()}; train on other sales"))
                    return _say(f"kept the champion: {rejection.words()}; train on other sales", code=EXIT_REFUSED)
                if not found.aliases:  # the end of its training would have set it
                    access.registry.set_alias(CHALLENGER, done)
        if not settings.registry.auto_promote:
            return _say("left to a person: registry.auto_promote is off; `pricing promote` puts it to the gates")
        words = option_words(config=file, sales=panel, version=done, reason=reason)
        code = start("promote", words, run=run, fine=(0, EXIT_REFUSED, EXIT_NOT_PUBLISHED), keep=held)
        decided = child_tags(run, "promote")
        if code == EXIT_REFUSED and needs_person(decided):
            return _say(f"kept the champion: refused by {decided[REFUSED_BY]}; a person must look", code=EXIT_REFUSED)
        if code == EXIT_REFUSED:
            return _say("kept the champion: a gate refused the new version")
        if decided.get("verdict") == NOTHING_TO_DO:
            return _say(f"{NOTHING_TO_DO}: version {done} is the champion already", code=code)
        return _say("promoted, not published" if code else "promoted", code=code)


def _say(verdict: str, *, code: int = 0) -> int:
    mlflow.set_tag("verdict", verdict)
    set_run_description(verdict)
    print(verdict)
    return code
