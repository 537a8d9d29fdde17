"""Leave the report of a night's sales beside the panel and in the job's run, whichever way the job ends."""

import datetime as dt
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np

from pipelines.reports.etl_figures import Figures, count_figures
from pipelines.reports.etl_page import headline, render
from pipelines.reports.etl_report import EtlReport, make_report, read_report
from pricing.config import Config
from pricing.data.anchors import Anchors
from pricing.data.findings import Finding, QualityError
from pricing.data.judge import stopped_by_contract
from pricing.data.load import LoadedSales
from pricing.data.manifest import Manifest, has_manifest, read_manifest
from pricing.data.panel import Panel
from pricing.errors import SOURCES, ContractError, LockError, PricingError, SourceError
from pricing.fileio import replace_text
from pricing.paths import sources_folder

PAGE, DOCUMENT = "etl_report.html", "etl_report.json"
_log = logging.getLogger(__name__)


@dataclass
class Night:
    """What a job tells the report as it goes on; what it has not got to yet is left out there.

    Attributes:
        sales: Where the sales are read from; a folder with a manifest tells of its sources.
        loaded: The sales, once they are read.
        anchors: The regular prices in force: since then prices may be the platform's own.
        manifest: What this run read of the sources, also where it found nothing new.
    """

    sales: str
    loaded: LoadedSales | None = None
    anchors: Anchors | None = None
    manifest: Manifest | None = None


@contextmanager
def reported(panel: Path, *, sales: str, config: Config) -> Iterator[Night]:
    """Writes the report when a job ends, also where an error that people can mend ends it, and logs it to its run.

    Args:
        panel: Folder of the panel; the page, the document and the stage's findings lie beside it.
        sales: Where the sales are read from.
        config: The job's.

    Raises:
        SourceError: The report cannot be written.
    """
    night = Night(sales)
    try:
        yield night
    except LockError:
        raise  # the run that holds the lock writes the report
    except PricingError as error:
        try:
            _write(panel, night, config, error=error)
        except SourceError as unwritten:
            _log.warning("no report of this night: %s", unwritten)  # the first error stays the one that is told
        raise
    _write(panel, night, config, error=None)


def report_files(panel: str | Path) -> tuple[Path, Path]:
    """The page and the JSON document beside a saved panel's folder."""
    place = Path(panel)
    return place.with_name(f"{place.name}.{PAGE}"), place.with_name(f"{place.name}.{DOCUMENT}")


def _write(panel: Path, night: Night, config: Config, *, error: PricingError | None) -> None:
    page, document = report_files(panel)
    report = make_report(
        _findings(night, error),
        figures=_figures(night, config),
        config=config,
        sales=night.sales,
        now=dt.datetime.now(dt.UTC),
        manifest=night.manifest or _manifest(night.sales),
        former=_former(document),
        error="" if error is None else str(error),
    )
    run = mlflow.active_run()
    told: dict[str, object] = {"run_id": run.info.run_id if run else ""}
    if (loaded := night.loaded) is not None:
        told |= {
            "read_rows": loaded.rows or report.read_rows,
            "set_aside": loaded.set_aside,
            "bad_rows": loaded.bad_rows,
        }
    report = report.model_copy(update=told)
    shown, text = render(report), report.model_dump_json() + "\n"
    try:
        replace_text(page, shown)
        replace_text(document, text)
    except OSError as failed:
        raise SourceError(f"{page}: the report cannot be written ({failed.strerror})") from failed
    mlflow.log_text(shown, PAGE)
    mlflow.log_text(text, DOCUMENT)
    print(f"{headline(report)}: {page}")


def _findings(night: Night, error: PricingError | None) -> Sequence[Finding]:
    """What the checks found, in the error that they raised or in what was loaded."""
    if isinstance(error, QualityError):
        return error.findings
    if isinstance(error, ContractError):
        return stopped_by_contract(error.violations)
    return night.loaded.findings if night.loaded is not None else ()


def _figures(night: Night, config: Config) -> Figures | None:
    if night.loaded is None:
        return None
    return count_figures(night.loaded.panel, config, live_since=_live_since(night.loaded.panel, night.anchors))


def _live_since(panel: Panel, anchors: Anchors | None) -> np.datetime64 | None:
    return anchors.since if anchors is not None and panel.dates[-1] >= anchors.since else None


def _manifest(sales: str) -> Manifest | None:
    folder = sources_folder() if sales == SOURCES else Path(sales)
    if "://" in sales or not has_manifest(folder):
        return None
    try:
        return read_manifest(folder)
    except SourceError as error:
        _log.warning("the report tells of no sources: %s", error)
        return None


def _former(document: Path) -> EtlReport | None:
    if not document.is_file():
        return None
    try:
        return read_report(document)
    except SourceError as error:
        _log.warning("the report has nothing to compare with: %s", error)
        return None
