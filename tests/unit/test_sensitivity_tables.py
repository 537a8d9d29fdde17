"""The tables and the page of a sensitivity analysis, and how little of them grows with the products."""

from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from pipelines.reports.price_plots import PRICE_PLOTS
from pipelines.reports.sensitivity import (
    Sensitivity,
    analyse,
    dependence,
    price_levels,
    seen_ratios,
    sensitivity_page,
    spread_over,
)
from pricing.demand.sensitivity import CONTEXTS, ORDINARY
from pricing.registry.version import LoadedVersion, load, shown_elasticities
from serving.routes.catalogue import elasticity_of
from tests.kit.versions import shared_panel, shared_version

LISTED = 1.0


@cache
def version() -> LoadedVersion:
    return load(shared_version())


@cache
def found() -> Sensitivity:
    return analyse(version(), shared_panel())


def listed(table: pd.DataFrame, context: str = ORDINARY.name) -> pd.DataFrame:
    return table[(table["context"] == context) & np.isclose(table["ratio"], LISTED)]


def test_every_product_has_its_elasticity_with_an_interval() -> None:
    summary = found().summary

    assert summary["product_id"].tolist() == version().facts.product_ids.tolist()
    assert (summary["elasticity_low"] < summary["elasticity"]).all()
    assert (summary["elasticity"] < summary["elasticity_high"]).all()
    assert set(summary["source"]) == {"model"}
    assert set(summary["grade"]) == {"own_history"}
    assert "<td>own history</td>" in sensitivity_page(found(), {}, title="x")


def test_the_elasticity_is_the_one_of_the_service_in_table_and_page() -> None:
    demand = version().demand
    shown = shown_elasticities(demand, np.arange(len(demand.product_ids)))
    served = [elasticity_of("7", version(), row) for row in range(len(demand.product_ids))]

    page = sensitivity_page(found(), {}, title="x")

    assert found().summary["elasticity"].tolist() == shown["elasticity"].tolist()
    assert [one.elasticity for one in served] == shown["elasticity"].tolist()
    assert [(one.low, one.high) for one in served] == list(
        zip(found().summary["elasticity_low"], found().summary["elasticity_high"], strict=True)
    )
    for one in served:
        assert f"<td>{one.elasticity:.2f}</td><td>{one.low:.2f} to {one.high:.2f}</td>" in page
    for category, part in found().summary.groupby("category"):
        assert f"<td>{category}</td><td>{len(part)}</td><td>{part['elasticity'].median():.2f}</td>" in page


def test_the_slope_of_a_curve_goes_by_another_name_than_the_elasticity() -> None:
    tables = found()

    assert "elasticity" not in {*tables.products.columns, *tables.categories.columns}
    assert (listed(tables.products)["slope"].to_numpy() != tables.summary["elasticity"].to_numpy()).all()


def test_every_context_and_price_level_is_in_the_tables() -> None:
    products, categories = found().products, found().categories

    levels = len(price_levels((0.7, 1.35)))
    assert len(products) == 12 * len(CONTEXTS) * levels
    assert len(categories) == len(set(version().facts.categories.tolist())) * len(CONTEXTS) * levels
    assert set(products["context"]) == {context.name for context in CONTEXTS}


def test_revenue_and_profit_are_units_times_price_and_margin() -> None:
    products = found().products
    cost = dict(zip(version().facts.product_ids.tolist(), version().facts.unit_cost.tolist(), strict=True))
    margin = products["price"] - products["product_id"].map(cost)

    for end in ("", "_low", "_high"):
        assert products[f"revenue{end}"].to_numpy() == pytest.approx(
            (products[f"units{end}"] * products["price"]).to_numpy()
        )
    assert products["profit"].to_numpy() == pytest.approx((products["units"] * margin).to_numpy())
    assert (products["profit_low"] <= products["profit"]).all()
    assert (products["profit"] <= products["profit_high"]).all()


def test_a_category_sells_what_its_products_sell() -> None:
    products, categories = found().products, found().categories

    sums = products.groupby(["category", "context", "ratio"])[["units", "revenue", "profit"]].sum()
    table = categories.set_index(["category", "context", "ratio"]).loc[sums.index]

    for name in ("units", "revenue", "profit"):
        assert table[name].to_numpy() == pytest.approx(sums[name].to_numpy())


