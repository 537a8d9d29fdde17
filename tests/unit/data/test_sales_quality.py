"""Checks of sales: each fault is found by its check, with its level and days, and honest sales have no finding."""

import datetime as dt
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pricing.config import load_config
from pricing.config_models import DataConfig, QualityConfig
from pricing.data.build import build_panel
from pricing.data.contract import check
from pricing.data.findings import Finding, Level, QualityError, load_findings, save_findings, tags
from pricing.data.own_prices import Moves
from pricing.data.panel import Panel
from pricing.data.quality import Judged, judge
from pricing.errors import SourceError
from simulation.market import MarketConfig, simulate

PRODUCTS, DAYS = 12, 130
START = np.datetime64("2024-01-01")
LAST = DAYS - 1
FAULT = LAST - 2  # 7 May: three nights are spoilt, and day and month can be swapped
CONFIG = load_config().data.model_copy(update={"missing": "zero", "tax_rate": 0.0})
Change = Callable[[pd.DataFrame], pd.DataFrame | None]


@cache
def sound() -> pd.DataFrame:
    """Twelve products in two categories, with cuts, promotions and a competitor who moves every day."""
    rng = np.random.default_rng(4)
    product, day = (axis.ravel() for axis in np.meshgrid(np.arange(PRODUCTS), np.arange(DAYS), indexing="ij"))
    list_price = np.round(rng.uniform(2, 60, PRODUCTS), 2)[product]
    promo = rng.random(len(product)) < 0.1
    return pd.DataFrame(
        {
            "date": (START + day).astype("datetime64[s]"),
            "product_id": [f"P{row:02d}" for row in product],
            "category": [("tea", "jam")[row % 2] for row in product],
            "units_sold": rng.poisson(np.where(promo, 60.0, 24.0)).astype(float),
            "price": np.round(list_price * np.where(promo, rng.choice([0.5, 0.7], len(product)), 1.0), 2),
            "list_price": list_price,
            "unit_cost": np.round(list_price * 0.6, 2),
            "stock": rng.integers(80, 200, len(product)).astype(float),
            "comp_price": np.round(list_price * rng.uniform(0.8, 1.3, len(product)), 2),
            "is_promo": promo.astype(float),
        }
    )


def day(number: int) -> str:
    return str(START + number)


@cache
def read_before() -> Panel:
    """What a champion has read before the fault."""
    frame = sound()
    return build_panel(frame[frame["date"] < day(FAULT)], CONFIG).through(START + FAULT)


def changed(change: Change | None = None, until: int = LAST) -> pd.DataFrame:
    frame = sound()[sound()["date"] <= day(until)].copy()
    found = change(frame) if change else None
    return frame if found is None else found


def judged(
    change: Change | None = None, *, until: int = LAST, config: DataConfig = CONFIG, others: Any = (), **more: Any
) -> Judged:
    frame = changed(change, until)
    names = [*frame.columns, *others]
    return judge(check(frame, where="sales", period=config.period), config, names=names, **more)


def alarms(change: Change | None = None, *, until: int = LAST, config: DataConfig = CONFIG, **more: Any) -> set[Any]:
    """Check, level and first day of all that is found."""
    try:
        found = judged(change, until=until, config=config, **more).findings
    except QualityError as error:
        found = error.findings
    return {(one.check, one.level, one.first) for one in found}


def since(frame: pd.DataFrame, number: int = FAULT) -> "pd.Series[bool]":
    return frame["date"] >= day(number)


def scale(
    columns: tuple[str, ...], factor: float, *, number: int = FAULT, category: str = "", one: bool = False
) -> Change:
    def change(frame: pd.DataFrame) -> None:
        rows = (frame["date"] == day(number)) if one else since(frame, number)
        rows &= frame["category"].eq(category) | (category == "")
        frame.loc[rows, list(columns)] *= factor

    return change


def put(column: str, value: float) -> Change:
    return lambda frame: frame.assign(**{column: frame[column].mask(since(frame), value)})


