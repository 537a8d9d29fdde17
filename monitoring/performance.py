"""Detect decay: forecast errors significantly larger than in the backtest, whether or not inputs drifted."""

import datetime as dt
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from pricing.config_models import MonitoringConfig
from pricing.decision.experiment_results import Interval

RESAMPLES = 500
CONFIDENCE = 0.95
COVERAGE_TOLERANCE = 0.10  # of outcomes, by which intervals may hold fewer than in the backtest: what 100 rows can tell
MOST_GROUPS = 12  # that are scored apart
FEW_PRODUCTS = 10  # with fewer, intervals are taken over products' weeks, since so few products cannot be resampled
NO_BACKTEST = "the serving version carries no backtest to compare with"
_MONDAY = pd.Timestamp("1970-01-05")
_WEEK = pd.Timedelta(days=7)


@dataclass(frozen=True)
class DecisionScores:
    """Scores of a set of decisions. From `profit` on, held-out products are excluded; fractions are 0…1."""

    name: str  # such as "2024-06-03 to 2024-06-09" or "category dairy"
    rows: int  # scored decisions
    products: int  # products among them
    decisions: int  # with a known outcome, scored or not
    units: float  # sold in the scored rows
    wape: Interval  # absolute error as a fraction of units sold
    bias: Interval  # forecast minus actual as a fraction of units sold
    coverage: Interval  # fraction of outcomes inside their 80 % interval; NaN where none is logged
    rows_known: int  # scored decisions with a logged interval, the base of `coverage`
    earlier_weeks: float  # WAPE of the sales of the same weekday one to four weeks earlier, on the same rows
    profit: Interval  # realised profit as a fraction of expected profit, where the recommendation was followed
    realised: float  # that profit in currency units
    confidence: float  # mean of the answers
    share_rule: float  # of answers by rule instead of by model, without those of `share_unidentified`
    share_unidentified: float  # of answers that keep a price because its elasticity is not identified
    share_followed: float  # of days on which the recommended price was charged
    share_comp_stale: float  # of competitors' prices too old to count, among answers that knew one; NaN where none did

    @property
    def days(self) -> tuple[dt.date, dt.date]:
        """First and last day of a window, as its name tells them."""
        first, _, last = self.name.partition(" to ")
        return dt.date.fromisoformat(first), dt.date.fromisoformat(last)

    @property
    def length(self) -> int:
        """Days of a window."""
        first, last = self.days
        return (last - first).days + 1

    @property
    def skill(self) -> float:
        """WAPE as a fraction of that of the same weekday in earlier weeks; NaN where that is unknown."""
        return _quotient(self.wape.value, self.earlier_weeks)


def score(frame: pd.DataFrame, *, name: str, rng: np.random.Generator) -> DecisionScores:
    """Scores joined decisions (`Joined.frame`, or rows of it) as the set `name`.

    Intervals come from a bootstrap clustered by product, since a product's days are not independent. Fewer than
    FEW_PRODUCTS are no sample to draw from: the figure is then about just these products, and what varies is their
    weeks, so clusters are a product's weeks. Few clusters make the interval wider (see `_tail`).
    """
    scored = frame[frame["scored"]]
    error = (scored["forecast"] - scored["units_sold"]).to_numpy()
    sold = scored["units_sold"].to_numpy()
    earlier = scored["earlier_weeks_error"].to_numpy()
    inside = scored["inside"].to_numpy()
    known = np.isfinite(earlier)
    logged = np.isfinite(inside)
    ratio = _resampled(scored, rng=rng)
    # A held-out product keeps its price by rule: only its forecast is scored, not its price. Nor is one that is fixed.
    priced = frame[~frame["held_out"] & (frame["pricing"] != "fixed")]
    followed = priced[(priced["pricing"] == "followed") & (priced["expected_margin"] > 0)]
    profit = (followed["earned"] * followed["units_sold"]).to_numpy()
    of_profit = _resampled(followed, rng=rng)
    return DecisionScores(
        name=name,
        rows=len(scored),
        products=int(scored["product_id"].nunique()),
        decisions=len(frame),
        units=float(sold.sum()),
        wape=ratio(np.abs(error), sold),
        bias=ratio(error, sold),
        coverage=ratio(np.where(logged, inside, 0.0), logged.astype(float)),
        rows_known=int(logged.sum()),
        earlier_weeks=_quotient(earlier[known].sum(), sold[known].sum()),
        profit=of_profit(profit, followed["expected_margin"].to_numpy()),
        realised=float(profit.sum()),
        confidence=float(priced["confidence"].mean()),
        share_rule=float(((priced["source"] == "rule") & ~priced["unidentified"]).mean()),
        share_unidentified=float(priced["unidentified"].mean()),
        share_followed=float((priced["pricing"] == "followed").mean()),
        share_comp_stale=float(priced.loc[priced["comp_price_age"].notna(), "comp_price_stale"].astype(float).mean()),
    )


