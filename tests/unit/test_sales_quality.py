"""Ten checks of sales: each fault is found by its check, with its level and days, and honest sales have no finding."""

import dataclasses
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
from pricing.data.contract import COLUMNS, check
from pricing.data.findings import Finding, Level, QualityError, load_findings, save_findings, tags
from pricing.data.load import load_sales
from pricing.data.panel import Panel
from pricing.data.quality import CHECKS, Judged, judge
from pricing.errors import SourceError
from simulation.config import KINDS
from simulation.market import MarketConfig, simulate

PRODUCTS, DAYS = 12, 130
START = np.datetime64("2024-01-01")
LAST = DAYS - 1
FAULT = LAST - 2  # 7 May: three nights are spoilt, and day and month can be swapped
CONFIG = load_config().data.model_copy(update={"missing": "zero"})
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


def judged(change: Change | None = None, *, until: int = LAST, config: DataConfig = CONFIG, **more: Any) -> Judged:
    frame = changed(change, until)
    given = [name for name in frame.columns if name in COLUMNS]
    return judge(check(frame, where="sales", period=config.period), config, given=given, **more)


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


def put(column: str, value: float, *, number: int = FAULT) -> Change:
    return lambda frame: frame.assign(**{column: frame[column].mask(since(frame, number), value)})


def packs(frame: pd.DataFrame) -> None:
    rows = since(frame) & (frame["category"] == "jam")
    frame.loc[rows, ["price", "list_price", "unit_cost"]] *= 6
    frame.loc[rows, ["units_sold", "stock"]] = (frame.loc[rows, ["units_sold", "stock"]] / 6).round()


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


def swapped(frame: pd.DataFrame) -> None:
    dates = frame.loc[since(frame), "date"]
    frame.loc[since(frame), "date"] = dates.map(lambda date: date.replace(month=date.day, day=date.month))


def row(product: str, number: int, column: str, factor: float) -> Change:
    def change(frame: pd.DataFrame) -> None:
        frame.loc[(frame["date"] == day(number)) & (frame["product_id"] == product), column] *= factor

    return change