def frozen(column: str) -> Change:
    def change(frame: pd.DataFrame) -> None:
        last = frame[frame["date"] == day(FAULT - 1)].set_index("product_id")[column]
        frame.loc[since(frame), column] = frame["product_id"].map(last)

    return change


def lost(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["date"] != day(FAULT)]


def without(number: int) -> Change:
    return lambda frame: frame[~(since(frame, number) & (frame["product_id"] < "P06"))]


def renamed_ids(frame: pd.DataFrame) -> None:
    frame.loc[since(frame), "product_id"] = "N" + frame["product_id"]


def row(product: str, number: int, column: str, factor: float) -> Change:
    def change(frame: pd.DataFrame) -> None:
        frame.loc[(frame["date"] == day(number)) & (frame["product_id"] == product), column] *= factor

    return change


def swapped(first: str, second: str) -> Change:
    def change(frame: pd.DataFrame) -> None:
        frame.loc[since(frame), [first, second]] = frame.loc[since(frame), [second, first]].to_numpy()

    return change


def by_one(*columns: str) -> Change:
    """Values of the night's columns stand beside the next product."""

    def change(frame: pd.DataFrame) -> None:
        for number in range(FAULT, DAYS):
            rows = frame["date"] == day(number)
            for name in columns:
                frame.loc[rows, name] = np.roll(frame.loc[rows, name].to_numpy(), 1)

    return change


def inverted(number: int) -> Change:
    """Offers of a day and all later ones are none, and others are."""
    return lambda frame: frame.assign(is_promo=frame["is_promo"].mask(since(frame, number), 1 - frame["is_promo"]))


def on_a_holiday(change: Change) -> Change:
    """The change, whose first day is a holiday, on which no shop is as usual."""

    def first(frame: pd.DataFrame) -> pd.DataFrame:
        found = change(frame)
        frame = frame if found is None else found
        return frame.assign(is_holiday=(frame["date"] == day(FAULT)).astype(float))

    return first


def category_unsold(frame: pd.DataFrame) -> None:
    frame.loc[since(frame) & frame["category"].eq("jam"), "units_sold"] = 0.0


