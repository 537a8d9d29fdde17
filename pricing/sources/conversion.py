"""Turn cells into numbers, times, flags and ids, a column at once, and mark those that cannot be."""

import datetime as dt
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pricing.arrays import Bools
from pricing.config_sources import TextFormat
from pricing.errors import SourceError
from pricing.sources.columns import Kind

_GROUPS = " '’\u00a0\u202f"  # what may part thousands, beside the mark that is not the decimal one
_ISO = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}(:\d{2}(:\d{2}([.,]\d{1,9})?)?)?\s?(?P<zone>Z|[+-]\d{2}(:?\d{2})?)?)?$"
_ZONED = r"[T ]\d{2}[\d:.,]*\s?(Z|[+-]\d{2}(:?\d{2})?)$"
_CLOCK = re.compile(r"%[HIMSfpXcTRr]")
_TRUE = ("1", "1.0", "true", "t", "yes", "y")
_FALSE = ("0", "0.0", "false", "f", "no", "n")
_EXACT = 2.0**53  # whole numbers up to which a float is exact
LONGEST_ID = 256


@dataclass(frozen=True)
class Cells:
    """One column after conversion.

    Attributes:
        values: float64, timestamp (of seconds where all cells are dates, of microseconds otherwise; with the zone UTC
            where the cells tell one) or string; null where empty or wrong.
        wrong: Reason: (row,) the cells that it holds for.
    """

    values: Any
    wrong: Mapping[str, Bools]


class Marks:
    """The decimal mark of one file's numbers: configured, or found out from cells that can be read in one way only."""

    def __init__(self, text: TextFormat, *, where: str) -> None:
        self._where = where
        self._thousands = text.thousands
        self.decimal: str | None = text.decimal
        if self.decimal is None and text.thousands in (".", ","):
            self.decimal = "," if text.thousands == "." else "."

    def learn(self, columns: Mapping[str, Any]) -> None:
        """Finds out the mark from columns of text.

        Raises:
            SourceError: Cells contradict each other, or can be read in two ways and none tells which.
        """
        if self.decimal is not None:
            return
        proofs: dict[str, str] = {}
        doubt = ""
        for name, column in columns.items():
            cells = _bare(column)
            for _ in range(2):  # matches do not overlap: the first pass leaves every other mark
                cells = pc.replace_substring_regex(cells, rf"(\d)[{_GROUPS}](\d{{3}})", r"\1\2")
            cells = cells.filter(pc.fill_null(pc.match_substring_regex(cells, "[.,]"), False))
            if not len(cells):
                continue
            for decimal, group in ((".", ","), (",", ".")):
                d, g = re.escape(decimal), re.escape(group)
                proof = _first(
                    cells,
                    rf"^[+-]?(\d{{1,3}}({g}\d{{3}})+{d}\d*|\d{{1,3}}({g}\d{{3}}){{2,}}|0*{d}\d+|\d+{d}(\d{{0,2}}|\d{{4,}})"
                    rf"|\d{{4,}}{d}\d+|0\d*{d}\d+)$",
                )
                if proof is not None:
                    proofs.setdefault(decimal, f"{name} {proof!r}")
            unclear = _first(cells, r"^[+-]?[1-9]\d{0,2}[.,]\d{3}$")
            doubt = doubt or (f"{name} {unclear!r}" if unclear is not None else "")
        if len(proofs) > 1:
            raise SourceError(
                f"{self._where}: has numbers with a decimal point ({proofs['.']}) and with a decimal comma "
                f"({proofs[',']}); set text.decimal to '.' or ',', and the others are set aside"
            )
        if not proofs and doubt:
            raise SourceError(
                f"{self._where}: {doubt} may be a thousand times the other, and no cell tells which; "
                "set text.decimal to '.' or ','"
            )
        if proofs:
            (self.decimal,) = proofs

    def numbers(self, column: Any) -> tuple[Any, Bools]:
        """Numbers as float64, null where empty or wrong, and where they are wrong."""
        decimal = self.decimal or "."
        if decimal == ".":
            try:
                values = pc.cast(column, pa.float64())
                return _finite(values)
            except pa.ArrowInvalid:
                pass
        cells = _bare(column)
        d = re.escape(decimal)
        own = self._thousands or ("," if decimal == "." else ".")
        groups = "".join(re.escape(mark) for mark in {own, *_GROUPS} if mark != decimal)
        right = pc.match_substring_regex(
            cells, rf"^[+-]?((\d+{d}?\d*|{d}\d+)([eE][+-]?\d+)?|\d{{1,3}}([{groups}]\d{{3}})+({d}\d*)?)$"
        )
        kept = pc.replace_substring_regex(pc.if_else(right, cells, None), rf"[{groups}]", "")
        values = pc.cast(pc.replace_substring(kept, decimal, "."), pa.float64())
        values, infinite = _finite(values)
        return values, _mask(pc.invert(right)) | infinite


