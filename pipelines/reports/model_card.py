"""Gather what the model card of a version says: accuracy, elasticities, events, limits."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pipelines.evaluation import saved, score_lines, shown
from pipelines.reports import render
from pricing.data.lifts import EventLifts, percent
from pricing.demand.baselines import FLAT_PERIODS
from pricing.demand.ensemble import CLASSES
from pricing.demand.grades import GRADES
from pricing.registry.version import (
    HOLDS_ONLY_MEANING,
    MEANINGS,
    LoadedVersion,
    ShownCompetitor,
    shares_by_grade,
    shown_competitor,
    shown_elasticities,
)

_EVENTS = 15  # most events in the table
_CLEAR = 2.0  # standard deviations above which a lift is listed


def model_card(version: LoadedVersion, *, model: str) -> str:
    """Returns the model card of a version of the registered model `model`, in Markdown."""
    figures, facts, demand = version.backtest, version.facts, version.demand
    grade = demand.grade[: len(demand.product_ids)]
    return render(
        "model_card.md.jinja",
        meta=version.meta,
        model=model,
        figures=figures,
        trees=version.learner.combination.booster.size > 0,
        categories=demand.categories,
        known={
            "cost": int((~facts.cost_assumed).sum()),
            "stock": int(np.isfinite(facts.stock).sum()),
            "rival": int(np.isfinite(facts.comp_price).sum()),
        },
        counted=int(version.learner.counted.sum()),
        flat_periods=FLAT_PERIODS,
        scores=score_lines(figures),
        groups=_groups(figures, period=version.meta["period"]),
        shown=shown,
        saved=saved,
        prices=_prices(version),
        competitor=_competitor(version),
        events=_events(demand.lifts),
        clear=_CLEAR,
        holds_only=version.holds_only,
        holds_only_meaning=HOLDS_ONLY_MEANING,
        grades=[
            {"name": name, "count": int((grade == GRADES.index(name)).sum()), "share": share, "meaning": MEANINGS[name]}
            for name, share in shares_by_grade(demand, facts).items()
        ],
    )


def _groups(figures: Mapping[str, Any], *, period: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The scores of the walk-forward by step and by volume, each with its name."""
    steps = sorted(figures.get("by_step", {}).items(), key=lambda item: int(item[0].split("-")[0]))
    volume = figures.get("by_volume", {})
    return [
        *((f"{name} {period}s ahead", part) for name, part in steps),
        *((f"{name} volume", volume[name]) for name in CLASSES if name in volume),
    ]


def _prices(version: LoadedVersion) -> list[dict[str, Any]]:
    """The middle elasticity of each category."""
    every = np.arange(len(version.demand.product_ids))
    known = shown_elasticities(version.demand, every, holds_only=version.holds_only)
    ends = {"elasticity": known["elasticity"], "low": known["elasticity_low"], "high": known["elasticity_high"]}
    table = pd.DataFrame({"name": version.facts.categories, **ends}).groupby("name", sort=True)
    middle = table.median().assign(products=table.size())
    found: list[dict[str, Any]] = middle.reset_index().to_dict("records")  # type: ignore[assignment]
    return found


def _competitor(version: LoadedVersion) -> list[ShownCompetitor]:
    """What a competitor's price does to demand, of the products of which it is known, the largest effect first."""
    every = (shown_competitor(version.demand, row) for row in range(len(version.demand.product_ids)))
    return sorted((one for one in every if one.effect is not None), key=lambda one: -(one.effect or 0.0))


def _events(lifts: EventLifts | None) -> list[dict[str, Any]] | None:
    """The lifts of events that are clear, largest first; None without events."""
    if lifts is None or not (lifts.sd > 0).any():
        return None
    size = np.where(np.abs(lifts.value) > _CLEAR * lifts.sd, np.abs(lifts.value), 0.0) * (lifts.sd > 0)
    largest = size.max(axis=(0, 2))
    chosen = [event for event in np.argsort(-largest, kind="stable").tolist() if largest[event]]
    return [
        {
            "name": str(lifts.names[event]),
            "seen": lifts.seen[event],
            "parts": [_lift(lifts, event, where) for where in (-1, 0, 1)],
        }
        for event in chosen[:_EVENTS]
    ]


def _lift(lifts: EventLifts, event: int, where: int) -> str:
    """Formats the mean lift over all categories before (−1), on (0) or after (1) an event."""
    column = (np.sign(lifts.positions) == where) & (lifts.sd[-1, event] > 0)
    if not column.any():
        return "–"
    sd = np.sqrt((lifts.sd[-1, event, column] ** 2).sum()) / column.sum()
    return percent(float(lifts.value[-1, event, column].mean()), float(sd))
