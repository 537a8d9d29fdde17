"""Take returned goods off sales by a stated rule, and sum days to weeks."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.arrays import Floats

ReturnRule = Literal["sale_day", "return_day", "ignore"]
NET_COLUMNS = (
    "date",
    "product_id",
    "store",
    "units_sold",
    "price",
    "tax_rate",
    "units_gross",
    "lines",
    "price_low",
    "price_high",
)
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday
_LEAST = 1e-9  # units that are none
_DAY_BITS = 20


@dataclass(frozen=True)
class ReturnCounts:
    """Where returned units went: returned = taken_off + beyond + ignored.

    Attributes:
        returned: Units that came back.
        taken_off: Of them, those taken off a day's sales.
        beyond: Those beyond what was sold before: sales stay at 0, never below.
        ignored: Those that the rule leaves on the sales.
        cells: Days of a product and store with units beyond, from the day on from which they are counted …
        told: … and those units.
        examples: The first of them in words.
    """

    returned: float
    taken_off: float
    beyond: float
    ignored: float
    cells: int
    told: float
    examples: tuple[str, ...]

    def notes(self) -> list[str]:
        """What is worth saying of them, one sentence each."""
        if not self.cells:
            return []
        return [
            f"sales: {self.told:,.10g} units came back beyond what was sold in time, on {self.cells:,} days: left "
            f"out, such as {self.examples[0]}."
        ]


def net_of_returns(
    table: pd.DataFrame, *, rule: ReturnRule, reach: int, counted_from: pd.Timestamp | None = None
) -> tuple[pd.DataFrame, ReturnCounts]:
    """Take returns off sales.

    sale_day: a return whose sale is known is taken off that day. Any other is taken off the newest day up to its own on
    which the product was sold in that store and has units left, then the one before, and so on. return_day: off the
    sales of its own day. ignore: nowhere. Units never fall below 0. A day's price is what was paid on it per unit,
    those included that came back: shoppers bought at that price. So a return takes its units off at that day's price,
    whatever was refunded.

    Args:
        table: Rows of `OrderLineSums.months`; for sale_day, with the days before that returns may belong to.
        rule: `OrderLines.returns`.
        reach: How many days before its own a return of an unknown sale may be taken off (`OrderLines.return_days`).
        counted_from: First day of returns that are counted as beyond what was sold: those of the days before may belong
            to sales before the table. None: all.

    Returns:
        Rows of days with sales: `NET_COLUMNS`, sorted as `table`; tax_rate is NaN where unknown.
    """
    codes, _ = pd.factorize(pd.MultiIndex.from_frame(table[["product_id", "store"]]))
    days = table["date"].to_numpy().astype("datetime64[D]").astype(np.int64)
    gross, booked, known = (
        table[name].to_numpy(np.float64) for name in ("units_gross", "units_returned", "units_came_back")
    )
    if rule == "ignore":
        net, beyond = gross.copy(), np.zeros(len(gross))
    elif rule == "return_day":
        off = booked + known
        net, beyond = np.maximum(gross - off, 0.0), np.maximum(off - gross, 0.0)
    else:
        net, beyond = np.maximum(gross - known, 0.0), np.maximum(known - gross, 0.0)
        beyond += _taken_off_last_sales(net, booked, codes=codes, days=days, reach=reach)
    net[net < _LEAST] = 0.0
    returned = float(booked.sum() + known.sum())
    lost = float(beyond.sum())
    ignored = returned if rule == "ignore" else 0.0
    told = beyond > _LEAST
    if counted_from is not None:
        told &= (table["date"] >= counted_from).to_numpy()
    worst = np.flatnonzero(told)[:5]
    counts = ReturnCounts(
        returned,
        float(gross.sum() - net.sum()),
        lost,
        ignored,
        int(np.count_nonzero(told)),
        float(beyond[told].sum()),
        tuple(
            f"{table['product_id'].iloc[row]!r} on {table['date'].iloc[row]:%Y-%m-%d}: {beyond[row]:g} units"
            for row in worst
        ),
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        price = table["revenue"].to_numpy(np.float64) / gross
        rate = table["taxed_revenue"].to_numpy(np.float64) / table["net_revenue"].to_numpy(np.float64) - 1
    frame = pd.DataFrame(
        {
            "date": table["date"],
            "product_id": table["product_id"],
            "store": table["store"],
            "units_sold": net,
            "price": price,
            "tax_rate": np.where(np.isfinite(rate), np.round(rate, 9), np.nan),
            "units_gross": gross,
            "lines": table["lines"],
            "price_low": table["price_low"],
            "price_high": table["price_high"],
        }
    )
    return frame[gross > 0].reset_index(drop=True), counts


def _taken_off_last_sales(
    net: Floats, booked: Floats, *, codes: NDArray[np.int64], days: NDArray[np.int64], reach: int
) -> Floats:
    """Takes booked returns off the newest sales up to their day, at most `reach` days before; `net` is modified.

    Returns:
        (row,) units of the row's own returns that no earlier sale was left for.
    """
    beyond = np.zeros(len(net))
    key = (codes << _DAY_BITS) + days
    order = np.argsort(key, kind="stable")
    left = net[order].tolist()
    # The nearest row at or before each with units left; paths over emptied ones are shortened as they are walked.
    nearest = list(range(len(left)))
    earliest = (codes << _DAY_BITS) + np.maximum(days - reach, 0)
    first = np.searchsorted(key[order], earliest[order], side="left")
    for row in np.flatnonzero(booked[order] > 0).tolist():
        due, begin = float(booked[order[row]]), int(first[row])
        place = row
        walked = []
        while due > _LEAST and place >= begin:
            walked.append(place)
            if nearest[place] != place:
                place = nearest[place]
                continue
            taken = min(due, left[place])
            left[place] -= taken
            due -= taken
            if left[place] <= _LEAST:
                nearest[place] = place - 1
                place -= 1
        for each in walked:
            if nearest[each] != each:
                nearest[each] = min(nearest[each], place)
        if due > _LEAST:
            beyond[order[row]] = due
    net[order] = left
    return beyond


def week_of(dates: "pd.Series[pd.Timestamp]", *, starts: str) -> "pd.Series[pd.Timestamp]":
    """(row,) first day of each day's week.

    Args:
        dates: Days.
        starts: monday, sunday or saturday.
    """
    days = dates.to_numpy().astype("datetime64[D]").astype(np.int64)
    since = (days + _EPOCH_WEEKDAY - WEEKDAYS.index(starts)) % 7
    return pd.Series((days - since).astype("datetime64[D]").astype("datetime64[s]"), index=dates.index)


def summed_sales(sales: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Sums sales: units and lines added, the price and tax rate those of all units sold.

    The price is weighted by the units bought, returned ones included, as each row's own price is.

    Args:
        sales: `NET_COLUMNS`.
        by: Columns that stay.
    """
    weight = sales["units_gross"].to_numpy(np.float64)
    paid = sales["price"].to_numpy(np.float64) * weight
    taxed = sales["tax_rate"].notna().to_numpy()
    rate = sales["tax_rate"].fillna(0.0).to_numpy(np.float64)
    parts = sales[[*by, "units_sold", "units_gross", "lines", "price_low", "price_high"]].assign(
        _paid=paid, _taxed=np.where(taxed, paid, 0.0), _net=np.where(taxed, paid / (1 + rate), 0.0)
    )
    rules = dict.fromkeys(("units_sold", "units_gross", "lines", "_paid", "_taxed", "_net"), "sum")
    found = parts.groupby(by, sort=True, as_index=False).agg({**rules, "price_low": "min", "price_high": "max"})
    with np.errstate(invalid="ignore", divide="ignore"):
        price = found["_paid"] / found["units_gross"]
        shared = np.where(found["_net"] > 0, (found["_taxed"] / found["_net"]).round(9) - 1, np.nan)
    return found.assign(price=price, tax_rate=np.round(shared, 9)).drop(columns=["_paid", "_taxed", "_net"])
