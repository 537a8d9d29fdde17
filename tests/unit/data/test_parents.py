"""A product's stores as series of it: from the column `parent_id` to the elasticity that all of them show."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pricing.arrays import flatten, restore
from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.data.panel import Panel
from pricing.demand.grades import CATEGORY, OWN_HISTORY, TESTED
from pricing.demand.model import DemandModel, add_products
from serving.routes.catalogue import elasticity_of
from tests.kit.demand_fakes import make_model, make_panel
from tests.kit.versions import loaded_version

CONFIG = load_config().data
DAYS = pd.date_range("2024-03-01", periods=4)


def sales(**parents: object) -> pd.DataFrame:
    """Four days of each series named, with its parent: one for all days, or one a day."""
    parts = [
        pd.DataFrame(
            {"date": DAYS, "product_id": name.replace("_", "@"), "units_sold": 1.0, "price": 2.0, "parent_id": parent}
        )
        for name, parent in parents.items()
    ]
    return pd.concat(parts, ignore_index=True)


def test_the_latest_parent_counts_also_of_newer_rows_and_a_series_without_one_is_its_own() -> None:
    frame = sales(tea_a=["old", "old", "tea", None], tea_b=["tea", "tea", "tea", None], jam=None)
    past = build_panel(frame[frame["date"] < DAYS[3]], CONFIG)

    for panel in (build_panel(frame, CONFIG), build_panel(frame[frame["date"] == DAYS[3]], CONFIG, past=past)):
        assert panel.product_ids.tolist() == ["jam", "tea@a", "tea@b"]
        assert panel.parent_ids is not None
        assert panel.parent_ids.tolist() == ["jam", "tea", "tea"]


def chain_model(panel: Panel) -> DemandModel:
    """A model in which P0, P2 and P4 are series of Q, with one elasticity."""
    model = make_model(replace(panel, parent_ids=np.array(["Q", "P1", "Q", "P3", "Q"])))
    shared = np.array([True, False, True, False, True])
    evidence = replace(model.evidence, moves=np.where(shared, 40, 3).astype(np.int32))
    return replace(
        model,
        norms=replace(model.norms, elasticity=np.where(shared, -3.1, -1.7).astype(np.float32)),
        elasticity_sd=np.where(shared, 0.2, 0.5).astype(np.float32),
        grade=np.where(shared, TESTED, OWN_HISTORY).astype(np.int8),
        evidence=evidence,
    )


def with_series(panel: Panel, name: str, *, parent: str | None) -> Panel:
    """The panel with one more series, a copy of P1."""
    more = panel.select(np.array([0, 1, 2, 3, 4, 1]))
    ids = np.array([*panel.product_ids, name])
    parents = None if parent is None else np.array([*ids[:5], parent])
    return replace(more, product_ids=ids, parent_ids=parents, categories=np.array([*panel.categories, "b"]))


def test_a_new_store_of_a_known_product_takes_the_products_elasticity() -> None:
    panel = make_panel()
    model = chain_model(panel)

    grown = add_products(model, with_series(panel, "P9", parent="Q"))

    assert grown.norms.elasticity[5] == np.float32(-3.1)
    assert grown.elasticity_sd[5] == np.float32(0.2)
    assert grown.grade[5] == TESTED
    assert grown.evidence.moves[5] == 40
    assert grown.parent_ids.tolist() == ["Q", "P1", "Q", "P3", "Q", "Q"]
    assert grown.table().sharing()[1].tolist() == [4, 1, 4, 1, 4, 4]


def test_a_new_series_of_no_known_product_takes_its_categorys() -> None:
    panel = make_panel()
    model = chain_model(panel)

    grown = add_products(model, with_series(panel, "P9", parent="R"))

    assert grown.norms.elasticity[5] == model.priors.elasticity[1]
    assert grown.grade[5] == CATEGORY
    assert grown.parent_ids[5] == "P9"


@pytest.mark.parametrize("rebuild", [False, True])
def test_a_refresh_keeps_the_parents_that_elasticities_were_estimated_with(rebuild: bool) -> None:
    panel = make_panel()
    model = chain_model(panel.through(panel.dates[-6]))

    carried = model.refresh(replace(with_series(panel, "P9", parent="Q"), notes=()), rebuild=rebuild)
    again = carried.refresh(with_series(panel, "P9", parent=None), rebuild=rebuild)
    loaded = restore(DemandModel, *flatten(again))

    for one in (carried, again, loaded):
        assert one.parent_ids.tolist() == ["Q", "P1", "Q", "P3", "Q", "Q"]
    assert len({float(value) for value in loaded.table().elasticities(np.array([0, 2, 4, 5]))[0]}) == 1


def test_the_service_says_whose_elasticity_a_product_has() -> None:
    made = loaded_version()
    parents = made.demand.product_ids.astype("<U20")
    parents[:3] = "tea"
    version = replace(made, demand=replace(made.demand, parent_ids=parents))

    answers = [elasticity_of("7", version, row) for row in range(4)]

    assert [(one.parent_id, one.shared_by) for one in answers] == [("tea", 3)] * 3 + [(None, 1)]
