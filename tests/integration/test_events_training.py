"""A network trained on a history with a strong named event forecasts the event's next occurrence."""

from dataclasses import replace

import numpy as np
import pytest

from pricing.config import load_config
from pricing.demand.backtest import evaluate
from pricing.demand.folds import Fold
from pricing.demand.training import fit
from tests.kit.events import FEAST, START, make_panel

pytestmark = [pytest.mark.slow, pytest.mark.weekly]
TINY = {
    "horizon": 14,
    "steps": 30,
    "demand_steps": 10,
    "price_steps": 10,
    "rounds": 1,
    "units": 8,
    "context": 60,
    "min_history": 120,
}


def test_the_next_occurrence_of_an_event_is_forecast_better_by_its_name() -> None:
    """Two were seen, and the days of the third are 12 to 14 months away from anything like them."""
    whole = make_panel(periods=810, products=12)
    config = load_config().demand.model_copy(update=TINY)
    cutoff = START + FEAST[2] - 5
    fold = Fold(cutoff, cutoff + 1, cutoff + 12)
    near = START + FEAST[2] + np.array([-1, 0, 1])
    errors, others = {}, {}

    for named in (True, False):
        panel = whole if named else replace(whole, events=())
        model = fit(panel.through(cutoff), config).model
        frame = evaluate(model, past=panel.through(cutoff), panel=panel, fold=fold)
        miss, on = (frame["q50"] - frame["actual"]).abs(), frame["date"].isin(near)
        errors[named] = miss[on].sum() / frame["actual"][on].sum()
        others[named] = miss[~on].sum() / frame["actual"][~on].sum()
        assert (model.norms.lifts is not None) == named

    assert errors[True] < 0.6 * errors[False]
    assert others[True] < 1.1 * others[False]
