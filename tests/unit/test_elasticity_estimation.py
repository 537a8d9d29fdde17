"""What the moves of a small panel say: events, price tests, moves of the platform itself, and doubt."""

from dataclasses import replace

import numpy as np
import pytest

from pricing.data.panel import Panel
from pricing.demand import elasticity_estimation as of
from pricing.demand.batches import FeatureTable, build_table
from pricing.demand.elasticity import Prior
from pricing.demand.elasticity_estimation import (
    Estimates,
    EventForecast,
    gather_evidence,
    learn,
    posterior_elasticities,
    remaining_change,
    select_sample,
    with_price_tests,
)
from pricing.demand.endogeneity import FalsificationTest
from pricing.demand.price_changes import (
    SCORED_PERIODS,
    SCORED_PERIODS_FEW,
    after_cuts,
    after_price_changes,
    around_price_changes,
    during_tests,
    find_price_changes,
)
from pricing.demand.regression import Shift
from tests.kit.demand_fakes import make_norms, make_panel

PRODUCTS, DAYS = 12, 240
PRIOR = Prior(-2.0, 1.0)


def table_of(price: np.ndarray, units: np.ndarray | None = None) -> tuple[Panel, FeatureTable]:
    """A panel of products at (product, day) prices, without gaps or stock-outs."""
    products, days = price.shape
    base = make_panel(products=products, periods=days)
    panel = replace(
        base,
        present=np.ones(price.shape, bool),
        price=price.astype(np.float32),
        list_price=np.full(price.shape, 10.0, np.float32),
        unit_cost=np.full(price.shape, 6.0, np.float32),
        stock=np.full(price.shape, np.nan, np.float32),
        units_sold=(np.full(price.shape, 20.0) if units is None else units).astype(np.float32),
        is_promo=np.zeros(price.shape, np.float32),
    )
    norms = replace(make_norms(panel), usual_price=np.full(products, 10.0, np.float32))
    return panel, build_table(panel, norms=norms, category=np.zeros(products, int))


def steps_at(*days: int, length: int = 60) -> np.ndarray:
    price = np.full(length, 10.0)
    for day in days:
        price[day:] *= 0.9
    return price[None]


def test_a_product_with_one_move_is_watched_longer_after_it() -> None:
    _, rare = table_of(steps_at(30))
    _, often = table_of(steps_at(*range(20, 56, 3)))

    once = after_price_changes(rare, find_price_changes(rare))
    many = after_price_changes(often, find_price_changes(often))

    assert once.at.tolist() == list(range(30, 30 + SCORED_PERIODS_FEW))
    assert (once.cutoff == 29).all()
    assert many.step.max() == SCORED_PERIODS


def test_sold_out_periods_are_events_too() -> None:
    panel, _ = table_of(steps_at(30))
    sold_out = replace(panel, stock=panel.units_sold)
    table = build_table(sold_out, norms=make_norms(sold_out), category=np.zeros(1, int))

    events = after_price_changes(table, find_price_changes(table))

    assert len(events) == SCORED_PERIODS_FEW
    assert (table.censored[events.product, events.at] == 1).all()


def test_windows_near_a_move_hold_no_move() -> None:
    _, table = table_of(steps_at(30, 40))
    moved = find_price_changes(table)

    before, coming = around_price_changes(table, moved, first=-SCORED_PERIODS)
    later, past = around_price_changes(table, moved, first=4)

    assert sorted(before.at.tolist()) == [27, 28, 29, 37, 38, 39]
    assert set(coming.tolist()) == {30, 40}
    assert sorted(later.at.tolist()) == [34, 35, 36, 44, 45, 46]
    assert set(past.tolist()) == {30, 40}
    assert not moved[later.product, later.at].any()
    np.testing.assert_array_equal(table.log_price[0, later.cutoff], table.log_price[0, later.at])


def test_a_cut_that_is_over_is_forecast_from_before_it() -> None:
    price = np.full((1, 60), 10.0)
    price[0, 30:35] = 8.0
    _, table = table_of(price)

    events, depth, lasted = after_cuts(table, find_price_changes(table))

    assert events.at.tolist() == list(range(35, 42))
    assert (events.cutoff == 29).all()
    np.testing.assert_allclose(depth, np.log(0.8), rtol=1e-4)
    assert (lasted == 5).all()


def test_a_lasting_cut_is_not_over() -> None:
    _, table = table_of(steps_at(30))

    assert len(after_cuts(table, find_price_changes(table))[0]) == 0


