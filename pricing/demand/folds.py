"""The folds of walk-forward validation: which periods are trained on, which are scored. Pure dates."""

from dataclasses import dataclass

import numpy as np

from pricing.data.panel import STEP_DAYS, Days, Period
from pricing.errors import HistoryError
from pricing.sections import DemandConfig

LEAST: dict[Period, int] = {"day": 28, "week": 8}  # periods below which there is no level to speak of
SHORTEST: dict[Period, int] = {"day": 7, "week": 2}  # periods that a fold scores at least
QUARTER = 4  # a fold of a short history scores no more than a quarter of it, and trains on half of it at least
YEARS = 2  # that a yearly event must be seen in


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


def check_length(periods: int, *, period: Period) -> None:
    """Refuses a history of which nothing can be said.

    Raises:
        HistoryError: It has fewer periods than `LEAST`.
    """
    if periods < LEAST[period]:
        raise HistoryError(
            f"the sales cover {periods} {period}s, a model needs at least {LEAST[period]} to tell a product's level: "
            f"{LEAST[period] - periods} more are missing: give more history, or wait for it. Until then serving prices "
            "by rule, from list price, cost and stock, without any model"
        )


def fitting(config: DemandConfig, periods: int, *, period: Period) -> tuple[DemandConfig, list[str]]:
    """The configuration with folds that a history has room for, and what such a short one does without.

    Args:
        config: `horizon`, `step`, `gap`, `folds`, `min_history`, all in periods.
        periods: That the history covers.
        period: The grain.

    Returns:
        The configuration as it is where one of its folds fits; else with shorter ones. And sentences, none for a
        history that is long enough for everything.

    Raises:
        HistoryError: As `check_length`.
    """
    check_length(periods, period=period)
    said = []
    need = config.min_history + config.gap + config.horizon
    if periods < need:
        horizon = min(config.horizon, max(periods // QUARTER, SHORTEST[period]))
        room = periods - config.gap - max(periods // 2, LEAST[period] // 2)
        folds = max(min(config.folds, room // horizon), 1)
        first = periods - config.gap - folds * horizon
        config = config.model_copy(
            update={"horizon": horizon, "step": horizon, "folds": folds, "min_history": max(first, 1)}
        )
        said.append(
            f"{periods} {period}s of history are {need - periods} too few for a fold as configured: scored are {folds} "
            f"fold(s) of {horizon} {period}s instead, the first after {first}. The scores say less of forecasts "
            "further ahead, and the network counts for less beside each product's level"
        )
    days = periods * STEP_DAYS[period]
    if days < 365 * YEARS:
        missing = 365 * YEARS - days
        said.append(
            f"{days} days of history, {missing} less than {YEARS} years: what a yearly event such as Christmas adds is "
            "learnt from one year or not at all, and the season of the year cannot be told from a trend"
        )
    return config, said
