"""Convert raw cells to numbers, flags, days or names, and mark missing and unusable cells. Checks no rules."""

import datetime as dt
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.arrays import Bools

_MISSING = frozenset({"", "na", "n/a", "nan", "nat", "none", "null", "<na>"})
_FLAGS = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class Coerced:
    """One column after coercion."""

    # (row,) float64 numbers (NaN where unusable), datetime64[D] days (NaT), or codes of `names` (-1):
    values: NDArray[Any]
    missing: Bools  # (row,) True where the cell is empty
    wrong: Bools  # (row,) True where the cell cannot be read as the wanted kind
    names: tuple[str, ...] = ()  # distinct texts that `values` are codes of; empty for numbers and days
    dropped: int = 0  # rows whose time of day or zone was dropped


def numbers(column: "pd.Series[Any]") -> Coerced:
    """Read numbers and text that spells a number; bools are refused."""
    return _parsed(column, _number)


def flags(column: "pd.Series[Any]") -> Coerced:
    """Read 0 and 1, given as numbers, bools, or the words true and false."""
    return _parsed(column, lambda value: _FLAGS.get(str(value).strip().lower(), _number(value)))


def days(column: "pd.Series[Any]") -> Coerced:
    """Read days from dates, timestamps, ISO text, or numbers such as 20240131; day-month order is never guessed.

    Time of day and zone are dropped: the day counts as written.
    """
    codes, distinct = _factorize(column)
    stamps = [_stamp(value) for value in distinct]
    values = np.array([None if stamp is None else stamp.date() for stamp in stamps], dtype="datetime64[D]")
    timed = [stamp is not None and stamp.timetz() != dt.time() for stamp in stamps]
    dropped = int(_take(np.array(timed, np.bool_), codes, False).sum())
    return Coerced(_take(values, codes, np.datetime64("NaT")), *_faults(codes, distinct, stamps), dropped=dropped)


def names(column: "pd.Series[Any]") -> Coerced:
    """Read texts, stripped; whole numbers lose their decimal point, whatever type they came as."""
    codes, distinct = _factorize(column)
    texts = [_name(value) for value in distinct]
    if all(isinstance(value, str) for value in distinct) and all(re.fullmatch(r"\d+\.0", text) for text in texts):
        texts = [text[:-2] for text in texts]
    unique = tuple(dict.fromkeys(texts))
    rank = {text: code for code, text in enumerate(unique)}
    values = _take(np.array([rank[text] if text else -1 for text in texts], dtype=np.int64), codes, -1)
    return Coerced(values, values < 0, np.zeros(len(values), dtype=np.bool_), unique)


def _parsed(column: "pd.Series[Any]", parse: Callable[[Any], float | None]) -> Coerced:
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        return Coerced(values, np.isnan(values), np.zeros(len(values), dtype=np.bool_))
    codes, distinct = _factorize(column)
    parsed = [parse(value) for value in distinct]
    values = np.array([np.nan if number is None else number for number in parsed], dtype=np.float64)
    return Coerced(_take(values, codes, np.nan), *_faults(codes, distinct, parsed))


def _faults(codes: NDArray[np.int64], distinct: list[Any], parsed: Sequence[Any]) -> tuple[Bools, Bools]:
    """(row,) whether a cell is empty, and whether it holds what cannot be read."""
    empty = np.array([value is None or str(value).strip().lower() in _MISSING for value in distinct], dtype=np.bool_)
    wrong = np.array([value is None for value in parsed], dtype=np.bool_) & ~empty
    return _take(empty, codes, True), _take(wrong, codes, False)


def _factorize(column: "pd.Series[Any]") -> tuple[NDArray[np.int64], list[Any]]:
    try:
        codes, distinct = pd.factorize(column)
    except TypeError:  # a cell holds a list or a mapping
        codes, distinct = pd.factorize(column.map(lambda value: value if isinstance(value, Hashable) else str(value)))
    return codes, list(distinct)


def _take(values: NDArray[Any], codes: NDArray[np.int64], absent: Any) -> NDArray[Any]:
    """Return `values` by code; `absent` where the code is -1."""
    return np.append(values, np.array([absent], dtype=values.dtype))[codes]


def _number(value: Any) -> float | None:
    if isinstance(value, bool | np.bool_):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return None if np.isnan(number) or (isinstance(value, str) and "_" in value) else number


def _stamp(value: Any) -> dt.datetime | None:
    if isinstance(value, dt.datetime):
        return value
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    try:
        return dt.datetime.fromisoformat(str(value).strip())
    except ValueError:
        return None


def _name(value: Any) -> str:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()
