"""The demand benchmark's tables: paired differences with honest intervals, shares of the mean gain of the oracle."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks.confidence import BINS
from benchmarks.demand import KNOWN, PLAIN, REFERENCE, difference, report
from pipelines.market import PLATFORM, STATIC
from simulation.rollforward import PolicyScore

ORACLE = "oracle (held prices)"


def market(seed: int, *, platform: float, setting: str = "clearance") -> dict[str, Any]:
    """A measured market in which policies gained over static as given."""
    gain = {STATIC: 0.0, REFERENCE: 0.02, PLAIN: 0.03, KNOWN: 0.04, PLATFORM: platform, ORACLE: 0.10}
    nothing = {"decisions": [0] * BINS, "right": [0] * BINS}
    estimate = {"mae": 0.4, "bias": 0.1, "rank": 0.7}
    return {
        "setting": setting,
        "seed": seed,
        "truth": -2.5,
        "oracle": ORACLE,
        "inside_80": 0.75,
        "estimates": {PLATFORM: estimate, REFERENCE: estimate},
        "grades": {"prior_only": 0.5, "category": 0.0, "own_history": 0.5, "tested": 0.0},
        "scores": {
            name: asdict(PolicyScore(name, 1.0 + value, value, (0, 0), value, (0, 0), 10, 0.1, 1.0, 0.1, 0))
            for name, value in gain.items()
        },
        "refused": 0,
        "below_cost": 0,
        "limits": {"band": 0.07, "max_move": 0.03},
        "confidence": {"moves": nothing, "kept": nothing},
    }


def test_a_difference_is_paired_by_market_and_its_interval_is_student_s() -> None:
    markets = [market(1, platform=0.05), market(2, platform=0.08), market(3, platform=0.02)]
    paired = np.array([0.02, 0.05, -0.01])  # the plain rule gains 0.03 everywhere

    gain, share = (difference(markets, PLAIN, key) for key in ("gain", "share"))

    expected = stats.t.interval(0.90, 2, loc=paired.mean(), scale=stats.sem(paired))
    assert gain == pytest.approx((paired.mean(), *expected))
    assert share == pytest.approx(10 * np.array(gain))  # the oracle gains 0.10


def test_one_market_alone_has_no_interval() -> None:
    mean, low, high = difference([market(1, platform=0.05)], STATIC, "gain")

    assert mean == pytest.approx(0.05)
    assert np.isnan([low, high]).all()


def test_the_tables_tell_every_setting_family_and_policy_and_the_worst_market() -> None:
    markets = [market(1, platform=0.01, setting="default"), market(2, platform=0.04), market(3, platform=0.06)]

    told = report(markets, development=False)

    mean, low, high = difference(markets[1:], STATIC, "gain")
    assert f"| **foreign** | 2 | +10.0% | {mean:+.1%} ({low:+.1%} to {high:+.1%}) |" in told
    assert "| default | 1 | +10.0% | +1.0% |" in told
    assert "| platform | 0.10 | 0.50 | 0.10 | 0.50 |" in told
    assert "Worst market: default, seed 1, +1.0%" in told
