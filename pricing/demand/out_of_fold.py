"""Learn from earlier folds how wide forecasts must be and what each forecaster weighs, as in real time.

Combination weights with the best score are shrunk towards equal ones, which estimated weights seldom beat on little
evidence (Diebold and Pauly 1990, doi:10.1016/0169-2070(90)90028-A; Smith and Wallis 2009,
doi:10.1111/j.1468-0084.2008.00541.x).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from pricing.arrays import Floats
from pricing.data.counting_units import in_steps
from pricing.demand.baselines import sales_rows
from pricing.demand.ensemble import CLASSES, FORECASTERS
from pricing.demand.evaluation import LEAST_MEAN, quantile, sales_moments, sales_score, sales_transform

QUANTILES = {"q025": 0.025, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q975": 0.975}
LEVEL_ERROR = (0.10, 0.02)  # default until measured in a backtest
LEAST_SUMS = 30  # least sums to measure the level's error
PRIOR_FOLDS = 2.0  # weight, in non-overlapping folds, of the default, and of all products against a class
WEEKLY = 3.5  # days a step above which steps are weeks
MOST_ROWS = 10_000  # of a class that candidates are scored on
PARTS = 4  # candidate weights are multiples of a quarter
ALIKE = 1e-9  # of the units sold: scores closer than this are ties
_NUDGE = 1e-3  # step in log level of the numerical derivative of expected sales
_FACTORS = np.linspace(-1.5, 1.5, 13)  # candidate log factors on the size
_PARTITIONS = [parts for parts in product(range(PARTS + 1), repeat=len(FORECASTERS)) if sum(parts) == PARTS]
_SHARES = np.array(_PARTITIONS) / PARTS  # (candidate, forecaster) combination weights


@dataclass(frozen=True)
class Width:
    """Corrections of the network's predictive distribution.

    The level's error is what the periods of a product share; the corrected size includes it.
    """

    level_error: tuple[float, float]  # log-level sd one period ahead, and its growth with the root of the step
    dispersion: Floats  # (class,) log factor on the negative binomial's size, the last of products of unknown volume


@dataclass(frozen=True)
class OutOfFold:
    """Estimates from out-of-fold forecasts: the width, and (class, forecaster) combination `weights`."""

    width: Width
    weights: Floats


DEFAULT_WIDTH = Width(LEVEL_ERROR, np.zeros(len(CLASSES) + 1))  # until a backtest has measured it


def with_quantiles(frame: pd.DataFrame, width: Width) -> pd.DataFrame:
    """Add quantiles of demand, expected sales, PIT and CRPS to an evaluation frame.

    Demand is negative binomial, counted in each product's own `unit`: `q025` to `q975` are its quantiles. Sales are
    demand limited by `shelf`: `expected` is their mean, `pit_low`, `pit_high` and `crps` score them. All but the PIT
    are in the units of `actual`.
    """
    sales = _Sales.of(frame)
    place = {name: number for number, name in enumerate(CLASSES)}
    row = frame["volume_class"].map(place).fillna(len(CLASSES)).to_numpy(np.int64)
    mean = np.maximum(sales.read("forecast"), LEAST_MEAN)
    size = sales.size * np.exp(width.dispersion[row])
    counted = frame["counted"].to_numpy(np.bool_)
    columns: dict[str, Floats] = {
        name: sales.unit * quantile(level, mean=mean, size=size, counted=counted) for name, level in QUANTILES.items()
    }
    columns["expected"] = sales.unit * sales_moments(mean=mean, size=size, shelf=sales.shelf)[0]
    columns["pit_low"], columns["pit_high"] = sales_transform(sales.sold, mean=mean, size=size, shelf=sales.shelf)
    columns["crps"] = sales.crps(mean, size)
    return frame.assign(**columns)


@dataclass(frozen=True)
class _Sales:
    """Columns of an evaluation frame, counted in each product's own unit; all (row,)."""

    frame: pd.DataFrame
    unit: Floats
    sold: Floats
    shelf: Floats
    size: Floats  # of the negative binomial

    @classmethod
    def of(cls, frame: pd.DataFrame) -> "_Sales":
        unit = frame["unit"].to_numpy(np.float64)
        sold, shelf = (in_steps(frame[name].to_numpy(np.float64), unit) for name in ("actual", "shelf"))
        return cls(frame, unit, sold, shelf, frame["size"].to_numpy(np.float64))

    def read(self, name: str) -> Floats:
        """Return a column in counting units."""
        return np.asarray(self.frame[name].to_numpy(np.float64) / self.unit)

    def crps(self, mean: Floats, size: Floats) -> Floats:
        """Score forecasts in counting units; the result is in the units of `actual`."""
        return np.asarray(self.unit * sales_score(self.sold, mean=mean, size=size, shelf=self.shelf))