STOP: Level = "stop"
ASIDE: Level = "set_aside"
NOTE: Level = "note"
FAULTS: dict[str, tuple[Change, str, str, int]] = {
    "all × 100": (scale(("price", "list_price"), 100), "price_unit", STOP, FAULT),
    "one day ÷ 12": (scale(("price", "list_price"), 1 / 12, one=True), "price_unit", STOP, FAULT),
    "one category × 2": (scale(("price",), 2, category="jam"), "price_unit", STOP, FAULT),
    "costs × 100": (scale(("unit_cost",), 100), "price_unit", STOP, FAULT),
    "net of tax": (scale(("price", "list_price"), 1 / 1.19), "new_prices", STOP, FAULT),
    "net of 5 %": (scale(("price", "list_price"), 1 / 1.05), "new_prices", STOP, FAULT),
    "net of 25 %": (scale(("price", "list_price"), 1 / 1.25), "new_prices", STOP, FAULT),
    "net of tax from a holiday on": (on_a_holiday(scale(("price",), 1 / 1.19)), "new_prices", STOP, FAULT + 1),
    "offers inverted from a holiday on": (on_a_holiday(inverted(FAULT)), "promo_flags", STOP, FAULT + 1),
    "a price × 100": (row("P07", 60, "price", 100), "price_outlier", ASIDE, 60),
    "a price ÷ 100": (row("P07", 60, "price", 0.01), "price_outlier", ASIDE, 60),
    "an early price × 100": (row("P07", 2, "price", 100), "price_outlier", ASIDE, 2),
    "a cost × 100": (row("P07", 60, "unit_cost", 100), "price_outlier", ASIDE, 60),
    "a total among units": (row("P07", 60, "units_sold", 9000), "units", ASIDE, 60),
    "cases of 20": (scale(("units_sold",), 0.05), "units", STOP, FAULT),
    "a day lost": (lost, "lost_days", ASIDE, FAULT),
    "products missing": (without(FAULT), "lost_days", ASIDE, FAULT),
    "a till of zeros": (put("units_sold", 0), "lost_days", ASIDE, FAULT),
    "competitor missing": (put("comp_price", np.nan), "lost_columns", ASIDE, FAULT),
    "stock 0": (put("stock", 0), "lost_columns", ASIDE, FAULT),
    "stock frozen": (frozen("stock"), "lost_columns", ASIDE, FAULT),
    "units doubled": (scale(("units_sold",), 2), "units", STOP, FAULT),
    "yesterday's units": (frozen("units_sold"), "units", STOP, FAULT),
    "units and stock swapped": (swapped("units_sold", "stock"), "units", STOP, FAULT),
    "offers inverted": (inverted(LAST), "promo_flags", STOP, LAST),
    "one stock": (put("stock", 150.0), "stock", ASIDE, FAULT),
    "one competitor's price": (put("comp_price", 9.99), "competitor", ASIDE, FAULT),
    "competitor moved by one": (by_one("comp_price"), "competitor", ASIDE, FAULT),
    "another currency": (scale(("price", "list_price"), 1.0837), "new_prices", STOP, FAULT),
    "ids changed": (renamed_ids, "renamed_ids", STOP, FAULT),
    "two spellings": (lambda frame: frame.replace({"product_id": {"P01": "p00"}}), "duplicates", NOTE, 0),
    "competitor × 100": (scale(("comp_price",), 100), "competitor", ASIDE, FAULT),
    "competitor is ours": (lambda frame: frame.assign(comp_price=frame["price"]), "competitor", ASIDE, 0),
    "stock 0 throughout": (lambda frame: frame.assign(stock=0.0), "coverage", ASIDE, 0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_by_its_check_with_level_and_first_day_and_by_no_other(fault: str) -> None:
    change, name, level, first = FAULTS[fault]

    assert alarms(change) == {(name, level, day(first))}


def test_honest_sales_have_no_finding() -> None:
    assert [alarms(until=until) for until in (60, FAULT, LAST)] == [set()] * 3
    assert alarms(known=read_before(), today=dt.date.fromisoformat(day(LAST))) == set()


HONEST: dict[str, Change] = {
    "a sale of the whole shop": scale(("price",), 0.4),
    "a fifth off everything": scale(("price",), 0.8),
    "clearance of a category": scale(("price",), 0.2, category="tea"),
    "inflation": scale(("price", "list_price", "unit_cost"), 1.3),
    "the end of a long promotion": lambda frame: frame.assign(
        price=frame["price"].where(since(frame), (frame["list_price"] * 0.4).round(2))
    ),
    "back to list price after a season of 30 % off": lambda frame: frame.assign(
        price=frame["price"].where(since(frame), (frame["list_price"] * 0.7).round(2))
    ),
    "no column but the needed": lambda frame: frame[["date", "product_id", "units_sold", "price"]],
}


@pytest.mark.parametrize("world", HONEST)
def test_what_a_shop_may_do_is_no_fault(world: str) -> None:
    assert {one for one in alarms(HONEST[world]) if one[1] != NOTE} == set()


def test_a_category_without_sales_is_set_aside_on_its_days() -> None:
    assert ("lost_days", ASIDE, day(FAULT)) in alarms(category_unsold)


def test_an_example_of_missing_rows_has_no_value() -> None:
    missing = judged(lambda frame: frame[~(since(frame) & frame["category"].eq("jam"))]).findings

    assert {one.example for one in missing if one.check == "lost_days"} == {f"'P01' on {day(FAULT)}"}


def newly_priced(frame: pd.DataFrame, number: int = LAST) -> None:
    """Each product's night has a price that it never had, by no common factor."""
    rows = frame["date"] == day(number)
    factor = np.linspace(1.021, 1.197, PRODUCTS)
    frame.loc[rows, "price"] = (frame.loc[rows, "list_price"] * factor).round(2)


def moves(*, days_before: int = 0, factor: float = 1.0) -> Moves:
    """The prices of that night, given some days before."""
    night = changed(newly_priced)
    night = night[night["date"] == day(LAST)]
    date = np.full(PRODUCTS, START + LAST - days_before)
    return Moves(night["product_id"].to_numpy(str), date, night["price"].to_numpy() * factor, days=date[:1])


def test_new_prices_of_most_products_stop_unless_the_platform_gave_them() -> None:
    stopped = {("new_prices", STOP, day(LAST))}

    assert alarms(newly_priced) == stopped
    assert alarms(newly_priced, given=moves()) == set()
    assert alarms(newly_priced, given=moves(days_before=28)) == set()  # a label that took days
    assert alarms(newly_priced, given=moves(days_before=29)) == stopped
    assert alarms(newly_priced, given=moves(factor=1.02)) == stopped


def test_a_day_of_new_prices_that_is_accepted_goes_on() -> None:
    accepted = judged(newly_priced, config=limited(accept={"new_prices": day(LAST)}))

    assert {(one.check, one.level) for one in accepted.findings} == {("new_prices", NOTE)}
    assert len(accepted.checked.clean) == len(sound())


def odd_units(frame: pd.DataFrame, number: int = LAST) -> None:
    scale(("units_sold",), 2 if number == LAST else 4, number=number, one=True)(frame)


@pytest.mark.parametrize("ago", [29, 55])
@pytest.mark.parametrize(("check", "change"), [("new_prices", newly_priced), ("units", odd_units)])
def test_an_accepted_day_is_usual_for_no_later_one(ago: int, check: str, change: Any) -> None:
    def twice(frame: pd.DataFrame) -> None:
        change(frame, LAST - ago)
        scale(("price",), 1.013, number=LAST - ago, one=True)(frame)
        change(frame)

    assert (check, STOP, day(LAST)) in alarms(twice, config=limited(accept={check: day(LAST - ago)}))


def test_own_prices_on_days_without_a_sale_are_the_shelfs() -> None:
    def unsold(frame: pd.DataFrame) -> None:
        rows = frame["date"].between(day(100), day(LAST - 1)) & (frame["date"].dt.dayofyear % 3 == 0)
        frame.loc[rows, "units_sold"] = 0.0
        frame.loc[frame["date"] >= day(90), "price"] = frame["list_price"]
        frame.loc[rows, "price"] = frame["list_price"] * 0.98

    night = changed(unsold)
    cut = night[night["price"] == night["list_price"] * 0.98]
    given = Moves(
        cut["product_id"].to_numpy(str),
        cut["date"].to_numpy().astype("datetime64[D]"),
        cut["price"].to_numpy(),
        days=np.unique(cut["date"].to_numpy().astype("datetime64[D]")),
    )

    assert "shelf_price" in {name for name, *_ in alarms(unsold)}
    assert "shelf_price" not in {name for name, *_ in alarms(unsold, given=given)}


@pytest.mark.parametrize("kind", ["default", "clearance", "heavy_tail"])
def test_nothing_is_found_on_simulated_markets(kind: str) -> None:
    market = simulate(MarketConfig(kind, products=40, days=400)).frame()

    assert {one for one in alarms(lambda _: market) if one[1] != NOTE} == set()


def test_rows_in_the_future_are_set_aside_and_old_sales_are_said_where_newer_are_due() -> None:
    last = dt.date.fromisoformat(day(LAST))

    def swapped(frame: pd.DataFrame) -> None:
        dates = frame.loc[since(frame), "date"]
        frame.loc[since(frame), "date"] = dates.map(lambda date: date.replace(month=date.day, day=date.month))

    assert alarms(today=last - dt.timedelta(days=2)) == {("dates", ASIDE, day(LAST))}
    assert alarms(known=read_before(), today=last + dt.timedelta(days=9)) == {("dates", ASIDE, day(DAYS))}
    assert alarms(known=read_before(), today=last + dt.timedelta(days=900)) == set()
    assert STOP in {level for _, level, _ in alarms(swapped, today=last)}


@pytest.mark.parametrize("column", ["unit_cost", "is_promo"])
def test_a_column_that_the_champion_had_and_that_is_gone_stops(column: str) -> None:
    def gone(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.drop(columns=column)

    assert alarms(gone, known=read_before()) == {("lost_columns", STOP, day(0))}
    assert alarms(gone) == set()  # nobody knows that it was there
    assert alarms(gone, others=(f"{column}s",)) == {("lost_columns", NOTE, day(0))}


def new_ids(frame: pd.DataFrame) -> None:
    frame.loc[frame["product_id"] > "P02", "product_id"] = "N" + frame["product_id"]


def newer(factor: float) -> Change:
    """The rows since the fault alone."""
    return lambda frame: frame[since(frame)].assign(price=frame["price"] * factor)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (scale(("price", "list_price"), 100, number=0), {("price_unit", STOP)}),
        (scale(("price", "list_price"), 0.01, number=0), {("price_unit", STOP)}),
        (new_ids, {("renamed_ids", STOP)}),
        (newer(100), {("price_unit", STOP)}),
        (newer(1), set()),
        (lambda frame: frame.drop(columns="stock").assign(product_id="X" + frame["product_id"]), set()),
    ],
    ids=["× 100", "÷ 100", "other ids", "newer rows × 100", "newer rows", "another shop's champion"],
)
def test_sales_are_compared_with_what_the_champion_read(change: Change, expected: set[tuple[str, str]]) -> None:
    assert {one[:2] for one in alarms(change, known=read_before())} == expected


@pytest.mark.parametrize(("factor", "expected"), [(1, set()), (100, {("price_unit", STOP, str(START + 7 * FAULT))})])
def test_weekly_sales_are_judged_by_weeks(factor: float, expected: set[Any]) -> None:
    def weekly(frame: pd.DataFrame) -> pd.DataFrame:
        scale(("price", "list_price"), factor)(frame)
        weeks = (frame["date"].to_numpy().astype("datetime64[D]") - START).astype(int)
        return frame.assign(date=(START + 7 * weeks).astype("datetime64[s]"))

    assert alarms(weekly, config=load_config("weekly").data.model_copy(update={"tax_rate": 0.0})) == expected


@pytest.mark.parametrize("until", [60, 61, LAST])
def test_what_is_set_aside_on_one_night_is_on_every_later_one(until: int) -> None:
    aside = judged(row("P07", 60, "price", 100), until=until).checked.bad_rows

    assert aside["row"].tolist() == [7 * (until + 1) + 60 + 1]
    assert aside["reasons"].str.startswith("price_outlier: ").all()


def test_a_price_that_stays_at_a_new_level_is_believed_after_two_weeks() -> None:
    def dearer(frame: pd.DataFrame) -> None:
        frame.loc[since(frame, 90) & (frame["product_id"] == "P07"), ["price", "list_price", "unit_cost"]] *= 8

    aside = judged(dearer).checked.bad_rows

    assert sorted(set(aside["date"].astype(str).str[:10])) == [day(number) for number in range(90, 104)]


@pytest.mark.parametrize(
    ("change", "cells"),
    [(lost, PRODUCTS), (without(FAULT), 18), (put("units_sold", 0), 3 * PRODUCTS), (row("P07", LAST, "price", 100), 1)],
)
def test_days_and_products_that_did_not_come_are_unknown_and_no_sales_of_none(change: Change, cells: int) -> None:
    result = judged(change)

    assert len(result.unknown[0]) == len(result.unknown[1]) == cells
    panel = build_panel(result.checked.clean, CONFIG, unknown=result.unknown)
    assert not (panel.units_sold == 0)[:, FAULT:].any()


@pytest.mark.parametrize(
    ("change", "column"),
    [
        (put("stock", 0), "stock"),
        (scale(("comp_price",), 10), "comp_price"),
        (scale(("comp_price",), 2), "comp_price"),  # no product's alone is far off
    ],
)
def test_values_at_fault_are_blanked_and_their_rows_stay(change: Change, column: str) -> None:
    clean = judged(change).checked.clean

    assert clean.loc[since(clean), column].isna().all()
    assert len(clean) == len(sound())


def test_a_fault_that_lasts_is_held_until_its_values_are_accepted() -> None:
    accepted = judged(scale(("comp_price",), 2), config=limited(accept={"competitor": day(FAULT)}))

    assert {(one.check, one.level) for one in accepted.findings} == {("competitor", NOTE)}
    assert accepted.checked.clean["comp_price"].notna().all()


def test_a_part_that_is_lost_for_weeks_is_unknown_on_each_of_their_nights() -> None:
    lost_part = scale(("units_sold",), 0, number=LAST - 20, category="jam")

    result = judged(lost_part, config=limited(accept={"units": day(LAST)}))

    assert len(result.unknown[0]) == PRODUCTS // 2 * 21


def test_what_sets_nothing_aside_hides_no_later_finding() -> None:
    def discounts(frame: pd.DataFrame) -> None:
        single = np.random.default_rng(3).random(len(frame)) < 0.15
        frame.loc[single & ~since(frame, FAULT - 1), "price"] *= 0.97
        scale(("price", "list_price"), 1 / 1.07, one=True)(frame)

    assert {("shelf_price", "warning"), ("new_prices", STOP)} <= {one[:2] for one in alarms(discounts)}


def test_a_few_bad_rows_do_not_stop_and_a_feed_of_bad_rows_does() -> None:
    def broken(rows: int) -> Change:
        return lambda frame: frame.assign(price=frame["price"].mask(np.arange(len(frame)) < rows, -1.0))

    assert [(one.check, one.level, one.rows) for one in judged(broken(70)).findings] == [("contract", ASIDE, 70)]
    with pytest.raises(QualityError):
        judged(broken(1400))


def limited(**values: object) -> DataConfig:
    return CONFIG.model_copy(update={"quality": QualityConfig.model_validate(values, strict=False)})


def test_what_a_person_accepts_is_only_noted_until_the_day_said() -> None:
    change = scale(("price", "list_price"), 100)
    accept = {"price_unit": day(LAST), "competitor": day(LAST)}

    accepted = judged(change, config=limited(accept=accept))

    assert {one.level for one in accepted.findings} == {NOTE}
    assert len(accepted.checked.clean) == len(sound())
    with pytest.raises(QualityError):
        judged(change, config=limited(accept={**accept, "price_unit": day(FAULT - 1)}))


def test_days_left_out_by_a_person_are_unknown_and_stop_nothing() -> None:
    first = dt.date.fromisoformat(day(FAULT))

    result = judged(scale(("price",), 100, one=True), config=limited(leave_out=[(first, first)]))

    assert [one.level for one in result.findings] == [NOTE]
    assert (result.checked.bad_rows["date"].astype(str).str[:10] == day(FAULT)).all()
    assert len(result.unknown[0]) == PRODUCTS


def test_findings_come_back_from_their_file_as_they_were_and_another_file_is_refused(tmp_path: Path) -> None:
    found = [Finding("dates", STOP, first="2026-03-04"), Finding("units", NOTE, products=3, example="a", sentence="b")]

    save_findings(found, tmp_path / "quality.json")

    assert load_findings(tmp_path / "quality.json") == found
    assert tags(found) == {"quality": STOP, "quality_findings": "dates stop, units note"}
    assert tags([]) == {"quality": "fine", "quality_findings": "none"}
    (tmp_path / "quality.json").write_text('[{"name": 1}]')
    with pytest.raises(SourceError):
        load_findings(tmp_path / "quality.json")


@pytest.mark.parametrize(
    ("change", "rate", "notes"),
    [
        (None, None, 1),
        (None, 0.0, 0),  # a person says that prices hold none
        (lambda frame: frame.assign(tax_rate=0.0), None, 0),  # the rows do
        (lambda frame: frame.drop(columns="unit_cost"), None, 0),  # no margin that it could overstate
    ],
)
def test_costs_beside_prices_of_which_nobody_says_what_tax_they_hold_are_noted(
    change: Change | None, rate: float | None, notes: int
) -> None:
    found = judged(change, config=CONFIG.model_copy(update={"tax_rate": rate}))

    assert [(one.check, one.level) for one in found.findings] == [("coverage", "note")] * notes
