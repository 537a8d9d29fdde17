"""Estimate what a competitor's price does to a product's demand: with its uncertainty, or as unknown. NumPy only."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.data.ewma import Norms
from pricing.data.features import restated_units
from pricing.data.panel import Panel, Period

SPAN: dict[Period, int] = {"day": 7, "week": 2}  # periods of a span; each is compared with the one before it
LEAST_DAYS: dict[Period, int] = {"day": 4, "week": 1}  # periods of both spans, one a span after the other, that count
MOVED = 0.01  # log change of the competitor's mean price from span to span that counts as a move
LEAST_MOVES = 4  # of a product below which nothing is said of it
SPREAD = 0.5  # prior standard deviation of products around their category, and of categories around 0
ANSWER_SD = 1.0  # prior of the answer to the own price that all elasticities together may have missed, around 0
APART = 1e-9  # share of the squares of a competitor's moves, less what all share, below which nothing tells them apart
LEVEL = 0.80  # of intervals
_HALF = 0.5  # added to both sums, so that a span without a sale has a log


@dataclass(frozen=True)
class CompetitorEffects:
    """By how many per cent demand rises when the competitor's price does by one; one entry a product.

    NaN where the history has too few moves of the competitor's price to say, or no other product tells their effect
    from what all share.
    """

    mean: Floats  # (product,) posterior mean
    sd: Floats  # (product,) posterior standard deviation
    moves: Ints  # (product,) moves of the competitor's price that it was estimated from

    def interval(self) -> tuple[Floats, Floats]:
        """(product,) ends of the interval of probability LEVEL."""
        width = NormalDist().inv_cdf((1 + LEVEL) / 2) * self.sd
        return self.mean - width, self.mean + width

    def spread(self, rows: Ints) -> "CompetitorEffects":
        """The effects of products `rows`, in that order; a row of −1 is a new product, of which nothing is known."""
        new = rows < 0
        return CompetitorEffects(
            mean=np.where(new, np.nan, self.mean[rows]).astype(self.mean.dtype),
            sd=np.where(new, np.nan, self.sd[rows]).astype(self.sd.dtype),
            moves=np.where(new, 0, self.moves[rows]).astype(self.moves.dtype),
        )


def estimate_competitor_effects(
    panel: Panel, *, norms: Norms, category: Ints, elasticity_sd: Floats
) -> CompetitorEffects:
    """Estimates the elasticity of demand in the competitor's price; `category` is (product,) its row.

    Units restated at the usual price are summed over spans of a week, and the log change from one span to the next is
    regressed on that of the competitor's price, by product, and, for what the restatement leaves, of the own price,
    over all products. What all products have in common in a span is taken off. Only periods count that are neither
    sold out nor advertised in both spans. Each product's estimate is shrunk towards its category's and no effect
    (a hierarchical normal model).

    Where the own price follows the competitor's, an error in the answer to the own price is one in the effect. That of
    a product's elasticity in `norms`, `elasticity_sd` (product,), is part of its own error; that of the common answer
    moves all products at once, so that no number of them averages it away: it is added after the shrinkage.

    It is read from moves that somebody made for a reason: what drove the competitor's price and demand together biases
    it.
    """
    later, before = _pairs(panel, panel.comp_price, norms)
    change = later.log_units - before.log_units
    competitor = later.other - before.other
    own = later.price - before.price
    noise = 1.0 / (later.units + _HALF) + 1.0 / (before.units + _HALF)
    good = np.isfinite(change) & np.isfinite(competitor) & np.isfinite(own)
    moves = (good & (np.abs(competitor) > MOVED)).sum(axis=1)
    change, competitor, own, noise = (np.where(good, values, 0.0) for values in (change, competitor, own, noise))
    first = _regress(change, competitor, own, weight=_weight(good, noise))
    extra = max(float((first.left**2).sum()) / first.free - float(noise.sum()) / max(int(good.sum()), 1), 0.0)
    weight = _weight(good, noise + extra)  # with the variance beyond counting noise that the first one left
    found = _regress(change, competitor, own, weight=weight)
    over = max(float((weight * found.left**2).sum()) / found.free, 1.0)
    usable = (moves >= LEAST_MOVES) & (found.information > 0)
    with np.errstate(divide="ignore"):
        error = np.where(usable, np.sqrt(over / found.information + (found.follows * elasticity_sd) ** 2), np.inf)

    def shrunk(answer: float) -> tuple[Floats, Floats]:
        return _shrunk(np.where(usable, found.whole - found.follows * answer, 0.0), error, category=category)

    mean, sd = shrunk(found.answer)
    beside, _ = shrunk(found.answer + float(np.sqrt(over)) * found.answer_error)  # a standard error off
    return CompetitorEffects(
        mean=np.where(usable, mean, np.nan).astype(np.float32),
        sd=np.where(usable, np.hypot(sd, beside - mean), np.nan).astype(np.float32),
        moves=moves.astype(np.int32),
    )


def _shrunk(value: Floats, error: Floats, *, category: Ints) -> tuple[Floats, Floats]:
    """(product,) posterior mean and deviation: products around their category, categories around no effect."""
    precision = np.divide(1.0, error**2, where=np.isfinite(error), out=np.zeros(len(error)))
    told = np.divide(precision, precision * SPREAD**2 + 1.0)  # of the category's mean
    variance = 1.0 / (np.bincount(category, told) + SPREAD**-2)
    centre = np.bincount(category, told * value) * variance
    alone = 1.0 / (precision + SPREAD**-2)
    mean = (precision * value + centre[category] * SPREAD**-2) * alone
    return mean, np.sqrt(alone + (alone * SPREAD**-2) ** 2 * variance[category])


@dataclass(frozen=True)
class _Regression:
    """Weighted least squares of changes in units on a competitor's price, by product, and the own one, over all."""

    whole: Floats  # (product,) change of units per change of the competitor's price, the own price left to follow it
    follows: Floats  # (product,) change of the own price per change of the competitor's
    information: Floats  # (product,) squares of the competitor's moves less what all share; 0 where that leaves none
    answer: float  # change of units per change of the own price, shrunk towards 0
    answer_error: float  # its standard error where a weight is an inverse variance
    left: Floats  # (product, span) residuals
    free: int  # their degrees of freedom, at least 1


