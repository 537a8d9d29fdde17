"""Files that are written whole or not at all, and addresses as they may be opened and shown."""

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HIDDEN = "***"
POSTGRESQL = "postgresql+psycopg2"
_LOGIN = re.compile(r"(?<=://)[^/\s\"']+@")  # the user and password of an address


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Gives a draft beside a file to write, which takes the file's place at the end; where writing fails it is removed.

    A reader finds the old content or the new one, never a part.

    Args:
        path: The file, whose folder is made.
        durable: Whether a machine that loses power finds one of them, too, which waits for the disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.draft")
    try:
        yield draft
        if durable:
            _sync(draft)
        draft.replace(path)
        if durable:
            _sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def replace_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Writes a text file whole or not at all; see `replacing`."""
    with replacing(path, durable=durable) as draft:
        draft.write_text(text, encoding="utf-8")


def replace_json(path: Path, document: Any, *, indent: int | None = None, durable: bool = True) -> None:
    """Writes a JSON document whole or not at all; see `replacing`."""
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    replace_text(path, text + "\n" if indent is not None else text, durable=durable)


def with_driver(url: str) -> str:
    """A database URL whose PostgreSQL driver is the one that is installed; SQLAlchemy 2.1 would take psycopg 3."""
    scheme, separator, rest = url.partition("://")
    return f"{POSTGRESQL}://{rest}" if separator and scheme in ("postgres", "postgresql") else url


def redact_url(where: str) -> str:
    """An address as it may be shown: a password in it is hidden, and a path stays as it is.

    One that cannot be taken apart, such as one whose password has characters that must be escaped, is its scheme alone.
    """
    scheme, separator, rest = where.partition("://")
    if not separator:
        return where
    try:
        parts = urlsplit(where)
        _ = parts.port
    except ValueError:
        return f"{scheme}://…"
    login, at, host = parts.netloc.rpartition("@")
    user, colon, _ = login.partition(":")
    if not at and "@" in rest and ":" in parts.netloc:
        return f"{scheme}://…"
    return where.replace(parts.netloc, f"{user}:{HIDDEN}@{host}", 1) if colon else where


def redact_text(text: str) -> str:
    """A text, such as an error's, in which no address names a user or a password."""
    return _LOGIN.sub(f"{HIDDEN}@", text) if "://" in text else text


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
