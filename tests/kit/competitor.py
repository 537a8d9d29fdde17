"""Histories whose competitor's effect is known, and what is estimated from them."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd

from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.data.panel import Panel
from pricing.demand.competitor import CompetitorEffects, estimate_competitor_effects
from tests.kit.demand_fakes import make_norms

OWN = -2.0
WEEKS, PRODUCTS = 60, 12


@cache
def sales(cross: float = 0.8, seed: int = 5) -> pd.DataFrame:
    """Poisson sales of products whose competitor moves its price every second week; product 00 has none.

    The own price moves too, the competitor follows it in part, and all share a weekday profile and a shock a week.
    """
    rng = np.random.default_rng(seed)
    products, days = PRODUCTS, 7 * WEEKS
    week = np.arange(days) // 7
    drawn = rng.normal(0, 0.15, (products, WEEKS // 2))
    competitor = 10 * np.exp(np.repeat(drawn, 2, axis=1))[:, week]
    own = 10 * np.exp(0.1 * rng.integers(-1, 2, (products, WEEKS)))[:, week]
    competitor *= (own / 10) ** 0.5
    shock = rng.normal(0, 0.2, WEEKS)[week] + 0.3 * (np.arange(days) % 7 >= 5)
    mean = 20 * np.exp(shock + OWN * np.log(own / 10) + cross * np.log(competitor / 10))
    frame = pd.DataFrame(
        {
            "date": np.tile(pd.date_range("2024-01-01", periods=days), products),
            "product_id": np.repeat([f"{number:02}" for number in range(products)], days),
            "category": np.repeat([f"group {number % 3}" for number in range(products)], days),
            "units_sold": rng.poisson(mean).reshape(-1).astype(float),
            "price": own.reshape(-1),
            "list_price": 10.0,
            "comp_price": competitor.reshape(-1),
            "is_promo": 0,
        }
    )
    frame.loc[frame["product_id"] == "00", "comp_price"] = np.nan
    return frame


def drawn_panel(seed: int, *, follows: float | None, cross: float = 0.8, doubt: float = 0.0) -> Panel:
    """The products of `sales`, all with a competitor that moves its price every second week.

    Args:
        seed: Of all draws.
        follows: Change of the own price per change of the competitor's, 2 % noise apart; None where it moves by itself.
        cross: Effect of the competitor's price.
        doubt: Standard deviation of products' elasticities around OWN.
    """
    rng = np.random.default_rng(seed)
    week = np.arange(7 * WEEKS) // 7
    competitor = np.repeat(rng.normal(0, 0.15, (PRODUCTS, WEEKS // 2)), 2, axis=1)
    beside = rng.normal(0, 0.1 if follows is None else 0.02, (PRODUCTS, WEEKS))
    price = (follows or 0.0) * competitor + beside
    elasticity = OWN + doubt * rng.standard_normal((PRODUCTS, 1))
    demand = rng.normal(0, 0.2, WEEKS) + elasticity * price + cross * competitor
    return replace(
        _build(),
        price=(10 * np.exp(price[:, week])).astype(np.float32),
        comp_price=(10 * np.exp(competitor[:, week])).astype(np.float32),
        units_sold=rng.poisson(20 * np.exp(demand[:, week])).astype(np.float32),
    )


def estimate(panel: Panel, *, elasticity: float = OWN, sd: float = 0.0) -> CompetitorEffects:
    """The effects, every product's elasticity taken for the given one, with that standard deviation."""
    norms = make_norms(panel, prior_level=20.0, elasticity=elasticity, weekend=0.0)
    category = np.unique(panel.categories, return_inverse=True)[1]
    return estimate_competitor_effects(panel, norms=norms, category=category, elasticity_sd=np.full(len(category), sd))


@cache
def _build() -> Panel:
    return build_panel(sales(), load_config().data)
