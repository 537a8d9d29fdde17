"""How the demand benchmark judges confidence: a deserved one has no error."""

import numpy as np
import pytest

from benchmarks.confidence import BINS, calibration_error, fitted_slope

CENTRE = (np.arange(BINS) + 0.5) / BINS


def histograms(true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(bin,) decisions at each confidence, and how many of them were right where `true` is the chance of it."""
    each = np.full(BINS, 1000)
    return each, np.round(each * true).astype(int)


def test_a_boast_is_an_error_of_its_size() -> None:
    decisions, right = histograms(np.clip(CENTRE - 0.1, 0, 1))

    assert calibration_error(decisions, right) == pytest.approx(0.1, abs=0.006)


def test_a_fitted_slope_mends_a_boast() -> None:
    deserved = CENTRE**0.5 / (CENTRE**0.5 + (1 - CENTRE) ** 0.5)

    assert fitted_slope(*histograms(deserved)) == pytest.approx(0.5, abs=0.01)
