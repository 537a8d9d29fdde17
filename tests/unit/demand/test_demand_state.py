"""The model that learns: carried forward equals encoded from scratch, whatever happened on the way."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.steps.carry import parity
from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.data.panel import SERIES, Panel
from pricing.demand import state
from pricing.demand.model import DemandModel, add_products
from pricing.demand.state import State, encode_panel, expand, span
from pricing.errors import HistoryError
from simulation.config import MarketConfig
from simulation.market import simulate
from tests.kit import versions
from tests.kit.demand_fakes import make_model, make_norms, make_panel, make_weights
from tests.kit.panels import put

MODEL = make_model(make_panel())


def leaves(state: State) -> list[np.ndarray]:
    return [*vars(state.memory).values(), state.hidden, state.cell]


def assert_same(left: State, right: State) -> None:
    for a, b in zip(leaves(left), leaves(right), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)


def test_encoding_a_few_products_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    panel = make_panel()
    at_once = make_model(panel).encoded

    monkeypatch.setattr(state, "CHUNK", 2)

    assert_same(make_model(panel).encoded.state, at_once.state)
    assert_same(make_model(panel).encoded.checkpoint, at_once.checkpoint)


@pytest.mark.parametrize(("name", "value"), [("units_sold", 40.0), ("price", 5.0), ("stock", 3.0)])
def test_a_late_correction_is_encoded_as_if_it_had_always_been_there(name: str, value: float) -> None:
    panel = make_panel()
    corrected = put(panel, (0, 75), **{name: value})

    carried = make_model(span(panel, 0, 80)).refresh(span(corrected, 70, 90))

    assert_same(carried.encoded.state, make_model(corrected).encoded.state)


@pytest.mark.parametrize("begin", [0, 5, 50])
def test_carried_forward_equals_encoded_from_scratch_though_the_panel_begins_later(begin: int) -> None:
    panel = make_panel()
    scratch = encode_panel(make_weights(), panel, norms=make_norms(panel), tail=20)

    past = replace(make_model(span(panel, 0, 70)), holidays=np.arange(100.0))
    carried = past.refresh(span(panel, begin, 90))

    assert_same(carried.encoded.state, scratch.state)
    assert_same(carried.encoded.checkpoint, scratch.checkpoint)
    np.testing.assert_allclose(carried.encoded.digest, scratch.digest)
    assert carried.holidays.tolist() == [*range(20, 100), *[0.0] * 20]


@pytest.mark.parametrize(("begin", "end", "rebuild"), [(65, 90, False), (0, 55, False), (50, 90, True)])
def test_a_panel_that_leaves_a_gap_ends_too_early_or_is_no_history_to_rebuild_from_is_refused(
    begin: int, end: int, rebuild: bool
) -> None:
    panel = make_panel()

    with pytest.raises(HistoryError):
        make_model(span(panel, 0, 60)).refresh(span(panel, begin, end), rebuild=rebuild)


def test_a_row_deleted_before_the_checkpoint_is_found_however_many_others_there_are() -> None:
    panel = make_panel()
    rewritten = put(put(panel, (0, 5), present=False, units_sold=np.nan), (4, 6), units_sold=99.0)

    with pytest.raises(HistoryError, match=r"2 product\(s\), first 'P0'"):
        make_model(span(panel, 0, 80)).refresh(rewritten)


def test_a_single_correction_from_before_the_checkpoint_is_refused_and_named() -> None:
    panel = make_panel()
    model = make_model(span(panel, 0, 80))
    late = put(put(panel, np.s_[:, :80], present=False), (3, 30), present=True)

    with pytest.raises(HistoryError, match=r"1 row\(s\) lie before .*, first 'P3' on 2024-01-31"):
        model.refresh(span(late, 30, 90))


def test_a_refresh_changes_neither_the_model_nor_the_panel() -> None:
    panel = make_panel()
    model = make_model(span(panel, 0, 80))
    before = [leaf.copy() for leaf in leaves(model.encoded.state)]
    rows = {name: getattr(panel, name).copy() for name in SERIES}

    refreshed = model.refresh(panel)

    assert refreshed.weights_hash() == model.weights_hash()
    for old, new in zip(before, leaves(model.encoded.state), strict=True):
        np.testing.assert_array_equal(old, new)
    for name, values in rows.items():
        np.testing.assert_array_equal(values, getattr(panel, name))


def launched(panel: Panel, days: list[int]) -> Panel:
    """The panel with product i's first row on day `days[i]`."""
    before = np.arange(len(panel.dates)) < np.asarray(days)[:, None]
    changes = {"present": panel.present & ~before}
    for name in ("units_sold", "price", "list_price", "unit_cost", "stock", "comp_price"):
        changes[name] = np.where(before, np.nan, getattr(panel, name))
    return replace(panel, **changes)


