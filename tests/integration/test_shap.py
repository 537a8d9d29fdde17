"""The plots that shap draws of a version's explanations."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipelines.reports.plots import SAMPLE, as_shap, load_shap, sample_requests, shap_plots
from pipelines.reports.sensitivity import analyse
from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.decision.explanation import explain
from simulation.config import MarketConfig
from simulation.market import simulate
from tests.kit.versions import loaded_version, make_version

NAMES = ["shap_summary_price", "shap_waterfall_price", "shap_summary_demand", "shap_waterfall_demand"]


def test_the_sample_is_the_same_each_time_and_does_not_grow_with_the_products() -> None:
    requests = sample_requests(loaded_version())

    assert requests == sample_requests(loaded_version())
    assert len({request.product_id for request in requests}) == len(requests)
    assert len(requests) == min(SAMPLE, len(loaded_version().facts.product_ids))


def test_what_is_drawn_adds_up_to_the_change_of_each_request() -> None:
    pricer, today = loaded_version().pricer(version="7"), loaded_version().demand.state_date
    explained = [
        explain(request, pricer, today=today, quantity="demand") for request in sample_requests(loaded_version())
    ]

    values = as_shap(load_shap(), explained)

    changes = [100 * (one.value / one.baseline_value - 1) for one in explained]
    assert values.values.sum(axis=1) == pytest.approx(changes)
    assert np.abs(changes).max() > 1


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_shap_draws_a_summary_and_a_waterfall_of_prices_and_of_demand() -> None:
    nothing = np.full(len(loaded_version().facts.product_ids), np.nan)
    bare = replace(loaded_version().facts, stock=nothing, comp_price=nothing, typical_units=nothing)

    for one in (loaded_version(), replace(loaded_version(), facts=bare)):
        drawn = dict(shap_plots(one))

        assert list(drawn) == NAMES
        for image in drawn.values():
            with Image.open(io.BytesIO(image)) as picture:
                assert picture.format == "PNG"
                assert picture.width > 500
                assert np.asarray(picture.convert("L")).std() > 5


def test_a_weekly_version_is_analysed_and_explained_like_a_daily_one(tmp_path: Path) -> None:
    daily = simulate(MarketConfig(products=6, days=364, seed=3)).frame()
    week = pd.to_datetime(daily["date"]).dt.to_period("W").dt.start_time
    first = daily.assign(date=week).groupby(["product_id", "date"], as_index=False)
    weekly = first.agg({name: "sum" if name == "units_sold" else "first" for name in daily.columns[2:]})
    settings = load_config()
    data = settings.data.model_copy(update={"period": "week"})
    panel = build_panel(weekly, data)
    made = make_version(tmp_path / "version", panel=panel, config=settings.model_copy(update={"data": data}))

    found = analyse(made)
    drawn = dict(shap_plots(made))

    assert (found.summary["elasticity"] < 0).all()
    assert "shap_waterfall_price" in drawn
