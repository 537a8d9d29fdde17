"""Run the nightly job: read sales, monitor, refresh or retrain, and promote what passes the gates."""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import mlflow
from mlflow.entities import Run

from pipelines.change import REFUSED_BY, needs_person
from pipelines.commands import JobError, child_tags, only_one, run_job
from pipelines.production import production
from pricing.config import Config, load_config
from pricing.data.etl_output import read_partitions
from pricing.data.findings import load_findings, quality_file, tags
from pricing.decision_log.read import archive, holds_decisions
from pricing.errors import EXIT_KNOWN_ERROR, EXIT_NOT_PUBLISHED, EXIT_REFUSED, PricingError, RegistryError, SourceError
from pricing.paths import given_database_url, log_url, pricing_home, tracking_uri
from pricing.registry import CHAMPION
from pricing.registry.mlflow_registry import Registry
from pricing.registry.promotion import delete_outdated
from pricing.runtime.cli import job, option_words
from pricing.runtime.mlflow_runs import runs_of, set_run_description, tracked_run

_DECIDED = (0, EXIT_REFUSED, EXIT_NOT_PUBLISHED)


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
    settings, home = load_config(config), pricing_home().resolve()
    with (
        only_one("nightly", home=home, model=settings.registry.model_name) as held,
        tracked_run("nightly", config=settings, reason=reason) as run,
    ):
        panel, partitioned = home / "panel", read_partitions(sales) is not None
        asked = option_words(sales=sales, quarantine=quarantine)
        given = asked if partitioned else option_words(sales=panel)  # jobs check each partition that they read
        night = _Night(settings, run=run, held=held, common=option_words(config=config), given=given, start=start)
        if not partitioned:
            night.read(panel, *asked)
        verdict, complaint = night.pass_over(source=sales)
        mlflow.set_tag("verdict", verdict)
        set_run_description(verdict)
        print(verdict)
        try:
            code = night.end()
        finally:
            if complaint is not None:
                raise complaint
    return EXIT_REFUSED if night.calls else code


@dataclass
class _Night:
    """The jobs of one night. Idempotent: a second run on the same sales finds nothing to do."""

    config: Config
    run: Run
    held: Sequence[int]  # file descriptors of the lock
    common: list[str]  # options of every job
    given: list[str]  # options that name the sales
    start: Callable[..., int]
    calls: bool = False  # a gate refused what a person must look at

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

    def pass_over(self, *, source: str) -> tuple[str, PricingError | None]:
        """Runs the jobs that are due; returns a summary and the first error of those that cost no prices."""
        if self._champion() is None:
            return self._retrain("there is no champion yet", source=source), None
        complaint: PricingError | None
        there, complaint = self._archive()
        # A log that monitoring remembers, and that is not there any more, has lost decisions.
        if not there and not (pricing_home() / "monitoring").is_dir() and given_database_url() is None:
            return f"no decision in {log_url()}, so nothing to monitor; {self._refresh()}", None
        try:
            self.job("monitor")
        except JobError as error:
            complaint = complaint or error  # what it found before still counts, and the run ends FAILED
        found = child_tags(self.run, "monitor")
        outcome = found.get("outcome")
        parts = ["monitoring asks for a person; see its report"] if outcome == "page" else []
        if outcome == "retrain":
            try:
                parts.append(self._retrain_if_due(found.get("reason") or "monitoring found decay", source=source))
            except JobError as error:
                complaint = complaint or error
        if outcome == "page" and found.get("sales_at_fault"):
            parts.append("the sales may be at fault, so states stay as they are")
        else:
            parts.append(self._refresh())
        try:
            parts += self._delete_versions()
        except RegistryError as error:
            complaint = complaint or error
        return "; ".join(parts), complaint

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

    def _archive(self) -> tuple[bool, SourceError | None]:
        """Archives past days of the log, and deletes old ones; returns if there is one, and why it was not archived."""
        today, days = dt.datetime.now(dt.UTC).date(), self.config.serving.log_days
        try:
            if not holds_decisions(log_url()):
                return False, None
            archive(log_url(), before=today, kept_since=today - dt.timedelta(days=days) if days else None)
        except SourceError as error:
            return True, error
        return True, None

    def _delete_versions(self) -> list[str]:
        """Deletes nightly copies of weights that are older than configured, but what aliases or the record name."""
        days = self.config.registry.keep_days
        if not days:
            return []
        with production(self.config) as access:
            before = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
            gone = delete_outdated(access.registry, access.audit, before=before)
        if not gone:
            return []
        mlflow.set_tag("versions_deleted", ", ".join(gone))
        return [f"{len(gone):,} version(s) older than {days} days are deleted (registry.keep_days)"]

    def _retrain_if_due(self, reason: str, *, source: str) -> str:
        watched = self.config.monitoring
        if watched.trigger != "none":
            return f"monitoring starts the retraining itself (monitoring.trigger: {watched.trigger})"
        since = dt.datetime.now(dt.UTC) - dt.timedelta(days=watched.cooldown)
        finished = "tags.job = 'retrain' and attributes.status = 'FINISHED'"
        recent = f"{finished} and attributes.start_time > {int(since.timestamp() * 1000)}"
        if runs_of(recent, model=self.config.registry.model_name, most=1):
            days = watched.cooldown
            return f"a retraining is due, and the last one is less than {days} days old (monitoring.cooldown)"
        return self._retrain(reason, source=source)

    def _retrain(self, reason: str, *, source: str) -> str:
        said = f"retrained on {source}: {reason}"
        if self.job("retrain", *option_words(source=source, reason=reason), fine=_DECIDED) == EXIT_REFUSED:
            self.calls = True
            return f"{said}; {child_tags(self.run, 'retrain').get('verdict', 'refused')}"
        return f"{said}; the champion is version {self._champion() or 'none'}"

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
        if self.job("promote", *words, fine=_DECIDED) != EXIT_REFUSED:
            return "states are up to date"
        decided = child_tags(self.run, "promote")
        self.calls = self.calls or needs_person(decided)
        by = decided.get(REFUSED_BY)
        return f"a gate refused the refreshed states{f' ({by})' if by else ''}"
