"""The card of a version: what it says, in which order, and that an older version without newer figures has one too."""

from dataclasses import replace
from functools import cache
from typing import Any

from pipelines.model_card import model_card
from pricing.registry.version import LoadedVersion, load
from tests.versions import shared_version

SCORES = {"wape": 0.3, "wape_naive": 0.4, "coverage_80": 0.8, "coverage_95": 0.95}
OLD: dict[str, Any] = {
    **SCORES,
    "bias": 0.01,
    "folds": [{"cutoff": "2024-01-01", **SCORES}],
    "by_volume": {"low": SCORES, "high": SCORES},
}
NEW: dict[str, Any] = {
    **OLD,
    "by_step": {"15-21": SCORES, "1-7": SCORES, "8-14": SCORES},  # as sorted keys of JSON come
    "by_volatility": {"mid": SCORES},
    "pit": {"mean": 0.51, "spread": 0.97, "distance": 0.02},
}


@cache
def version() -> LoadedVersion:
    return load(shared_version())


def card(figures: dict[str, Any]) -> str:
    return model_card(replace(version(), backtest=figures), model="pricing")


def test_steps_stand_in_the_order_of_time() -> None:
    text = card(NEW)

    assert text.index("| 1-7 |") < text.index("| 8-14 |") < text.index("| 15-21 |")


def test_the_card_tells_of_volume_volatility_and_calibration() -> None:
    text = card(NEW)

    assert "| low volume | 0.300 | 0.400 | 25.0% | 80% |" in text
    assert "| mid volatility | 0.300 | 0.400 | 25.0% | 80% |" in text
    assert "mean 0.51" in text
    assert "spread 0.97" in text


def test_a_version_without_the_newer_figures_has_a_card_without_them() -> None:
    text = card(OLD)

    assert "ahead" not in text.split("## How demand")[0].split("Walk-forward")[1]
    assert "transform" not in text
    assert "volatility" not in text.split("| low volume |")[1]
    assert "\n\n\n" not in text
