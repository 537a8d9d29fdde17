"""How the demand benchmark judges confidence: a deserved one has no error."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.confidence import BINS, Judged, calibration_error, fitted
from simulation.rollforward import Requests

CENTRE = (np.arange(BINS) + 0.5) / BINS


def histograms(true: np.ndarray, *, decisions: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """(bin,) decisions at each confidence, and how many of them were right where `true` is the chance of it."""
    each = np.full(BINS, decisions)
    return each, np.round(each * true).astype(int)


def test_a_deserved_confidence_has_no_error() -> None:
    decisions, right = histograms(CENTRE)

    assert calibration_error(decisions, right) == pytest.approx(0.0, abs=1e-9)


def test_a_boast_is_an_error_of_its_size() -> None:
    decisions, right = histograms(np.clip(CENTRE - 0.1, 0, 1))

    assert calibration_error(decisions, right) == pytest.approx(0.1, abs=0.006)


def test_a_fitted_table_mends_a_boast_and_rises() -> None:
    pairs = fitted(*histograms(CENTRE**2))

    raw, true = np.array(pairs).T
    assert (np.diff(raw) > 0).all()
    assert (np.diff(true) >= 0).all()
    assert np.interp([0.3, 0.6, 0.9], raw, true) == pytest.approx([0.09, 0.36, 0.81], abs=0.02)


class Market:
    """Demand of constant elasticity, of one product after the other, and a delivery every day."""

    held_days, truth = 1, SimpleNamespace(size=50.0)

    def __init__(self, elasticity: list[float]) -> None:
        self.elasticity = np.array(elasticity)
        self.product_ids = np.array([f"P{row}" for row in range(len(elasticity))])

    def next_delivery(self, day: int) -> np.ndarray:
        return np.full(len(self.elasticity), day + 1)

    def outlook(self, rows: np.ndarray, prices: np.ndarray, **_: Any) -> np.ndarray:
        return (100.0 * (prices / 10.0) ** -self.elasticity[rows][:, None])[:, None, :]

    def substitution_profit(self, rows: np.ndarray, prices: np.ndarray, **_: Any) -> np.ndarray:
        return np.zeros((len(rows), 1, prices.shape[1]))


def test_a_price_is_judged_against_the_one_that_its_confidence_compares_it_with() -> None:
    """At cost 6 an elasticity of 2.5 makes 10 best; a price compared with itself, or one by rule, claims nothing."""
    market = Market([2.5, 2.5, 1.5, 2.5, 2.5])
    count = len(market.elasticity)
    requests = Requests(
        day=0,
        date=np.datetime64("2025-03-03"),
        product_id=market.product_ids,
        category=np.full(count, "a"),
        stock=np.full(count, 10_000),
        comp_price=np.full(count, np.nan),
        is_promo=np.zeros(count, bool),
        current_price=np.array([9.0, 10.0, 10.0, 10.0, 10.0]),
        list_price=np.full(count, 10.0),
        unit_cost=np.full(count, 6.0),
        is_holiday=False,
        next_delivery=np.full(count, np.datetime64("2025-03-04")),
        max_move=None,
    )
    against, sources = [9.0, 11.0, 11.0, 10.0, 11.0], ["model", "model", "model", "model", "rule"]
    decisions = [
        SimpleNamespace(
            decision=SimpleNamespace(reasons=[], source=source, confidence=0.7, recommended_price=10.0), against=other
        )
        for other, source in zip(against, sources, strict=True)
    ]
    judged = Judged(market)  # type: ignore[arg-type]

    judged.add(requests, decisions, shelf=SimpleNamespace())  # type: ignore[arg-type]

    assert judged.claims["moves"][0][1].tolist() == [True]
    assert judged.claims["kept"][0][1].tolist() == [True, False]