def with_measured_width(frames: list[pd.DataFrame]) -> list[pd.DataFrame]:
    """Widen each fold's intervals by the errors of earlier folds known at its cutoff; the default without any."""
    return [
        with_quantiles(frame, measure_width(known_before(frames[:number], frame["cutoff"].iloc[0])))
        for number, frame in enumerate(frames)
    ]


def known_before(earlier: list[pd.DataFrame], cutoff: np.datetime64) -> list[pd.DataFrame]:
    """Select the earlier folds' rows whose outcome is known at a cutoff."""
    known = [frame[frame["date"].to_numpy() <= np.datetime64(cutoff)] for frame in earlier]
    return [frame for frame in known if len(frame)]


def measure_width(frames: list[pd.DataFrame]) -> Width:
    """Estimate dispersion and level error from folds.

    The dispersion is the candidate with the smallest CRPS, shrunk as `_by_class` does, all products' towards 0.
    """
    if not frames:
        return DEFAULT_WIDTH
    frame = pd.concat(frames, ignore_index=True)

    def sharpest(scored: pd.DataFrame, otherwise: Floats) -> Floats:
        if scored.empty:
            return otherwise
        sales = _Sales.of(_spread_rows(scored))
        mean = np.maximum(sales.read("demand"), LEAST_MEAN)
        scores = [float(sales.crps(mean, sales.size * np.exp(factor)).sum()) for factor in _FACTORS]
        return np.asarray(_FACTORS[int(np.argmin(scores))])

    dispersion = _by_class(frame.assign(demand=frame["forecast"]), sharpest, default=np.zeros(()))
    return Width(measure_level_error(frame), dispersion)


def measure_level_error(frame: pd.DataFrame) -> tuple[float, float]:
    """Estimate the log-level error variance beyond count noise, a² + b² × step, from an evaluation frame.

    A product's forecasts are summed over weeks of steps (fortnights on weekly panels), counted in its own unit; the
    variance of log(actual / forecast) less the negative binomial's is regressed on the step by least squares, negative
    parts set to 0. Actual and forecast are sales given the opening stock. With ε the elasticity of expected sales to
    the level (1 with unlimited stock, less where stock runs out), ε² (a² + b² × step) is expected, so that a sum has
    weight ε⁴. If all steps fall into one sum, b keeps its default.
    """
    sums = _sums_of_weeks(sales_rows(frame.assign(demand=frame["forecast"])))
    if len(sums) < LEAST_SUMS:
        return LEVEL_ERROR
    error = np.log((sums["actual"] + 0.5) / (sums["forecast"] + 0.5))
    excess = (error**2 - sums["spread"] / sums["forecast"] ** 2) / (1.0 - 1.0 / sums["rows"])
    excess = np.clip(excess, -1.0, 1.0).to_numpy()
    share = (sums["follows"] / sums["forecast"]).to_numpy() ** 2  # ε²
    step = sums["step"].to_numpy()
    growth = LEVEL_ERROR[1] ** 2
    if sums["chunk"].nunique() > 1:
        growth = float(np.linalg.lstsq(np.stack([share * step, share], axis=1), excess, rcond=None)[0][0])
    growth = max(growth, 0.0)
    at_once = share @ (excess - share * growth * step) / max(float(share @ share), 1e-12)
    return float(np.sqrt(max(float(at_once), 0.0))), float(np.sqrt(growth))


