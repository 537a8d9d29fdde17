"""Handle periods without a row and runs of zeros that may be stock-outs, as configured. Causal."""

from dataclasses import dataclass
from math import lgamma, log
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from pricing.arrays import Bools, Floats, Strings
from pricing.config_models import DataConfig
from pricing.data.counting_units import common_steps
from pricing.data.latest import carry, period_before
from pricing.errors import MissingRowsError

if TYPE_CHECKING:  # which needs pandas, and serving has none
    from pricing.data.grid import Grid

LEAST_IMPLIED = 20  # expected zero-sale periods needed for a verdict
LARGEST_GIVEN = 0.1  # share present as rows that shows zeros are recorded: of 20, under 2 come once in 20 million times
COUNTED = 7  # periods that a stock count is carried forward less sales: closed days, or weekly counts
_ITERATIONS = 100
_NAMED = 3  # products named in a message


@dataclass(frozen=True)
class MissingRows:
    """The panel's rows after absent ones were handled."""

    present: Bools  # (product, period) True where sales are known: a valid row, or a zero filled in
    units: Floats  # (product, period) units sold; NaN where unknown
    filled: Bools  # (product, period) True where a zero was filled in
    silent: Bools  # (product,) True where zeros since the last sale were too many for chance, and no stock is known


def handle_missing_rows(
    grid: "Grid", stock: Floats, available: Floats, *, launched: Bools, config: DataConfig
) -> MissingRows:
    """Fill in or leave unknown the periods without a row, and mark zeros that may be stock-outs as unknown.

    A period depends on itself and earlier ones alone: else states that have encoded it could not be carried forward. So
    zeros are filled in from a product's first row to the end of the panel, since its last row is not known at the time.
    Stock and the share of a period that a product was `available` for are NaN where unknown; `launched` is True from a
    product's first row on. Periods before the grid's own are only read. Adds notes to the grid; raises MissingRowsError
    at a gap where `missing` is "error", and where it is None and zero-sale rows seem left out.
    """
    own = grid.own
    units = grid.spread("units_sold")
    present = grid.present & ~np.isnan(units)  # in the past a row may have a carried price only
    gaps = ~present & _any_up_to(present) & _any_from(present)  # between a product's first and last row
    gaps[:, : own.start] = False
    if config.missing == "error" and gaps.any():
        _refuse_gaps(grid, gaps)
    if config.missing is None:
        _refuse_dropped_zeros(units, gaps=gaps, own=own, ids=grid.ids)

    filled = launched & ~present & (config.missing == "zero")
    empty = (stock <= 0) | (available == 0)  # a zero carries no information
    zero = (present & (units == 0) & ~empty) | filled
    in_stock = left_over(stock, units, limit=min(COUNTED, config.list_price_window)) > 1e-6
    unsure = np.isnan(stock) & np.isnan(available) & ~in_stock
    doubted = np.zeros_like(present)
    if config.zero_run is not None and (zero & unsure)[:, own].any():
        # In a past whose gaps were all filled in, periods still without a value were doubted.
        doubted[:, : own.start] = filled[:, : own.start]
        _doubt(doubted, zero, units > 0, unsure, own=own, config=config)

    since_last_sale = ~_any_from(units > 0)
    silent = (doubted & since_last_sale).any(axis=1) & unsure[:, -1]
    filled[:, : own.start] = False
    doubted[:, : own.start] = False
    counted = filled & ~doubted
    notes = {
        "have no row and count as zeros at the last price (data.missing: zero).": counted,
        "have no row between a first and a last one: unknown (data.missing).": gaps & ~filled,
        "have 0 units and no known stock, in runs too long for chance: unknown (data.zero_run).": doubted,
    }
    grid.notes.extend(f"{_counted(marked, grid.ids)} {what}" for what, marked in notes.items() if marked.any())

    known = np.where(doubted, np.float32(np.nan), np.where(counted, np.float32(0.0), units))
    return MissingRows((present | filled) & ~doubted, known, counted, silent)


def _any_up_to(marked: Bools) -> Bools:
    """(product, period) True from the first marked period on."""
    return np.logical_or.accumulate(marked, axis=1)


def _any_from(marked: Bools) -> Bools:
    """(product, period) True up to the last marked period."""
    return _any_up_to(marked[:, ::-1])[:, ::-1]


def _refuse_gaps(grid: "Grid", gaps: Bools) -> NoReturn:
    first = int(np.argmax(gaps.any(axis=1)))
    raise MissingRowsError(
        f"{_counted(gaps, grid.ids)} have no row between a first and a last one, the first of them "
        f"{str(grid.ids[first])!r} on {grid.dates[np.argmax(gaps[first])]}, and data.missing is error: add those rows, "
        "or set it to zero or unknown"
    )


