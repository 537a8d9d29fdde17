"""What is said of the competitor, where the truth is known: on simulated markets, whose competitor follows prices."""

import numpy as np
import pytest

from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.demand.competitor import estimate_competitor_effects
from simulation.market import MarketConfig, simulate
from tests.kit.competitor import OWN, drawn_panel, estimate
from tests.kit.versions import make_demand

SEEDS = 100  # of histories, since what all own prices do is off alike for every product of one


@pytest.mark.slow
@pytest.mark.weekly
@pytest.mark.parametrize(
    ("follows", "cross", "elasticity", "doubt"),
    [
        (None, 0.8, OWN, 0.0),
        (None, 0.0, OWN, 0.0),
        (0.9, 0.8, OWN, 0.0),  # the own price tells hardly more than the competitor's
        (0.9, 0.8, -1.4, 0.0),  # wrong: the own price takes up what is left
        (0.9, 0.8, OWN, 0.3),  # each product's elasticity is off by as much as its deviation says
    ],
)
def test_intervals_hold_about_as_often_as_they_say_where_the_own_price_follows_the_competitor_or_not(
    follows: float | None, cross: float, elasticity: float, doubt: float
) -> None:
    held, off = [], []

    for seed in range(SEEDS):
        found = estimate(drawn_panel(seed, follows=follows, cross=cross, doubt=doubt), elasticity=elasticity, sd=doubt)
        low, high = found.interval()
        held.append(((low <= cross) & (cross <= high)).mean())
        off.append(found.mean - cross)

    assert 0.72 <= np.mean(held) <= 0.9
    assert abs(np.mean(off)) < 0.1


@pytest.mark.slow
def test_intervals_of_the_competitors_effect_hold_about_as_often_as_they_say() -> None:
    market = simulate(MarketConfig(products=60, days=730, seed=4))
    panel = build_panel(market.frame(), load_config().data)
    truth = market.truth.cross[np.searchsorted(market.product_ids, panel.product_ids)]
    category = np.unique(panel.categories, return_inverse=True)[1]

    demand = make_demand(panel)
    found = estimate_competitor_effects(
        panel, norms=demand.norms, category=category, elasticity_sd=demand.elasticity_sd
    )

    known = np.isfinite(found.mean)
    low, high = (ends[known] for ends in found.interval())
    assert known.mean() > 0.9
    assert 0.7 <= ((low <= truth[known]) & (truth[known] <= high)).mean() <= 0.97
    assert -0.3 < (found.mean[known] - truth[known]).mean() < 0.05
