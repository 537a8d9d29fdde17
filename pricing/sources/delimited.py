"""Read CSV and other delimited text in chunks: encoding and separator are found out, bad lines set aside."""

import codecs
import csv
import gzip
import io
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from pricing.config_sources import TableSource, TextFormat
from pricing.data.files import HEAD, what_is
from pricing.errors import SourceError, first_line
from pricing.sources.columns import lacking, resolve
from pricing.sources.raw import CHUNK_ROWS, Raw, RejectedLine

_SEPARATORS = ",;\t|"
_WORDS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_BLOCK = 4 << 20  # bytes parsed at once; also the longest line
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class Layout:
    """How a text file is laid out.

    Attributes:
        encoding: As Python calls it.
        separator: One character.
        header: Names of the columns, without blanks around them.
        skipped: Physical lines before the header.
        ends: Whether the header ends with a line end; otherwise there is nothing behind it.
    """

    encoding: str
    separator: str
    header: tuple[str, ...]
    skipped: int
    ends: bool


def read_delimited(path: Path, source: TableSource, *, where: str) -> Iterator[Raw]:
    """Reads a text file, `.gz` or plain, as columns of text.

    Args:
        path: The file.
        source: What is configured.
        where: The file as messages name it.

    Raises:
        SourceError: It is no such text, its encoding or separator is unclear, a column is missing, or it is cut off.
    """
    compressed = path.name.endswith(".gz")
    try:
        with _opened(path, compressed) as stream:
            head = stream.read(HEAD)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{where}: cannot be read: {first_line(error)}") from error
    layout = look(head, source, where=where, whole=len(head) < HEAD)
    with _opened(path, compressed) as stream:
        yield from parse(_Watched(stream), layout, source, where=where)


def look(head: bytes, source: TableSource, *, where: str, whole: bool) -> Layout:
    """Finds out how a text file is laid out from its beginning.

    Args:
        head: Its first bytes, decompressed.
        source: What is configured.
        where: The file as messages name it.
        whole: Whether the file ends there.

    Raises:
        SourceError: It holds something else, or encoding, separator or columns are unclear or missing.
    """
    encoding = _encoding(head, source.text, where=where)
    text = codecs.getincrementaldecoder(encoding)(errors="replace").decode(head).lstrip("\ufeff")
    lines = text.splitlines(keepends=True)
    skipped = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
    if skipped == len(lines):
        raise SourceError(f"{where}: has no header line with the names of its columns")
    told = source.text.separator
    if lines[skipped].strip().lower().startswith("sep=") and len(lines[skipped].strip("\r\n")) == 5:
        told = told or lines[skipped].strip("\r\n")[4]  # how Excel is told
        skipped += 1
    rest = "".join(lines[skipped:])
    separator, header = _separator(rest, source, told, where=where)
    ends = not whole or "\n" in rest or "\r" in rest
    return Layout(encoding, separator, header, skipped, ends)


