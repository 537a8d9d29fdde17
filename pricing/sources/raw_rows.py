"""Keep what databases answered as it came: files of rows, a folder for each run."""

import datetime as dt
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from pricing.errors import SourceError, first_line
from pricing.sources.chunk import Chunk

FOLDER = "raw"


def keep_rows(chunks: Iterable[Chunk], *, folder: Path, source: str, run_id: str) -> Iterator[Chunk]:
    """Yields chunks and writes each beside, as FOLDER/source/run_id/number.parquet.

    Raises:
        SourceError: A file cannot be written.
    """
    place = folder / FOLDER / source / run_id
    for number, chunk in enumerate(chunks):
        path = place / f"{number:06d}.parquet"
        try:
            place.mkdir(parents=True, exist_ok=True)
            pa.parquet.write_table(pa.Table.from_pandas(chunk.frame, preserve_index=False), path, compression="zstd")
        except (OSError, pa.ArrowException) as error:
            raise SourceError(f"{path}: cannot be written: {first_line(error)}") from error
        yield chunk


def delete_outdated(folder: Path, *, days: int, now: dt.datetime) -> int:
    """Deletes the rows kept of runs that began more than so many days ago (0: none); returns how many runs."""
    runs = [path for path in (folder / FOLDER).glob("*/*") if path.is_dir() and not path.is_symlink()]
    old = [path for path in runs if days and now.timestamp() - path.stat().st_mtime > days * 86_400]
    for path in old:
        shutil.rmtree(path)
    return len(old)
