"""Find the files that a location names, local or on S3, and hold each still while it is read."""

import datetime as dt
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs

from pricing.config_sources import ENVIRONMENT
from pricing.data.files import open_filesystem
from pricing.errors import SourceError, first_line, nearest
from pricing.fileio import redact_url

TEXTS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz")
EXCEL = (".xlsx", ".xlsm")
PARQUET = (".parquet",)
SUFFIXES = (*TEXTS, *EXCEL, *PARQUET)
DATABASES = ("postgresql", "postgres", "mysql", "mariadb", "sqlite")
_PATTERN = re.compile(r"[*?\[]")
_HIDDEN = (".", "_", "~$")  # markers, drafts, and the locks of an open Excel


@dataclass(frozen=True)
class File:
    """One file to read.

    Attributes:
        shown: Its path or s3:// address.
        path: Its path in the file system.
        folders: Names of the folders between the location and the file.
        size: Bytes.
        modified: When it was changed last, UTC; None where the store does not say.
    """

    shown: str
    path: str
    folders: tuple[str, ...]
    size: int
    modified: dt.datetime | None


@dataclass(frozen=True)
class Held:
    """A file that is read.

    Attributes:
        path: On this machine.
        sha256: Of its bytes.
        etag: As S3 gives it; "" for a local file.
    """

    path: Path
    sha256: str
    etag: str


def expand(location: str, *, name: str, environment: Mapping[str, str]) -> str:
    """Puts variables into a location; in the user or password of a URL they are escaped.

    Args:
        location: As configured, with `${NAME}`.
        name: The source, for messages.
        environment: The variables.

    Raises:
        SourceError: A variable is not set, or stands in a query, where its value could be more than a value.
    """
    address, mark, query = location.partition("#")
    behind = ENVIRONMENT.search(query) if mark and "://" in address else None
    if behind:
        raise SourceError(f"{name}: {behind[0]} stands behind #; variables are for the address alone")
    text, mark, query = (address, mark, query) if "://" in address or address.startswith("${") else (location, "", "")
    scheme, separator, rest = text.partition("://")
    login = rest.rpartition("@")[0] if separator else ""

    def value(found: re.Match[str]) -> str:
        variable = found[1]
        if not environment.get(variable):
            raise SourceError(
                f"{name}: the environment variable {variable}, which its location names, is not set; set it, or write "
                "the location without it"
            )
        return environment[variable]

    if login:
        hidden = ENVIRONMENT.sub(lambda found: quote(value(found), safe=""), login)
        text = f"{scheme}://{hidden}@{ENVIRONMENT.sub(value, rest[len(login) + 1 :])}"
    else:
        text = ENVIRONMENT.sub(value, text)
    return f"{text}{mark}{query}"


def is_database(location: str, *, name: str) -> bool:
    """Whether a location is a database's; otherwise it is one of files.

    Raises:
        SourceError: It is the address of something else.
    """
    scheme, separator, _ = location.partition("://")
    if not separator or scheme == "s3":
        if location.lower().startswith(("file:", "http:", "https:")) or "\x00" in location:
            raise SourceError(f"{name}: {location!r} is no path; write a path, s3://bucket/path or a database URL")
        return False
    if scheme.partition("+")[0].lower() not in DATABASES:
        near = nearest(scheme, [*DATABASES, "s3"])
        raise SourceError(
            f"{name}: {redact_url(location)}: {scheme}:// is not read here"
            + (f"; did you mean {near}://?" if near else "; expected a path, s3:// or the URL of ")
            + ("" if near else "PostgreSQL, MySQL, MariaDB or SQLite")
        )
    return True


def find_files(location: str, *, environment: Mapping[str, str]) -> tuple[Any, list[File]]:
    """The file system and the files of a location, in the order of their paths.

    Args:
        location: A file, a folder (all files below it), or a pattern with `*`, `?`, `[…]` and `**`.
        environment: Where the keys of S3 are looked up.

    Raises:
        SourceError: There is nothing there, or something that is no file of a kind that is read.
    """
    filesystem, path = open_filesystem(location, environment=environment)
    try:
        info = filesystem.get_file_info(path)
        if info.type == pa.fs.FileType.Unknown:  # to read a pipe would wait for a writer, for ever
            raise SourceError(f"{location}: is a pipe, socket or device; expected a file or a folder")
        if info.type == pa.fs.FileType.File:
            return filesystem, [_file(info, location, base=str(PurePosixPath(path).parent))]
        if info.type == pa.fs.FileType.Directory:
            return filesystem, _below(filesystem, path, location)
        if _PATTERN.search(path):
            return filesystem, _matching(filesystem, path, location)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{location}: cannot be read: {first_line(error)}") from error
    raise SourceError(f"{location}: does not exist{_sought(location)}")