def parse(stream: Any, layout: Layout, source: TableSource, *, where: str) -> Iterator[Raw]:
    """Reads rows of a text whose layout is known.

    Args:
        stream: The text, decompressed, from its beginning; anything with `read(size)`.
        layout: Its layout.
        source: What is configured.
        where: The file as messages name it.

    Raises:
        SourceError: The text cannot be decoded, is cut off, or a column is missing.
    """
    found = resolve(source, layout.header, where=where)
    if not layout.ends:
        return
    names = [f"f{position}" for position in range(len(layout.header))]
    rejected: list[RejectedLine] = []
    before = layout.skipped + 1

    def set_aside(row: Any) -> str:
        reason = f"has another number of fields than the header's {row.expected_columns}"
        rejected.append(RejectedLine(row.number - before, reason, row.text))
        return "skip"

    try:
        # One thread: several neither number the lines nor keep to a block's memory.
        reader = pa.csv.open_csv(
            pa.PythonFile(stream, "r"),
            read_options=pa.csv.ReadOptions(
                use_threads=False,
                block_size=_BLOCK,
                skip_rows=layout.skipped,
                column_names=names,
                skip_rows_after_names=1,
                encoding=layout.encoding,
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=layout.separator, newlines_in_values=True, invalid_row_handler=set_aside
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=sorted({names[position] for position in found.values()} | {names[-1]}),
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
        yield from _rows(reader, {name: names[at] for name, at in found.items()}, layout, rejected)
        if isinstance(stream, _Watched):
            stream.check_end(layout, where=where)
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error):
            raise SourceError(f"{where}: {_NOT_UTF8}") from error
        if "straddling" in str(error):
            raise SourceError(
                f"{where}: has a line of more than {_BLOCK >> 20} MB, perhaps by a quote without end"
            ) from error
        raise SourceError(f"{where}: cannot be read: {first_line(error)}") from error
    except UnicodeError as error:
        raise SourceError(
            f"{where}: is no {layout.encoding} text ({first_line(error)}); set text.encoding to what it is"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{where}: cannot be read to its end: {first_line(error)}") from error


_NOT_UTF8 = (
    "is not UTF-8 text; set text.encoding to what it is, such as cp1252 for a file from Excel in Western Europe, "
    "or save it as UTF-8"
)


def _rows(reader: Any, names: dict[str, str], layout: Layout, rejected: list[RejectedLine]) -> Iterator[Raw]:
    """Collects blocks to chunks, and numbers their rows around the rejected lines, which the reader leaves out."""
    pending: list[Any] = []
    count, line, known = 0, 0, 0
    while True:
        block = next(reader, None)
        if block is not None:
            pending.append(block)
            count += block.num_rows
        if pending and (count >= CHUNK_ROWS or block is None):
            table = pa.Table.from_batches(pending)
            # The parser is ahead of the rows that it has given: some of these lines belong to the next chunk.
            lines = _numbered(line, count, np.array([row.line for row in rejected[known:]], dtype=np.int64))
            line = int(lines[-1]) if count else line
            former, known = known, bisect_right(rejected, line, lo=known, key=lambda row: row.line)
            yield _without_headers(table, names, lines, layout, rejected[former:known])
            pending, count = [], 0
        if block is None:
            break
    if known < len(rejected):
        yield Raw({name: pa.array([], pa.string()) for name in names}, np.zeros(0, np.int64), rejected[known:])


def _numbered(last: int, count: int, skip: "np.ndarray[Any, np.dtype[np.int64]]") -> Any:
    """The `count` numbers after `last` that are not in `skip`."""
    numbers = np.arange(last + 1, last + 1 + count + len(skip), dtype=np.int64)
    return numbers[~np.isin(numbers, skip)][:count] if len(skip) else numbers


def _without_headers(
    table: Any, names: dict[str, str], lines: Any, layout: Layout, rejected: list[RejectedLine]
) -> Raw:
    """Sets aside headers that stand again among the rows, as they do where exports were joined."""
    header = np.ones(len(lines), dtype=np.bool_)
    for field in names.values():
        cells = pc.utf8_trim_whitespace(table[field])
        header &= pc.fill_null(pc.equal(cells, layout.header[int(field[1:])]), False).to_numpy()
        if not header.any():
            break
    else:
        if names:
            text = layout.separator.join(layout.header)
            rejected = [*rejected, *(RejectedLine(int(at), "is the header again", text) for at in lines[header])]
            table, lines = table.filter(pa.array(~header)), lines[~header]
    return Raw({name: table[field].combine_chunks() for name, field in names.items()}, lines, rejected)


def _encoding(head: bytes, text: TextFormat, *, where: str) -> str:
    for mark, encoding in _MARKS:
        if head.startswith(mark) and not (encoding == "utf-8" and text.encoding):
            return encoding
        if head.startswith(mark):
            return "utf-8"
    if text.encoding:
        try:
            return codecs.lookup(text.encoding).name
        except LookupError as error:
            raise SourceError(
                f"{where}: text.encoding: {text.encoding!r} is no encoding; give one such as cp1252"
            ) from error
    holds = what_is(head)
    if holds == "binary data":
        holds = "binary data, or UTF-16 without its mark (then set text.encoding to utf-16-le)"
    if holds is not None:
        raise SourceError(f"{where}: should be text with separated columns, but holds {holds}")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError as error:
        raise SourceError(f"{where}: {_NOT_UTF8}") from error
    return "utf-8"


def _separator(text: str, source: TableSource, told: str | None, *, where: str) -> tuple[str, tuple[str, ...]]:
    """The separator with which the header has the columns that must be there, and the header's names."""
    headers = {separator: _header(text, separator) for separator in (told or _SEPARATORS)}
    if told:
        return told, headers[told]
    fitting = {mark: names for mark, names in headers.items() if not lacking(source, names)}
    if not fitting:  # the most columns are the likeliest; what they lack is for `resolve` to tell
        mark = max(headers, key=lambda each: len(headers[each]))
        return mark, headers[mark]
    most = max(len(names) for names in fitting.values())
    best = [mark for mark, names in fitting.items() if len(names) == most]
    if len(best) > 1 and most > 1:
        words = " or ".join(_WORDS[mark] for mark in best)
        raise SourceError(f"{where}: its columns may be separated by {words}; set text.separator")
    return best[0], fitting[best[0]]


def _header(text: str, separator: str) -> tuple[str, ...]:
    try:
        names = next(csv.reader(io.StringIO(text, newline=None), delimiter=separator))
    except (csv.Error, StopIteration):
        return ()
    return tuple(name.strip().strip("\ufeff\u00a0") for name in names)


def _opened(path: Path, compressed: bool) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if compressed else path.open("rb")


class _Watched(io.RawIOBase):
    """A stream that counts quotes and knows what stood before the last, to see whether it ends inside a field."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._quotes = 0
        self._before = b""  # of the last quote
        self._last = b""  # of the data so far

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        at = data.rfind(b'"')
        if at >= 0:
            self._quotes += data.count(b'"')
            self._before = (self._last + data[max(0, at - 3) : at]).replace(b"\x00", b"")[-1:]
        self._last = (self._last + data[-3:])[-3:]
        return data

    def check_end(self, layout: Layout, *, where: str) -> None:
        """Refuses a text that ends inside quotes: the last quote of an odd number stands where a field begins.

        Raises:
            SourceError: It does.
        """
        if self._quotes % 2 and self._before in (layout.separator.encode(), b"\n", b"\r", b""):
            raise SourceError(f"{where}: ends inside a quoted field, so that it is cut off; export it again")
