"""What the jobs that change production share: the registry, the record of promotions, anchors, and who acts."""

import datetime as dt
import getpass
import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pricing.config import Config
from pricing.data.anchors import Anchors, inherited
from pricing.errors import RegistryError, VersionError
from pricing.paths import pricing_home, tracking_uri
from pricing.registry import CHAMPION, PREVIOUS
from pricing.registry.audit import Audit
from pricing.registry.mlflow_registry import RegisteredVersion, Registry
from pricing.registry.version import LoadedVersion, load, read_anchors
from pricing.runtime.mlflow_runs import connect

_log = logging.getLogger(__name__)

NOTHING = "nothing to do"  # the verdict of a job that changed nothing


@dataclass(frozen=True)
class Production:
    """The doors that a change of production goes through.

    Attributes:
        registry: The registered model.
        audit: The record of its promotions.
        who: The person or job that acts.
    """

    registry: Registry
    audit: Audit
    who: str

    def fetch(self, number: str, scratch: str | Path) -> LoadedVersion:
        """Downloads a version into the folder `scratch` and loads it.

        Raises:
            RegistryError: The registry lacks it or does not answer.
            VersionError: It is damaged, or belongs to another contract or library.
        """
        folder = Path(scratch) / number / "version"
        return load(self.registry.download(number, folder))

    def anchors_for(self, version: LoadedVersion) -> Anchors:
        """The anchors that a version's states are carried forward with: those in force, else its own.

        Raises:
            RegistryError: See `anchors_in_force`.
        """
        anchors = inherited(anchors_in_force(self.registry), version.demand.product_ids)
        return version.anchors if anchors is None else anchors


@contextmanager
def production(config: Config) -> Iterator[Production]:
    """Opens the registry and the record.

    Raises:
        RegistryError: One of them does not answer.
    """
    registry = Registry(config.registry.model_name, uri=connect())
    audit = Audit(database_url())
    try:
        yield Production(registry, audit, actor())
    finally:
        audit.close()


def anchors_in_force(registry: Registry) -> Anchors | None:
    """The regular prices that production stands on: the champion's, else the previous one's; None before any promotion.

    Where neither can be read, those of the newest version that can be: all inherit the same.

    Raises:
        RegistryError: There has been a champion and no version's anchors can be read, or the registry does not answer.
    """
    leading = [entry for entry in (registry.at(CHAMPION), registry.at(PREVIOUS)) if entry is not None]
    troubles: list[str] = []
    for entry in (*leading, *(reversed(registry.versions()) if leading else ())):
        try:
            anchors = _anchors_of(registry, entry)
        except (RegistryError, VersionError) as error:
            troubles.append(str(error))
            continue
        if troubles:
            _log.warning("the anchors are those of version %s, since %s", entry.number, troubles[0])
        return anchors
    if not leading:
        return None
    raise RegistryError(
        f"list prices cannot be told from the platform's own prices, since no version's anchors can be read "
        f"({troubles[0]}); restore its files, or delete the aliases {CHAMPION} and {PREVIOUS} to begin anew"
    )


def sales_anchors(config: Config) -> Anchors | None:
    """The anchors that a job builds its panel with: those in force in the registry; see `anchors_in_force`."""
    return anchors_in_force(Registry(config.registry.model_name, uri=tracking_uri()))


def _anchors_of(registry: Registry, entry: RegisteredVersion) -> Anchors:
    with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
        return read_anchors(registry.download(entry.number, Path(scratch) / "version"))


def database_url() -> str:
    """Says where promotions are recorded: PRICING_DATABASE_URL, or pricing.db under PRICING_HOME, which is made."""
    given = os.environ.get("PRICING_DATABASE_URL")
    if given:
        return given
    home = pricing_home().resolve()
    home.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{home / 'pricing.db'}"


def actor() -> str:
    """Says who acts: PRICING_ACTOR, or the user of this machine."""
    given = os.environ.get("PRICING_ACTOR")
    if given:
        return given
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have a number and no name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def now() -> str:
    """This moment as the record writes it: UTC, ISO 8601, to the second."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
