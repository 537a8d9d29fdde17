"""What promotions draw, learnt from sales whose true draw is known, and kept out of levels."""

from dataclasses import replace

import numpy as np
import pytest

from pricing.data.ewma import Norms
from pricing.data.features import past_features
from pricing.data.panel import Panel
from pricing.demand.promotion_lift import learn_promotion_lift
from tests.kit.demand_fakes import make_norms
from tests.kit.events import make_panel

TRUE = {"a": 0.4, "b": 1.2}
USUAL = 10.0
CUT = 8.0  # deep enough for a full draw


def promoted_panel(*, weeks: int = 6, periods: int = 400) -> Panel:
    """Every product is promoted on a third of all spells of `weeks` weeks, at CUT, and sells as TRUE says."""
    rng = np.random.default_rng(3)
    plain = make_panel(events=(), products=24, periods=periods, lift={}, seed=3)
    spells = rng.random((24, periods // (7 * weeks) + 1)) < 1 / 3
    promo = np.repeat(spells, 7 * weeks, axis=1)[:, :periods].astype(np.float32)
    promo[:, :28] = 0.0
    draw = np.array([TRUE[category] for category in plain.categories])[:, None] * promo
    sold = rng.poisson(plain.units_sold * np.exp(draw) * np.where(promo > 0, (CUT / plain.price) ** -2.0, 1.0))
    price = np.where(promo > 0, CUT, plain.price).astype(np.float32)
    return replace(plain, units_sold=sold.astype(np.float32), price=price, is_promo=promo)


def norms_of(panel: Panel, promotion: float = 0.0) -> Norms:
    return make_norms(panel, prior_level=15.0, weekend=0.0, promotion=promotion)


def learn(panel: Panel, norms: Norms | None = None) -> np.ndarray:
    category = np.unique(panel.categories, return_inverse=True)[1]
    return learn_promotion_lift(panel, norms=norms or norms_of(panel), category=category)


@pytest.mark.parametrize("believed", [0.0, 2.0])
def test_a_known_draw_is_found_by_category_whatever_was_believed(believed: float) -> None:
    panel = promoted_panel()

    lift = learn(panel, norms_of(panel, promotion=believed))

    for category, true in TRUE.items():
        np.testing.assert_allclose(lift[panel.categories == category], true, atol=0.08)


@pytest.mark.parametrize("share", ["none", "all"])
def test_without_promotions_or_without_ordinary_days_nothing_is_restated(share: str) -> None:
    panel = promoted_panel()
    promo = np.full_like(panel.is_promo, float(share == "all"))

    assert (learn(replace(panel, is_promo=promo)) == 0).all()


def test_a_sold_out_promotion_counts_with_the_demand_beyond_the_shelf() -> None:
    panel = promoted_panel()
    shelf = np.where(panel.is_promo > 0, 60.0, 1e4).astype(np.float32)
    short = replace(panel, stock=shelf, units_sold=np.minimum(panel.units_sold, shelf))
    cut_off = replace(short, stock=np.full_like(shelf, np.nan))

    known, unknown = learn(short), learn(cut_off)

    rows = panel.categories == "b"
    assert (panel.units_sold >= shelf)[rows][panel.is_promo[rows] > 0].mean() > 0.9
    assert (unknown[rows] < 0.7).all()
    np.testing.assert_allclose(known[rows], TRUE["b"], atol=0.3)


def test_a_promotion_does_not_raise_the_level_of_the_days_after_it() -> None:
    panel = promoted_panel(weeks=2, periods=200)
    ordinary = np.log(20.0)
    last = panel.is_promo.copy()
    last[:, -14:] = 1.0
    units = np.where(last > 0, 20.0 * np.exp(1.2) * (CUT / USUAL) ** -2.0, 20.0).astype(np.float32)
    price = np.where(last > 0, CUT, USUAL).astype(np.float32)
    ended = replace(panel, is_promo=last, units_sold=units, price=price)

    kept, _ = past_features(ended, norms=norms_of(panel, promotion=1.2))
    raised, _ = past_features(ended, norms=norms_of(panel))

    np.testing.assert_allclose(kept.level[:, -1], ordinary, atol=0.02)
    assert (raised.level[:, -1] > ordinary + 0.3).all()


def test_what_a_promotion_seems_to_take_away_is_none() -> None:
    panel = promoted_panel()
    fewer = np.where(panel.is_promo > 0, np.floor(panel.units_sold / 6), panel.units_sold).astype(np.float32)

    assert (learn(replace(panel, units_sold=fewer)) == 0).all()
