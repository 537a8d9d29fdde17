from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from monitoring.performance import Interval, band, judge, score, window_days
from pricing.config import load_config

CONFIG = load_config().monitoring
FIGURES = {
    "wape_mean": 0.40,
    "wape_naive": 0.60,
    "bias": 0.02,
    "coverage_80": 0.81,
    "weeks": [
        {"wape_mean": 0.39, "wape_naive": 0.59, "bias": 0.01, "coverage_80": 0.80},
        {"wape_mean": 0.40, "wape_naive": 0.60, "bias": 0.02, "coverage_80": 0.81},
        {"wape_mean": 0.41, "wape_naive": 0.61, "bias": 0.03, "coverage_80": 0.82},
    ],
}


def frame(products=30, days=28, seed=0, bias=1.0):
    rng = np.random.default_rng(seed)
    product, day = np.divmod(np.arange(products * days), days)
    forecast = rng.gamma(5, 2, products * days)
    return pd.DataFrame(
        {
            "product_id": [f"P{row}" for row in product],
            "period": pd.Timestamp("2024-06-01") + pd.to_timedelta(day, unit="D"),
            "forecast": forecast * bias,
            "units_sold": rng.poisson(forecast).astype(float),
            "earlier_weeks_error": rng.gamma(2, 2, products * days),
            "scored": True,
            "inside": (np.arange(len(forecast)) % 5 > 0).astype(float),
            "pricing": "followed",
            "held_out": False,
            "unidentified": False,
            "charged": 10.0,
            "cost": 6.0,
            "earned": 4.0,
            "comp_price_age": np.nan,
            "comp_price_stale": False,
            "expected_margin": forecast * 4,
            "source": "model",
            "confidence": 0.7,
            "category": [f"c{row % 3}" for row in product],
        }
    )


def scored(rows):
    return score(rows, name="x", rng=np.random.default_rng(0))


def rated(wape=(0.4, 0.38, 0.42), bias=(0.0, -0.03, 0.03), earlier_weeks=0.6, rows=500, coverage=(0.8, 0.77, 0.83)):
    score_ = scored(frame())
    promises = {"wape": Interval(*wape), "bias": Interval(*bias), "coverage": Interval(*coverage)}
    return replace(score_, earlier_weeks=earlier_weeks, rows=rows, **promises)


def test_error_and_bias_are_those_of_a_slow_loop():
    rows = frame(bias=1.1)

    found = scored(rows)

    wrong = off = sold = 0.0
    for row in rows.itertuples():
        wrong += abs(row.forecast - row.units_sold)
        off += row.forecast - row.units_sold
        sold += row.units_sold
    assert found.wape.value == pytest.approx(wrong / sold)
    assert found.bias.value == pytest.approx(off / sold)
    assert found.wape.low < found.wape.value < found.wape.high
    assert found.profit.value == pytest.approx((4 * rows["units_sold"]).sum() / rows["expected_margin"].sum())


def test_coverage_is_the_share_of_outcomes_inside_where_it_is_known():
    rows = frame()
    rows.loc[:99, "inside"] = np.nan
    rows.loc[100:104, ["inside", "scored"]] = [0.0, False]

    found = scored(rows).coverage

    assert found.value == pytest.approx(rows["inside"][105:].mean())
    assert found.low < found.value < found.high


def test_the_promise_is_the_error_of_the_mean_forecasts_which_the_log_holds():
    weeks = [{**week, "wape": week["wape_mean"] - 0.05} for week in FIGURES["weeks"]]

    promised = band({**FIGURES, "wape": 0.35, "weeks": weeks}, CONFIG)

    assert promised.wape == 0.40
    assert promised.wape_most == pytest.approx(0.40 * (1 + CONFIG.error_tolerance))


def test_the_interval_covers_products_not_days_but_where_they_are_too_few():
    off = {f"P{row}": 8.0 * (row % 2) for row in range(10)}
    few, ten = (frame(products=products, days=50) for products in (9, 10))
    for rows in (few, ten):
        rows["forecast"] = rows["units_sold"] + rows["product_id"].map(off)

    weekly, by_product = (scored(rows).wape for rows in (few, ten))

    assert by_product.high - by_product.low > 2 * (weekly.high - weekly.low) > 0


@pytest.mark.parametrize(
    ("products", "days", "window"),
    [
        (40, 28, 7),
        (15, 28, 7),
        (14, 28, 14),
        (10, 28, 14),
        (3, 60, 35),
        (1, 130, 105),
        (40, 2, 14),  # as many as hold 100 once there are so many every week
        (3, 14, 35),
        (1, 7, 105),
        (1, 1, 182),
    ],
)
def test_a_window_grows_by_weeks_until_it_holds_enough_decisions(products, days, window):
    rows = frame(products=products, days=days)
    last = rows["period"].max().to_datetime64()

    assert window_days(rows, last=last, least=7, most=182, min_rows=100) == window


