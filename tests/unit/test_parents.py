"""A product's stores as series of it: from the column `parent_id` to the elasticity that all of them show."""

import dataclasses
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from pipelines.reports.model_card import model_card
from pipelines.reports.sensitivity import analyse, sensitivity_page
from pricing.config_models import DataConfig
from pricing.data.build import build_panel
from pricing.data.contract import check
from pricing.data.panel import Panel, load_panel, save_panel
from pricing.data.source import read_sales
from pricing.demand.grades import CATEGORY, OWN_HISTORY, TESTED
from pricing.demand.model import DemandModel, add_products
from pricing.errors import SourceError
from pricing.registry.version import LoadedVersion
from serving.routes.catalogue import elasticity_of
from tests.kit.demand_fakes import make_model, make_panel
from tests.kit.versions import FIGURES, loaded_version

CONFIG = DataConfig(
    period="day",
    country="US",
    margin={"default": 0.5},
    list_price_window=4,
    list_price_quantile=0.7,
    promo_cut=0.1,
)
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


def test_a_series_without_a_parent_is_its_own() -> None:
    panel = build_panel(sales(tea_a="tea", tea_b="tea", jam=None), CONFIG)

    assert panel.product_ids.tolist() == ["jam", "tea@a", "tea@b"]
    assert panel.parent_ids is not None
    assert panel.parent_ids.tolist() == ["jam", "tea", "tea"]
    assert any("2 of 3 series share the elasticity of 1 products" in note for note in panel.notes)


def test_an_id_with_a_store_in_it_says_nothing_of_a_parent() -> None:
    frame = sales(tea_a=None, tea_b=None)

    panels = [build_panel(one, CONFIG) for one in (frame, frame.drop(columns="parent_id"))]

    for field in dataclasses.fields(Panel):
        assert_array_equal(getattr(panels[0], field.name), getattr(panels[1], field.name))
    assert panels[0].parent_ids is None


def test_the_latest_parent_counts_and_a_change_is_noted() -> None:
    panel = build_panel(sales(tea_a=["old", "old", "tea", None], tea_b="tea"), CONFIG)

    assert panel.parent_ids is not None
    assert panel.parent_ids.tolist() == ["tea", "tea"]
    assert any("parent_id changes over time on 1 products, first 'tea@a'" in note for note in panel.notes)


def test_newer_rows_and_their_past_give_the_parents_of_the_whole_history() -> None:
    frame = sales(tea_a="tea", tea_b="tea", jam=None)
    newer = frame[(frame["date"] == DAYS[3])].copy()
    newer.loc[newer["product_id"] == "tea@b", "parent_id"] = None
    past = build_panel(frame[frame["date"] < DAYS[3]], CONFIG)

    panel = build_panel(newer, CONFIG, past=past)

    assert panel.parent_ids is not None
    assert panel.parent_ids.tolist() == ["jam", "tea", "tea"]


def test_parents_follow_their_series_when_some_are_selected() -> None:
    panel = build_panel(sales(tea_a="tea", tea_b="tea", jam=None), CONFIG)

    some = panel.select(np.array([0, 2])).through(panel.dates[1])

    assert some.parent_ids is not None
    assert some.parent_ids.tolist() == ["jam", "tea"]


def test_a_saved_panel_has_its_parents_again(tmp_path: Path) -> None:
    panel = build_panel(sales(tea_a="tea", tea_b="tea"), CONFIG)
    save_panel(panel, tmp_path / "panel")

    assert_array_equal(load_panel(tmp_path / "panel").parent_ids, panel.parent_ids)


def test_a_panel_whose_parents_are_lost_is_refused(tmp_path: Path) -> None:
    save_panel(build_panel(sales(tea_a="tea", tea_b="tea"), CONFIG), tmp_path / "panel")
    (tmp_path / "panel" / "parent_ids.npy").unlink()

    with pytest.raises(SourceError, match="parent_ids"):
        load_panel(tmp_path / "panel")


def test_a_parents_leading_zeros_stay(tmp_path: Path) -> None:
    sales(tea_a="0012", tea_b="0012").to_csv(tmp_path / "sales.csv", index=False)

    checked = check(read_sales(str(tmp_path / "sales.csv")), where="sales.csv")

    assert set(checked.clean["parent_id"]) == {"0012"}


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


