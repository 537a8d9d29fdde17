"""Read and check the user's calendar tables: events, planned promotions and deliveries."""

import logging
import re

import numpy as np
import pandas as pd

from pricing.data.deliveries import Deliveries
from pricing.data.etl_output import plan_of
from pricing.data.promotions import Promotions
from pricing.data.source import read_sales
from pricing.errors import PlanError, SourceError, Violation, nearest
from pricing.fileio import redact_url

_log = logging.getLogger(__name__)

_DAYS = ("date", "first", "last", "last_date")  # columns
_DAY = re.compile(r"^(\d{4}-\d{2}-\d{2})(?:[T ]\d{2}:\d{2}.*)?$")


def read_promotions(where: str) -> Promotions:
    """Read planned promotions: product_id, first, last.

    Args:
        where: A file, folder or URL that `pricing.data.source.read_sales` takes.

    Raises:
        SourceError: The table does not exist or cannot be read.
        PlanError: A column is missing, or rows lack a product or a usable date; violations are counted.
    """
    frame = read_plan(where, key="data.promotions", needed=("product_id", "first", "last"))
    return Promotions(
        frame["product_id"].to_numpy(np.str_),
        frame["first"].to_numpy().astype("datetime64[D]"),
        frame["last"].to_numpy().astype("datetime64[D]"),
    )


def read_deliveries(where: str) -> Deliveries:
    """Read planned deliveries: product_id, date. Several of one product and day are one.

    Args:
        where: As `read_promotions` takes it.

    Raises:
        SourceError: As `read_promotions`, and so PlanError.
    """
    frame = read_plan(where, key="data.deliveries", needed=("product_id", "date"), names_unread=True)
    frame = frame.drop_duplicates(ignore_index=True)
    return Deliveries(frame["product_id"].to_numpy(np.str_), frame["date"].to_numpy().astype("datetime64[D]"))


def read_plan(
    where: str, *, key: str, needed: tuple[str, ...], optional: tuple[str, ...] = (), names_unread: bool = False
) -> pd.DataFrame:
    """Read a table whose columns date, first, last and last_date are days and whose others are texts.

    Args:
        where: A file, folder or URL that `read_sales` takes, or `etl`, for what it made of the table of that name.
        key: The setting that names it, for messages.
        needed: Columns that must be there and filled, the first day before the last one.
        optional: Columns that may be absent or empty; an absent text is empty, an absent last day the first one.
        names_unread: Whether columns beyond those are named in the log.

    Raises:
        SourceError: The table does not exist or cannot be read.
        PlanError: A column is missing or rows are invalid; violations are counted by rule.
    """
    try:
        raw = read_sales(plan_of(where, key.rpartition(".")[2]), texts=_DAYS)
    except SourceError as error:
        raise SourceError(f"{key}: {error}") from error
    shown = redact_url(where)
    _check_columns(raw, needed, optional, where=shown, key=key)
    unread = [str(name) for name in raw.columns if name not in (*needed, *optional)]
    if names_unread and unread:
        _log.info("%s: the columns %s of %s are not read", key, ", ".join(unread), shown)
    columns: dict[str, pd.Series] = {}
    faults: list[Violation] = []
    for name in (*needed, *optional):
        cells = raw[name] if name in raw else pd.Series(None, index=raw.index, dtype=object)
        empty = cells.isna() | (cells.astype(str).str.strip() == "")
        if name in needed and empty.any():
            faults.append(_fault(f"{name} must not be missing", empty, raw))
        if name not in _DAYS:
            columns[name] = cells.astype(str).str.strip().where(~empty, "")
            continue
        # A time or an offset is dropped: the day counts as written, whatever the zone.
        written = cells.astype(str).str.strip().str.extract(_DAY, expand=False)
        days = pd.to_datetime(written.where(~empty), format="%Y-%m-%d", errors="coerce")
        wrong = days.isna() & ~empty
        if wrong.any():
            faults.append(_fault(f"{name} must be an ISO day such as 2026-11-27", wrong, raw, column=name))
        columns[name] = days
    for first, last in (("date", "last_date"), ("first", "last")):
        if last in columns:
            columns[last] = columns[last].fillna(columns[first])
            if (late := columns[last] < columns[first]).any():
                faults.append(_fault(f"{last} must not come before {first}", late, raw, column=last))
    if faults:
        raise PlanError(shown, key=key, violations=faults)
    return pd.DataFrame(columns)


def _check_columns(
    raw: pd.DataFrame, needed: tuple[str, ...], optional: tuple[str, ...], *, where: str, key: str
) -> None:
    names = [str(name) for name in raw.columns]
    faults = []
    for name in needed:
        if name in names:
            continue
        near = nearest(name, (other for other in names if other not in needed), cutoff=0.5)
        hint = f"; rename {near!r} if that is it" if near else ""
        faults.append(Violation(f"column {name} must be there", 0, f"found {', '.join(names) or 'none'}{hint}"))
    for name in optional:
        if name in names:
            continue
        near = nearest(name, (other for other in names if other not in needed), cutoff=0.8)
        if near:
            faults.append(Violation(f"column {near} is none that is read", 0, f"rename it {name!r} if that is it"))
    if faults:
        raise PlanError(where, key=key, violations=faults)


def _fault(rule: str, broken: "pd.Series[bool]", raw: pd.DataFrame, *, column: str = "") -> Violation:
    row = int(np.argmax(broken.to_numpy()))
    found = f" ({column} {str(raw[column].iloc[row])!r})" if column else ""
    return Violation(rule, int(broken.sum()), f"row {row + 1}{found}")
