"""How demand answers to price: against closed forms, and against plain finite differences of the model's own curve."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.demand.curve import Offers
from pricing.demand.model import DemandModel
from pricing.demand.sensitivity import (
    CONTEXTS,
    CUT,
    ORDINARY,
    PASS,
    Curves,
    DemandContext,
    ProductSelection,
    Range,
    contexts,
    read_curves,
)
from tests.kit.decision import ConstantElasticity
from tests.kit.demand_fakes import make_model, make_panel

RATIOS = np.array([0.7, 0.85, 0.95, 1.0, 1.2, 1.35])
SUNDAY = np.datetime64("2024-03-31")
PROMOTION = next(context for context in CONTEXTS if context.is_promo)


@cache
def model() -> DemandModel:
    """With elasticities and intervals of their own, so that a mixed-up row shows."""
    made = make_model(make_panel())
    norms = replace(made.norms, elasticity=np.linspace(-1.5, -3.5, 5).astype(np.float32))
    return replace(made, norms=norms, elasticity_sd=np.linspace(0.2, 0.6, 5).astype(np.float32))


def selection(products: int = 5) -> ProductSelection:
    row = np.arange(products)
    return ProductSelection(row, row % 2, np.linspace(8.0, 12.0, products), np.full(products, np.nan))


def expected(demand: DemandModel, place: int, price: float, *, context: DemandContext) -> float:
    """Units a period that one product sells in the week after the state's date, day by day and node by node."""
    days = [demand.state_date.toordinal() + 1 + ahead for ahead in range(7)]
    total, count = 0.0, 0
    for day in days:
        if (day - 1) % 7 not in context.weekdays:
            continue
        these = selection()
        comp = np.nan if context.gap is None else these.list_price[place] * context.gap
        offers = Offers(
            product=these.product[place : place + 1],
            category=these.category[place : place + 1],
            date=np.array([day - 719163], dtype="datetime64[D]"),
            list_price=these.list_price[place : place + 1],
            comp_price=np.array([comp]),
            is_promo=np.array([float(context.is_promo)]),
            is_holiday=np.array([float(context.is_holiday)]),
            periods=np.array([1]),
        )
        grid = demand.grid(offers, np.array([[price]]))
        total += sum(float(w) * float(u) for w, u in zip(grid.weight, grid.first[0, :, 0], strict=True))
        count += 1
    return total / count


@pytest.mark.parametrize("context", CONTEXTS, ids=lambda context: context.name)
def test_elasticities_are_the_slopes_of_the_models_own_demand_curve(context: DemandContext) -> None:
    demand, ratios = model(), np.array([0.8, 0.93, 1.05, 1.2])  # apart from the kinks at list price and 10 % below

    found = read_curves(
        demand, selection(), ratios, after=np.datetime64(demand.state_date), period="day", context=context
    ).slope()

    for place in range(5):
        for at, ratio in enumerate(ratios):
            price, step = selection().list_price[place] * ratio, 0.002
            dearer, cheaper = (expected(demand, place, price * np.exp(s), context=context) for s in (step, -step))
            slope = (np.log(dearer) - np.log(cheaper)) / (2 * step)
            assert found.mean[place, at] == pytest.approx(slope, rel=0.01)


@pytest.mark.parametrize("context", CONTEXTS, ids=lambda context: context.name)
def test_demand_is_what_the_model_expects_on_the_days_of_the_context(context: DemandContext) -> None:
    demand = model()

    found = read_curves(
        demand, selection(), RATIOS, after=np.datetime64(demand.state_date), period="day", context=context
    ).demand()

    for place in range(5):
        price = selection().list_price[place] * RATIOS[1]
        assert found.mean[place, 1] == pytest.approx(expected(demand, place, price, context=context), rel=1e-4)


@given(size=st.floats(0.5, 6), level=st.floats(0.01, 1e4))
def test_constant_elasticity_is_found_again_at_every_price(size: float, level: float) -> None:
    demand = ConstantElasticity(elasticities=(size,), level=level)

    curves = read_curves(demand, selection(3), RATIOS, after=SUNDAY, period="day")

    for found in vars(curves.slope()).values():
        assert found == pytest.approx(-size, rel=1e-6)
    assert curves.demand().mean == pytest.approx(np.tile(level * RATIOS**-size, (3, 1)))


