"""Scores as a person reads them, also where there is nothing to score."""

import math

import pytest

from pipelines.evaluation import saved, score_lines, shown

NOTHING = {"wape": None, "wape_naive": None}
FIGURES = {"wape": 0.3, "wape_naive": 0.4, "bias": 0.01, "coverage_80": 0.8, "coverage_95": 0.95}


def test_a_fold_in_which_nothing_was_sold_is_a_dash_and_no_crash() -> None:
    lines = score_lines({**FIGURES, "folds": [{"cutoff": "2024-01-01", **NOTHING}]})

    assert lines[1].split() == ["2024-01-01", "–", "–", "–"]
    assert lines[2].split() == ["all", "folds", "0.300", "0.400", "25.0%"]


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_no_figure_is_a_dash(value: float | None) -> None:
    assert shown(value, ".3f") == "–"


@pytest.mark.parametrize(("ours", "naive", "share"), [(0.3, 0.4, 0.25), (0.3, 0.0, None), (math.nan, 0.4, None)])
def test_nothing_is_saved_on_an_error_that_is_not_known(ours: float, naive: float, share: float | None) -> None:
    found = saved({"wape": ours, "wape_naive": naive})

    assert found == (None if share is None else pytest.approx(share))
