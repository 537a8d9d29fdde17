"""Run the jobs of a night: read new sales, monitor, refresh or retrain, let the gates decide, price all products."""

import datetime as dt
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import mlflow
from mlflow.entities import Run

from pipelines.steps.change import REFUSED_BY, needs_person
from pipelines.steps.commands import DECIDED, child_tags, only_one, run_job
from pipelines.steps.price_tests import continue_tests
from pipelines.steps.production import production
from pipelines.steps.verdict import conclude
from pricing.config import Config, ConfigFile, read_config_file
from pricing.data.etl_output import read_partitions
from pricing.data.findings import load_findings, quality_file, tags
from pricing.decision_log.read import archive, holds_decisions
from pricing.errors import EXIT_KNOWN_ERROR, EXIT_NOT_PUBLISHED, EXIT_REFUSED, PricingError
from pricing.paths import given_database_url, log_url, pricing_home, tracking_uri
from pricing.registry import CHAMPION
from pricing.registry.mlflow_registry import Registry
from pricing.registry.retention import delete_outdated
from pricing.runtime.cli import job, option_words
from pricing.runtime.mlflow_runs import end_dead_runs, tracked_run

_log = logging.getLogger(__name__)


@job("nightly", sales="needed", unattended=True)
@click.option("--reason", default="nightly", metavar="WORDS", help="why, for the record")
def main(
    *,
    sales: str,
    quarantine: Path | None,
    config: str | None,
    reason: str,
    start: Callable[..., int] = run_job,
) -> int:
    """Reads new sales, monitors, refreshes or retrains, lets the gates decide, and prices every product.

    Exit codes: 3 where a gate refused what a person must look at, 4 where the champion is not published.
    """
    file = read_config_file(config)
    settings = file.config
    home = pricing_home().resolve()
    with (
        only_one("nightly", home=home, model=settings.registry.model_name) as held,
        tracked_run("nightly", config=settings, reason=reason) as run,
    ):
        killed = end_dead_runs()
        if killed:
            mlflow.set_tag("runs_ended", ", ".join(killed))
        panel = home / "panel"
        asked = option_words(sales=sales, quarantine=quarantine)
        partitioned = read_partitions(sales) is not None
        given = asked if partitioned else option_words(sales=panel)  # jobs check each partition that they read
        night = _Night(file, run=run, held=held, common=option_words(config=config), given=given, start=start)
        if not partitioned:
            night.read(panel, *asked)
        conclude(night.pass_over())
        code = night.end()
        if night.complaint is not None:
            raise night.complaint
    return EXIT_REFUSED if night.calls else code