@given(first=st.floats(1.1, 4), second=st.floats(1.1, 4))
def test_the_mean_of_two_truths_answers_as_their_units_do(first: float, second: float) -> None:
    demand = ConstantElasticity(elasticities=(first, second), weight=(0.25, 0.75))

    found = read_curves(demand, selection(1), RATIOS, after=SUNDAY, period="day").slope()

    sold = np.array([[0.25], [0.75]]) * RATIOS[None, :] ** -np.array([[first], [second]])
    share = sold / sold.sum(axis=0)
    assert found.mean[0] == pytest.approx(-(share[0] * first + share[1] * second), rel=0.01)
    assert (found.low <= found.high).all()


def test_the_interval_at_list_price_is_the_one_that_the_model_states() -> None:
    demand = model()
    rows = np.arange(5)
    mean, low, high = demand.elasticity(rows)

    listed = replace(selection(), list_price=demand.list_price.astype(float))

    found = read_curves(demand, listed, np.array([1.0]), after=np.datetime64(demand.state_date), period="day")

    found_low, found_high = found.slope().low[:, 0], found.slope().high[:, 0]
    assert found_high / found_low == pytest.approx(high / low, rel=0.01)  # both are log-normal, as wide
    assert ((found_low < mean) & (mean < found_high)).all()


def test_a_promotion_makes_demand_steeper_only_where_the_price_is_really_cut() -> None:
    demand, ratios = model(), np.array([0.8, 0.95, 1.1])
    after, row = np.datetime64(demand.state_date), np.arange(5)
    these = ProductSelection(row, row % 2, demand.list_price, np.full(5, np.nan))

    plain, promoted = (
        read_curves(demand, these, ratios, after=after, period="day", context=context).slope().mean
        for context in (ORDINARY, PROMOTION)
    )

    assert (promoted[:, 1] < plain[:, 1] - 0.5).all()
    assert promoted[:, [0, 2]] == pytest.approx(plain[:, [0, 2]], rel=1e-3)


def test_products_beyond_one_pass_are_read_like_the_others() -> None:
    demand, count = ConstantElasticity(elasticities=(2.0, 3.0)), PASS + 3
    row = np.zeros(count, dtype=np.int64)
    many = ProductSelection(row, row, np.linspace(1.0, 100.0, count), np.full(count, np.nan))

    curves = read_curves(demand, many, RATIOS, after=SUNDAY, period="day")

    assert curves.units.shape == (count, 2, len(RATIOS))
    assert curves.demand().mean == pytest.approx(np.tile(curves.demand().mean[0], (count, 1)))


def test_a_group_answers_as_its_products_sales_weighted() -> None:
    units = np.array([[[8.0]], [[2.0]], [[5.0]]])
    slopes = np.array([[[2.0]], [[4.0]], [[3.0]]])
    curves = Curves(units, units * np.exp(CUT * slopes), np.ones(1))

    together = curves.together(np.array([0, 0, 1]), groups=2)

    assert together.demand().mean[:, 0] == pytest.approx([10.0, 5.0])
    assert together.slope().mean[:, 0] == pytest.approx([-(0.8 * 2 + 0.2 * 4), -3.0], rel=0.01)


def test_a_loss_turns_an_interval_around() -> None:
    sold = Range(np.array([10.0]), np.array([8.0]), np.array([13.0]))

    lost = sold.times(np.array([-2.0]))

    assert (lost.mean[0], lost.low[0], lost.high[0]) == (-20.0, -26.0, -16.0)


def test_a_weekly_panel_has_no_weekend() -> None:
    names = [context.name for context in contexts("week")]

    assert "weekend" not in names
    assert names[0] == ORDINARY.name
    found = read_curves(ConstantElasticity(), selection(2), RATIOS, after=SUNDAY, period="week")
    assert found.units.shape == (2, 1, len(RATIOS))