def _regress(change: Floats, competitor: Floats, own: Floats, *, weight: Floats) -> _Regression:
    """The regression, what all products have in common in a span taken off."""
    y, c, x = (_less_common(values, weight) for values in (change, competitor, own))
    information = (weight * c * c).sum(axis=1)
    told = information > APART * (weight * competitor * competitor).sum(axis=1)  # else it is rounding
    per = np.divide(1.0, information, where=told, out=np.zeros(len(information)))
    whole, follows = ((weight * c * values).sum(axis=1) * per for values in (y, x))
    y_apart = y - whole[:, None] * c  # Frisch and Waugh 1933
    x_apart = x - follows[:, None] * c
    precision = float((weight * x_apart * x_apart).sum()) + ANSWER_SD**-2
    answer = float((weight * x_apart * y_apart).sum()) / precision
    rows = int((weight > 0).sum())
    return _Regression(
        whole=whole,
        follows=follows,
        information=np.where(told, information, 0.0),
        answer=answer,
        answer_error=precision**-0.5,
        left=y_apart - answer * x_apart,
        free=max(rows - int((weight > 0).any(axis=0).sum()) - int(told.sum()) - 1, 1),
    )


def _weight(good: Bools, variance: Floats) -> Floats:
    """(product, span) inverse variance; 0 where a change does not count."""
    return np.divide(1.0, variance, where=good, out=np.zeros(variance.shape))


@dataclass(frozen=True)
class _Spans:
    """(product, span) sums and means over the periods that count in a pair of spans; NaN where too few do."""

    units: Floats
    log_units: Floats
    price: Floats  # log of the own price
    other: Floats  # log of the price of others


def _pairs(panel: Panel, other_price: Floats, norms: Norms) -> tuple[_Spans, _Spans]:
    """Every span but the first, and the one before it, over the periods that count in both.

    `other_price` is (product, period) the price of others beside the own one, here the competitor's.
    """
    length = SPAN[panel.period]
    periods = len(panel.dates)
    spans = periods // length

    def folded(values: Floats) -> Floats:  # (product, span, period of the span), up to the last day
        return values[:, periods - spans * length :].reshape(len(values), spans, length).astype(np.float64)

    with np.errstate(invalid="ignore", divide="ignore"):
        price = folded(np.log(panel.price))
        other = folded(np.log(other_price))
    counts = folded((panel.present & ~panel.censored & (panel.is_promo < 0.5)).astype(np.float64)) > 0
    counts &= np.isfinite(price) & np.isfinite(other)
    both = counts[:, 1:] & counts[:, :-1]
    units = folded(restated_units(panel, norms))
    count = both.sum(axis=2)
    enough = count >= LEAST_DAYS[panel.period]

    def over(part: slice) -> _Spans:
        total = np.where(both, units[:, part], 0.0).sum(axis=2)
        sums = (np.where(both, values[:, part], 0.0).sum(axis=2) for values in (price, other))
        mean = (np.where(enough, each / np.maximum(count, 1), np.nan) for each in sums)
        return _Spans(total, np.where(enough, np.log(total + _HALF), np.nan), *mean)

    return over(slice(1, None)), over(slice(None, -1))


def _less_common(values: Floats, weight: Floats) -> Floats:
    """The values less their weighted mean over products in each span."""
    total = np.maximum(weight.sum(axis=0), 1e-12)
    return np.where(weight > 0, values - (weight * values).sum(axis=0) / total, 0.0)
