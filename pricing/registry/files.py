"""A version's files: plain arrays and JSON under checksums, written whole or not at all. Never code, never pickle."""

import datetime as dt
import hashlib
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricing.errors import VersionError

HEADER = "version.json"
_PATH = r"[A-Za-z0-9_][A-Za-z0-9_-]*(/[A-Za-z0-9_][A-Za-z0-9_-]*)*"
_NAME = re.compile(_PATH)
_FILE = re.compile(rf"(arrays/{_PATH}\.npy|[a-z_]+\.json)")
_PLAIN_KINDS = frozenset("biufUSMm")


@dataclass(frozen=True)
class Files:
    """What a version's folder holds.

    Attributes:
        header: `version.json`: what the version is, and the checksum of every other file.
        documents: Name without its suffix → the JSON beside the header.
        arrays: Path under `arrays/` without its suffix → array, mapped read-only from disk.
    """

    header: dict[str, Any]
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
        VersionError: A name that is no file name, an array of Python objects, or a folder in the way.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / f".{folder.name}.{uuid.uuid4().hex}.partial"
    (partial / "arrays").mkdir(parents=True)
    try:
        for name, array in arrays.items():
            path = partial / "arrays" / f"{_checked(name)}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            _save(path, np.asarray(array), name=name)
        for name, document in documents.items():
            (partial / f"{_checked(name)}.json").write_bytes(_json_bytes(document))
        written = sorted(path for path in partial.rglob("*") if path.is_file())
        complete: dict[str, Any] = plain(
            {**header, "files": {path.relative_to(partial).as_posix(): _sha256(path) for path in written}}
        )
        complete["checksum"] = digest(complete)
        (partial / HEADER).write_bytes(_json_bytes(complete))
        try:
            os.replace(partial, folder)  # noqa: PTH105 - fails on a folder that is not empty, which is wanted
        except OSError as error:
            raise VersionError(
                f"{folder}: cannot become a version's folder ({error.strerror}); give a path that does not exist yet"
            ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return complete


def read(folder: Path, *, check: bool = True) -> Files:
    """Reads a version's folder; arrays are mapped, not copied.

    Args:
        folder: Where `version.json` lies.
        check: Compares every file with its checksum. A process that maps a folder which another process
            of the same machine has checked may leave it out.

    Raises:
        VersionError: A file is missing, damaged, changed, or holds anything but plain arrays and JSON.
    """
    header = read_header(folder)
    documents: dict[str, Any] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for name, checksum in sorted(header["files"].items()):
        path = folder / name
        if not _FILE.fullmatch(name):
            raise VersionError(f"{folder}: its header lists {name!r}, which is no file of a version")
        if not path.is_file():
            raise VersionError(f"{folder}: {name} is missing; fetch the version again")
        if check and _sha256(path) != checksum:
            raise VersionError(f"{folder}: {name} is damaged (its checksum differs); fetch the version again")
        if path.suffix == ".json":
            documents[path.stem] = _read_json(path)
        else:
            arrays[name.removeprefix("arrays/").removesuffix(".npy")] = _load(path)
    return Files(header=header, documents=documents, arrays=arrays)


def read_header(folder: Path) -> dict[str, Any]:
    """Reads and checks `version.json` alone.

    Raises:
        VersionError: It is missing, unreadable or damaged.
    """
    path = folder / HEADER
    if not path.is_file():
        raise VersionError(f"{folder}: holds no {HEADER}, so it is no model version")
    header: Any = _read_json(path)
    if not isinstance(header, dict) or not isinstance(header.get("files"), dict):
        raise VersionError(f"{path}: is not a version's header")
    rest = {key: value for key, value in header.items() if key != "checksum"}
    if header.get("checksum") != digest(rest):
        raise VersionError(f"{path}: is damaged (its checksum differs); fetch the version again")
    return header


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


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise VersionError(f"{name!r} cannot name a file; use letters, digits, '_' and '-', and '/' between folders")
    return name


def _save(path: Path, array: NDArray[Any], *, name: str) -> None:
    if array.dtype.kind not in _PLAIN_KINDS or array.dtype.names:
        raise VersionError(f"array {name!r} holds {array.dtype}; a version keeps plain numbers, strings and dates only")
    with path.open("wb") as handle:
        np.lib.format.write_array(handle, array, version=None, allow_pickle=False)


def _load(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:  # EOFError: nothing in it, as a power cut leaves files
        raise VersionError(f"{path}: is no plain array ({error}); fetch the version again") from error
    if array.dtype.kind not in _PLAIN_KINDS or array.dtype.names:
        raise VersionError(f"{path}: holds {array.dtype}, and a version keeps plain numbers, strings and dates only")
    return array


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(plain(value), indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n").encode()


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise VersionError(f"{path}: cannot be read as JSON ({error}); fetch the version again") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
