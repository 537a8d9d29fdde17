"""Estimate what a competitor's price does to a product's demand: with its uncertainty, or as unknown. NumPy only."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.data.ewma import Norms
from pricing.data.features import restated_units
from pricing.data.panel import Panel, Period
from pricing.demand.elasticity import shrink

SPAN: dict[Period, int] = {"day": 7, "week": 2}  # periods of a span; each is compared with the one before it
LEAST_DAYS: dict[Period, int] = {"day": 4, "week": 1}  # periods of both spans, one a span after the other, that count
MOVED = 0.01  # log change of the competitor's mean price from span to span that counts as a move
LEAST_MOVES = 4  # of a product below which nothing is said of it
PRIOR_SD = 1.0  # of products around their category and of categories around 0, as `elasticity.shrink` splits it
LEVEL = 0.80  # of intervals
_HALF = 0.5  # added to both sums, so that a span without a sale has a log


@dataclass(frozen=True)
class CompetitorEffects:
    """By how many per cent demand rises when the competitor's price does by one; one entry a product.

    Attributes:
        mean: (product,) posterior mean; NaN where the history has too few moves of the competitor's price to say.
        sd: (product,) posterior standard deviation; NaN likewise.
        moves: (product,) moves of the competitor's price that it was estimated from.
    """

    mean: Floats
    sd: Floats
    moves: Ints

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


def estimate_competitor_effects(panel: Panel, *, norms: Norms, category: Ints) -> CompetitorEffects:
    """Estimates the elasticity of demand in the competitor's price.

    Units restated at the usual price are summed over spans of a week, and the log change from one span to the next is
    regressed on that of the competitor's price and, for what the restatement leaves, of the own price. What all
    products have in common in a span is taken off. Only periods count that are neither sold out nor advertised in both
    spans. Each product's estimate is shrunk towards its category's and no effect (`elasticity.shrink`).

    It is read from moves that somebody made for a reason: what drove the competitor's price and demand together biases
    it.

    Args:
        panel: The history.
        norms: Its scales, elasticities among them.
        category: (product,) row of its category.
    """
    later, before = _pairs(panel, norms)
    change = later.log_units - before.log_units
    competitor, own = later.comp_price - before.comp_price, later.price - before.price
    noise = 1.0 / (later.units + _HALF) + 1.0 / (before.units + _HALF)
    good = np.isfinite(change) & np.isfinite(competitor) & np.isfinite(own)
    moved: Bools = good & (np.abs(competitor) > MOVED)
    moves = moved.sum(axis=1)
    change, competitor, own = (np.where(good, values, 0.0) for values in (change, competitor, own))
    extra = 0.0
    for _ in range(2):  # the second time with the variance beyond counting noise that the first one left
        weight = np.where(good, 1.0 / (noise + extra), 0.0)
        y, c, x = (_less_common(values, weight) for values in (change, competitor, own))
        information = (weight * c * c).sum(axis=1)
        cross = (weight * c * x).sum()
        det = information.sum() * (weight * x * x).sum() - cross**2
        if det <= 0:
            answer = 0.0
            pooled = float((weight * c * y).sum() / max(float(information.sum()), 1e-12))
        else:
            answer = float((information.sum() * (weight * x * y).sum() - cross * (weight * c * y).sum()) / det)
            pooled = float(((weight * x * x).sum() * (weight * c * y).sum() - cross * (weight * x * y).sum()) / det)
        left = y - pooled * c - answer * x
        count = max(int(good.sum()), 1)
        extra = max(float((np.where(good, left**2 - noise, 0.0)).sum()) / count, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        alone = (weight * c * (y - answer * x)).sum(axis=1) / information
        over = max(float((weight * left**2).sum()) / count, 1.0)
        error = np.sqrt(over / information)
    usable = (moves >= LEAST_MOVES) & np.isfinite(alone) & np.isfinite(error)
    found = shrink(
        np.where(usable, alone, 0.0),
        np.where(usable, error, np.inf),
        category=category,
        prior=(0.0, PRIOR_SD / 2),
        sd=PRIOR_SD,
    )
    return CompetitorEffects(
        mean=np.where(usable, found.mean, np.nan).astype(np.float32),
        sd=np.where(usable, found.sd, np.nan).astype(np.float32),
        moves=moves.astype(np.int32),
    )


@dataclass(frozen=True)
class _Spans:
    """(product, span) sums and means over the periods that count in a pair of spans; NaN where too few do."""

    units: Floats
    log_units: Floats
    price: Floats
    comp_price: Floats


def _pairs(panel: Panel, norms: Norms) -> tuple[_Spans, _Spans]:
    """Every span but the first, and the one before it, over the periods that count in both."""
    length, periods = SPAN[panel.period], len(panel.dates)
    spans = periods // length

    def folded(values: Floats) -> Floats:  # (product, span, period of the span), up to the last day
        return values[:, periods - spans * length :].reshape(len(values), spans, length).astype(np.float64)

    with np.errstate(invalid="ignore", divide="ignore"):
        price, comp_price = folded(np.log(panel.price)), folded(np.log(panel.comp_price))
    counts = folded((panel.present & ~panel.censored & (panel.is_promo < 0.5)).astype(np.float64)) > 0
    counts &= np.isfinite(price) & np.isfinite(comp_price)
    both = counts[:, 1:] & counts[:, :-1]
    units = folded(restated_units(panel, norms))
    enough = both.sum(axis=2) >= LEAST_DAYS[panel.period]

    def over(part: slice) -> _Spans:
        total = np.where(both, units[:, part], 0.0).sum(axis=2)
        mean = [
            np.where(enough, np.where(both, values[:, part], 0.0).sum(axis=2) / np.maximum(both.sum(axis=2), 1), np.nan)
            for values in (price, comp_price)
        ]
        return _Spans(total, np.where(enough, np.log(total + _HALF), np.nan), *mean)

    return over(slice(1, None)), over(slice(None, -1))


def _less_common(values: Floats, weight: Floats) -> Floats:
    """The values less their weighted mean over products in each span."""
    total = np.maximum(weight.sum(axis=0), 1e-12)
    return np.where(weight > 0, values - (weight * values).sum(axis=0) / total, 0.0)
