"""How wide a forecast's intervals are: what is measured on folds that are over, and the quantiles that follow."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.data.units import in_steps
from pricing.demand.combination import CLASSES
from pricing.demand.evaluation import probability_transform, quantile, ranked_probability

Floats = NDArray[np.floating]

QUANTILES = {"q025": 0.025, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q975": 0.975}
LEVEL_ERROR = (0.10, 0.02)  # until a backtest has measured it
LEAST_SUMS = 30  # sums below which the level's error is not measured
SMOOTH = 2.0  # folds that no correction of the size counts for, and so many again all products beside a class
MOST_ROWS = 10_000  # of a class that the size is measured on
_FACTORS = np.linspace(-1.5, 1.5, 13)  # log factors on the size that are tried


@dataclass(frozen=True)
class Width:
    """How wide forecasts are beside what the network says of each period's noise.

    Attributes:
        level_error: Log-level standard deviation one period ahead and its growth with the root of the step. It is
            the part of the noise that the periods of a product share.
        dispersion: (class,) log factor on the negative binomial's size, of the three volume classes and of products
            whose volume is not known. The size holds the level's error, too.
    """

    level_error: tuple[float, float]
    dispersion: Floats


def default_width() -> Width:
    """What is taken until a backtest has measured it."""
    return Width(LEVEL_ERROR, np.zeros(len(CLASSES) + 1))


def with_quantiles(frame: pd.DataFrame, width: Width) -> pd.DataFrame:
    """The frame with quantiles, probability transforms and CRPS: of negative binomials.

    Chance counts in each product's own unit, `unit`; the columns are in the units of `actual`.
    """
    unit, counted = frame["unit"].to_numpy(np.float64), frame["counted"].to_numpy(np.bool_)
    mean = np.maximum(frame["forecast"].to_numpy(np.float64) / unit, 1e-6)
    size = frame["size"].to_numpy(np.float64) * np.exp(width.dispersion[_rows(frame)])
    columns = {name: unit * quantile(q, mean=mean, size=size, counted=counted) for name, q in QUANTILES.items()}
    sold = in_steps(frame["actual"].to_numpy(np.float64), unit)
    columns["pit_low"], columns["pit_high"] = probability_transform(sold, mean=mean, size=size)
    columns["crps"] = unit * ranked_probability(sold, mean=mean, size=size)
    return frame.assign(**columns)


def widened(frames: list[pd.DataFrame]) -> list[pd.DataFrame]:
    """Each fold's frame with intervals as wide as what was known at its cutoff says, as a forecaster could have.

    Where nothing was known yet, as in the first fold, they keep the default width.
    """
    return [
        with_quantiles(frame, measure_width(known_before(frames[:number], frame["cutoff"].iloc[0])))
        for number, frame in enumerate(frames)
    ]


def known_before(earlier: list[pd.DataFrame], cutoff: np.datetime64) -> list[pd.DataFrame]:
    """The earlier folds' rows whose outcome is known at a cutoff."""
    known = [frame[frame["date"].to_numpy() <= np.datetime64(cutoff)] for frame in earlier]
    return [frame for frame in known if len(frame)]


def measure_width(frames: list[pd.DataFrame]) -> Width:
    """How far forecasts of folds were off: all in all, and by the part that a product's periods share."""
    if not frames:
        return default_width()
    frame = pd.concat(frames, ignore_index=True)
    return Width(measure_level_error(frame), measure_dispersion(frame, folds=folds_worth(frame)))


def folds_worth(frame: pd.DataFrame) -> float:
    """How many folds without overlap an evaluation frame is worth: periods scored, in horizons."""
    return float(frame["date"].nunique() / max(int(frame["step"].max()), 1))


def measure_level_error(frame: pd.DataFrame) -> tuple[float, float]:
    """How far a product's level was off, beyond the noise of counts: at once, and growing with the step.

    Seven steps of a product are summed, counted in its own unit; the variance of log(actual / forecast) less what the
    negative binomial explains is a² + b² × step, fitted by least squares without negative parts.
    """
    scored = frame[~frame["censored"]].assign(chunk=lambda f: (f["step"] - 1) // 7)
    scored = scored.assign(actual=scored["actual"] / scored["unit"], forecast=scored["forecast"] / scored["unit"])
    scored = scored.assign(spread=scored["forecast"] ** 2 / scored["size"])
    groups = scored.groupby(["product_id", "cutoff", "chunk"], observed=True)
    sums = groups[["actual", "forecast", "spread"]].sum().reset_index()
    sums = sums[sums["forecast"] >= 5.0]
    if len(sums) < LEAST_SUMS:
        return LEVEL_ERROR
    error = np.log((sums["actual"] + 0.5) / (sums["forecast"] + 0.5))
    noise = 1.0 / sums["forecast"] + sums["spread"] / sums["forecast"] ** 2
    excess = np.clip(error**2 - noise, -1.0, 1.0)
    step = sums["chunk"].to_numpy() * 7.0 + 4.0
    growth, at_once = np.polyfit(step, excess, 1) if len(np.unique(step)) > 1 else (0.0, float(excess.mean()))
    growth = max(float(growth), 0.0)
    at_once = max(float(np.mean(excess - growth * step)), 0.0)
    return float(np.sqrt(at_once)), float(np.sqrt(growth))


def measure_dispersion(frame: pd.DataFrame, *, folds: float) -> Floats:
    """(class,) log factors on the size with which forecasts of folds would have had the smallest CRPS.

    Those of a class are drawn towards those of all products, and these towards none, as far as folds are few.

    Args:
        frame: An evaluation frame; sold-out rows are left out.
        folds: What `folds_worth` says of the frame.
    """
    scored = frame[~frame["censored"].astype(bool)]
    everything = folds * _sharpest(scored, otherwise=0.0) / (folds + SMOOTH)
    own = [_sharpest(scored[scored["volume_class"] == name], otherwise=everything) for name in CLASSES]
    return np.array([*((folds * one + SMOOTH * everything) / (folds + SMOOTH) for one in own), everything])


def _sharpest(scored: pd.DataFrame, *, otherwise: float) -> float:
    """The log factor with the smallest CRPS in total; `otherwise` without rows."""
    if scored.empty:
        return otherwise
    some = scored.iloc[np.unique(np.linspace(0, len(scored) - 1, min(len(scored), MOST_ROWS)).astype(np.int64))]
    unit = some["unit"].to_numpy(np.float64)
    sold = in_steps(some["actual"].to_numpy(np.float64), unit)
    mean = np.maximum(some["forecast"].to_numpy(np.float64) / unit, 1e-6)
    size = some["size"].to_numpy(np.float64)
    scores = [float((unit * ranked_probability(sold, mean=mean, size=size * np.exp(one))).sum()) for one in _FACTORS]
    return float(_FACTORS[int(np.argmin(scores))])


def _rows(frame: pd.DataFrame) -> NDArray[np.integer]:
    """(row,) place of each row's volume class in `Width.dispersion`."""
    place = {name: number for number, name in enumerate(CLASSES)}
    return frame["volume_class"].map(place).fillna(len(CLASSES)).to_numpy(np.int64)
