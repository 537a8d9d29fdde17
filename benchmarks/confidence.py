"""Hold the confidence of decisions against the truth of simulated markets.

A price was right when it earns, in expectation until the next delivery and under the market's own demand, at least as
much as the price that its confidence compares it with: the one that stood, the move that was not made, or the regular
one. Nothing is claimed by a rule, nor of a product without stock, which no price sells.
`python -m benchmarks.demand` judges every decision of the platform so.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from pricing.arrays import Bools, Floats
from pricing.decision.request import DetailedDecision
from simulation.market import Market
from simulation.policies import expected_share, until_delivery
from simulation.rollforward import Requests
from simulation.shelf import Shelf

BINS = 100  # of the histogram that is kept of each market
DECILES = 10
KEYS = ("decisions", "right")
SAME = 1e-6  # relative: a price compared with itself claims nothing


@dataclass
class Judged:
    """Decisions with what they claimed and whether it was so; grows morning by morning.

    Attributes:
        market: Whose truth judges.
        claims: Name ("moves", "kept") → parts of (decision,) confidence and whether it was right.
    """

    market: Market
    claims: dict[str, list[tuple[Floats, Bools]]] = field(default_factory=lambda: {"moves": [], "kept": []})

    def add(self, requests: Requests, decisions: list[DetailedDecision], *, shelf: Shelf) -> None:
        """Judges one morning's answers to its requests."""
        asked = np.array([(one.decision.recommended_price, one.against) for one in decisions])  # (request, 2)
        confidence = np.array([one.decision.confidence for one in decisions])
        by_model = np.array(
            [one.decision.source != "rule" or "low_confidence" in one.decision.reasons for one in decisions]
        )
        claims = by_model & (requests.stock > 0) & (np.abs(asked[:, 1] / asked[:, 0] - 1) > SAME)
        worth = true_worth(self.market, requests, asked, shelf=shelf)
        right, kept = worth[:, 0] >= worth[:, 1] - 1e-12, np.abs(asked[:, 0] / requests.current_price - 1) <= SAME
        for name, some in (("moves", claims & ~kept), ("kept", claims & kept)):
            self.claims[name].append((confidence[some], right[some]))

    def histograms(self) -> dict[str, dict[str, list[int]]]:
        """Decisions and right ones by confidence, in BINS bins; JSON."""
        found = {}
        for name, parts in self.claims.items():
            confidence, right = (np.concatenate([part[number] for part in parts]) for number in (0, 1))
            bin_ = np.minimum((confidence * BINS).astype(int), BINS - 1)
            found[name] = {
                "decisions": np.bincount(bin_, minlength=BINS).tolist(),
                "right": np.bincount(bin_, right, BINS).astype(int).tolist(),
            }
        return found


def true_worth(market: Market, requests: Requests, prices: Floats, *, shelf: Shelf) -> Floats:
    """(request, price) expected profit until the next delivery at `prices`, under the market's truth.

    The competitor's price is taken for constant; the chance of running out counts. Where shoppers remember, the price
    is held for `market.held_days` and its mean day counted; where products substitute, what the others earn counts.
    """
    worth = np.empty_like(prices)
    for some, each, others in until_delivery(market, requests, prices, shelf=shelf):
        days = each.shape[1]
        units = each.mean(axis=1) * days
        stock = np.broadcast_to(requests.stock[some, None], units.shape)
        sold = units * expected_share(units, stock=stock, size=market.truth.size * days)
        margin = prices[some] - requests.unit_cost[some, None]
        worth[some] = margin * sold + others.mean(axis=1) * days
    return worth


def calibration_error(decisions: NDArray[np.int64], right: NDArray[np.int64]) -> float:
    """Expected calibration error over deciles of the decisions, from histograms of (BINS,)."""
    total = decisions.sum()
    if not total:
        return float("nan")
    centre = (np.arange(BINS) + 0.5) / BINS
    decile = np.minimum((np.cumsum(decisions) - 0.5 * decisions) * DECILES // total, DECILES - 1).astype(int)
    claimed = np.bincount(decile, decisions * centre, DECILES)
    true = np.bincount(decile, right, DECILES)
    return float(np.abs(claimed - true).sum() / total)


def fitted_slope(decisions: NDArray[Any], right: NDArray[Any]) -> float:
    """`decision.confidence_slope` by logistic regression through even odds, from histograms of (BINS,)."""
    centre = (np.arange(BINS) + 0.5) / BINS
    log_odds = np.log(centre / (1 - centre))
    fit = LogisticRegression(C=np.inf, fit_intercept=False)
    outcome = np.repeat([1, 0], BINS)
    fit.fit(np.tile(log_odds, 2)[:, None], outcome, sample_weight=np.concatenate([right, decisions - right]))
    return float(fit.coef_[0, 0])


def figures(markets: list[dict[str, Any]]) -> dict[str, Any]:
    """What the confidence of all markets together deserves."""
    decisions, right = (np.sum([part[key] for one in markets for part in one.values()], axis=0) for key in KEYS)
    return {
        "decisions": int(decisions.sum()),
        "right": float(right.sum() / max(decisions.sum(), 1)),
        "calibration_error": calibration_error(decisions, right),
    }


def slopes(markets: list[dict[str, Any]]) -> dict[str, float]:
    """What `decision.confidence_slope` would be for moves, kept prices and both, each market of one weight.

    To be read where the platform ran with a slope of 1, on markets that are not judged.
    """
    found = {}
    for name, parts in (("moves", ["moves"]), ("kept", ["kept"]), ("both", ["moves", "kept"])):
        decided, right = (np.array([[one[part][key] for part in parts] for one in markets]).sum(axis=1) for key in KEYS)
        weight = 1.0 / np.maximum(decided.sum(axis=1, keepdims=True), 1.0)
        found[name] = fitted_slope((decided * weight).sum(axis=0), (right * weight).sum(axis=0))
    return found
