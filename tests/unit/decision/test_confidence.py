"""Confidence: the chance that a price earns at least as much as another, exact where it can be computed."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from pricing.decision.confidence import chance_at_least
from pricing.decision.decide import Policy, decide
from pricing.decision.stock import normal_chance
from tests.kit.decision import config, demand, pricing_context

Z = np.array([stats.norm.ppf((place + 0.5) / 8) for place in range(8)])  # eight equally likely nodes
EVEN = np.full(8, 1 / 8)
DOUBTED = demand(list(2.5 + 0.5 * Z))


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


@pytest.mark.parametrize(
    ("current", "threshold"),
    [(7.5, 0.0), (8.0, 0.0), (9.0, 0.0), (10.5, 0.0), (12.0, 0.0), (13.0, 0.0), (9.5, 1.0), (10.0, 1.0), (10.5, 1.0)],
)  # the threshold holds back what would lie further from the regular price of 10
def test_confidence_is_the_chance_that_the_price_given_earns_at_least_as_much_as_the_other(
    current: float, threshold: float
) -> None:
    true = 2.5 + 0.5 * np.random.default_rng(4).standard_normal(400_000)
    context = pricing_context(current_price=current, unit_cost=5.5)

    moved, chosen = (
        decide(context, DOUBTED, Policy(config(menu_cost=0.0, confidence_threshold=level, step=1.0).decision))
        for level in (0.0, threshold)
    )

    price, other = chosen.price[0], (moved.price[0] if threshold else current)
    better = (price / other) ** -true * (price - 5.5) >= other - 5.5
    assert (price == current) == (threshold == 1.0)
    assert chosen.confidence[0] == pytest.approx(better.mean(), abs=0.03)


def test_confidence_of_a_price_that_no_move_was_wanted_from_is_over_the_regular_one_and_calibrated() -> None:
    true = 2.5 + 0.5 * np.random.default_rng(4).standard_normal(400_000)
    raw, mapped = (
        Policy(config(menu_cost=0.0, confidence_threshold=0.0, confidence_slope=slope).decision) for slope in (1.0, 0.5)
    )
    context = pricing_context(anchor_price=np.array([13.0, 10.0]), current_price=np.array([13.0, 10.0]))
    context = replace(context, current_price=decide(context, DOUBTED, raw).price)

    kept, calibrated_ = (decide(context, DOUBTED, policy) for policy in (raw, mapped))

    price = kept.price[0]
    better = (price / 13.0) ** -true * (price - 6.0) >= 13.0 - 6.0
    assert kept.price.tolist() == context.current_price.tolist()
    assert kept.confidence == pytest.approx([better.mean(), 1.0], abs=0.03)
    odds = kept.confidence[0] / (1 - kept.confidence[0])
    assert calibrated_.confidence == pytest.approx([odds**0.5 / (1 + odds**0.5), 1.0], abs=1e-3)
