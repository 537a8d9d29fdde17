"""Differences between policies of the demand benchmark are paired by market."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks.demand import PLAIN, difference
from pipelines.market import PLATFORM


def test_a_difference_is_paired_by_market_and_its_interval_is_student_s() -> None:
    paired = np.array([0.02, 0.05, -0.01])
    scores = ({PLAIN: {"gain": 0.03}, PLATFORM: {"gain": 0.03 + one}, "oracle": {"gain": 0.10}} for one in paired)
    markets: list[Any] = [{"oracle": "oracle", "scores": each} for each in scores]

    gain, share = (difference(markets, PLAIN, key) for key in ("gain", "share"))

    expected = stats.t.interval(0.90, 2, loc=paired.mean(), scale=stats.sem(paired))
    assert gain == pytest.approx((paired.mean(), *expected))
    assert share == pytest.approx(10 * np.array(gain))  # the oracle gains 0.10
