from dataclasses import replace

import numpy as np
import pytest

from pipelines.carry import parity
from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.data.panel import SERIES, Panel
from pricing.demand.model import DemandModel
from pricing.demand.state import encode_panel, span
from pricing.registry.gates import failed, state_gates
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


def launched(panel: Panel, days: dict[int, int]) -> Panel:
    """The panel in which some products, by row, have their first row on a day."""
    changes = {name: np.array(getattr(panel, name)) for name in SERIES}
    for row, day in days.items():
        for name, values in changes.items():
            blank = False if name == "present" else 0.0 if name in ("is_promo", "is_holiday") else np.nan
            values[row, :day] = blank
    return replace(panel, **changes)


def with_long_memory(model: DemandModel, panel: Panel) -> DemandModel:
    """The model with an LSTM that forgets next to nothing in a day, as a trained one may."""
    bias = model.weights["lstm_cell/bias"].copy()
    bias[len(bias) // 4 : len(bias) // 2] += 4.0
    weights = model.weights | {"lstm_cell/bias": bias}
    return replace(model, weights=weights, encoded=encode_panel(weights, panel, norms=model.norms, tail=35))


@pytest.mark.parametrize("known", [True, False], ids=["products announced before", "products nobody knew"])
def test_the_parity_gate_passes_after_days_in_which_two_products_launched(panel: Panel, *, known: bool) -> None:
    history = launched(panel, {3: 142, 7: 147})
    before = history.through(history.dates[139])
    before = before if known else before.select(before.present.any(axis=1))
    model = with_long_memory(make_demand(panel.through(history.dates[139]) if known else before), before)

    checked = parity(model.refresh(history), history)

    limits = load_config().registry.gates
    assert checked.from_scratch
    assert checked.difference < 1e-5
    day, difference = str(history.dates[-1]), checked.difference
    assert not failed(state_gates(challenger=day, champion=day, parity=difference, limits=limits))


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
