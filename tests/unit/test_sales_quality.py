"""Sales against their own past: each fault has its name, level and first day, and honest sales have none."""

import dataclasses
import datetime as dt
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pricing.data.quality_stage import Judged, judge

from pricing.config import load_config
from pricing.config_models import DataConfig, QualityConfig
from pricing.data.build import build_panel
from pricing.data.contract import COLUMNS, check
from pricing.data.load import load_sales
from pricing.data.panel import Panel
from pricing.data.quality import MEANINGS, Finding, QualityError
from pricing.errors import ContractError

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


def judged(
    change: Change | None = None,
    *,
    until: int = LAST,
    config: DataConfig = CONFIG,
    known: Panel | None = None,
    others: tuple[str, ...] = (),
) -> Judged:
    frame = sound()[sound()["date"] <= day(until)].copy()
    changed = change(frame) if change else None
    frame = frame if changed is None else changed
    checked = check(frame, where="sales", period=config.period)
    given = [name for name in frame.columns if name in COLUMNS]
    return judge(checked, config, given=given, others=others, known=known)


def found(result: Judged) -> dict[str, Finding]:
    return {one.name: one for one in result.quality.findings}


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
    def change(frame: pd.DataFrame) -> None:
        frame.loc[since(frame), column] = value

    return change


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