def window_days(frame: pd.DataFrame, *, last: np.datetime64, least: int, most: int, min_rows: int) -> int:
    """The days of a score window: the fewest whole multiples of `least` in which the newest one holds enough rows.

    So a shop of few products is judged on longer windows. Where there are not enough rows yet, it is as many as hold
    them once there are as many in every `least` days as in the newest ones.
    """
    choices = range(least, max(most, least) + 1, least)
    for days in choices:
        if _scored(frame, last=last, days=days) >= min_rows:
            return days
    newest = _scored(frame, last=last, days=least)
    return min(choices[-1], least * math.ceil(min_rows / newest)) if newest else least


def _scored(frame: pd.DataFrame, *, last: np.datetime64, days: int) -> int:
    ((_, rows),) = windows(frame, last=last, days=days, count=1)
    return int(rows["scored"].sum())


def windows(frame: pd.DataFrame, *, last: np.datetime64, days: int, count: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yields the name and the rows of the `count` newest windows of `days` days that end on `last`, oldest first."""
    for back in range(count, 0, -1):
        start = pd.Timestamp(last) - pd.Timedelta(days=days * back - 1)
        end = start + pd.Timedelta(days=days - 1)
        yield f"{start:%Y-%m-%d} to {end:%Y-%m-%d}", frame[frame["period"].between(start, end)]


def groups(frame: pd.DataFrame, column: str, *, rng: np.random.Generator) -> list[DecisionScores]:
    """Scores each value of a column, the largest by units first, at most MOST_GROUPS of them."""
    order = frame.groupby(column, observed=True)["units_sold"].sum().sort_values(ascending=False).index[:MOST_GROUPS]
    return [score(frame[frame[column] == value], name=f"{column} {value}", rng=rng) for value in order]


def _resampled(
    frame: pd.DataFrame, *, rng: np.random.Generator
) -> Callable[[NDArray[np.floating], NDArray[np.floating]], Interval]:
    """Draws clusters of rows, and returns the function of the ratio of two columns' sums, with its interval."""
    group = pd.factorize(frame["product_id"])[0]
    if group.max(initial=-1) + 1 < FEW_PRODUCTS:
        week = (frame["period"] - _MONDAY) // _WEEK
        group = np.asarray(frame.groupby([frame["product_id"], week], sort=False).ngroup())
    size = int(group.max(initial=-1)) + 1
    weights = rng.multinomial(size, np.full(size, 1 / size), size=RESAMPLES).astype(float) if size else np.empty(0)

    def ratio(above: NDArray[np.floating], below: NDArray[np.floating]) -> Interval:
        value = _quotient(above.sum(), below.sum())
        if size < 2 or not math.isfinite(value):
            return Interval(value, math.nan, math.nan)
        numerator, denominator = (weights @ np.bincount(group, each, size) for each in (above, below))
        draws = numerator[denominator > 0] / denominator[denominator > 0]
        tail = _tail(size)
        low, high = np.quantile(draws, (tail, 1 - tail))
        return Interval(value, float(low), float(high))

    return ratio


def _tail(clusters: int) -> float:
    """The share of resamples to leave out at each end: 2.5 % of many clusters', less of few clusters'.

    Resamples of few clusters vary too little: by (n − 1) / n in variance, and since a standard deviation that is
    estimated from n values calls for Student's t instead of the normal distribution. This is the expanded percentile
    interval of Hesterberg (2015), What teachers should know about the bootstrap, The American Statistician 69(4).
    """
    student = -stdtrit(clusters - 1, (1 - CONFIDENCE) / 2)
    return float(ndtr(-student * math.sqrt(clusters / (clusters - 1))))


def _quotient(above: float, below: float) -> float:
    return float(above / below) if below > 0 else math.nan


@dataclass(frozen=True)
class Band:
    """Tolerance band around the backtest's figures; NaN where unknown."""

    wape: float  # of the backtest's mean forecasts, as logged; not of its medians, which is smaller
    wape_most: float
    bias_least: float
    bias_most: float
    skill_most: float  # of the WAPE as a fraction of the naive forecast's
    coverage: float = math.nan  # fraction of outcomes in the backtest's 80 % intervals
    coverage_least: float = math.nan


@dataclass(frozen=True)
class WindowVerdict:
    """Result of judging one score window."""

    score: DecisionScores
    judged: bool  # False when it has too few rows, or there is no backtest to compare with
    breaches: Mapping[str, str]  # limits exceeded: "error", "bias" or "coverage", with the figures as text
    note: str = ""  # a remark, such as that the naive forecast's error grew as well
    off: float = 0.0  # of figures in breach: bias as a fraction of sales, or error beyond the backtest's as one of it

    @property
    def text(self) -> str:
        """The verdict in one line."""
        if not self.judged:
            return f"{self.score.name}: not judged: {self.note}"
        broken = "; ".join(self.breaches.values())
        says = f"decayed: {broken}" if broken else "forecasts hold what their backtest promised"
        return f"{self.score.name}: {says}" + (f" ({self.note})" if self.note else "")


def band(figures: Mapping[str, Any], config: MonitoringConfig) -> Band | None:
    """Builds the tolerance band from a backtest's figures; None when they hold no error.

    The half-width is the configured tolerance, or two standard errors of prediction where the weeks of the folds vary
    by more; folds alone are too few to estimate that. The sampling variance over products is subtracted, since a
    window's own interval includes it. The figures are those of `Backtest.figures`, and `weeks` with the same of each
    fold's weeks.
    """
    wape = backtest_error(figures)
    if not 0 < wape < math.inf:
        return None

    def weekly(name: str) -> list[float]:
        return [_number(week.get(name)) for week in figures.get("weeks") or []]

    bias = float(np.nan_to_num(_number(figures.get("bias"))))
    skill = _quotient(wape, _number(figures.get("wape_naive")))
    skills = [_quotient(*each) for each in zip(weekly("wape_mean"), weekly("wape_naive"), strict=True)]
    room = max(config.error_tolerance * wape, _spread(weekly("wape_mean"), weekly("wape_mean_se")))
    off = config.bias_tolerance + _spread(weekly("bias"), weekly("bias_se"))
    skill_room = max(config.error_tolerance * skill, _spread(skills))
    coverage = _number(figures.get("coverage_80"))
    held = coverage - COVERAGE_TOLERANCE - _spread(weekly("coverage_80"))
    return Band(wape, wape + room, bias - off, bias + off, skill + skill_room, coverage, held)


def backtest_error(figures: Mapping[str, Any]) -> float:
    """The WAPE of a backtest's mean forecasts; NaN when it holds none."""
    return _number(figures.get("wape_mean"))


def judge(score: DecisionScores, band: Band | None, *, min_rows: int) -> WindowVerdict:
    """Compares one window with the band.

    A limit is breached when the whole interval of the window's figure lies outside the band. Error that grew as much
    for the naive forecast is no decay: demand became noisier, and a new model would not help. Without an interval, as
    with a single product in a single week, the window is not judged, which is not a pass.
    """
    if score.rows < min_rows:
        return WindowVerdict(score, False, {}, f"{score.rows:,} scored decisions, {min_rows:,} are needed")
    if not math.isfinite(score.wape.low):
        few = f"scored decisions of {score.products} product(s) that sold {score.units:,.0f} units give no interval"
        return WindowVerdict(score, False, {}, few)
    if band is None:
        return WindowVerdict(score, False, {}, NO_BACKTEST)

    breaches = _breaches(score, band, min_rows=min_rows)
    grown = breaches.get("error")
    note = ""
    if grown and score.skill <= band.skill_most:
        note = f"{grown}, but the naive forecast's grew as much: that is noisier demand, not decay"
        del breaches["error"]
    off = max(
        score.wape.value / band.wape - 1 if "error" in breaches else 0.0,
        abs(score.bias.value) if "bias" in breaches else 0.0,
    )
    return WindowVerdict(score, True, breaches, note, off)


def _breaches(score: DecisionScores, band: Band, *, min_rows: int) -> dict[str, str]:
    """Returns the limits outside of which whole intervals lie, with the figures as text."""
    breaches = dict[str, str]()
    if score.wape.low > band.wape_most:
        error = f"error {score.wape.value:.2f} (at least {score.wape.low:.2f})"
        breaches["error"] = f"{error}, the backtest's was {band.wape:.2f}"
    if score.bias.low > band.bias_most:
        breaches["bias"] = f"forecasts are {score.bias.value:.0%} of sales too high"
    elif score.bias.high < band.bias_least:
        breaches["bias"] = f"forecasts are {-score.bias.value:.0%} of sales too low"
    if score.rows_known >= min_rows and score.coverage.high < band.coverage_least:
        held = f"80 % intervals held {score.coverage.value:.0%} of outcomes (at most {score.coverage.high:.0%})"
        breaches["coverage"] = f"{held}, in the backtest {band.coverage:.0%}"
    return breaches


def explain(verdicts: Sequence[WindowVerdict], drifted: Sequence[str] | None) -> str:
    """Describes decay and drift in two sentences."""
    newest = verdicts[-1]
    if not newest.judged:
        decay = f"Whether the model has decayed is unknown: {newest.note}."
    elif newest.breaches:
        decay = f"The model has decayed: {'; '.join(newest.breaches.values())}."
    else:
        decay = "The model has not decayed: its error is what the backtest promised."
    if drifted is None:
        return f"{decay} Whether inputs have drifted is unknown: none could be compared."
    return f"{decay} Inputs have drifted: {', '.join(drifted)}." if drifted else f"{decay} No input has drifted."


def _spread(values: Sequence[float], standard_errors: Sequence[float] = ()) -> float:
    """Computes two standard errors of predicting one more value; 0 when fewer than two are known.

    The mean variance that the values' own `standard_errors` stand for is subtracted from their variance.
    """
    known = np.array([value for value in values if math.isfinite(value)])
    errors = np.array([error for error in standard_errors if math.isfinite(error)])
    if len(known) < 2:
        return 0.0
    variance = known.var(ddof=1) - (float((errors**2).mean()) if len(errors) else 0.0)
    return float(2 * np.sqrt(max(variance, 0.0) * (1 + 1 / len(known))))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
