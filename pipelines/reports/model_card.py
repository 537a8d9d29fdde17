"""Gather what the model card of a version says: accuracy, elasticities, events, limits."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pipelines.evaluation import saved, score_lines, shown
from pipelines.reports.page import render
from pipelines.reports.sensitivity import competitor_columns, competitor_words
from pricing.data.lifts import EventLifts, percent
from pricing.demand.baselines import FLAT_PERIODS
from pricing.demand.ensemble import CLASSES
from pricing.demand.grades import GRADES, PRIOR_ONLY
from pricing.demand.shrinkage import PLAUSIBLE
from pricing.registry.version import (
    HOLDS_ONLY_MEANING,
    MEANINGS,
    LoadedVersion,
    shares_by_grade,
    shown_elasticities,
    unit_shares,
)

_NAMED = 10  # most products listed in a line
_EVENTS = 15  # most events in the table
_CLEAR = 2.0  # standard deviations above which a lift is listed


def model_card(version: LoadedVersion, *, model: str) -> str:
    """Returns the model card of a version of the registered model `model`, in Markdown."""
    figures, facts, demand = version.backtest, version.facts, version.demand
    every, grade = np.arange(len(demand.product_ids)), demand.grade[: len(demand.product_ids)]
    elasticity = demand.elasticity[: len(every)]
    parents, series = demand.sharing()
    shared = {str(name): int(count) for name, count in zip(parents, series, strict=True) if count > 1}
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
        competitor=competitor_words(pd.DataFrame(competitor_columns(demand, every))),
        events=_events(demand.lifts, period=version.meta["period"]),
        clear=_CLEAR,
        holds_only=version.holds_only,
        holds_only_meaning=HOLDS_ONLY_MEANING,
        grades=[
            {"name": name, "count": int((grade == GRADES.index(name)).sum()), "share": share, "meaning": MEANINGS[name]}
            for name, share in shares_by_grade(demand, facts).items()
        ],
        shared=sorted(shared.items(), key=lambda pair: -pair[1]),
        named=_NAMED,
        unknown=_unknown(version),
        plausible=PLAUSIBLE,
        beyond=demand.product_ids[(elasticity <= PLAUSIBLE[0]) | (elasticity >= PLAUSIBLE[1])].tolist(),
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


def _unknown(version: LoadedVersion) -> list[dict[str, Any]]:
    """The best-selling products whose elasticity comes from the prior only, and why their prices stay."""
    shares, demand = unit_shares(version.demand, version.facts), version.demand
    order = np.argsort(-shares, kind="stable")
    largest = order[demand.grade[order] == PRIOR_ONLY][:_NAMED]
    why = shown_elasticities(demand, largest, holds_only=version.holds_only)["why"].tolist()
    return [
        {"name": str(demand.product_ids[row]), "share": shares[row], "why": said}
        for row, said in zip(largest.tolist(), why, strict=True)
    ]


def _events(lifts: EventLifts | None, *, period: str) -> dict[str, Any]:
    """The lifts of events that are clear, largest first, each with the category of the largest; empty without any."""
    if lifts is None or not (lifts.sd > 0).any():
        return {}
    clear = np.where(lifts.sd > 0, np.abs(lifts.value) > _CLEAR * lifts.sd, False)
    size = np.abs(lifts.value * clear)
    chosen = [event for event in np.argsort(-size.max(axis=(0, 2)), kind="stable") if clear[:, event].any()]
    rows = []
    for event in chosen[:_EVENTS]:
        most, peak = np.unravel_index(np.argmax(size[:-1, event]), size[:-1, event].shape)
        away, strongest = (
            int(lifts.positions[peak]),
            percent(lifts.value[most, event, peak], lifts.sd[most, event, peak]),
        )
        count = f", {abs(away)} {period}{'s' if abs(away) > 1 else ''} {'before' if away < 0 else 'after'}"
        rows.append(
            {
                "name": str(lifts.names[event]),
                "seen": lifts.seen[event],
                "parts": [_lift(lifts, event, where) for where in (-1, 0, 1)],
                "category": str(lifts.categories[most]),
                "most": strongest + (count if away else ""),
            }
        )
    return {"rows": rows, "others": sorted(set(lifts.names.tolist()) - {str(lifts.names[event]) for event in chosen})}


def _lift(lifts: EventLifts, event: int, where: int) -> str:
    """Formats the mean lift over all categories before (−1), on (0) or after (1) an event."""
    column = (np.sign(lifts.positions) == where) & (lifts.sd[-1, event] > 0)
    if not column.any():
        return "–"
    sd = np.sqrt((lifts.sd[-1, event, column] ** 2).sum()) / column.sum()
    return percent(float(lifts.value[-1, event, column].mean()), float(sd))
