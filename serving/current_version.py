"""The follower's two files for the workers: the pointer to the version to serve, and the follower's status."""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pricing.errors import VersionError
from pricing.fileio import replace_json

FollowerState = Literal["starting", "following", "no_champion", "unreachable", "refused", "failed", "unknown_version"]
BAKED = "baked"
NO_VERSION = "none"  # the name of what answers where no version does
_FORMAT = 1  # of pointers
_FOLDER = re.compile(r"(?P<version>[0-9]{1,20})-(?P<created_ms>[0-9]{1,20})")

_PARTIAL = re.compile(r"\.(?P<folder>[0-9-]+)\.[0-9a-f]{32}\.partial")  # as pricing.registry.mlflow_registry names it


@dataclass(frozen=True)
class Pointer:
    """The version to serve.

    Attributes:
        version: Its number in the registry.
        created_ms: When it was registered, ms since 1970; differs for the same number in a recreated registry.
        folder: Its folder's name, beside the pointer; see `version_folder`.
    """

    version: str
    created_ms: int
    folder: str


@dataclass(frozen=True)
class FollowerStatus:
    """The follower's status.

    Attributes:
        run_id: The run of the service that it belongs to.
        state: The outcome of its last poll.
        attempted: Whether its first attempt to load a champion has ended, in success or failure.
        champion: The version number that the alias names; None where it is not set or not known.
        served: The version number that the pointer names.
        challenger: The version number that an experiment tries beside the champion; None without one.
        detail: The last error, in one line.
        refused: Number → why that version is not served.
        polled_at: When the registry last answered, seconds since 1970.
        pinned: The version number that is served whatever the alias names; None where the alias is followed.
    """

    run_id: str
    state: FollowerState = "starting"
    attempted: bool = False
    champion: str | None = None
    served: str | None = None
    challenger: str | None = None
    detail: str | None = None
    refused: dict[str, str] = field(default_factory=dict)
    polled_at: float | None = None
    pinned: str | None = None


@dataclass(frozen=True)
class FollowerPaths:
    """Paths of the follower's files.

    Attributes:
        home: PRICING_HOME.
        registry: A short name of the registry and model, so that two registries never share a folder.
        status: The follower's status file.
    """

    home: Path
    registry: str
    status: Path

    @property
    def versions(self) -> Path:
        """The folder of all versions downloaded from this registry, and of the pointers."""
        return self.home / "versions" / self.registry

    @property
    def pointer(self) -> Path:
        """The file that names the version to serve."""
        return self.versions / "champion.json"

    @property
    def challenger(self) -> Path:
        """The file that names the version that an experiment tries beside the champion; absent without one."""
        return self.versions / "challenger.json"

    @property
    def baked(self) -> Path:
        """The pointer that an image was built with; used until there is another."""
        return self.home / "versions" / BAKED / "champion.json"


def version_folder(version: str, created_ms: int) -> str:
    """The name of the folder that a version is downloaded into: one path component, of digits and hyphens.

    Args:
        version: Its number in the registry.
        created_ms: When it was registered, ms since 1970.

    Raises:
        VersionError: The registry's number is none, or the time lies before 1970.
    """
    name = f"{version}-{created_ms}"
    if not is_version_folder(name, version=version, created_ms=created_ms):
        raise VersionError(f"version {version[:40]!r} of {created_ms} cannot name a folder; expected two whole numbers")
    return name


def is_version_folder(name: str, *, version: str | None = None, created_ms: int | None = None) -> bool:
    """Whether a name is that of a version's folder: of any version's, or of the one given."""
    found = _FOLDER.fullmatch(name)
    if found is None:
        return False
    return version is None or (found["version"], found["created_ms"]) == (version, str(created_ms))


def is_partial_download(name: str) -> bool:
    """Whether a name is that of a folder into which the registry downloads a version: `.FOLDER.<uuid>.partial`."""
    found = _PARTIAL.fullmatch(name)
    return found is not None and is_version_folder(found["folder"])


def read_pointer(path: Path) -> Pointer | None:
    """Reads a pointer; None when there is none.

    Raises:
        VersionError: The file is no pointer, or one of another format, or what it names is no version's folder.
    """
    try:
        values = json.loads(path.read_bytes())
        if values.get("format") != _FORMAT:
            raise ValueError(f"it is of format {values.get('format')}, expected {_FORMAT}")
        pointer = Pointer(str(values["version"]), int(values["created_ms"]), str(values["folder"]))
        if not is_version_folder(pointer.folder, version=pointer.version, created_ms=pointer.created_ms):
            expected = f"{pointer.version}-{pointer.created_ms}"[:60]
            raise ValueError(f"its folder is {pointer.folder[:60]!r}, expected {expected!r} beside it")
        return pointer
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise VersionError(f"{path}: names no version ({error}); delete it, and the follower writes it anew") from error


def pointed_folder(path: Path, pointer: Pointer) -> Path:
    """The folder of the version that a pointer at `path` names.

    Raises:
        VersionError: There is none of that name beside it, or it is a link.
    """
    folder = path.parent / pointer.folder
    if folder.is_symlink():
        raise VersionError(f"{folder} is a link, and a version's folder is none")
    if not folder.is_dir():
        raise VersionError(f"{folder} is gone")
    return folder


def write_pointer(path: Path, pointer: Pointer) -> None:
    """Switches to another version atomically: readers find the old pointer or the new one."""
    replace_json(path, {"format": _FORMAT, **asdict(pointer)})


def read_follower_status(path: Path) -> FollowerStatus | None:
    """Reads the follower's status; None when the file is missing or unreadable."""
    try:
        values: dict[str, Any] = json.loads(path.read_bytes())
        return FollowerStatus(**values)
    except (OSError, ValueError, TypeError):
        return None