def some_of_his(frame: pd.DataFrame) -> None:
    frame.loc[frame.index[:: len(frame) // 38][:38], "comp_price"] *= 100


STOP: Level = "stop"
ASIDE: Level = "set_aside"
NOTE: Level = "note"
FAULTS: dict[str, tuple[Change, str, str, int]] = {
    "all × 100": (scale(("price", "list_price"), 100), "price_unit", STOP, FAULT),
    "all ÷ 100": (scale(("price", "list_price"), 0.01), "price_unit", STOP, FAULT),
    "one day × 100": (scale(("price", "list_price"), 100, one=True), "price_unit", STOP, FAULT),
    "one category × 100": (scale(("price",), 100, category="jam"), "price_unit", STOP, FAULT),
    "costs × 100": (scale(("unit_cost",), 100), "price_unit", STOP, FAULT),
    "packs": (packs, "price_unit", STOP, FAULT),
    "net of tax": (scale(("price", "list_price"), 1 / 1.19), "price_unit", STOP, FAULT),
    "long ago × 100": (scale(("price", "list_price"), 100, number=60), "price_unit", STOP, 60),
    "a price × 100": (row("P07", 60, "price", 100), "price_outlier", ASIDE, 60),
    "an early price × 100": (row("P07", 2, "price", 100), "price_outlier", ASIDE, 2),
    "a price ÷ 100": (row("P07", LAST, "price", 0.01), "price_outlier", ASIDE, LAST),
    "a cost × 100": (row("P07", 60, "unit_cost", 100), "price_outlier", ASIDE, 60),
    "a total among units": (row("P07", 60, "units_sold", 9000), "units", ASIDE, 60),
    "cases of 20": (scale(("units_sold",), 0.05), "units", STOP, FAULT + 1),
    "units × 12": (scale(("units_sold",), 12), "units", STOP, FAULT),
    "a day lost": (lost, "lost_days", ASIDE, FAULT),
    "products missing": (without(FAULT), "lost_days", ASIDE, FAULT),
    "newest day half loaded": (without(LAST), "lost_days", ASIDE, LAST),
    "a till of zeros": (put("units_sold", 0), "lost_days", ASIDE, FAULT),
    "competitor missing": (put("comp_price", np.nan), "lost_columns", ASIDE, FAULT),
    "a day without competitor": (put("comp_price", np.nan, number=LAST), "lost_columns", NOTE, LAST),
    "stock missing": (put("stock", np.nan), "lost_columns", ASIDE, FAULT),
    "stock 0": (put("stock", 0), "lost_columns", ASIDE, FAULT),
    "cost missing": (put("unit_cost", np.nan), "lost_columns", ASIDE, FAULT),
    "stock frozen": (frozen("stock"), "lost_columns", ASIDE, FAULT),
    "ids changed": (renamed_ids, "renamed_ids", STOP, FAULT),
    "two spellings of a category": (
        lambda frame: frame.assign(category=frame["category"].mask(frame["product_id"] == "P00", "Tea")),
        "duplicates",
        NOTE,
        0,
    ),
    "two spellings of an id": (
        lambda frame: frame.assign(product_id=frame["product_id"].replace("P01", "p00")),
        "duplicates",
        NOTE,
        0,
    ),
    "competitor × 100": (scale(("comp_price",), 100), "competitor", ASIDE, FAULT),
    "competitor × 100 for some": (scale(("comp_price",), 100, number=0, category="jam"), "competitor", ASIDE, 0),
    "38 of his prices × 100": (some_of_his, "competitor", ASIDE, 0),
    "competitor is ours": (lambda frame: frame.assign(comp_price=frame["price"]), "competitor", ASIDE, 0),
    "competitor frozen": (frozen("comp_price"), "competitor", ASIDE, FAULT),
    "stock 0 throughout": (lambda frame: frame.assign(stock=0.0), "coverage", ASIDE, 0),
    "never advertised": (lambda frame: frame.assign(is_promo=0.0), "coverage", NOTE, 0),
    "stock at closing": (
        lambda frame: frame.assign(stock=30.0 - frame["units_sold"].clip(upper=30)),
        "coverage",
        NOTE,
        0,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_by_its_check_with_level_and_first_day_and_by_no_other(fault: str) -> None:
    change, name, level, first = FAULTS[fault]

    assert alarms(change) == {(name, level, day(first))}


def test_honest_sales_have_no_finding() -> None:
    assert [alarms(until=until) for until in (60, 80, FAULT, LAST)] == [set()] * 4
    assert alarms(known=read_before(), today=dt.date.fromisoformat(day(LAST))) == set()


HONEST: dict[str, Change] = {
    "a sale of the whole shop": scale(("price",), 0.4),
    "a fifth off everything": scale(("price",), 0.8),
    "clearance of a category": scale(("price",), 0.3, category="tea"),
    "inflation": scale(("price", "list_price", "unit_cost"), 1.3),
    "five times the demand": scale(("units_sold", "stock"), 5),
    "the end of a long promotion": lambda frame: frame.assign(
        price=frame["price"].where(since(frame), (frame["list_price"] * 0.4).round(2))
    ),
    "a season": lambda frame: frame[
        ~(since(frame) & (frame["product_id"] == "P00")) & ~(~since(frame) & (frame["product_id"] == "P01"))
    ],
    "no column but the needed": lambda frame: frame[["date", "product_id", "units_sold", "price"]],
}


@pytest.mark.parametrize("world", HONEST)
def test_what_a_shop_may_do_is_no_fault(world: str) -> None:
    assert {one for one in alarms(HONEST[world]) if one[1] != NOTE} == set()


@pytest.mark.parametrize("kind", [name for name, features in KINDS.items() if features.family != "merchant"])
def test_nothing_is_found_on_simulated_markets(kind: str) -> None:
    frame = simulate(MarketConfig(kind, products=40, days=400)).frame()

    found = judge(check(frame, where="the market"), CONFIG, given=list(frame.columns)).findings

    assert [one for one in found if one.level != NOTE] == []


def test_a_short_history_is_said() -> None:
    assert alarms(until=20) == {("coverage", NOTE, day(0))}


def test_the_holidays_of_another_country_are_said() -> None:
    holidays = ["2024-01-01", "2024-03-29", "2024-04-01", "2024-05-01"]

    found = alarms(
        lambda frame: frame.assign(units_sold=frame["units_sold"].mask(frame["date"].isin(pd.to_datetime(holidays)), 0))
    )

    assert ("coverage", NOTE, holidays[1]) in found


def test_rows_in_the_future_are_set_aside_and_old_sales_are_said_where_newer_are_due() -> None:
    last = dt.date.fromisoformat(day(LAST))

    assert alarms(today=last - dt.timedelta(days=2)) == {("dates", ASIDE, day(LAST))}
    assert alarms(known=read_before(), today=last + dt.timedelta(days=9)) == {("dates", ASIDE, day(DAYS))}
    assert alarms(known=read_before(), today=last + dt.timedelta(days=900)) == set()


@pytest.mark.parametrize("column", ["category", "unit_cost", "stock", "comp_price", "is_promo"])
def test_a_column_that_the_champion_had_and_that_is_gone_stops(column: str) -> None:
    def gone(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.drop(columns=column)

    assert alarms(gone, known=read_before()) == {("lost_columns", STOP, day(0))}
    assert alarms(gone) == set()  # nobody knows that it was there
    assert alarms(gone, others=(f"{column}s",)) == {("lost_columns", NOTE, day(0))}


def test_a_whole_history_in_another_unit_or_with_other_ids_is_seen_by_what_the_champion_read() -> None:
    def ids(frame: pd.DataFrame) -> None:
        frame.loc[frame["product_id"] > "P02", "product_id"] = "N" + frame["product_id"]

    cents = scale(("price", "list_price"), 100, number=0)
    assert {one[:2] for one in alarms(cents, known=read_before())} == {("price_unit", STOP)}
    assert {one[:2] for one in alarms(ids, known=read_before())} == {("renamed_ids", STOP)}


def test_a_champion_of_another_shop_says_nothing() -> None:
    other = dataclasses.replace(read_before(), product_ids=np.array([f"X{row:02d}" for row in range(PRODUCTS)]))

    assert alarms(lambda frame: frame.drop(columns="stock"), known=other) == set()


def test_newer_rows_alone_are_compared_with_what_the_champion_read() -> None:
    def newer(factor: float) -> Change:
        return lambda frame: frame[since(frame)].assign(price=frame["price"] * factor)

    assert alarms(newer(100), known=read_before()) == {("price_unit", STOP, day(FAULT))}
    assert alarms(newer(1), known=read_before()) == set()


def test_weekly_sales_are_judged_by_weeks() -> None:
    def weekly(frame: pd.DataFrame) -> pd.DataFrame:
        weeks = (frame["date"].to_numpy().astype("datetime64[D]") - START).astype(int)
        return frame.assign(date=(START + 7 * weeks).astype("datetime64[s]"))

    config = load_config("weekly").data
    dear = scale(("price", "list_price"), 100)

    def dear_weeks(frame: pd.DataFrame) -> pd.DataFrame:
        dear(frame)
        return weekly(frame)

    assert alarms(weekly, config=config) == set()
    assert alarms(dear_weeks, config=config) == {("price_unit", STOP, str(START + 7 * FAULT))}


def test_what_is_set_aside_on_one_night_is_on_every_later_one() -> None:
    nights = [judged(row("P07", 60, "price", 100), until=until) for until in (60, 61, 90, LAST)]

    assert [night.checked.bad_rows["row"].tolist() for night in nights] == [
        [7 * (until + 1) + 60 + 1] for until in (60, 61, 90, LAST)
    ]
    assert nights[-1].checked.bad_rows["reasons"].str.startswith("price_outlier: ").all()


def test_a_price_that_stays_at_a_new_level_is_believed_after_two_weeks() -> None:
    def dearer(frame: pd.DataFrame) -> None:
        frame.loc[since(frame, 90) & (frame["product_id"] == "P07"), ["price", "list_price", "unit_cost"]] *= 8

    aside = judged(dearer).checked.bad_rows

    assert sorted(set(aside["date"].astype(str).str[:10])) == [day(number) for number in range(90, 104)]


def test_a_row_set_aside_is_unknown_and_no_sale_of_none() -> None:
    result = judged(row("P07", 60, "price", 100))

    panel = build_panel(result.checked.clean, CONFIG, unknown=result.unknown)

    assert not panel.present[7, 60]
    assert build_panel(result.checked.clean, CONFIG).units_sold[7, 60] == 0


@pytest.mark.parametrize(
    ("change", "cells"),
    [(lost, PRODUCTS), (without(FAULT), 18), (without(LAST), PRODUCTS), (put("units_sold", 0), 3 * PRODUCTS)],
)
def test_days_and_products_that_did_not_come_are_unknown_and_no_sales_of_none(change: Change, cells: int) -> None:
    result = judged(change)

    assert len(result.unknown[0]) == len(result.unknown[1]) == cells
    panel = build_panel(result.checked.clean, CONFIG, unknown=result.unknown)
    assert not (panel.units_sold == 0)[:, FAULT:].any()


@pytest.mark.parametrize(("change", "column"), [(put("stock", 0), "stock"), (scale(("comp_price",), 10), "comp_price")])
def test_values_at_fault_are_blanked_and_their_rows_stay(change: Change, column: str) -> None:
    clean = judged(change).checked.clean

    assert clean.loc[since(clean), column].isna().all()
    assert len(clean) == len(sound())


@pytest.mark.parametrize(("rows", "stops"), [(70, False), (1400, True)])
def test_a_few_bad_rows_do_not_stop_and_a_feed_of_bad_rows_does(rows: int, stops: bool) -> None:
    def broken(frame: pd.DataFrame) -> None:
        frame.loc[frame.index[:rows], "price"] = -1.0

    if stops:
        with pytest.raises(QualityError):
            judged(broken)
    else:
        assert [(one.check, one.level, one.rows) for one in judged(broken).findings] == [("contract", ASIDE, rows)]


def limited(**values: object) -> DataConfig:
    return CONFIG.model_copy(update={"quality": QualityConfig.model_validate(values)})


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


@pytest.mark.parametrize("folder", ["bad", None])
def test_rows_set_aside_lie_in_a_file_with_row_and_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str | None
) -> None:
    monkeypatch.setenv("PRICING_HOME", str(tmp_path / "home"))
    changed(row("P07", 60, "price", 100)).to_csv(tmp_path / "sales.csv", index=False)

    loaded = load_sales(str(tmp_path / "sales.csv"), CONFIG, quarantine=folder and tmp_path / folder)

    file = tmp_path / (folder or "home/quarantine") / "bad_rows.csv"
    assert pd.read_csv(file)["row"].tolist() == [7 * DAYS + 61]
    assert not loaded.panel.present[7, 60]


def test_days_and_months_that_are_swapped_stop() -> None:
    assert ("dates", ASIDE, "2024-07-05") in alarms(swapped, today=dt.date(2024, 5, 9))
    with pytest.raises(QualityError):
        judged(swapped, today=dt.date(2024, 5, 9))


def test_findings_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    found = [Finding("dates", STOP, first="2026-03-04"), Finding("units", NOTE, products=3, example="a", sentence="b")]

    save_findings(found, tmp_path / "quality.json")

    assert load_findings(tmp_path / "quality.json") == found
    assert tags(found) == {"quality": STOP, "quality_findings": "dates stop, units note"}
    assert tags([]) == {"quality": "fine", "quality_findings": "none"}


@pytest.mark.parametrize("text", ["", '[{"name": 1}]'])
def test_a_file_that_holds_no_findings_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "quality.json").write_text(text)

    with pytest.raises(SourceError):
        load_findings(tmp_path / "quality.json")


def test_the_document_lists_the_ten_checks_with_level_and_advice() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data_quality.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]

    assert [(name.strip("`"), level, advice) for name, _, level, advice in rows] == [
        (one.name, one.level.replace("_", " "), one.advice) for one in CHECKS
    ]
