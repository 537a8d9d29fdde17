"""Read times of a source as days and seconds of the shop's time zone. No clock."""

import datetime as dt
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.arrays import Bools
from pricing.data import coerce

DAY_SECONDS = 86_400
FIRST_DAY = np.datetime64("1970-01-01", "D").astype(np.int64)
LAST_DAY = np.datetime64("2199-12-31", "D").astype(np.int64)
_ZONED = re.compile(r"\d:\d.*(?:Z|[+-]\d\d(?::?\d\d)?)$")
_SHORTEST = 8  # characters of a day such as 20240131; a shorter text, such as 2024, is none
_MICROSECONDS = 1_000_000


@dataclass(frozen=True)
class LocalTimes:
    """Times in the shop's zone.

    Attributes:
        days: (row,) days since 1970; 0 where missing or wrong.
        seconds: (row,) seconds since midnight by the clock on the wall, 0 to 86,399.
        missing: (row,) True where the cell is empty.
        wrong: (row,) True where it is no time between 1970 and 2199.
        notes: (what was decided, number of rows) for times that the clocks' change makes ambiguous or skips.
    """

    days: NDArray[np.int64]
    seconds: NDArray[np.int64]
    missing: Bools
    wrong: Bools
    notes: tuple[tuple[str, int], ...] = ()

    @property
    def usable(self) -> Bools:
        """(row,) neither missing nor wrong."""
        return ~(self.missing | self.wrong)


