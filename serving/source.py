"""What the follower needs of a registry, and how it is told to follow it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Entry(Protocol):
    """A version as the registry lists it."""

    @property
    def number(self) -> str:
        """Its number."""
        ...

    @property
    def created_ms(self) -> int:
        """When it was registered."""
        ...


class Registry(Protocol):
    """What the follower needs of a registry; every method may raise RegistryError."""

    def at(self, alias: str) -> Entry | None:
        """The version that bears an alias."""
        ...

    def download(self, reference: str, to: Path) -> Path:
        """Fetches a version's folder into the new folder `to`."""
        ...


@dataclass(frozen=True)
class Orders:
    """How to follow.

    Attributes:
        run_id: The run of the service that the follower belongs to.
        keep: Versions kept on disk.
        tries_challenger: Whether to fetch the challenger too.
    """

    run_id: str
    keep: int
    tries_challenger: bool = False
