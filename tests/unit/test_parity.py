from dataclasses import replace

import numpy as np
import pytest

from pricing.data.panel import Panel
from pricing.demand.state import span
from pricing.registry.parity import covers, parity
from tests.versions import make_demand, make_panel


@pytest.fixture(scope="module")
def panel() -> Panel:
    return make_panel(products=10, days=150)


def test_states_carried_forward_agree_with_the_history_they_come_from(panel: Panel) -> None:
    model = make_demand(panel.through(panel.dates[139])).refresh(panel)

    checked = parity(model, panel)

    assert checked.from_scratch
    assert checked.products == 10
    assert checked.difference < 1e-5


def test_new_rows_alone_are_compared_from_the_checkpoint(panel: Panel) -> None:
    rows = span(panel, 140, 150)
    model = make_demand(panel.through(panel.dates[139])).refresh(rows)

    checked = parity(model, rows, sample=4)

    assert not checked.from_scratch
    assert checked.products == 4
    assert checked.difference < 1e-5


@pytest.mark.parametrize("first", [0, 140])
def test_a_state_that_is_wrong_anywhere_is_found(panel: Panel, first: int) -> None:
    rows = span(panel, first, 150)
    model = make_demand(panel.through(panel.dates[139])).refresh(rows)
    hidden = model.encoded.state.hidden.copy()
    hidden[-1, 0] += 0.01
    encoded = replace(model.encoded, state=replace(model.encoded.state, hidden=hidden))

    assert parity(replace(model, encoded=encoded), rows).difference == pytest.approx(0.01, rel=0.01)


def test_only_a_panel_with_the_whole_past_covers_it(panel: Panel) -> None:
    model = make_demand(panel)

    assert covers(panel, model)
    assert not covers(span(panel, 1, 150), model)
    assert not covers(span(panel, 149, 150), model)
    assert not covers(panel.select(np.arange(9)), model)