def long_memory() -> dict[str, np.ndarray]:
    """Weights that forget next to nothing in a day: what moved a state once stays in it."""
    weights = make_weights()
    units = weights["lstm_cell/recurrent_kernel"].shape[0]
    weights["lstm_cell/bias"][units : 2 * units] += 4.0
    return weights


@given(
    launches=st.lists(st.integers(0, 85), min_size=5, max_size=5),
    nights=st.lists(st.integers(40, 89), min_size=1, max_size=4, unique=True).map(sorted),
    tail=st.integers(1, 40),
    unknown=st.booleans(),
    whole=st.booleans(),
)
def test_a_product_launched_at_any_time_is_carried_forward_as_if_encoded_from_scratch(
    launches: list[int], nights: list[int], tail: int, *, unknown: bool, whole: bool
) -> None:
    panel = launched(make_panel(), launches)
    weights = long_memory()
    there = [panel.present[:, :night].any(axis=1) | (np.arange(5) == 0) | (not unknown) for night in [*nights, 90]]

    model = make_model(span(panel.select(there[0]), 0, nights[0]), tail=tail, weights=weights)
    for begin, end, sold in zip(nights, [*nights[1:], 90], there[1:], strict=True):
        model = model.refresh(span(panel.select(sold), 0 if whole else begin, end))

    ours = panel.select(np.isin(panel.product_ids, model.product_ids))
    scratch = encode_panel(weights, ours, norms=model.norms, tail=tail)
    assert_same(model.encoded.state, scratch.state)


def test_a_panel_of_another_grain_is_refused() -> None:
    with pytest.raises(HistoryError, match="one row a day"):
        MODEL.refresh(replace(make_panel(), period="week"))


def test_a_product_leaves_its_category_when_its_own_rows_say_enough() -> None:
    assert replace(MODEL, own_periods=60).table().own.tolist() == [True, False, True, True, True]


def test_new_products_have_what_promotions_draw_in_their_category() -> None:
    panel = make_panel()
    category = np.array([ord(name) for name in panel.categories])
    drawn = replace(MODEL, norms=replace(MODEL.norms, promotion=np.where(category == category[0], 0.4, 1.2)))
    ids = np.array([f"{product}x" for product in panel.product_ids])
    more = np.concatenate([panel.product_ids, ids])

    grown = add_products(drawn, replace(expand(panel, more), categories=np.tile(panel.categories, 2)))

    np.testing.assert_allclose(grown.norms.promotion, np.repeat(drawn.norms.promotion, 2), rtol=1e-6)


@pytest.fixture(scope="module")
def panel() -> Panel:
    return versions.make_panel(products=10, days=150)


@pytest.mark.parametrize("first", [0, 140])
def test_a_state_that_is_wrong_anywhere_is_found(panel: Panel, first: int) -> None:
    rows = span(panel, first, 150)
    model = versions.make_demand(panel.through(panel.dates[139])).refresh(rows)
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
    model = with_long_memory(versions.make_demand(history), history)

    for day in days[140:]:
        model = model.refresh(build_panel(frame[frame["date"] == day], config, past=model.encoded.tail))

    whole = build_panel(frame, config)
    assert not whole.present[:, -35:].all()
    checked = parity(model, whole)
    assert checked.from_scratch
    assert checked.difference < 1e-5
