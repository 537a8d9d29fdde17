"""Open local and S3 file systems, and tell by its first bytes what a file holds."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs

from pricing.errors import SourceError, first_line

HEAD = 1 << 16  # bytes that tell what a file is
_MAGIC = (
    (b"PAR1", "Parquet"),
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "ZIP or Excel"),
    (b"\xd0\xcf\x11\xe0", "old Excel"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"%PDF", "PDF"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
    (b"{", "JSON"),
    (b"[", "JSON"),
    (b"<", "HTML or XML"),
)


def open_filesystem(where: str, *, environment: Mapping[str, str] | None = None) -> tuple[Any, str]:
    """The file system that a path or an s3:// address lies in, and the path there.

    Args:
        where: A path or an `s3://` address.
        environment: Where endpoint, region and keys are looked up by their usual AWS_ names; None: the process's own.

    Raises:
        SourceError: The store cannot be reached.
    """
    if not where.startswith("s3://"):
        return pa.fs.LocalFileSystem(), str(Path(where).expanduser().absolute())
    found = os.environ if environment is None else environment
    path = where.removeprefix("s3://").rstrip("/")
    endpoint = found.get("AWS_ENDPOINT_URL_S3") or found.get("AWS_ENDPOINT_URL") or ""
    region = found.get("AWS_REGION") or found.get("AWS_DEFAULT_REGION") or ""
    scheme, _, host = endpoint.rpartition("://")
    keys = {}
    if environment is not None and found.get("AWS_ACCESS_KEY_ID"):
        keys = {"access_key": found["AWS_ACCESS_KEY_ID"], "secret_key": found.get("AWS_SECRET_ACCESS_KEY", "")}
        keys |= {"session_token": found["AWS_SESSION_TOKEN"]} if found.get("AWS_SESSION_TOKEN") else {}
    try:
        if not region:
            region = "us-east-1" if host else pa.fs.resolve_s3_region(path.split("/")[0])
        store = pa.fs.S3FileSystem(endpoint_override=host or None, scheme=scheme or "https", region=region, **keys)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{where}: cannot be reached: {first_line(error)}") from error
    return store, path


def what_is(head: bytes) -> str | None:
    """What a file holds that should be CSV; None when nothing speaks against it."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for magic, name in _MAGIC:
        if head.startswith(magic) or start.startswith(magic):
            return name
    return "binary data" if b"\x00" in head else None
