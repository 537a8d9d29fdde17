"""Answers of APIs on disk: as they came, by run; and the last one of each page, for conditional requests."""

import datetime as dt
import gzip
import hashlib
import json
import logging
import re
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pricing.fileio import replace_atomically

_log = logging.getLogger(__name__)
_STAMP = "%Y%m%dT%H%M%SZ"
_FOLDER = re.compile(r"(\d{8}T\d{6}Z)-.+")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


class RawAnswers:
    """Keeps every answer of a run as it came: `raw/TIME-RUN/00001.json.gz` and a line about each in `index.jsonl`.

    The bytes are those of the body after unpacking, with our own secrets hidden should a server repeat them. A page
    that had not changed has a line and no file; one that was refused has a file that ends in `.refused.gz`.
    """

    def __init__(self, folder: Path, *, run_id: str, started_at: dt.datetime) -> None:
        self._root, self._started = folder, started_at
        self._name = f"{started_at.astimezone(dt.UTC):{_STAMP}}-{_UNSAFE.sub('_', run_id)}"
        self._folder: Path | None = None
        self._number = 0

    def add(self, body: bytes, *, address: str, fetched_at: dt.datetime, outcome: str = "read") -> None:
        """Keeps one answer.

        Args:
            body: Empty where there was none.
            address: What was asked for, without secrets.
            fetched_at: When it came.
            outcome: "read", "not_modified", or the code of what was wrong.
        """
        folder = self._own_folder()
        self._number += 1
        name = ""
        if body and outcome != "not_modified":
            name = f"{self._number:05}.json.gz" if outcome == "read" else f"{self._number:05}.refused.gz"
            with replace_atomically(folder / name, durable=False) as draft:
                draft.write_bytes(gzip.compress(body, mtime=0))
        line = {
            "file": name,
            "address": address,
            "fetched_at": fetched_at.isoformat(),
            "outcome": outcome,
            "bytes": len(body),
            "sha256": hashlib.sha256(body).hexdigest() if body else "",
        }
        with (folder / "index.jsonl").open("a", encoding="utf-8") as index:
            index.write(json.dumps(line) + "\n")

    def delete_older(self, days: int) -> int:
        """Deletes the folders of runs that began more than `days` days before this one; 0 keeps all.

        Returns:
            The number of folders deleted. What is not named like a run's folder stays.
        """
        if days == 0 or not self._root.is_dir():
            return 0
        limit = self._started - dt.timedelta(days=days)
        old = [path for path in self._root.iterdir() if path.is_dir() and _began(path.name, later_than=limit) is False]
        for path in old:
            shutil.rmtree(path)
        return len(old)

    def _own_folder(self) -> Path:
        """The run's folder; a second attempt of the same second gets its own, so that nothing is written over."""
        if self._folder is None:
            names = [self._name, *(f"{self._name}.{number}" for number in range(2, 1000))]
            self._folder = next(self._root / name for name in names if not (self._root / name).exists())
            self._folder.mkdir(parents=True)
        return self._folder


def _began(name: str, *, later_than: dt.datetime) -> bool | None:
    found = _FOLDER.fullmatch(name)
    if found is None:
        return None
    return dt.datetime.strptime(found[1], _STAMP).replace(tzinfo=dt.UTC) >= later_than


@dataclass(frozen=True)
class Kept:
    """The last answer of a page.

    Attributes:
        etag: Its ETag; empty where it has none.
        last_modified: Its Last-Modified, likewise.
        body: Its bytes, unpacked.
    """

    etag: str
    last_modified: str
    body: bytes


class KeptAnswers:
    """The last answer of each page that the server can say "not modified" of; one damaged file is asked for anew."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> Kept | None:
        """The answer to the page of that key, if it is kept whole."""
        path = self._path(key)
        try:
            held = json.loads(gzip.decompress(path.read_bytes()))
            kept = Kept(str(held["etag"]), str(held["last_modified"]), held["body"].encode())
            whole = held["key"] == key and hashlib.sha256(kept.body).hexdigest() == held["sha256"]
        except FileNotFoundError:
            return None
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("%s cannot be read (%s): the page is asked for anew", path, error)
            return None
        return kept if whole else None

    def put(self, key: str, kept: Kept) -> None:
        """Keeps an answer in place of the one before; one that has no mark to ask by is not kept."""
        if not kept.etag and not kept.last_modified:
            self._path(key).unlink(missing_ok=True)
            return
        held = {
            "key": key,
            "etag": kept.etag,
            "last_modified": kept.last_modified,
            "sha256": hashlib.sha256(kept.body).hexdigest(),
            "body": kept.body.decode(),
        }
        with replace_atomically(self._path(key), durable=False) as draft:
            draft.write_bytes(gzip.compress(json.dumps(held).encode(), mtime=0))

    def keep_only(self, keys: Collection[str]) -> None:
        """Deletes the answers to other pages."""
        wanted = {self._path(key) for key in keys}
        for path in set(self._folder.glob("*.json.gz")) - wanted:
            path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json.gz"
