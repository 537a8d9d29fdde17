"""The figures of the report of sales, against pandas over the rows that the panel was built from."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.reports.etl_figures import Figures, count_figures, longest_run
from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.data.missing_rows import counts_told
from pricing.data.panel import Panel
from tests.kit.messy_shop import HOSTILE, messy_sales
from tests.kit.panels import panel_frame

CONFIG = load_config()


@pytest.fixture(scope="module")
def panel() -> Panel:
    return build_panel(messy_sales(products=24, days=200), CONFIG.data)


@pytest.fixture(scope="module")
def figures(panel: Panel) -> Figures:
    return count_figures(panel, CONFIG)


@pytest.fixture(scope="module")
def rows(panel: Panel) -> pd.DataFrame:
    return panel_frame(panel).sort_values(["product_id", "date"])


def table(figures: Figures) -> pd.DataFrame:
    return pd.DataFrame(figures.table.model_dump()).set_index("product_id")


def test_sizes_and_days_are_those_of_the_rows(figures: Figures, rows: pd.DataFrame) -> None:
    assert (figures.products, figures.rows) == (rows["product_id"].nunique(), len(rows))
    assert (figures.first, figures.last) == (str(rows["date"].min().date()), str(rows["date"].max().date()))


def test_each_products_counts_are_those_of_a_groupby(figures: Figures, rows: pd.DataFrame) -> None:
    found, of = table(figures), rows.groupby("product_id")

    assert found["rows"].to_dict() == of.size().to_dict()
    assert found["first"].to_dict() == of["date"].min().dt.strftime("%Y-%m-%d").to_dict()
    assert found["last"].to_dict() == of["date"].max().dt.strftime("%Y-%m-%d").to_dict()
    assert found["zero_rows"].to_dict() == of["units_sold"].agg(lambda units: int((units == 0).sum())).to_dict()
    assert found["units"].to_dict() == pytest.approx(of["units_sold"].sum().astype(float).to_dict(), abs=0.01)
    assert found["promotions"].to_dict() == of["is_promo"].sum().astype(int).to_dict()
    assert found["comp_known"].to_dict() == of["comp_price"].count().to_dict()


def test_gaps_are_the_days_between_first_and_last_row_less_the_rows(figures: Figures, rows: pd.DataFrame) -> None:
    found = table(figures)
    spans = rows.groupby("product_id")["date"].agg(
        gaps=lambda days: (days.max() - days.min()).days + 1 - len(days),
        longest=lambda days: int((days.diff().dt.days.fillna(1) - 1).max()),
    )

    assert found["gaps"].to_dict() == spans["gaps"].to_dict()
    assert found["longest_gap"].to_dict() == spans["longest"].to_dict()
    assert figures.gaps == spans["gaps"].sum() > 0
    assert figures.products_with_gaps == (spans["gaps"] > 0).sum()


def test_prices_and_changes_are_those_of_a_slow_loop(figures: Figures, rows: pd.DataFrame) -> None:
    found = table(figures)
    for name, own in rows.groupby("product_id"):
        prices: list[float] = []
        changes = 0
        for price in sorted(own["price"]):
            if not prices or np.log(price) - np.log(prices[-1]) > 0.002:
                prices.append(price)
        days, charged = own["date"].tolist(), own["price"].tolist()
        for at in range(1, len(own)):
            beside = days[at] - days[at - 1] == pd.Timedelta(days=1)
            changes += bool(beside and abs(np.log(charged[at] / charged[at - 1])) > 0.002)

        assert found.loc[name, "changes"] == changes
        # neighbours, not a chain, are compared: prices that creep count once
        assert abs(found.loc[name, "prices"] - len(prices)) <= 1


def test_sold_out_shares_count_rows_with_a_stock(figures: Figures, rows: pd.DataFrame) -> None:
    counted = rows[rows["stock"].notna()].assign(out=lambda frame: frame["units_sold"] >= frame["stock"])
    by_product = counted.groupby("product_id")["out"].mean()
    by_category = counted.groupby("category")["out"].mean()

    assert table(figures)["sold_out"].to_dict() == pytest.approx(by_product.to_dict(), abs=1e-5)
    assert {one.name: one.sold_out for one in figures.categories} == pytest.approx(by_category.to_dict(), abs=1e-5)
    assert figures.stock.share == pytest.approx(counted["out"].mean(), abs=1e-5)
    assert figures.stock.mostly == (by_product >= 0.5).sum() == 3


def test_promotions_at_list_price_are_counted(figures: Figures, rows: pd.DataFrame) -> None:
    offered = rows[rows["is_promo"] == 1]
    uncut = offered[offered["price"] >= offered["list_price"]]

    assert figures.promotions.rows == len(offered)
    assert figures.promotions.uncut == len(uncut) > 0
    assert figures.promotions.products_uncut == uncut["product_id"].nunique()


def test_competitors_ages_are_days_since_the_newest_price(figures: Figures, rows: pd.DataFrame) -> None:
    known = rows[rows["comp_price"].notna()]
    ages = (rows["date"].max() - known.groupby("product_id")["date"].max()).dt.days

    assert table(figures)["comp_age"].dropna().to_dict() == ages.to_dict()
    assert figures.competitor.median_age == ages.median()
    assert figures.competitor.oldest_age == ages.max()
    assert figures.competitor.old == (ages > 7).sum()
    assert figures.competitor.newest == 0.0


def test_ages_that_the_panel_knows_are_added(panel: Panel) -> None:
    aged = replace(panel)
    object.__setattr__(aged, "comp_price_age", np.full(panel.price.shape, 3.0))

    plain, old = count_figures(panel, CONFIG), count_figures(aged, CONFIG)

    pairs = zip(plain.table.comp_age, old.table.comp_age, strict=True)
    assert all(later == (None if before is None else before + 3) for before, later in pairs)


def test_coverage_counts_rows_units_and_products_on_sale_by_day(figures: Figures, rows: pd.DataFrame) -> None:
    by_day = rows.groupby(rows["date"].dt.strftime("%Y-%m-%d"))
    cover = figures.coverage
    spans = rows.groupby("product_id")["date"].agg(["min", "max"])
    end = rows["date"].max()
    until = spans["max"].where(end - spans["max"] > pd.Timedelta(days=28), end)
    on_sale = [int(((spans["min"] <= day) & (until >= day)).sum()) for day in pd.to_datetime(cover.dates)]

    assert dict(zip(cover.dates, cover.rows, strict=True)) == by_day.size().to_dict()
    assert cover.units == pytest.approx(by_day["units_sold"].sum().tolist(), abs=0.01)
    assert cover.expected == on_sale


def test_a_product_that_is_gone_for_long_is_not_expected_one_that_lacks_for_days_is() -> None:
    days = pd.date_range("2026-03-02", periods=60)
    names = {"stays": 60, "gone": 20, "late": 55}
    frame = pd.concat(
        [
            pd.DataFrame({"date": days[:count], "product_id": name, "units_sold": 5, "price": 4.99})
            for name, count in names.items()
        ]
    )

    cover = count_figures(build_panel(frame, CONFIG.data), CONFIG).coverage

    assert cover.expected == [3] * 20 + [2] * 40
    assert cover.rows == [3] * 20 + [2] * 35 + [1] * 5


def test_shares_and_counts_of_grades_add_up(figures: Figures) -> None:
    assert sum(one.products for one in figures.grades) == figures.products
    assert sum(one.units for one in figures.grades) == pytest.approx(1.0, abs=1e-4)
    assert sum(one.products for one in figures.reasons) == figures.products - figures.grades[0].products
    assert sum(one.products for one in figures.categories) == figures.products
    assert all(sum(one.products for one in counts) == figures.products
               for counts in (figures.price_points, figures.price_changes))  # fmt: skip


def test_products_of_one_price_are_said_to_be_so(figures: Figures) -> None:
    found = table(figures)

    assert found.loc[HOSTILE, "reason"] == "one_price"
    assert {one.name: one.products for one in figures.reasons}["one_price"] == 5
    assert {one.name: one.products for one in figures.price_points}["1"] == 5


def test_a_cost_that_is_missing_for_good_is_counted_as_assumed(figures: Figures) -> None:
    assert figures.cost_assumed.products == sum(figures.table.cost_assumed) == 1


@pytest.mark.parametrize("setting", ["zero", "unknown"])
def test_what_absent_rows_were_taken_for_is_told(setting: str) -> None:
    config = CONFIG.model_copy(update={"data": CONFIG.data.model_copy(update={"missing": setting, "zero_run": None})})
    frame = messy_sales(products=20, days=150)
    built = build_panel(frame, config.data)

    found = count_figures(built, config)

    spans = frame.groupby("product_id")["date"].agg(["min", "max", "size"])
    inside = int(((spans["max"] - spans["min"]).dt.days + 1 - spans["size"]).sum())
    until_end = int(((frame["date"].max() - spans["min"]).dt.days + 1 - spans["size"]).sum())
    assert found.missing.setting == setting
    assert found.missing.zeros == (until_end if setting == "zero" else 0)
    assert found.missing.unknown == (0 if setting == "zero" else inside)
    assert found.gaps == (0 if setting == "zero" else inside)


def test_notes_of_other_things_count_as_no_missing_rows() -> None:
    assert counts_told(["stock is not given on 3 rows."]) == {"zeros": 0, "unknown": 0, "doubted": 0}


@given(st.lists(st.lists(st.booleans(), min_size=9, max_size=9), min_size=1, max_size=4))
def test_the_longest_run_is_that_of_a_slow_loop(marked: list[list[bool]]) -> None:
    longest = [max(map(len, "".join("x" if one else " " for one in row).split()), default=0) for row in marked]

    assert longest_run(np.array(marked)).tolist() == longest


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_rows_changes_no_figure(seed: int) -> None:
    frame = messy_sales(products=18, days=60)

    shuffled = frame.sample(frac=1.0, random_state=seed)

    ours, theirs = (count_figures(build_panel(one, CONFIG.data), CONFIG) for one in (frame, shuffled))
    assert ours == theirs


def test_a_panel_without_sales_stock_or_competitor_is_counted() -> None:
    days = pd.date_range("2026-03-02", periods=3)
    frame = pd.DataFrame({"date": days, "product_id": "tea", "units_sold": 0, "price": 4.99})

    found = count_figures(build_panel(frame, CONFIG.data.model_copy(update={"zero_run": None})), CONFIG)

    assert found.stock.share is None
    assert found.competitor.median_age is None
    assert found.table.silent == [3]
    assert [one.name for one in found.reasons] == ["no_sales"]


def test_counting_modifies_nothing(panel: Panel) -> None:
    before = {name: value.copy() for name, value in vars(panel).items() if isinstance(value, np.ndarray)}

    count_figures(panel, CONFIG)

    for name, value in before.items():
        np.testing.assert_array_equal(getattr(panel, name), value)
