"""Keep immutable objects under keys, in a folder or in an S3 store: what serving tasks upload and jobs read.

boto3 is loaded only for an s3:// address. Region, credentials and AWS_ENDPOINT_URL are its own usual ones.
"""

import fcntl
import json
import os
import re
import secrets
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from pricing.errors import ConfigError, LockError, SourceError
from pricing.fileio import replace_atomically

_SCHEME = re.compile(r"[a-z][a-z0-9+]+:/")  # what begins so is meant as an address; a drive's letter is one character
READERS = 16  # requests to S3 at a time, and objects of up to 8 MB that are fetched before they are wanted
LEASE_SECONDS = 900.0  # a lock in S3 ends after so long without being renewed: its holder was killed
_DELETED_AT_ONCE = 1000  # S3's limit

Result = TypeVar("Result")


@dataclass(frozen=True)
class Stored:
    """An object as it is listed.

    Attributes:
        key: Its key, below the store's own address.
        size: Bytes.
    """

    key: str
    size: int


class ObjectStore(Protocol):
    """What is done with objects; everything may raise SourceError."""

    def put(self, key: str, body: bytes) -> None:
        """Writes an object whole, over one of the same key."""
        ...

    def folders(self) -> list[str]:
        """The first parts of all keys that have several, in order."""
        ...

    def listed(self, prefix: str) -> list[Stored]:
        """The objects whose keys begin with `prefix`, in the order of their keys."""
        ...

    def read(self, keys: Iterable[str]) -> Iterator[bytes | None]:
        """Yields the content of objects in the order asked for; None for one that is gone."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Deletes objects; those that are gone are no error."""
        ...

    @contextmanager
    def locked(self, key: str) -> Iterator[Callable[[], None]]:
        """Holds a lock that counts for all machines; yields what renews it during long work.

        Raises:
            LockError: Another process holds it, or took it over since it was last renewed.
        """
        ...


def open_store(where: str) -> ObjectStore:
    """Opens the store at an address, of which nothing is asked yet.

    Args:
        where: A folder, or s3://bucket/prefix.

    Raises:
        ConfigError: It is another kind of address, or names no bucket.
    """
    check_address(where)
    if "://" not in where:
        return FolderStore(Path(where))
    return S3Store(urlsplit(where).netloc, urlsplit(where).path.strip("/"))


def check_address(where: str) -> None:
    """Checks the form of a store's address.

    Raises:
        ConfigError: It is neither a folder nor s3://bucket/prefix.
    """
    parts = urlsplit(where)
    far = "://" in where or _SCHEME.match(where) is not None
    if not where.strip() or (far and (parts.scheme != "s3" or not parts.netloc)):
        raise ConfigError(f"{where!r}: expected a folder, or an address such as s3://bucket/prefix")


def _key(stored: Stored) -> str:
    return stored.key


