"""The share of what a product loses, in money, that a shop's other products win, on sales in which it is known."""

from dataclasses import replace

import numpy as np
import pytest

from pricing.data.ewma import Norms
from pricing.data.panel import Panel
from pricing.demand.diversion import MOST, estimate_diversion, others_price
from tests.kit import panels

PERIODS, PER_CATEGORY, CATEGORIES = 364, 5, 3
OWN = -2.5


def sales(share: float, *, seed: int = 0) -> Panel:
    """Sales of a choice among products: elasticity OWN, and `share` of it back if all others become dearer, too."""
    rng = np.random.default_rng(seed)
    products = PER_CATEGORY * CATEGORIES
    weekly = rng.normal(0, 0.12, (products, PERIODS // 7))
    price = np.repeat(np.exp(weekly), 7, axis=1)
    group = np.repeat(np.arange(CATEGORIES), PER_CATEGORY)
    total = np.stack([np.log(price[group == row]).sum(axis=0) for row in range(CATEGORIES)])[group]
    others = (total - np.log(price)) / (PER_CATEGORY - 1)
    units = rng.poisson(60 * np.exp(OWN * np.log(price) - OWN * share * others))
    names = np.array(["cheese", "tea", "wine"])[group]
    return make_panel(10 * price, units_sold=units.astype(float), categories=names)


def make_panel(price: np.ndarray, *, categories: np.ndarray | str = "all", **arrays: np.ndarray) -> Panel:
    products, days = price.shape
    made = panels.panel(products=products, days=days, price=price, **arrays)
    return replace(made, categories=np.broadcast_to(categories, products))


def norms(panel: Panel) -> Norms:
    count = len(panel.product_ids)
    return Norms(
        usual_price=np.full(count, 10.0, np.float32),
        unit=np.ones(count, np.float32),
        prior_level=np.full(count, 60.0, np.float32),
        elasticity=np.full(count, OWN, np.float32),
        weekend=np.zeros(count, np.float32),
        promotion=np.zeros(count, np.float32),
    )


def estimated(panel: Panel) -> np.ndarray:
    group = np.unique(panel.categories, return_inverse=True)[1]
    return estimate_diversion(panel, norms=norms(panel), group=group, elasticity_sd=np.full(len(group), 0.1))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 0.6])
def test_the_share_is_found_where_products_are_chosen_among(share: float) -> None:
    np.testing.assert_allclose(estimated(sales(share)), share, atol=0.08)


def test_no_share_is_beyond_its_limits() -> None:
    np.testing.assert_array_equal(estimated(sales(1.2)), np.full(CATEGORIES, MOST))
    assert estimated(sales(-0.5)).max() == 0.0


def test_prices_that_never_moved_tell_of_no_share() -> None:
    panel = sales(0.4)
    still = make_panel(np.full(panel.price.shape, 10.0), units_sold=panel.units_sold, categories=panel.categories)

    assert estimated(still).max() == 0.0


def test_a_product_that_is_alone_in_its_category_has_no_others() -> None:
    panel = sales(0.4)
    group = np.arange(len(panel.product_ids))

    index = others_price(panel, norms=norms(panel), group=group, units=np.ones(len(group)))

    assert np.isnan(index).all()
    found = estimate_diversion(panel, norms=norms(panel), group=group, elasticity_sd=np.full(len(group), 0.1))
    assert found.max() == 0.0


def test_others_count_by_their_units_and_where_they_have_a_row() -> None:
    panel = make_panel(
        np.array([[10.0, 10.0], [20.0, 10.0], [10.0, 5.0]]),
        present=np.array([[True, True], [True, True], [True, False]]),
    )

    index = others_price(panel, norms=norms(panel), group=np.zeros(3, int), units=np.array([1.0, 3.0, 1.0]))

    np.testing.assert_allclose(index[0], [2.0**0.75, 1.0], rtol=1e-6)
    np.testing.assert_allclose(index[1], [1.0, 1.0], rtol=1e-6)
