"""Lifts learnt from sales whose true lifts are known: recovered, shrunk, and blind to what came later."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from pricing.data.event_windows import EventLifts
from pricing.data.panel import Panel
from pricing.demand.event_lifts import learn_lifts
from tests.kit.demand_fakes import make_norms
from tests.kit.events import FEAST, START, TRUE, event, make_panel


def learn(panel: Panel, **more: object) -> EventLifts:
    categories, category = np.unique(panel.categories, return_inverse=True)
    norms = make_norms(panel, prior_level=15.0, weekend=0.0)
    found = learn_lifts(panel, norms=norms, category=category, ahead=120, **more)  # type: ignore[arg-type]
    assert found is not None
    assert found.by_period.shape == (len(categories) + 1, len(panel.dates) + 120)
    return found


def of(lifts: EventLifts, name: str, position: int, *, sd: bool = False) -> np.ndarray:
    """(row,) of one event's position."""
    table = lifts.sd if sd else lifts.value
    return table[:, lifts.names.tolist().index(name), lifts.positions.tolist().index(position)]


LEARNT = learn(make_panel())


def test_known_lifts_are_found_by_category_and_day() -> None:
    for row, category in enumerate(("a", "b")):
        for position, true in TRUE[category].items():
            value, sd = of(LEARNT, "Feast", position)[row], of(LEARNT, "Feast", position, sd=True)[row]

            assert value == pytest.approx(true, abs=0.08)
            assert abs(value - true) < 3 * sd
    together = of(LEARNT, "Feast", 0)
    assert together[0] < together[2] < together[1]  # a category nobody knows has what all have in common


def test_an_event_never_seen_lifts_nothing_and_is_known_to_be_unknown() -> None:
    assert (of(LEARNT, "Never", 0) == 0).all()
    assert (of(LEARNT, "Never", 0, sd=True) == 0).all()
    assert LEARNT.seen[LEARNT.names.tolist().index("Never")] == 0
    assert LEARNT.seen[LEARNT.names.tolist().index("Feast")] == 3


def test_what_few_sales_show_is_shrunk() -> None:
    """A day of two products that sell 0.7 a day is off by about 0.7 log units, and the mean of two of them by 0.5."""
    found = [learn(make_panel(products=2, mean=0.7, seed=seed, lift={}, periods=500)) for seed in range(6)]

    assert np.sqrt(np.mean([np.square(of(lifts, "Feast", 0)) for lifts in found])) < 0.15


@settings(max_examples=3)
@given(st.integers(450, 600), st.integers(0, 100))
def test_no_fold_sees_what_came_after_its_cutoff(cutoff: int, seed: int) -> None:
    panel = make_panel(products=6, seed=3, periods=700)
    later = np.arange(700) > cutoff
    other = replace(
        panel,
        units_sold=np.where(later, np.random.default_rng(seed).poisson(99, panel.present.shape), panel.units_sold),
        price=np.where(later, 3.0, panel.price).astype(np.float32),
        present=panel.present & ~(later & (np.arange(700) % 3 == 0)),
    )

    ours, theirs = (learn(each.through(START + cutoff)) for each in (panel, other))

    for name, values in vars(ours).items():
        assert_array_equal(values, getattr(theirs, name))


def test_what_a_promotion_draws_is_no_lift_of_the_event() -> None:
    panel = make_panel(lift={})
    promo, units, price = panel.is_promo.copy(), panel.units_sold.copy(), panel.price.copy()
    for day in FEAST[:3]:
        promo[::4, day], price[::4, day] = 1.0, 8.0
        units[::4, day] *= 6.0

    found = learn(replace(panel, is_promo=promo, units_sold=units, price=price))

    assert np.abs(of(found, "Feast", 0)).max() < 0.06


def test_a_sold_out_feast_is_lifted_no_less_than_it_sold() -> None:
    panel = make_panel()
    stock = np.full(panel.stock.shape, np.nan, np.float32)
    units = panel.units_sold.copy()
    for day in FEAST[:3]:
        stock[:, day] = 1.0  # opened all but empty
        units[:, day] = 1.0

    found = learn(replace(panel, stock=stock, units_sold=units))

    assert of(found, "Feast", 0).min() > -0.1


def test_an_event_of_one_category_lifts_no_other() -> None:
    own = tuple(event("Garden", day, category="b", overlay=True) for day in FEAST)
    panel = make_panel(events=own, lift={"b": TRUE["b"]})

    found = learn(panel)

    assert of(found, "Garden", 0)[1] == pytest.approx(1.0, abs=0.25)
    assert (found.by_period[[0, 2]] == 0).all()
