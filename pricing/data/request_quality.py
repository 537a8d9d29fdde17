"""Check decisions day by day against the days before: what requests lack, and prices that nobody puts on the shelf."""

import datetime as dt
from collections.abc import Iterator

import numpy as np
import pandas as pd

from pricing.arrays import Bools, Days
from pricing.config_models import QualityConfig
from pricing.data.feed import LASTING
from pricing.data.panel import STEP_DAYS, Period
from pricing.data.quality import Finding, advice, ordered
from pricing.data.sales_history import less_than_usual, still_for

SAME_PRICE = 0.006  # relative difference of prices that are equal but for rounding
LEAST_MOVES = 5  # recommended changes of a day that tell whether prices are put on the shelf


def request_findings(
    decisions: pd.DataFrame,
    config: QualityConfig,
    *,
    last_sales: dt.date | None = None,
    until: dt.date | None = None,
    period: Period = "day",
) -> tuple[Finding, ...]:
    """Compares the newest day of decisions with the days before. Pure.

    Args:
        decisions: One row per decision with the columns `date` (of the period priced), `product_id`,
            `recommended_price`, `current_price`, `stock` and `comp_price`, as the decision log has them; of several
            for one product and date the last one counts.
        config: The limits.
        last_sales: First day of the newest period with sales.
        until: Day up to which decisions and sales are due; absent: the newest day of either.
        period: The grain of the sales.

    Returns:
        The findings, of level quarantine, since a person should look; what is missing for a single day is a note.

    Example:
        >>> import numpy as np
        >>> import pandas as pd
        >>> from pricing.config import load_config
        >>> from pricing.data.request_quality import request_findings
        >>> days = pd.date_range("2026-03-02", periods=10)
        >>> log = pd.DataFrame({"date": days, "product_id": "tea", "recommended_price": 4.99, "current_price": 4.99})
        >>> log = log.assign(stock=5, comp_price=[*np.linspace(5.0, 5.7, 8), None, None])
        >>> [(one.name, one.first_day) for one in request_findings(log, load_config().data.quality)]
        [('request_comp_price_null', '2026-03-10')]
    """
    if decisions.empty:
        return ()
    table = decisions.drop_duplicates(["product_id", "date"], keep="last").sort_values(["product_id", "date"])
    dates = np.unique(table["date"].to_numpy().astype("datetime64[D]"))
    found = [
        *_late(dates, last_sales, until, config=config, step=STEP_DAYS[period]),
        *_null(table, dates, config=config),
        *_frozen(table, dates, config=config),
        *_overridden(table, dates, config=config),
    ]
    return ordered(found)


def _late(
    dates: Days, last_sales: dt.date | None, until: dt.date | None, *, config: QualityConfig, step: int
) -> Iterator[Finding]:
    if last_sales is None:
        return
    decided, sold = dates[-1], np.datetime64(last_sales, "D")
    now = max(decided, sold) if until is None else np.datetime64(until, "D")
    for name, newest, what in (("sales_late", sold, "sales"), ("decisions_late", decided, "decisions")):
        periods = int((now - newest).astype(int)) // step
        if periods > config.late:
            yield Finding(
                name,
                "quarantine",
                f"the newest {what} are of {newest}, {periods} periods before {now}",
                advice(name),
                first_day=str(newest + np.timedelta64(step, "D")),
                share=1.0,
            )


def _by_day(table: pd.DataFrame, dates: Days, marked: Bools) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """(day,) number of rows that are marked."""
    place = np.searchsorted(dates, table["date"].to_numpy().astype("datetime64[D]"))
    return np.bincount(place[marked], minlength=len(dates)).astype(np.float64)


def _null(table: pd.DataFrame, dates: Days, *, config: QualityConfig) -> Iterator[Finding]:
    every = np.ones(len(table), dtype=np.bool_)
    count = _by_day(table, dates, every)
    for column, code in (("comp_price", "null"), ("stock", "zero")):
        if column not in table:
            continue
        good = table[column].notna() if code == "null" else table[column] != 0
        filled = _by_day(table, dates, good.to_numpy())
        low = less_than_usual(
            filled / count,
            usable=np.ones(len(dates), dtype=np.bool_),
            since=max(0, len(dates) - config.window),
            phases=1,
            share=config.least_share,
        )
        if not low[-1]:
            continue
        first = int(np.flatnonzero(~low)[-1]) + 1
        missing = int(count[first] - filled[first])
        name, what = f"request_{column}_{code}", "have no" if code == "null" else "have 0 as"
        yield Finding(
            name,
            "quarantine" if len(dates) - first >= LASTING else "note",
            f"{missing:,} of {int(count[first]):,} requests of {dates[first]} {what} {column}",
            advice(name),
            column=column,
            first_day=str(dates[first]),
            rows=missing,
            share=missing / count[first],
        )


def _frozen(table: pd.DataFrame, dates: Days, *, config: QualityConfig) -> Iterator[Finding]:
    known = table[table["comp_price"].notna()] if "comp_price" in table else table[:0]
    if known.empty:
        return
    former = known.groupby("product_id", sort=False, observed=True)["comp_price"].shift()
    seen = _by_day(known, dates, former.notna().to_numpy()) > 0
    moved = _by_day(known, dates, (former.notna() & (known["comp_price"] != former)).to_numpy()) > 0
    still = still_for(np.asarray(moved), seen=np.asarray(seen), past=config.past, least=config.late)
    if not still:
        return
    first = np.flatnonzero(seen)[-still]
    yield Finding(
        "request_comp_price_frozen",
        "quarantine",
        f"comp_price in requests has been the same since {dates[first]}, for {still} days",
        advice("request_comp_price_frozen"),
        column="comp_price",
        first_day=str(dates[first]),
        products=int(known["product_id"].nunique()),
        share=1.0,
    )


def _overridden(table: pd.DataFrame, dates: Days, *, config: QualityConfig) -> Iterator[Finding]:
    """Looks at the days after a recommended change: whether the new price was the current one then."""
    later = table.groupby("product_id", sort=False, observed=True)["current_price"].shift(-1)
    asked, before = table["recommended_price"], table["current_price"]
    moves = ((asked / before - 1).abs() > SAME_PRICE) & later.notna()
    kept = moves & ((later / asked - 1).abs() <= SAME_PRICE)
    count, applied = _by_day(table, dates, moves.to_numpy()), _by_day(table, dates, kept.to_numpy())
    told = np.flatnonzero(count >= LEAST_MOVES)
    if not len(told):
        return
    low = less_than_usual(
        applied[told] / count[told],
        usable=np.ones(len(told), dtype=np.bool_),
        since=max(0, len(told) - config.window),
        phases=1,
        share=config.least_share,
    )
    if not low[-1]:
        return
    first = int(np.flatnonzero(~low)[-1]) + 1
    day = told[first]
    others = int(count[day] - applied[day])
    yield Finding(
        "prices_overridden",
        "quarantine",
        f"{others:,} of {int(count[day]):,} prices recommended for {dates[day]} were not the current price a day later",
        advice("prices_overridden"),
        column="current_price",
        first_day=str(dates[day]),
        products=others,
        share=others / count[day],
    )
