"""What a competitor's price does to demand: found where it is there, with its doubt; unknown where nothing tells."""

from dataclasses import replace

import numpy as np
import pytest

from pricing.arrays import flatten, restore
from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.demand.competitor import SPREAD, CompetitorEffects, _shrunk
from pricing.demand.model import DemandModel, add_products
from pricing.registry.knowledge import shown_competitor
from tests.kit.competitor import OWN, PRODUCTS, drawn_panel, estimate, sales
from tests.kit.versions import make_demand, shared_panel


@pytest.mark.parametrize("cross", [0.8, 0.0])
@pytest.mark.parametrize("elasticity", [OWN, -1.4])  # wrong: the own price takes up what is left
def test_the_effect_is_found(cross: float, elasticity: float) -> None:
    found = estimate(drawn_panel(5, follows=0.5, cross=cross), elasticity=elasticity)

    assert found.mean.mean() == pytest.approx(cross, abs=0.15)
    assert (found.sd < 0.5).all()


def test_an_own_price_that_only_follows_the_competitor_leaves_the_effect_in_doubt() -> None:
    panel = drawn_panel(1, follows=0.9)
    same = replace(panel, price=(10 * (panel.comp_price / 10) ** 0.9).astype(np.float32))

    apart, following, only = estimate(drawn_panel(1, follows=None)), estimate(panel), estimate(same)

    assert (following.sd > 1.3 * apart.sd).all()
    assert (only.sd > 2 * following.sd).all()
    assert (only.sd < 1.5).all()  # not rounding over rounding


@pytest.mark.parametrize("count", [1, 2])
def test_without_another_product_the_effect_is_not_told_from_what_all_share(count: int) -> None:
    panel = drawn_panel(3, follows=None)
    known = np.arange(PRODUCTS)[:, None] < count

    found = estimate(replace(panel, comp_price=np.where(known, panel.comp_price, np.nan).astype(np.float32)))

    assert found.moves[0] > 20
    assert np.isfinite([found.mean[0], found.sd[0]]).tolist() == [count > 1] * 2


def test_products_are_shrunk_as_their_joint_normal_distribution_says() -> None:
    category = np.array([0, 0, 0, 1, 1, 2])
    value, error = np.array([0.9, 0.2, 0.0, -0.3, 0.5, 0.0]), np.array([0.1, 0.6, np.inf, 0.3, 0.2, np.inf])
    prior = SPREAD**2 * (np.eye(6) + (category[:, None] == category))
    told = np.diag(error**-2.0)

    mean, sd = _shrunk(value, error, category=category)

    left = np.linalg.inv(np.linalg.inv(prior) + told)
    np.testing.assert_allclose(mean, left @ told @ value, atol=1e-9)
    np.testing.assert_allclose(sd, np.sqrt(np.diag(left)), atol=1e-9)


def test_competitors_that_move_together_tell_no_effect_from_what_all_share() -> None:
    panel = drawn_panel(3, follows=None)

    found = estimate(replace(panel, comp_price=np.repeat(panel.comp_price[:1], PRODUCTS, axis=0)))

    assert (found.moves > 20).all()
    assert np.isnan(found.mean).all()


@pytest.mark.parametrize("column", ["stock", "is_promo"])
def test_days_that_sold_out_or_were_advertised_do_not_count(column: str) -> None:
    frame = sales()
    odd = (np.random.default_rng(1).random(len(frame)) < 0.2) & (frame["comp_price"] > 10)
    units = np.where(odd, np.floor(frame["units_sold"] / 4), frame["units_sold"])
    given = np.where(odd, units, 1000.0) if column == "stock" else odd.astype(int)

    found = estimate(build_panel(frame.assign(units_sold=units, **{column: given}), load_config().data))

    assert found.mean[1:].mean() == pytest.approx(0.8, abs=0.12)


def with_effects(demand: DemandModel) -> DemandModel:
    """The first product's effect is clear, the second's may be none, nothing tells the others'.

    The third's competitor moved too seldom, that of the fourth moved as all did.
    """
    count = len(demand.product_ids)
    mean, sd, moves = np.full(count, np.nan, np.float32), np.full(count, np.nan, np.float32), np.zeros(count, np.int32)
    mean[:2], sd[:2], moves[:4] = (0.5, 0.2), (0.1, 0.4), (20, 9, 2, 29)
    return replace(demand, competitor=CompetitorEffects(mean, sd, moves))


def test_the_effect_is_shown_with_its_interval_or_as_unknown() -> None:
    demand = with_effects(make_demand(shared_panel())).table()

    clear, doubtful, *unknown = (shown_competitor(demand, row) for row in (0, 1, 2, 3, 4))

    assert (clear.effect, clear.low, clear.high, clear.moves) == (0.5, 0.37, 0.63, 20)
    assert (doubtful.low, doubtful.high) == (-0.31, 0.71)
    assert [(one.effect, one.moves) for one in unknown] == [(None, 2), (None, 29), (None, 0)]
    assert shown_competitor(replace(demand, competitor=None), 0).effect is None


def test_a_model_keeps_the_effects_through_its_arrays_and_knows_nothing_of_new_products() -> None:
    panel = shared_panel()
    some = make_demand(panel.select(np.arange(12) != 1))  # without the second product
    some = with_effects(some)

    again = restore(DemandModel, *flatten(some))
    grown = add_products(again, panel)

    assert again.competitor is not None
    assert again.competitor.moves.tolist() == some.competitor.moves.tolist()  # type: ignore[union-attr]
    assert grown.competitor is not None
    assert np.isnan(grown.competitor.mean[1])
    assert grown.competitor.mean[[0, 2]] == pytest.approx([0.5, 0.2])
