"""How wrong the forecasts were: error, bias, coverage and profit of a set of joined decisions, with intervals."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

RESAMPLES = 500
INTERVAL = (2.5, 97.5)


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % bootstrap interval over products; NaN where it cannot be said."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Score:
    """The figures of one set of decisions.

    Attributes:
        name: Which set, such as "2024-06-03 to 2024-06-09" or "category dairy".
        rows: Decisions that count for the error.
        products: Products among them.
        decisions: Decisions with a known outcome, scored or not.
        units: Units sold, of the scored ones.
        wape: Absolute error as a fraction of units sold.
        bias: Forecast minus actual as a fraction of units sold.
        coverage: Fraction of outcomes inside their 80 % interval; NaN where the log has none.
        rows_known: Decisions among the scored whose interval the log has, which coverage speaks of.
        earlier_weeks: WAPE of sales on the same weekday one to four weeks earlier, on the same rows.
        profit: Realised profit as a fraction of what was expected, where the recommendation was followed.
        realised: That profit in currency units.
        confidence: Mean confidence of the answers, held-out products apart, as in all that follows.
        share_rule: Fraction of answers by rule instead of by model, those that hold a price apart since the history
            does not tell the elasticity.
        share_unidentified: The fraction of the latter.
        share_followed: Fraction of days on which the recommended price was charged.
    """

    name: str
    rows: int
    products: int
    decisions: int
    units: float
    wape: Interval
    bias: Interval
    coverage: Interval
    earlier_weeks: float
    profit: Interval
    realised: float
    confidence: float
    share_rule: float
    share_followed: float
    rows_known: int = 0
    share_unidentified: float = 0.0

    @property
    def skill(self) -> float:
        """WAPE as a fraction of that of the same weekday in earlier weeks; NaN where that is unknown."""
        return self.wape.value / self.earlier_weeks if self.earlier_weeks > 0 else float("nan")


def score(frame: pd.DataFrame, *, name: str, rng: np.random.Generator) -> Score:
    """Scores joined decisions (`Joined.frame`, or rows of it).

    The interval comes from drawing whole products with replacement, so that a product's days are not taken as
    independent.
    """
    scored = frame[frame["scored"]]
    error = (scored["forecast"] - scored["units_sold"]).to_numpy()
    sold = scored["units_sold"].to_numpy()
    group = pd.factorize(scored["product_id"])[0]
    weights = _weights(group, rng=rng)
    known = scored["earlier_weeks_error"].notna().to_numpy()
    earlier_weeks = _ratio(scored["earlier_weeks_error"].to_numpy()[known].sum(), sold[known].sum())
    # A held-out product keeps its price by rule: its forecast counts, its answer says nothing about pricing.
    priced = frame[~frame["held_out"]]
    followed = priced[(priced["pricing"] == "followed") & (priced["expected_margin"] > 0)]
    profit = ((followed["charged"] - followed["cost"]) * followed["units_sold"]).to_numpy()
    by_product = pd.factorize(followed["product_id"])[0]
    return Score(
        name=name,
        rows=len(scored),
        products=int(scored["product_id"].nunique()),
        decisions=len(frame),
        units=float(sold.sum()),
        wape=_interval(np.abs(error), sold, group=group, weights=weights),
        bias=_interval(error, sold, group=group, weights=weights),
        coverage=_interval(
            scored["inside"].fillna(0.0).to_numpy(),
            scored["inside"].notna().to_numpy().astype(float),
            group=group,
            weights=weights,
        ),
        earlier_weeks=earlier_weeks,
        profit=_interval(
            profit, followed["expected_margin"].to_numpy(), group=by_product, weights=_weights(by_product, rng=rng)
        ),
        realised=float(profit.sum()),
        confidence=float(priced["confidence"].mean()),
        share_rule=float(((priced["source"] == "rule") & ~priced["unidentified"]).mean()),
        share_unidentified=float(priced["unidentified"].mean()),
        share_followed=float((priced["pricing"] == "followed").mean()),
        rows_known=int(scored["inside"].notna().sum()),
    )


def windows(frame: pd.DataFrame, *, last: np.datetime64, days: int, count: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yields the name and the rows of the `count` newest windows of `days` days that end on `last`, oldest first."""
    for back in range(count, 0, -1):
        start = pd.Timestamp(last) - pd.Timedelta(days=days * back - 1)
        end = start + pd.Timedelta(days=days - 1)
        yield f"{start:%Y-%m-%d} to {end:%Y-%m-%d}", frame[frame["period"].between(start, end)]


def groups(frame: pd.DataFrame, column: str, *, rng: np.random.Generator, most: int = 12) -> list[Score]:
    """Scores each value of a column, the largest by units first, at most `most` of them."""
    order = frame.groupby(column, observed=True)["units_sold"].sum().sort_values(ascending=False).index[:most]
    return [score(frame[frame[column] == value], name=f"{column} {value}", rng=rng) for value in order]


def _weights(group: NDArray[np.integer], *, rng: np.random.Generator) -> NDArray[np.float64]:
    """(resample, group) how often each group is drawn."""
    count = int(group.max()) + 1 if len(group) else 0
    if not count:
        return np.zeros((RESAMPLES, 0))
    return rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(float)


def _interval(
    above: NDArray[np.floating],
    below: NDArray[np.floating],
    *,
    group: NDArray[np.integer],
    weights: NDArray[np.floating],
) -> Interval:
    """Ratio of two sums and its interval."""
    value = _ratio(above.sum(), below.sum())
    if weights.shape[1] < 2 or not np.isfinite(value):
        return Interval(value, float("nan"), float("nan"))
    size = weights.shape[1]
    numerator = weights @ np.bincount(group, above, size)
    denominator = weights @ np.bincount(group, below, size)
    draws = numerator[denominator > 0] / denominator[denominator > 0]
    low, high = np.percentile(draws, INTERVAL)
    return Interval(value, float(low), float(high))


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below > 0 else float("nan")
