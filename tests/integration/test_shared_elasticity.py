"""A training on the stores of a few products: rows with `parent_id` become one elasticity a product, new stores too."""

import numpy as np
import pandas as pd
import pytest

from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.data.contract import check
from pricing.demand.training import fit

pytestmark = [pytest.mark.slow, pytest.mark.weekly]
TINY = {
    "horizon": 14,
    "steps": 30,
    "demand_steps": 30,
    "price_steps": 10,
    "rounds": 2,
    "units": 8,
    "context": 60,
    "min_history": 120,
    "booster_rows": 0,
}
TRUTH = {"jam": -1.6, "oil": -2.6, "tea": -3.6}
STORES = ("north", "south", "east", "west", "web")
DAYS = pd.date_range("2024-01-01", periods=300)


def chain(*, seed: int = 0) -> pd.DataFrame:
    """Daily sales of three products in five stores, with weekly random prices; the web shop of tea opens last."""
    rng, parts = np.random.default_rng(seed), []
    for product, elasticity in TRUTH.items():
        for store in STORES:
            price = 10.0 * np.exp(np.repeat(rng.normal(0, 0.1, len(DAYS) // 7 + 1), 7)[: len(DAYS)])
            units = rng.poisson(rng.uniform(8, 20) * (price / 10.0) ** elasticity)
            part = pd.DataFrame({"date": DAYS, "units_sold": units, "price": price.round(2), "list_price": 10.0})
            part = part.assign(product_id=f"{product}@{store}", parent_id=product, unit_cost=5.0, is_promo=0)
            parts.append(part.iloc[-20:] if (product, store) == ("tea", "web") else part)
    return pd.concat(parts, ignore_index=True)


def test_stores_of_a_product_are_trained_as_one_and_a_new_one_joins_it() -> None:
    config = load_config()
    demand = config.demand.model_copy(update=TINY)
    clean = check(chain(), where="the chain").clean
    truth = np.array([TRUTH[str(name).partition("@")[0]] for name in clean["product_id"].cat.categories.sort_values()])
    before = clean[clean["date"] < DAYS[-30]]

    shared = fit(build_panel(clean, config.data), demand).model
    alone = fit(build_panel(clean.drop(columns="parent_id"), config.data), demand).model
    refreshed = fit(build_panel(before, config.data), demand).model.refresh(build_panel(clean, config.data))

    for model in (shared, refreshed):
        assert model.product_ids.tolist() == alone.product_ids.tolist()
        assert len(np.unique(model.norms.elasticity)) == 3
        shown = model.table().elasticities(np.arange(15))[0].reshape(3, 5)
        np.testing.assert_array_equal(shown, np.repeat(shown[:, :1], 5, axis=1))
        assert (np.diff(model.grade.reshape(3, 5)) == 0).all()
    assert len(np.unique(alone.norms.elasticity)) == 15
    assert np.abs(shared.norms.elasticity - truth).mean() < 0.8 * np.abs(alone.norms.elasticity - truth).mean()
    new = refreshed.product_ids.tolist().index("tea@web")
    assert not refreshed.table().own[new]
    assert refreshed.norms.elasticity[new] == refreshed.norms.elasticity[new - 1]
