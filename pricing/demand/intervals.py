"""How wide a forecast's intervals are: quantiles of the evaluation frame, and the level's error that widens them."""

import numpy as np
import pandas as pd
from scipy import stats

from pricing.demand.baselines import sales_rows, shelf_of
from pricing.demand.evaluation import LEAST_MEAN, sales_moments, sales_score, sales_transform

QUANTILES = {"q025": 0.025, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q975": 0.975}
LEVEL_ERROR = (0.10, 0.02)  # until a backtest has measured it
_NUDGE = 1e-3  # of the log level, by which it is measured how far sales follow demand


def with_quantiles(frame: pd.DataFrame, level_error: tuple[float, float]) -> pd.DataFrame:
    """The frame with what its forecasts say of demand and of sales, widened by the level's error.

    Demand is negative binomial with the variance that the level's error adds: `q025` to `q975` are its quantiles.
    Sales are the demand that the shelf could meet: `expected` is their mean, `pit_low`, `pit_high` and `crps` score
    them. Where the frame has no `shelf` nothing limits sales.
    """
    mean = np.maximum(frame["forecast"].to_numpy(np.float64), LEAST_MEAN)
    extra = np.exp(level_error[0] ** 2 + level_error[1] ** 2 * frame["step"].to_numpy()) - 1.0
    # Var = m + m²/r + m²·extra: one negative binomial of the same variance.
    size = 1.0 / (1.0 / frame["size"].to_numpy(np.float64) + extra)
    chance = size / (size + mean)
    columns = {name: stats.nbinom.ppf(q, size, chance) for name, q in QUANTILES.items()}
    actual, shelf = frame["actual"].to_numpy(np.float64), shelf_of(frame)
    columns["expected"] = sales_moments(mean=mean, size=size, shelf=shelf)[0]
    columns["pit_low"], columns["pit_high"] = sales_transform(actual, mean=mean, size=size, shelf=shelf)
    columns["crps"] = sales_score(actual, mean=mean, size=size, shelf=shelf)
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

    Seven steps of a product are summed; the variance of log(actual / forecast) less what the negative binomial
    explains is a² + b² × step, fitted by least squares without negative parts. Actual and forecast are sales given the
    shelf. Where the shelf ran out, sales follow the level only in part, or not at all: by ε, their elasticity to it, so
    that ε² (a² + b² × step) is expected there, and such sums count by ε⁴. Without a shelf ε is 1.

    Args:
        frame: `actual`, `forecast`, `size`, `step`, `product_id`, `cutoff`, `censored` and, where it is known, `shelf`.
    """
    scored = sales_rows(frame.assign(demand=frame["forecast"]))
    demand = scored["demand"].to_numpy(np.float64)
    given = {"size": scored["size"].to_numpy(np.float64), "shelf": shelf_of(scored)}
    expected, spread = sales_moments(mean=demand, **given)
    more = sales_moments(mean=np.maximum(demand, LEAST_MEAN) * np.exp(_NUDGE), **given)[0]
    scored = scored.assign(
        chunk=(scored["step"] - 1) // 7, forecast=expected, spread=spread, follows=(more - expected) / np.expm1(_NUDGE)
    )
    groups = scored.groupby(["product_id", "cutoff", "chunk"], observed=True)
    sums = groups[["actual", "forecast", "spread", "follows"]].sum().reset_index()
    sums = sums[sums["forecast"] >= 5.0]
    if len(sums) < 30:
        return LEVEL_ERROR
    error = np.log((sums["actual"] + 0.5) / (sums["forecast"] + 0.5))
    excess = np.clip(error**2 - sums["spread"] / sums["forecast"] ** 2, -1.0, 1.0).to_numpy()
    share = (sums["follows"] / sums["forecast"]).to_numpy() ** 2  # ε²
    step = sums["chunk"].to_numpy() * 7.0 + 4.0
    growth = 0.0
    if len(np.unique(step)) > 1:
        growth = float(np.linalg.lstsq(np.stack([share * step, share], axis=1), excess, rcond=None)[0][0])
    growth = max(growth, 0.0)
    at_once = share @ (excess - share * growth * step) / max(float(share @ share), 1e-12)
    return float(np.sqrt(max(float(at_once), 0.0))), float(np.sqrt(growth))
