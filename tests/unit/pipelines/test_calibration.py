"""A backtest is reported by its scores and its gains."""

import numpy as np
import pandas as pd
import pytest

from pipelines.steps.evaluation import ratio_error, saved, score_lines, weekly


def test_whole_weeks_of_each_fold_are_scored_one_by_one() -> None:
    rng = np.random.default_rng(5)
    rows = [
        {
            "cutoff": cutoff,
            "step": step,
            "product_id": name,
            "actual": float(rng.poisson(5)),
            "forecast": 4 + fold + step / 9,
        }
        for fold, cutoff in enumerate(pd.to_datetime(["2024-02-25", "2024-03-10"]))
        for step in range(1, 17)
        for name in "abc"
    ]
    frame = pd.DataFrame(rows).assign(naive=5.0, pit_low=0.4, pit_high=0.5)
    frame.loc[frame["step"] == 9, ["pit_low", "pit_high"]] = 0.95, 0.96

    found = weekly(frame)

    assert [(one["cutoff"], one["first_step"]) for one in found] == [
        ("2024-02-25", 1),
        ("2024-02-25", 8),
        ("2024-03-10", 1),
        ("2024-03-10", 8),
    ]
    mine = [row for row in rows if str(row["cutoff"].date()) == "2024-03-10" and 8 <= row["step"] <= 14]
    sold = sum(row["actual"] for row in mine)
    assert found[3]["bias"] == pytest.approx(sum(row["forecast"] - row["actual"] for row in mine) / sold)
    assert found[3]["wape_mean"] == pytest.approx(sum(abs(row["forecast"] - row["actual"]) for row in mine) / sold)
    assert found[3]["coverage_80"] == pytest.approx(6 / 7)


def test_the_error_of_a_ratio_is_that_of_drawing_whole_products_again_and_again() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(60), 7)
    actual = rng.poisson(rng.gamma(2.0, 4.0, 60)[group]).astype(float)
    error = rng.normal(0.0, 1.0, 60)[group] + rng.normal(0.0, 2.0, len(group))
    sums = np.array([[part.sum() for part in (error[group == one], actual[group == one])] for one in range(60)])
    draws = [sums[rng.integers(0, 60, 60)].sum(axis=0) for _ in range(4000)]

    found = ratio_error(error, actual, group=group)

    assert found == pytest.approx(np.std([above / below for above, below in draws]), rel=0.06)
    assert np.isnan(ratio_error(error[:7], actual[:7], group=group[:7]))
    assert np.isnan(ratio_error(error, 0 * actual, group=group))


NO_GAIN = {
    "wape": -0.08,
    "wape_low": -0.1,
    "wape_high": float("nan"),
    "crps": None,
    "crps_low": None,
    "crps_high": None,
}
FIGURES = {
    "wape": 0.3,
    "wape_naive": 0.4,
    "bias": 0.01,
    "coverage_80": 0.8,
    "coverage_95": 0.95,
    "wape_baseline": 0.4,
    "baseline": "direct",
    "against_baseline": NO_GAIN,
}


def test_a_fold_in_which_nothing_was_sold_is_a_dash_and_no_crash() -> None:
    nothing = {"wape": None, "wape_naive": None, "wape_baseline": None}

    lines = score_lines({**FIGURES, "folds": [{"cutoff": "2024-01-01", **nothing}]})

    assert lines[1].split()[:2] == ["2024-01-01", "–"]
    assert lines[2].split()[2] == "0.300"


@pytest.mark.parametrize(("ours", "naive", "share"), [(0.3, 0.4, 0.25), (0.3, 0.0, None), (np.nan, 0.4, None)])
def test_nothing_is_saved_on_an_error_that_is_not_known(ours: float, naive: float, share: float | None) -> None:
    found = saved({"wape": ours, "wape_naive": 0.9, "wape_baseline": naive})

    assert found == (None if share is None else pytest.approx(share))
