"""Run the nightly job: read sales, monitor, refresh or retrain, and promote what passes the gates."""

import argparse
import datetime as dt
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import mlflow
from mlflow.entities import Run

from pipelines.commands import JobError, child_tags, only_one, run_job
from pipelines.production import REFUSED_BY, needs_person, production
from pricing.config import Config, load_config
from pricing.data.findings import load_findings, quality_file, tags
from pricing.data.panel import is_panel
from pricing.decision_log.read import archive, holds_decisions
from pricing.errors import PricingError, RegistryError, SourceError
from pricing.paths import log_url, pricing_home, tracking_uri
from pricing.registry import CHAMPION
from pricing.registry.mlflow_registry import Registry
from pricing.registry.retention import delete_outdated
from pricing.runtime.cli import EXIT_KNOWN_ERROR, EXIT_NOT_PUBLISHED, EXIT_REFUSED, job_options, run_main
from pricing.runtime.mlflow_runs import runs_of, set_run_description, tracked_run
from pricing.runtime.shared_state import given_database_url

# Exit codes of `python -m monitoring --exit_code true`.
FINE, REFRESH, RETRAIN, PAGE = 0, 10, 11, 12
# The tag `outcome` of its run, set even when an alert or metric could not be delivered afterwards.
OUTCOMES = {"none": FINE, "refresh": REFRESH, "retrain": RETRAIN, "page": PAGE}


def main(argv: Sequence[str] | None = None, *, start: Callable[..., int] = run_job) -> int:
    """Runs the job; returns 0, 3 where a gate refused what a person must look at, 4 where not published.

    `start` runs one of its jobs, called as `run_job` is.
    """
    return run_main(partial(_nightly, start=start), argv, unattended=True)


def _nightly(argv: Sequence[str] | None, *, start: Callable[..., int]) -> int:
    options = _options(argv)
    config = load_config(options.config)
    home = pricing_home().resolve()
    model = config.registry.model_name
    with (
        only_one("nightly", home=home, model=model) as held,
        tracked_run("nightly", config=config, reason=options.reason) as run,
    ):
        panel = home / "panel"
        night = _Night(config, run=run, held=held, common=_given(options, "config"), panel=str(panel), start=start)
        try:
            night.read(panel, *_given(options, "sales", "quarantine"))
        except JobError:
            mlflow.set_tag("verdict", night.watch())
            raise
        verdict, complaint = night.pass_over(source=options.sales)
        mlflow.set_tag("verdict", verdict)
        set_run_description(verdict)
        print(verdict)
        try:
            code = night.publish()
        finally:
            if complaint is not None:
                raise complaint
    return EXIT_REFUSED if night.calls else code


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = job_options("nightly", "Reads new sales, monitors, refreshes or retrains, and lets the gates decide.")
    options.add_argument("--reason", default="nightly", metavar="WORDS", help="why, for the record")
    return options.parse(argv)


def _given(options: argparse.Namespace, *names: str) -> list[str]:
    values = [(name, getattr(options, name)) for name in names]
    return [word for name, value in values if value is not None for word in (f"--{name}", str(value))]


def _may_be_live() -> bool:
    """Tells whether monitoring may remember decisions, so that a log which is not there any more has lost them."""
    return (pricing_home() / "monitoring").is_dir() or given_database_url() is not None


