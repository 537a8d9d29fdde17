"""The benchmark of forecasts of real sales: what it reads, who is held against whom, and what nobody is told."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.forecast import ATOMS, CANDIDATES, atoms, joined, judge, ranked_probability
from benchmarks.forecast_data import CHOOSING, SETS, complete_journey, configured, history
from benchmarks.forecasters import LEVELS, QUANTILES, SEARCH, Forecasts, _History
from pricing.data.contract import check
from pricing.data.panel import STEP_DAYS
from pricing.demand.folds import walk_forward
from tests.kit.demand_fakes import make_panel

LENGTHS = {"m5": 1913, "oj": 121, "cj": 52, "cjday": 364, "tafeng": 120}  # periods of the data sets


def receipts(folder: Path) -> str:
    """A year of a grocer: product 1 sells most in the first weeks, 2 in the whole year, and 3 is fuel, no product."""
    days = pd.date_range("2017-01-01", "2017-12-31", freq="D")
    bill = {"sales_value": 6.0, "retail_disc": 1.0, "coupon_match_disc": 0.5}  # of a unit
    sold = {1: [2] * 365, 2: [1] * 200 + [50] * 165, 3: [90] * 365}
    frame = pd.concat([pd.DataFrame({"product_id": product, "quantity": each}) for product, each in sold.items()])
    frame["transaction_timestamp"] = np.tile(days + pd.Timedelta(hours=9), 3)
    frame.assign(**{name: each * frame["quantity"] for name, each in bill.items()}).to_parquet(
        folder / "transactions.parquet"
    )
    catalogue = {"department": ["GROCERY", "GROCERY", "FUEL"], "product_category": ["A", None, "C"]}
    pd.DataFrame({"product_id": [1, 2, 3], **catalogue}).to_parquet(folder / "products.parquet")
    return str(folder)


def test_receipts_become_rows_that_keep_the_contract_of_products_chosen_by_the_first_part(tmp_path: Path) -> None:
    frame = complete_journey(receipts(tmp_path), products=1)

    row = frame.iloc[0]
    assert not check(frame, where="receipts", period="week").violations
    assert frame["product_id"].unique().tolist() == ["1"]
    assert (row["date"], row["units_sold"]) == (pd.Timestamp("2017-01-02"), 14.0)
    assert (row["price"], row["list_price"]) == (6.5, 7.5)  # before coupons; before the loyalty discount


def test_ta_feng_prices_and_costs_are_those_of_a_unit_and_no_days_price_tells_of_its_sales(tmp_path: Path) -> None:
    lines = {
        "TRANSACTION_DT": [f"11/{day}/2000" for day in (1, 1, 2, 3, 4, 4, 6)],
        "PRODUCT_SUBCLASS": [110217] * 7,
        "PRODUCT_ID": [7, 7, 8, 7, 7, 7, 7],
        "AMOUNT": [2, 1, 1, 1, 0, 1, 1],
        "ASSET": [40, 20, 20, 0, 5, 20, 20],
        "SALES_PRICE": [60, 30, 50, 28, 5, 30, 40],
    }
    pd.DataFrame(lines).to_csv(tmp_path / "lines.csv")

    frame = SETS["tafeng"].read(str(tmp_path / "lines.csv"))
    panel = history(frame, configured(SETS["tafeng"], short=False), periods=None, factor=10.0)

    assert not check(frame, where="lines", period="day").violations
    own = frame[frame["product_id"] == "7"]
    assert own["price"].tolist() == [*[30.0] * 4, 40.0]  # the week's median; 6 November is a Monday
    assert own["units_sold"].tolist() == [3.0, 0.0, 1.0, 1.0, 1.0]
    assert own["unit_cost"].iloc[0] == 20.0
    assert panel.units_sold[0].tolist() == [30.0, 0.0, 10.0, 10.0, 0.0, 10.0]  # a day without a line is a zero


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("name", sorted(SETS))
def test_every_set_is_judged_from_eight_cutoffs_after_the_choice_of_its_products(name: str, short: bool) -> None:
    sales, length = SETS[name], LENGTHS[name]
    dates = np.datetime64("2020-01-06") + STEP_DAYS[sales.period] * np.arange(length)
    own = dates[-sales.short_periods :] if short else dates

    folds = walk_forward(own, config=configured(sales, short=short).demand, period=sales.period)

    assert len(folds) == 8
    assert folds[0].first > dates[int(CHOOSING * length) - 1]
    assert folds[-1].last == dates[-1]


def judged(*, folds: int = 3, products: int = 6, seed: int = 0) -> pd.DataFrame:
    """Evaluation rows of a backtest with made-up forecasts."""
    rng = np.random.default_rng(seed)
    parts = []
    for number in range(folds):
        cutoff = np.datetime64("2024-03-01") + 7 * number
        rows = pd.MultiIndex.from_product([[f"P{i}" for i in range(products)], cutoff + np.arange(1, 8)]).to_frame(
            False
        )
        actual = rng.poisson(5, len(rows)).astype(float)
        parts.append(
            pd.DataFrame(
                {
                    "product_id": rows[0],
                    "date": rows[1].astype("datetime64[s]"),
                    "cutoff": cutoff.astype("datetime64[s]"),
                    "volume_class": "mid",
                    "actual": actual,
                    "censored": False,
                    "unit": 1.0,
                    "counted": True,
                    "forecast": 5.0,
                    "q50": 5.0,
                    "crps": 1.5,
                    "pit_low": 0.3,
                    "pit_high": 0.4,
                    "naive": actual + 1.0,
                    "flat": actual + 2.0,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def forecasts(frame: pd.DataFrame, quantiles: Any) -> Forecasts:
    """A competitor that forecasts the given quantiles of every row, in another order of rows."""
    values = np.broadcast_to(np.asarray(quantiles, float), (len(frame), len(LEVELS)))
    keys = frame[["product_id", "cutoff", "date"]]
    whole = keys.assign(**dict(zip(QUANTILES, values.T, strict=True)))
    return Forecasts(whole.sample(frac=1.0, random_state=1), block(frame.assign(lightgbm=0.0), lightgbm=1.0))


def block(frame: pd.DataFrame, *, lightgbm: float) -> pd.DataFrame:
    """The block before the first cutoff, on which LightGBM is off by so much."""
    first = frame[frame["cutoff"] == frame["cutoff"].min()]
    moved = first.assign(date=first["date"] - pd.Timedelta(days=7), lightgbm=first["actual"] + lightgbm)
    return moved[["date", "actual", "censored", *CANDIDATES]]


def test_a_row_that_a_competitor_did_not_forecast_is_an_error() -> None:
    frame = judged()
    others = forecasts(frame, range(7))

    with pytest.raises(ValueError, match="1 of 126 have none, first product"):
        joined(frame, replace(others, frame=others.frame.iloc[1:]), name="lightgbm", factor=1.0)


def test_forecasts_are_multiplied_with_the_units() -> None:
    frame, quantiles = judged(), [1.0, 2.0, 4.0, 5.0, 7.0, 9.0, 12.0]
    tenfold = frame.assign(actual=10.0 * frame["actual"], unit=10.0)

    once = joined(frame, forecasts(frame, quantiles), name="lightgbm", factor=1.0)
    ten = joined(tenfold, forecasts(frame, quantiles), name="lightgbm", factor=10.0)

    for column in ("lightgbm", "lightgbm_mean", "lightgbm_crps"):
        np.testing.assert_allclose(ten[column], 10.0 * once[column])
    np.testing.assert_allclose(ten["lightgbm_inside"], once["lightgbm_inside"])


def test_quantiles_of_pieces_are_whole_and_those_of_weights_are_not() -> None:
    frame = judged().assign(actual=0.0)
    few = forecasts(frame, [0.0, 0.0, 0.02, 0.04, 0.1, 0.3, 0.4])

    pieces = joined(frame, few, name="lightgbm", factor=1.0)
    weights = joined(frame.assign(counted=False), few, name="lightgbm", factor=1.0)

    assert (pieces["lightgbm"] == 0).all()
    assert (pieces["lightgbm_inside"] >= 0.8).all()
    assert (pieces["lightgbm_crps"] < 1e-9).all()
    assert (weights["lightgbm"] == 0.04).all()
    assert (weights["lightgbm_crps"] > 0.01).all()


@given(st.lists(st.floats(0, 1e4), min_size=7, max_size=7), st.floats(0, 2e4))
def test_the_crps_of_a_distribution_is_that_of_its_equally_likely_units(quantiles: list[float], actual: float) -> None:
    units = atoms(np.sort(np.array([quantiles])))

    found = ranked_probability(units, np.array([actual]))[0]

    slow = np.abs(units[0] - actual).mean() - np.abs(units[0][:, None] - units[0]).sum() / (2 * ATOMS**2)
    assert (np.diff(units[0]) >= -1e-9).all()
    assert units.min() >= 0
    assert found == pytest.approx(slow, abs=1e-6)


def test_who_forecasts_alike_differs_by_nothing_and_a_better_one_by_the_mean_of_its_gain() -> None:
    frame = judged()
    alike = frame.assign(lightgbm=frame["q50"], lightgbm_mean=5.0, lightgbm_crps=frame["crps"], lightgbm_inside=0.8)

    found = judge(alike, block(alike, lightgbm=9.0))

    more = found["differences"]
    assert more["lightgbm"]["wape"] == more["lightgbm"]["crps_low"] == more["lightgbm"]["crps_high"] == 0.0
    assert found["chosen"] == {"naive": 3, "flat": 0, "lightgbm": 0}
    assert more["chosen"] == more["naive"]
    expected = (np.abs(frame["actual"] - 5.0) - 1.0).sum() / frame["actual"].sum()
    assert more["naive"]["wape"] == pytest.approx(expected)
    assert more["naive"]["crps"] == pytest.approx(0.5 * len(frame) / frame["actual"].sum())
    assert found["scores"]["ours"]["coverage_80"] == 1.0
    assert found["scores"]["naive"]["coverage_80"] is None


def test_the_baseline_of_a_fold_knows_no_outcome_after_its_cutoff() -> None:
    frame = judged()
    known = frame["cutoff"] < frame["cutoff"].max()
    bad = frame.assign(lightgbm=frame["actual"] + np.where(known, 3.0, 0.0))  # right in the last fold alone
    bad = bad.assign(lightgbm_mean=bad["lightgbm"], lightgbm_crps=0.0, lightgbm_inside=1.0)

    found = judge(bad, block(bad, lightgbm=0.5))

    assert found["chosen"] == {"naive": 2, "flat": 0, "lightgbm": 1}  # the first by the block, on which it was right


def test_a_sold_out_row_is_not_scored() -> None:
    frame = judged().assign(lightgbm=5.0, lightgbm_mean=5.0, lightgbm_crps=1.5, lightgbm_inside=0.8)
    frame.loc[0, ["censored", "q50", "crps"]] = [True, 1e6, 1e6]

    found = judge(frame, block(frame, lightgbm=1.0))

    assert found["rows"] == 125
    assert found["scores"]["ours"]["wape"] < 1.0


@pytest.mark.parametrize("relative", SEARCH["relative"])
def test_lightgbm_is_told_nothing_that_was_sold_after_the_cutoff(relative: bool) -> None:
    panel, end = make_panel(periods=120), 80
    units = panel.units_sold.copy()
    units[:, end + 1 :] = 1e6
    other = replace(panel, units_sold=units, present=panel.present & (np.arange(120) <= end))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        told = [_History(each).table(end, range(1, 15))[0] for each in (panel, other)]
        learnt = [_History(each).training(end, 14, relative=relative) for each in (panel, other)]

    pd.testing.assert_frame_equal(*told)
    pd.testing.assert_frame_equal(*(data.data for data in learnt))
    np.testing.assert_array_equal(*(data.get_label() for data in learnt))
