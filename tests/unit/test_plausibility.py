"""What sales that keep the contract may still have wrong: each fault is found and named, and honest sales are not."""

import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from pricing.data.plausibility import DataIssue, findings, mistyped

from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.data.load import load_panel_from
from pricing.data.panel import SERIES, Panel
from simulation.foreign import simulate_foreign
from simulation.foreign_config import SCENARIOS, ForeignConfig
from simulation.market import MarketConfig, simulate

CONFIG = load_config().data.model_copy(update={"missing": "unknown"})
PRODUCTS, DAYS = 40, 120
START = np.datetime64("2024-02-01")
Change = Callable[[pd.DataFrame], pd.DataFrame | None]


@cache
def sound() -> pd.DataFrame:
    """40 products in 4 categories over 120 days, with cuts, a competitor, and Sundays on which the shop is closed."""
    rng = np.random.default_rng(4)
    product, day = (axis.ravel() for axis in np.meshgrid(np.arange(PRODUCTS), np.arange(DAYS), indexing="ij"))
    list_price = np.round(rng.uniform(1, 60, PRODUCTS), 2)[product]
    price = np.round(list_price * rng.choice([1.0, 0.8, 0.5], p=[0.8, 0.15, 0.05], size=len(product)), 2)
    frame = pd.DataFrame(
        {
            "date": (START + day).astype("datetime64[s]"),
            "product_id": [f"P{row:02d}" for row in product],
            "category": [("tea", "jam", "oil", "rice")[row % 4] for row in product],
            "units_sold": rng.poisson(6.0, len(product)).astype(float),
            "price": price,
            "list_price": list_price,
            "comp_price": np.round(list_price * rng.uniform(0.8, 1.3, len(product)), 2),
        }
    )
    opened: pd.DataFrame = frame[frame["date"].dt.dayofweek != 6].reset_index(drop=True)
    return opened


STOCK_ROWS = int((sound()["units_sold"] > 6).sum())  # more than what is left of twelve


def panel_of(change: Change | None = None) -> Panel:
    frame = sound().copy(deep=True)
    changed = change(frame) if change else None
    return build_panel(frame if changed is None else changed, CONFIG)


def found(panel: Panel) -> dict[str, DataIssue]:
    return {finding.name: finding for finding in findings(panel, CONFIG.plausibility)}


def day(number: int) -> str:
    return str(START + number)


def cents_for_all(frame: pd.DataFrame) -> None:
    frame.loc[frame["date"] >= day(70), ["price", "list_price"]] *= 100


def cents_for_one(frame: pd.DataFrame) -> None:
    frame.loc[(frame["date"] >= day(70)) & (frame["product_id"] == "P07"), "price"] *= 100


def typo(frame: pd.DataFrame) -> None:
    frame.loc[(frame["date"] == day(60)) & (frame["product_id"] == "P07"), "price"] *= 100


def one_day_in_cents(frame: pd.DataFrame) -> None:
    frame.loc[frame["date"] == day(60), ["price", "list_price"]] *= 100


def competitor_in_cents(frame: pd.DataFrame) -> None:
    frame["comp_price"] *= 100


def renamed(frame: pd.DataFrame) -> None:
    frame.loc[frame["product_id"] == "P07", "price"] = frame["list_price"]
    frame.loc[(frame["date"] >= day(60)) & (frame["product_id"] == "P07"), "product_id"] = "Q07"