def _sums_of_weeks(scored: pd.DataFrame) -> pd.DataFrame:
    """Sum a product's sales, expected sales, their variance and their slope in the log level, over weeks of steps.

    Only sums of several periods of which at least five units were expected.
    """
    sales = _Sales.of(scored)
    demand = sales.read("demand")
    raised = np.maximum(demand, LEAST_MEAN) * np.exp(_NUDGE)
    expected, spread = sales_moments(mean=demand, size=sales.size, shelf=sales.shelf)
    more, _ = sales_moments(mean=raised, size=sales.size, shelf=sales.shelf)
    days = (scored["date"].to_numpy() - scored["cutoff"].to_numpy()) / np.timedelta64(1, "D")
    weekly = len(scored) > 0 and bool(np.median(days / scored["step"].to_numpy()) > WEEKLY)
    scored = scored.assign(
        chunk=(scored["step"] - 1) // (2 if weekly else 7),
        actual=scored["actual"] / sales.unit,
        forecast=expected,
        spread=spread,
        follows=(more - expected) / np.expm1(_NUDGE),
    )
    groups = scored.groupby(["product_id", "cutoff", "chunk"], observed=True)
    sums = groups[["actual", "forecast", "spread", "follows"]].sum()
    sums = sums.assign(rows=groups.size(), step=groups["step"].mean()).reset_index()
    # The size includes the shared error, so count noise of n periods already contains 1/n of it.
    return sums[(sums["rows"] > 1) & (sums["forecast"] >= 5.0)]


def choose_weights(earlier: Sequence[pd.DataFrame], *, prior: Floats) -> Floats:
    """(class, forecaster) combination weights: the quarters with the smallest CRPS over earlier folds, shrunk.

    A forecaster that was never scored keeps its part of the prior; rows of folds that lack one are not used. Ties go to
    the weights nearest to the prior.

    Args:
        earlier: The earlier folds' evaluation frames, with a column for each forecaster, NaN where a fold had none;
            only rows whose outcome is known at the cutoff.
        prior: (class, forecaster) from `ensemble.prior_weights`; a forecaster with weight 0 there is left out.
    """
    if not earlier:
        return prior
    usable = _SHARES[(_SHARES[:, prior[0] == 0] == 0).all(axis=1)]

    def best(scored: pd.DataFrame, otherwise: Floats) -> Floats:
        known = scored[list(FORECASTERS)].notna().to_numpy()
        there = known.any(axis=0)
        some = _spread_rows(scored.iloc[np.flatnonzero(known[:, there].all(axis=1))])
        if some["censored"].all():  # no row, or only sold-out ones, which never penalise a high forecast
            return otherwise
        tried = usable[(usable[:, ~there] == 0).all(axis=1)]
        sales = _Sales.of(some)
        means = np.stack([sales.read(name) for name in FORECASTERS])
        means[~there] = 0.0
        scores = np.array([float(sales.crps(weights @ means, sales.size).sum()) for weights in tried])
        alike = tried[scores <= scores.min() + ALIKE * float((sales.unit * sales.sold).sum())]
        nearest = alike[int(np.argmin(np.abs(alike - otherwise).sum(axis=1)))]
        return np.where(there, nearest * otherwise[there].sum(), otherwise)

    return _by_class(pd.concat(earlier, ignore_index=True), best, default=prior[0])


def _by_class(frame: pd.DataFrame, find: Callable[[pd.DataFrame, Floats], Floats], *, default: Floats) -> Floats:
    """(class, …) what `find` finds in each volume class's scored rows, or else `otherwise`; then in all rows.

    A class's is shrunk towards that of all products, and this towards the default, the more the fewer non-overlapping
    folds the frame amounts to: periods scored over steps a fold.
    """
    folds = frame["date"].nunique() / (int(frame["step"].max()) - int(frame["step"].min()) + 1)

    def shrunk(found: Floats, towards: Floats) -> Floats:
        return np.asarray((folds * found + PRIOR_FOLDS * towards) / (folds + PRIOR_FOLDS))

    scored = sales_rows(frame)
    everything = shrunk(find(scored, default), default)
    own = [find(scored[scored["volume_class"] == name], everything) for name in CLASSES]
    return np.array([*(shrunk(found, everything) for found in own), everything])


def _spread_rows(scored: pd.DataFrame) -> pd.DataFrame:
    """Select at most MOST_ROWS rows, evenly spaced."""
    count = len(scored)
    return scored.iloc[np.unique(np.linspace(0, count - 1, min(count, MOST_ROWS)).astype(np.int64))]
