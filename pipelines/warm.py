"""Whether a training starts at an earlier version's weights: both ways are scored on one fold, the better is taken."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pricing.config_models import DemandConfig
from pricing.data.panel import Panel
from pricing.demand.backtest import fold_wape
from pricing.demand.folds import Fold
from pricing.demand.training import Calendar, Start, Trained, fit
from pricing.registry.version import LoadedVersion

SHARE = 4  # with fewer periods to score than a horizon over this, nothing is said of either way

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Choice:
    """Where a training starts, and why.

    Attributes:
        start: The weights to start from; None for a blank network.
        why: The same in a sentence.
        figures: What was compared: `warm_wape` and `cold_wape`, on the same fold; empty where nothing was.
    """

    start: Start | None
    why: str
    figures: Mapping[str, float] = field(default_factory=dict)


def choose_start(
    panel: Panel,
    earlier: LoadedVersion,
    config: DemandConfig,
    *,
    calendar: Calendar,
    progress: Progress | None = None,
    fit: Callable[..., Trained] = fit,
    score: Callable[..., float] = fold_wape,
) -> Choice:
    """Fits one fold from the earlier version's weights and from blank ones, and takes what scores better.

    Only days after those that the earlier version was trained on are scored: on the others it would win by memory.
    Both ways share the fold's elasticities. The training that follows learns them anew.

    Args:
        panel: What the training will be on.
        earlier: The version whose weights it may start from.
        config: The settings of the training.
        calendar: Holidays of the periods after the fold's cutoff.
        progress: Told in a sentence what is going on.
        fit: Trains; called as `training.fit` is.
        score: The error of a model on the fold; called as `backtest.fold_wape` is.
    """
    fold = _fold(panel, earlier, config)
    if isinstance(fold, str):
        return Choice(None, f"cold: {fold}")
    if config.units != earlier.config.demand.units:
        return Choice(None, f"cold: the earlier network has {earlier.config.demand.units} units, not {config.units}")
    if not np.array_equal(np.unique(panel.categories), earlier.demand.categories):
        return Choice(None, "cold: the sales have other categories than those that the earlier network knows")
    past = panel.through(fold.cutoff)
    past = past.select(np.flatnonzero(past.present.any(axis=1)))
    cold = fit(past, config, calendar=calendar, progress=progress)
    weights = {name: np.array(value) for name, value in earlier.demand.weights.items()}
    if _shapes(weights) != _shapes(cold.model.weights):
        return Choice(None, "cold: the earlier network has another shape")
    warm = fit(past, config, calendar=calendar, start=Start(weights, cold.start.identified), progress=progress)
    figures = {}
    for name, one in (("warm", warm), ("cold", cold)):
        figures[f"{name}_wape"] = score(one.model, past=past, panel=panel, fold=fold)
    said = f"WAPE {figures['warm_wape']:.4f} warm, {figures['cold_wape']:.4f} cold, {fold.first} to {fold.last}"
    if figures["warm_wape"] <= figures["cold_wape"]:
        return Choice(Start(weights, None), f"warm: {said}", figures)
    return Choice(None, f"cold: {said}", figures)


def _fold(panel: Panel, earlier: LoadedVersion, config: DemandConfig) -> Fold | str:
    """The newest fold whose scored periods the earlier version has not seen, or why there is none."""
    trained_to = (earlier.backtest.get("data") or {}).get("last_date")
    if trained_to is None:
        return "the earlier version does not say until when it was trained"
    dates = panel.dates
    end = len(dates) - 1
    known = int(np.searchsorted(dates, np.datetime64(trained_to, "D"), side="right")) - 1
    cutoff = max(end - config.gap - config.horizon, known)
    scored, least = max(end - config.gap - cutoff, 0), max(config.horizon // SHARE, 1)
    if scored < least:
        return f"{scored} {panel.period}s since the earlier training are too few to compare on (at least {least})"
    if cutoff + 1 < config.min_history:
        return f"less than demand.min_history ({config.min_history}) {panel.period}s come before those to compare on"
    return Fold(dates[cutoff], dates[cutoff + config.gap + 1], dates[end])


def _shapes(weights: Mapping[str, NDArray[np.floating]]) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in weights.items()}
