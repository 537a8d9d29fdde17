"""The demand benchmark's tables: paired differences with honest intervals, shares only where they say something."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks.confidence import BINS
from benchmarks.demand import PLAIN, REFERENCE, by_grade, difference, section, summary
from benchmarks.demand_settings import SETTINGS
from pipelines.market import PLATFORM, STATIC
from simulation import foreign_config, merchant
from simulation.config import HELD_OUT_SEEDS
from simulation.rollforward import PolicyScore

ORACLE = "oracle (held prices)"


def market(seed: int, *, platform: float, oracle: float = 0.10) -> dict[str, Any]:
    """A measured market in which policies gained over static as given."""
    gain = {STATIC: 0.0, REFERENCE: 0.02, PLAIN: 0.03, PLATFORM: platform, ORACLE: oracle}
    nothing = {"decisions": [0] * BINS, "right": [0] * BINS}
    part = {"products": 10, "units": 0.5, "mae": 0.4, "bias": 0.1, "inside_80": 0.8}
    return {
        "seed": seed,
        "truth": -2.5,
        "oracle": ORACLE,
        "inside_80": 0.75,
        "estimates": {PLATFORM: {"mae": 0.4, "bias": 0.1, "rank": 0.7}},
        "grades": {"prior_only": part, "own_history": part | {"mae": 0.2, "inside_80": 0.7}},
        "scores": [
            asdict(PolicyScore(name, 1000 * (1 + value), value, (0, 0), value / oracle, (0, 0), 10, 0.1, 1.0, 0.1, 0))
            for name, value in gain.items()
        ],
        "refused": 0,
        "below_cost": 0,
        "limits": {"decisions": 100, "band": 7, "max_move": 3, "prior_only": 40, "prior_only_moved": 10},
        "confidence": {"moves": nothing, "holds": nothing},
    }


def test_a_difference_is_paired_by_market_and_its_interval_is_student_s() -> None:
    markets = [market(1, platform=0.05), market(2, platform=0.08), market(3, platform=0.02)]
    paired = np.array([0.02, 0.05, -0.01])  # the plain rule gains 0.03 everywhere

    mean, low, high = difference(markets, PLAIN, "gain")

    expected = stats.t.interval(0.90, 2, loc=paired.mean(), scale=stats.sem(paired))
    assert mean == pytest.approx(paired.mean())
    assert (low, high) == pytest.approx(expected)


def test_one_market_alone_has_no_interval() -> None:
    mean, low, high = difference([market(1, platform=0.05)], STATIC, "gain")

    assert mean == pytest.approx(0.05)
    assert np.isnan([low, high]).all()


def test_shares_count_only_where_the_oracle_gains_enough() -> None:
    markets = [market(1, platform=0.05), market(2, platform=0.02, oracle=0.0299)]

    mean, _, _ = difference(markets, PLAIN, "share")
    nowhere = difference(markets[1:], PLAIN, "share")

    assert mean == pytest.approx(0.2)
    assert np.isnan(nowhere).all()


def test_the_tables_tell_every_row_and_grade_and_pool_a_family_by_seed() -> None:
    results = {
        "default": [market(1, platform=0.01)],
        "clearance": [market(2, platform=0.04), market(3, platform=0.06)],
        "logit": [market(2, platform=0.08)],
    }

    told = summary(results) + section("clearance", results["clearance"], development=False)

    mean, low, high = difference([market(2, platform=0.06), market(3, platform=0.06)], STATIC, "gain")
    assert f"| **foreign** | 3 | +10.0% | {mean:+.1%} ({low:+.1%} to {high:+.1%}) |" in told
    assert "| **default** | 1 | +10.0% | +1.0% |" in told
    assert "| prior_only 50%, own_history 50% | 70% | 7.0% | – | – |" in told
    assert "| own_history | 20 | 50% | 0.20 | +0.10 | 70% |" in told
    assert f"| {ORACLE} |" in told


def test_every_setting_is_judged_on_seeds_of_its_family() -> None:
    sealed = {
        "default": HELD_OUT_SEEDS,
        "foreign": foreign_config.HELD_OUT_SEEDS,
        "merchant": merchant.HELD_OUT_SEEDS,
    }
    for setting in SETTINGS.values():
        held_out = sealed[setting.family]
        assert setting.seeds(development=False) == held_out
        assert not set(setting.seeds(development=True)) & set(held_out)


def test_a_grade_is_told_with_what_its_elasticities_are_worth() -> None:
    found = by_grade(
        np.array([0, 2, 2]),
        error=np.array([1.0, -0.2, 0.4]),
        inside=np.array([False, True, True]),
        units=np.array([50.0, 25.0, 25.0]),
    )

    assert found["prior_only"] == {"products": 1, "units": 0.5, "mae": 1.0, "bias": 1.0, "inside_80": 0.0}
    assert found["own_history"]["mae"] == pytest.approx(0.3)
    assert found["own_history"]["bias"] == pytest.approx(0.1)
    assert set(found) == {"prior_only", "own_history"}