class _Night:
    """The jobs of one night. Idempotent: a second run on the same sales finds nothing to do."""

    def __init__(
        self, config: Config, *, run: Run, held: Sequence[int], common: list[str], panel: str, start: Callable[..., int]
    ) -> None:
        self._config = config
        self._run = run
        self._held = held
        self._common = common
        self._panel = panel
        self._start = start
        self._registry = Registry(config.registry.model_name, uri=tracking_uri())
        self.calls = False  # whether a gate refused what a person must look at

    def job(self, module: str, *words: str, fine: Sequence[int] = (0,), fresh: bool = False) -> int:
        """Runs a job with the shared options, on this night's panel unless `fresh`."""
        options = [*self._common, *([] if fresh else ["--sales", self._panel]), *words]
        return self._start(module, options, run=self._run, fine=fine, keep=self._held)

    def read(self, panel: Path, *words: str) -> None:
        """Reads the sales into the panel.

        Raises:
            JobError: They cannot be read, or are too far from their past; the findings' names are in it and in the
                run's tags, and champion and states stay as they are.
        """
        beside = quality_file(panel)
        beside.unlink(missing_ok=True)
        try:
            self.job("pipelines.etl", "--output", str(panel), *words, fresh=True)
        except JobError as error:
            if not beside.is_file():
                raise
            found = load_findings(beside)
            mlflow.set_tags(tags(found))
            names = ", ".join(dict.fromkeys(one.check for one in found if one.level == "stop"))
            raise JobError(f"the sales stop the night ({names}), and the champion stays as it is: {error}") from error
        if beside.is_file():
            mlflow.set_tags(tags(load_findings(beside)))

    def watch(self) -> str:
        """Archives the decision log and monitors although no sales could be read; returns a summary.

        Monitoring takes the last sales that could be read. Nothing is trained or carried forward on them, and a job
        that fails here too has said so: what stopped the sales is this night's error.
        """
        said = "no sales could be read, so states stay as they are"
        if self._registry.at(CHAMPION) is None:
            return said
        there, trouble = self._archive()
        if not there:
            return said
        said += f"; {trouble}" if trouble else ""
        if not is_panel(self._panel):
            return f"{said}; there are none of an earlier night to monitor with"
        try:
            self._monitor()
        except JobError as error:
            return f"{said}; {error}"
        return f"{said}; monitoring looked at those of {self._panel}, which were read before"

    def pass_over(self, *, source: str) -> tuple[str, PricingError | None]:
        """Runs the jobs that are due; returns a summary and the first error of those that cost no prices."""
        if self._registry.at(CHAMPION) is None:
            return self._retrain("there is no champion yet", source=source), None
        complaint: PricingError | None
        there, complaint = self._archive()
        if not there and not _may_be_live():
            return f"no decision in {log_url()}, so nothing to monitor; {self._refresh()}", None
        try:
            outcome = self._monitor()
        except JobError as error:
            # States are still refreshed, and an outcome recorded before the failure still counts; the run ends FAILED.
            outcome = OUTCOMES.get(self._found().get("outcome", "none"), FINE)
            complaint = complaint or error
        parts = ["monitoring asks for a person; see its report"] if outcome == PAGE else []
        if outcome == RETRAIN:
            parts.append(self._retrain_if_due(source=source))
        if outcome == PAGE and self._found().get("sales_at_fault"):
            parts.append("the sales may be at fault, so states stay as they are")
        else:
            parts.append(self._refresh())
        deleted, trouble = self._delete_versions()
        return "; ".join([*parts, *deleted]), complaint or trouble

    def publish(self) -> int:
        """Publishes the champion, which a job of this night may have failed to do; returns the exit code."""
        if self._registry.at(CHAMPION) is None:
            return 0
        code = self.job("pipelines.publish", fresh=True, fine=(0, EXIT_KNOWN_ERROR))
        return EXIT_NOT_PUBLISHED if code else 0

    def _monitor(self) -> int:
        return self.job("monitoring", "--exit_code", "true", fine=(FINE, REFRESH, RETRAIN, PAGE))

    def _found(self) -> dict[str, str]:
        """Returns the tags of this night's monitoring run."""
        return child_tags(self._run, "monitor")

    def _archive(self) -> tuple[bool, SourceError | None]:
        """Archives past days of the decision log by day, and deletes those older than configured.

        Returns:
            Whether there is a log, as far as is known, and why it could not be archived.
        """
        today, days = dt.datetime.now(dt.UTC).date(), self._config.serving.log_days
        try:
            if not holds_decisions(log_url()):
                return False, None
            archive(log_url(), before=today, kept_since=today - dt.timedelta(days=days) if days else None)
        except SourceError as error:
            return True, error
        return True, None

    def _delete_versions(self) -> tuple[list[str], RegistryError | None]:
        """Deletes nightly copies of weights that are older than configured, but what aliases or the record name."""
        days = self._config.registry.keep_days
        if not days:
            return [], None
        before = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
        try:
            with production(self._config) as access:
                gone = delete_outdated(access.registry, access.audit, before=before)
        except RegistryError as error:
            return [], error
        if not gone:
            return [], None
        mlflow.set_tag("versions_deleted", ", ".join(gone))
        return [f"{len(gone):,} version(s) older than {days} days are deleted (registry.keep_days)"], None

    def _retrain_if_due(self, *, source: str) -> str:
        if self._config.monitoring.trigger != "none":
            return f"monitoring starts the retraining itself (monitoring.trigger: {self._config.monitoring.trigger})"
        days = self._config.monitoring.cooldown
        if self._retrained_within(days):
            return f"a retraining is due, and the last one is less than {days} days old (monitoring.cooldown)"
        return self._retrain(self._found().get("reason") or "monitoring found decay", source=source)

    def _retrain(self, reason: str, *, source: str) -> str:
        given = ["--source", source, "--reason", reason]
        if self.job("pipelines.retrain", *given, fine=(0, EXIT_REFUSED, EXIT_NOT_PUBLISHED)) == EXIT_REFUSED:
            self.calls = True
            return f"retrained on {source}: {reason}; {child_tags(self._run, 'retrain').get('verdict', 'refused')}"
        champion = self._registry.at(CHAMPION)
        return f"retrained on {source}: {reason}; the champion is version {champion.number if champion else 'none'}"

    def _refresh(self) -> str:
        if self._registry.at(CHAMPION) is None:
            return "no champion, so nothing to carry forward"
        self.job("pipelines.refresh")
        return self._take_over(child_tags(self._run, "refresh").get("version"))

    def _take_over(self, number: str | None) -> str:
        """Promotes refreshed states, by number: the alias challenger may be on a version that waits for a person."""
        if number is None:
            return "states were up to date already"
        if not self._config.registry.auto_refresh:
            requested = f"a person promotes them (version={number})"
            return f"states are carried forward; registry.auto_refresh is off, so {requested}"
        words = ["--version", number, "--reason", "nightly refresh"]
        code = self.job("pipelines.promote", *words, fine=(0, EXIT_REFUSED, EXIT_NOT_PUBLISHED))
        if code != EXIT_REFUSED:
            return "states are up to date"
        decided = child_tags(self._run, "promote")
        self.calls = self.calls or needs_person(decided)
        by = decided.get(REFUSED_BY)
        return f"a gate refused the refreshed states{f' ({by})' if by else ''}"

    def _retrained_within(self, days: int) -> bool:
        since = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
        finished = "tags.job = 'retrain' and attributes.status = 'FINISHED'"
        recent = f"{finished} and attributes.start_time > {int(since.timestamp() * 1000)}"
        return bool(runs_of(recent, model=self._config.registry.model_name, most=1))


if __name__ == "__main__":
    sys.exit(main())
