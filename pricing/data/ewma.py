"""Exponentially weighted (EWMA) state of each product: sales level, weekday profile, price. Causal, NumPy only."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial.polynomial import polyval
from numpy.typing import NDArray

from pricing.arrays import Floats, Ints
from pricing.data.event_windows import EventLifts
from pricing.data.panel import Period

HALF_LIVES: dict[Period, tuple[int, int, int]] = {"day": (7, 28, 112), "week": (2, 6, 26)}
PROFILE_HALF_LIFE = 20  # observations of one weekday
PRIOR_WEIGHT = 0.5  # observations that the category's level is worth
SUMMARY = 6
RECENT_PRICE = 3  # column of the slow features: the smoothed log price, times PRICE_SCALE
PRICE_SCALE = 3.0
# Negative binomial size assumed on sold-out days, since the network's is not known here: demand varies by 32 % beyond
# Poisson noise. For true sizes from 2 to infinity and stocks of 0.6 to 1.3 times demand, levels converge to 12 % off
# the truth on average; with a smaller size they outgrow steady demand, with a larger one they stay further below it.
TAIL_SIZE = 10.0
# Negative binomial size behind the inverse-variance weights of past sales, here and in estimates that read them.
SIZE = 2.0
# Times the units sold out: a sold-out day raises the expectation no further than this, so that the level of a product
# that always sells out converges. Such a product is likely to have this much demand and may have more.
FARTHEST = 2.0
# Coefficients of log erfc(x) + x² − log t in t, lowest power first:
_ERFC = (
    -1.26551223,
    1.00002368,
    0.37409196,
    0.09678418,
    -0.18628806,
    0.27886807,
    -1.13520398,
    1.48851587,
    -0.82215223,
    0.17087277,
)


@dataclass(frozen=True)
class Norms:
    """Scales that make products comparable, one entry a product; fixed when a model is trained."""

    usual_price: Floats  # (product,) reference price of levels, in currency units
    unit: Floats  # (product,) counting unit, in the units of `units_sold`; all units below are multiples of it
    prior_level: Floats  # (product,) units a period expected before anything was sold
    # (product,) elasticity at the usual price on weekdays, below 0. Past sales are restated (adjusted to the usual
    # price) by it:
    elasticity: Floats
    weekend: Floats  # (product,) relative change of the elasticity on a weekend
    promotion: Floats  # (product,) log units that a full promotion adds; past sales are restated by it
    # What named events add; None where none was estimated. Past sales are restated by them as well:
    lifts: EventLifts | None = None

    def take(self, rows: Ints) -> "Norms":
        """Return the scales of some products."""
        each = {name: values[rows] for name, values in vars(self).items() if name != "lifts"}
        return replace(self, **each, lifts=self.lifts and self.lifts.with_products(self.lifts.category[rows]))


@dataclass(frozen=True)
class EwmaState:
    """Exponentially weighted sums behind the features, one row a product; updated period by period."""

    sums: Floats  # (product, half-life) discounted restated units, weighted (`_weights`)
    counts: Floats  # (product, half-life) discounted weights: observations at usual price
    profile_sums: Floats  # (product, weekday) discounted restated units by weekday, weighted
    profile_counts: Floats  # (product, weekday) discounted units expected without a profile, weighted
    price_sum: Floats  # (product,) discounted log price over usual price
    price_count: Floats  # (product,) discounted observations of the price
    age: Floats  # (product,) periods since the first row


@dataclass(frozen=True)
class PeriodObservations:
    """Observations of one period, one entry a product.

    `restated` is units at usual price; `effect` the log factor between units sold and restated units.
    """

    restated: Floats
    seen: Floats
    censored: Floats
    log_price: Floats
    effect: Floats
    weekday: int


def blank_ewma_state(products: int, *, period: Period) -> EwmaState:
    """Return the state of products without observations."""
    days = 7 if period == "day" else 1
    widths = ((3,), (3,), (days,), (days,), (), (), ())
    return EwmaState(*(np.zeros((products, *width), np.float32) for width in widths))


def select_ewma_state(memory: EwmaState, rows: Ints) -> EwmaState:
    """Return the state of some products, in the given order; -1 gives a blank one."""
    fields = {name: values[np.maximum(rows, 0)] for name, values in vars(memory).items()}
    for taken in fields.values():
        taken[rows < 0] = 0
    return replace(memory, **fields)


def smoothed_price(memory: EwmaState) -> Floats:
    """(product,) smoothed log price over usual price."""
    return memory.price_sum / (memory.price_count + PRIOR_WEIGHT)


def ewma_features(memory: EwmaState, norms: Norms) -> tuple[Floats, Floats, Floats]:
    """Compute (product,) log level, (product, weekday) log profile, and (product, SUMMARY) slow features."""
    prior = np.maximum(norms.prior_level, 1e-3)[:, None]
    mean = (memory.sums + PRIOR_WEIGHT * prior) / (memory.counts + PRIOR_WEIGHT)
    levels: Floats = np.log(np.maximum(mean, 1e-3))  # (product, half-life); the middle one gives the level
    return levels[:, 1], _log_profile(memory), _slow_features(memory, levels)


def has_own_history(memory: EwmaState, *, periods: int, period: Period) -> NDArray[np.bool_]:
    """(product,) whether its discounted observations amount to `periods` rows without a gap (age ignores gaps).

    Observations a year old (weekly: a year and a half) hardly count any more.
    """
    fade = 0.5 ** (1 / HALF_LIVES[period][1])
    enough = (1 - fade**periods) / (1 - fade)
    seen: NDArray[np.bool_] = memory.price_count >= enough * (1 - 1e-4)
    return seen


def update_ewma_state(
    memory: EwmaState, observations: PeriodObservations, *, level: Floats, profile: Floats, period: Period
) -> tuple[EwmaState, Floats]:
    """Update the state with one more period, given (product,) log level and (product, weekday) profile before it.

    Also returns (product,) log of units over expected at the price charged, half a unit added to both; 0 without a row.
    """
    day = observations.weekday
    seen = observations.seen > 0
    weekday = profile[:, day]
    expected = np.exp(level + weekday)
    units = _completed(observations, expected)
    price = np.exp(observations.effect)
    log_residual = np.where(seen, np.log((units * price + 0.5) / (expected * price + 0.5)), 0.0)

    weight = observations.seen * _weights(price, expected)
    decay = np.asarray([0.5 ** (1 / half) for half in HALF_LIVES[period]], np.float32)
    keep = np.where(seen[:, None], decay, 1.0)  # no update and no decay over a gap
    sums = keep * memory.sums + (weight * units / np.exp(weekday))[:, None]
    counts = keep * memory.counts + weight[:, None]

    fade = np.where(seen, 0.5 ** (1 / PROFILE_HALF_LIFE), 1.0)
    profile_sums = memory.profile_sums.copy()
    profile_sums[:, day] = fade * profile_sums[:, day] + weight * units
    profile_counts = memory.profile_counts.copy()
    profile_counts[:, day] = fade * profile_counts[:, day] + weight * np.exp(level)

    slow = np.where(seen, decay[1], 1.0)
    after = EwmaState(
        sums=sums.astype(np.float32),
        counts=counts.astype(np.float32),
        profile_sums=profile_sums,
        profile_counts=profile_counts,
        price_sum=(slow * memory.price_sum + observations.seen * observations.log_price).astype(np.float32),
        price_count=(slow * memory.price_count + observations.seen).astype(np.float32),
        age=np.where(seen | (memory.age > 0), memory.age + 1, 0).astype(np.float32),
    )
    return after, log_residual.astype(np.float32)


def _weights(price: Floats, expected: Floats) -> Floats:
    """(product,) weight of a period's restated units in the level: inverse variance, at most the usual price's 1.

    Few units at a high price, restated by a factor of many, say little of the level. Of units of mean m e^x and
    variance m e^x + (m e^x)² / r, the restated ones have m e^-x + m² / r: the generalised linear model's weights
    (McCullagh and Nelder 1989, 2.5). e^x is `price`, the factor on units of price, promotion and events; m is
    `expected`, units at usual price. Many units at a low price count as much as the usual ones, since e^x is only
    estimated.
    """
    weight: Floats = np.minimum(price * (SIZE + expected) / (SIZE + expected * price), 1.0)
    return weight


def _completed(observations: PeriodObservations, expected: Floats) -> Floats:
    """(product,) restated units, on sold-out days the expected demand given that it reached the units sold."""
    at = np.flatnonzero((observations.censored > 0) & (observations.seen > 0))
    if not len(at):
        return observations.restated
    units = observations.restated.copy()
    price = np.exp(observations.effect[at].astype(np.float64))  # the count distribution is at the price charged
    units[at] = demand_above(units[at] * price, mean=expected[at] * price) / price
    return units


def demand_above(units: NDArray[np.floating], *, mean: NDArray[np.floating]) -> NDArray[np.float64]:
    """E[demand | demand ≥ units] on sold-out days (the E step of Dempster, Laird, Rubin 1977).

    So levels learn from them as under the censored likelihood, and can exceed all past stocks. Demand is negative
    binomial of size `TAIL_SIZE`, approximated by the gamma variable of the same variance whose cube root is nearly
    normal (Wilson and Hilferty 1931), as in the network's loss; within 9 % of the exact sum, 3 % from a mean of 5. For
    a product that always sells out only the assumed tail bounds the level, so the mean is capped at `FARTHEST` times
    what was sold. Units, (event,), are the whole stock; 0 carries no information.
    """
    sold = np.asarray(units, np.float64)
    believed = np.asarray(mean, np.float64)
    some = sold > 0
    centre = np.where(some, np.maximum(np.minimum(believed, FARTHEST * sold), 1e-3), 1.0)
    variance = (1.0 / centre + 1.0 / TAIL_SIZE) / 9.0  # of the cube root of demand over mean
    deviation = np.sqrt(variance)
    middle = 1.0 - variance
    z = (np.cbrt(np.maximum(sold - 0.5, 0.0) / centre) - middle) / deviation
    hazard = _hazard(z)
    # Mean of the cube, from the first three moments of a normal variable truncated below z.
    cube = middle**3 + 3.0 * middle**2 * deviation * hazard + 3.0 * middle * variance * (1.0 + z * hazard)
    cube += variance * deviation * (z * z + 2.0) * hazard
    return np.maximum(np.where(some, centre * cube, 0.0), np.maximum(sold, believed))


def _hazard(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normal hazard (density over upper tail), to 1e-7; erfc by a Chebyshev fit (Numerical Recipes 1992, 6.2)."""
    x = np.abs(z) / np.sqrt(2.0)
    t = 1.0 / (1.0 + 0.5 * x)
    tail = t * np.exp(polyval(t, _ERFC))  # erfc(x) exp(x²)
    return np.asarray(np.sqrt(2.0 / np.pi) / np.where(z >= 0, tail, 2.0 * np.exp(np.minimum(x * x, 99.0)) - tail))


