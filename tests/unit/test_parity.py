from dataclasses import replace

import numpy as np
import pytest

from pipelines.carry import parity
from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.data.panel import Panel
from pricing.demand.model import DemandModel
from pricing.demand.state import encode_panel, span
from simulation.config import MarketConfig
from simulation.market import simulate
from tests.kit.versions import make_demand, make_panel


@pytest.fixture(scope="module")
def panel() -> Panel:
    return make_panel(products=10, days=150)


@pytest.mark.parametrize("first", [0, 140])
def test_a_state_that_is_wrong_anywhere_is_found(panel: Panel, first: int) -> None:
    rows = span(panel, first, 150)
    model = make_demand(panel.through(panel.dates[139])).refresh(rows)
    hidden = model.encoded.state.hidden.copy()
    hidden[-1, 0] += 0.01
    encoded = replace(model.encoded, state=replace(model.encoded.state, hidden=hidden))

    assert parity(replace(model, encoded=encoded), rows).difference == pytest.approx(0.01, rel=0.01)


def with_long_memory(model: DemandModel, panel: Panel) -> DemandModel:
    """The model with an LSTM that forgets next to nothing in a day, as a trained one may."""
    bias = model.weights["lstm_cell/bias"].copy()
    bias[len(bias) // 4 : len(bias) // 2] += 4.0
    weights = model.weights | {"lstm_cell/bias": bias}
    return replace(model, weights=weights, encoded=encode_panel(weights, panel, norms=model.norms, tail=35))


@pytest.mark.parametrize("missing", ["zero", "unknown"])
def test_nights_of_new_rows_carry_states_as_the_whole_history_does(missing: str) -> None:
    config = load_config().data.model_copy(update={"missing": missing})
    frame = simulate(MarketConfig(products=10, days=150, seed=3)).frame().drop(columns="stock")
    frame = frame[(frame["units_sold"] > 0) | (missing == "unknown")]
    days = np.sort(frame["date"].unique())
    history = build_panel(frame[frame["date"] <= days[139]], config)
    model = with_long_memory(make_demand(history), history)

    for day in days[140:]:
        model = model.refresh(build_panel(frame[frame["date"] == day], config, past=model.encoded.tail))

    whole = build_panel(frame, config)
    assert not whole.present[:, -35:].all()
    checked = parity(model, whole)
    assert checked.from_scratch
    assert checked.difference < 1e-5
