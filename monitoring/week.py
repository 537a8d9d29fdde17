"""Puts together what the weekly page tells of the shop."""

import numpy as np

from monitoring.business import effect, line, weeks
from monitoring.evaluate import SEED, Watch
from monitoring.holdout import Holdout
from monitoring.summary import Week
from pricing.data.panel import STEP_DAYS, Panel

WINDOW_DAYS = 28
MOST_CATEGORIES = 15


def tell_week(panel: Panel, seen: Watch, *, holdout: Holdout | None) -> Week:
    """Adds up the newest week, the one before, each category, and what pricing earned in the newest four weeks."""
    everything = np.ones(len(panel.product_ids), dtype=bool)
    spans = weeks(panel)
    name, newest = spans[-1]
    before = line(panel, name="all", rows=everything, periods=spans[-2][1]) if len(spans) > 1 else None
    categories = [
        line(panel, name=str(category), rows=panel.categories == category, periods=newest)
        for category in np.unique(panel.categories)
    ]
    window = max(1, WINDOW_DAYS // STEP_DAYS[panel.period])
    rng = np.random.default_rng(SEED)
    return Week(
        name=name,
        now=line(panel, name="all", rows=everything, periods=newest),
        before=before,
        categories=sorted(categories, key=lambda one: -one.margin)[:MOST_CATEGORIES],
        effect=effect(panel, seen.joined.frame, holdout, window=window, rng=rng),
    )
