"""What the follower tells the workers: which version to serve, and how following goes. Two small files."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pricing.errors import VersionError
from pricing.fileio import replace_json

State = Literal["starting", "following", "no_champion", "unreachable", "refused", "failed"]
BAKED = "baked"
_FORMAT = 1  # of pointers; those written before they named it are of this one


@dataclass(frozen=True)
class Pointer:
    """The version to serve.

    Attributes:
        version: Its number in the registry.
        created_ms: When it was registered there; tells it from one of the same number in a registry made anew.
        folder: Where its files lie, relative to the pointer's own folder.
    """

    version: str
    created_ms: int
    folder: str


@dataclass(frozen=True)
class Following:
    """How the follower fares.

    Attributes:
        run_id: The run of the service that it belongs to.
        state: Where it stands.
        attempted: Whether its first attempt to load a champion has ended, well or not.
        champion: The number that the alias names in the registry; None when nothing bears it or nobody knows.
        served: The number that the pointer names.
        challenger: The number that is tried beside it; None when none is.
        challenger_faults: Times that the registry did not say which version the challenger is.
        detail: What went wrong last, in one line.
        refused: Number → why that version is not served.
        polled_at: When the registry last answered, seconds since 1970.
    """

    run_id: str
    state: State = "starting"
    attempted: bool = False
    champion: str | None = None
    served: str | None = None
    challenger: str | None = None
    challenger_faults: int = 0
    detail: str | None = None
    refused: dict[str, str] = field(default_factory=dict)
    polled_at: float | None = None


@dataclass(frozen=True)
class Places:
    """Where the follower keeps what it tells and fetches.

    Attributes:
        home: PRICING_HOME.
        registry: A short name of the registry and model, so that two registries never share a number.
        status: The file that says how following goes.
    """

    home: Path
    registry: str
    status: Path

    @property
    def versions(self) -> Path:
        """The folder of everything fetched from this registry, the pointer among it."""
        return self.home / "versions" / self.registry

    @property
    def pointer(self) -> Path:
        """The file that names the version to serve."""
        return self.versions / "champion.json"

    @property
    def challenger(self) -> Path:
        """The file that names the version to try beside the champion; absent when there is none to try."""
        return self.versions / "challenger.json"

    @property
    def baked(self) -> Path:
        """The pointer that an image was built with; serves until there is another."""
        return self.home / "versions" / BAKED / "champion.json"


def read_pointer(path: Path) -> Pointer | None:
    """Reads a pointer; None when there is none.

    Raises:
        VersionError: The file is no pointer, or one of another format.
    """
    try:
        values = json.loads(path.read_bytes())
        if values.get("format", _FORMAT) != _FORMAT:
            raise ValueError(f"it is of format {values['format']}, expected {_FORMAT}")
        return Pointer(str(values["version"]), int(values["created_ms"]), str(values["folder"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise VersionError(f"{path}: names no version ({error}); delete it, and the follower writes it anew") from error


def write_pointer(path: Path, pointer: Pointer) -> None:
    """Switches to another version: readers find the old file or the new one, never a part."""
    replace_json(path, {"format": _FORMAT, **asdict(pointer)})


def read_following(path: Path) -> Following | None:
    """Reads how the follower fares; None when nothing legible is there."""
    try:
        values: dict[str, Any] = json.loads(path.read_bytes())
        return Following(**values)
    except (OSError, ValueError, TypeError):
        return None
