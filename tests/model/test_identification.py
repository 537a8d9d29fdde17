"""What the elasticities are learnt from: the nuisance networks' reading of events."""

import numpy as np

from pricing.demand.batches import build_table
from pricing.demand.grades import gather_evidence, grade_products
from pricing.demand.identification import _identified, learn, read_events
from pricing.demand.price_changes import after_price_changes, find_price_changes
from pricing.demand.state import Networks
from tests.kit.demand_fakes import make_norms, make_panel, make_weights
from tests.kit.stores import chain_sample


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
    sample, table, forecast, norms, panel = chain_sample()
    shrunk = learn(sample, table, forecast, norms=norms, so_far=None).posterior(category=np.arange(3) % 2, categories=2)
    evidence = gather_evidence(panel)

    found = _identified(sample, shrunk, norms, evidence, grade_products(evidence, panel), Networks({}, panel.dates[:1]))

    for values in (found.norms.elasticity, found.shrunk.sd, found.grade, *vars(found.evidence).values()):
        assert values.shape == (6,)
        assert len(np.unique(values[:4])) == 1
    assert len(np.unique(found.norms.elasticity)) == 3
