"""The store that jobs publish to and serving tasks read: a pointer, and verified versions. No MLflow, no database.

Below a store's address lie, for each registered model: `MODEL/champion.json`, the pointer; `MODEL/control.json`, what
people have switched and tried (`pricing.decision.switches`); `MODEL/prices/`, the newest table of `pricing price`;
`MODEL/price_files/`, what the console gave to the shop;
`MODEL/versions/NUMBER-CHECKSUM/`, the files of a version that a price needs. A version's files never change, so that a
pointer, written last, switches everything at once. What reads or writes the store raises SourceError when it does not
answer.
"""

import datetime as dt
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from pricing.errors import SourceError, VersionError
from pricing.objects import ObjectStore
from pricing.paths import pricing_home
from pricing.registry import files

BAKED = "baked"  # the folder under PRICING_HOME that an image was built with: a store of one version
PRICE_FILES = "price_files/"  # of the console: prices that people took or sent to the shop
PRICES_MADE = "%Y%m%dT%H%M%S%fZ.csv.gz"  # the name of a price table, by UTC
_FETCHED_AT_ONCE = 16


def published_url(environment: Mapping[str, str] = os.environ) -> str:
    """Where versions are published: PRICING_PUBLISHED, a folder or an s3:// address, else PRICING_HOME/published."""
    return environment.get("PRICING_PUBLISHED") or str(pricing_home(environment).absolute() / "published")


@dataclass(frozen=True)
class PublishedVersion:
    """A published version: its number, and the checksum of its header, which lists those of its files.

    Both make the name of a folder: pydantic's ValidationError, a ValueError, where they are none.
    """

    number: Annotated[str, Field(pattern=r"^[0-9]{1,20}$")]
    checksum: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @property
    def folder(self) -> str:
        """The name of its folder: one path component of digits, letters and a hyphen."""
        return f"{self.number}-{self.checksum[:16]}"


@dataclass(frozen=True)
class Pointer:
    """The versions in use: the champion, and the one that an experiment tries.

    `sequence` rises with every change; a lower one than was served before is refused.
    """

    model: str
    sequence: Annotated[int, Field(strict=True)]
    champion: PublishedVersion
    challenger: PublishedVersion | None = None
    format: Literal[1] = 1

    @property
    def served(self) -> tuple[PublishedVersion, ...]:
        """The versions that a serving task loads, the champion first."""
        return (self.champion,) if self.challenger is None else (self.champion, self.challenger)

    def to_json(self) -> bytes:
        """The pointer as a document."""
        return _POINTER.dump_json(self, indent=1) + b"\n"


_POINTER = TypeAdapter(Pointer)


def parse_pointer(content: bytes, *, model: str) -> Pointer:
    """Reads a pointer.

    Raises:
        VersionError: It is none, is of another format or model, or what it names is no version.
    """
    try:
        pointer = _POINTER.validate_json(content)
        if pointer.model != model:
            raise ValueError(f"it is of model {pointer.model!r}")
    except ValueError as error:
        why = " ".join(str(error).split())
        raise VersionError(f"champion.json of {model} names no version ({why}); pricing publish writes it") from error
    return pointer


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
    """Puts a price table (CSV, by gzip), then deletes those before it.

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
        SourceError: The store lacks a file.
        VersionError: The header is not the one that the pointer names, or something is in the way.
    """
    if folder.is_dir():
        return

    def fetch(name: str) -> bytes:
        content = store.get(f"{_prefix(model, version)}{name}")
        if content is None:
            raise SourceError(f"{version.folder}/{name}: is not published; pricing publish puts it there")
        return content

    with files.appearing(folder) as partial, ThreadPoolExecutor(_FETCHED_AT_ONCE) as pool:
        header = fetch(files.HEADER)
        names = _served(header, version)
        for name, content in zip((files.HEADER, *names), (header, *pool.map(fetch, names)), strict=True):
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def put_version(store: ObjectStore, version: PublishedVersion, *, model: str, folder: Path) -> None:
    """Puts the files of a version that a price needs, the header last."""
    for name in (*files.served(files.read_header(folder)), files.HEADER):
        store.put(f"{_prefix(model, version)}{name}", (folder / name).read_bytes())


def whole(store: ObjectStore, version: PublishedVersion, *, model: str) -> bool:
    """True where the store lists every file of a version, and has its header."""
    prefix = _prefix(model, version)
    try:
        names = _served(store.get(prefix + files.HEADER) or b"", version)
    except VersionError:
        return False
    return {prefix + name for name in names} <= set(store.keys(prefix))


def _prefix(model: str, version: PublishedVersion) -> str:
    return f"{versions_prefix(model)}{version.folder}/"


def _served(header: bytes, version: PublishedVersion) -> list[str]:
    """The files that a price needs, by the header of the version that a pointer names; VersionError for another one."""
    known = files.parse_header(header, where=version.folder)
    if known["checksum"] != version.checksum:
        raise VersionError(f"version {version.number}: its header has another checksum than the pointer names")
    return files.served(known)
