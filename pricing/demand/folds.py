"""Folds of walk-forward validation: which periods to train on and which to score. Dates only."""

from dataclasses import dataclass

import numpy as np

from pricing.arrays import Days
from pricing.config_models import DemandConfig
from pricing.data.panel import STEP_DAYS, Period
from pricing.errors import HistoryError

LEAST: dict[Period, int] = {"day": 28, "week": 8}  # least periods to estimate a level from
SHORTEST: dict[Period, int] = {"day": 7, "week": 2}  # least periods that a fold scores
QUARTER = 4  # of a short history, a fold scores at most a quarter and trains on at least half
YEARS = 2  # of history needed to estimate yearly events


@dataclass(frozen=True)
class Fold:
    """Train on periods up to `cutoff`; score `first` … `last`, which follow it."""

    cutoff: np.datetime64
    first: np.datetime64
    last: np.datetime64


def walk_forward(dates: Days, *, config: DemandConfig, period: Period) -> list[Fold]:
    """Return the last `config.folds` folds that fit, oldest first, with cutoffs `config.step` periods apart.

    Raises:
        HistoryError: Not even one fold fits.

    Example:
        >>> import numpy as np
        >>> from pricing.config import load_config
        >>> from pricing.demand.folds import walk_forward
        >>> dates = np.arange("2025-01-01", "2026-01-01", dtype="datetime64[D]")
        >>> for fold in walk_forward(dates, config=load_config().demand, period="day"):
        ...     print(f"train to {fold.cutoff}, score {fold.first} to {fold.last}")
        train to 2025-10-08, score 2025-10-09 to 2025-11-05
        train to 2025-11-05, score 2025-11-06 to 2025-12-03
        train to 2025-12-03, score 2025-12-04 to 2025-12-31
    """
    need = config.min_history + config.horizon
    if len(dates) < need:
        raise HistoryError(
            f"walk-forward validation needs demand.min_history + demand.horizon = {need} {period}s for one fold, the "
            f"panel has {len(dates)}; give more history, or lower one of these"
        )
    day = np.timedelta64(STEP_DAYS[period], "D")
    folds: list[Fold] = []
    for back in range(config.folds):
        end = len(dates) - 1 - back * config.step
        cutoff = end - config.horizon
        if cutoff + 1 < config.min_history:
            break
        folds.append(Fold(dates[cutoff], dates[cutoff] + day, dates[end]))
    return folds[::-1]


def check_length(periods: int, *, period: Period) -> None:
    """Raise HistoryError where a history has fewer than `LEAST` periods."""
    if (need := LEAST[period]) > periods:
        raise HistoryError(
            f"the sales cover {periods} {period}s, a model needs at least {need} to tell a product's level: "
            f"{need - periods} more are missing; wait for them. Until then serving prices by rule, from list price, "
            "cost and stock, without any model"
        )


def fitting(config: DemandConfig, periods: int, *, period: Period) -> tuple[DemandConfig, list[str]]:
    """Shrink the configured folds to fit a short history, and describe the limitations.

    Where not all folds fit, the first one trains on as little as half of the history, and each scores at most a
    quarter of it.

    Returns:
        The configuration, unchanged where all folds fit, and sentences on limitations, none for a long history.

    Raises:
        HistoryError: As `check_length`.
    """
    check_length(periods, period=period)
    said = []
    if config.min_history + config.horizon + (config.folds - 1) * config.step > periods:
        horizon = min(config.horizon, max(periods // QUARTER, SHORTEST[period]))
        least = min(config.min_history, periods // 2)
        step = min(config.step, horizon)
        folds = min(config.folds, 1 + (periods - least - horizon) // step)
        first = periods - horizon - (folds - 1) * step
        shorter = config.model_copy(
            update={"horizon": horizon, "step": step, "folds": folds, "min_history": min(config.min_history, first)}
        )
        if shorter != config:
            said.append(
                f"{periods} {period}s of history have no room for {config.folds} folds of {config.horizon} {period}s "
                f"after {config.min_history}: scored are {folds} folds of {horizon} {period}s, the first after "
                f"{first}. The scores say less of forecasts further ahead, and until they speak for it the network "
                "counts for less"
            )
        config = shorter
    days = periods * STEP_DAYS[period]
    if days < 365 * YEARS:
        said.append(
            f"{days} days of history are {365 * YEARS - days} less than {YEARS} years: what a yearly event such as "
            "Christmas adds is learnt from one year or not at all, and the season cannot be told from a trend"
        )
    return config, said
