"""Keep tables as immutable Parquet files that a manifest names, replaced a partition at a time, switched atomically."""

import hashlib
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from pricing.data.manifest import (
    FORMER,
    MANIFEST,
    Manifest,
    TableFile,
    has_manifest,
    read_files,
    read_manifest,
    read_manifest_file,
)
from pricing.errors import SourceError, first_line
from pricing.fileio import replace_atomically, replace_text
from pricing.paths import PLANS

_log = logging.getLogger(__name__)
KEPT = 30  # of them, with their files: a job that began on one may still be reading
_DIGITS = 16
_PLACES = ("tables", "rows", PLANS)


class Store:
    """A folder of tables. Only `Draft.publish` changes what readers see; one run at a time writes."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest: Manifest | None = read_manifest(folder) if has_manifest(folder) else None

    def partitions(self, table: str) -> Mapping[str, TableFile]:
        """The files of a table by partition; empty where there are none."""
        return {} if self.manifest is None else self.manifest.tables.get(table, {})

    def read(self, table: str, partitions: Iterable[str] | None = None) -> pd.DataFrame:
        """Reads a table, or some of its partitions, in the order of their names.

        Raises:
            SourceError: A file is missing or damaged.
        """
        files = self.partitions(table)
        chosen = sorted(files if partitions is None else set(partitions) & files.keys())
        return read_files(self.folder, [files[name] for name in chosen])

    def rows(self, partitions: Iterable[str] | None = None, *, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Reads rows of the contract, all or those of some partitions; of `columns`, those that there are.

        Raises:
            SourceError: A file is missing or damaged.
        """
        files = {} if self.manifest is None else self.manifest.rows
        chosen = sorted(files if partitions is None else set(partitions) & files.keys())
        return read_files(self.folder, [files[name] for name in chosen], columns=columns)

    @contextmanager
    def draft(self) -> Iterator["Draft"]:
        """Yields a draft of the next manifest; what is not published is removed."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SourceError(f"{self.folder}: cannot be written ({error.strerror})") from error
        draft = Draft(self)
        try:
            yield draft
        finally:
            draft.sweep()


class Draft:
    """Files written for a manifest that is not yet published. Files of the former one are shared where unchanged."""

    def __init__(self, store: Store) -> None:
        former = store.manifest
        self._store = store
        self.tables: dict[str, dict[str, TableFile]] = (
            {} if former is None else {name: dict(parts) for name, parts in former.tables.items()}
        )
        self.rows: dict[str, TableFile] = {} if former is None else dict(former.rows)
        self.plans: dict[str, TableFile] = {}

    def put(self, table: str, partition: str, frame: pd.DataFrame) -> bool:
        """Replaces a partition of a table, or removes it where the frame is empty; returns whether anything changed."""
        return self._put(self.tables.setdefault(table, {}), f"tables/{table}", partition, frame)

    def put_rows(self, partition: str, frame: pd.DataFrame) -> bool:
        """Replaces a partition of the rows as `put` does one of a table."""
        return self._put(self.rows, "rows", partition, frame)

    def put_plan(self, name: str, frame: pd.DataFrame) -> None:
        """Puts a plan; one without rows is a plan, too: nothing is planned."""
        self._write(self.plans, PLANS, name, frame)

    def clear(self, table: str) -> None:
        """Removes all partitions of a table."""
        self.tables.pop(table, None)

    def read(
        self, table: str, partitions: Iterable[str] | None = None, *, columns: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Reads a table as it is in this draft, of `columns` those that there are; see `Store.read`."""
        files = self.tables.get(table, {})
        chosen = sorted(files if partitions is None else set(partitions) & files.keys())
        return read_files(self._store.folder, [files[name] for name in chosen], columns=columns)

    def publish(self, manifest: Manifest) -> bool:
        """Makes this draft what readers see; returns False where nothing differs, and then nothing is written.

        The former manifest is kept beside with its files, up to `KEPT` of them.

        Raises:
            SourceError: It cannot be written.
        """
        former = self._store.manifest
        if former is not None and _content(former) == _content(manifest):
            return False
        path = self._store.folder / MANIFEST
        try:
            if former is not None:
                kept = self._store.folder / FORMER / f"{former.made_at:%Y%m%dT%H%M%S%f}-{former.id}.json"
                with replace_atomically(kept) as draft:
                    shutil.copyfile(path, draft)
            replace_text(path, manifest.model_dump_json(indent=1) + "\n")
        except OSError as error:
            raise SourceError(f"{path}: cannot be written ({error.strerror})") from error
        self._store.manifest = manifest
        return True

    def sweep(self) -> None:
        """Removes files that neither the manifest nor a kept former one names.

        Which files those name that cannot be read is not known, so that nothing is removed beside them but former
        manifests beyond `KEPT`. It is told in a warning, and never fails: what came of the draft has been decided.
        """
        folder = self._store.folder
        try:
            kept = sorted((folder / FORMER).glob("*.json"))
            for old in kept[:-KEPT]:
                old.unlink(missing_ok=True)
            named: set[str] = set()
            for path in (folder / MANIFEST, *kept[-KEPT:]):
                if path.is_file():
                    named |= _files(read_manifest_file(path, advice="mend it or move it away"))
            _remove_but(named, folder)
        except SourceError as error:
            _log.warning("files of former runs stay in %s while a manifest cannot be read: %s", folder, error)
        except OSError as error:
            _log.warning("files of former runs stay in %s: %s", folder, error)

    def _put(self, files: dict[str, TableFile], place: str, partition: str, frame: pd.DataFrame) -> bool:
        if frame.empty:
            return files.pop(partition, None) is not None
        return self._write(files, place, partition, frame)

    def _write(self, files: dict[str, TableFile], place: str, partition: str, frame: pd.DataFrame) -> bool:
        table = _as_stored(pa.Table.from_pandas(frame, preserve_index=False))
        mark = fingerprint(table)
        if partition in files and files[partition].fingerprint == mark:
            return False
        name = f"{place}/{partition}.{mark[:_DIGITS]}.parquet"
        path = self._store.folder / name
        try:
            if not path.is_file():
                with replace_atomically(path) as draft:
                    pa.parquet.write_table(table, draft, compression="zstd")
        except (OSError, pa.ArrowException) as error:
            raise SourceError(f"{path}: cannot be written: {first_line(error)}") from error
        files[partition] = TableFile(file=name, rows=len(frame), fingerprint=mark)
        return True


