"""Check a feed of sales against its own past: rows, days, columns, ids and dates that came otherwise than before."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from pricing.arrays import Bools, Strings
from pricing.config_models import QualityConfig
from pricing.data import coerce
from pricing.data.own_past import NAMED, Verdict
from pricing.data.panel import Panel
from pricing.data.quality import Finding, advice
from pricing.data.sales_history import SalesHistory, less_than_usual, still_for
from pricing.errors import nearest

ACTIVE = 28  # periods that tell which products have a row on almost every day …
ALMOST_EVERY = 0.8  # … on at least this share of them
SAME_NAME = 0.6  # similarity of an unknown column's name to the one that is not there
NULLABLE = ("list_price", "unit_cost", "stock", "comp_price", "is_promo")
_SELDOM = ("tax_rate", "comp_price_age")  # given by few, and no name is near theirs by mistake
LASTING = 2  # days after which values that are missing are a fault: on one day a source may have failed to answer
MOST_AHEAD = 28  # distinct days after a gap that may be swapped ones
FAR_AHEAD = 7  # days without rows after which rows with later dates are looked at for swapped day and month


def row_findings(history: SalesHistory, config: QualityConfig, verdict: Verdict) -> None:
    """Looks for days that were lost, are not complete yet, or lack the same products day after day."""
    low = less_than_usual(
        history.counts.astype(np.float64),
        usable=~history.holiday,
        since=history.since,
        phases=history.phases,
        share=config.least_share,
    )
    _lost(history, low & (history.counts == 0), verdict)
    few = low & (history.counts > 0)
    newest = _length(few)
    if not newest:
        return
    first = len(history.dates) - newest
    missing = _missing_products(history, first, config=config)
    if missing.any():
        _products_missing(history, missing, first, verdict)
        return
    newest = min(newest, config.late)
    cells = np.zeros(history.rows.shape, dtype=np.bool_)
    cells[:, -newest:] = True
    verdict.set_aside("day_incomplete", cells & (history.rows >= 0))
    verdict.unknown.append(cells)
    first = len(history.dates) - newest
    count = int(history.counts[first])
    usual = int(np.median(history.counts[np.arange(first - history.phases, -1, -history.phases)][:8]))
    verdict.findings.append(
        Finding(
            "day_incomplete",
            "quarantine",
            f"{history.day(first)} has {count:,} rows, such {history.period}s before had {usual:,}: the newest "
            f"{newest} {history.period}(s) count as not read yet",
            advice("day_incomplete"),
            first_day=history.day(first),
            rows=int((cells & (history.rows >= 0)).sum()),
            share=1 - count / usual,
        )
    )


def _length(flags: Bools) -> int:
    """How many of the newest periods are flagged without a break."""
    return len(flags) if flags.all() else int(np.argmax(~flags[::-1]))


def _lost(history: SalesHistory, lost: Bools, verdict: Verdict) -> None:
    if not lost.any():
        return
    cells = np.broadcast_to(lost, history.rows.shape)
    verdict.unknown.append(cells)
    days = [history.day(int(period)) for period in np.flatnonzero(lost)]
    verdict.findings.append(
        Finding(
            "lost_days",
            "quarantine",
            f"{len(days):,} {history.period}s have no row at all, and count as unknown",
            advice("lost_days"),
            first_day=days[0],
            examples=tuple(days[:NAMED]),
            share=1.0,
        )
    )


def _active(history: SalesHistory, until: int) -> Bools:
    """(product,) products with a row in almost every period, of those with rows, before one."""
    base = slice(max(0, until - ACTIVE), until)
    open_days = history.counts[base] > 0
    there = history.present[:, base][:, open_days]
    enough: Bools = there.sum(axis=1) >= max(1.0, ALMOST_EVERY * there.shape[1])
    return enough


def _missing_products(history: SalesHistory, first: int, *, config: QualityConfig) -> Bools:
    """(product,) active products without any row since `first`, where they are too many to be missing by chance.

    Days that are read before they are complete lack other products each; one such day alone tells nothing.
    """
    there = history.present[:, first:]
    if there.shape[1] < 2:
        return np.zeros(len(there), dtype=np.bool_)
    active = _active(history, first)
    missing = active & ~there.any(axis=1)
    each = (active[:, None] & ~there).sum(axis=0).min()
    many = missing.sum() > (1 - config.least_share) * active.sum()
    return missing if many and 2 * missing.sum() > each else np.zeros(len(there), dtype=np.bool_)


def _products_missing(history: SalesHistory, missing: Bools, first: int, verdict: Verdict) -> None:
    cells = np.zeros(history.rows.shape, dtype=np.bool_)
    cells[missing, first:] = True
    verdict.unknown.append(cells)
    active = int(_active(history, first).sum())
    verdict.findings.append(
        Finding(
            "products_missing",
            "quarantine",
            f"{int(missing.sum()):,} of {active:,} products have had no row since {history.day(first)}, and count as "
            "unknown",
            advice("products_missing"),
            first_day=history.day(first),
            products=int(missing.sum()),
            share=int(missing.sum()) / active,
            examples=tuple(repr(str(name)) for name in history.product_ids[missing][:NAMED]),
        )
    )


def null_findings(history: SalesHistory, config: QualityConfig, verdict: Verdict) -> None:
    """Looks for columns that are missing, or stock that is 0, on more rows than on such weekdays before."""
    rows = np.maximum(history.counts, 1)
    filled = {
        name: (np.isfinite(history.columns[name]) & history.present).sum(axis=0) / rows
        for name in NULLABLE
        if name in history.columns
    }
    filled["category"] = history.categorised.sum(axis=0) / rows
    if "stock" in history.columns:
        with np.errstate(invalid="ignore"):
            empty = history.columns["stock"] == 0
        filled["stock is 0"] = 1 - empty.sum(axis=0) / rows
    for name, share in filled.items():
        low = less_than_usual(
            share,
            usable=history.counts > 0,
            since=history.since,
            phases=history.phases,
            share=config.least_share,
        )
        newest = _length(low[history.counts > 0])
        if not newest:
            continue
        first = int(np.flatnonzero(history.counts > 0)[-newest])
        zero = name == "stock is 0"
        if zero:
            verdict.blank["stock"] = verdict.blank.get("stock", np.zeros_like(empty)) | (empty & low)
        code, what = ("stock_zero", "stock is 0") if zero else (f"{name}_null", f"{name} is missing")
        count = round((1 - float(share[first])) * int(history.counts[first]))
        usual = float(np.median(share[np.arange(first - history.phases, -1, -history.phases)][:8]))
        verdict.findings.append(
            Finding(
                code,
                "quarantine" if newest >= LASTING or history.phases == 1 else "note",
                f"{what} on {count:,} of {int(history.counts[first]):,} rows of {history.day(first)}, usually on "
                f"{1 - usual:.0%}; it counts as unknown there",
                advice(code),
                column="stock" if zero else name,
                first_day=history.day(first),
                products=count,
                rows=count,
                share=1 - float(share[first]),
            )
        )


def still_findings(history: SalesHistory, config: QualityConfig, verdict: Verdict) -> None:
    """Looks for values that no longer change, and for promotions that no longer come."""
    for name, code in (("comp_price", "comp_price_frozen"), ("stock", "stock_frozen")):
        if name in history.columns:
            _frozen(history, name, code, config=config, verdict=verdict)
    if "is_promo" not in history.columns:
        return
    values = history.columns["is_promo"]
    seen = np.asarray(np.isfinite(values).any(axis=0))
    still = still_for(np.asarray((values > 0).any(axis=0)), seen=seen, past=config.past, least=history.phases)
    if still:
        first = int(np.flatnonzero(seen)[-still])
        verdict.findings.append(
            Finding(
                "promo_none",
                "quarantine" if still >= config.window else "note",  # a pause of some weeks is ordinary
                f"is_promo has been 0 everywhere since {history.day(first)}, for {still} {history.period}s",
                advice("promo_none"),
                column="is_promo",
                first_day=history.day(first),
                share=1.0,
            )
        )


def _frozen(history: SalesHistory, name: str, code: str, *, config: QualityConfig, verdict: Verdict) -> None:
    values = history.columns[name]
    known = np.isfinite(values)
    if name == "comp_price" and "comp_price_age" in history.columns:  # a price that says its age is no repeated one
        known &= ~(history.columns["comp_price_age"] > 0)
    latest = np.maximum.accumulate(np.where(known, np.arange(values.shape[1]), -1), axis=1)
    before = np.concatenate([np.full((len(values), 1), -1), latest[:, :-1]], axis=1)
    former = np.take_along_axis(values, np.maximum(before, 0), axis=1)
    comparable = known & (before >= 0)
    moved = comparable & (values != former)
    seen = np.asarray(comparable.any(axis=0))
    still = still_for(np.asarray(moved.any(axis=0)), seen=seen, past=config.past, least=config.late)
    if not still:
        return
    first = int(np.flatnonzero(seen)[-still])
    products = int(comparable[:, first:].any(axis=1).sum())
    verdict.findings.append(
        Finding(
            code,
            "quarantine",
            f"{name} of all {products:,} products has been the same since {history.day(first)}, for {still} "
            f"{history.period}s",
            advice(code),
            column=name,
            first_day=history.day(first),
            products=products,
            share=1.0,
        )
    )


def column_findings(
    given: Sequence[str], others: Sequence[str], known: Panel | None, *, rows: int
) -> Iterator[Finding]:
    """Looks for columns that the champion has learnt from and that are not there, and for their likely new names.

    Args:
        given: The contract's columns that the sales have.
        others: Their other columns.
        known: The end of the history that the champion has read.
        rows: Number of rows.
    """
    had = set() if known is None else columns_of(known)
    for name in ("category", *NULLABLE, *_SELDOM, *({"parent_id"} & had)):
        near = None if name in _SELDOM else nearest(name, others, cutoff=SAME_NAME)
        if name in given or (name not in had and near is None):
            continue
        code = "column_gone" if near is None else "column_renamed"
        hint = "" if near is None else f", but a column {near!r} is"
        yield Finding(
            code,
            "stop" if name in had else "note",
            f"column {name} is not in the sales{hint}",
            advice(code),
            column=name,
            rows=rows,
            share=1.0,
        )


def columns_of(panel: Panel) -> set[str]:
    """The optional columns that the sales behind a panel had for certain."""
    had = {
        "stock": bool(np.isfinite(panel.stock).any()),
        "comp_price": bool(np.isfinite(panel.comp_price).any()),
        "comp_price_age": bool((np.nan_to_num(panel.comp_price_age) > 0).any()),
        "tax_rate": bool((panel.tax_rate > 0).any()),
        "unit_cost": bool((~panel.cost_assumed).any()),
        "is_promo": bool((panel.is_promo > 0).any()),
        "category": len(np.unique(panel.categories)) > 1,
        "parent_id": panel.parent_ids is not None,
    }
    return {name for name, there in had.items() if there}


def id_findings(history: SalesHistory, known: Panel | None, config: QualityConfig, verdict: Verdict) -> None:
    """Looks for a day on which many products end and as many others begin, and for products that are in no row."""
    began = np.argmax(history.present, axis=1)
    for now in range(max(history.since, LEAST_HISTORY), len(history.dates)):
        active = _active(history, now)
        gone = active & ~history.present[:, now:].any(axis=1)
        new = (began == now) & history.present[:, now]
        if min(gone.sum(), new.sum()) > config.new_ids * max(1, int(active.sum())):
            verdict.findings.append(_ids_changed(history, gone, new, now))
            return
    if known is None:
        return
    live = known.present[:, -ACTIVE:].any(axis=1)
    lost = live & ~np.isin(known.product_ids, history.product_ids)
    fresh = ~np.isin(history.product_ids, known.product_ids)
    if min(lost.sum(), fresh.sum()) > config.new_ids * max(1, int(live.sum())):
        verdict.findings.append(
            Finding(
                "ids_changed",
                "stop",
                f"{int(lost.sum()):,} of {int(live.sum()):,} products that the champion knows are in no row, and "
                f"{int(fresh.sum()):,} are that it does not know",
                advice("ids_changed"),
                column="product_id",
                products=int(lost.sum()),
                share=float(lost.sum() / live.sum()),
                examples=_pairs(known.product_ids[lost], history.product_ids[fresh]),
            )
        )


LEAST_HISTORY = 14  # periods before a day on which ids may be said to change


def _ids_changed(history: SalesHistory, gone: Bools, new: Bools, now: int) -> Finding:
    return Finding(
        "ids_changed",
        "stop",
        f"{int(gone.sum()):,} products have no row from {history.day(now)} on, when {int(new.sum()):,} others begin",
        advice("ids_changed"),
        column="product_id",
        first_day=history.day(now),
        products=int(gone.sum()),
        rows=int(new.sum()),
        share=float(gone.sum() / max(1, gone.sum() + (history.present[:, now] & ~new).sum())),
        examples=_pairs(history.product_ids[gone], history.product_ids[new]),
    )


def _pairs(old: Strings, new: Strings) -> tuple[str, ...]:
    return (f"{str(old[0])!r} gone", f"{str(new[0])!r} new")


def date_findings(frame: pd.DataFrame, bad: pd.DataFrame, *, step: int) -> Iterator[Finding]:
    """Looks for rows whose day and month are swapped: they lie far ahead, or on days that have their rows already.

    Args:
        frame: Rows that satisfy the contract.
        bad: Rows that break it.
        step: Days of a period.
    """
    dates = np.unique(frame["date"].to_numpy().astype("datetime64[D]"))
    gaps = np.flatnonzero(np.diff(dates).astype(np.int64) > max(FAR_AHEAD, 2 * step))
    gaps = gaps[len(dates) - 1 - gaps <= MOST_AHEAD]
    last = dates[gaps[0]] if len(gaps) else dates[-1]
    ahead = dates[dates > last]
    if "date" in bad and len(bad):
        again = coerce.days(bad["date"]).values
        ahead = np.union1d(ahead, np.unique(again[~np.isnat(again)]))
    swapped = [(day, other) for day in ahead if (other := _swapped(day)) is not None]
    next_days = [(day, other) for day, other in swapped if 0 < (other - last).astype(int) <= FAR_AHEAD + len(ahead)]
    if not next_days or 2 * len(next_days) < len(ahead):
        return
    day, other = min(next_days, key=lambda pair: pair[1])
    rows = int(np.isin(frame["date"].to_numpy().astype("datetime64[D]"), [one for one, _ in next_days]).sum())
    yield Finding(
        "dates_swapped",
        "stop",
        f"after {last} come rows of {day}, which with day and month swapped would be {other}",
        advice("dates_swapped"),
        column="date",
        first_day=str(other),
        rows=rows,
        share=1.0,
    )


def _swapped(day: "np.datetime64") -> "np.datetime64 | None":
    """The day with day and month swapped; None where that is no other day."""
    year, month, number = str(day).split("-")
    return np.datetime64(f"{year}-{number}-{month}", "D") if int(number) <= 12 and number != month else None