def numbers(column: Any, marks: Marks) -> Cells:
    """Numbers, or texts that spell one; flags and times are wrong."""
    kind = column.type
    if _is_text(kind):
        values, wrong = marks.numbers(_stripped(column))
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        given = pc.cast(column, pa.float64(), safe=False)
        values, _ = _finite(given)
        wrong = _mask(pc.is_inf(given))  # NaN is how an absent number is written there
    else:
        values, wrong = pa.nulls(len(column), pa.float64()), _mask(pc.is_valid(column))
    return Cells(values, {"is no number": wrong})


def times(column: Any, dates: str | None = None) -> Cells:
    """Dates and times: of such types, or texts as ISO 8601 or a `strptime` format have them."""
    kind = column.type
    if pa.types.is_date(kind):
        return Cells(pc.cast(pc.cast(column, pa.date32()), pa.timestamp("s")), {})
    if pa.types.is_timestamp(kind):
        zone = "UTC" if kind.tz else None
        return Cells(pc.cast(column, pa.timestamp("us", zone), safe=False), {})
    if not _is_text(kind):
        return Cells(pa.nulls(len(column), pa.timestamp("us")), {"is no date or time": _mask(pc.is_valid(column))})
    cells = _stripped(column)
    return _by_format(cells, dates) if dates else _iso(cells)


def texts(column: Any) -> Cells:
    """Texts without blanks around them."""
    return Cells(_stripped(_as_text(column)), {})


def ids(column: Any) -> Cells:
    """Ids as they are written; whole numbers lose a decimal point, and what has lost digits is wrong."""
    wrong = {}
    if pa.types.is_floating(column.type):
        values = pc.cast(column, pa.float64())
        lossy = pc.or_(pc.not_equal(pc.floor(values), values), pc.greater_equal(pc.abs(values), _EXACT))
        wrong["is a number with decimals or too many digits, so that it is not the id as it was"] = _mask(lossy)
        column = pc.if_else(pc.fill_null(lossy, False), None, values)
        column = pc.cast(column, pa.int64())
    cells = _stripped(_as_text(column))
    lost = pc.match_substring_regex(cells, r"^\d[.,]\d+E\+\d+$")
    wrong["was shortened by a spreadsheet, such as 4.00638E+12"] = _mask(lost)
    broken = pc.or_(pc.match_substring_regex(cells, r"[\x00-\x1f]"), pc.greater(pc.utf8_length(cells), LONGEST_ID))
    wrong[f"has a line break or more than {LONGEST_ID} characters, perhaps by a quote without end"] = _mask(broken)
    return Cells(pc.if_else(pc.fill_null(pc.or_(lost, broken), False), None, cells), wrong)


def flags(column: Any) -> Cells:
    """1.0 for true, 0.0 for false; of texts those of `yes`/`no`, `t`/`f` and `1`/`0`."""
    if pa.types.is_boolean(column.type) or not _is_text(column.type):
        column = _as_text(column)
    cells = pc.utf8_lower(_stripped(column))
    true, false = pc.is_in(cells, pa.array(_TRUE)), pc.is_in(cells, pa.array(_FALSE))
    values = pc.if_else(true, 1.0, pc.if_else(false, 0.0, pa.scalar(None, pa.float64())))
    return Cells(values, {"is neither true nor false": _mask(pc.and_(pc.is_valid(cells), pc.is_null(values)))})


def converted(column: Any, kind: Kind, *, marks: Marks, dates: str | None) -> Cells:
    """One column, of any type that Parquet, Excel, a database or a text gave, as its kind."""
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if pa.types.is_nested(column.type):
        return Cells(pa.nulls(len(column), pa.string()), {"is a list or a structure": _mask(pc.is_valid(column))})
    if kind == "number":
        return numbers(column, marks)
    if kind == "time":
        return times(column, dates)
    readers: dict[str, Callable[[Any], Cells]] = {"id": ids, "flag": flags, "text": texts}
    return readers[kind](column)


