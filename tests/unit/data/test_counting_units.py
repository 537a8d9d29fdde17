"""What counts as one: found in every panel, and no figure depends on the unit that sales are written in."""

import datetime as dt
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.config import load_config
from pricing.data.counting_units import Units, find_units, in_steps
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision.request import Decision, PriceRequest
from pricing.demand.model import DemandModel
from tests.kit.demand_fakes import make_model, make_norms, make_panel

SCALES = (1e-3, 1 / 3, 64.0)
ONE = np.full(400, "a")


def counts(products: int, periods: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    means = 4.0 * np.exp(rng.standard_normal((products, 1)))
    return rng.negative_binomial(3.0, 3.0 / (3.0 + means), (products, periods)).astype(float)


def weights(products: int, periods: int) -> np.ndarray:
    """Grams in kilograms: a number of purchases of about 0.3 kg each."""
    rng = np.random.default_rng(0)
    number = rng.poisson(4.0, (products, periods))
    return np.round(np.where(number > 0, rng.gamma(np.maximum(number, 1) * 5.0, 0.06), 0.0), 3)


@cache
def amounts_of(mean: float, size: float) -> tuple[np.ndarray, Units]:
    """What 30 products sold, and how that is counted."""
    rng = np.random.default_rng(1)
    sold = rng.poisson(rng.gamma(size, mean / size, (30, 400))).astype(float)
    return sold, find_units(sold.astype(np.float32), ONE[:30])


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("mean", [0.05, 200.0, 1e5])
@pytest.mark.parametrize("size", [5.0, 1e9])
def test_what_counts_as_one_is_the_same_in_every_unit_however_much_sells(
    scale: float, mean: float, size: float
) -> None:
    sold, plain = amounts_of(mean, size)

    units = find_units((scale * sold).astype(np.float32), ONE[:30])

    np.testing.assert_array_equal(units.counted, plain.counted)
    np.testing.assert_allclose(units.size, scale * plain.size, rtol=1e-4)
    assert mean > 1 or (plain.size == 1).all()


@pytest.mark.parametrize("scale", SCALES)
def test_amounts_by_weight_count_in_purchases_beside_others_by_the_piece(scale: float) -> None:
    both = np.concatenate([counts(30, 200), weights(30, 200)])

    units = find_units((scale * both).astype(np.float32), ONE[:60])

    assert units.counted.tolist() == [True] * 30 + [False] * 30
    assert np.all((units.size[30:] > 0.005 * scale) & (units.size[30:] < 0.6 * scale))


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=30), st.sampled_from(SCALES))
def test_steps_of_a_multiple_are_whole(amounts: list[int], scale: float) -> None:
    written = (scale * np.asarray(amounts)).astype(np.float32)

    steps = in_steps(written, np.float32(scale))

    assert steps.tolist() == amounts


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("stock", [3.0, 400.0])
def test_a_price_does_not_depend_on_the_unit_of_sales_and_stock(scale: float, stock: float) -> None:
    here, there = (price(factor, stock=factor * stock) for factor in (1.0, scale))

    for ours, theirs in zip(here, there, strict=True):
        assert theirs.recommended_price == pytest.approx(ours.recommended_price, rel=1e-3)
        assert theirs.confidence == pytest.approx(ours.confidence, abs=2e-3)
        assert theirs.expected_units == pytest.approx(scale * ours.expected_units, rel=1e-3)
        assert theirs.expected_margin == pytest.approx(scale * ours.expected_margin, rel=5e-3)
        assert theirs.reasons == ours.reasons


@cache
def price(scale: float, *, stock: float) -> list[Decision]:
    """Decisions of a model whose sales and stock are written in another unit."""
    panel = make_panel(products=3, periods=80)
    factor = np.float32(scale)
    panel = replace(panel, units_sold=factor * panel.units_sold, stock=factor * panel.stock)
    norms = make_norms(panel)
    model: DemandModel = make_model(panel, norms=replace(norms, unit=np.full_like(norms.unit, scale)))
    pricer = Pricer(model.table(), ProductFacts.from_panel(panel), load_config(), version="1")
    day = model.state_date + dt.timedelta(days=3)
    asked = [
        PriceRequest(product_id=str(name), current_stock=stock, day_of_week=day.strftime("%A"), date=day)
        for name in panel.product_ids
    ]
    return pricer.price(asked, today=day)
