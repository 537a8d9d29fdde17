"""Periods without a row, and runs of zeros that may be stock-outs: counted, and settled as configured. Causal."""

from dataclasses import dataclass
from math import lgamma, log

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Days, Floats, Strings
from pricing.config_models import DataConfig
from pricing.data.units import common_steps
from pricing.errors import MissingRowsError

LEAST_IMPLIED = 20  # periods without a sale that a verdict rests on: by chance fewer than 2 come where 20 are due once
LARGEST_GIVEN = 0.1  # in 20 million times; that share of them, given as rows, shows that zeros are kept
COUNTED = 7  # periods over which a count of stock is carried by sales: closed days, or a count once a week
_ITERATIONS = 100
_NAMED = 3  # products that a sentence names


@dataclass(frozen=True)
class Settled:
    """The rows once it is said what the periods without one mean.

    Attributes:
        present: (product, period) True where something is known: a row that counts, or a zero that was filled in.
        units: (product, period) units sold; NaN where nothing is known.
        filled: (product, period) True where a zero was filled in.
        notes: What was found and done, one sentence each.
    """

    present: Bools
    units: Floats
    filled: Bools
    notes: tuple[str, ...]


@dataclass(frozen=True)
class DroppedZeros:
    """What says that the rows of periods without a sale were left out.

    Attributes:
        implied: Periods without a sale that the units of the others imply, as far as periods without a row have room.
        given: Rows of 0 units that there are.
        mean: Units sold on an average period with a sale, of the products that imply them.
    """

    implied: float
    given: int
    mean: float


def settle(
    units: Floats,
    stock: Floats,
    *,
    present: Bools,
    launched: Bools,
    own: slice,
    ids: Strings,
    dates: Days,
    config: DataConfig,
) -> Settled:
    """Counts the periods without a row and the zeros that may be stock-outs, and does what the configuration says.

    What is known of a period rests on that period and earlier ones, never on a later row: else a sale would change what
    was known before it, and states that have read those periods could not be carried forward. So a zero is filled in
    as long as a product is not seen to be gone, and not only up to its last row, which nobody knows at the time.

    Args:
        units: (product, period) units sold; NaN where there is no row.
        stock: (product, period) opening stock; NaN where unknown.
        present: (product, period) True where there is a row.
        launched: (product, period) True from a product's first row on.
        own: The periods in question; those before them are settled already and only looked back at.
        ids: (product,) names, for messages.
        dates: (period,) dates, for messages.
        config: `missing`, `zero_run` and `zero_window`.

    Raises:
        MissingRowsError: `missing` is "error" and there is a gap, or it is None and zeros seem to be left out.
    """
    gaps = between_rows(present)
    gaps[:, : own.start] = False
    if config.missing == "error" and gaps.any():
        raise MissingRowsError(_refusal(gaps, ids=ids, dates=dates))
    if config.missing is None and (dropped := dropped_zeros(units, gaps=gaps, own=own)) is not None:
        raise MissingRowsError(_ask(dropped, gaps, ids=ids))
    filled = launched & ~present & (config.missing == "zero")
    zero = (present & (units == 0) & ~(stock <= 0)) | filled  # a row that was sold out from the start says nothing
    doubted = np.zeros_like(present)
    with np.errstate(invalid="ignore"):
        unsure = np.isnan(stock) & ~(left_over(stock, units, limit=min(COUNTED, config.zero_window)) > 1e-6)
    if config.zero_run is not None and (zero & unsure)[:, own].any():
        # Where all that is absent is filled in, what a settled past still lacks was doubted then.
        doubted[:, : own.start] = filled[:, : own.start]
        _doubt(doubted, zero, units > 0, unsure, own=own, config=config)
    filled[:, : own.start] = doubted[:, : own.start] = False
    counted = filled & ~doubted
    about = [
        (counted, "have no row and count as zeros at the last price (data.missing: zero)."),
        (gaps & ~filled, "have no row between a first and a last one: unknown (data.missing)."),
        (doubted, "have 0 units and no known stock, in runs too long for chance: unknown (data.zero_run)."),
    ]
    return Settled(
        present=(present | filled) & ~doubted,
        units=np.where(doubted, np.float32(np.nan), np.where(counted, np.float32(0.0), units)),
        filled=counted,
        notes=tuple(f"{_counted(marked, ids)} {what}" for marked, what in about if marked.any()),
    )


def left_over(stock: Floats, units: Floats, *, limit: int) -> Floats:
    """(product, period) what the last count before a period, at most `limit` periods ago, less what sold since leaves.

    A count that is missing on some days says this much on those; deliveries since can only have added to it.

    Args:
        stock: (product, period) opening stock; NaN where unknown.
        units: (product, period) units sold; NaN where unknown.
        limit: Periods.

    Returns:
        Units, below 0 where more was sold than counted; NaN where there was no such count.
    """
    periods = np.arange(stock.shape[1])
    counted = np.maximum.accumulate(np.where(np.isfinite(stock), periods, -1), axis=1)
    counted = np.concatenate([np.full((len(stock), 1), -1), counted[:, :-1]], axis=1)  # before each period
    sold = np.cumsum(np.nan_to_num(units).astype(np.float64), axis=1)
    before = np.concatenate([np.zeros((len(sold), 1)), sold[:, :-1]], axis=1)  # up to each period's opening
    at = np.maximum(counted, 0)
    left = np.take_along_axis(stock, at, axis=1) - (before - np.take_along_axis(before, at, axis=1))
    return np.where(counted >= np.maximum(periods - limit, 0), left, np.nan)


