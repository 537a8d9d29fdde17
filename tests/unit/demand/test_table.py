"""The table that a version serves: levels that the model's parts add up to, and a law-abiding curve around them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from pricing.demand.curve import Offers
from pricing.demand.grades import CATEGORY, TESTED
from pricing.demand.levels import network_forecast, row_parameters
from pricing.demand.model import DemandModel
from pricing.demand.shrinkage import GRID
from pricing.demand.table import ELASTICITY_Z, LEVEL_Z, DemandTable
from tests.kit.demand_fakes import make_model, make_panel

PANEL = make_panel()
MODEL = make_model(PANEL)
MIXED = MODEL.combined(
    MODEL.levels(), weights=np.tile([0.3, 0.7, 0.0], (4, 1)), dispersion=np.full(4, -0.2, np.float32)
)
RIVAL, DRAW = np.array([0.5, 0.0, 0.3, 1.0, 0.2, 0, 0, 0], np.float32), 0.4
TABLE = replace(MIXED.table(), rival=RIVAL, promotion=np.full(8, DRAW, np.float32))
TOMORROW = PANEL.dates[-1] + 1  # a Sunday


def weekly() -> DemandModel:
    weeks = replace(PANEL, period="week", dates=np.datetime64("2024-01-01") + 7 * np.arange(len(PANEL.dates)))
    return replace(make_model(weeks), period="week", horizon=8)


def offers(rows: list[int], **changes: object) -> Offers:
    count = len(rows)
    plain = Offers(
        product=np.asarray(rows),
        category=np.zeros(count, int),
        date=np.full(count, TOMORROW),
        list_price=np.full(count, 10.0),
        comp_price=np.full(count, np.nan),
        is_promo=np.zeros(count),
        periods=np.ones(count, int),
    )
    return replace(plain, **changes)


def log_units(table: DemandTable, asked: Offers, price: float) -> float:
    grid = table.curves(asked)(np.full((1, 1), price))
    return float(np.log(grid.weight @ grid.first[0, :, 0]))


def test_levels_are_the_networks_with_the_other_forecasters_at_the_reference_price() -> None:
    row, step = 3, np.arange(1, 36)
    parameters, combination = row_parameters(MIXED), MIXED.combination
    network = network_forecast(MIXED, parameters, periods=35)
    days = PANEL.dates[-1] + step
    weekday = (days.astype(int) + 3) % 7
    strength = MIXED.norms.elasticity[row] * (1 + MIXED.norms.weekend[row] * (weekday >= 5))

    expected = (
        parameters.level[row]
        + parameters.profile[row][weekday]
        + network.mean[row]
        + combination.factor[row, np.minimum(step, 28)]
        + parameters.recent_price[row] * strength
    )

    assert np.abs(combination.factor).max() > 0.01
    assert_allclose(TABLE.levels[row], expected, atol=1e-5)
    assert TABLE.reference[row] == pytest.approx(10.0 * np.exp(parameters.recent_price[row]), rel=1e-6)
    log_size = network.log_size[row] + combination.narrow[row]
    assert TABLE.size[row] == pytest.approx(np.exp(log_size), rel=1e-5)


def test_the_lift_of_a_promotion_is_the_one_that_past_sales_are_restated_by() -> None:
    lift = np.linspace(0.1, 0.5, len(MODEL.product_ids), dtype=np.float32)

    served = replace(MODEL, norms=replace(MODEL.norms, promotion=lift)).table().promotion

    assert_allclose(served[: len(lift)], lift)
    assert served[-1] == pytest.approx(lift.mean())  # of the unknown category


@pytest.mark.parametrize(("table", "week"), [(TABLE, 7), (weekly().table(), 1)])
def test_look_ahead_past_the_table_repeats_its_last_week(table: DemandTable, week: int) -> None:
    rows, last = np.arange(8), table.levels.shape[1]

    late = table.ahead(rows, np.full(8, last + 1), 3 * week)

    assert last == table.horizon + week
    assert_array_equal(late, np.tile(table.levels[:, -week:], 3))
    assert_array_equal(table.ahead(rows, np.full(8, last - 1), 4)[:, :2], table.levels[:, -2:])


def test_a_stranger_has_the_row_of_its_category_and_prices_around_its_own_list_price() -> None:
    asked = offers([1, -1, -1, -1], category=np.array([0, 0, 1, -1]), list_price=np.full(4, 500.0))

    grid = TABLE.curves(asked)(np.full((4, 1), 500.0))

    assert TABLE.rows(asked).tolist() == [1, 5, 6, 7]
    assert grid.source.tolist() == [0, 1, 1, 1]
    assert np.isnan(TABLE.reference[5:]).all()
    tested = replace(MODEL, priors=replace(MODEL.priors, grade=np.full(3, TESTED, np.int8))).table()
    assert tested.grade[5:].tolist() == [CATEGORY] * 3
    cheap = replace(asked, list_price=np.full(4, 10.0))
    assert_allclose(grid.first[1:], TABLE.curves(cheap)(np.full((4, 1), 10.0)).first[1:], rtol=1e-5)
    parameters = row_parameters(MODEL)
    level = np.log(5.0) + parameters.profile[5:].mean(axis=1)  # of the priors, and no factor
    nobody = network_forecast(MODEL, parameters, periods=35).mean[5:]
    assert_allclose((TABLE.levels[5:] - nobody)[:, :7].mean(axis=1), level, atol=1e-5)


@given(
    row=st.integers(-1, 4),
    promo=st.booleans(),
    periods=st.integers(1, 30),
    comp=st.one_of(st.none(), st.floats(0.01, 1000)),
    days=st.integers(-5, 400),
)
def test_dearer_never_sells_more(row: int, promo: bool, periods: int, comp: float | None, days: int) -> None:
    asked = offers(
        [row],
        is_promo=np.asarray([float(promo)]),
        periods=np.asarray([periods]),
        comp_price=np.asarray([np.nan if comp is None else comp]),
        date=np.asarray([TOMORROW + days]),
    )

    grid = TABLE.curves(asked)(np.geomspace(3.0, 30.0, 40)[None])

    assert (np.diff(grid.first, axis=2) <= 1e-9).all()
    assert (np.diff(grid.until, axis=2) <= 1e-9).all()
    assert np.isfinite(grid.until).all()
    assert (grid.until >= grid.first - 1e-6).all()


@given(row=st.integers(-1, 4), prices=st.tuples(st.floats(0.01, 1000), st.floats(0.01, 1000)))
def test_a_dearer_competitor_never_lowers_demand_and_an_unknown_one_leaves_it(
    row: int, prices: tuple[float, float]
) -> None:
    low, high = (log_units(TABLE, offers([row], comp_price=np.array([price])), 10.0) for price in sorted(prices))
    usual = log_units(TABLE, offers([row], comp_price=TABLE.rival_usual[[row]]), 10.0)

    assert low <= high + 1e-6
    assert log_units(TABLE, offers([row]), 10.0) == pytest.approx(usual, abs=1e-6)


def test_an_elasticity_is_shown_with_its_week_and_the_80_per_cent_interval_of_a_log_normal() -> None:
    mean, low, high = TABLE.elasticities(np.arange(5))
    _, apart, together = replace(TABLE, weekend=np.zeros(8)).elasticities(np.arange(5))

    assert mean[0] == pytest.approx(-2.0 * (1 + 0.1 * 2 / 7), rel=1e-3)
    assert ((low < mean) & (mean < high) & (high < 0)).all()
    assert_allclose(np.log(apart / together), 2 * 1.2816 * TABLE.elasticity_sd[:5], rtol=1e-3)


def test_nodes_are_of_mean_zero_variance_one_uncorrelated_and_leave_expected_demand() -> None:
    unsure = replace(TABLE, level_error=(1.0, 0.0), elasticity_sd=np.full(8, 1e-6, np.float32))
    asked, at = offers([0]), float(TABLE.reference[0])

    sure = log_units(replace(unsure, level_error=(0.0, 0.0)), asked, at)

    assert log_units(unsure, asked, at) == pytest.approx(sure, abs=1e-5)
    assert abs(ELASTICITY_Z.mean()) < 1e-12
    assert ELASTICITY_Z.std() == pytest.approx(1.0)
    assert sorted(LEVEL_Z) == pytest.approx(sorted(ELASTICITY_Z))
    assert abs(np.corrcoef(ELASTICITY_Z, LEVEL_Z)[0, 1]) < 0.05


@pytest.mark.parametrize("price", [1e-300, 1e-4, 10.0, 1e6, 1e300])
def test_no_price_overflows_though_nothing_is_known_of_an_elasticity(price: float) -> None:
    lost = replace(TABLE, elasticity_sd=np.full(8, np.ptp(GRID) / 2, np.float32))  # half at either end

    assert np.isfinite(lost.curves(offers([0, -1], is_promo=np.ones(2)))(np.full((2, 1), price)).until).all()
    assert np.isfinite(lost.elasticities(np.arange(5))).all()


@given(row=st.integers(-1, 4), price=st.floats(1.0, 50.0), promo=st.booleans(), days=st.integers(0, 60))
def test_terms_add_up_to_the_units_expected(row: int, price: float, promo: bool, days: int) -> None:
    asked = offers(
        [row], is_promo=np.array([float(promo)]), comp_price=np.array([8.0]), date=np.array([TOMORROW + days])
    )

    terms = TABLE.terms(asked, np.array([price]))

    assert sum(float(term[0]) for term in terms.values()) == pytest.approx(log_units(TABLE, asked, price), abs=1e-4)
