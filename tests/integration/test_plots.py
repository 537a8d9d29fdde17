"""Plots are drawn of any backtest and any version: one that is small, odd or empty must not fail a training."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipelines.reports.plots import FORECAST_PLOTS, as_shap, load_shap, sample_requests, shap_plots, write_artifacts
from pricing.decision.explanation import explain
from tests.kit.versions import loaded_version


def frame(*, products: int = 8, steps: int = 5, folds: int = 2) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        {
            "product_id": f"P{product}",
            "cutoff": pd.Timestamp("2024-01-01") + pd.Timedelta(days=7 * fold),
            "date": pd.Timestamp("2024-01-01") + pd.Timedelta(days=7 * fold + step),
            "step": step,
        }
        for fold in range(folds)
        for product in range(products)
        for step in range(1, steps + 1)
    ]
    made = pd.DataFrame(rows)
    count = len(made)
    low = rng.uniform(0, 0.8, count)
    quantiles = {"q025": 1.0, "q10": 2.0, "q50": 5.0, "q90": 9.0, "q975": 12.0}
    return made.assign(
        actual=rng.poisson(5, count).astype(float),
        censored=rng.random(count) < 0.1,
        forecast=5.2,
        pit_low=low,
        pit_high=low + 0.2,
        **quantiles,
    )


ODD = {
    "ordinary": frame(),
    "one product, one fold": frame(products=1, folds=1),
    "all sold out": frame().assign(censored=True),
    "nothing sold": frame().assign(actual=0.0),
}


@pytest.mark.parametrize("name", ODD)
def test_every_plot_of_a_backtest_is_drawn(name: str) -> None:
    drawn = {plot: draw(ODD[name]) for plot, draw in FORECAST_PLOTS.items()}

    for figure in drawn.values():
        figure.draw_without_rendering()
        assert figure.get_suptitle()
        assert all(ax.get_ylabel() for ax in figure.axes if ax.get_visible())


def test_a_plot_that_cannot_be_drawn_is_left_out_and_said_and_costs_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    write_artifacts(tmp_path, frame().drop(columns="pit_low"), version=loaded_version())

    drawn = {path.stem for path in (tmp_path / "plots").iterdir()}
    assert drawn >= {"forecast_fans", "shap_summary_price"}
    assert {path.name for path in (tmp_path / "sensitivity").iterdir()} == {
        "summary.parquet",
        "products.parquet",
        "sensitivity.html",
    }
    assert "calibration" not in drawn
    assert "plots/calibration.png" in capsys.readouterr().out
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_what_is_drawn_adds_up_to_the_change_of_each_request() -> None:
    pricer, today = loaded_version().pricer(version="7"), loaded_version().demand.state_date
    explained = [
        explain(request, pricer, today=today, quantity="demand") for request in sample_requests(loaded_version())
    ]

    values = as_shap(load_shap(), explained)

    changes = [100 * (one.value / one.baseline_value - 1) for one in explained]
    assert values.values.sum(axis=1) == pytest.approx(changes)
    assert np.abs(changes).max() > 1


def test_shap_draws_prices_and_demand_of_a_version_that_knows_nothing_else() -> None:
    nothing = np.full(len(loaded_version().facts.product_ids), np.nan)
    bare = replace(loaded_version().facts, stock=nothing, comp_price=nothing, typical_units=nothing)

    drawn = dict(shap_plots(replace(loaded_version(), facts=bare)))

    assert list(drawn) == ["shap_summary_price", "shap_summary_demand"]
    for image in drawn.values():
        with Image.open(io.BytesIO(image)) as picture:
            assert np.asarray(picture.convert("L")).std() > 5
