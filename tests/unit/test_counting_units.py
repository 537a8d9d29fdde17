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
from pricing.data.features import past_features
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision.request import Decision, PriceRequest
from pricing.demand.model import DemandModel
from tests.kit.demand_fakes import make_model, make_norms, make_panel

SCALES = (1e-3, 0.1, 1 / 3, 10.0, 64.0, 1e4)
ONE = np.full(400, "a")


def counts(products: int, periods: int, *, mean: float = 4.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    means = mean * np.exp(rng.standard_normal((products, 1)))
    return rng.negative_binomial(3.0, 3.0 / (3.0 + means), (products, periods)).astype(float)


def weights(products: int, periods: int, *, seed: int = 0) -> np.ndarray:
    """Grams in kilograms: a number of purchases of about 0.3 kg each."""
    rng = np.random.default_rng(seed)
    number = rng.poisson(4.0, (products, periods))
    return np.round(np.where(number > 0, rng.gamma(np.maximum(number, 1) * 5.0, 0.06), 0.0), 3)


@cache
def amounts_of(mean: float, size: float) -> tuple[np.ndarray, Units]:
    """What 30 products sold, and how that is counted."""
    rng = np.random.default_rng(1)
    sold = rng.poisson(rng.gamma(size, mean / size, (30, 400))).astype(float)
    return sold, find_units(sold.astype(np.float32), ONE[:30])


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("mean", [0.05, 4.0, 30.0])
def test_counts_are_counted_in_the_step_that_they_are_written_in(scale: float, mean: float) -> None:
    units = find_units((scale * counts(40, 200, mean=mean)).astype(np.float32), ONE[:40])

    assert units.counted.all()
    np.testing.assert_allclose(units.size, scale, rtol=1e-5)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("mean", [200.0, 500.0, 5000.0, 1e5])
@pytest.mark.parametrize("size", [5.0, 50.0, 1e9])
def test_what_counts_as_one_is_the_same_in_every_unit_however_much_sells(
    scale: float, mean: float, size: float
) -> None:
    sold, plain = amounts_of(mean, size)

    units = find_units((scale * sold).astype(np.float32), ONE[:30])

    np.testing.assert_array_equal(units.counted, plain.counted)
    np.testing.assert_allclose(units.size, scale * plain.size, rtol=1e-4)


def test_products_in_packs_of_their_own_are_all_counted() -> None:
    packs = np.exp(np.random.default_rng(0).normal(0, 1, (400, 1)))

    units = find_units((packs * counts(400, 60)).astype(np.float32), ONE)

    assert units.counted.mean() > 0.95


def test_between_two_steps_lies_no_unit() -> None:
    sold = counts(4, 60)
    sold[2:] *= 0.1
    sold[0, 5:] = np.nan

    units = find_units(sold.astype(np.float32), ONE[:4])

    assert units.size[0] == pytest.approx(0.1)


@pytest.mark.parametrize("scale", SCALES)
def test_amounts_by_weight_count_in_purchases(scale: float) -> None:
    plain = find_units(weights(40, 200).astype(np.float32), ONE[:40])

    units = find_units((scale * weights(40, 200)).astype(np.float32), ONE[:40])

    assert not units.counted.any()
    assert np.all((units.size > 0.005 * scale) & (units.size < 0.6 * scale))
    np.testing.assert_allclose(units.size, scale * plain.size, rtol=1e-5)


def test_a_shop_sells_some_by_the_piece_and_some_by_weight() -> None:
    both = np.concatenate([counts(30, 200), weights(30, 200)]).astype(np.float32)

    units = find_units(both, ONE[:60])

    assert units.counted.tolist() == [True] * 30 + [False] * 30
    np.testing.assert_allclose(units.size[:30], 1.0)


def test_a_product_that_only_ever_sold_pairs_is_counted_as_the_others_are() -> None:
    sold = counts(30, 200)
    sold[7] = 2.0 * (np.arange(200) % 40 == 0)

    units = find_units(sold.astype(np.float32), ONE[:30])

    np.testing.assert_allclose(units.size, 1.0)


def test_a_few_odd_rows_change_no_step() -> None:
    sold = counts(30, 400)
    sold[3, 100] = 7.25

    units = find_units(sold.astype(np.float32), ONE[:30])

    assert units.counted.all()
    np.testing.assert_allclose(units.size, 1.0)


def test_a_product_of_few_rows_is_sold_as_its_category_is() -> None:
    both = np.concatenate([counts(10, 60), weights(10, 60)])
    both[[9, 19], 5:] = np.nan

    units = find_units(both.astype(np.float32), np.repeat(["pieces", "cheese"], 10))

    assert (bool(units.counted[9]), bool(units.counted[19])) == (True, False)
    assert units.size[9] == pytest.approx(1.0)
    assert units.size[19] == pytest.approx(float(np.median(units.size[10:19])))


def test_without_a_sale_everything_counts_in_ones() -> None:
    units = find_units(np.zeros((3, 30), np.float32), ONE[:3])

    assert units.size.tolist() == [1.0, 1.0, 1.0]
    assert units.counted.all()


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=30), st.sampled_from(SCALES))
def test_steps_of_a_multiple_are_whole(amounts: list[int], scale: float) -> None:
    written = (scale * np.asarray(amounts)).astype(np.float32)

    steps = in_steps(written, np.float32(scale))

    assert steps.tolist() == amounts


def test_the_network_reads_the_same_whatever_unit_sales_are_written_in() -> None:
    panel = make_panel(products=4, periods=80)
    norms = make_norms(panel)
    scaled = replace(panel, units_sold=np.float32(0.1) * panel.units_sold, stock=np.float32(0.1) * panel.stock)

    plain, _ = past_features(panel, norms=norms)
    tenths, _ = past_features(scaled, norms=replace(norms, unit=np.full_like(norms.unit, 0.1)))

    for name in ("inputs", "level", "profile", "summary"):
        np.testing.assert_array_equal(getattr(tenths, name), getattr(plain, name))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("stock", [3.0, 25.0, 400.0])
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


def test_products_that_only_ever_sell_one_amount_tell_a_step_together() -> None:
    sold = np.repeat(np.arange(3.0, 9.0)[:, None], 60, axis=1)

    units = find_units(sold.astype(np.float32), ONE[:6])

    np.testing.assert_allclose(units.size, 1.0)