def left_over(stock: Floats, units: Floats, *, limit: int) -> Floats:
    """(product, period) last stock count before a period, at most `limit` periods old, less the units sold since.

    A lower bound of the stock, since deliveries only add to it; NaN without such a count. Stock, at opening, and units
    are NaN where unknown.
    """
    counted = period_before(np.isfinite(stock))
    sold = np.cumsum(np.nan_to_num(units).astype(np.float64), axis=1)
    sold_before = np.pad(sold[:, :-1], ((0, 0), (1, 0)))  # up to each period's opening
    since = sold_before - carry(sold_before, counted)
    oldest = np.maximum(np.arange(stock.shape[1]) - limit, 0)
    return np.where(counted >= oldest, carry(stock, counted) - since, np.nan)


def _refuse_dropped_zeros(units: Floats, *, gaps: Bools, own: slice, ids: Strings) -> None:
    """Stop where rows of periods without a sale seem to be left out.

    By the zero-truncated Poisson distribution (Plackett 1953, doi:10.2307/2333104), with rate λ the mean of a period
    with a sale is λ / (1 − e^−λ), and each comes with 1 / (e^λ − 1) periods without one. Demand is over-dispersed, so
    there are more; if fewer than a tenth are present as rows, that is not by chance. A product counts for at most its
    periods without a row or with a zero. Periods without any row (shop closed) and goods sold by weight, whose amounts
    are no counts, do not count.
    """
    units = units[:, own]
    room = gaps[:, own] & np.isfinite(units).any(axis=0)
    sold = np.where(units > 0, units, np.nan)
    number = np.isfinite(sold).sum(axis=1)
    zeros = (units == 0).sum(axis=1)

    step = common_steps(sold)
    counted = np.isfinite(step)
    counts = np.nan_to_num(sold / np.where(counted, step, 1.0)[:, None]).astype(np.float64)
    mean = np.maximum(counts.sum(axis=1) / np.maximum(number, 1), 1.0)
    rate = mean
    for _ in range(_ITERATIONS):
        rate = mean * -np.expm1(-rate)
    with np.errstate(divide="ignore", over="ignore"):
        due = number / np.expm1(rate)

    implied = np.where(counted, np.minimum(due, room.sum(axis=1) + zeros), 0.0)
    total = float(implied.sum())
    given = int(zeros[counted].sum())
    if total < LEAST_IMPLIED or given >= LARGEST_GIVEN * total:
        return
    raise MissingRowsError(
        f"periods without a sale seem to be left out: {_counted(gaps, ids)} lack a row between a first and a last one. "
        f"Products that sell {np.average(mean, weights=implied):.1f} units when they sell have about {total:,.0f} "
        f"periods without a sale among those, and {given:,} rows of 0 units are given. Left out, they would make "
        "demand look larger and less elastic than it is. Configure what an absent row means: data.missing: zero "
        "(nothing was sold at the last price) or data.missing: unknown (nothing is known: closed, not listed, lost)"
    )


def _doubt(doubted: Bools, zero: Bools, sale: Bools, unsure: Bools, *, own: slice, config: DataConfig) -> None:
    """Mark zeros in runs that are too long for chance, period by period.

    The probability of a run of zeros since the last sale is the beta-binomial predictive under Jeffreys' prior, given
    the share of zeros in the product's other periods of the window: runs of slow sellers and weekly closing days pass.
    Where absent rows are zeros, a marked run stays marked until the next sale.

    Arrays are (product, period); `doubted` is modified and holds earlier results before `own`; in `unsure` periods no
    stock is known, nor left over from the last count.
    """
    limit = log(config.zero_run or 1.0)
    window = config.list_price_window
    whole = np.array([lgamma(k + 1.0) for k in range(2 * window + 3)])
    half = np.array([lgamma(k + 0.5) for k in range(2 * window + 3)])
    zero = zero & ~doubted
    sales = np.zeros(len(zero), np.int64)  # periods with a sale within the window
    zeros = np.zeros_like(sales)  # periods without one within the window
    run = np.zeros_like(sales)  # zeros since the last sale
    for t in range(zero.shape[1]):
        if t > window:
            sales -= sale[:, t - window - 1]
            zeros -= zero[:, t - window - 1]
        if t >= own.start:
            before = np.maximum(zeros - run, 0)
            length = np.minimum(run, window) + 1
            others = before + sales
            likely = half[before + length] - half[before] + whole[others] - whole[others + length]
            odd = (sales > 0) & (likely < limit)
            if config.missing == "zero" and t > 0:
                odd |= doubted[:, t - 1]
            doubted[:, t] = zero[:, t] & unsure[:, t] & odd
            zero[:, t] &= ~doubted[:, t]
        sales += sale[:, t]
        zeros += zero[:, t]
        run = np.where(sale[:, t], 0, run + zero[:, t])


def _counted(marked: Bools, ids: Strings) -> str:
    """Count how many product-periods are marked, of how many products, and which have most."""
    counts = marked.sum(axis=1)
    order = np.argsort(-counts, kind="stable")[:_NAMED]
    named = ", ".join(f"{str(ids[row])!r} {counts[row]:,}" for row in order if counts[row])
    products = f"{int((counts > 0).sum()):,} of {len(ids):,} products"
    return f"{int(counts.sum()):,} product-periods of {products} (most: {named})"
