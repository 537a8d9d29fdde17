"""The served demand model: a law-abiding curve, the same from arrays."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.demand.curve import Offers
from pricing.demand.forecast import ELASTICITY_Z, LEVEL_Z
from pricing.demand.model import DemandModel, add_products
from pricing.demand.state import expand
from pricing.errors import HistoryError, VersionError
from tests.kit.demand_fakes import make_model, make_panel

MODEL = make_model(make_panel())


def offers(rows: list[int], **changes: object) -> Offers:
    count = len(rows)
    plain = Offers(
        product=np.asarray(rows),
        category=np.zeros(count, int),
        date=np.full(count, np.datetime64("2024-04-05")),
        list_price=np.full(count, 10.0),
        comp_price=np.full(count, np.nan),
        is_promo=np.zeros(count),
        is_holiday=np.zeros(count),
        periods=np.ones(count, int),
    )
    return replace(plain, **changes)


@given(
    row=st.integers(-1, 4),
    promo=st.booleans(),
    holiday=st.booleans(),
    periods=st.integers(1, 30),
    comp=st.one_of(st.none(), st.floats(0.01, 1000)),
    days=st.integers(-5, 400),
)
def test_dearer_never_sells_more(
    row: int, promo: bool, holiday: bool, periods: int, comp: float | None, days: int
) -> None:
    prices = np.geomspace(3.0, 30.0, 40)[None]
    asked = offers(
        [row],
        is_promo=np.asarray([float(promo)]),
        is_holiday=np.asarray([float(holiday)]),
        periods=np.asarray([periods]),
        comp_price=np.asarray([np.nan if comp is None else comp]),
        date=np.asarray([np.datetime64("2024-03-30") + days]),
    )

    grid = MODEL.grid(asked, prices)

    assert (np.diff(grid.first, axis=2) <= 1e-9).all()
    assert (np.diff(grid.until, axis=2) <= 1e-9).all()
    assert np.isfinite(grid.until).all()
    assert (grid.until >= grid.first - 1e-6).all()


def test_a_batch_is_answered_like_its_requests_one_by_one() -> None:
    rows = [0, 3, -1, 2, 1]
    promo = np.asarray([0.0, 1.0, 0.0, 1.0, 0.0])
    periods = np.asarray([1, 4, 2, 9, 3])
    prices = np.tile(np.geomspace(7, 13, 9), (5, 1))

    batch = MODEL.grid(offers(rows, is_promo=promo, periods=periods), prices)

    for i, row in enumerate(rows):
        single = MODEL.grid(offers([row], is_promo=promo[[i]], periods=periods[[i]]), prices[[i]])
        np.testing.assert_allclose(batch.first[i], single.first[0], rtol=1e-5)
        np.testing.assert_allclose(batch.until[i], single.until[0], rtol=1e-5)
        np.testing.assert_allclose(batch.until_size[i], single.until_size[0], rtol=1e-5)


def test_the_slope_at_usual_price_is_the_elasticity() -> None:
    near = np.asarray([[9.99, 10.01]])

    grid = MODEL.grid(offers([0]), near)
    units = (grid.first[0] * grid.weight[:, None]).sum(axis=0)
    slope = np.diff(np.log(units))[0] / np.diff(np.log(near[0]))[0]

    assert slope == pytest.approx(-2.0, abs=0.1)


def test_on_a_weekend_demand_answers_more_to_price() -> None:
    prices = np.asarray([[9.0, 11.0]])

    def answer(date: str, periods: int) -> tuple[float, float]:
        asked = offers([0], date=np.asarray([np.datetime64(date)]), periods=np.asarray([periods]))
        grid = MODEL.grid(asked, prices)
        first, until = ((units[0] * grid.weight[:, None]).sum(axis=0) for units in (grid.first, grid.until))
        return float(first[0] / first[1]), float(until[0] / until[1])

    friday, saturday = answer("2024-04-05", 1), answer("2024-04-06", 1)
    friday_and_saturday = answer("2024-04-05", 2)

    assert saturday[0] > friday[0] * 1.03
    assert friday_and_saturday[0] == pytest.approx(friday[0], rel=1e-4)
    assert friday[0] < friday_and_saturday[1] < saturday[0]
    away = np.exp(-MODEL._reader.parameters.recent_price[0])  # half of the forms bend from where it was lately sold
    assert MODEL.elasticity(np.asarray([0]))[0] == pytest.approx(-2.0 * (1 + 0.1 * 2 / 7) * (1 + away) / 2, rel=1e-3)


def test_waiting_longer_sells_more_until_the_delivery() -> None:
    prices = np.asarray([[10.0]])
    totals = [MODEL.grid(offers([0], periods=np.asarray([n])), prices).until.mean() for n in (1, 2, 5, 14)]

    assert totals == sorted(totals)
    assert totals[0] == pytest.approx(MODEL.grid(offers([0]), prices).first.mean())


def test_an_unknown_product_is_answered_by_its_category_around_its_own_list_price() -> None:
    cheap = MODEL.grid(offers([-1], list_price=np.asarray([10.0])), np.asarray([[10.0]]))
    dear = MODEL.grid(offers([-1], list_price=np.asarray([500.0])), np.asarray([[500.0]]))

    np.testing.assert_allclose(cheap.first, dear.first, rtol=1e-5)
    assert cheap.source[0] == 1


def test_a_product_leaves_its_category_when_its_own_rows_say_enough() -> None:
    young = make_model(make_panel(), tail=20)
    young = replace(young, own_periods=60)

    grid = young.grid(offers([0, 1]), np.full((2, 1), 10.0))

    assert list(grid.source) == [0, 1]


def test_a_stale_state_is_less_sure_of_its_level() -> None:
    def spread(date: str) -> float:
        grid = MODEL.grid(offers([0], date=np.asarray([np.datetime64(date)])), np.asarray([[10.0]]))
        return float(np.std(np.log(grid.first[0, :, 0])))

    assert spread("2024-09-01") > spread("2024-04-01")


def test_the_quadrature_has_mean_zero_variance_one_and_independent_axes() -> None:
    assert abs(ELASTICITY_Z.mean()) < 1e-12
    assert ELASTICITY_Z.std() == pytest.approx(1.0)
    assert sorted(LEVEL_Z) == pytest.approx(sorted(ELASTICITY_Z))
    assert abs(np.corrcoef(ELASTICITY_Z, LEVEL_Z)[0, 1]) < 0.05


def test_uncertainty_of_the_level_leaves_expected_demand_where_it_is() -> None:
    unsure = replace(MODEL, level_error=(1.0, 0.0), elasticity_sd=np.full(5, 1e-6, np.float32))
    sure = replace(unsure, level_error=(0.0, 0.0))
    prices = 10.0 * np.exp(sure._reader.parameters.recent_price[:1, None])  # where all forms of the curve meet

    means = [
        (grid.first[0, :, 0] * grid.weight).sum() for grid in (m.grid(offers([0]), prices) for m in (unsure, sure))
    ]

    assert means[0] == pytest.approx(means[1], rel=1e-5)


def test_an_elasticity_of_which_nothing_is_known_still_gives_a_curve() -> None:
    lost = replace(MODEL, elasticity_sd=np.full(5, 1e6, np.float32))

    grid = lost.grid(offers([0]), np.geomspace(5, 20, 9)[None])

    assert np.isfinite(grid.until).all()
    assert np.isfinite(lost.elasticity(np.arange(5))).all()


@pytest.mark.parametrize("price", [1e-300, 1e-4, 1e6, 1e300])
def test_no_price_overflows(price: float) -> None:
    grid = MODEL.grid(offers([0, -1], is_promo=np.ones(2)), np.full((2, 1), price))

    assert np.isfinite(grid.until).all()


def test_arrays_and_meta_give_the_same_model_again() -> None:
    prices = np.tile(np.geomspace(7, 13, 9), (3, 1))

    again = DemandModel.from_arrays(MODEL.to_arrays(), MODEL.meta())

    np.testing.assert_array_equal(
        again.grid(offers([0, 1, -1]), prices).until, MODEL.grid(offers([0, 1, -1]), prices).until
    )
    assert again.weights_hash() == MODEL.weights_hash()
    assert again.state_date == MODEL.state_date
    assert all(array.dtype != object for array in MODEL.to_arrays().values())


@pytest.mark.parametrize("name", ["encoded/state/hidden", "norms/promotion", "grade", "evidence/left"])
def test_a_missing_array_is_named(name: str) -> None:
    arrays = MODEL.to_arrays()
    del arrays[name]

    with pytest.raises(VersionError, match=name.rsplit("/", maxsplit=1)[-1]):
        DemandModel.from_arrays(arrays, MODEL.meta())


def test_a_panel_of_another_grain_is_refused() -> None:
    with pytest.raises(HistoryError, match="one row a day"):
        MODEL.refresh(replace(make_panel(), period="week"))


def test_the_interval_of_an_elasticity_holds_its_mean() -> None:
    mean, low, high = MODEL.elasticity(np.arange(5))

    assert (low < mean).all()
    assert (mean < high).all()
    assert (high < 0).all()


def test_new_products_have_what_promotions_draw_in_their_category() -> None:
    panel = make_panel()
    category = np.array([ord(name) for name in panel.categories])
    drawn = replace(MODEL, norms=replace(MODEL.norms, promotion=np.where(category == category[0], 0.4, 1.2)))
    ids = np.array([f"{product}x" for product in panel.product_ids])
    more = np.concatenate([panel.product_ids, ids])

    grown = add_products(drawn, replace(expand(panel, more), categories=np.tile(panel.categories, 2)))

    np.testing.assert_allclose(grown.norms.promotion, np.repeat(drawn.norms.promotion, 2), rtol=1e-6)
