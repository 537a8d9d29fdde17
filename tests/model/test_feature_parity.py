"""Training, refresh and serving compute the same features: held together by the forecast they lead to."""

from dataclasses import replace

import numpy as np
import pytest

from pricing.demand import forward
from pricing.demand.batches import baseline, build_table, gather_known
from pricing.demand.curve import Offers
from pricing.demand.state import span
from tests.kit.demand_fakes import make_model, make_panel


@pytest.mark.parametrize("step", [1, 2, 9, 28])
def test_a_served_forecast_is_the_one_that_training_sees(step: int) -> None:
    panel = make_panel(periods=120)
    cutoff = 80
    model = make_model(span(panel, 0, cutoff + 1))
    model = replace(model, holidays=np.append(panel.is_holiday[0, cutoff:], np.zeros(60)).astype(np.float32))
    rows, at = np.arange(5), cutoff + step

    table = build_table(panel, norms=model.norms, category=model.category)
    states, _ = forward.encode(model.weights, table.past.inputs, state=forward.blank_state(model.weights, 5))
    prepared = forward.prepare(model.weights, states, model.category)[:, cutoff]
    cutoffs, steps = np.full(5, cutoff), np.full(5, step)
    known = gather_known(table, rows, cutoffs, steps, flag=False)
    mean, lift, log_size = forward.respond(model.weights, prepared, known)
    trained = mean + lift * table.draw[:, at] + baseline(table, rows, cutoffs, steps) + table.offset[:, at]
    offers = Offers(
        product=rows,
        category=model.category,
        date=np.full(5, panel.dates[at]),
        list_price=panel.list_price[:, at],
        comp_price=panel.comp_price[:, at],
        is_promo=panel.is_promo[:, at],
        is_holiday=panel.is_holiday[:, at],
        periods=np.ones(5, np.int64),
    )
    served = model.grid(offers, panel.price[:, at][:, None])

    # The nodes' truths lie around the mean: take their uncertainty out to compare it.
    certain = replace(model, elasticity_sd=np.full(5, 1e-6, np.float32), level_error=(0.0, 0.0))
    exact = certain.grid(offers, panel.price[:, at][:, None]).first[:, 0, 0]
    np.testing.assert_allclose(np.log(exact), trained, atol=2e-5)
    np.testing.assert_allclose(np.log(served.first_size), log_size, atol=2e-5)


def test_a_refreshed_state_forecasts_like_one_encoded_from_scratch() -> None:
    panel = make_panel(periods=120)
    offers = Offers(
        product=np.arange(5),
        category=np.zeros(5, int),
        date=np.full(5, panel.dates[-1] + np.timedelta64(3, "D")),
        list_price=np.full(5, 10.0),
        comp_price=np.full(5, 9.0),
        is_promo=np.ones(5),
        is_holiday=np.ones(5),
        periods=np.full(5, 7),
    )
    prices = np.tile(np.geomspace(6, 14, 7), (5, 1))

    refreshed = make_model(span(panel, 0, 100)).refresh(panel)
    scratch = make_model(panel)

    np.testing.assert_allclose(
        np.log(refreshed.grid(offers, prices).until), np.log(scratch.grid(offers, prices).until), atol=1e-4
    )


@pytest.mark.parametrize("days", [-3, 2, 98, 130, 900])
def test_dates_beside_the_prepared_calendar_are_computed_alike(days: int) -> None:
    panel = make_panel()
    short = make_model(panel)
    long = replace(short, holidays=np.zeros(2000, np.float32))
    offers = Offers(
        product=np.arange(5),
        category=np.zeros(5, int),
        date=np.full(5, panel.dates[-1] + np.timedelta64(days, "D")),
        list_price=np.full(5, 10.0),
        comp_price=np.full(5, np.nan),
        is_promo=np.zeros(5),
        is_holiday=np.zeros(5),
        periods=np.full(5, 5),
    )

    left, right = (model.grid(offers, np.full((5, 1), 10.0)) for model in (short, long))

    np.testing.assert_allclose(np.log(left.until), np.log(right.until), atol=1e-5)
