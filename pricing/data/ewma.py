"""What is remembered of a product's past, one period after the other: levels, weekdays, prices. Causal, NumPy only."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Floats, Ints
from pricing.data.lifts import EventLifts
from pricing.data.panel import Period

HALF_LIVES: dict[Period, tuple[int, int, int]] = {"day": (7, 28, 112), "week": (2, 6, 26)}
PROFILE_HALF_LIFE = 20  # observations of one weekday
PRIOR_WEIGHT = 0.5  # observations that the category's level counts for
SUMMARY = 6
# Of the negative binomial taken where the shelf ran out, since the network's is not known here: demand varies by 32 %
# beyond the luck of counts. For true sizes from 2 to Poisson's and shelves from 0.6 to 1.3 times demand, levels settle
# 12 % off the truth on average; a smaller size runs away from steady demand, a larger one stays further behind.
TAIL_SIZE = 10.0
# Times what the shelf held: no sold-out day says that more than this is expected, so that a product that is never seen
# with anything left comes to rest. Sold out day after day, it is likely to have this much demand and may have more.
FARTHEST = 2.0
_ERFC = (
    *(-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806),
    *(0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277),
)  # of log erfc(x) + x² − log t in t


@dataclass(frozen=True)
class Norms:
    """What puts products on one scale; fixed when a model is trained, one entry a product.

    Attributes:
        usual_price: (product,) the price at which levels are stated, in currency units.
        unit: (product,) what counts as one, in the units of `units_sold`; all units below are counted in it.
        prior_level: (product,) units a period expected before anything was sold.
        elasticity: (product,) elasticity at the usual price, not on a weekend, below 0; past sales are restated by it.
        weekend: (product,) its relative growth on a weekend.
        promotion: (product,) log units that a full promotion adds; past sales are restated by it.
        lifts: What named events add; None where nothing was learnt of any. Past sales are restated by them as well.
    """

    usual_price: Floats
    unit: Floats
    prior_level: Floats
    elasticity: Floats
    weekend: Floats
    promotion: Floats
    lifts: EventLifts | None = None

    def take(self, rows: Ints) -> "Norms":
        """The scales of some products."""
        each = {name: values[rows] for name, values in vars(self).items() if name != "lifts"}
        return replace(self, **each, lifts=None if self.lifts is None else self.lifts.take(rows))


@dataclass(frozen=True)
class Memory:
    """What the features remember of the past, one row a product; carried from one period to the next.

    Attributes:
        sums: (product, half-life) discounted restated units.
        counts: (product, half-life) discounted observations.
        profile_sums: (product, weekday) discounted restated units by weekday.
        profile_counts: (product, weekday) discounted units expected without a profile.
        price_sum: (product,) discounted log price over usual price.
        price_count: (product,) its discounted observations.
        age: (product,) periods since the first row.
    """

    sums: Floats
    counts: Floats
    profile_sums: Floats
    profile_counts: Floats
    price_sum: Floats
    price_count: Floats
    age: Floats


@dataclass(frozen=True)
class Today:
    """What one period brought, one entry a product.

    `restated` units are those at usual price; `effect` is the log of what the price charged made of them.
    """

    restated: Floats
    seen: Floats
    censored: Floats
    promo: Floats
    holiday: Floats
    gap: Floats
    gap_known: Floats
    log_price: Floats
    effect: Floats
    weekday: int


def blank_memory(products: int, *, period: Period) -> Memory:
    """The memory of products about which nothing is known yet."""
    days = 7 if period == "day" else 1
    zeros = np.zeros((products, 3), np.float32)
    profile = np.zeros((products, days), np.float32)
    one = np.zeros(products, np.float32)
    return Memory(zeros, zeros.copy(), profile, profile.copy(), one, one.copy(), one.copy())


def select_memory(memory: Memory, rows: Ints) -> Memory:
    """The memory of some products, in the given order; -1 gives a blank one."""
    fields = {}
    for name, values in vars(memory).items():
        taken = values[np.maximum(rows, 0)].copy()
        taken[rows < 0] = 0
        fields[name] = taken
    return replace(memory, **fields)


def recall(memory: Memory, *, norms: Norms) -> tuple[Floats, Floats, Floats, Floats]:
    """What a forecast reads of the memory.

    Returns:
        (product,) log level, (product, weekday) log profile, (product, SUMMARY) slow features, and (product,) the slow
        mean of log price over usual price.
    """
    level, profile, summary = describe(memory, norms)
    return level, profile, summary, memory.price_sum / (memory.price_count + PRIOR_WEIGHT)


def describe(memory: Memory, norms: Norms) -> tuple[Floats, Floats, Floats]:
    """(product,) log level, (product, weekday) log profile, and (product, SUMMARY) slow features."""
    levels = _log_levels(memory, norms)
    return levels[:, 1], _log_profile(memory), _slow_features(memory, levels)


def speaks_for_itself(memory: Memory, *, periods: int, period: Period) -> NDArray[np.bool_]:
    """(product,) whether as much of it was seen as `periods` rows without a gap; age alone may hold hardly a row."""
    fade = 0.5 ** (1 / HALF_LIVES[period][-1])
    enough = (1 - fade**periods) / (1 - fade)
    seen: NDArray[np.bool_] = memory.counts[:, -1] >= enough * (1 - 1e-4)
    return seen


def observe(memory: Memory, today: Today, *, level: Floats, profile: Floats, period: Period) -> tuple[Memory, Floats]:
    """The memory after one more period.

    Args:
        memory: Before it.
        today: What the period brought.
        level: (product,) log level before it.
        profile: (product, weekday) log profile before it.
        period: The grain.

    Returns:
        The memory, and (product,) log of units over expected, half a unit added to both; 0 where there is no row.
    """
    weekday = profile[:, today.weekday]
    expected = np.exp(level + weekday)
    units = _completed(today, expected)
    surprise = np.where(today.seen > 0, np.log((units + 0.5) / (expected + 0.5)), 0.0)
    decay = np.asarray([0.5 ** (1 / half) for half in HALF_LIVES[period]], np.float32)
    keep = np.where(today.seen[:, None] > 0, decay, 1.0)  # a gap in the history neither adds nor forgets
    sums = keep * memory.sums + today.seen[:, None] * (units / np.exp(weekday))[:, None]
    counts = keep * memory.counts + today.seen[:, None]
    profile_sums, profile_counts = memory.profile_sums.copy(), memory.profile_counts.copy()
    fade = np.where(today.seen > 0, 0.5 ** (1 / PROFILE_HALF_LIFE), 1.0)
    profile_sums[:, today.weekday] = fade * profile_sums[:, today.weekday] + today.seen * units
    profile_counts[:, today.weekday] = fade * profile_counts[:, today.weekday] + today.seen * np.exp(level)
    slow = np.where(today.seen > 0, decay[1], 1.0)
    after = Memory(
        sums=sums.astype(np.float32),
        counts=counts.astype(np.float32),
        profile_sums=profile_sums.astype(np.float32),
        profile_counts=profile_counts.astype(np.float32),
        price_sum=(slow * memory.price_sum + today.seen * today.log_price).astype(np.float32),
        price_count=(slow * memory.price_count + today.seen).astype(np.float32),
        age=np.where((today.seen > 0) | (memory.age > 0), memory.age + 1, 0).astype(np.float32),
    )
    return after, surprise.astype(np.float32)


def _completed(today: Today, expected: Floats) -> Floats:
    """(product,) restated units, where the shelf ran out those that may be expected beyond it."""
    at = np.flatnonzero((today.censored > 0) & (today.seen > 0))
    if not len(at):
        return today.restated
    units = today.restated.copy()
    price = np.exp(today.effect[at].astype(np.float64))  # counts vary at the price charged, not at the usual one
    units[at] = demand_above(units[at] * price, mean=expected[at] * price) / price
    return units


def demand_above(units: NDArray[np.floating], *, mean: NDArray[np.floating]) -> NDArray[np.float64]:
    """E[demand | demand ≥ units], what a sold-out shelf says of demand (the E step of Dempster, Laird, Rubin 1977).

    It makes levels learn from sold-out days what the censored likelihood says: never less than was expected, more where
    the shelf held little less than that, so that a level can pass what was ever on the shelf. Demand is negative
    binomial of size `TAIL_SIZE`, taken as the gamma variable of the same variance whose cube root is nearly normal
    (Wilson and Hilferty 1931), as in the network's loss; within 9 % of the exact sum, 3 % from a mean of 5. Where no
    day is seen with anything left, nothing but that tail says how far the level may rise, and the mean is taken to be
    at most `FARTHEST` times what was sold.

    Args:
        units: (event,) sold, all there was; 0 says nothing.
        mean: (event,) expected units.
    """
    sold, believed = np.asarray(units, np.float64), np.asarray(mean, np.float64)
    some = sold > 0
    centre = np.where(some, np.maximum(np.minimum(believed, FARTHEST * sold), 1e-3), 1.0)
    variance = (1.0 / centre + 1.0 / TAIL_SIZE) / 9.0  # of the cube root over that of the mean
    deviation, middle = np.sqrt(variance), 1.0 - variance
    z = (np.cbrt(np.maximum(sold - 0.5, 0.0) / centre) - middle) / deviation
    hazard = _hazard(z)
    # The first three moments of a normal variable cut off below z, for the mean of its cube.
    cube = middle**3 + 3.0 * middle**2 * deviation * hazard + 3.0 * middle * variance * (1.0 + z * hazard)
    cube += variance * deviation * (z * z + 2.0) * hazard
    return np.maximum(np.where(some, centre * cube, 0.0), np.maximum(sold, believed))


def _hazard(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normal density over its upper tail, to 1e-7; erfc by Chebyshev's fit (Numerical Recipes 1992, 6.2)."""
    x = np.abs(z) / np.sqrt(2.0)
    t = 1.0 / (1.0 + 0.5 * x)
    power = np.full_like(t, _ERFC[-1])
    for coefficient in reversed(_ERFC[:-1]):
        power = power * t + coefficient
    tail = t * np.exp(power)  # erfc(x) exp(x²)
    return np.asarray(np.sqrt(2.0 / np.pi) / np.where(z >= 0, tail, 2.0 * np.exp(np.minimum(x * x, 99.0)) - tail))


