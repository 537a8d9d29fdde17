"""What monitoring knows of the versions that priced: the champion's backtest, and how far each version had seen."""

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pricing.data.anchors import Anchors
from pricing.errors import RegistryError, VersionError
from pricing.registry import CHAMPION
from pricing.registry.mlflow_registry import Registry
from pricing.registry.version import read_anchors, read_backtest

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
            backtest, anchors = read_backtest(version), _anchors(version)
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
