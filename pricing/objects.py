"""Keep objects under keys, in a folder or in an S3 store: published versions, decision logs, results of partitions.

Every operation may raise SourceError; `get` gives None where there is no such object, `keys` are in order.

boto3 is loaded only for an s3:// address. Region, credentials and AWS_ENDPOINT_URL are its own usual ones.
"""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pricing.errors import ConfigError, SourceError
from pricing.fileio import replace_atomically

_SCHEME = re.compile(r"[a-z][a-z0-9+]+:/")  # what begins so is meant as an address; a drive's letter is one character
_LARGEST = 2**31  # bytes of an object that is read
_LARGEST_DOCUMENT = 200_000_000  # of one that is JSON, such as a pointer: experiments name their products one by one
_DELETED_AT_ONCE = 1000  # S3's limit


def open_store(where: str) -> "ObjectStore":
    """Opens the store at an address, a folder or s3://bucket/prefix, of which nothing is asked yet.

    Raises:
        ConfigError: It is another kind of address, or names no bucket.
    """
    parts = urlsplit(where)
    is_address = "://" in where or _SCHEME.match(where) is not None
    names_bucket = parts.scheme == "s3" and parts.netloc != ""
    if not where.strip() or (is_address and not names_bucket):
        raise ConfigError(f"{where!r}: expected a folder, or an address such as s3://bucket/prefix")
    return S3Store(parts.netloc, parts.path.strip("/")) if is_address else FolderStore(Path(where))


class FolderStore:
    """Objects as files of a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, key: str, body: bytes) -> None:
        """Writes a file whole: a reader finds all of it or nothing."""
        path = self._root / key
        with _file_errors(path, "written"), replace_atomically(path) as draft:
            draft.write_bytes(body)

    def get(self, key: str) -> bytes | None:
        """Reads a regular file: of a pipe a read would wait for ever."""
        path = self._root / key
        with _file_errors(path, "read"), suppress(FileNotFoundError):
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise SourceError(f"{path}: is no regular file")
            _refuse_large(str(path), status.st_size)
            return path.read_bytes()
        return None

    def keys(self, prefix: str = "") -> list[str]:
        """Lists the files; drafts, whose names begin with a dot, are none."""
        folder = self._root / prefix.rpartition("/")[0]

        def refuse(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise error

        with _file_errors(folder, "listed"):
            walk = list(os.walk(folder, onerror=refuse))
        paths = [Path(below, name) for below, _, names in walk for name in names if not name.startswith(".")]
        keys = [path.relative_to(self._root).as_posix() for path in paths]
        return sorted(key for key in keys if key.startswith(prefix))

    def delete(self, keys: Sequence[str]) -> None:
        """Deletes files, and the folders that are empty then."""
        for key in keys:
            path = self._root / key
            with _file_errors(path, "deleted"):
                path.unlink(missing_ok=True)
            own_folders = len(Path(key).parts) - 1
            with suppress(OSError):  # not empty, or a draft is being written there
                for folder in list(path.parents)[:own_folders]:
                    folder.rmdir()


def _refuse_large(where: str, size: int) -> None:
    most = _LARGEST_DOCUMENT if where.endswith(".json") else _LARGEST
    if size > most:
        raise SourceError(f"{where}: has {size:,} bytes, expected at most {most:,}")


@contextmanager
def _file_errors(path: Path, done: str) -> Iterator[None]:
    """Raises what goes wrong with a file, which was to be `done`, as SourceError."""
    try:
        yield
    except OSError as error:
        raise SourceError(f"{path}: cannot be {done} ({error.strerror})") from error


class S3Store:
    """Objects of an S3 bucket."""

    def __init__(self, bucket: str, prefix: str) -> None:
        try:
            import boto3  # noqa: PLC0415 - see the module
            from botocore.config import Config  # noqa: PLC0415
            from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise ConfigError(f"s3://{bucket}: boto3 is not installed: install the extra shared") from error

        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._errors = (BotoCoreError, ClientError, ValueError)  # the last for an endpoint that is no address
        patience = Config(
            connect_timeout=3,
            read_timeout=10,
            retries={"max_attempts": 2, "mode": "standard"},
            max_pool_connections=16,
        )
        with self._translated_errors(""):
            self._client: Any = boto3.session.Session().client("s3", config=patience)

    def put(self, key: str, body: bytes) -> None:
        """Writes an object."""
        with self._translated_errors(key):
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=body)

    def get(self, key: str) -> bytes | None:
        """Fetches an object."""
        with self._translated_errors(key):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
            except self._client.exceptions.NoSuchKey:
                return None
            _refuse_large(f"s3://{self._bucket}/{self._prefix}{key}", answer["ContentLength"])
            return bytes(answer["Body"].read())

    def keys(self, prefix: str = "") -> list[str]:
        """Lists the objects, a request for a thousand of them."""
        with self._translated_errors(prefix):
            pages = self._client.get_paginator("list_objects_v2")
            asked = pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix)
            found = [entry["Key"] for page in asked for entry in page.get("Contents", ())]
        return sorted(key.removeprefix(self._prefix) for key in found)

    def delete(self, keys: Sequence[str]) -> None:
        """Deletes objects, a thousand a request."""
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            wanted = [{"Key": self._prefix + key} for key in keys[start : start + _DELETED_AT_ONCE]]
            with self._translated_errors(keys[start]):
                asked = {"Objects": wanted, "Quiet": True}
                answer = self._client.delete_objects(Bucket=self._bucket, Delete=asked)
            for fault in answer.get("Errors", ()):
                raise SourceError(f"s3://{self._bucket}/{fault['Key']}: cannot be deleted ({fault.get('Message')})")

    @contextmanager
    def _translated_errors(self, key: str) -> Iterator[None]:
        """Raises what goes wrong with a request as SourceError, which names the object."""
        try:
            yield
        except self._errors as error:
            raise SourceError(f"s3://{self._bucket}/{self._prefix}{key}: {error}") from error


ObjectStore = FolderStore | S3Store
