"""Retrain on the newest sales: run etl, train and promote under one lock and one MLflow run."""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import mlflow
import yaml
from mlflow import MlflowClient

from pipelines.commands import child_tags, only_one, run_job
from pipelines.production import NOTHING_TO_DO, REFUSED_BY, needs_person, production
from pricing.config import Config, load_config
from pricing.data.panel import load_panel
from pricing.paths import pricing_home, tracking_uri
from pricing.registry import CHALLENGER, CHAMPION
from pricing.registry.mlflow_registry import Registry
from pricing.registry.promotion import REJECTED, rejected
from pricing.runtime.alerts import AlertFinding
from pricing.runtime.cli import EXIT_NOT_PUBLISHED, EXIT_REFUSED, job_options, notice, run_main
from pricing.runtime.inputs import fingerprint, flatten
from pricing.runtime.mlflow_runs import set_run_description, tracked_run


def main(
    argv: Sequence[str] | None = None,
    *,
    start: Callable[..., int] = run_job,
    trained: Callable[..., str | None] | None = None,
) -> int:
    """Runs the job; returns the exit code: 0 whether the champion changed or stayed, 3 where a person must look at why.

    `start` runs one of its jobs, called as `run_job` is; `trained` finds what was trained, as `trained_already` does.
    """
    return run_main(partial(_retrain, start=start, trained=trained or trained_already), argv, unattended=True)


def _retrain(argv: Sequence[str] | None, *, start: Callable[..., int], trained: Callable[..., str | None]) -> int:
    options = _options(argv)
    config = load_config(options.config)
    home = pricing_home().resolve()
    model = config.registry.model_name
    with (
        only_one("retrain", home=home, model=model) as held,
        tracked_run("retrain", config=config, reason=options.reason) as run,
    ):
        settings = home / "retrain" / "config.yaml"
        panel = home / "retrain" / "panel"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
        common = ["--config", str(settings)]
        read = [*common, "--output", str(panel), *_given(options, "sales", "quarantine")]
        start("pipelines.etl", read, run=run, keep=held)
        done = trained(config, panel)
        if done is None:
            said = ["--source", options.source or options.sales, "--reason", options.reason]
            start("pipelines.train", [*common, "--sales", str(panel), *said], run=run, keep=held)
            done = child_tags(run, "train")["version"]
        else:
            print(f"version {done} was trained on just these sales with these settings; it is not trained again")
            with production(config) as access:
                rejection = rejected(access.registry, access.audit, access.registry.find(done))
            if rejection is not None:
                notice(AlertFinding(REJECTED, "critical", f"{rejection.words()}; train on other sales"))
                return _say(f"kept the champion: {rejection.words()}; train on other sales", code=EXIT_REFUSED)
            _propose(Registry(model, uri=tracking_uri()), done)
        if not config.registry.auto_promote:
            return _say("left to a person: registry.auto_promote is off; `pricing promote` puts it to the gates")
        words = [*common, "--sales", str(panel), "--version", done, "--reason", options.reason]
        code = start("pipelines.promote", words, run=run, fine=(0, EXIT_REFUSED, EXIT_NOT_PUBLISHED), keep=held)
        decided = child_tags(run, "promote")
        if code == EXIT_REFUSED and needs_person(decided):
            return _say(f"kept the champion: refused by {decided[REFUSED_BY]}; a person must look", code=EXIT_REFUSED)
        if code == EXIT_REFUSED:
            return _say("kept the champion: a gate refused the new version")
        if decided.get("verdict") == NOTHING_TO_DO:
            return _say(f"{NOTHING_TO_DO}: version {done} is the champion already", code=code)
        return _say("promoted, not published" if code else "promoted", code=code)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = job_options("retrain", "Trains on the newest sales and lets the gates decide whether it is served.")
    options.add_argument("--reason", default="asked for by a person", metavar="WORDS", help="why, for the record")
    options.add_argument("--source", metavar="WHERE", help="recorded as where the sales came from; absent: --sales")
    return options.parse(argv)


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
    wanted = {
        name: value
        for name, value in flatten(config.model_dump(mode="json"))
        if name.partition(".")[0] in ("data", "demand", "decision")
    }
    for entry in (registry.at(CHALLENGER), registry.at(CHAMPION), *registry.versions()[-1:]):
        if entry is None or not entry.run_id or entry.tags.get("kind") != "train":
            continue  # a refresh reads the sales without training on them
        run = MlflowClient().get_run(entry.run_id)
        if run.data.tags.get("data_fingerprint") == digest and wanted.items() <= run.data.params.items():
            return entry.number
    return None


def _propose(registry: Registry, number: str) -> None:
    """Sets the alias challenger on a version without one, as the end of its training would have done."""
    if not registry.find(number).aliases:
        registry.set_alias(CHALLENGER, number)


def _given(options: argparse.Namespace, *names: str) -> list[str]:
    values = [(name, getattr(options, name)) for name in names]
    return [word for name, value in values if value is not None for word in (f"--{name}", str(value))]


def _say(verdict: str, *, code: int = 0) -> int:
    mlflow.set_tag("verdict", verdict)
    set_run_description(verdict)
    print(verdict)
    return code


if __name__ == "__main__":
    sys.exit(main())