def _log_profile(memory: EwmaState) -> Floats:
    """(product, weekday) log factor of each weekday, 0 on average."""
    if memory.profile_sums.shape[1] == 1:
        return np.zeros_like(memory.profile_sums)

    # Shrink towards factor 1 with the weight of two units and one average day.
    day = memory.profile_counts.mean(axis=1, keepdims=True) * (1 - 0.5 ** (1 / PROFILE_HALF_LIFE))
    prior = 2.0 + day
    factor = (memory.profile_sums + prior) / (memory.profile_counts + prior)
    log_factor = np.log(np.clip(factor, 0.05, 20.0))
    centred: Floats = log_factor - log_factor.mean(axis=1, keepdims=True)
    return centred


def _slow_features(memory: EwmaState, levels: Floats) -> Floats:
    """(product, SUMMARY) level, its trends, recent price, age and probability of no sale, scaled for a network."""
    return np.stack(
        [
            levels[:, 1] / 3.0,
            np.clip(levels[:, 0] - levels[:, 1], -2, 2),
            np.clip(levels[:, 2] - levels[:, 1], -2, 2),
            np.clip(smoothed_price(memory), -1, 1) * PRICE_SCALE,
            np.log1p(memory.age) / 5.0 - 1.0,
            np.exp(-np.exp(levels[:, 1])),  # probability of no sale
        ],
        axis=-1,
    ).astype(np.float32)
