"""Widen prediction intervals by the errors measured on earlier folds, and compute quantiles and scores."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.arrays import Floats
from pricing.data.counting_units import in_steps
from pricing.demand.baselines import sales_rows, shelf_of
from pricing.demand.combination import CLASSES
from pricing.demand.evaluation import LEAST_MEAN, quantile, sales_moments, sales_score, sales_transform

Found = TypeVar("Found", float, Floats)

QUANTILES = {"q025": 0.025, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q975": 0.975}
LEVEL_ERROR = (0.10, 0.02)  # default until measured in a backtest
LEAST_SUMS = 30  # least sums to measure the level's error
PRIOR_FOLDS = 2.0  # weight, in non-overlapping folds, of the default, and of all products against a class
WEEKLY = 3.5  # days a step above which steps are weeks
MOST_ROWS = 10_000  # of a class used to measure its dispersion
_NUDGE = 1e-3  # step in log level of the numerical derivative of expected sales
_FACTORS = np.linspace(-1.5, 1.5, 13)  # candidate log factors on the size


@dataclass(frozen=True)
class Width:
    """Corrections of the network's predictive distribution.

    Attributes:
        level_error: Log-level standard deviation one period ahead and its growth with the root of the step: the error
            that the periods of a product share.
        dispersion: (class,) log factor on the negative binomial's size, for the three volume classes and for products
            of unknown volume. The corrected size includes the level's error.
    """

    level_error: tuple[float, float]
    dispersion: Floats


def default_width() -> Width:
    """Return the corrections used until a backtest has measured them."""
    return Width(LEVEL_ERROR, np.zeros(len(CLASSES) + 1))


def with_quantiles(frame: pd.DataFrame, width: Width) -> pd.DataFrame:
    """Add quantiles of demand, expected sales, PIT and CRPS to an evaluation frame.

    Demand is negative binomial, counted in each product's own `unit`: `q025` to `q975` are its quantiles. Sales are
    demand limited by `shelf` (unlimited where the frame has none): `expected` is their mean, `pit_low`, `pit_high` and
    `crps` score them. All but the PIT are in the units of `actual`.
    """
    unit, counted = frame["unit"].to_numpy(np.float64), frame["counted"].to_numpy(np.bool_)
    mean = np.maximum(frame["forecast"].to_numpy(np.float64) / unit, LEAST_MEAN)
    size = frame["size"].to_numpy(np.float64) * np.exp(width.dispersion[_rows(frame)])
    columns = {name: unit * quantile(q, mean=mean, size=size, counted=counted) for name, q in QUANTILES.items()}
    sold, shelf = in_steps(frame["actual"].to_numpy(np.float64), unit), in_steps(shelf_of(frame), unit)
    given = {"mean": mean, "size": size, "shelf": shelf}
    columns["expected"] = unit * sales_moments(**given)[0]
    columns["pit_low"], columns["pit_high"] = sales_transform(sold, **given)
    columns["crps"] = unit * sales_score(sold, **given)
    return frame.assign(**columns)


def with_measured_width(frames: list[pd.DataFrame]) -> list[pd.DataFrame]:
    """Widen each fold's intervals by the errors of earlier folds known at its cutoff, as in real time.

    Without any, as in the first fold, the default width is used.
    """
    return [
        with_quantiles(frame, measure_width(known_before(frames[:number], frame["cutoff"].iloc[0])))
        for number, frame in enumerate(frames)
    ]


def known_before(earlier: list[pd.DataFrame], cutoff: np.datetime64) -> list[pd.DataFrame]:
    """Select the earlier folds' rows whose outcome is known at a cutoff."""
    known = [frame[frame["date"].to_numpy() <= np.datetime64(cutoff)] for frame in earlier]
    return [frame for frame in known if len(frame)]


def measure_width(frames: list[pd.DataFrame]) -> Width:
    """Estimate dispersion and level error from folds."""
    if not frames:
        return default_width()
    frame = pd.concat(frames, ignore_index=True)
    return Width(measure_level_error(frame), measure_dispersion(frame, folds=equivalent_folds(frame)))


def equivalent_folds(frame: pd.DataFrame) -> float:
    """Number of non-overlapping folds equivalent to an evaluation frame: periods scored over steps per fold."""
    return float(frame["date"].nunique() / (int(frame["step"].max()) - int(frame["step"].min()) + 1))


