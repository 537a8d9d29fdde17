"""The data contract: read the cells of every row of sales, check types, ranges and uniqueness, count violations."""

import datetime as dt
import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray

from pricing.arrays import Bools, weekday_of
from pricing.data.calendar import WEEKDAYS
from pricing.data.net_price import HIGHEST_TAX
from pricing.data.panel import LONGEST_AGE, Period
from pricing.errors import ContractError, Violation, nearest

LARGEST = 1e9
"""The largest price, in currency units, and the most units a row may hold."""
LONGEST_ID = 200
"""The longest product_id, in characters."""
FAR_DAYS = 1096
"""A gap of more than this many days between distinct dates; dates beyond it, away from the bulk, are typing errors."""


@dataclass(frozen=True)
class Column:
    """Requirements on the cells of one column."""

    kind: Literal["day", "name", "number", "flag"]  # how cells are read
    needed: bool = False  # whether the column is required and every cell must be filled
    above_zero: bool = False  # for numbers, whether 0 is refused
    most: float = LARGEST  # for numbers, the largest one
    hint: str = ""  # what is added to the rule that names `most`


COLUMNS = {
    "date": Column("day", needed=True),
    "product_id": Column("name", needed=True),
    "units_sold": Column("number", needed=True),
    "price": Column("number", needed=True, above_zero=True),
    "category": Column("name"),
    "list_price": Column("number", above_zero=True),
    "unit_cost": Column("number", above_zero=True),
    "stock": Column("number"),
    "available": Column("number", most=1.0, hint=": 50 looks like per cent: write 0.50"),
    "comp_price": Column("number", above_zero=True),
    "comp_price_age": Column("number", most=LONGEST_AGE),
    "tax_rate": Column("number", most=HIGHEST_TAX, hint=": 20 looks like per cent: write 0.20"),
    "is_promo": Column("flag"),
    "is_holiday": Column("flag"),
    "parent_id": Column("name"),
    "name": Column("name"),  # shown to people alone
}
_MISSING = frozenset({"", "na", "n/a", "nan", "nat", "none", "null", "<na>"})
_FLAGS = {"true": 1.0, "false": 0.0}
_FIELDS = "a line must have as many fields as the header"


@dataclass(frozen=True)
class Coerced:
    """One column after coercion."""

    # (row,) float64 numbers (NaN where unusable), datetime64[D] days (NaT), or codes of `names` (-1):
    values: NDArray[Any]
    missing: Bools  # (row,) True where the cell is empty
    wrong: Bools  # (row,) True where the cell cannot be read as the wanted kind
    names: tuple[str, ...] = ()  # distinct texts that `values` are codes of; empty for numbers and days
    dropped: int = 0  # rows whose time of day or zone was dropped


def read_numbers(column: "pd.Series[Any]") -> Coerced:
    """Read numbers and text that spells a number; bools are refused."""
    return _parsed(column, _number)


def read_flags(column: "pd.Series[Any]") -> Coerced:
    """Read 0 and 1, given as numbers, bools, or the words true and false."""
    return _parsed(column, lambda value: _FLAGS.get(str(value).strip().lower(), _number(value)))


def read_days(column: "pd.Series[Any]", zone: dt.tzinfo | None = None) -> Coerced:
    """Read days from dates, timestamps, ISO text, or numbers such as 20240131; day-month order is never guessed.

    A time that names its zone is of the day that it was in the shop's `zone`; without one the day counts as written.
    """
    codes, distinct = _factorize(column)
    stamps = [_stamp(value) for value in distinct]
    days = [None if stamp is None else _day_of(stamp, zone) for stamp in stamps]
    timed = [stamp is not None and (stamp.tzinfo, stamp.time()) != (None, dt.time()) for stamp in stamps]
    dropped = int(_by_code(timed, codes, False, np.bool_).sum())
    return _coerced(codes, distinct, days, "datetime64[D]", dropped=dropped)


def read_names(column: "pd.Series[Any]") -> Coerced:
    """Read texts, stripped; whole numbers lose their decimal point, whatever type they came as."""
    codes, distinct = _factorize(column)
    texts = [_name(value) for value in distinct]
    if all(isinstance(value, str) for value in distinct) and all(re.fullmatch(r"\d+\.0", text) for text in texts):
        texts = [text[:-2] for text in texts]
    rank = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    values = _by_code([rank[text] if text else -1 for text in texts], codes, -1, np.int64)
    return Coerced(values, values < 0, np.zeros(len(values), dtype=np.bool_), tuple(rank))


