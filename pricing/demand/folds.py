"""The folds of walk-forward validation: which periods are trained on, which are scored. Pure dates."""

from dataclasses import dataclass

import numpy as np

from pricing.data.panel import STEP_DAYS, Days, Period
from pricing.errors import HistoryError
from pricing.sections import DemandConfig


@dataclass(frozen=True)
class Fold:
    """Train on periods up to `cutoff`; score `first` … `last`, which come `gap` periods after it."""

    cutoff: np.datetime64
    first: np.datetime64
    last: np.datetime64


def walk_forward(dates: Days, *, config: DemandConfig, period: Period) -> list[Fold]:
    """The last `config.folds` folds that fit, oldest first: their cutoffs `config.step` periods apart.

    Args:
        dates: (period,) of the panel, ascending, evenly spaced.
        config: `horizon`, `step`, `gap`, `folds`, `min_history`, all in periods.
        period: The grain.

    Raises:
        HistoryError: Not even one fold fits.
    """
    need = config.min_history + config.gap + config.horizon
    if len(dates) < need:
        raise HistoryError(
            f"walk-forward validation needs min_history + gap + horizon = {config.min_history} + {config.gap} + "
            f"{config.horizon} = {need} {period}s for one fold, the panel has {len(dates)}; "
            "give more history or lower these settings in the demand section"
        )
    day = np.timedelta64(STEP_DAYS[period], "D")
    folds: list[Fold] = []
    for back in range(config.folds):
        end = len(dates) - 1 - back * config.step
        cutoff = end - config.horizon - config.gap
        if cutoff + 1 < config.min_history:
            break
        folds.append(Fold(dates[cutoff], dates[cutoff] + (config.gap + 1) * day, dates[end]))
    return folds[::-1]
