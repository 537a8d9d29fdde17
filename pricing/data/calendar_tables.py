"""Read and check the user's calendar tables: events, planned promotions and deliveries."""

from typing import Any

import numpy as np
import pandas as pd

from pricing.arrays import Bools
from pricing.data import coerce
from pricing.data.contract import absent
from pricing.data.etl_output import plan_of
from pricing.data.plans import Deliveries, Promotions
from pricing.data.source import read_sales
from pricing.errors import PlanError, SourceError, Violation, nearest
from pricing.fileio import redact_url

_DAYS = ("date", "first", "last", "last_date")  # columns


def read_promotions(where: str) -> Promotions:
    """Read planned promotions, of product_id, first and last; see `read_plan`."""
    plan = read_plan(where, key="data.promotions", needed=("product_id", "first", "last"))
    first, last = (plan[name].to_numpy("M8[D]") for name in ("first", "last"))
    return Promotions(plan["product_id"].to_numpy(np.str_), first, last)


def read_deliveries(where: str) -> Deliveries:
    """Read planned deliveries, of product_id and date; several of one product and day are one."""
    plan = read_plan(where, key="data.deliveries", needed=("product_id", "date")).drop_duplicates(ignore_index=True)
    return Deliveries(plan["product_id"].to_numpy(np.str_), plan["date"].to_numpy("M8[D]"))


def read_plan(where: str, *, key: str, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> pd.DataFrame:
    """Read a table whose columns date, first, last and last_date are days and whose others are texts.

    Args:
        where: What `read_sales` takes, or `etl`, for what it made of the table of that name.
        key: The setting that names it.
        needed: Columns that must be there and filled, the first day before the last one.
        optional: Columns that may be absent or empty; an absent text is empty, an absent last day the first one.

    Raises:
        SourceError: The table cannot be read.
        PlanError: A column is missing or rows are invalid; violations are counted by rule.
    """
    try:
        raw = read_sales(plan_of(where, key.rpartition(".")[2]))
    except SourceError as error:
        raise SourceError(f"{key}: {error}") from error
    names = [str(name) for name in raw.columns]
    faults = absent(names, needed, ours=needed)
    for name in optional:
        if name not in names and (near := nearest(name, (one for one in names if one not in needed), cutoff=0.8)):
            faults.append(Violation(f"column {near} is none that is read", 0, f"rename it {name!r} if that is it"))
    columns: dict[str, Any] = {}
    for name in (*needed, *optional) if not faults else ():
        cells = raw[name] if name in raw else pd.Series(None, index=raw.index, dtype=object)
        read = coerce.days(cells) if name in _DAYS else coerce.names(cells)
        if name in needed and read.missing.any():
            faults.append(_fault(f"{name} must not be missing", read.missing))
        if read.wrong.any():
            faults.append(_fault(f"{name} must be an ISO day such as 2026-11-27", read.wrong, cells))
        columns[name] = read.values if name in _DAYS else np.array([*read.names, ""])[read.values]
    for first, last in (("date", "last_date"), ("first", "last")):
        if last in columns:
            columns[last] = np.where(np.isnat(columns[last]), columns[first], columns[last])
            if (late := columns[last] < columns[first]).any():
                faults.append(_fault(f"{last} must not come before {first}", late, raw[last]))
    if faults:
        raise PlanError(redact_url(where), key=key, violations=faults)
    return pd.DataFrame(columns)


def _fault(rule: str, broken: Bools, cells: "pd.Series[Any] | None" = None) -> Violation:
    row = int(np.argmax(broken))
    found = "" if cells is None else f" ({cells.name} {str(cells.iloc[row])!r})"
    return Violation(rule, int(broken.sum()), f"row {row + 1}{found}")
