"""What a monitoring run writes to MLflow, and reads of other runs there. The only module here that imports mlflow."""

import datetime as dt
import logging
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from monitoring.policy import Past
from pricing.data.anchors import Anchors
from pricing.errors import RegistryError, VersionError
from pricing.paths import PARENT_VARIABLE
from pricing.registry import CHAMPION, files
from pricing.registry.mlflow_registry import Registry
from pricing.registry.version import read_anchors

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Champion:
    """The serving version, as far as it is known.

    Attributes:
        number: Its number in the registry.
        backtest: The figures of its walk-forward backtest; empty when unknown.
        state_date: The last day that its states have seen.
        seen: The same for every version in the registry.
        others: Versions with other weights than the champion's.
        trouble: Why something is missing; empty when nothing is.
        anchors: The regular prices that no price of the platform's own moves; None when unknown.
    """

    number: str
    backtest: Mapping[str, Any] = field(default_factory=dict)
    state_date: np.datetime64 | None = None
    seen: Mapping[str, np.datetime64] = field(default_factory=dict)
    others: frozenset[str] = frozenset()
    trouble: str = ""
    anchors: Anchors | None = None


UNKNOWN = "unknown"
NOBODY = Champion(number="none", trouble="no champion is set in the registry")


def champion_number(model_name: str, *, uri: str) -> str:
    """The champion's number alone, in the words of `Champion.number`."""
    try:
        champion = Registry(model_name, uri=uri).at(CHAMPION)
    except RegistryError:
        return UNKNOWN
    return NOBODY.number if champion is None else champion.number


def find_champion(model_name: str, *, uri: str) -> Champion:
    """Asks the registry for the champion.

    A registry that does not answer or has no champion is told in `trouble`: drift can be judged without one.
    """
    try:
        registry = Registry(model_name, uri=uri)
        champion = registry.at(CHAMPION)
        if champion is None:
            return NOBODY
        versions = registry.versions()
        seen = {
            version.number: np.datetime64(version.tags["state_date"], "D")
            for version in versions
            if version.tags.get("state_date")
        }
        others = frozenset(version.number for version in versions if version.weights != champion.weights)
        with tempfile.TemporaryDirectory(prefix="pricing-monitor-") as folder:
            version = registry.download(champion.number, Path(folder) / "version")
            backtest, anchors = files.read(version, check=False).documents["backtest"], _anchors(version)
        return Champion(champion.number, backtest, seen.get(champion.number), seen, others, anchors=anchors)
    except (RegistryError, VersionError) as error:
        return Champion(number=UNKNOWN, trouble=str(error))


def _anchors(version: Path) -> Anchors | None:
    """The version's anchors; None where it has none to read, since its backtest counts for more here."""
    try:
        return read_anchors(version)
    except VersionError as error:
        _log.warning("list prices are derived without anchors: %s", error)
        return None


def record(*, metrics: Mapping[str, float], tags: Mapping[str, str], folder: Path) -> None:
    """Writes figures, tags and every file of `folder` to the active run; figures that are not finite are left out."""
    mlflow.log_metrics({name: value for name, value in metrics.items() if math.isfinite(value)})
    mlflow.set_tags(dict(tags))
    mlflow.log_artifacts(str(folder))


def retrainings() -> list[tuple[dt.datetime, str]]:
    """The newest retrainings that anybody started, a person or the nightly job too, newest first: start and status.

    Every one is a run beside this one.
    """
    return [(_start(run), run.info.status) for run in _newest("tags.job = 'retrain'")]


def refreshed_by_night() -> dt.datetime | None:
    """When a night last carried states forward because its monitoring run asked for it against decay; None if never.

    The nightly job acts on what the run inside it found, of which monitoring's own memory knows nothing.
    """
    asked = _newest("tags.job = 'monitor' and tags.outcome = 'refresh'")
    nights = [_start(run) for run in asked if MLFLOW_PARENT_RUN_ID in run.data.tags and run.info.status == "FINISHED"]
    return max(nights, default=None)


def _newest(which: str) -> list[Run]:
    active = mlflow.active_run()
    if active is None:
        return []
    order = ["attributes.start_time DESC"]
    return list(MlflowClient().search_runs([active.info.experiment_id], which, order_by=order, max_results=20))


def _start(run: Run) -> dt.datetime:
    return dt.datetime.fromtimestamp(run.info.start_time / 1000, dt.UTC)


def with_recorded(past: Past, runs: Sequence[tuple[dt.datetime, str]], *, refreshed: dt.datetime | None = None) -> Past:
    """Adds what others started: retrainings, as `retrainings` gives them, and a night's refresh against decay.

    A job that monitoring started and that failed before its run was opened is known to its memory alone, one that a
    person started to MLflow alone; one that both know counts once.
    """
    well = [start for start, status in runs if status == "FINISHED"] + [past.retrained]
    latest = max((start for start in well if start is not None), default=None)
    since = [(start, status) for start, status in runs if latest is None or start > latest]
    alone = [
        begin
        for begin, end in past.failures
        if (latest is None or begin > latest) and not any(begin <= start <= end for start, _ in since)
    ]
    failed = sum(status == "FAILED" for _, status in since) + len(alone)
    carried = [start for start in (past.refreshed, refreshed) if start is not None]
    return replace(past, retrained=latest, refreshed=max(carried, default=None), failed=failed)


def within_a_night() -> bool:
    """Whether another job started this run, as the nightly one does, and acts on what it finds."""
    return PARENT_VARIABLE in os.environ