def _log_levels(memory: Memory, norms: Norms) -> Floats:
    """(product, half-life) log units a period at usual price; the middle one is the level."""
    prior = np.maximum(norms.prior_level, 1e-3)[:, None]
    mean = (memory.sums + PRIOR_WEIGHT * prior) / (memory.counts + PRIOR_WEIGHT)
    levels: Floats = np.log(np.maximum(mean, 1e-3))
    return levels


def _log_profile(memory: Memory) -> Floats:
    """(product, weekday) log factor of each weekday, 0 on average."""
    if memory.profile_sums.shape[1] == 1:
        return np.zeros_like(memory.profile_sums)
    # A weekday starts from factor 1, worth two units and one ordinary day, and earns its own with what it sold.
    day = memory.profile_counts.mean(axis=1, keepdims=True) * (1 - 0.5 ** (1 / PROFILE_HALF_LIFE))
    prior = 2.0 + day
    factor = (memory.profile_sums + prior) / (memory.profile_counts + prior)
    log_factor = np.log(np.clip(factor, 0.05, 20.0))
    centred: Floats = log_factor - log_factor.mean(axis=1, keepdims=True)
    return centred


def _slow_features(memory: Memory, levels: Floats) -> Floats:
    """(product, SUMMARY) level, its trends, recent price, age, and how often nothing sells, scaled for a network."""
    price = memory.price_sum / (memory.price_count + PRIOR_WEIGHT)
    return np.stack(
        [
            levels[:, 1] / 3.0,
            np.clip(levels[:, 0] - levels[:, 1], -2, 2),
            np.clip(levels[:, 2] - levels[:, 1], -2, 2),
            np.clip(price, -1, 1) * 3.0,
            np.log1p(memory.age) / 5.0 - 1.0,
            np.exp(-np.exp(levels[:, 1])),  # how often nothing sells
        ],
        axis=-1,
    ).astype(np.float32)