def _parsed(column: "pd.Series[Any]", parse: Callable[[Any], float | None]) -> Coerced:
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        return Coerced(values, np.isnan(values), np.zeros(len(values), dtype=np.bool_))
    codes, distinct = _factorize(column)
    return _coerced(codes, distinct, [parse(value) for value in distinct], np.float64)


def _coerced(
    codes: NDArray[np.int64], distinct: list[Any], parsed: list[Any], dtype: DTypeLike, *, dropped: int = 0
) -> Coerced:
    """Give each row what its distinct cell was parsed as; None is a cell that is empty or cannot be read."""
    empty = [value is None or str(value).strip().lower() in _MISSING for value in distinct]
    wrong = [value is None and not blank for value, blank in zip(parsed, empty, strict=True)]
    return Coerced(
        _by_code(parsed, codes, None, dtype),
        _by_code(empty, codes, True, np.bool_),
        _by_code(wrong, codes, False, np.bool_),
        dropped=dropped,
    )


def _factorize(column: "pd.Series[Any]") -> tuple[NDArray[np.int64], list[Any]]:
    try:
        codes, distinct = pd.factorize(column)
    except TypeError:  # a cell holds a list or a mapping
        codes, distinct = pd.factorize(column.map(lambda value: value if isinstance(value, Hashable) else str(value)))
    return codes, list(distinct)


def _by_code(values: list[Any], codes: NDArray[np.int64], absent: Any, dtype: DTypeLike) -> NDArray[Any]:
    """(row,) values by code; `absent` where the code is -1, which takes the last."""
    return np.array([*values, absent], dtype=dtype)[codes]


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


def _day_of(stamp: dt.datetime, zone: dt.tzinfo | None) -> dt.date:
    there = stamp if stamp.tzinfo is None or zone is None else stamp.astimezone(zone)
    return there.date()


def _name(value: Any) -> str:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


_READERS = {"name": read_names, "number": read_numbers, "flag": read_flags}
_WANTED = {"day": "an ISO day such as 2024-01-31", "name": "a text", "number": "a number", "flag": "0 or 1"}


@dataclass(frozen=True)
class Checked:
    """Result of the check."""

    # Rows that satisfy the contract, its columns only, coerced; product_id and category are categoricals:
    clean: pd.DataFrame
    violations: tuple[Violation, ...]  # rules that the other rows break
    bad_rows: pd.DataFrame  # those rows as read, with their number (`row`; the first after a header is 1) and `reasons`
    notes: tuple[str, ...]  # what was ignored or converted with loss, one sentence each
    numbers: NDArray[np.int64]  # (row,) number of each clean row in the sales

    def without(self, broken: Bools, *, rule: str) -> "Checked":
        """Move more clean rows to `bad_rows`, for a rule that compares rows with each other; `broken` is (row,)."""
        bad = self.clean[broken].assign(reasons=rule)
        bad.insert(0, "row", self.numbers[broken])
        found = Violation(rule, len(bad), _offender(bad, bad["row"].iloc[0], 0, "price"))
        known = [frame for frame in (self.bad_rows, bad.astype({"product_id": object})) if not frame.empty]
        return Checked(
            self.clean[~broken],
            (*self.violations, found),
            pd.concat(known, ignore_index=True).sort_values("row", kind="stable", ignore_index=True),
            self.notes,
            self.numbers[~broken],
        )


def check(frame: pd.DataFrame, *, where: str, period: Period = "day", zone: dt.tzinfo | None = None) -> Checked:
    """Check every row against the contract.

    Args:
        frame: Rows as read; not modified. Its `attrs` may list what could not be read: see `pricing.data.source`.
        where: Name of these sales in messages.
        period: The grain that the rows should have.
        zone: The shop's time zone, for times that name theirs.

    Raises:
        ContractError: The table as a whole is invalid: no rows, a required column absent, a column that occurs twice,
            or a weekly table where a daily one was expected.

    Example:
        >>> import pandas as pd
        >>> from pricing.data.contract import check
        >>> days = ["2026-03-02", "2026-03-03", "2026-03-04"]
        >>> sales = pd.DataFrame({"date": days, "product_id": "tea", "units_sold": [12, -3, 9], "price": 4.99})
        >>> checked = check(sales, where="sales.csv")
        >>> len(checked.clean), len(checked.bad_rows), checked.violations[0].rule
        (2, 1, 'units_sold must be at least 0')
    """
    whole = unusable(frame, COLUMNS)
    if frame.empty and not whole:
        whole.append(Violation("there must be rows", 0, "found none"))
    if whole:
        raise ContractError(where, whole)

    faults = Faults(frame, zone)
    others = [*(str(name) for name in frame.columns if name not in COLUMNS), *frame.attrs.get("left_out", ())]
    if others:
        faults.notes.append(f"columns that the contract does not know are ignored: {', '.join(others)}.")
    clean = faults.read(COLUMNS)
    for rule, broken in _date_rules(clean["date"], period, where):
        faults.add(rule, broken, "date")
    table = pd.DataFrame(clean, copy=False)
    faults.add("(product_id, date) must be unique", _repeats(table, ~faults.bad), "product_id")

    good = ~faults.bad
    return Checked(
        table if good.all() else table[good],
        faults.violations(),
        faults.rows(),
        tuple(faults.notes),
        faults.numbers[good],
    )