def local_times(column: "pd.Series[Any]", *, zone: str, own_zone: str | None = None) -> LocalTimes:
    """Read times and tell their day in the shop's zone.

    A time with a zone or an offset is an instant, and has the day that the shop's clocks show then. A time without one
    is read by the clocks of `own_zone`: where these are the shop's, the day is as written. A day without a time of day
    is the shop's day, whatever `own_zone` is.

    Args:
        column: Timestamps (of whole seconds where all are dates), dates, ISO 8601 texts with or without zone (also
            mixed), or numbers such as 20240131.
        zone: The shop's.
        own_zone: The zone of times without one; None: the shop's. By its clocks, an hour that comes twice is the first
            of the two, and a time that is skipped is as much later as the clocks were put forward.
    """
    wall, instant, dated, missing, wrong = _read(column)
    notes: tuple[tuple[str, int], ...] = ()
    if own_zone is not None and own_zone != zone:
        naive = ~(instant | dated | missing | wrong)
        if naive.any():
            wall = wall.copy()
            wall[naive], notes = _instants(wall[naive], own_zone)
            instant = instant | naive
    if instant.any():
        utc = pd.DatetimeIndex(wall[instant]).tz_localize("UTC")
        wall = wall.copy()
        wall[instant] = utc.tz_convert(zone).tz_localize(None).to_numpy().astype("datetime64[us]")
    micros = np.where(np.isnat(wall), 0, wall.astype(np.int64))
    days, rest = np.divmod(micros, DAY_SECONDS * _MICROSECONDS)
    far = ~missing & ~wrong & ((days < FIRST_DAY) | (days > LAST_DAY))
    unusable = missing | wrong | far
    days[unusable] = 0
    rest[unusable] = 0
    return LocalTimes(days, rest // _MICROSECONDS, missing, wrong | far, notes)


def _read(column: "pd.Series[Any]") -> tuple[NDArray[np.datetime64], Bools, Bools, Bools, Bools]:
    """Times as datetime64[us]; whether each is UTC, has no time of day, is missing, is wrong. Others are wall times."""
    dtype = column.dtype
    none = np.zeros(len(column), dtype=np.bool_)
    if isinstance(dtype, pd.DatetimeTZDtype):
        utc = column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy().astype("datetime64[us]")
        missing = np.isnat(utc)
        return utc, ~missing, none, missing, none
    if pd.api.types.is_datetime64_dtype(dtype):
        wall = column.to_numpy().astype("datetime64[us]")
        missing = np.isnat(wall)
        # Sources are read to timestamps of seconds where all their cells are dates.
        seconds = np.datetime_data(column.to_numpy().dtype)[0] == "s"
        dates = seconds and bool((wall.astype("datetime64[D]") == wall)[~missing].all())
        return wall, none, ~missing if dates else none, missing, none
    if pd.api.types.is_bool_dtype(dtype):
        missing = column.isna().to_numpy(dtype=np.bool_)
        return np.full(len(column), np.datetime64("NaT"), "datetime64[us]"), none, none, missing, ~missing
    if pd.api.types.is_numeric_dtype(dtype):
        cells = coerce.days(column)
        return cells.values.astype("datetime64[us]"), none, ~cells.missing & ~cells.wrong, cells.missing, cells.wrong
    return _read_objects(column)


def _read_texts(column: "pd.Series[Any]") -> tuple[NDArray[np.datetime64], Bools, Bools, Bools, Bools]:
    texts = column.str.strip()
    missing = (texts.isna() | texts.str.lower().isin(["", "na", "n/a", "nan", "nat", "none", "null", "<na>"])).to_numpy(
        dtype=np.bool_
    )
    # utc=True: a text with a zone becomes UTC, one without stays as written.
    read = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")
    wall = read.dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    timed = texts.str.contains(":", regex=False).fillna(False).to_numpy(dtype=np.bool_)
    zoned = np.zeros(len(texts), dtype=np.bool_)
    if timed.any():
        zoned = texts.str.contains(_ZONED).fillna(False).to_numpy(dtype=np.bool_)
    short = (texts.str.len() < _SHORTEST).fillna(False).to_numpy(dtype=np.bool_)
    wrong = ~missing & (np.isnat(wall) | short)
    return wall, zoned & ~wrong, ~timed & ~missing & ~wrong, missing, wrong


def _read_datetimes(
    column: "pd.Series[Any]",
) -> tuple[NDArray[np.datetime64], Bools, Bools, Bools, Bools]:
    """Datetime objects, as database drivers give them: their offsets differ over the year."""
    zoned = np.fromiter((getattr(value, "tzinfo", None) is not None for value in column), np.bool_, len(column))
    # utc=True: one with a zone becomes UTC, one without stays as written.
    wall = pd.to_datetime(column, utc=True, errors="coerce").dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    missing = column.isna().to_numpy(dtype=np.bool_)
    none = np.zeros(len(column), dtype=np.bool_)
    return wall, zoned & ~missing, none, missing, np.isnat(wall) & ~missing


def _read_objects(
    column: "pd.Series[Any]",
) -> tuple[NDArray[np.datetime64], Bools, Bools, Bools, Bools]:
    """Texts, datetime objects, or cells of several kinds."""
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind == "empty":
        none = np.zeros(len(column), dtype=np.bool_)
        return np.full(len(column), np.datetime64("NaT"), "datetime64[us]"), none, none, ~none, none
    if kind == "string":
        return _read_texts(column.astype("str"))
    if kind == "datetime":
        return _read_datetimes(column)
    texts = [_written(value) for value in column]
    return _read_texts(pd.Series(texts, dtype="str"))


def _written(value: Any) -> str | None:
    if isinstance(value, dt.datetime):
        return None if value is pd.NaT else value.isoformat(sep=" ")
    if isinstance(value, dt.date):
        return value.isoformat()
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, float | np.floating):
        return None if np.isnan(value) else str(int(value)) if float(value).is_integer() else str(value)
    return str(value)


def _instants(wall: NDArray[np.datetime64], zone: str) -> tuple[NDArray[np.datetime64], tuple[tuple[str, int], ...]]:
    """Wall times of a zone as UTC."""
    times = pd.DatetimeIndex(wall)
    first = times.tz_localize(zone, ambiguous=np.ones(len(times), dtype=np.bool_), nonexistent="shift_forward")
    # pandas shifts to the end of the gap; a clock that was not put forward shows a time within it.
    skipped = times.tz_localize(zone, ambiguous=np.ones(len(times), dtype=np.bool_), nonexistent="NaT").isna()
    utc = first.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]")
    if skipped.any():
        early = times[skipped] - pd.Timedelta(hours=3)
        before = early.tz_localize(zone, ambiguous=np.ones(len(early), dtype=np.bool_), nonexistent="shift_forward")
        utc[skipped] = (before + pd.Timedelta(hours=3)).tz_convert("UTC").tz_localize(None).to_numpy()
    second = times.tz_localize(zone, ambiguous=np.zeros(len(times), dtype=np.bool_), nonexistent="shift_forward")
    twice = int(np.count_nonzero(first != second))
    counts = (
        (f"times that {zone} has twice read as the first of the two", twice),
        (f"times that {zone} skips read by the clocks before the change", int(np.count_nonzero(skipped))),
    )
    return utc, tuple((what, count) for what, count in counts if count)
