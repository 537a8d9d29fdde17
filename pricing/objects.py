"""Keep objects under keys, in a folder or in an S3 store: published versions and decision logs.

Every operation may raise SourceError; `get` gives None where there is no such object, `keys` are in order.

boto3 is loaded only for an s3:// address. Region, credentials and AWS_ENDPOINT_URL are its own usual ones.
"""

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pricing.errors import ConfigError, SourceError
from pricing.fileio import replace_atomically

_SCHEME = re.compile(r"[a-z][a-z0-9+]+:/")  # what begins so is meant as an address; a drive's letter is one character
_DELETED_AT_ONCE = 1000  # S3's limit

Result = TypeVar("Result")


def open_store(where: str) -> "ObjectStore":
    """Opens the store at an address, a folder or s3://bucket/prefix, of which nothing is asked yet.

    Raises:
        ConfigError: It is another kind of address, or names no bucket.
    """
    parts = urlsplit(where)
    far = "://" in where or _SCHEME.match(where) is not None
    if not where.strip() or (far and (parts.scheme != "s3" or not parts.netloc)):
        raise ConfigError(f"{where!r}: expected a folder, or an address such as s3://bucket/prefix")
    return S3Store(parts.netloc, parts.path.strip("/")) if far else FolderStore(Path(where))


class FolderStore:
    """Objects as files of a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, key: str, body: bytes) -> None:
        """Writes a file whole: a reader finds all of it or nothing."""
        try:
            with replace_atomically(self._root / key) as draft:
                draft.write_bytes(body)
        except OSError as error:
            raise SourceError(f"{self._root / key}: cannot be written ({error.strerror})") from error

    def get(self, key: str) -> bytes | None:
        """Reads a file."""
        try:
            return (self._root / key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SourceError(f"{self._root / key}: cannot be read ({error.strerror})") from error

    def keys(self, prefix: str = "") -> list[str]:
        """Lists the files; drafts, whose names begin with a dot, are none."""
        start = self._root / prefix.rpartition("/")[0]

        def refuse(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise SourceError(f"{error.filename}: cannot be listed ({error.strerror})") from error

        walk = os.walk(start, onerror=refuse)
        paths = [Path(at, name) for at, _, names in walk for name in names if not name.startswith(".")]
        found = (path.relative_to(self._root).as_posix() for path in paths)
        return sorted(key for key in found if key.startswith(prefix))

    def delete(self, keys: Sequence[str]) -> None:
        """Deletes files, and the folders that are empty then."""
        for key in keys:
            path = self._root / key
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise SourceError(f"{path}: cannot be deleted ({error.strerror})") from error
            with suppress(OSError):  # not empty, or a draft is being written there
                for folder in list(path.parents)[: len(Path(key).parts) - 1]:
                    folder.rmdir()


class S3Store:
    """Objects of an S3 bucket."""

    def __init__(self, bucket: str, prefix: str) -> None:
        import boto3  # noqa: PLC0415 - see the module
        from botocore.config import Config  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        patience = Config(
            connect_timeout=3,
            read_timeout=10,
            retries={"max_attempts": 2, "mode": "standard"},
            max_pool_connections=16,
        )
        self._errors: tuple[type[Exception], ...] = (BotoCoreError, ClientError, ValueError)  # an endpoint of no form
        self._client: Any = self._asked(lambda: boto3.session.Session().client("s3", config=patience), "")

    def put(self, key: str, body: bytes) -> None:
        """Writes an object."""
        self._asked(lambda: self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=body), key)

    def get(self, key: str) -> bytes | None:
        """Fetches an object."""
        try:
            return self._asked(
                lambda: bytes(self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)["Body"].read()), key
            )
        except FileNotFoundError:
            return None

    def keys(self, prefix: str = "") -> list[str]:
        """Lists the objects, a request for a thousand of them."""
        pages = self._client.get_paginator("list_objects_v2")
        asked = pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix)
        found = self._asked(lambda: [one["Key"] for page in asked for one in page.get("Contents", ())], prefix)
        return sorted(key[len(self._prefix) :] for key in found)

    def delete(self, keys: Sequence[str]) -> None:
        """Deletes objects, a thousand a request."""
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            part = [{"Key": self._prefix + key} for key in keys[start : start + _DELETED_AT_ONCE]]
            answer = self._asked(partial(self._delete, part), keys[start])
            if answer.get("Errors"):
                first = answer["Errors"][0]
                raise SourceError(f"{self._address(first['Key'])}: cannot be deleted ({first.get('Message')})")

    def _delete(self, part: list[dict[str, str]]) -> Any:
        return self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": part, "Quiet": True})

    def _asked(self, request: Callable[[], Result], key: str) -> Result:
        """Makes a request.

        Raises:
            SourceError: It failed.
            FileNotFoundError: There is no such object.
        """
        try:
            return request()
        except self._errors as error:
            answer = getattr(error, "response", None) or {}
            if answer.get("Error", {}).get("Code") == "NoSuchKey":
                raise FileNotFoundError(key) from error
            raise SourceError(f"{self._address(key)}: {error}") from error

    def _address(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{key.removeprefix(self._prefix)}"


ObjectStore = FolderStore | S3Store
