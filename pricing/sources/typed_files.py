"""Read Parquet and Excel files in chunks; their cells have types, of which Excel's are not to be trusted."""

import datetime as dt
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree.ElementTree import ParseError

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet
from openpyxl.utils.exceptions import InvalidFileException

from pricing.config_sources import TableSource
from pricing.data.files import HEAD, what_is
from pricing.errors import SourceError, first_line
from pricing.sources.columns import kind_of, resolve
from pricing.sources.raw import CHUNK_ROWS, Raw

_PARTITION = re.compile(r"^([^=]+)=(.*)$")  # a folder that holds one value of a column, as Hive writes it
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_ZEROS = re.compile(r"^0+$")


def read_parquet(path: Path, source: TableSource, *, where: str, folders: Sequence[str] = ()) -> Iterator[Raw]:
    """Reads a Parquet file.

    Args:
        path: The file.
        source: What is configured.
        where: The file as messages name it.
        folders: Names of the folders between the location and the file; `month=2024-01` is a column of text.

    Raises:
        SourceError: It is no Parquet, is cut off or damaged, or lacks a column.
    """
    _check_magic(path, b"PAR1", "Parquet", where=where)
    matches = [_PARTITION.match(folder) for folder in folders]
    parts = {each[1]: unquote(each[2]) for each in matches if each}
    try:
        with pa.parquet.ParquetFile(path) as file:
            inside = file.schema_arrow.names
            header = [*inside, *(name for name in parts if name not in inside)]
            found = resolve(source, [name.strip() for name in header], where=where)
            here = {name: at for name, at in found.items() if at < len(inside)}
            line = 0
            for batch in file.iter_batches(CHUNK_ROWS, columns=sorted({inside[at] for at in here.values()})):
                columns = {name: batch.column(inside[at]) for name, at in here.items()}
                for name, at in found.items():
                    if name not in here:
                        value = parts[header[at]]
                        columns[name] = pa.repeat(
                            pa.scalar(None if value == _NO_VALUE else value, pa.string()), len(batch)
                        )
                yield Raw(columns, np.arange(line + 1, line + 1 + len(batch), dtype=np.int64))
                line += len(batch)
            if line != file.metadata.num_rows:
                raise SourceError(f"{where}: gave {line} rows, but says that it has {file.metadata.num_rows}")
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{where}: is damaged or cut off: {first_line(error)}") from error


def read_excel(path: Path, source: TableSource, *, where: str) -> Iterator[Raw]:
    """Reads one sheet of an .xlsx file; the first row that is not empty has the names of the columns.

    Raises:
        SourceError: It is no such file, is damaged, has several sheets of which none is named, or lacks a column.
    """
    _check_magic(path, b"PK\x03\x04", "Excel (.xlsx)", where=where)
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
        try:
            sheet = _sheet(book, source, where=where)
            sheet.reset_dimensions()  # what other programs write there may be wrong, and would hide rows
            yield from _sheet_rows(sheet.iter_rows(), source, where=where)
        finally:
            book.close()
    except (zipfile.BadZipFile, InvalidFileException, ParseError, KeyError, ValueError, EOFError, OSError) as error:
        raise SourceError(f"{where}: is no .xlsx file that can be read, or is cut off: {first_line(error)}") from error


def _sheet(book: Any, source: TableSource, *, where: str) -> Any:
    names = [sheet.title for sheet in book.worksheets]
    if source.sheet is None and len(names) == 1:
        return book.worksheets[0]
    if source.sheet not in names:
        wanted = "several sheets" if source.sheet is None else f"no sheet {source.sheet!r}"
        raise SourceError(f"{where}: has {wanted}; found {', '.join(map(repr, names)) or 'none'}; set sheet to one")
    return book[source.sheet]


def _sheet_rows(rows: Iterator[Sequence[Any]], source: TableSource, *, where: str) -> Iterator[Raw]:
    header = next((row for row in rows if any(cell.value is not None for cell in row)), None)
    if header is None:
        raise SourceError(f"{where}: has no header row with the names of its columns")
    names = ["" if cell.value is None else str(cell.value).strip("\u00a0 \t\r\n") for cell in header]
    found = resolve(source, names, where=where)
    zeros = {name for name in found if kind_of(name) == "id"}
    cells: dict[str, list[Any]] = {name: [] for name in found}
    lines: list[int] = []
    for number, row in enumerate(rows, start=1):
        values = {name: row[at] if at < len(row) else None for name, at in found.items()}
        if all(cell is None or cell.value is None for cell in values.values()):
            continue  # an empty row, as they stand below a table
        for name, cell in values.items():
            value = None if cell is None else cell.value
            cells[name].append(_with_zeros(cell, value) if name in zeros and type(value) is int else value)
        lines.append(number)
        if len(lines) == CHUNK_ROWS:
            yield Raw({name: _array(values) for name, values in cells.items()}, np.array(lines, dtype=np.int64))
            cells, lines = {name: [] for name in found}, []
    yield Raw({name: _array(values) for name, values in cells.items()}, np.array(lines, dtype=np.int64))


def _with_zeros(cell: Any, value: int) -> int | str:
    """A whole number as its format shows it: 00000 shows 123 as 00123, which is the id."""
    shown = str(cell.number_format or "")
    return str(value).zfill(len(shown)) if _ZEROS.match(shown) else value


def _array(values: list[Any]) -> Any:
    """Cells of one column: of one type where they are of one, otherwise as texts."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float}:
        whole = all(value is None or float(value).is_integer() for value in values)
        return pa.array([None if value is None else (int(value) if whole else float(value)) for value in values])
    if kinds == {dt.datetime}:
        return pa.array(values, pa.timestamp("us"))
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if isinstance(value, dt.date | dt.time) else str(value)


def _check_magic(path: Path, magic: bytes, name: str, *, where: str) -> None:
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    if not head.startswith(magic):
        text = "text, perhaps CSV" if b"\x00" not in head else "binary data"
        raise SourceError(f"{where}: is called {name} but holds {what_is(head) or text}")
