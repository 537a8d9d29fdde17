"""A version's files: plain arrays and JSON under checksums, written whole or not at all. Never code, never pickle."""

import datetime as dt
import hashlib
import io
import json
import math
import os
import re
import shutil
import tarfile
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
PARTS = "parts"  # the folder of the versions of partitions
LEARNT = ("refresh", "learner", PARTS)  # what carries a version forward, and no price needs
_PATH = r"[A-Za-z0-9_][A-Za-z0-9_-]*(/[A-Za-z0-9_][A-Za-z0-9_-]*)*"
_FILE = re.compile(rf"({_PATH}\.npy|[a-z_]+\.json|{PARTS}/[0-9]{{5}}\.tar)")
_PLAIN_KINDS = frozenset("biufUSMm")


@dataclass(frozen=True)
class Files:
    """The contents of a version's folder, by names and paths without suffix; arrays that were read are mapped."""

    documents: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]
    packed: Sequence[Path] = ()  # the version of each partition, in their order, as `tar` made it


def write(folder: Path, content: Files, *, header: Mapping[str, Any]) -> None:
    """Writes a version's folder, which must not exist or be empty.

    The same input gives the same bytes. The folder appears under its name only when it is complete.

    Raises:
        ValueError: An array of Python objects.
        VersionError: A folder in the way.
    """
    with appearing(folder) as partial:
        for name, array in content.arrays.items():
            path = partial / f"{name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, _plain_array(np.asarray(array)), allow_pickle=False)
        for name, document in content.documents.items():
            (partial / f"{name}.json").write_bytes(_json_bytes(document))
        for number, path in enumerate(content.packed):
            part = partial / part_name(number)
            part.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, part)

        listed = {path.relative_to(partial).as_posix(): checksum_of(path) for path in _files_of(partial)}
        complete: dict[str, Any] = plain({**header, "files": listed})
        complete["checksum"] = digest(complete)
        (partial / HEADER).write_bytes(_json_bytes(complete))


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


def read(folder: Path, *, parts: Sequence[str], mapped: bool = True) -> Files:
    """Reads parts of a version's folder, files and folders without suffix, and compares them with their checksums.

    Arrays that are not `mapped` are copied into memory: each that is keeps a file open.

    Raises:
        VersionError: A file is missing, damaged or changed, or holds anything but plain arrays and JSON.
    """
    documents: dict[str, Any] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for name, expected in sorted(_listed(read_header(folder)).items()):
        if not _belongs(name, parts):
            continue
        path = folder / name
        try:
            if checksum_of(path) != expected:
                raise ValueError("its checksum differs")
            if path.suffix == ".json":
                documents[path.stem] = json.loads(path.read_bytes())
            else:  # unlike `np.load` this opens no archive and no pickle
                array = np.lib.format.open_memmap(path, mode="r")
                arrays[name.removesuffix(".npy")] = _plain_array(array if mapped else np.array(array))
        except (OSError, ValueError, tokenize.TokenError) as error:  # the last of NumPy, by a header that is cut
            raise VersionError(f"{path}: is damaged ({error}); fetch the version again") from error
    return Files(documents=documents, arrays=arrays)


def read_header(folder: Path) -> dict[str, Any]:
    """Reads and checks `version.json` alone.

    Raises:
        VersionError: It is missing, unreadable or damaged.
    """
    path = folder / HEADER
    try:
        return parse_header(path.read_bytes(), where=str(path))
    except OSError as error:
        raise VersionError(f"{folder}: holds no {HEADER}, so it is no model version") from error


def parse_header(content: bytes, *, where: str) -> dict[str, Any]:
    """Reads a header that is whole.

    Raises:
        VersionError: It is none, or its checksum is another one.
    """
    try:
        header: dict[str, Any] = json.loads(content)
        if header["checksum"] != digest({key: value for key, value in header.items() if key != "checksum"}):
            raise ValueError("its checksum differs")
    except (ValueError, KeyError, TypeError) as error:
        raise VersionError(f"{where}: is damaged ({error}); fetch the version again") from error
    return header


def served(header: Mapping[str, Any]) -> list[str]:
    """The files that a price needs, in order: all but those that carry the version forward."""
    return [name for name in sorted(_listed(header)) if not _belongs(name, LEARNT)]


def part_name(number: int) -> str:
    """The name of the file that holds the version of a partition."""
    return f"{PARTS}/{number:05}.tar"


def tar(folder: Path) -> bytes:
    """A version's folder as one file; the same folder gives the same bytes."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for path in _files_of(folder):
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size = path.stat().st_size
            with path.open("rb") as handle:
                archive.addfile(entry, handle)
    return content.getvalue()


def checksum(content: bytes) -> str:
    """The sha256 of a file's content, in hexadecimal, as headers list it."""
    return hashlib.sha256(content).hexdigest()


def checksum_of(path: Path) -> str:
    """The same of a file on the disk, which is not read as a whole."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def untar(content: bytes, folder: Path) -> Path:
    """Unpacks what `tar` made into a new folder, and returns that.

    Raises:
        VersionError: It is damaged, or something is in the way.
    """
    try:
        with appearing(folder) as partial, tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(partial, filter="data")
    except tarfile.TarError as error:
        raise VersionError(f"{folder.name}: is damaged ({error}); fetch the version again") from error
    return folder


def digest(value: Any) -> str:
    """The sha256 of a value's canonical JSON, in hexadecimal."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return checksum(text.encode())


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


def _listed(header: Mapping[str, Any]) -> dict[str, str]:
    """The listed files and their checksums; refuses a name that could lead out of the folder."""
    listed: dict[str, str] = header["files"]
    for name in sorted(listed):
        if not _FILE.fullmatch(name):
            raise VersionError(f"a version's header lists {name!r}, which is no file of a version")
    return listed


def _belongs(name: str, parts: Sequence[str]) -> bool:
    """True where a file is one of these parts, or lies below one."""
    path, _, _ = name.partition(".")
    return f"{path}/".startswith(tuple(f"{part}/" for part in parts))


def _files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _plain_array(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind not in _PLAIN_KINDS:
        raise ValueError(f"it holds {array.dtype}, and a version keeps plain numbers, strings and dates only")
    return array


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(plain(value), indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n").encode()
