"""Compare two ways to fit a model on one fold, and choose the alternative only where it scores no worse.

The alternatives are a warm start from an earlier version's weights, and a recency half-life (older days weigh less).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pricing.config_models import DemandConfig
from pricing.data.panel import STEP_DAYS, Panel
from pricing.demand.backtest import fold_wape
from pricing.demand.folds import Fold
from pricing.demand.model import DemandModel
from pricing.demand.training import Calendar, Trained, WarmStart, fit
from pricing.registry.version import LoadedVersion

LEAST_SCORED = 4  # least periods to score: the horizon over this
SCORED_SHARE = 4  # a half-life is twice the days since a change: half of these days are scored, the rest trained on

Progress = Callable[[str], None]
Taken = TypeVar("Taken")


class Fit(Protocol):
    """Signature of `training.fit`."""

    def __call__(
        self,
        panel: Panel,
        config: DemandConfig,
        *,
        calendar: Calendar,
        start: WarmStart | None = None,
        progress: Progress | None = None,
    ) -> Trained:
        """Fits on every period of the panel."""
        ...


class ScoreFunction(Protocol):
    """Signature of `backtest.fold_wape`."""

    def __call__(self, model: DemandModel, *, past: Panel, panel: Panel, fold: Fold) -> float:
        """WAPE of the fold's scored periods."""
        ...


@dataclass(frozen=True)
class FitChoice(Generic[Taken]):
    """Result of a comparison.

    Attributes:
        taken: The alternative if chosen; None for the standard fit.
        why: The reason in a sentence.
        figures: WAPE of both fits on the same fold, such as `warm_wape` and `cold_wape`; empty without a comparison.
    """

    taken: Taken | None
    why: str
    figures: Mapping[str, float] = field(default_factory=dict)


def choose_start(
    panel: Panel,
    earlier: LoadedVersion,
    config: DemandConfig,
    *,
    calendar: Calendar,
    progress: Progress | None = None,
    fit: Fit = fit,
    score: ScoreFunction = fold_wape,
) -> FitChoice[WarmStart]:
    """Chooses between a warm start from an earlier version's weights and a cold start.

    Only periods after the earlier version's training data are scored, since it has fitted the others. Both fits share
    the fold's elasticities; the training that follows estimates them anew.

    Args:
        panel: The training data.
        earlier: The version to start from.
        config: The training settings.
        calendar: Holidays of the periods after the fold's cutoff.
        progress: Called with progress messages.
        fit: Fits a model.
        score: Scores it.
    """
    fold = _unseen_fold(panel, earlier, config)
    if isinstance(fold, str):
        return FitChoice(None, f"cold: {fold}")
    if config.units != earlier.config.demand.units:
        return FitChoice(None, f"cold: the earlier network has {earlier.config.demand.units} units, not {config.units}")
    if not np.array_equal(np.unique(panel.categories), earlier.demand.categories):
        return FitChoice(None, "cold: the sales have other categories than those that the earlier network knows")
    past = _past(panel, fold)
    cold = fit(past, config, calendar=calendar, progress=progress)
    weights = {name: np.array(value) for name, value in earlier.demand.weights.items()}
    if _shapes(weights) != _shapes(cold.model.weights):
        return FitChoice(None, "cold: the earlier network has another shape")
    warm = fit(past, config, calendar=calendar, start=WarmStart(weights, cold.start.identified), progress=progress)
    warm_wape, cold_wape = (score(one.model, past=past, panel=panel, fold=fold) for one in (warm, cold))
    figures = {"warm_wape": warm_wape, "cold_wape": cold_wape}
    said = f"WAPE {warm_wape:.4f} warm, {cold_wape:.4f} cold, {fold.first} to {fold.last}"
    if warm_wape <= cold_wape:
        return FitChoice(WarmStart(weights, None), f"warm: {said}", figures)
    return FitChoice(None, f"cold: {said}", figures)


def choose_half_life(
    panel: Panel,
    config: DemandConfig,
    *,
    half_life: float,
    calendar: Calendar,
    progress: Progress | None = None,
    fit: Fit = fit,
    score: ScoreFunction = fold_wape,
) -> FitChoice[float]:
    """Chooses between a recency half-life and the configured weights, by the score on the newest periods.

    Args:
        panel: The training data.
        config: The training settings.
        half_life: Requested half-life, periods: twice the periods since the change to adapt to.
        calendar: Holidays of the periods after the fold's cutoff.
        progress: Called with progress messages.
        fit: Fits a model.
        score: Scores it.
    """
    week = max(7 // STEP_DAYS[panel.period], 1)
    scored = min(max(round(half_life / SCORED_SHARE), week), config.horizon)
    cutoff = len(panel.dates) - 1 - scored - config.gap
    if cutoff + 1 < config.min_history:
        return FitChoice(None, f"alike: {_too_short(panel, config)}")
    fold = Fold(panel.dates[cutoff], panel.dates[cutoff + config.gap + 1], panel.dates[-1])
    past = _past(panel, fold)
    weighed = config.model_copy(update={"recency_half_life": half_life})
    recent, alike = (
        score(fit(past, demand, calendar=calendar, progress=progress).model, past=past, panel=panel, fold=fold)
        for demand in (weighed, config)
    )
    figures = {"recent_wape": recent, "alike_wape": alike}
    said = (
        f"WAPE {recent:.4f} with a half-life of {half_life:g} {panel.period}s, {alike:.4f} without, "
        f"{fold.first} to {fold.last}"
    )
    if recent <= alike:
        return FitChoice(half_life, f"recent: {said}", figures)
    return FitChoice(None, f"alike: {said}", figures)


def _past(panel: Panel, fold: Fold) -> Panel:
    """Returns the panel up to a fold's cutoff, with the products that were on sale by then."""
    past = panel.through(fold.cutoff)
    return past.select(np.flatnonzero(past.present.any(axis=1)))


def _unseen_fold(panel: Panel, earlier: LoadedVersion, config: DemandConfig) -> Fold | str:
    """Returns the newest fold scored only after the earlier version's training data, or why there is none."""
    trained_to = (earlier.backtest.get("data") or {}).get("last_date")
    if trained_to is None:
        return "the earlier version does not say until when it was trained"
    dates = panel.dates
    end = len(dates) - 1
    known = int(np.searchsorted(dates, np.datetime64(trained_to, "D"), side="right")) - 1
    cutoff = max(end - config.gap - config.horizon, known)
    scored, least = max(end - config.gap - cutoff, 0), max(config.horizon // LEAST_SCORED, 1)
    if scored < least:
        return f"{scored} {panel.period}s since the earlier training are too few to compare on (at least {least})"
    if cutoff + 1 < config.min_history:
        return _too_short(panel, config)
    return Fold(dates[cutoff], dates[cutoff + config.gap + 1], dates[end])


def _too_short(panel: Panel, config: DemandConfig) -> str:
    return f"less than demand.min_history ({config.min_history}) {panel.period}s come before those to compare on"


def _shapes(weights: Mapping[str, NDArray[np.floating]]) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in weights.items()}