def test_moves_of_the_platform_itself_are_left_out() -> None:
    panel, table = table_of(steps_at(30, 40))
    own = np.zeros(panel.present.shape, bool)
    own[:, 40:] = True

    sample = select_sample(panel, table, tested=None, own=own, half_life=None)

    assert sample.moved.sum() == 1
    assert sample.moves.at.max() < 40


def test_a_price_test_is_no_ordinary_move() -> None:
    price = np.full((1, 60), 10.0)
    price[0, 30:37] = 10.5
    panel, table = table_of(price)
    tested = np.full((1, 60), np.nan)
    tested[0, 30:37] = np.log(1.05)

    sample = select_sample(panel, table, tested=tested, own=None, half_life=None)

    assert len(sample.moves) == 0
    assert sample.tests.at.tolist() == list(range(30, 37))
    assert (sample.tests.cutoff == 29).all()
    np.testing.assert_allclose(sample.draw, np.log(1.05))


def test_a_draw_that_changes_is_forecast_from_the_day_before_it() -> None:
    panel, table = table_of(np.full((1, 60), 10.0))
    tested = np.full((1, 60), np.nan)
    tested[0, 30:37], tested[0, 37:44] = 0.04, -0.03

    events = during_tests(table, tested)

    assert events.cutoff.tolist() == [29] * 7 + [36] * 7
    assert len(panel.dates) == 60


def moving(
    truth: float, *, seed: int, trend: float = 0.0, offset: float = -2.0
) -> tuple[of.EstimationSample, FeatureTable, EventForecast, of.Norms]:
    """Weekly random prices; demand answers by `truth`, and `trend` times the move is a demand that only coincides."""
    rng = np.random.default_rng(seed)
    weeks = DAYS // 7 + 1
    log_price = np.repeat(rng.normal(0, 0.08, (PRODUCTS, weeks)), 7, axis=1)[:, :DAYS]
    move = np.diff(log_price, axis=1, prepend=log_price[:, :1])
    near = sum(np.roll(move, shift, axis=1) for shift in range(-SCORED_PERIODS, 7))
    mean = 30.0 * np.exp(truth * log_price + trend * near)
    panel, table = table_of(10.0 * np.exp(log_price), rng.poisson(mean).astype(float))
    sample = select_sample(panel, table, tested=None, own=None, half_life=None)
    residual = (table.log_price[sample.moves.product, sample.moves.at]).astype(float)
    events = sample.everything
    norms = replace(make_norms(panel), elasticity=np.full(PRODUCTS, offset, np.float32))
    expected = 30.0 * np.exp(offset * table.log_price[events.product, events.at])
    return replace(sample, residual=residual), table, EventForecast(expected, np.full(len(events), 1e4)), norms


def test_random_prices_pass_every_test_and_are_found() -> None:
    sample, table, forecast, norms = moving(-2.8, seed=1, offset=-2.7)

    known = learn(sample, table, forecast, norms=norms, control=False, so_far=Estimates.nothing(PRODUCTS, level=-2.8))

    assert known.level == pytest.approx(-2.8, abs=0.1)
    assert known.checks.doubt < 0.3
    assert (known.error < 0.5).all()


def test_a_demand_that_moves_with_prices_before_and_after_widens_the_doubt() -> None:
    sample, table, forecast, norms = moving(-2.0, seed=1, trend=0.9)

    known = learn(sample, table, forecast, norms=norms, control=False, so_far=Estimates.nothing(PRODUCTS, level=-1.1))
    shrunk = posterior_elasticities(known, category=np.zeros(PRODUCTS, int), prior=PRIOR)
    evidence = gather_evidence(sample, table, known, shrunk, prior=PRIOR)

    assert known.level > -1.5
    assert known.checks.doubt > 0.5
    assert known.level - 1.2816 * shrunk.sd.mean() < -1.5
    assert (evidence.flags & of.TREND).all()


def shift_of(value: float, error: float, products: int) -> Shift:
    nil = np.zeros(products)
    clusters = np.full(products, 9)
    return Shift(nil + value, nil + error, clusters, value, error, 0.0, 0.0, nil, 0.0, nil, 0.0)


def test_price_tests_overrule_what_other_moves_say() -> None:
    norms = replace(make_norms(make_panel()), elasticity=np.full(5, -2.0, np.float32))
    biased = replace(
        Estimates.nothing(5, level=-1.6),
        value=np.full(5, -1.6),
        error=np.full(5, 0.3),
        level_error=0.1,
        shared_bias_sd=0.9,
    )
    biased = replace(biased, doubt=np.full(5, 0.9))

    known = with_price_tests(biased, shift_of(-0.5, 0.4, 5), norms=norms)

    assert known.level == pytest.approx(-2.5, abs=0.15)
    np.testing.assert_allclose(known.value, -2.5, atol=0.15)
    assert known.shared_bias_sd < 0.35
    assert (known.error < 0.3).all()
    assert (known.tested_error == 0.4).all()