class FolderStore:
    """Objects as files of a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, key: str, body: bytes) -> None:
        """Writes an object whole: a reader finds all of it or nothing."""
        try:
            with replace_atomically(self._root / key) as draft:
                draft.write_bytes(body)
        except OSError as error:
            raise SourceError(f"{self._root / key}: cannot be written ({error.strerror})") from error

    def folders(self) -> list[str]:
        """The folders directly below the store's."""
        try:
            return sorted(path.name for path in self._root.iterdir() if path.is_dir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SourceError(f"{self._root}: cannot be listed ({error.strerror})") from error

    def listed(self, prefix: str) -> list[Stored]:
        """The files below the folder `prefix`, or that file; drafts, whose names begin with a dot, are none."""
        found = []
        start = self._root / prefix
        try:
            paths = (
                [start] if start.is_file() else [Path(at, name) for at, _, names in os.walk(start) for name in names]
            )
            for path in paths:
                with suppress(FileNotFoundError):
                    if not path.name.startswith("."):
                        found.append(Stored(path.relative_to(self._root).as_posix(), path.stat().st_size))
        except OSError as error:
            raise SourceError(f"{self._root / prefix}: cannot be listed ({error.strerror})") from error
        return sorted(found, key=_key)

    def read(self, keys: Iterable[str]) -> Iterator[bytes | None]:
        """Reads file by file."""
        for key in keys:
            try:
                yield (self._root / key).read_bytes()
            except FileNotFoundError:
                yield None
            except OSError as error:
                raise SourceError(f"{self._root / key}: cannot be read ({error.strerror})") from error

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

    @contextmanager
    def locked(self, key: str) -> Iterator[Callable[[], None]]:
        """Locks a file, which a network file system does for all its machines."""
        path = self._root / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = path.open("w")
        except OSError as error:
            raise SourceError(f"{path}: cannot be opened ({error.strerror})") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LockError(f"{path}: another process holds it; try again when that has ended") from error
            yield lambda: None


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
            max_pool_connections=READERS,
        )
        self._refused: type[Exception] = ClientError
        self._errors: tuple[type[Exception], ...] = (BotoCoreError, ClientError, ValueError)  # an endpoint of no form
        self._client: Any = self._asked(lambda: boto3.session.Session().client("s3", config=patience), "")

    def put(self, key: str, body: bytes) -> None:
        """Writes an object."""
        self._put(key, body)

    def folders(self) -> list[str]:
        """The common prefixes of the keys, a request for a thousand of them."""
        pages = self._pages(self._prefix, Delimiter="/")
        return sorted(one["Prefix"][len(self._prefix) : -1] for page in pages for one in page.get("CommonPrefixes", ()))

    def listed(self, prefix: str) -> list[Stored]:
        """The objects whose keys begin with `prefix`, a request for a thousand of them."""
        pages = self._pages(self._prefix + prefix)
        found = [
            Stored(one["Key"][len(self._prefix) :], int(one["Size"]))
            for page in pages
            for one in page.get("Contents", ())
        ]
        return sorted(found, key=_key)

    def read(self, keys: Iterable[str]) -> Iterator[bytes | None]:
        """Fetches up to READERS objects at a time, and no more before they are wanted."""
        with ThreadPoolExecutor(READERS, thread_name_prefix="s3") as pool:
            pending: deque[Future[bytes | None]] = deque()
            try:
                for key in keys:
                    pending.append(pool.submit(self._get, key))
                    if len(pending) >= READERS:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for one in pending:
                    one.cancel()

    def delete(self, keys: Sequence[str]) -> None:
        """Deletes objects, a thousand a request."""
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            part = [{"Key": self._prefix + key} for key in keys[start : start + _DELETED_AT_ONCE]]
            wanted = {"Objects": part, "Quiet": True}
            answer = self._asked(partial(self._client.delete_objects, Bucket=self._bucket, Delete=wanted), keys[start])
            if answer.get("Errors"):
                first = answer["Errors"][0]
                raise SourceError(f"{self._address(first['Key'])}: cannot be deleted ({first.get('Message')})")

    @contextmanager
    def locked(self, key: str) -> Iterator[Callable[[], None]]:
        """Writes a lease under a key that had none, or one that has run out: conditional writes let one of two win."""
        tag, end = self._acquire(key), time.monotonic() + LEASE_SECONDS

        def renew() -> None:
            nonlocal tag, end
            end = 0.0  # unless it can be renewed it is another's by now
            tag, end = self._write_lease(key, IfMatch=tag), time.monotonic() + LEASE_SECONDS

        try:
            yield renew
        finally:
            if time.monotonic() < end:
                self.delete([key])

    def _acquire(self, key: str) -> str:
        try:
            return self._write_lease(key, IfNoneMatch="*")
        except LockError as error:
            try:
                answer = self._asked(lambda: self._client.get_object(Bucket=self._bucket, Key=self._prefix + key), key)
                lease = json.loads(answer["Body"].read())
                holder, until = str(lease["holder"]), float(lease["until"])
            except (ValueError, TypeError, LookupError) as unreadable:
                raise LockError(f"{self._address(key)} is no lock; delete it") from unreadable
            except FileNotFoundError:
                raise error from None  # released a moment ago; another try will have it
            if time.time() < until:
                raise LockError(
                    f"{self._address(key)}: {holder} holds it; try again when that has ended, or, if it was killed, in "
                    f"{until - time.time():.0f} s"
                ) from error
            return self._write_lease(key, IfMatch=answer["ETag"])

    def _write_lease(self, key: str, **condition: str) -> str:
        lease = {"holder": f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"}
        body = json.dumps({**lease, "until": time.time() + LEASE_SECONDS}).encode()
        return str(self._put(key, body, **condition)["ETag"])

    def _put(self, key: str, body: bytes, **condition: str) -> Any:
        return self._asked(
            lambda: self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=body, **condition), key
        )

    def _get(self, key: str) -> bytes | None:
        try:
            return self._asked(
                lambda: bytes(self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)["Body"].read()), key
            )
        except FileNotFoundError:
            return None

    def _pages(self, prefix: str, **options: str) -> list[Any]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix, **options)
        return self._asked(lambda: list(pages), prefix.removeprefix(self._prefix))

    def _asked(self, request: Callable[[], Result], key: str) -> Result:
        """Makes a request.

        Raises:
            SourceError: It failed.
            FileNotFoundError: There is no such object.
            LockError: A condition of the request was not met.
        """
        try:
            return request()
        except self._errors as error:
            answer = getattr(error, "response", None) or {}
            code = str(answer.get("Error", {}).get("Code", ""))
            if code == "NoSuchKey":
                raise FileNotFoundError(key) from error
            if code in ("PreconditionFailed", "ConditionalRequestConflict"):
                raise LockError(f"{self._address(key)}: another process holds it") from error
            raise SourceError(f"{self._address(key)}: {error}") from error

    def _address(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{key.removeprefix(self._prefix)}"
