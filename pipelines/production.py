"""What promote, rollback, history and refresh share: the registry, the record of promotions, and who acts."""

import datetime as dt
import getpass
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipelines.tracking import connect
from pricing.config import Config
from pricing.places import pricing_home
from pricing.registry.aliases import Registry
from pricing.registry.audit import Audit
from pricing.registry.version import LoadedVersion, load

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
