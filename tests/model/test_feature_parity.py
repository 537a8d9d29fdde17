"""Training and the served table compute the same features: held together by the forecast they lead to."""

from dataclasses import replace

import numpy as np

from pricing.demand import forward_pass
from pricing.demand.batches import Targets, baseline, build_table, gather_known
from pricing.demand.state import span
from tests.kit.demand_fakes import make_model, make_panel

CUTOFF = 80


def test_a_tables_levels_are_the_forecasts_that_training_sees() -> None:
    panel = make_panel(periods=120)
    holiday = np.isin(np.arange(120), CUTOFF + np.array([-3, 1, 9, 28, 30])).astype(np.float32)
    comp_price = np.full_like(panel.comp_price, 9.5)  # the competitor at his usual price
    panel = replace(panel, comp_price=comp_price, is_holiday=np.broadcast_to(holiday, comp_price.shape))
    plain = make_model(span(panel, 0, CUTOFF + 1))
    model = replace(plain, holidays=np.append(holiday[CUTOFF:], np.zeros(60, np.float32)))
    served = model.table()
    price, promo = panel.price.copy(), panel.is_promo.copy()
    price[:, CUTOFF + 1 :], promo[:, CUTOFF + 1 :] = served.reference[:5, None], 0.0

    table = build_table(replace(panel, price=price, is_promo=promo), norms=model.norms, category=model.category)
    states, _ = forward_pass.encode(model.weights, table.past.inputs, state=forward_pass.blank_state(model.weights, 5))
    prepared = forward_pass.prepare(model.weights, states, model.category)[:, CUTOFF]
    mean, log_size = np.empty((2, 5, 28))
    for step in range(1, 29):
        targets = Targets(np.arange(5), np.full(5, CUTOFF), np.full(5, step))
        known = gather_known(table, targets, "forecast")
        found, log_size[:, step - 1] = forward_pass.respond(model.weights, prepared, known)
        offset = baseline(table, targets) + table.offset[:, CUTOFF + step]
        mean[:, step - 1] = found + offset

    np.testing.assert_allclose(served.levels[:5, :28], mean, atol=2e-5)
    np.testing.assert_array_equal(served.levels[:, 28:], plain.table().levels[:, 28:])  # what look-ahead repeats
    np.testing.assert_allclose(np.log(served.size[:5]), log_size[:, :7].mean(axis=1), atol=2e-5)
