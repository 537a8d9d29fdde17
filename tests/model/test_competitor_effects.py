"""What is said of the competitor, where the truth is known: on simulated markets, whose competitor follows prices."""

import numpy as np
import pytest

from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.demand.competitor import estimate_competitor_effects
from simulation.market import MarketConfig, simulate
from tests.kit.versions import make_demand


@pytest.mark.slow
@pytest.mark.parametrize("seed", [4, 5])
def test_intervals_of_the_competitors_effect_hold_about_as_often_as_they_say(seed: int) -> None:
    market = simulate(MarketConfig(products=60, days=730, seed=seed))
    panel = build_panel(market.frame(), load_config().data)
    truth = market.truth.cross[np.searchsorted(market.product_ids, panel.product_ids)]
    category = np.unique(panel.categories, return_inverse=True)[1]

    found = estimate_competitor_effects(panel, norms=make_demand(panel).norms, category=category)

    known = np.isfinite(found.mean)
    low, high = (ends[known] for ends in found.interval())
    assert known.mean() > 0.9
    assert 0.7 <= ((low <= truth[known]) & (truth[known] <= high)).mean() <= 0.97
    assert -0.3 < (found.mean[known] - truth[known]).mean() < 0.05