class Faults:
    """Collects a table's violations rule by rule."""

    def __init__(self, frame: pd.DataFrame, zone: dt.tzinfo | None = None) -> None:
        self.frame = frame
        self.zone = zone
        self.notes: list[str] = []  # what was converted with loss, one sentence each
        self.damaged: list[tuple[int, str]] = [(line - 1, text) for line, text in frame.attrs.get("damaged", [])]
        numbers = np.arange(1, len(frame) + len(self.damaged) + 1)
        self.numbers = np.delete(numbers, [number - 1 for number, _ in self.damaged])  # (row,) as in the file
        self.bad = np.zeros(len(frame), dtype=np.bool_)
        self.rules: list[tuple[str, NDArray[np.int64], str]] = []

    def read(self, columns: Mapping[str, Column]) -> dict[str, Any]:
        """Read the columns that the table has, and check each cell on its own."""
        clean: dict[str, Any] = {}
        for name, column in columns.items():
            if name not in self.frame:
                continue
            if column.kind == "day":
                cells = read_days(self.frame[name], self.zone)
            else:
                cells = _READERS[column.kind](self.frame[name])
            if cells.dropped:
                self.notes.append(f"{name}: a time of day or zone is dropped on {cells.dropped:,} rows.")
            self.add(f"{name} must be {_WANTED[column.kind]}", cells.wrong, name)
            if column.needed:
                self.add(f"{name} must not be missing", cells.missing, name)
            for rule, broken in _ranges(name, column, cells):
                self.add(rule, broken & ~cells.missing & ~cells.wrong, name)
            clean[name] = _clean(column, cells)
        return clean

    def add(self, rule: str, broken: Bools, column: str) -> None:
        """Count the (row,) `broken` ones; the first is shown with its cell of `column`."""
        if broken.any():
            self.rules.append((rule, np.flatnonzero(broken), column))
            self.bad |= broken

    def violations(self) -> tuple[Violation, ...]:
        """Return what was found, by rule; lines that could not be read come first."""
        found = []
        if self.damaged:
            number, text = self.damaged[0]
            found.append(Violation(_FIELDS, len(self.damaged), f"row {number} ({_show(text)})"))
        for rule, rows, column in self.rules:
            offender = _offender(self.frame, self.numbers[rows[0]], rows[0], column)
            found.append(Violation(rule, len(rows), offender))
        return tuple(found)

    def rows(self) -> pd.DataFrame:
        """Return the bad rows as read, with their number and `reasons`."""
        positions = np.flatnonzero(self.bad)
        reasons = pd.Series("", index=positions, dtype=object)
        for rule, rows, _ in self.rules:
            reasons[rows] = reasons[rows].where(reasons[rows] == "", reasons[rows] + "; ") + rule
        bad = self.frame.iloc[positions].assign(reasons=reasons.to_numpy())
        bad.insert(0, "row", self.numbers[positions])
        lines = pd.DataFrame(self.damaged, columns=["row", "line"]).assign(reasons=_FIELDS)
        return pd.concat([bad, lines] if self.damaged else [bad], ignore_index=True)


def _offender(frame: pd.DataFrame, number: int, row: int, column: str) -> str:
    named = ", ".join(
        f"{name} {_show(frame[name].iloc[row])}"
        for name in dict.fromkeys(["product_id", "date", column])
        if name in frame
    )
    return f"row {number} ({named})"


def _show(value: Any) -> str:
    if isinstance(value, pd.Timestamp):
        return str(value.date()) if value == value.normalize() else value.isoformat()
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 60 else text[:57] + "…"


