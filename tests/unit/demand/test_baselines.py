"""Forecasts without a model, which of them is the baseline, and what a model gains on it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pricing.demand import evaluation
from pricing.demand.baselines import FLAT_PERIODS, against_baseline, flat_median, seasonal_naive
from tests.kit.demand_fakes import make_panel
from tests.kit.evaluation import fold_frame


def slow_naive(units: np.ndarray, present: np.ndarray, *, season: int, at: int) -> float:
    for back in range(at, -1, -1):
        if back < len(units) and (at - back) % season == 0 and present[back]:
            return float(units[back])
    return 0.0


@pytest.mark.parametrize(("period", "season"), [("day", 7), ("week", 1)])
@pytest.mark.parametrize("periods", [4, 45, 90])
def test_seasonal_naive_is_the_last_sale_on_the_same_weekday(period: str, season: int, periods: int) -> None:
    whole = make_panel()
    past = replace(whole.through(whole.dates[periods - 1]), period=period)

    found = seasonal_naive(past, steps=10)

    for product, step in np.ndindex(found.shape):
        at = periods + step
        slow = slow_naive(past.units_sold[product], past.present[product], season=season, at=at)
        assert found[product, step] == slow


def test_the_flat_baseline_is_the_median_of_the_last_28_periods_that_did_not_sell_out() -> None:
    panel = make_panel()
    sold_out = panel.units_sold.copy()
    present = panel.present.copy()
    present[2, 60:88] = False  # a gap: older rows count
    stock = panel.stock.copy()
    stock[3, 70:80] = sold_out[3, 70:80]
    stock[4] = sold_out[4]  # never anything but sold out
    present[0] = False
    past = replace(panel, present=present, stock=stock)

    found = flat_median(past)

    assert found[0] == 0.0
    assert found[1] == np.median(panel.units_sold[1, -FLAT_PERIODS:])
    assert found[2] == np.median([*panel.units_sold[2, 24:50], *panel.units_sold[2, 88:90]])
    assert found[3] == np.median([*panel.units_sold[3, 62:70], *panel.units_sold[3, 80:90]])
    assert found[4] == np.median(panel.units_sold[4, -FLAT_PERIODS:])


def fold(cutoff: str, *, flat: float, direct: float = np.nan, products: int = 4, steps: int = 14) -> pd.DataFrame:
    """Ten units sold of each product on each day; baselines that are off by so many."""
    ten = np.full((products, steps), 10.0)
    told = {"q50": 9.0, "crps": 0.7, "naive": 15.0, "flat": 10.0 - flat, "direct": 10.0 + direct}
    return fold_frame(0.9 * ten, ten, cutoff=cutoff, pit_low=0.4, pit_high=0.5, **told)


@pytest.mark.parametrize(
    ("second", "name", "errors"),
    [(1.0, "direct", (0.4, 0.1)), (4.0, "flat", (0.5, 0.1)), (np.nan, "flat", (0.5, 0.1))],
)
def test_the_baseline_is_the_best_over_all_folds_of_those_that_every_fold_has(
    second: float, name: str, errors: tuple[float, float]
) -> None:
    frame = pd.concat([fold("2024-01-01", flat=5, direct=4), fold("2024-01-15", flat=1, direct=second)])

    figures, gain = evaluation.figures(frame), against_baseline(frame, rng=np.random.default_rng(0))

    assert figures["baseline"] == name
    assert [one["wape_baseline"] for one in figures["folds"]] == pytest.approx(errors)
    best = pytest.approx(sum(errors) / 2)
    assert figures["wape_baseline"] == figures["by_volume"]["mid"]["wape_baseline"] == figures[f"wape_{name}"] == best
    assert (figures["wape_naive"], figures["wape_flat"]) == (pytest.approx(0.5), pytest.approx(0.3))
    assert (gain["wape"], gain["crps"]) == pytest.approx((0.1 - sum(errors) / 2, 0.07 - sum(errors) / 2))


def test_figures_leave_sold_out_rows_out_and_count_them() -> None:
    frame = fold("2024-01-01", flat=3)
    frame.loc[frame["product_id"] == "p0", "volume_class"] = "low"
    frame.loc[frame["step"] == 14, ["censored", "q50", "crps"]] = [True, 99.0, 99.0]

    figures = evaluation.figures(frame)

    assert (figures["rows"], figures["censored"], figures["left_out"]) == (52, 4, 4)
    names = ("wape", "wape_mean", "wape_naive", "crps", "bias")
    assert [figures[name] for name in names] == pytest.approx([0.1, 0.1, 0.5, 0.07, -0.1])
    assert figures["by_volume"]["low"]["crps"] == pytest.approx(0.07)
    assert set(figures["by_step"]) == {"1-7", "8-14"}


def test_the_gain_is_paired_and_certain_where_every_row_says_the_same() -> None:
    frame = pd.concat([fold("2024-01-01", flat=5), fold("2024-01-15", flat=5)], ignore_index=True)
    frame.loc[0, ["censored", "q50", "crps"]] = [True, 99.0, 99.0]

    found = against_baseline(frame, rng=np.random.default_rng(0))

    assert found["wape"] == found["wape_low"] == found["wape_high"] == pytest.approx(-0.4)
    assert found["crps"] == found["crps_low"] == found["crps_high"] == pytest.approx(-0.43)


@pytest.mark.parametrize(("by_product", "by_fold"), [(3.0, 0.0), (0.0, 3.0)])
def test_the_interval_of_the_gain_holds_what_it_says_whatever_is_shared(by_product: float, by_fold: float) -> None:
    rng, held = np.random.default_rng(1), []
    days = pd.date_range("2024-01-01", periods=12, freq="14D")
    rows = pd.concat([fold(str(day.date()), flat=20, products=25, steps=3) for day in days])
    for _ in range(120):  # better by 2 units a row on average, give or take an effect of product and fold
        shared = by_product * rng.standard_normal(25)[:, None] + by_fold * rng.standard_normal((12, 1, 1))
        shift = (shared + rng.standard_normal((12, 25, 3))).ravel()
        found = against_baseline(rows.assign(naive=99.0, q50=10.0 + 18.0 + shift), rng=np.random.default_rng(0))
        held.append(found["wape_low"] <= -0.2 <= found["wape_high"])

    assert 0.80 <= np.mean(held) <= 0.99
