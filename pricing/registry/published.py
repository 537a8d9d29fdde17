"""The store that jobs publish to and serving tasks read: a pointer, and verified versions. No MLflow, no database.

Below a store's address lie, for each registered model: `MODEL/champion.json`, the pointer; `MODEL/control.json`, what
persons have switched and tried (`pricing.decision.control`); `MODEL/prices/`, the newest table of `pricing price`;
`MODEL/versions/NUMBER-CHECKSUM/`, the files of a version that a price needs. A version's files never change, so that a
pointer, written last, switches everything at once.
"""

import datetime as dt
import json
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pricing.errors import SourceError, VersionError
from pricing.objects import ObjectStore
from pricing.paths import pricing_home
from pricing.registry import files

BAKED = "baked"  # the folder under PRICING_HOME that an image was built with: a store of one version
FORMAT = 1
MOST_ARMS = 4
PRICES_MADE = "%Y%m%dT%H%M%S%fZ.parquet"  # the name of a price table, by UTC
_NUMBER = re.compile(r"[0-9]{1,20}")
_CHECKSUM = re.compile(r"[0-9a-f]{64}")
_FETCHED_AT_ONCE = 16


def published_url(environment: Mapping[str, str] = os.environ) -> str:
    """Where versions are published: PRICING_PUBLISHED, a folder or an s3:// address, else PRICING_HOME/published."""
    return environment.get("PRICING_PUBLISHED") or str(pricing_home(environment).absolute() / "published")


@dataclass(frozen=True)
class PublishedVersion:
    """A published version: its number, and the checksum of its header, which lists those of its files."""

    number: str
    checksum: str

    def __post_init__(self) -> None:
        """Raises VersionError where one cannot be: both make the name of a folder."""
        if not (_NUMBER.fullmatch(self.number) and _CHECKSUM.fullmatch(self.checksum)):
            raise VersionError(f"version {self.number[:40]!r} of checksum {self.checksum[:70]!r} is none")

    @property
    def folder(self) -> str:
        """The name of its folder: one path component of digits, letters and a hyphen."""
        return f"{self.number}-{self.checksum[:16]}"


@dataclass(frozen=True)
class Pointer:
    """The versions in use: the champion, and those that experiments try (`arms`).

    `sequence` rises with every change; a lower one than was served before is refused.
    """

    model: str
    sequence: int
    champion: PublishedVersion
    arms: tuple[PublishedVersion, ...] = ()

    @property
    def served(self) -> tuple[PublishedVersion, ...]:
        """The versions that a serving task loads, the champion first."""
        return (self.champion, *self.arms)

    def to_json(self) -> bytes:
        """The pointer as a document."""
        document = {
            "format": FORMAT,
            "model": self.model,
            "sequence": self.sequence,
            "champion": vars(self.champion),
            "arms": [vars(arm) for arm in self.arms],
        }
        return (json.dumps(document, indent=1) + "\n").encode()


def parse_pointer(content: bytes, *, model: str) -> Pointer:
    """Reads a pointer.

    Raises:
        VersionError: It is none, is of another format or model, or what it names is no version.
    """
    try:
        document: Any = json.loads(content)
        if document["format"] != FORMAT or document["model"] != model:
            raise ValueError(f"it is of format {document['format']} and model {document['model']!r}")
        arms = document["arms"]
        if type(document["sequence"]) is not int or len(arms) > MOST_ARMS:
            raise ValueError(f"sequence {document['sequence']!r}, {len(arms)} arms")
        return Pointer(
            model=model,
            sequence=document["sequence"],
            champion=_version(document["champion"]),
            arms=tuple(_version(arm) for arm in arms),
        )
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise VersionError(f"champion.json of {model} names no version ({error}); pricing publish writes it") from error


def pointer_key(model: str) -> str:
    """The key of a model's pointer."""
    return f"{model}/champion.json"


def control_key(model: str) -> str:
    """The key of a model's mirror of the control table."""
    return f"{model}/control.json"


def prices_prefix(model: str) -> str:
    """The beginning of the keys of a model's price tables, which end with when they were made: the last counts."""
    return f"{model}/prices/"


def put_prices(store: ObjectStore, table: bytes, *, model: str, at: dt.datetime) -> None:
    """Puts a price table (Parquet), then deletes those before it.

    Raises:
        SourceError: The store does not answer.
    """
    key = f"{prices_prefix(model)}{at.astimezone(dt.UTC):{PRICES_MADE}}"
    store.put(key, table)
    store.delete([other for other in store.keys(prices_prefix(model)) if other < key])


def versions_prefix(model: str) -> str:
    """The beginning of the keys of a model's versions."""
    return f"{model}/versions/"


def fetch_version(store: ObjectStore, version: PublishedVersion, *, model: str, folder: Path) -> None:
    """Fetches a version into a folder, which then holds all of it; one that is there already is left alone.

    The header's checksum is that of the pointer and the header lists those of the files, so `files.read` finds what
    was damaged on its way.

    Raises:
        SourceError: The store does not answer, or lacks a file.
        VersionError: The header is not the one that the pointer names, or something is in the way.
    """
    if folder.is_dir():
        return
    prefix = f"{versions_prefix(model)}{version.folder}/"
    with files.appearing(folder) as partial, ThreadPoolExecutor(_FETCHED_AT_ONCE) as pool:
        (partial / files.HEADER).write_bytes(_get(store, prefix + files.HEADER))
        header = files.read_header(partial)
        if header["checksum"] != version.checksum:
            raise VersionError(f"version {version.number}: its header has another checksum than the pointer names")
        names, size = files.served(header), 0
        for name, content in zip(names, pool.map(lambda name: _get(store, prefix + name), names), strict=True):
            size += len(content)
            files.accept_size(size, where=f"version {version.number}")
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def put_version(store: ObjectStore, version: PublishedVersion, *, model: str, folder: Path) -> None:
    """Puts the files of a version that a price needs, the header last.

    Raises:
        SourceError: The store does not answer.
    """
    prefix = f"{versions_prefix(model)}{version.folder}/"
    for name in (*files.served(files.read_header(folder)), files.HEADER):
        store.put(prefix + name, (folder / name).read_bytes())


def whole(store: ObjectStore, version: PublishedVersion, *, model: str) -> bool:
    """Tells that the store lists every file of a version, and has its header.

    Raises:
        SourceError: The store does not answer.
    """
    prefix = f"{versions_prefix(model)}{version.folder}/"
    try:
        header = files.accepted_header(json.loads(store.get(prefix + files.HEADER) or b""), where=version.folder)
        names = files.served(header)
    except (ValueError, VersionError):
        return False
    return header["checksum"] == version.checksum and {prefix + name for name in names} <= set(store.keys(prefix))


def _version(document: Any) -> PublishedVersion:
    return PublishedVersion(number=str(document["number"]), checksum=str(document["checksum"]))


def _get(store: ObjectStore, key: str) -> bytes:
    content = store.get(key)
    if content is None:
        raise SourceError(f"{key}: is not published; pricing publish puts it there")
    return content