@pytest.mark.parametrize("weeks", [8, 16])
def test_intervals_over_few_clusters_are_as_wide_as_students(weeks):
    widths = []
    for seed in range(10):
        rows = frame(products=1, days=7 * weeks, seed=seed).assign(
            period=pd.Timestamp("2024-06-03") + pd.to_timedelta(np.arange(7 * weeks), unit="D"), units_sold=10.0
        )
        off = (rows["forecast"] - 10).to_numpy().reshape(weeks, 7).mean(axis=1) / 10

        found = score(rows, name="x", rng=np.random.default_rng(seed)).bias

        student = 2 * stats.t.ppf(0.975, weeks - 1) * off.std(ddof=1) / np.sqrt(weeks)
        widths.append((found.high - found.low) / student)
    assert np.mean(widths) == pytest.approx(1, abs={8: 0.1, 16: 0.06}[weeks])


def test_shares_are_of_the_answers_that_pricing_made():
    rows = frame(products=10)
    product = rows["product_id"]
    rows.loc[product.isin(["P0", "P1"]), ["held_out", "source", "confidence"]] = [True, "rule", 0.0]
    rows.loc[product.isin(["P2", "P3"]), ["unidentified", "source"]] = [True, "rule"]
    rows.loc[product == "P4", "source"] = "rule"
    rows.loc[product.isin(["P5", "P6", "P7", "P8"]), "comp_price_age"] = 3.0
    rows.loc[product == "P5", "comp_price_stale"] = True

    found = scored(rows)

    assert found.rows == len(rows)  # held out or not, a forecast is right or wrong
    assert found.realised == pytest.approx((4 * rows.loc[~rows["held_out"], "units_sold"]).sum())
    shares = (found.share_rule, found.share_unidentified, found.share_comp_stale, found.confidence)
    assert shares == pytest.approx((1 / 8, 2 / 8, 1 / 4, 0.7))
    assert np.isnan(scored(frame(products=10)).share_comp_stale)


@pytest.mark.parametrize(
    "changes",
    [{"product_id": "P0", "period": pd.Timestamp("2024-06-03")}, {"units_sold": 0}],
    ids=["one product in one week", "nothing sold"],
)
def test_forecasts_without_an_interval_are_not_judged_however_many_there_are(changes):
    rows = frame().assign(**changes)

    verdict = judge(scored(rows), band(FIGURES, CONFIG), min_rows=100)

    assert (verdict.judged, verdict.breaches) == (False, {})


@pytest.mark.parametrize(
    ("changes", "judged", "breaches"),
    [
        ({}, True, []),
        ({"wape": (0.6, 0.52, 0.68)}, True, ["error"]),
        ({"wape": (0.6, 0.52, 0.68), "earlier_weeks": 0.9}, True, []),  # the demand is noisier
        ({"wape": (0.6, 0.42, 0.78)}, True, []),
        ({"bias": (0.3, 0.25, 0.35)}, True, ["bias"]),
        ({"bias": (-0.3, -0.35, -0.25)}, True, ["bias"]),
        ({"bias": (0.3, -0.05, 0.65)}, True, []),
        ({"bias": (-0.3, -0.65, 0.05)}, True, []),
        ({"coverage": (0.6, 0.56, 0.64)}, True, ["coverage"]),
        ({"coverage": (0.6, 0.5, 0.7)}, True, []),
        ({"coverage": (0.99, 0.98, 1.0)}, True, []),
        ({"wape": (2.0, 1.9, 2.1), "rows": 99}, False, []),
    ],
)
def test_only_what_surely_lies_outside_the_band_is_decay(changes, judged, breaches):
    verdict = judge(rated(**changes), band(FIGURES, CONFIG), min_rows=100)

    assert (verdict.judged, list(verdict.breaches)) == (judged, breaches)
    assert verdict.off == pytest.approx({"error": 0.5, "bias": 0.3}.get(*breaches, 0.0) if breaches else 0.0)


@pytest.mark.parametrize(
    ("figures", "judged"), [({}, False), ({"wape_mean": float("nan")}, False), ({**FIGURES, "coverage_80": None}, True)]
)
def test_what_the_backtest_does_not_tell_is_not_judged(figures, judged):
    verdict = judge(rated(coverage=(0.1, 0.05, 0.15)), band(figures, CONFIG), min_rows=100)

    assert (verdict.judged, verdict.breaches) == (judged, {})


def test_what_varies_by_the_luck_of_the_products_widens_no_band():
    biases = (-0.05, 0.0, 0.05, 0.02, -0.02, 0.04, 0.07, 0.05)
    variance = np.var(biases, ddof=1)

    def off(error):
        weeks = [{"wape_mean": 0.4, "bias": bias, "bias_se": error} for bias in biases]
        promised = band({**FIGURES, "weeks": weeks}, CONFIG)
        return promised.bias_most - FIGURES["bias"] - CONFIG.bias_tolerance

    assert off(0.0) > 0
    assert off(np.sqrt(variance / 2)) == pytest.approx(off(0.0) / np.sqrt(2))
    assert off(0.2) == pytest.approx(0.0)
    assert off(float("nan")) == pytest.approx(off(0.0))
