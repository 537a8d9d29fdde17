"""The demand model that learns: the same from arrays, and what new products take over."""

from dataclasses import replace

import numpy as np
import pytest

from pricing.demand.model import DemandModel, add_products
from pricing.demand.state import expand
from pricing.errors import HistoryError, VersionError
from tests.kit.demand_fakes import make_model, make_panel

MODEL = make_model(make_panel())


def test_arrays_and_meta_give_the_same_model_again() -> None:
    arrays = MODEL.to_arrays()

    again = DemandModel.from_arrays(arrays, MODEL.meta())

    assert again.to_arrays().keys() == arrays.keys()
    for name, values in again.to_arrays().items():
        np.testing.assert_array_equal(values, arrays[name])
        assert values.dtype != object
    assert again.meta() == MODEL.meta()
    assert again.weights_hash() == MODEL.weights_hash()
    assert again.state_date == MODEL.state_date


@pytest.mark.parametrize("name", ["encoded/state/hidden", "norms/promotion", "grade", "evidence/fortnights"])
def test_a_missing_array_is_named(name: str) -> None:
    arrays = MODEL.to_arrays()
    del arrays[name]

    with pytest.raises(VersionError, match=name.rsplit("/", maxsplit=1)[-1]):
        DemandModel.from_arrays(arrays, MODEL.meta())


def test_a_panel_of_another_grain_is_refused() -> None:
    with pytest.raises(HistoryError, match="one row a day"):
        MODEL.refresh(replace(make_panel(), period="week"))


def test_a_product_leaves_its_category_when_its_own_rows_say_enough() -> None:
    assert replace(MODEL, own_periods=60).table().own.tolist() == [True, False, True, True, True]


def test_new_products_have_what_promotions_draw_in_their_category() -> None:
    panel = make_panel()
    category = np.array([ord(name) for name in panel.categories])
    drawn = replace(MODEL, norms=replace(MODEL.norms, promotion=np.where(category == category[0], 0.4, 1.2)))
    ids = np.array([f"{product}x" for product in panel.product_ids])
    more = np.concatenate([panel.product_ids, ids])

    grown = add_products(drawn, replace(expand(panel, more), categories=np.tile(panel.categories, 2)))

    np.testing.assert_allclose(grown.norms.promotion, np.repeat(drawn.norms.promotion, 2), rtol=1e-6)
