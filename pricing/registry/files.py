"""A version's files: plain arrays and JSON under checksums, written whole or not at all. Never code, never pickle."""

import datetime as dt
import hashlib
import json
import math
import os
import re
import shutil
import tokenize
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricing.errors import VersionError

HEADER = "version.json"
LEARNT = ("refresh", "learner")  # parts that carry a version forward, and no price needs
_PATH = r"[A-Za-z0-9_][A-Za-z0-9_-]*(/[A-Za-z0-9_][A-Za-z0-9_-]*)*"
_FILE = re.compile(rf"({_PATH}\.npy|[a-z_]+\.json)")
_PLAIN_KINDS = frozenset("biufUSMm")

# The most that a version may ask of whoever reads it. One of 10,000 products has about 130 files, 30 MB in all, 20 kB
# of JSON in one file and 6 levels in it: these leave room for a hundred times as much, but none that fills a machine.
MOST_FILES = 1_000
MOST_BYTES = 4_000_000_000  # of all its files
MOST_JSON_BYTES = 20_000_000  # of one document
MOST_LEVELS = 50  # of lists and objects inside one another
# NumPy begins every array that a version may hold with this. It excludes archives and pickles, which `np.load` would
# open too, and headers of more than 64 kB.
_MAGIC = b"\x93NUMPY\x01\x00"


@dataclass(frozen=True)
class Files:
    """The contents of a version's folder.

    Attributes:
        documents: Name without its suffix → the JSON beside the header.
        arrays: Path without its suffix → array, mapped read-only from disk.
    """

    documents: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