def missing(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[~(since(frame) & (frame["product_id"] < "P06"))]


def half_loaded(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[~((frame["date"] == day(LAST)) & (frame["product_id"] < "P06"))]


def renamed_ids(frame: pd.DataFrame) -> None:
    frame.loc[since(frame), "product_id"] = "N" + frame["product_id"]


def swapped(frame: pd.DataFrame) -> None:
    late = since(frame, FAULT)
    frame.loc[late, "date"] = [date.replace(month=date.day, day=date.month) for date in frame.loc[late, "date"]]


QUARANTINE, STOP, NOTE = "quarantine", "stop", "note"
FAULTS: dict[str, tuple[Change, str, str, str]] = {
    "prices × 100 for a day": (scale(("price", "list_price"), 100, one=True), "price_unit", STOP, day(FAULT)),
    "prices × 100 from a day on": (scale(("price",), 100), "price_unit", STOP, day(FAULT)),
    "prices × 100 in a category": (scale(("price",), 100, category="jam"), "price_unit", STOP, day(FAULT)),
    "prices ÷ 100": (scale(("price", "list_price"), 0.01), "price_unit", STOP, day(FAULT)),
    "cost × 10": (scale(("unit_cost",), 10), "price_unit", STOP, day(FAULT)),
    "competitor × 10": (scale(("comp_price",), 10), "price_unit", QUARANTINE, day(FAULT)),
    "packs": (packs, "pack_size", STOP, day(FAULT)),
    "units × 10 in a category": (scale(("units_sold", "stock"), 10, category="jam"), "units_unit", STOP, day(FAULT)),
    "units ÷ 10": (scale(("units_sold", "stock"), 0.1), "units_unit", STOP, day(FAULT + 1)),
    "competitor missing": (put("comp_price", np.nan), "comp_price_null", QUARANTINE, day(FAULT)),
    "stock missing": (put("stock", np.nan), "stock_null", QUARANTINE, day(FAULT)),
    "cost missing": (put("unit_cost", np.nan), "unit_cost_null", QUARANTINE, day(FAULT)),
    "list price missing": (put("list_price", np.nan), "list_price_null", QUARANTINE, day(FAULT)),
    "promotions missing": (put("is_promo", np.nan), "is_promo_null", QUARANTINE, day(FAULT)),
    "category missing": (
        lambda frame: frame.assign(category=frame["category"].where(~since(frame))),
        "category_null",
        QUARANTINE,
        day(FAULT),
    ),
    "stock 0": (put("stock", 0), "stock_zero", QUARANTINE, day(FAULT)),
    "competitor frozen": (frozen("comp_price"), "comp_price_frozen", QUARANTINE, day(FAULT)),
    "stock frozen": (frozen("stock"), "stock_frozen", QUARANTINE, day(FAULT)),
    "a day lost": (lost, "lost_days", QUARANTINE, day(FAULT)),
    "products missing": (missing, "products_missing", QUARANTINE, day(FAULT)),
    "newest day half loaded": (half_loaded, "day_incomplete", QUARANTINE, day(LAST)),
    "ids changed": (renamed_ids, "ids_changed", STOP, day(FAULT)),
    "day and month swapped": (swapped, "dates_swapped", STOP, day(FAULT)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_name_level_and_first_day_and_no_other_alarm(fault: str) -> None:
    change, name, level, first = FAULTS[fault]

    result = judged(change)

    alarms = [(one.name, one.level, one.first_day) for one in result.quality.findings if one.level != NOTE]
    assert set(alarms) == {(name, level, first)}
    assert result.quality.until >= day(FAULT)
    assert all(one.advice == MEANINGS[one.name][1] for one in result.quality.findings)


def test_honest_sales_have_no_finding() -> None:
    assert [judged(until=until).quality.findings for until in (40, 80, FAULT, LAST)] == [()] * 4
    assert judged(known=read_before()).quality.findings == ()


HONEST: dict[str, Change] = {
    "a sale of the whole shop": scale(("price",), 0.4),
    "clearance of a category": scale(("price",), 0.3, category="tea"),
    "inflation": scale(("price", "list_price", "unit_cost"), 1.3),
    "five times the demand": scale(("units_sold", "stock"), 5),
    "a strike": scale(("units_sold",), 0.0, one=True),
    "the end of a long promotion": lambda frame: frame.assign(
        price=frame["price"].where(since(frame), (frame["list_price"] * 0.4).round(2))
    ),
}


@pytest.mark.parametrize("world", HONEST)
def test_what_a_shop_may_do_is_no_fault(world: str) -> None:
    assert judged(HONEST[world]).quality.findings == ()


def test_products_that_a_season_ends_and_begins_are_no_fault() -> None:
    def season(frame: pd.DataFrame) -> pd.DataFrame:
        late = since(frame)
        return frame[~(late & (frame["product_id"] == "P00")) & ~(~late & (frame["product_id"] == "P01"))]

    assert [one.level for one in judged(season).quality.findings] == []


def test_a_single_price_far_off_is_set_aside_and_the_rest_goes_on() -> None:
    def typo(frame: pd.DataFrame) -> None:
        frame.loc[(frame["date"] == day(60)) & (frame["product_id"] == "P07"), "price"] *= 100
        frame.loc[(frame["date"] == day(LAST)) & (frame["product_id"] == "P03"), "price"] *= 8

    result = judged(typo)

    aside = result.checked.bad_rows
    assert aside["product_id"].tolist() == ["P03", "P07"]
    assert aside["row"].tolist() == [3 * DAYS + LAST + 1, 7 * DAYS + 60 + 1]
    assert aside["reasons"].str.startswith("price_outlier: ").all()
    assert len(result.checked.clean) == len(sound()) - 2
    assert (found(result)["price_outlier"].level, found(result)["price_outlier"].rows) == (QUARANTINE, 2)
    assert (found(result)["price_outlier"].first_day, found(result)["price_outlier"].last_day) == (day(60), day(LAST))


@pytest.mark.parametrize(("bad", "newest"), [((60,), 60), ((60, LAST), LAST), ((), None)])
def test_rows_that_break_the_contract_say_which_is_the_newest(bad: tuple[int, ...], newest: int | None) -> None:
    def broken(frame: pd.DataFrame) -> None:
        frame.loc[
            (frame["product_id"] == "P07") & frame["date"].isin([pd.Timestamp(day(one)) for one in bad]), "price"
        ] = -1

    result = judged(broken)

    assert [one.last_day for one in result.quality.findings if one.name == "contract"] == (
        [] if newest is None else [day(newest)]
    )


def test_what_is_set_aside_on_one_night_is_on_every_later_one() -> None:
    def typo(frame: pd.DataFrame) -> None:
        frame.loc[(frame["date"] == day(60)) & (frame["product_id"] == "P07"), "price"] *= 100

    nights = [judged(typo, until=until) for until in (60, 61, 90, LAST)]

    assert [len(night.checked.bad_rows) for night in nights] == [1, 1, 1, 1]
    assert [found(night)["price_outlier"].level for night in nights] == [QUARANTINE, QUARANTINE, NOTE, NOTE]


def test_a_price_that_stays_at_a_new_level_is_believed_after_two_weeks() -> None:
    def dearer(frame: pd.DataFrame) -> None:
        frame.loc[since(frame, 90) & (frame["product_id"] == "P07"), ["price", "list_price", "unit_cost"]] *= 8

    aside = judged(dearer).checked.bad_rows

    assert sorted(set(aside["date"].astype(str).str[:10])) == [day(number) for number in range(90, 104)]


def test_a_zero_that_is_only_a_row_set_aside_is_unknown_and_no_sale_of_none() -> None:
    def typo(frame: pd.DataFrame) -> None:
        frame.loc[(frame["date"] == day(60)) & (frame["product_id"] == "P07"), "price"] *= 100

    result = judged(typo)
    panel = build_panel(result.checked.clean, CONFIG, unknown=result.unknown)

    assert not panel.present[7, 60]
    assert np.isnan(panel.units_sold[7, 60])
    assert build_panel(result.checked.clean, CONFIG).units_sold[7, 60] == 0


@pytest.mark.parametrize(("change", "cells"), [(lost, PRODUCTS), (missing, 18), (half_loaded, PRODUCTS)])
def test_days_and_products_that_did_not_come_are_unknown_and_no_sales_of_none(change: Change, cells: int) -> None:
    result = judged(change)

    products, days = result.unknown
    assert len(products) == len(days) == cells
    if change is not half_loaded:
        panel = build_panel(result.checked.clean, CONFIG, unknown=result.unknown)
        assert not (panel.units_sold == 0)[:, FAULT:].any()


def test_values_at_fault_are_blanked_and_their_rows_stay() -> None:
    zero, far = judged(put("stock", 0)), judged(scale(("comp_price",), 10))

    assert zero.checked.clean.loc[since(zero.checked.clean), "stock"].isna().all()
    assert far.checked.clean.loc[since(far.checked.clean), "comp_price"].isna().all()
    assert len(zero.checked.clean) == len(far.checked.clean) == len(sound())


def test_a_value_missing_on_one_day_is_only_noted() -> None:
    def once(frame: pd.DataFrame) -> None:
        frame.loc[frame["date"] == day(LAST), "comp_price"] = np.nan

    assert found(judged(once))["comp_price_null"].level == NOTE


def test_a_pause_in_promotions_is_noted_and_after_four_weeks_told() -> None:
    def pause(days: int) -> Change:
        def change(frame: pd.DataFrame) -> None:
            frame.loc[since(frame, DAYS - days), "is_promo"] = 0

        return change

    assert "promo_none" not in found(judged(pause(5)))
    assert found(judged(pause(10)))["promo_none"].level == NOTE
    assert found(judged(pause(30)))["promo_none"].level == QUARANTINE


@pytest.mark.parametrize("column", ["category", "unit_cost", "stock", "comp_price", "is_promo"])
def test_a_column_that_the_champion_had_and_that_is_gone_stops(column: str) -> None:
    def gone(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.drop(columns=column)

    finding = found(judged(gone, known=read_before()))["column_gone"]
    assert (finding.level, finding.column) == (STOP, column)
    assert judged(gone).quality.findings == ()  # nobody knows that it was there


def test_a_column_under_another_name_is_said_and_stops_where_the_champion_had_it() -> None:
    def gone(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.drop(columns="comp_price")

    stopped = found(judged(gone, known=read_before(), others=("competitor_price",)))["column_renamed"]
    assert (stopped.level, stopped.column) == (STOP, "comp_price")
    assert "'competitor_price'" in stopped.text
    assert found(judged(gone, others=("competitor_price",)))["column_renamed"].level == NOTE


def test_a_whole_history_in_another_unit_or_with_other_ids_is_seen_by_what_the_champion_read() -> None:
    def cents(frame: pd.DataFrame) -> None:
        frame[["price", "list_price"]] *= 100

    def ids(frame: pd.DataFrame) -> None:
        frame.loc[frame["product_id"] > "P02", "product_id"] = "N" + frame["product_id"]

    def sold_out(frame: pd.DataFrame) -> None:
        frame["stock"] = 0.0

    stopped = found(judged(sold_out, known=read_before()))["stock_zero"]
    assert (stopped.level, stopped.column, stopped.products) == (STOP, "stock", PRODUCTS)
    assert "on which the champion has read that there was some" in stopped.text
    assert judged(cents).quality.findings == ()
    assert found(judged(cents, known=read_before()))["price_unit"].level == STOP
    assert found(judged(ids, known=read_before()))["ids_changed"].level == STOP


def test_a_champion_of_another_shop_says_nothing() -> None:
    other = dataclasses.replace(read_before(), product_ids=np.array([f"X{row:02d}" for row in range(PRODUCTS)]))

    assert judged(lambda frame: frame.drop(columns="stock"), known=other).quality.findings == ()


def test_newer_rows_alone_are_compared_with_what_the_champion_read() -> None:
    def newer(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[since(frame)].assign(price=frame["price"] * 100)

    result = judged(newer, known=read_before())

    assert found(result)["price_unit"].level == STOP
    assert found(result)["price_unit"].first_day == day(FAULT)
    assert judged(lambda frame: frame[since(frame)], known=read_before()).quality.findings == ()


def test_doubled_rows_are_named_and_too_many_stop() -> None:
    def doubled(frame: pd.DataFrame) -> pd.DataFrame:
        return pd.concat([frame, frame[since(frame)]])

    names = found(judged(doubled))
    assert names["rows_doubled"].level == QUARANTINE
    assert names["too_many_bad_rows"].level == STOP  # 36 of the newest 336 + 36


def test_a_few_bad_rows_do_not_stop_and_a_feed_of_bad_rows_does() -> None:
    def broken(rows: int) -> Change:
        def change(frame: pd.DataFrame) -> None:
            frame.iloc[:rows, frame.columns.get_loc("price")] = -1.0

        return change

    few, most = judged(broken(70)), judged(broken(round(0.9 * len(sound()))))

    assert found(few)["contract"].level == QUARANTINE
    assert "too_many_bad_rows" not in found(few)
    assert found(most)["too_many_bad_rows"].level == STOP


def limited(**values: object) -> DataConfig:
    return CONFIG.model_copy(update={"quality": QualityConfig.model_validate(values)})


def test_what_a_person_accepts_is_only_noted_until_the_day_said() -> None:
    change = scale(("price",), 100)

    accepted = judged(change, config=limited(accept={"price_unit": day(LAST), "price_outlier": day(LAST)}))
    too_early = judged(change, config=limited(accept={"price_unit": day(FAULT - 1)}))

    assert accepted.quality.level == NOTE
    assert len(accepted.checked.clean) == len(sound())
    assert too_early.quality.level == STOP


def test_days_left_out_by_a_person_are_unknown_and_stop_nothing() -> None:
    first = dt.date.fromisoformat(day(FAULT))
    result = judged(scale(("price",), 100, one=True), config=limited(leave_out=[(first, first)]))

    assert result.quality.level == NOTE
    assert found(result)["days_left_out"].rows == PRODUCTS
    assert (result.checked.bad_rows["date"].astype(str).str[:10] == day(FAULT)).all()
    assert len(result.unknown[0]) == PRODUCTS


def test_with_the_refusal_off_all_is_said_and_nothing_done() -> None:
    trusting = CONFIG.model_copy(update={"plausibility": CONFIG.plausibility.model_copy(update={"refuse": False})})

    result = judged(scale(("price",), 100), config=trusting)

    assert found(result)["price_unit"].level == NOTE
    assert len(result.checked.clean) == len(sound())
    assert len(result.unknown[0]) == 0


def test_weekly_sales_are_judged_by_weeks() -> None:
    def weekly(frame: pd.DataFrame) -> pd.DataFrame:
        frame["date"] = (
            START
            + 7 * ((frame["date"].to_numpy() - START.astype("datetime64[s]")).astype("timedelta64[D]").astype(int))
        ).astype("datetime64[s]")
        return frame

    config = load_config("weekly").data
    dear = judged(
        lambda frame: weekly(frame.assign(price=frame["price"].where(~since(frame), frame["price"] * 100))),
        config=config,
    )

    assert judged(weekly, config=config).quality.findings == ()
    assert found(dear)["price_unit"].first_day == str(START + 7 * FAULT)


def test_the_judged_frame_is_not_changed() -> None:
    before = sound().copy(deep=True)

    judged(put("stock", 0))

    pd.testing.assert_frame_equal(sound(), before)


@pytest.mark.parametrize("folder", ["bad", None])
def test_rows_set_aside_lie_in_a_file_with_row_and_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str | None
) -> None:
    monkeypatch.setenv("PRICING_HOME", str(tmp_path / "home"))
    frame = sound().copy()
    frame.loc[(frame["date"] == day(60)) & (frame["product_id"] == "P07"), "price"] *= 100
    frame.to_csv(tmp_path / "sales.csv", index=False)

    loaded = load_sales(str(tmp_path / "sales.csv"), CONFIG, quarantine=folder and tmp_path / folder)

    file = tmp_path / (folder or "home/quarantine") / "bad_rows.csv"
    assert loaded.quality.bad_rows == str(file)
    aside = pd.read_csv(file)
    assert aside["row"].tolist() == [7 * DAYS + 61]
    assert aside["reasons"].str.startswith("price_outlier").all()
    original = pd.read_csv(tmp_path / "sales.csv").iloc[aside["row"][0] - 1]
    assert aside.loc[0, "price"] == pytest.approx(original["price"])
    assert not loaded.panel.present[7, 60]


def test_sales_far_from_their_past_are_refused_with_what_where_and_what_to_do(tmp_path: Path) -> None:
    frame = sound().copy()
    scale(("price",), 100, one=True)(frame)
    frame.to_csv(tmp_path / "sales.csv", index=False)

    with pytest.raises(QualityError) as refusal:
        load_sales(str(tmp_path / "sales.csv"), CONFIG)

    words = str(refusal.value)
    assert words.startswith(f"{tmp_path / 'sales.csv'} is not as it was before")
    assert f"price_unit: price of 12 products is about 100 times what it was before, from {day(FAULT)} on" in words
    assert "Bring all prices into one unit" in words
    assert "data.quality.accept" in words
    assert "data.quality.leave_out" in words
    assert refusal.value.quality.level == STOP


def test_repeated_rows_that_come_of_swapped_dates_are_called_so(tmp_path: Path) -> None:
    frame = sound().copy()  # 7 May becomes 5 July, 9 May 5 September: ahead; March and April lie behind
    frame = frame[frame["date"] <= "2024-04-03"]
    frame.loc[frame["date"] == "2024-04-03", "date"] = pd.Timestamp("2024-03-04")
    frame.to_csv(tmp_path / "sales.csv", index=False)

    with pytest.raises(QualityError, match=r"dates_swapped: after 2024-04-02 come rows of 2024-03-04"):
        load_sales(str(tmp_path / "sales.csv"), CONFIG)


def test_rows_that_are_only_repeated_are_refused_as_before(tmp_path: Path) -> None:
    frame = pd.concat([sound(), sound()[-3:]])
    frame.to_csv(tmp_path / "sales.csv", index=False)

    with pytest.raises(ContractError, match="must be unique"):
        load_sales(str(tmp_path / "sales.csv"), CONFIG)
