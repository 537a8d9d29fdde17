"""How wide a forecast's intervals are: quantiles of the evaluation frame, and the level's error that widens them."""

import numpy as np
import pandas as pd

from pricing.data.units import in_steps
from pricing.demand.evaluation import probability_transform, quantile, ranked_probability

QUANTILES = {"q025": 0.025, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q975": 0.975}
LEVEL_ERROR = (0.10, 0.02)  # until a backtest has measured it


def with_quantiles(frame: pd.DataFrame, level_error: tuple[float, float]) -> pd.DataFrame:
    """The frame with quantiles, probability transforms and CRPS: negative binomial, widened by the level's error.

    Chance counts in each product's own unit, `unit`; the columns are in the units of `actual`.
    """
    unit, counted = frame["unit"].to_numpy(np.float64), frame["counted"].to_numpy(np.bool_)
    mean = np.maximum(frame["forecast"].to_numpy(np.float64) / unit, 1e-6)
    extra = np.exp(level_error[0] ** 2 + level_error[1] ** 2 * frame["step"].to_numpy()) - 1.0
    # Var = m + m²/r + m²·extra: one negative binomial of the same variance.
    size = 1.0 / (1.0 / frame["size"].to_numpy(np.float64) + extra)
    columns = {name: unit * quantile(q, mean=mean, size=size, counted=counted) for name, q in QUANTILES.items()}
    sold = in_steps(frame["actual"].to_numpy(np.float64), unit)
    columns["pit_low"], columns["pit_high"] = probability_transform(sold, mean=mean, size=size)
    columns["crps"] = unit * ranked_probability(sold, mean=mean, size=size)
    return frame.assign(**columns)


def widened(frames: list[pd.DataFrame]) -> list[pd.DataFrame]:
    """Each fold's frame with quantiles widened by what the *earlier* folds measured, as a forecaster could have.

    The first fold keeps the default width: nothing was measured before it.
    """
    earlier = [pd.concat(frames[:number], ignore_index=True) for number in range(1, len(frames))]
    return frames[:1] + [
        with_quantiles(frame, measure_level_error(known)) for frame, known in zip(frames[1:], earlier, strict=True)
    ]


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
    if len(sums) < 30:
        return LEVEL_ERROR
    error = np.log((sums["actual"] + 0.5) / (sums["forecast"] + 0.5))
    noise = 1.0 / sums["forecast"] + sums["spread"] / sums["forecast"] ** 2
    excess = np.clip(error**2 - noise, -1.0, 1.0)
    step = sums["chunk"].to_numpy() * 7.0 + 4.0
    growth, at_once = np.polyfit(step, excess, 1) if len(np.unique(step)) > 1 else (0.0, float(excess.mean()))
    growth = max(float(growth), 0.0)
    at_once = max(float(np.mean(excess - growth * step)), 0.0)
    return float(np.sqrt(at_once)), float(np.sqrt(growth))