def with_series(panel: Panel, name: str, *, parent: str | None, category: str = "b") -> Panel:
    """The panel with one more series, a copy of P1."""
    more = panel.select(np.array([0, 1, 2, 3, 4, 1]))
    ids = np.array([*panel.product_ids, name])
    parents = None if parent is None else np.array([*ids[:5], parent])
    return replace(more, product_ids=ids, parent_ids=parents, categories=np.array([*panel.categories, category]))


def test_all_series_of_a_product_show_one_elasticity_whatever_their_list_prices() -> None:
    model = chain_model(make_panel())
    model = replace(model, list_price=np.array([8.0, 10.0, 10.0, 10.0, 13.0], np.float32))

    mean, low, high = model.table().elasticities(np.arange(5))

    for values, alone in zip((mean, low, high), model.table().elasticities(np.array([2])), strict=True):
        assert values[0] == values[2] == values[4] == alone[0] != values[1]


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


@pytest.mark.parametrize("parent", ["R", None])
def test_a_new_series_of_no_known_product_takes_its_categorys(parent: str | None) -> None:
    panel = make_panel()
    model = chain_model(panel)

    grown = add_products(model, with_series(panel, "P9", parent=parent))

    assert grown.norms.elasticity[5] == model.priors.elasticity[1]
    assert grown.grade[5] == CATEGORY
    assert grown.parent_ids[5] == "P9"


def test_a_new_series_may_be_of_a_product_that_stood_alone() -> None:
    panel = make_panel()
    model = make_model(panel)
    model = replace(model, norms=replace(model.norms, elasticity=np.linspace(-3, -2, 5).astype(np.float32)))

    grown = add_products(model, with_series(panel, "P9", parent="P3"))

    assert grown.norms.elasticity[5] == model.norms.elasticity[3]
    assert grown.parent_ids.tolist() == ["P0", "P1", "P2", "P3", "P4", "P3"]


@pytest.mark.parametrize("rebuild", [False, True])
def test_a_refresh_keeps_the_parents_that_elasticities_were_estimated_with(rebuild: bool) -> None:
    panel = make_panel()
    model = chain_model(panel.through(panel.dates[-6]))

    carried = model.refresh(replace(with_series(panel, "P9", parent="Q"), notes=()), rebuild=rebuild)
    again = carried.refresh(with_series(panel, "P9", parent=None), rebuild=rebuild)
    loaded = DemandModel.from_arrays(again.to_arrays(), again.meta())

    for one in (carried, again, loaded):
        assert one.parent_ids.tolist() == ["Q", "P1", "Q", "P3", "Q", "Q"]
    assert len({float(value) for value in loaded.table().elasticities(np.array([0, 2, 4, 5]))[0]}) == 1


@cache
def version() -> LoadedVersion:
    """The shared version, whose first three products are series of one."""
    made = loaded_version()
    demand, shared = made.demand, [0, 1, 2]
    ids, elasticity, sd = demand.product_ids.astype("<U20"), demand.elasticity.copy(), demand.elasticity_sd.copy()
    ids[shared], elasticity[shared], sd[shared] = "the <tea>", elasticity[0], sd[0]
    return replace(made, demand=replace(demand, parent_ids=ids, elasticity=elasticity, elasticity_sd=sd))


def test_the_service_says_whose_elasticity_a_product_has() -> None:
    answers = [elasticity_of("7", version(), row) for row in range(4)]

    assert [one.parent_id for one in answers] == ["the <tea>"] * 3 + [None]
    assert [one.shared_by for one in answers] == [3, 3, 3, 1]
    assert len({(one.elasticity, one.low, one.high) for one in answers[:3]}) == 1


def test_card_and_page_say_which_series_share_an_elasticity() -> None:
    found = analyse(version())
    page = sensitivity_page(found, {}, title="t")

    card = model_card(replace(version(), backtest=FIGURES), model="pricing")

    assert "is shared by 3 series of the &lt;tea&gt;." in card
    assert found.summary["shared_by"].tolist()[:4] == [3, 3, 3, 1]
    assert "shared by 3 of the &lt;tea&gt;" in page