def unusable(frame: pd.DataFrame, columns: Mapping[str, Column]) -> list[Violation]:
    """Name the columns that a table has twice, and needed ones that it lacks, each with the likely other name of it."""
    names = [str(name) for name in frame.columns]
    twice = {name: names.count(name) for name in columns if names.count(name) > 1}
    faults = [
        Violation(f"column {name} must occur once", 0, f"it occurs {count} times") for name, count in twice.items()
    ]
    names += frame.attrs.get("left_out", ())
    for name, column in columns.items():
        if column.needed and name not in names:
            near = nearest(name, (other for other in names if other not in columns), cutoff=0.5)
            hint = f"; rename {near!r} if that is it" if near else ""
            faults.append(Violation(f"column {name} must be there", 0, f"found {', '.join(names) or 'none'}{hint}"))
    return faults


def _ranges(name: str, column: Column, cells: Coerced) -> list[tuple[str, Bools]]:
    """List the rules on a cell's value, each with the (row,) that break it; unreadable cells may be among them."""
    values = cells.values
    if column.kind == "number":
        with np.errstate(over="ignore", under="ignore"):
            values = values.astype(np.float32)  # as in the panel, where a price of 1e-60 is 0
        least = "above" if column.above_zero else "at least"
        return [
            (f"{name} must be {least} 0", values <= 0 if column.above_zero else values < 0),
            (f"{name} must be finite and at most {column.most:,.0f}{column.hint}", values > column.most),
        ]
    if column.kind == "flag":
        return [(f"{name} must be 0 or 1", (values != 0) & (values != 1))]
    if column.kind == "name" and name != "name":  # a long one is cut where it is kept
        long = _by_code([len(text) > LONGEST_ID for text in cells.names], values, False, np.bool_)
        return [(f"{name} must have at most {LONGEST_ID} characters", long)]
    return []


def _clean(column: Column, cells: Coerced) -> Any:
    if column.kind == "name":
        return pd.Categorical.from_codes(cells.values, categories=pd.Index(cells.names, dtype=object))
    with np.errstate(over="ignore", under="ignore"):
        return cells.values.astype("datetime64[s]" if column.kind == "day" else np.float32)


def _date_rules(dates: NDArray[np.datetime64], period: Period, where: str) -> list[tuple[str, Bools]]:
    """Find dates far from the others, and those off the first day of weeks; each rule with the (row,) that break it.

    Raises ContractError where the table as a whole is of another period.
    """
    codes, numbers = pd.factorize(dates.astype("datetime64[D]").astype(np.int64), sort=True)
    distinct = numbers.astype("datetime64[D]")  # NaT comes first
    rows = np.bincount(codes)
    known = ~np.isnat(distinct)
    if not known.any():
        return []

    groups = np.cumsum(np.diff(distinct, prepend=distinct[0]) > np.timedelta64(FAR_DAYS, "D"))
    bulk = np.bincount(groups[known], weights=rows[known]).argmax()
    far = known & (groups != bulk)
    rules = [(f"date must lie within {FAR_DAYS // 365} years of the bulk of the dates", far[codes])]

    near = known & ~far
    weekdays = weekday_of(distinct)
    by_weekday = np.bincount(weekdays[near], weights=rows[near], minlength=7)
    used = np.count_nonzero(by_weekday)
    if period == "week":
        first = int(by_weekday.argmax())
        if 2 * by_weekday[first] < by_weekday.sum():
            fault = f"they fall on {used} weekdays; for daily sales leave data.period at day"
            raise ContractError(where, [Violation("dates must be weeks (data.period is week)", 0, fault)])
        rule = f"a weekly date must be the first day of its week (here {WEEKDAYS[first]})"
        rules.append((rule, (near & (weekdays != first))[codes]))
    elif used == 1 and near.sum() >= 4:
        fault = f"all {int(near.sum())} dates fall on one weekday; for weekly sales set data.period to week"
        raise ContractError(where, [Violation("dates must be days (data.period is day)", 0, fault)])
    return rules


def _repeats(table: pd.DataFrame, good: Bools) -> Bools:
    """Mark later copies of identical rows, and all rows of a (product, date) whose rows differ."""
    keys = table.loc[good, ["product_id", "date"]]
    repeated = table.loc[keys.index[keys.duplicated(keep=False)]]
    copies = repeated.duplicated()
    differ = repeated[~copies].duplicated(["product_id", "date"], keep=False)
    broken = np.zeros(len(table), dtype=np.bool_)
    broken[[*copies.index[copies], *differ.index[differ]]] = True
    return broken