def _as_stored(table: pa.Table) -> pa.Table:
    """The table with the types that Parquet gives back, so that what is read and put again is the same."""
    kinds = {pa.timestamp("s"): pa.timestamp("ms"), pa.large_string(): pa.string()}
    fields = [field.with_type(kinds.get(field.type, field.type)) for field in table.schema]
    return table.cast(pa.schema(fields))


def fingerprint(table: pa.Table) -> str:
    """SHA-256 of a table's names, types and values in their order; equal rows, equal fingerprint."""
    digest = hashlib.sha256(str(table.schema).encode())
    for column in table.columns:
        kind = column.type
        values = column.dictionary_decode() if pa.types.is_dictionary(kind) else column
        if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_temporal(kind):
            array = (
                values.to_numpy(zero_copy_only=False) if not pa.types.is_date(kind) else values.cast("int32").to_numpy()
            )
            digest.update(array.tobytes())
        else:
            hashes = pd.util.hash_array(values.to_pandas().to_numpy(dtype=object), categorize=True)
            digest.update(hashes.tobytes())
        digest.update(values.is_null().combine_chunks().to_numpy(zero_copy_only=False).tobytes())
    return digest.hexdigest()


def _remove_but(named: set[str], folder: Path) -> None:
    """Removes all files of tables, rows and plans but those named, and folders without any."""
    for place in _PLACES:
        for file in (folder / place).rglob("*"):
            if file.is_file() and str(file.relative_to(folder)) not in named:
                file.unlink(missing_ok=True)
        for child, _, _ in os.walk(folder / place, topdown=False):
            with suppress(OSError):  # it still holds files
                Path(child).rmdir()


def _files(manifest: Manifest) -> set[str]:
    groups = (manifest.rows, manifest.plans, *manifest.tables.values())
    return {part.file for parts in groups for part in parts.values()}


def _content(manifest: Manifest) -> Mapping[str, object]:
    """What makes two manifests differ: not who made them, when, and how often a source was read for nothing new."""
    files = {name: {key: part.fingerprint for key, part in parts.items()} for name, parts in manifest.tables.items()}
    plans = {name: part.fingerprint for name, part in manifest.plans.items()}
    return {"id": manifest.id, "tables": {name: parts for name, parts in files.items() if parts}, "plans": plans}
