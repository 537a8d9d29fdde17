"""What the elasticities are learnt from: the nuisance networks' reading of events."""

import numpy as np

from pricing.demand.batches import build_table
from pricing.demand.nuisances import read_events
from pricing.demand.price_changes import after_price_changes, find_price_changes
from tests.kit.demand_fakes import make_norms, make_panel, make_weights
from tests.kit.stores import estimate_chain


def test_reading_the_events_of_a_few_products_at_a_time_changes_nothing() -> None:
    panel = make_panel()
    table = build_table(panel, norms=make_norms(panel), category=np.asarray([0, 1, 0, 1, 0]))
    events = after_price_changes(table, find_price_changes(table))
    weights = make_weights()
    at_once = read_events(weights, table, events, "demand")

    in_parts = read_events(weights, table, events, "demand", chunk=2)

    assert len(events.product) > 100
    np.testing.assert_allclose(in_parts, at_once, rtol=1e-4, atol=1e-5)


def test_all_series_of_a_parent_get_its_elasticity() -> None:
    known, parent = estimate_chain()

    found = known.posterior(category=np.arange(3) % 2, centre=np.zeros(2)).of_products(parent)

    for values in (found.elasticity, found.sd):
        assert values.shape == (6,)
        assert len(np.unique(values[:4])) == 1
    assert len(np.unique(found.elasticity)) == 3