def between_rows(present: Bools) -> Bools:
    """(product, period) True where there is no row, and one before and one after it."""
    before = np.logical_or.accumulate(present, axis=1)
    after = np.logical_or.accumulate(present[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(~present & before & after)


def dropped_zeros(units: Floats, *, gaps: Bools, own: slice) -> DroppedZeros | None:
    """What says that periods without a sale were left out; None where nothing does.

    Whoever sells 1.4 units on the days with a sale has days without one. By how few units are sold when something is
    sold, the Poisson distribution cut off at zero (Plackett 1953, doi:10.2307/2333104) says how many those are: with
    rate λ a sale's mean is λ / (1 − e^−λ), and 1 / (e^λ − 1) periods without a sale come with each one. Demand varies
    more than that, so more are due; fewer than a tenth of them, given as rows, are not kept by chance. A product counts
    for no more than it has periods without a row or with a zero, so gaps of another cause, which fast sellers have as
    well as slow ones, imply nothing; nor do periods without any row, when the shop was closed, and goods by weight,
    whose amounts are not counts.

    Args:
        units: (product, period) units sold; NaN where there is no row.
        gaps: (product, period) from `between_rows`.
        own: The periods looked at.
    """
    room = gaps[:, own] & np.isfinite(units[:, own]).any(axis=0)
    sold = np.where(units[:, own] > 0, units[:, own], np.nan)
    number = np.isfinite(sold).sum(axis=1)
    counted, mean = _counts(sold)
    zeros = (units[:, own] == 0).sum(axis=1)
    rate = mean.copy()
    for _ in range(_ITERATIONS):
        rate = mean * -np.expm1(-rate)
    with np.errstate(divide="ignore", over="ignore"):
        due = number / np.expm1(rate)
    implied = np.where(counted, np.minimum(due, room.sum(axis=1) + zeros), 0.0)
    total, given = float(implied.sum()), int(zeros[counted].sum())
    if total < LEAST_IMPLIED or given >= LARGEST_GIVEN * total:
        return None
    return DroppedZeros(total, given, float(np.average(np.where(counted, mean, 0.0), weights=implied)))


def _counts(sold: NDArray[np.floating]) -> tuple[Bools, Floats]:
    """(product,) whether its sales have a step in which they count, and the mean of those counts, at least 1."""
    step = common_steps(sold)
    counted = np.isfinite(step)
    counts = np.where(np.isfinite(sold), sold / np.where(counted, step, 1.0)[:, None], 0.0).astype(np.float64)
    mean = counts.sum(axis=1) / np.maximum(np.isfinite(sold).sum(axis=1), 1)
    return counted, np.maximum(mean, 1.0)


def _doubt(doubted: Bools, zero: Bools, sale: Bools, unsure: Bools, *, own: slice, config: DataConfig) -> None:
    """Marks zeros that chance does not explain, period by period.

    How likely so long a run of zeros since the last sale is, the product's other periods in the window say: the
    beta-binomial predictive of their share of zeros from Jeffreys' prior. No distribution of units is assumed, and few
    other periods make nothing unlikely, so slow sellers, and shops that are closed every week, have their runs. Without
    a sale in the window nothing is left to compare with, and zeros count; where absent rows are zeros, too, a run that
    was doubted stays so up to the next sale.

    Args:
        doubted: (product, period) modified; the periods before the own ones say what was doubted then.
        zero: (product, period) periods without a sale.
        sale: (product, period) periods with one.
        unsure: (product, period) periods without a known stock, and none left over from the last count.
        own: The periods to mark.
        config: `zero_run`, `zero_window` and `missing`.
    """
    limit, window = log(config.zero_run or 1.0), config.zero_window
    whole, half = (np.array([lgamma(k + add) for k in range(2 * window + 3)]) for add in (1.0, 0.5))
    zero = zero & ~doubted
    sales, zeros, run = (np.zeros(len(zero), np.int64) for _ in range(3))  # both in the window; zeros since a sale
    for t in range(zero.shape[1]):
        if t > window:
            sales -= sale[:, t - window - 1]
            zeros -= zero[:, t - window - 1]
        if t >= own.start:
            before, length = np.maximum(zeros - run, 0), np.minimum(run, window) + 1
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
    """How many product-periods are marked, of how many products, and of which most."""
    counts = marked.sum(axis=1)
    order = np.argsort(-counts, kind="stable")[:_NAMED]
    named = ", ".join(f"{str(ids[row])!r} {counts[row]:,}" for row in order if counts[row])
    products = f"{int((counts > 0).sum()):,} of {len(ids):,} products"
    return f"{int(counts.sum()):,} product-periods of {products} (most: {named})"


def _refusal(gaps: Bools, *, ids: Strings, dates: Days) -> str:
    product = int(np.argmax(gaps.any(axis=1)))
    day = dates[int(np.argmax(gaps[product]))]
    return (
        f"{_counted(gaps, ids)} have no row between a first and a last one, the first of them {str(ids[product])!r} on "
        f"{day}, and data.missing is error: add those rows, or set data.missing to zero or unknown"
    )


def _ask(dropped: DroppedZeros, gaps: Bools, *, ids: Strings) -> str:
    return (
        f"periods without a sale seem to be left out: {_counted(gaps, ids)} lack a row between a first and a last one. "
        f"Products that sell {dropped.mean:.1f} units when they sell have about {dropped.implied:,.0f} periods without "
        f"a sale among those, and {dropped.given:,} rows say so. Left out, they would make demand look larger and less "
        "elastic than it is. Say in the configuration what an absent row means: data.missing: zero (nothing was sold "
        "at the last price) or data.missing: unknown (nothing is known: closed, not listed, lost)"
    )