def _sought(location: str) -> str:
    """Where a relative path was looked for, as the end of a sentence."""
    return "" if "://" in location or Path(location).is_absolute() else f"; it was looked for in {Path.cwd()}"


@contextmanager
def held(filesystem: Any, file: File) -> Iterator[Held]:
    """Yields the file on this machine, a copy of it where it lies on S3, and sees to it that it stays as it is.

    Raises:
        SourceError: It cannot be read, or it changed meanwhile, as one does that is still being written.
    """
    try:
        if isinstance(filesystem, pa.fs.LocalFileSystem):
            path = Path(file.path)
            before = path.stat()
            if before.st_size != file.size:
                raise SourceError(_changing(file, before.st_size))
            yield Held(path, _sha256(path), "")
            after = path.stat()
            if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                raise SourceError(_changing(file, after.st_size))
            return
        with tempfile.TemporaryDirectory(prefix="source-") as folder:
            path = Path(folder) / PurePosixPath(file.path).name
            with filesystem.open_input_stream(file.path, compression=None) as stream, path.open("wb") as copy:
                told = {_text(key).lower(): _text(value) for key, value in (stream.metadata() or {}).items()}
                shutil.copyfileobj(stream, copy, 1 << 20)
            if path.stat().st_size != file.size:
                raise SourceError(_changing(file, path.stat().st_size))
            yield Held(path, _sha256(path), told.get("etag", "").strip('"'))
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{file.shown}: cannot be read: {first_line(error)}") from error


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _changing(file: File, size: int) -> str:
    return (
        f"{file.shown}: changed while it was read ({file.size} bytes, then {size}), so it is still being written; "
        "write it under another name and rename it when it is complete"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _below(filesystem: Any, path: str, location: str) -> list[File]:
    found = filesystem.get_file_info(pa.fs.FileSelector(path, recursive=True))
    infos = [info for info in found if info.type != pa.fs.FileType.Directory and not _is_hidden(info.path, path)]
    if not infos:
        raise SourceError(f"{location}: is a folder without files")
    return sorted((_file(info, location, base=path) for info in infos), key=lambda file: file.path)


def _matching(filesystem: Any, path: str, location: str) -> list[File]:
    steps = path.split("/")
    fixed = next(number for number, step in enumerate(steps) if _PATTERN.search(step))
    base = "/".join(steps[:fixed])
    deep = "**" in path or fixed < len(steps) - 1
    wanted = _expression(path)
    selector = pa.fs.FileSelector(base or "/", allow_not_found=True, recursive=deep)
    infos = [
        info
        for info in filesystem.get_file_info(selector)
        if info.type != pa.fs.FileType.Directory and wanted.match(info.path) and not _is_hidden(info.path, base)
    ]
    if not infos:
        raise SourceError(f"{location}: no file matches this pattern{_sought(location)}")
    return sorted((_file(info, location, base=base) for info in infos), key=lambda file: file.path)


def _expression(pattern: str) -> re.Pattern[str]:
    """A shell pattern as a regular expression: `*` and `?` stay within a folder, `**/` is any folders."""
    out, at = "", 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            out, at = out + "(?:[^/]+/)*", at + 3
            continue
        sign = pattern[at]
        end = pattern.find("]", at + 2) if sign == "[" else -1
        if end > 0:
            body = pattern[at + 1 : end].replace("\\", "\\\\").replace("/", "")
            out += f"[{'^' + body[1:] if body.startswith('!') else body}]"
            at = end + 1
            continue
        out += {"*": "[^/]*", "?": "[^/]"}.get(sign, re.escape(sign))
        at += 1
    return re.compile(out + r"\Z")


def _is_hidden(path: str, base: str) -> bool:
    return any(step.startswith(_HIDDEN) for step in path.removeprefix(base).split("/"))


def _file(info: Any, location: str, *, base: str) -> File:
    path = info.path
    if info.type != pa.fs.FileType.File:
        raise SourceError(f"{path}: is a pipe, socket or device; expected files")
    shown = f"s3://{path}" if location.startswith("s3://") else path
    if not path.lower().endswith(SUFFIXES):
        raise SourceError(
            f"{shown}: expected a file that ends in {', '.join(SUFFIXES)}"
            + ("; save it as .xlsx" if path.lower().endswith(".xls") else "")
            + ("" if shown == location else f"; write a pattern, such as {location.rstrip('/')}/*.csv, to choose files")
        )
    folders = tuple(step for step in os.path.dirname(path).removeprefix(base).split("/") if step)  # noqa: PTH120
    return File(shown, path, folders, info.size, info.mtime)
