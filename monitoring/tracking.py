"""Read and write MLflow runs and the registry for monitoring. The only module here that imports mlflow."""

import datetime as dt
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from monitoring.policy import JobHistory
from pricing.data.anchors import Anchors
from pricing.errors import RegistryError, VersionError
from pricing.registry import CHAMPION
from pricing.registry.mlflow_registry import Registry
from pricing.registry.version import load
from pricing.runtime.mlflow_runs import runs_of

UNKNOWN = "unknown"


@dataclass(frozen=True)
class ChampionRecord:
    """The serving version, as far as known."""

    number: str
    backtest: Mapping[str, Any] = field(default_factory=dict)  # figures of its walk-forward backtest
    state_date: np.datetime64 | None = None  # last day of data in its states
    seen: Mapping[str, np.datetime64] = field(default_factory=dict)  # the same for every version in the registry
    others: frozenset[str] = frozenset()  # versions with other weights than the champion's
    trouble: str = ""  # why something is missing
    anchors: Anchors | None = None  # regular prices, unaffected by the platform's own prices


NO_CHAMPION = ChampionRecord(number="none", trouble="no champion is set in the registry")


def find_champion(model_name: str, *, uri: str) -> ChampionRecord:
    """Reads the champion from the registry.

    A registry that is unreachable or has no champion is reported in `trouble`: drift can be judged without one.
    """
    try:
        registry = Registry(model_name, uri=uri)
        champion = registry.at(CHAMPION)
        if champion is None:
            return NO_CHAMPION
        versions = registry.versions()
        dated = {version.number: version.tags["state_date"] for version in versions if "state_date" in version.tags}
        seen = {number: np.datetime64(day, "D") for number, day in dated.items()}
        others = frozenset(version.number for version in versions if version.weights != champion.weights)
        with tempfile.TemporaryDirectory(prefix="pricing-monitor-") as folder:
            version = load(registry.download(champion.number, Path(folder) / "version"))
        return ChampionRecord(
            champion.number, version.backtest, seen.get(champion.number), seen, others, anchors=version.anchors
        )
    except (RegistryError, VersionError) as error:
        return ChampionRecord(number=UNKNOWN, trouble=str(error))


def succession(before: str, after: str) -> str:
    """Returns in words which version serves after a job that has ended, by the champion's numbers before and after."""
    if UNKNOWN in (before, after):
        return "which version serves now is unknown"
    return f"version {after} is the champion now, it was {before}" if after != before else f"the champion stays {after}"


def record(*, metrics: Mapping[str, float], tags: Mapping[str, str], folder: Path) -> None:
    """Logs metrics, tags and every file of `folder` to the active run.

    MLflow groups by what stands before a slash: figures of drift, one of each column, are named `drift/COLUMN`.
    """
    mlflow.log_metrics({re.sub("^(drift_limit|drift)_", r"\1/", name): value for name, value in metrics.items()})
    mlflow.set_tags(dict(tags))
    mlflow.log_artifacts(str(folder))


def retrainings(model_name: str) -> list[tuple[dt.datetime, str]]:
    """Returns start and status of a model's recent retrainings, newest first, whoever started them, and where."""
    return [(_start(run), run.info.status) for run in runs_of("tags.job = 'retrain'", model=model_name)]


def last_nightly_refresh(model_name: str) -> dt.datetime | None:
    """Returns the start of the last monitoring run inside a nightly job whose outcome was a refresh; None if none.

    The nightly job itself acts on such a run, so monitoring's store has no record of the refresh.
    """
    asked = "tags.job = 'monitor' and tags.outcome = 'refresh' and attributes.status = 'FINISHED'"
    nights = [_start(run) for run in runs_of(asked, model=model_name) if MLFLOW_PARENT_RUN_ID in run.data.tags]
    return max(nights, default=None)


def _start(run: Run) -> dt.datetime:
    return dt.datetime.fromtimestamp(run.info.start_time / 1000, dt.UTC)


def with_recorded(
    past: JobHistory, runs: Sequence[tuple[dt.datetime, str]], *, refreshed: dt.datetime | None = None
) -> JobHistory:
    """Adds jobs started elsewhere: retrainings, as from `retrainings`, and a nightly refresh.

    A job of monitoring that failed before opening its run is only in the store, one that a person started only in
    MLflow; a job in both counts once.
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
