"""Whether older days count less in a training: both ways are scored on the newest days, and the better is taken."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from pricing.config_models import DemandConfig
from pricing.data.panel import STEP_DAYS, Panel
from pricing.demand.backtest import fold_wape
from pricing.demand.folds import Fold
from pricing.demand.training import Calendar, Trained, fit

Progress = Callable[[str], None]

SHARE = 4  # a half-life of twice the days since a change: half of these days are scored, the others learnt from


@dataclass(frozen=True)
class Weighing:
    """How days count in a training, and why.

    Attributes:
        half_life: Periods after which a day counts half; None where all count alike.
        why: The same in a sentence.
        figures: What was compared: `recent_wape` and `alike_wape`, on the same days; empty where nothing was.
    """

    half_life: float | None
    why: str
    figures: Mapping[str, float] = field(default_factory=dict)


def weigh(
    panel: Panel,
    config: DemandConfig,
    *,
    half_life: float,
    calendar: Calendar,
    progress: Progress | None = None,
    fit: Callable[..., Trained] = fit,
    score: Callable[..., float] = fold_wape,
) -> Weighing:
    """Fits one fold with the half-life and one as configured, and takes what scores better on the newest days.

    Args:
        panel: What the training will be on.
        config: The settings of the training.
        half_life: What is asked for, periods: twice those since the change that is to be learnt.
        calendar: Holidays of the periods after the fold's cutoff.
        progress: Told in a sentence what is going on.
        fit: Trains; called as `training.fit` is.
        score: The error of a model on the fold; called as `backtest.fold_wape` is.
    """
    week = max(7 // STEP_DAYS[panel.period], 1)
    scored = min(max(round(half_life / SHARE), week), config.horizon)
    cutoff = len(panel.dates) - 1 - scored - config.gap
    if cutoff + 1 < config.min_history:
        few = f"less than demand.min_history ({config.min_history}) {panel.period}s come before those to compare on"
        return Weighing(None, f"alike: {few}")
    fold = Fold(panel.dates[cutoff], panel.dates[cutoff + config.gap + 1], panel.dates[-1])
    past = panel.through(fold.cutoff)
    past = past.select(np.flatnonzero(past.present.any(axis=1)))
    ways = {"recent": config.model_copy(update={"recency_half_life": half_life}), "alike": config}
    figures = {}
    for name, demand in ways.items():
        trained = fit(past, demand, calendar=calendar, progress=progress)
        figures[f"{name}_wape"] = score(trained.model, past=past, panel=panel, fold=fold)
    said = (
        f"WAPE {figures['recent_wape']:.4f} with a half-life of {half_life:g} {panel.period}s, "
        f"{figures['alike_wape']:.4f} without, {fold.first} to {fold.last}"
    )
    if figures["recent_wape"] <= figures["alike_wape"]:
        return Weighing(half_life, f"recent: {said}", figures)
    return Weighing(None, f"alike: {said}", figures)