def measure_level_error(frame: pd.DataFrame) -> tuple[float, float]:
    """Estimate the log-level error variance beyond count noise, a² + b² × step.

    A product's forecasts are summed over weeks of steps (fortnights on weekly panels), counted in its own unit; the
    variance of log(actual / forecast) less the negative binomial's is regressed on the step by least squares, negative
    parts set to 0. Actual and forecast are sales given the opening stock. With ε the elasticity of expected sales to
    the level (1 with unlimited stock, less where stock runs out), ε² (a² + b² × step) is expected, so that a sum has
    weight ε⁴. If all steps fall into one sum, b keeps its default.

    Args:
        frame: `actual`, `forecast`, `size`, `unit`, `step`, `date`, `product_id`, `cutoff`, `censored` and, where it is
            known, `shelf`.
    """
    scored = sales_rows(frame.assign(demand=frame["forecast"]))
    unit = scored["unit"].to_numpy(np.float64)
    demand = scored["demand"].to_numpy(np.float64) / unit
    given = {"size": scored["size"].to_numpy(np.float64), "shelf": in_steps(shelf_of(scored), unit)}
    expected, spread = sales_moments(mean=demand, **given)
    more = sales_moments(mean=np.maximum(demand, LEAST_MEAN) * np.exp(_NUDGE), **given)[0]
    scored = scored.assign(
        chunk=(scored["step"] - 1) // _summed(scored),
        actual=scored["actual"] / unit,
        forecast=expected,
        spread=spread,
        follows=(more - expected) / np.expm1(_NUDGE),
    )
    groups = scored.groupby(["product_id", "cutoff", "chunk"], observed=True)
    sums = groups[["actual", "forecast", "spread", "follows"]].sum()
    sums = sums.assign(rows=groups.size(), step=groups["step"].mean()).reset_index()
    # The size includes the shared error, so count noise of n periods already contains 1/n of it.
    sums = sums[(sums["rows"] > 1) & (sums["forecast"] >= 5.0)]
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


def _summed(scored: pd.DataFrame) -> int:
    """Return the number of steps to sum: a week of days, or a fortnight of weeks."""
    days = (scored["date"].to_numpy() - scored["cutoff"].to_numpy()) / np.timedelta64(1, "D")
    weekly = len(scored) > 0 and bool(np.median(days / scored["step"].to_numpy()) > WEEKLY)
    return 2 if weekly else 7


def measure_dispersion(frame: pd.DataFrame, *, folds: float) -> Floats:
    """(class,) log factors on the size that minimise the CRPS of the folds' forecasts.

    A class's factor is shrunk towards that of all products, and this towards 0, the more the fewer folds there are.

    Args:
        frame: An evaluation frame.
        folds: `equivalent_folds` of the frame.
    """
    scored = sales_rows(frame.assign(demand=frame["forecast"]))
    everything = shrink_by_folds(_sharpest(scored, otherwise=0.0), towards=0.0, folds=folds)
    own = [_sharpest(scored[scored["volume_class"] == name], otherwise=everything) for name in CLASSES]
    return np.array([*(shrink_by_folds(one, towards=everything, folds=folds) for one in own), everything])


def shrink_by_folds(found: Found, *, towards: Found, folds: float) -> Found:
    """Shrink an estimate from so many folds towards its default."""
    return (folds * found + PRIOR_FOLDS * towards) / (folds + PRIOR_FOLDS)


def spread_rows(scored: pd.DataFrame) -> pd.DataFrame:
    """Select at most MOST_ROWS rows, evenly spaced."""
    count = len(scored)
    return scored.iloc[np.unique(np.linspace(0, count - 1, min(count, MOST_ROWS)).astype(np.int64))]


def _sharpest(scored: pd.DataFrame, *, otherwise: float) -> float:
    """Return the candidate log factor with the smallest total CRPS; `otherwise` without rows."""
    if scored.empty:
        return otherwise
    some = spread_rows(scored)
    unit = some["unit"].to_numpy(np.float64)
    sold, shelf = in_steps(some["actual"].to_numpy(np.float64), unit), in_steps(shelf_of(some), unit)
    mean = np.maximum(some["demand"].to_numpy(np.float64) / unit, LEAST_MEAN)
    size = some["size"].to_numpy(np.float64)
    scores = [
        float((unit * sales_score(sold, mean=mean, size=size * np.exp(one), shelf=shelf)).sum()) for one in _FACTORS
    ]
    return float(_FACTORS[int(np.argmin(scores))])


def _rows(frame: pd.DataFrame) -> NDArray[np.integer]:
    """(row,) index of each row's volume class in `Width.dispersion`."""
    place = {name: number for number, name in enumerate(CLASSES)}
    return frame["volume_class"].map(place).fillna(len(CLASSES)).to_numpy(np.int64)