@dataclass
class _Night:
    """The jobs of one night. Idempotent: a second run on the same sales finds nothing to do."""

    file: ConfigFile
    run: Run
    held: Sequence[int]  # file descriptors of the lock
    common: list[str]  # options of every job
    given: list[str]  # options that name the sales
    start: Callable[..., int]
    calls: bool = False  # a gate refused what a person must look at
    complaint: PricingError | None = None  # the first error of what costs no prices; a night that priced ends with it

    @property
    def config(self) -> Config:
        """The configuration, without the versions' own."""
        return self.file.config

    def job(self, name: str, *words: str, fine: Sequence[int] = (0,), fresh: bool = False) -> int:
        """Runs a job with the shared options, on this night's sales unless `fresh`."""
        options = [*self.common, *([] if fresh else self.given), *words]
        return self.start(name, options, run=self.run, fine=fine, keep=self.held)

    def read(self, panel: Path, *words: str) -> None:
        """Reads the sales into the panel, and tags the run with what was found in them; JobError where that stops."""
        beside = quality_file(panel)
        beside.unlink(missing_ok=True)
        try:
            self.job("etl", "--output", str(panel), *words, fresh=True)
        finally:
            if beside.is_file():
                mlflow.set_tags(tags(load_findings(beside)))

    def pass_over(self) -> str:
        """Runs the jobs that are due; returns a summary."""
        if self._champion() is None:
            return self._retrain("there is no champion yet")
        empty = self._tried(self._archive) == "empty"
        # A log that monitoring remembers, and that is not there any more, has lost decisions.
        if empty and not (pricing_home() / "monitoring").is_dir() and given_database_url() is None:
            return f"no decision in {log_url()}, so nothing to monitor; {self._tried(self._refresh)}"
        parts = [*self._follow_monitoring(), self._tried(self._delete_versions)]
        return "; ".join(filter(None, parts))

    def _follow_monitoring(self) -> list[str]:
        """Monitors, retrains where that asks for it, and refreshes where the sales can be trusted."""
        self._tried(lambda: str(self.job("monitor")))  # what it found before it failed still counts
        found = child_tags(self.run, "monitor")
        parts: list[str] = []
        if found.get("outcome") == "retrain":
            reason = found.get("reason") or "monitoring found decay"
            trigger = self.config.monitoring.trigger
            if trigger == "none":  # monitoring has respected the cooldown already
                parts.append(self._tried(lambda: self._retrain(reason)))
            else:
                parts.append(f"monitoring starts the retraining itself (monitoring.trigger: {trigger})")
        if found.get("outcome") == "page":
            parts.append("monitoring asks for a person; see its report")
            if found.get("sales_at_fault"):
                return [*parts, "the sales may be at fault, so states stay as they are"]
        return [*parts, self._tried(self._refresh), self._tried(self._continue_tests)]

    def _tried(self, step: Callable[[], str]) -> str:
        """Does what costs no prices where it fails; returns its summary, empty where it failed."""
        try:
            return step()
        except PricingError as error:
            _log.error("the night goes on without this: %s", error)
            if self.complaint is None or self.complaint.told:  # an alert tells of the one that is kept
                self.complaint = error
            return ""

    def end(self) -> int:
        """Publishes the champion, which a job of this night may have failed to do, and prices all; returns the code."""
        if self._champion() is None:
            return 0
        code = EXIT_NOT_PUBLISHED if self.job("publish", fresh=True, fine=(0, EXIT_KNOWN_ERROR)) else 0
        self.job("price", fresh=True)
        return code

    def _champion(self) -> str | None:
        champion = Registry(self.config.registry.model_name, uri=tracking_uri()).at(CHAMPION)
        return champion.number if champion else None

    def _archive(self) -> str:
        """Archives past days of the log, and deletes old ones; "empty" where there is no log."""
        if not holds_decisions(log_url()):
            return "empty"
        today = dt.datetime.now(dt.UTC).date()
        days = self.config.serving.log_days
        archive(log_url(), before=today, kept_since=today - dt.timedelta(days=days) if days else None)
        return ""

    def _delete_versions(self) -> str:
        """Deletes nightly copies of weights that are older than configured, but what aliases or the record name."""
        days = self.config.registry.keep_days
        if not days:
            return ""
        with production(self.config) as access:
            before = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
            gone = delete_outdated(access.registry, access.audit, before=before)
        if not gone:
            return ""
        mlflow.set_tag("versions_deleted", ", ".join(gone))
        return f"{len(gone):,} version(s) older than {days} days are deleted (registry.keep_days)"

    def _continue_tests(self) -> str:
        return continue_tests(self.file, today=self.config.now().date())

    def _retrain(self, reason: str) -> str:
        summary = f"retrained: {reason}"
        if self.job("retrain", *option_words(reason=reason), fine=DECIDED) == EXIT_REFUSED:
            self.calls = True
            return f"{summary}; {child_tags(self.run, 'retrain').get('verdict', 'refused')}"
        return f"{summary}; the champion is version {self._champion() or 'none'}"

    def _refresh(self) -> str:
        """Carries the champion's states forward and promotes them.

        By number: the alias challenger may be on a version that waits for a person.
        """
        self.job("refresh")
        number = child_tags(self.run, "refresh").get("version")
        if number is None:
            return "states were up to date already"
        if not self.config.registry.auto_refresh:
            return f"registry.auto_refresh is off, so a person promotes the refreshed states (version={number})"
        words = option_words(version=number, reason="nightly refresh")
        if self.job("promote", *words, fine=DECIDED) != EXIT_REFUSED:
            return "states are up to date"
        decided = child_tags(self.run, "promote")
        self.calls = self.calls or needs_person(decided)
        by = decided.get(REFUSED_BY)
        return f"a gate refused the refreshed states{f' ({by})' if by else ''}"
