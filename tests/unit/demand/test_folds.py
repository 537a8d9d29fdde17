"""Walk-forward folds."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.config import load_config
from pricing.data.panel import Period
from pricing.demand.folds import fitting, walk_forward
from pricing.errors import HistoryError

CONFIG = load_config().demand
DATES = np.datetime64("2023-01-01") + np.arange(400)


@given(
    horizon=st.integers(1, 40),
    step=st.integers(1, 40),
    folds=st.integers(1, 8),
    history=st.integers(14, 50),
    period=st.sampled_from(["day", "week"]),
)
def test_no_fold_sees_the_days_it_is_scored_on(
    horizon: int, step: int, folds: int, history: int, period: Period
) -> None:
    config = CONFIG.model_copy(update={"horizon": horizon, "step": step, "folds": folds, "min_history": history})
    one = np.timedelta64(1 if period == "day" else 7, "D")
    dates = DATES[0] + one * np.arange(110)

    made = walk_forward(dates, config=config, period=period)

    assert 1 <= len(made) <= folds
    assert made[-1].last == dates[-1]
    for fold in made:
        assert fold.first == fold.cutoff + one
        assert fold.last == fold.first + (horizon - 1) * one
        assert fold.cutoff - dates[0] + one >= history * one
    assert all(b.cutoff - a.cutoff == step * one for a, b in itertools.pairwise(made))


@pytest.mark.parametrize(
    ("days", "horizon", "folds", "first"),
    [(28, 7, 2, 14), (30, 7, 2, 16), (60, 15, 2, 30), (90, 22, 2, 46), (147, 28, 2, 91), (175, 28, 3, 91)],
)
def test_a_short_history_has_shorter_folds_that_end_with_it(days: int, horizon: int, folds: int, first: int) -> None:
    config, said = fitting(CONFIG, days, period="day")

    made = walk_forward(DATES[:days], config=config, period="day")

    assert (config.horizon, len(made), config.min_history) == (horizon, folds, first)
    assert made[-1].last == DATES[days - 1]
    assert len(said) == 2  # shorter folds, and less than two years


@given(days=st.integers(28, 800), horizon=st.integers(1, 60), folds=st.integers(1, 8))
def test_every_history_that_tells_a_level_has_a_fold(days: int, horizon: int, folds: int) -> None:
    asked = CONFIG.model_copy(update={"horizon": horizon, "step": horizon, "folds": folds})

    config, _ = fitting(asked, days, period="day")

    made = walk_forward(np.datetime64("2022-01-01") + np.arange(days), config=config, period="day")
    assert 1 <= len(made) <= folds
    assert config.min_history >= min(asked.min_history, days // 2)
    assert config == asked or config.horizon <= max(days // 4, 7)


@pytest.mark.parametrize(("period", "periods"), [("day", 27), ("week", 7)])
def test_a_history_that_tells_no_level_or_no_fold_is_refused(period: Period, periods: int) -> None:
    with pytest.raises(HistoryError):
        fitting(CONFIG, periods, period=period)
    with pytest.raises(HistoryError):
        walk_forward(DATES[:periods], config=CONFIG, period=period)