def test_a_categorys_slope_is_that_of_its_products_weighted_by_units() -> None:
    part = listed(found().products)

    mean = (part["slope"] * part["units"]).groupby(part["category"]).sum() / part.groupby("category")["units"].sum()

    table = listed(found().categories).set_index("category")["slope"]
    assert table.to_numpy() == pytest.approx(mean[table.index].to_numpy(), rel=0.01)


def test_dearer_never_sells_more_in_any_context() -> None:
    for _, rows in found().products.groupby(["product_id", "context"]):
        assert (np.diff(rows["units"]) < 0).all()


def test_a_price_counts_as_seen_between_those_of_the_last_year() -> None:
    low, high = seen_ratios(shared_panel())
    rows = found().products.merge(
        pd.DataFrame({"product_id": version().facts.product_ids, "low": low, "high": high}), on="product_id"
    )

    assert (rows["seen"] == ((rows["ratio"] >= rows["low"]) & (rows["ratio"] <= rows["high"]))).all()
    assert 0 < rows["seen"].mean() < 1


@pytest.mark.parametrize("band", [(0.7, 1.35), (0.5, 1.0), (1.0, 1.2), (0.9, 1.1), (1.0, 1.0), (0.71, 1.33)])
def test_price_levels_rise_from_end_to_end_and_hold_list_price(band: tuple[float, float]) -> None:
    levels = price_levels(band)

    assert levels[0] == band[0]
    assert levels[-1] == band[1]
    assert (np.diff(levels) > 0.01).all()
    assert np.isclose(levels, 1.0).sum() == 1


def test_a_sample_holds_the_largest_and_the_smallest_and_no_more_than_asked() -> None:
    size = np.array([5.0, np.nan, 9.0, 1.0, 7.0])

    assert spread_over(size, count=2).tolist() == [2, 1]
    assert spread_over(size, count=99).tolist() == [2, 4, 0, 3, 1]


def test_curves_and_plots_do_not_grow_with_the_products() -> None:
    few = analyse(version(), shared_panel(), most=4)

    assert few.products["product_id"].nunique() == 4
    assert len(few.summary) == 12
    assert few.categories["units"].sum() == pytest.approx(found().categories["units"].sum())


def test_without_products_of_a_category_the_others_are_still_drawn() -> None:
    facts = version().facts
    unnamed = replace(facts, categories=np.where(np.arange(12) < 3, "", facts.categories))

    some = analyse(replace(version(), facts=unnamed), shared_panel())

    assert "unknown" in set(some.categories["category"])
    assert all(draw(some).axes for draw in PRICE_PLOTS.values())


def test_the_page_says_of_each_context_whether_the_slope_depends_on_it() -> None:
    weekend, promotion, others, level = dependence(found())

    assert weekend.startswith("Weekend: differs")
    assert promotion.startswith("Promotion: differs")
    assert others.startswith("Not on: holiday, competitor 10 % below, competitor 10 % above.")
    assert level.startswith("Price level: from the lowest to the highest it moves by -")


def test_a_dependence_that_is_there_is_said() -> None:
    tables = found()
    products = tables.products.copy()
    holiday = products["context"] == "holiday"
    products.loc[holiday, "slope"] -= 0.5
    products["slope_low"] -= products["ratio"]

    said = dependence(replace(tables, products=products))

    assert any(words.startswith("Holiday: differs from ordinary days by up to 0.5") for words in said)
    assert said[-1].startswith("Price level: from the lowest to the highest it moves by")


class Text(HTMLParser):
    """The cells of a page, and whether its tags match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "td":
            self.cells.append(data)


def test_the_page_is_whole_and_names_are_not_taken_for_tags() -> None:
    tables = found()
    summary = tables.summary.assign(
        product_id=["<b>&", *tables.summary["product_id"].tolist()[1:]], profit=range(12, 0, -1)
    )

    page = sensitivity_page(replace(tables, summary=summary), {"plot_of_it": b"png"}, title="A < B")

    text = Text()
    text.feed(page)
    assert not text.open
    assert "<b>&" in text.cells
    assert set(summary["product_id"]) <= set(text.cells)
    assert "data:image/png;base64,cG5n" in page


def test_no_name_of_a_product_or_category_is_markup_on_the_page() -> None:
    evil = "</td><script>alert(1)</script><img src=x onerror=alert(1)>"
    frames = {name: getattr(found(), name).copy() for name in ("summary", "products", "categories")}
    for frame in frames.values():
        for column in {"product_id", "category"} & set(frame.columns):
            frame[column] = evil + frame[column].astype(str)

    page = sensitivity_page(replace(found(), **frames), {}, title=evil)

    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert "<img src=x" not in page