def week_lost(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[~frame["date"].between(day(60), day(65))]


def spelling(frame: pd.DataFrame) -> None:
    frame.loc[frame["product_id"] == "P04", "category"] = "Tea"


def stock_at_closing(frame: pd.DataFrame) -> None:
    frame["stock"] = (12.0 - frame["units_sold"]).clip(lower=0.0)


def total_among_units(frame: pd.DataFrame) -> None:
    frame.loc[(frame["date"] == day(60)) & (frame["product_id"] == "P07"), "units_sold"] = 6500.0


FAULTS: dict[str, tuple[Change, str, int, bool]] = {
    "all in cents from a day on": (cents_for_all, "price_unit", PRODUCTS * 43, True),
    "one in cents from a day on": (cents_for_one, "price_unit", 43, True),
    "one price a hundredfold": (typo, "price_typo", 1, True),
    "one day in cents": (one_day_in_cents, "price_typo", PRODUCTS, True),
    "competitor in cents": (competitor_in_cents, "competitor_price", PRODUCTS, True),
    "another id": (renamed, "renamed", 1, False),
    "a week is lost": (week_lost, "lost_days", 6, False),
    "another spelling": (spelling, "category_spelling", 2, False),
    "stock at closing": (stock_at_closing, "stock_not_at_opening", STOCK_ROWS, False),
    "a total among units": (total_among_units, "units_outlier", 1, False),
}


def test_nothing_is_found_on_sound_sales() -> None:
    assert found(panel_of()) == {}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_planted_fault_is_found_alone_and_counted(fault: str) -> None:
    change, name, count, blocks_training = FAULTS[fault]

    seen = found(panel_of(change))

    assert list(seen) == [name]
    assert (seen[name].count, seen[name].blocks_training) == (count, blocks_training)


def test_a_finding_names_product_day_and_value() -> None:
    price = float(sound().query("product_id == 'P07'").set_index("date")["price"].loc[day(60)])

    texts = {fault: str(*found(panel_of(change)).values()) for fault, (change, *_) in FAULTS.items()}

    assert f"'P00' on {day(70)}: price from about" in texts["all in cents from a day on"]
    assert f"'P07' on {day(70)}: price from about" in texts["one in cents from a day on"]
    assert f"'P07' on {day(60)}: price from about" in texts["one price a hundredfold"]
    assert f" to {price * 100:.4g}. " in texts["one price a hundredfold"]
    assert "--quarantine" in texts["one price a hundredfold"]
    assert f"'P00' on {day(0)}: 1" in texts["competitor in cents"]
    assert f"'P07' ends {day(58)} and 'Q07' begins {day(60)} at price" in texts["another id"]
    assert f"first {day(60)} to {day(65)}." in texts["a week is lost"]
    assert "'Tea' and 'tea'" in texts["another spelling"]
    assert f"'P07' on {day(60)}: 6500 units, 6 usual" in texts["a total among units"]


@pytest.mark.parametrize("factor", [1000.0, 100.0, 10.0, 0.1, 0.01, 0.001])
@pytest.mark.parametrize("since", [2, 50, DAYS - 1])
def test_every_unit_is_found_from_the_second_day_to_the_last(factor: float, since: int) -> None:
    def change(frame: pd.DataFrame) -> None:
        frame["price"] = frame["list_price"]
        frame.loc[frame["date"] >= day(since), ["price", "list_price", "comp_price"]] *= factor

    seen = found(panel_of(change))

    assert list(seen) == ["price_unit"]
    assert seen["price_unit"].blocks_training
    assert f"on {day(since)}: price from" in str(seen["price_unit"])


def test_one_product_in_a_thousand_is_warned_of_only() -> None:
    patient = CONFIG.plausibility.model_copy(update={"refuse_share": 0.05})
    panels = [panel_of(cents_for_one), panel_of(typo), panel_of(cents_for_all)]

    blocks_training = [[finding.blocks_training for finding in findings(panel, patient)] for panel in panels]

    assert blocks_training == [[False], [False], [True]]


@pytest.mark.parametrize("days", [1, 40])
def test_a_tenth_of_the_price_may_be_a_clearance_and_stops_nothing(days: int) -> None:
    def change(frame: pd.DataFrame) -> None:
        frame["price"] = frame["list_price"]
        frame.loc[frame["date"].between(day(60), day(59 + days)) & (frame["product_id"] == "P07"), "price"] /= 10

    panel = panel_of(change)

    assert [finding.blocks_training for finding in findings(panel, CONFIG.plausibility)] == [False]
    assert not mistyped(panel).any()


@pytest.mark.parametrize("cut", [0.2, 0.3, 3.0, 5.0])
def test_cuts_and_rises_are_no_other_unit(cut: float) -> None:
    def change(frame: pd.DataFrame) -> None:
        frame.loc[frame["date"] >= day(50), "price"] *= cut

    assert found(panel_of(change)) == {}


@pytest.mark.parametrize("factor", [13.0, 1 / 13.0, 20.0])
def test_a_move_that_is_no_power_of_ten_is_no_other_unit(factor: float) -> None:
    def change(frame: pd.DataFrame) -> None:
        frame["price"] = frame["list_price"]
        frame.loc[(frame["date"] >= day(50)) & (frame["product_id"] == "P07"), ["price", "comp_price"]] *= factor

    assert found(panel_of(change)) == {}


def test_no_competitor_is_blamed_for_the_unit_of_the_own_prices() -> None:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        cents_for_all(frame)
        return frame[(frame["product_id"] > "P30") | (frame["date"] >= day(75))]  # most launched in cents

    assert list(found(panel_of(change))) == ["price_unit"]


def test_a_few_products_of_a_dear_competitor_are_warned_of_only() -> None:
    def change(frame: pd.DataFrame) -> None:
        frame.loc[frame["product_id"] == "P07", "comp_price"] *= 40

    seen = found(panel_of(change))["competitor_price"]

    assert (seen.count, seen.blocks_training) == (1, False)


@pytest.mark.parametrize("field", ["category", "list_price", "price", "units_sold", "date"])
def test_a_product_that_differs_is_no_renamed_one(field: str) -> None:
    def change(frame: pd.DataFrame) -> pd.DataFrame | None:
        renamed(frame)
        new = frame["product_id"] == "Q07"
        if field == "category":
            frame.loc[new, field] = "jam" if frame.loc[new, field].iloc[0] != "jam" else "tea"
        elif field == "date":
            return frame[~new | (frame["date"] >= day(75))]
        else:
            frame.loc[new, field] *= 0.9 if "price" in field else 5
        return None

    assert found(panel_of(change)) == {}


def test_a_slow_seller_that_sells_again_is_no_renamed_product() -> None:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        of = frame["product_id"] == "P07"
        frame.loc[of, "price"] = frame.loc[of, "list_price"]
        slow = frame[of].assign(product_id="Q07", units_sold=0.0)
        slow.loc[(slow["date"] >= day(12)) & (np.arange(len(slow)) % 13 == 11), "units_sold"] = 78.0
        return pd.concat([frame[~of | (frame["date"] < day(11))], slow])

    assert found(panel_of(change)) == {}


def test_a_product_is_renamed_whatever_an_absent_row_means() -> None:
    zeros = CONFIG.model_copy(update={"missing": "zero"})
    frame = sound().copy()
    renamed(frame)

    panel = build_panel(frame, zeros)

    assert "renamed" in [finding.name for finding in findings(panel, zeros.plausibility)]


def test_a_day_that_absent_rows_turned_into_zeros_is_lost_all_the_same() -> None:
    zeros = CONFIG.model_copy(update={"missing": "zero"})

    panel = build_panel(week_lost(sound().copy()), zeros)

    assert [finding.name for finding in findings(panel, zeros.plausibility)] == ["lost_days"]


def test_a_closed_holiday_and_a_quiet_day_of_slow_sellers_are_not_lost() -> None:
    def holiday(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[frame["date"] != "2024-05-27"]  # Memorial Day

    def slow(frame: pd.DataFrame) -> pd.DataFrame:
        frame["units_sold"] = np.random.default_rng(1).poisson(0.2, len(frame)).astype(float)
        return frame[frame["product_id"].isin(["P01", "P02", "P03"])]

    assert found(panel_of(holiday)) == {}
    assert found(panel_of(slow)) == {}


@pytest.mark.parametrize("scenario", [None, *SCENARIOS])
def test_nothing_is_found_on_simulated_markets(scenario: str | None) -> None:
    frame = (
        simulate(MarketConfig(products=40, days=400)).frame()
        if scenario is None
        else simulate_foreign(ForeignConfig(scenario=scenario, products=40, days=400)).frame()
    )

    assert found(build_panel(frame, CONFIG)) == {}


@given(factor=st.floats(1e-3, 1e3), fault=st.sampled_from(list(FAULTS)))
@settings(max_examples=25)
def test_a_currency_changes_no_finding(factor: float, fault: str) -> None:
    panel = panel_of(FAULTS[fault][0])
    prices = ("price", "list_price", "unit_cost", "comp_price")

    other = dataclasses.replace(panel, **{name: getattr(panel, name) * np.float32(factor) for name in prices})

    seen, again = found(panel), found(other)
    assert list(seen) == list(again)
    assert [(one.count, one.blocks_training, one.what) for one in seen.values()] == [
        (one.count, one.blocks_training, one.what) for one in again.values()
    ]
    assert_array_equal(mistyped(panel), mistyped(other))


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_panel_is_only_looked_at(fault: str) -> None:
    panel = panel_of(FAULTS[fault][0])
    before = {name: getattr(panel, name).copy() for name in SERIES}
    for name in SERIES:
        getattr(panel, name).flags.writeable = False

    findings(panel, CONFIG.plausibility)
    mistyped(panel)

    for name in SERIES:
        assert_array_equal(getattr(panel, name), before[name])


def test_a_price_that_was_mistyped_is_set_aside_with_its_row(tmp_path: Path) -> None:
    frame = sound().copy()
    typo(frame)
    frame.loc[3, "price"] = -1.0
    frame.to_csv(tmp_path / "sales.csv", index=False)
    row = int(np.flatnonzero((frame["date"] == day(60)) & (frame["product_id"] == "P07"))[0]) + 1

    panel = load_panel_from(str(tmp_path / "sales.csv"), CONFIG, quarantine=tmp_path / "bad")

    aside = pd.read_csv(tmp_path / "bad" / "bad_rows.csv")
    assert aside["row"].tolist() == [4, row]
    assert aside["reasons"].tolist()[1].startswith("price_outlier: ")
    assert aside["product_id"].tolist()[1] == "P07"
    assert panel.present.sum() == len(frame) - 2
    assert found(panel) == {}
    assert any(f"first row {row} (product_id 'P07', date {day(60)}, price" in note for note in panel.notes)


def test_prices_that_a_person_vouches_for_are_not_set_aside(tmp_path: Path) -> None:
    frame = sound().copy()
    typo(frame)
    frame.to_csv(tmp_path / "sales.csv", index=False)
    trusting = CONFIG.model_copy(update={"plausibility": CONFIG.plausibility.model_copy(update={"refuse": False})})

    panel = load_panel_from(str(tmp_path / "sales.csv"), trusting, quarantine=tmp_path / "bad")

    assert panel.present.sum() == len(frame)
    assert not (tmp_path / "bad").exists()
