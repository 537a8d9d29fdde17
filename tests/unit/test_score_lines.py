"""Scores as a person reads them, also where there is nothing to score."""

import math

import pytest

from pipelines.evaluation import saved, score_lines, shown, totals

NOTHING = {"wape": None, "wape_naive": None, "wape_baseline": None, "baseline": "naive"}
HEADLINE = {"wape", "crps", "skill", "bias", "coverage_80", "coverage_95"}
GAIN = {"wape": -0.08, "wape_low": -0.1, "wape_high": -0.05, "crps": -0.18, "crps_low": None, "crps_high": None}
FIGURES = {
    **{"wape": 0.3, "wape_naive": 0.4, "bias": 0.01, "coverage_80": 0.8, "coverage_95": 0.95},
    **{"wape_baseline": 0.4, "baseline_hindsight": "naive", "wape_hindsight": 0.4, "against_baseline": GAIN},
}


def test_a_fold_in_which_nothing_was_sold_is_a_dash_and_no_crash() -> None:
    lines = score_lines({**FIGURES, "folds": [{"cutoff": "2024-01-01", **NOTHING}]})

    assert lines[1].split() == ["2024-01-01", *"––––––", "–", "seasonal", "naive"]
    assert lines[2].split() == ["all", "folds", "0.300", "–", "0.400", "–", "–", "25.0%", "0.400", "seasonal", "naive"]
    assert len(lines) == 6


def test_both_baselines_are_shown_and_the_chosen_one_is_named() -> None:
    scores = {**FIGURES, "wape_flat": 0.36, "wape_direct": 0.31, "crps": 0.2}
    folds = [
        {"cutoff": "2024-01-01", **scores, "wape_baseline": 0.4, "baseline": "naive"},
        {"cutoff": "2024-02-01", **scores, "wape_baseline": 0.36, "baseline": "flat"},
    ]

    lines = score_lines(
        {
            **scores,
            **{"wape_baseline": 0.375, "baseline": "mixed", "baseline_hindsight": "flat", "wape_hindsight": 0.36},
            "folds": folds,
        }
    )

    assert lines[0].split() == ["known", "until", "WAPE", "CRPS", "naive", "flat", "direct", "saved", "baseline"]
    assert lines[2].split() == [
        "2024-02-01",
        *("0.300", "0.200", "0.400", "0.360", "0.310", "16.7%", "0.360"),
        "flat",
        "median",
    ]
    assert lines[3].endswith("20.0%  0.375 seasonal naive in 1 of 2 folds, else flat median")
    assert "WAPE -0.080 (90 % interval -0.100 to -0.050), CRPS -0.180 (90 % interval – to –)" in lines[4]
    assert lines[5] == "best baseline in hindsight: flat median, WAPE 0.360"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {"censored": 450, "rows": 990, "left_out": 10},
            "45.0% of the rows sold out: scored is what the shelf could give; 10",
        ),
        (
            {"censored": 450, "rows": 1000, "left_out": 0},
            "45.0% of the rows sold out: scored is what the shelf could give",
        ),
        (
            {"censored": 450, "rows": 1000, "left_out": 0, "always_sold_out": 12},
            "45.0% of the rows sold out: scored is what the shelf could give; 12 product(s) sold out every time",
        ),
        ({"censored": 0, "rows": 1000, "left_out": 0}, None),
    ],
)
def test_what_sold_out_is_said(more: dict[str, int], said: str | None) -> None:
    lines = score_lines({**FIGURES, **more, "folds": []})

    assert any(line.startswith(said) for line in lines) if said else not any("sold out" in line for line in lines)


def test_totals_carry_both_baselines_the_score_of_the_distribution_and_the_gain() -> None:
    gain = {"wape": -0.08, "wape_low": -0.1, "wape_high": float("nan")}
    more = {"wape_flat": 0.36, "wape_baseline": 0.375, "wape_hindsight": 0.36, "crps": 0.2, "against_baseline": gain}

    found = dict(totals({**FIGURES, **more, "baseline": "mixed", "by_volume": {"low": {"crps": 0.3}}}))

    assert found["skill"] == pytest.approx(0.2)
    baselines = {"baseline/wape_flat": 0.36, "baseline/wape_baseline": 0.375, "baseline/wape_hindsight": 0.36}
    assert {"crps": 0.2, "volume_low/crps": 0.3, **baselines}.items() <= found.items()
    assert found["against_baseline/wape_low"] == -0.1
    assert "against_baseline/wape_high" not in found


def test_only_the_figures_that_judge_a_model_stand_outside_a_group() -> None:
    more = {
        "by_volatility": {"high": {"wape": 0.4}},
        "weights": {"low": {"network": 1.0}},
        "elasticity": {"mean": -2.0},
        "pit": {"spread": 1.0},
    }

    names = dict(totals({**FIGURES, **more, "by_volume": {"low": {"wape": 0.3}}}))

    assert {name for name in names if "/" not in name} <= HEADLINE
    assert {"volatility_high/wape", "weight_low/network", "elasticity/mean", "pit/spread"} <= names.keys()


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_no_figure_is_a_dash(value: float | None) -> None:
    assert shown(value, ".3f") == "–"


@pytest.mark.parametrize(("ours", "naive", "share"), [(0.3, 0.4, 0.25), (0.3, 0.0, None), (math.nan, 0.4, None)])
def test_nothing_is_saved_on_an_error_that_is_not_known(ours: float, naive: float, share: float | None) -> None:
    found = saved({"wape": ours, "wape_naive": 0.9, "wape_baseline": naive})

    assert found == (None if share is None else pytest.approx(share))