def test_products_never_tested_gain_from_the_tests_of_others() -> None:
    norms = replace(make_norms(make_panel()), elasticity=np.full(5, -2.0, np.float32))
    biased = replace(
        Estimates.nothing(5, level=-1.6),
        value=np.full(5, -1.6),
        error=np.full(5, 0.3),
        level_error=0.1,
        shared_bias_sd=0.9,
    )
    random = shift_of(-0.5, 0.3, 5)
    random = replace(random, error=np.asarray([0.3, 0.3, 0.3, 0.3, np.inf]))

    known = with_price_tests(replace(biased, doubt=np.full(5, 0.9)), random, norms=norms)

    assert known.value[4] == pytest.approx(-2.5, abs=0.25)
    assert known.doubt[4] < 0.5
    assert np.isinf(known.tested_error[4])


def test_before_any_move_all_that_is_believed_is_the_prior() -> None:
    shrunk = posterior_elasticities(Estimates.nothing(6, level=-2.0), category=np.arange(6) // 3, prior=PRIOR)

    np.testing.assert_allclose(shrunk.mean, -2.0)
    np.testing.assert_allclose(shrunk.sd, 1.0)


@pytest.mark.parametrize("ratio", [0.5, 0.6, 0.75])
def test_what_rounds_have_still_to_go_is_the_rest_of_their_series(ratio: float) -> None:
    levels = -3.0 + ratio ** np.arange(60)

    left = remaining_change(levels[2] - levels[1], before=levels[1] - levels[0], noise=1e-6)

    assert left == pytest.approx(levels[2] - levels[-1], rel=1e-6)


def test_a_ratio_counts_as_far_as_its_step_stands_out_from_the_noise() -> None:
    steps = np.linspace(0.01, 2.0, 400)

    left = np.array([remaining_change(0.19, before=before, noise=0.28) for before in steps])

    assert remaining_change(0.19, before=0.0, noise=0.28) == pytest.approx(0.19)
    assert remaining_change(0.19, before=0.02, noise=0.28) == pytest.approx(0.19, rel=0.02)
    assert remaining_change(0.19, before=0.19, noise=1e-6) == pytest.approx(4 * 0.19)
    assert remaining_change(-0.1, before=0.5, noise=0.1) == pytest.approx(0.1)
    assert np.abs(np.diff(left)).max() < 0.01


@pytest.mark.parametrize("level", [-6.0, -4.0, -0.5])
def test_no_doubt_that_all_share_brings_a_level_beyond_the_prior(level: float) -> None:
    nothing = Estimates.nothing(6, level=PRIOR.mean)
    category = np.arange(6) // 3

    def mean_at(doubt: float) -> np.ndarray:
        known = replace(nothing, level=level, level_error=0.5, doubt=np.full(6, doubt), shared_bias_sd=doubt)
        shrunk = posterior_elasticities(known, category=category, prior=PRIOR)
        return np.concatenate([shrunk.mean, shrunk.sd])

    found = [mean_at(doubt) for doubt in (0.0, 0.3, 1.0, 3.0, 100.0)]
    means = np.abs(np.array([one[:6] for one in found]) - PRIOR.mean)

    assert (np.diff(means, axis=0) <= 1e-9).all()
    assert (np.sign(level - PRIOR.mean) * (np.array(found)[:, :6] - PRIOR.mean) >= 0).all()
    np.testing.assert_allclose(mean_at(1e9), [PRIOR.mean] * 6 + [PRIOR.sd] * 6, atol=1e-5)


def test_what_nothing_is_known_of_is_called_unknown() -> None:
    nothing = Estimates.nothing(2, level=-2.0)
    with_shared_bias = replace(nothing, shared_bias_sd=np.inf)
    known = replace(nothing, level_error=0.1, checks=replace(nothing.checks, later=FalsificationTest(0.2, 0.05)))

    assert nothing.describe() == (
        "level unknown, shared doubt 0.00, control +0.00, before moves unknown, later unknown, after cuts unknown"
    )
    assert "shared doubt unknown" in with_shared_bias.describe()
    assert known.describe().startswith("level -2.00 ± 0.10, ")
    assert "later +0.20 ± 0.05" in known.describe()
