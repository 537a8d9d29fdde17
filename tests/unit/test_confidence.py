"""Confidence: exact where the gain is normal, sensible where it is not, calibrated by a rising table."""

import numpy as np
import pytest
from scipy import stats

from pricing.decision.choose import choose
from pricing.decision.confidence import calibrated, chance_at_least, deviation_at, normal_chance, relative_gain
from pricing.decision.reasons import codes
from pricing.decision.strategies import Policy
from pricing.demand.curve import DemandGrid
from tests.kit.decision import config, pricing_context

Z = np.array([stats.norm.ppf((place + 0.5) / 8) for place in range(8)])  # eight equally likely nodes
EVEN = np.full(8, 1 / 8)


def test_the_normal_chance_is_right_to_two_parts_in_a_hundred_thousand() -> None:
    z = np.linspace(-20, 20, 4001)

    assert np.abs(normal_chance(z) - stats.norm.cdf(z)).max() < 2e-5


@pytest.mark.parametrize("mean", [-2.0, -0.5, 0.0, 0.3, 1.5])
def test_a_normal_gain_gets_its_exact_chance_from_eight_nodes(mean: float) -> None:
    spread = np.sqrt((Z * Z).mean())  # eight quantiles are a little narrower than the normal they stand for

    chance = chance_at_least((mean + Z / spread)[None], weight=EVEN)

    assert chance[0] == pytest.approx(stats.norm.cdf(mean), abs=0.012)


def test_a_skewed_gain_keeps_its_skew() -> None:
    gain = np.exp(0.8 * Z) - 1.0  # median 0, mean well above

    chance = chance_at_least(gain[None], weight=EVEN)[0]

    matched = stats.norm.cdf(gain.mean() / gain.std())
    assert 0.5 < chance < matched  # the truth is one half; a normal of the same mean and variance says more


def test_a_certain_gain_has_chance_one_and_a_certain_loss_none() -> None:
    gains = np.array([[0.1, 0.1], [-0.1, -0.1], [0.0, 0.0]])

    assert chance_at_least(gains, weight=np.full(2, 0.5)) == pytest.approx([1, 0, 1])


def test_the_level_of_demand_is_no_doubt_about_the_price() -> None:
    old, new = np.array([[10.0, 20.0, 40.0]]), np.array([[11.0, 22.0, 44.0]])

    gain = relative_gain(new, old)

    assert gain[0] == pytest.approx(0.5 * np.log(1.1))
    assert relative_gain(np.array([1.0]), np.array([-1.0]))[0] > 5
    assert relative_gain(np.array([0.0]), np.array([0.0]))[0] == 0


def test_calibration_interpolates_between_its_pairs() -> None:
    pairs = [(0.0, 0.1), (0.5, 0.4), (1.0, 0.9)]

    assert calibrated(np.array([0.0, 0.25, 0.5, 1.0]), pairs) == pytest.approx([0.1, 0.25, 0.4, 0.9])
    assert calibrated(np.array([0.3]), []) == pytest.approx([0.3])


def test_the_deviation_at_a_level_is_the_normal_quantile() -> None:
    assert deviation_at(0.1) == pytest.approx(1.2816, abs=1e-4)


def test_confidence_of_a_move_is_the_chance_that_it_earns_more_under_the_posterior() -> None:
    rng = np.random.default_rng(4)
    raw = {"moves": [], "holds": []}
    settings = Policy(config(menu_cost=0.0, confidence_threshold=0.0, calibration=raw).decision)
    true = 2.5 + 0.5 * rng.standard_normal(400_000)
    for current in (8.0, 9.0, 10.5, 12.0, 13.0):
        chosen = choose(pricing_context(current_price=current), _demand(2.5 + 0.5 * Z), settings)

        price = chosen.price[0]
        better = (price / current) ** -true * (price - 6.0) >= current - 6.0
        assert chosen.confidence[0] == pytest.approx(better.mean(), abs=0.03)


def test_confidence_of_a_hold_is_the_chance_that_neither_step_earns_more() -> None:
    rng = np.random.default_rng(4)
    raw = {"moves": [], "holds": []}
    settings = Policy(config(confidence_threshold=0.0, hold_step=0.1, calibration=raw).decision)
    best = choose(pricing_context(), _demand(2.5 + 0.2 * Z), settings).price[0]

    held = choose(pricing_context(current_price=best), _demand(2.5 + 0.2 * Z), settings)

    true = 2.5 + 0.2 * rng.standard_normal(400_000)
    prices = held.candidates.prices[0]
    above, below = prices[prices >= best * 1.1][0], prices[prices <= best / 1.1][-1]
    profit = [(price / best) ** -true * (price - 6.0) for price in (best, above, below)]
    assert "held" in codes(int(held.reasons[0]))
    assert held.confidence[0] == pytest.approx(((profit[0] >= profit[1]) & (profit[0] >= profit[2])).mean(), abs=0.03)


def test_a_calibrated_version_maps_moves_and_holds_apart() -> None:
    table = {"moves": [(0.0, 0.3), (1.0, 0.31)], "holds": [(0.0, 0.6), (1.0, 0.61)]}
    settings = Policy(config(calibration=table, menu_cost=0.01).decision)
    best = choose(pricing_context(), _demand(2.5 + 0.5 * Z), settings).price[0]

    moved, held = (
        choose(pricing_context(current_price=now), _demand(2.5 + 0.5 * Z), settings).confidence[0]
        for now in (7.5, best)
    )

    assert 0.3 <= moved <= 0.31
    assert 0.6 <= held <= 0.61


def _demand(elasticities: np.ndarray):  # type: ignore[no-untyped-def]
    def ask(prices: np.ndarray) -> DemandGrid:
        units = 10.0 * np.exp(-elasticities[:, None] * np.log(prices / 10.0)[:, None, :])
        sizes = np.full(len(prices), 50.0)
        return DemandGrid(units, units, sizes, sizes, EVEN, np.zeros(len(prices), dtype=int), np.full(len(prices), 2))

    return ask


def test_a_hold_without_an_alternative_is_certain_whatever_the_table_says() -> None:
    table = {"moves": [(0.0, 0.3), (1.0, 0.31)], "holds": [(0.0, 0.2), (1.0, 0.4)]}
    only = config(calibration=table, guardrails={"band": [0.99999, 1.00001]}, price_step=0.01)

    pinned = choose(pricing_context(current_price=10.0), _demand(2.5 + 0.5 * Z), Policy(only.decision))

    assert pinned.price[0] == 10.0
    assert pinned.confidence[0] == 1.0


def test_a_limit_right_beside_a_held_price_leaves_no_step_that_way() -> None:
    raw = {"moves": [], "holds": []}
    both = [
        choose(
            pricing_context(current_price=10.0),
            _demand(1.6 + 0.2 * Z),
            Policy(config(calibration=raw, confidence_threshold=0.0, guardrails={"band": [0.5, top]}).decision),
        )
        for top in (1.0, 1.002)
    ]

    assert all("held" in codes(int(chosen.reasons[0])) for chosen in both)
    assert both[1].confidence[0] == pytest.approx(both[0].confidence[0], abs=1e-6)
