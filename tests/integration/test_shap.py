"""The plots that shap draws of a version's explanations."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipelines.reports.plots import as_shap, load_shap, sample_requests, shap_plots
from pricing.decision.explanation import explain
from tests.kit.versions import loaded_version

NAMES = ["shap_summary_price", "shap_waterfall_price", "shap_summary_demand", "shap_waterfall_demand"]


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
