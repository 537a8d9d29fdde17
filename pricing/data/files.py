"""Open local and S3 file systems, and tell by its first bytes what a file holds."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs

from pricing.errors import SourceError, first_line

_HEAD = 1 << 16  # bytes that tell what a file is
_MAGIC = ((b"PAR1", "Parquet"), (b"\x1f\x8b", "gzip"), (b"PK\x03\x04", "ZIP or Excel"), (b"<", "HTML or XML"))


def open_filesystem(where: str) -> tuple[Any, str]:
    """The file system that a path or an s3:// address lies in, and the path there; S3's settings are the AWS_ ones.

    Raises SourceError where the store cannot be reached.
    """
    if not where.startswith("s3://"):
        return pa.fs.LocalFileSystem(), str(Path(where).expanduser().absolute())
    path = where.removeprefix("s3://").rstrip("/")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
    scheme, _, host = endpoint.rpartition("://")
    try:
        if not region:
            region = "us-east-1" if host else pa.fs.resolve_s3_region(path.split("/")[0])
        store = pa.fs.S3FileSystem(endpoint_override=host or None, scheme=scheme or "https", region=region)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{where}: cannot be reached: {first_line(error)}") from error
    return store, path


def foreign_content(store: Any, path: str) -> str | None:
    """Name what a file, perhaps packed, holds instead of CSV; None when nothing speaks against CSV."""
    with store.open_input_stream(path, compression="gzip" if path.endswith(".gz") else None) as stream:
        head = stream.read(_HEAD)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    found = next((name for magic, name in _MAGIC if start.startswith(magic)), None)
    return found or ("binary data" if b"\x00" in head else None)