def write(
    folder: Path,
    *,
    header: Mapping[str, Any],
    documents: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
) -> dict[str, Any]:
    """Writes a version's folder, which must not exist or be empty, and returns the header as it was written.

    The same input gives the same bytes. The folder appears under its name only when it is complete.

    Raises:
        VersionError: An array of Python objects, or a folder in the way.
    """
    with appearing(folder) as partial:
        for name, array in arrays.items():
            _accept_dtype(np.asarray(array).dtype, where=f"array {name!r}")
            path = partial / f"{name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, array, allow_pickle=False)
        for name, document in documents.items():
            (partial / f"{name}.json").write_bytes(_json_bytes(document))
        written = sorted(path for path in partial.rglob("*") if path.is_file())
        listed = {path.relative_to(partial).as_posix(): _sha256(path) for path in written}
        complete: dict[str, Any] = plain({**header, "files": listed})
        complete["checksum"] = digest(complete)
        (partial / HEADER).write_bytes(_json_bytes(complete))
    return complete


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """Yields an empty folder that becomes the new folder `folder` when the block ends, and is deleted where it raises.

    Raises:
        VersionError: Something is in the way.
    """
    partial = folder.parent / f".{folder.name}.{uuid.uuid4().hex}.partial"
    partial.mkdir(parents=True)
    try:
        yield partial
        try:
            os.replace(partial, folder)  # noqa: PTH105 - fails on a folder that is not empty, which is wanted
        except OSError as error:
            raise VersionError(
                f"{folder}: cannot become a version's folder ({error.strerror}); give a path that does not exist yet"
            ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read(folder: Path, *, parts: Sequence[str]) -> Files:
    """Reads a version's folder and compares its files with their checksums; arrays are mapped, not copied.

    Args:
        folder: Where `version.json` lies.
        parts: Folders and files beside the header to read, without suffix. The others are not opened.

    Raises:
        VersionError: A file is missing, damaged, changed or a link, holds anything but plain arrays and JSON, or they
            are larger than a version's.
    """
    header, root, size = read_header(folder), folder.resolve(), 0
    documents: dict[str, Any] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for name, checksum in sorted(_names(header).items()):
        if _part(name) not in parts:
            continue
        path = folder / name
        if not path.is_file() or path.resolve() != root / name:
            raise VersionError(f"{folder}: {name} is missing, or a link; fetch the version again")
        size += path.stat().st_size
        accept_size(size, where=str(folder))
        if _sha256(path) != checksum:
            raise VersionError(f"{folder}: {name} is damaged (its checksum differs); fetch the version again")
        if path.suffix == ".json":
            documents[path.stem] = _read_json(path)
        else:
            arrays[name.removesuffix(".npy")] = _load(path)
    return Files(documents=documents, arrays=arrays)


def read_header(folder: Path) -> dict[str, Any]:
    """Reads and checks `version.json` alone.

    Raises:
        VersionError: It is missing, unreadable or damaged.
    """
    path = folder / HEADER
    if path.is_symlink() or not path.is_file():
        raise VersionError(f"{folder}: holds no {HEADER}, so it is no model version")
    return accepted_header(_read_json(path), where=str(path))


def accepted_header(header: Any, *, where: str) -> dict[str, Any]:
    """Returns a header that is whole.

    Raises:
        VersionError: It is none, or its checksum is another one.
    """
    if not isinstance(header, dict) or not isinstance(header.get("files"), dict):
        raise VersionError(f"{where}: is not a version's header")
    if header.get("checksum") != digest({key: value for key, value in header.items() if key != "checksum"}):
        raise VersionError(f"{where}: is damaged (its checksum differs); fetch the version again")
    return header


def served(header: Mapping[str, Any]) -> list[str]:
    """The files that a price needs, in order: all but those that carry the version forward.

    Raises:
        VersionError: A name is no version's file.
    """
    return [name for name in sorted(_names(header)) if _part(name) not in LEARNT]


def accept_size(size: int, *, where: str) -> None:
    """Refuses a version with more bytes in its files than one has; raises VersionError."""
    if size > MOST_BYTES:
        raise VersionError(f"{where}: has {size:,} bytes or more, and a version has {MOST_BYTES:,} at most")


def digest(value: Any) -> str:
    """The sha256 of a value's canonical JSON, in hexadecimal."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def plain(value: Any) -> Any:
    """The value in JSON's own types: NumPy scalars and dates unwrapped, numbers that are not finite made null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat() if isinstance(value, dt.date) else value


def _names(header: Mapping[str, Any]) -> dict[str, str]:
    """The listed files and their checksums; refuses too many, and a name that could lead out of the folder."""
    listed: dict[str, str] = header["files"]
    if len(listed) > MOST_FILES:
        raise VersionError(f"a version's header lists {len(listed):,} files, and {MOST_FILES:,} is the most")
    strange = next((name for name in sorted(listed) if not _FILE.fullmatch(name)), None)
    if strange is not None:
        raise VersionError(f"a version's header lists {strange!r}, which is no file of a version")
    return listed


def _part(name: str) -> str:
    return name.partition("/")[0].partition(".")[0]


def _load(path: Path) -> NDArray[Any]:
    """Maps an array of plain numbers, strings or dates; opens no archive and no pickle, as `np.load` would."""
    try:
        with path.open("rb") as handle:
            if handle.read(len(_MAGIC)) != _MAGIC:
                raise ValueError("it does not begin as one does")
        with np.errstate(over="raise"):  # of a shape whose size is no number of bytes
            array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (  # EOFError: nothing in it, as a power cut leaves files; the others come from a header made to harm
        *(OSError, ValueError, TypeError, EOFError),
        *(SyntaxError, tokenize.TokenError, RecursionError, MemoryError, ArithmeticError),
    ) as error:
        raise VersionError(f"{path}: is no plain array ({error}); fetch the version again") from error
    _accept_dtype(array.dtype, where=str(path))
    return array


def _accept_dtype(dtype: np.dtype[Any], *, where: str) -> None:
    if dtype.kind not in _PLAIN_KINDS or dtype.names:
        raise VersionError(f"{where}: holds {dtype}, and a version keeps plain numbers, strings and dates only")


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(plain(value), indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n").encode()


def _read_json(path: Path) -> Any:
    try:
        size = path.stat().st_size
        if size > MOST_JSON_BYTES:
            raise ValueError(f"it has {size:,} bytes, and {MOST_JSON_BYTES:,} is the most")
        document = json.loads(path.read_bytes())
        _accept_levels(document, MOST_LEVELS)
    except (OSError, ValueError, RecursionError) as error:
        raise VersionError(f"{path}: cannot be read as JSON ({error}); fetch the version again") from error
    return document


def _accept_levels(value: Any, left: int) -> None:
    if isinstance(value, dict | list):
        if not left:
            raise ValueError(f"lists and objects lie more than {MOST_LEVELS} levels deep in one another")
        for item in value.values() if isinstance(value, dict) else value:
            _accept_levels(item, left - 1)


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