def _iso(cells: Any) -> Cells:
    for zone in (None, "UTC"):
        try:
            values = pc.cast(cells, pa.timestamp("us", zone))
        except pa.ArrowInvalid:
            continue
        days = zone is None and pc.all(pc.equal(pc.utf8_length(cells), 10), min_count=0).as_py()
        return Cells(pc.cast(values, pa.timestamp("s")) if days else values, {})
    shaped = _mask(pc.match_substring_regex(cells, _ISO.replace("(?P<zone>", "(")))
    zoned = _mask(pc.match_substring_regex(cells, _ZONED)) & shaped
    wrong = _mask(pc.is_valid(cells)) & ~shaped
    mixed = np.zeros(len(wrong), dtype=np.bool_)
    as_utc = bool(shaped.any() and zoned[np.flatnonzero(shaped)[0]])
    chosen = shaped & (zoned if as_utc else ~zoned)
    mixed = shaped & ~chosen
    series = pd.Series(cells.to_numpy(zero_copy_only=False), dtype=object).where(chosen)
    stamps = pd.to_datetime(series, format="ISO8601", errors="coerce", utc=as_utc)
    wrong |= chosen & stamps.isna().to_numpy()
    days = not as_utc and _mask(pc.equal(pc.utf8_length(cells), 10))[chosen].all()
    return Cells(
        _stamps(stamps, days=bool(days)),
        {
            "is no ISO 8601 date (text.dates sets another form)": wrong,
            "differs from the others in having a zone": mixed,
        },
    )


def _by_format(cells: Any, dates: str) -> Cells:
    series = pd.Series(cells.to_numpy(zero_copy_only=False), dtype=object)
    stamps = pd.to_datetime(series, format=dates, errors="coerce", utc="%z" in dates)
    wrong = _mask(pc.is_valid(cells)) & stamps.isna().to_numpy()
    return Cells(_stamps(stamps, days=not _CLOCK.search(dates)), {f"is no date of the form {dates}": wrong})


def _stamps(stamps: "pd.Series[Any]", *, days: bool) -> Any:
    zone = "UTC" if isinstance(stamps.dtype, pd.DatetimeTZDtype) else None
    return pa.array(stamps, pa.timestamp("us", zone), from_pandas=True).cast(pa.timestamp("s" if days else "us", zone))


def _stripped(column: Any) -> Any:
    """Texts without blanks around them and the ="…" that protects digits from Excel; null where nothing is left."""
    cells = pc.utf8_trim_whitespace(column)
    if pc.any(pc.starts_with(cells, '="'), min_count=0).as_py():
        cells = pc.replace_substring_regex(cells, r'^="(.*)"$', r"\1")
    empty = pc.is_in(cells, pa.array(["", "\\N"], cells.type))
    return pc.if_else(empty, None, cells) if pc.any(empty).as_py() else cells


def _bare(column: Any) -> Any:
    """Texts of numbers without currency signs, and with a plain minus in front.

    SAP writes the minus behind, and some write that of typography.
    """
    cells = pc.replace_substring(_stripped(_as_text(column)), "\u2212", "-")
    cells = pc.replace_substring_regex(cells, r"^([+-]?)[\p{Sc}\s\x{00a0}]+", r"\1")
    cells = pc.replace_substring_regex(cells, r"[\p{Sc}\s\x{00a0}]+$", "")
    return pc.replace_substring_regex(cells, r"^([^-+].*)-$", r"-\1")


def _first(cells: Any, pattern: str) -> str | None:
    found = cells.filter(pc.match_substring_regex(cells, pattern))
    return str(found[0].as_py()) if len(found) else None


def _finite(values: Any) -> tuple[Any, Bools]:
    """Numbers, with null in place of NaN and infinity, and where those were."""
    odd = pc.and_(pc.is_valid(values), pc.invert(pc.fill_null(pc.is_finite(values), True)))
    mask = _mask(odd)
    return (pc.if_else(odd, None, values) if mask.any() else values), mask


def _as_text(column: Any) -> Any:
    if _is_text(column.type):
        return column
    if pa.types.is_decimal(column.type):
        column = pc.cast(column, pa.float64())
    if pa.types.is_floating(column.type):
        whole = pc.all(pc.equal(pc.floor(column), column), min_count=0).as_py()
        column = pc.cast(column, pa.int64()) if whole else column
    return pc.cast(column, pa.string())


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _mask(found: Any) -> Bools:
    mask: Bools = pc.fill_null(found, False).to_numpy(zero_copy_only=False)
    return mask


def constant(value: str, kind: Kind) -> Any:
    """The value of a column that is not there, as its kind.

    Raises:
        ValueError: It is not one.
    """
    if kind in ("number", "flag"):
        return float(value)
    return dt.datetime.fromisoformat(value) if kind == "time" else value
