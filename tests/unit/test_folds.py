"""Walk-forward folds and the figures of an evaluation frame."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pricing.config import load_config
from pricing.data.panel import Period
from pricing.demand import evaluation
from pricing.demand.folds import fitting, walk_forward
from pricing.errors import HistoryError

CONFIG = load_config().demand
DATES = np.datetime64("2023-01-01") + np.arange(400)


@given(
    horizon=st.integers(1, 40),
    step=st.integers(1, 40),
    gap=st.integers(0, 10),
    folds=st.integers(1, 8),
    history=st.integers(14, 200),
)
def test_no_fold_sees_the_days_it_is_scored_on(horizon: int, step: int, gap: int, folds: int, history: int) -> None:
    config = CONFIG.model_copy(
        update={"horizon": horizon, "step": step, "gap": gap, "folds": folds, "min_history": history}
    )

    made = walk_forward(DATES, config=config, period="day")

    assert 1 <= len(made) <= folds
    assert made[-1].last == DATES[-1]
    for fold in made:
        assert fold.first == fold.cutoff + np.timedelta64(gap + 1, "D")
        assert fold.last == fold.first + np.timedelta64(horizon - 1, "D")
        assert fold.cutoff - DATES[0] + np.timedelta64(1, "D") >= np.timedelta64(history, "D")
    cutoffs = [fold.cutoff for fold in made]
    assert all(b - a == np.timedelta64(step, "D") for a, b in itertools.pairwise(cutoffs))


def test_too_little_history_says_how_much_is_needed() -> None:
    with pytest.raises(
        HistoryError, match=r"= 148 days for one fold, the panel has 100, 48 too few; .*lower demand\.min_history to 72"
    ):
        walk_forward(DATES[:100], config=CONFIG, period="day")


@pytest.mark.parametrize(
    ("days", "horizon", "folds", "first"),
    [(28, 7, 2, 14), (30, 7, 2, 16), (60, 15, 2, 30), (90, 22, 2, 46), (147, 28, 2, 91), (175, 28, 3, 91)],
)
def test_a_short_history_has_shorter_folds_that_end_with_it(days: int, horizon: int, folds: int, first: int) -> None:
    config, said = fitting(CONFIG, days, period="day")

    made = walk_forward(DATES[:days], config=config, period="day")

    assert (config.horizon, len(made), config.min_history) == (horizon, folds, first)
    assert made[-1].last == DATES[days - 1]
    assert f"{days} days of history have no room for 3 folds of 28 days after 120" in said[0]
    assert f"{days} days of history are {2 * 365 - days} less than 2 years" in said[1]


@given(days=st.integers(28, 800), horizon=st.integers(1, 60), gap=st.integers(0, 60), folds=st.integers(1, 8))
def test_every_history_that_tells_a_level_has_a_fold(days: int, horizon: int, gap: int, folds: int) -> None:
    asked = CONFIG.model_copy(update={"horizon": horizon, "step": horizon, "gap": gap, "folds": folds})
    assume(days - gap >= 28)

    config, _ = fitting(asked, days, period="day")

    made = walk_forward(np.datetime64("2022-01-01") + np.arange(days), config=config, period="day")
    assert 1 <= len(made) <= folds
    assert config.min_history >= min(asked.min_history, (days - gap) // 2)
    assert config == asked or config.horizon <= max((days - gap) // 4, 7)


@given(days=st.integers(60, 400))
def test_a_longer_history_never_has_fewer_folds(days: int) -> None:
    shorter, longer = (fitting(CONFIG, length, period="day")[0] for length in (days, days + 1))

    assert longer.folds * longer.horizon >= shorter.folds * shorter.horizon - shorter.folds


def test_a_long_history_keeps_the_folds_that_are_asked_for() -> None:
    assert fitting(CONFIG, 800, period="day") == (CONFIG, [])


@pytest.mark.parametrize(("period", "periods", "missing"), [("day", 27, "1 more"), ("week", 5, "3 more")])
def test_a_history_without_a_level_says_what_is_missing_and_what_prices_until_then(
    period: Period, periods: int, missing: str
) -> None:
    with pytest.raises(HistoryError, match=f"{missing} are missing.*serving prices by rule"):
        fitting(CONFIG, periods, period=period)


def test_folds_of_weeks_are_weeks_apart() -> None:
    weeks = np.datetime64("2022-01-03") + 7 * np.arange(60)
    config = CONFIG.model_copy(update={"horizon": 4, "step": 4, "folds": 2, "min_history": 40})

    made = walk_forward(weeks, config=config, period="week")

    assert made[1].cutoff - made[0].cutoff == np.timedelta64(28, "D")


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "product_id": ["a", "a", "b", "b"],
            "category": "c",
            "volume_class": ["low", "low", "high", "high"],
            "cutoff": np.datetime64("2024-01-01"),
            "date": [np.datetime64("2024-01-02"), np.datetime64("2024-01-09")] * 2,
            "step": [1, 8, 1, 8],
            "actual": [2.0, 0.0, 10.0, 30.0],
            "censored": [False, False, False, True],
            "forecast": [1.0, 1.0, 12.0, 1.0],
            "q50": [2.0, 0.0, 8.0, 1.0],
            "crps": [0.5, 0.2, 1.1, 9.0],
            "naive": [0.0, 0.0, 10.0, 10.0],
            "flat": [1.0, 1.0, 10.0, 10.0],
            "baseline": "naive",
            "pit_low": [0.4, 0.0, 0.5, 0.9],
            "pit_high": [0.6, 0.2, 0.7, 1.0],
        }
    )


def test_figures_leave_censored_rows_out_and_count_them() -> None:
    figures = evaluation.figures(frame())

    assert figures["rows"] == 3
    assert figures["censored"] == 1
    assert figures["wape"] == pytest.approx(2 / 12)
    assert figures["wape_mean"] == pytest.approx(4 / 12)
    assert figures["wape_naive"] == pytest.approx(2 / 12)
    assert figures["crps"] == pytest.approx(1.8 / 12)
    assert figures["by_volume"]["low"]["crps"] == pytest.approx(0.35)
    assert figures["bias"] == pytest.approx(2 / 12)
    assert figures["by_volume"]["high"]["wape"] == pytest.approx(0.2)
    assert set(figures["by_step"]) == {"1-7", "8-14"}


def test_coverage_counts_the_part_of_a_count_that_is_inside() -> None:
    # The middle of 80 % is [0.1, 0.9]: of [0.4, 0.6] all is inside, of [0.0, 0.2] half, of [0.5, 0.7] all.
    assert evaluation.coverage(frame()[:3], level=0.8) == pytest.approx((1 + 0.5 + 1) / 3)


def test_coverage_of_the_true_distribution_is_its_level() -> None:
    from scipy import stats  # noqa: PLC0415

    rng = np.random.default_rng(0)
    mean = rng.gamma(2.0, 2.0, 20_000)
    actual = rng.poisson(mean)
    table = pd.DataFrame({"pit_low": stats.poisson.cdf(actual - 1, mean), "pit_high": stats.poisson.cdf(actual, mean)})

    assert evaluation.coverage(table, level=0.8) == pytest.approx(0.8, abs=0.01)
    assert evaluation.coverage(table, level=0.95) == pytest.approx(0.95, abs=0.01)


def test_wape_of_nothing_sold_is_not_a_number() -> None:
    assert np.isnan(evaluation.wape(np.zeros(3), np.ones(3)))


def test_unknown_sales_count_as_none() -> None:
    classes = evaluation.volume_class(np.array([3.0, np.nan, 1.0]))

    assert classes.tolist() == ["high", "low", "mid"]


def test_volume_classes_are_thirds() -> None:
    classes = evaluation.volume_class(np.arange(9.0)[::-1])

    assert list(classes) == ["high"] * 3 + ["mid"] * 3 + ["low"] * 3


def test_a_gap_before_what_is_scored_is_no_history() -> None:
    with pytest.raises(
        HistoryError, match=r"at least 28, beside the gap of demand.gap = 20,.*: 8 more are missing; lower demand.gap"
    ):
        fitting(CONFIG.model_copy(update={"gap": 20}), 40, period="day")
