"""What the elasticities are learnt from: the nuisance networks' reading of events."""

import numpy as np

from pricing.demand.batches import build_table
from pricing.demand.elasticity_estimation import Estimates, learn
from pricing.demand.identification import _identified, read_events
from pricing.demand.price_changes import after_price_changes, find_price_changes
from tests.kit.demand_fakes import make_norms, make_panel, make_weights
from tests.kit.stores import PRIOR, chain_sample


def test_reading_the_events_of_a_few_products_at_a_time_changes_nothing() -> None:
    panel = make_panel()
    table = build_table(panel, norms=make_norms(panel), category=np.asarray([0, 1, 0, 1, 0]))
    events = after_price_changes(table, find_price_changes(table))
    weights = make_weights()
    weights["from_known/kernel"] = np.concatenate([weights["from_known/kernel"], np.ones((1, 32), np.float32)])
    at_once = read_events(weights, table, events, price=False)

    in_parts = read_events(weights, table, events, price=False, chunk=2)

    assert len(events.product) > 100
    np.testing.assert_allclose(in_parts, at_once, rtol=1e-4, atol=1e-5)


def test_all_series_of_a_parent_get_its_elasticity_grade_and_evidence() -> None:
    sample, table, forecast, norms, _ = chain_sample()
    known = learn(sample, table, forecast, norms=norms, control=False, so_far=Estimates.nothing(3, level=-2.0))

    found = _identified(sample, table, norms, known, category=np.arange(6) % 2, prior=PRIOR)

    for values in (found.norms.elasticity, found.shrunk.sd, found.grade, *vars(found.evidence).values()):
        assert values.shape == (6,)
        assert len(np.unique(values[:4])) == 1
    assert len(np.unique(found.norms.elasticity)) == 3
