"""What a competitor's price does to demand: found where it is there, with its doubt; unknown where nothing tells."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines.reports.sensitivity import competitor_columns, competitor_words
from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.data.ewma import Norms
from pricing.data.panel import Panel
from pricing.demand.competitor import LEAST_MOVES, CompetitorEffects, estimate_competitor_effects
from pricing.demand.model import DemandModel, add_products
from pricing.registry.version import load, shown_competitor
from tests.kit.serving import REQUEST, open_app
from tests.kit.versions import make_demand, shared_panel, shared_version

OWN = -2.0
WEEKS, PRODUCTS = 60, 12


@cache
def sales(cross: float = 0.8, seed: int = 5) -> pd.DataFrame:
    """Poisson sales of products whose competitor moves its price every second week; product 00 has none.

    The own price moves too, the competitor follows it in part, and all share a weekday profile and a shock a week.
    """
    rng = np.random.default_rng(seed)
    products, days = PRODUCTS, 7 * WEEKS
    week = np.arange(days) // 7
    drawn = rng.normal(0, 0.15, (products, WEEKS // 2))
    competitor = 10 * np.exp(np.repeat(drawn, 2, axis=1))[:, week]
    own = 10 * np.exp(0.1 * rng.integers(-1, 2, (products, WEEKS)))[:, week]
    competitor *= (own / 10) ** 0.5
    shock = rng.normal(0, 0.2, WEEKS)[week] + 0.3 * (np.arange(days) % 7 >= 5)
    mean = 20 * np.exp(shock + OWN * np.log(own / 10) + cross * np.log(competitor / 10))
    frame = pd.DataFrame(
        {
            "date": np.tile(pd.date_range("2024-01-01", periods=days), products),
            "product_id": np.repeat([f"{number:02}" for number in range(products)], days),
            "category": np.repeat([f"group {number % 3}" for number in range(products)], days),
            "units_sold": rng.poisson(mean).reshape(-1).astype(float),
            "price": own.reshape(-1),
            "list_price": 10.0,
            "comp_price": competitor.reshape(-1),
            "is_promo": 0,
        }
    )
    frame.loc[frame["product_id"] == "00", "comp_price"] = np.nan
    return frame


def estimate(frame: pd.DataFrame, *, elasticity: float = OWN) -> CompetitorEffects:
    panel = build_panel(frame, load_config().data)
    return estimate_competitor_effects(panel, norms=norms(panel, elasticity), category=categories(panel))


@cache
def panel_of(cross: float) -> Panel:
    return build_panel(sales(cross), load_config().data)


def norms(panel: Panel, elasticity: float) -> Norms:
    products = len(panel.product_ids)
    whole = {"usual_price": 10.0, "unit": 1.0, "prior_level": 20.0, "elasticity": elasticity}
    nothing = {"weekend": 0.0, "promotion": 0.0}
    return Norms(**{name: np.full(products, value, np.float32) for name, value in (whole | nothing).items()})


def categories(panel: Panel) -> Any:
    return np.unique(panel.categories, return_inverse=True)[1]


@pytest.mark.parametrize("cross", [0.8, 0.0])
@pytest.mark.parametrize("elasticity", [OWN, -1.4])  # wrong: the own price takes up what is left
def test_the_effect_is_found_within_its_interval(cross: float, elasticity: float) -> None:
    panel = panel_of(cross)

    found = estimate_competitor_effects(panel, norms=norms(panel, elasticity), category=categories(panel))

    low, high = (ends[1:] for ends in found.interval())
    assert found.mean[1:].mean() == pytest.approx(cross, abs=0.1)
    assert ((low <= cross) & (cross <= high)).mean() > 0.6
    assert (found.sd[1:] < 0.5).all()


def test_where_no_competitor_price_is_known_the_effect_is_unknown() -> None:
    found = estimate(sales())

    assert np.isnan([found.mean[0], found.sd[0]]).all()
    assert found.moves[0] == 0


def test_too_few_moves_tell_nothing() -> None:
    frame = sales().copy()
    one = frame["product_id"] == "07"
    steps = np.minimum(np.arange(one.sum()) // 70, LEAST_MOVES - 1)  # one move fewer than needed
    frame.loc[one, "comp_price"] = 9.0 + 0.5 * steps

    found = estimate(frame)

    assert found.moves[7] == LEAST_MOVES - 1
    assert np.isnan(found.mean[7])
    assert np.isfinite(found.mean[8])


def test_fewer_moves_leave_more_doubt() -> None:
    frame = sales()

    whole, half = estimate(frame), estimate(frame[frame["date"] < "2024-06-01"])

    assert (half.sd[1:] > whole.sd[1:]).mean() > 0.9


@pytest.mark.parametrize("column", ["stock", "is_promo"])
def test_days_that_sold_out_or_were_advertised_do_not_count(column: str) -> None:
    frame = sales()
    odd = (np.random.default_rng(1).random(len(frame)) < 0.2) & (frame["comp_price"] > 10)
    units = np.where(odd, np.floor(frame["units_sold"] / 4), frame["units_sold"])
    given = np.where(odd, units, 1000.0) if column == "stock" else odd.astype(int)

    found = estimate(frame.assign(units_sold=units, **{column: given}))

    assert found.mean[1:].mean() == pytest.approx(0.8, abs=0.12)


def test_a_history_without_any_competitor_or_of_a_week_is_no_error() -> None:
    for frame in (sales().assign(comp_price=np.nan), sales()[lambda all_: all_["date"] < "2024-01-08"]):
        found = estimate(frame)

        assert np.isnan(found.mean).all()


def with_effects(demand: DemandModel) -> DemandModel:
    """The first product's effect is clear, the second's may be none, nothing tells the others'."""
    count = len(demand.product_ids)
    mean, sd, moves = np.full(count, np.nan, np.float32), np.full(count, np.nan, np.float32), np.zeros(count, np.int32)
    mean[:2], sd[:2], moves[:3] = (0.5, 0.2), (0.1, 0.4), (20, 9, 2)
    return replace(demand, competitor=CompetitorEffects(mean, sd, moves))


def test_the_effect_is_shown_with_its_interval_or_as_unknown() -> None:
    demand = with_effects(make_demand(shared_panel()))

    said = [shown_competitor(demand, row).words for row in (0, 1, 2, 3)]

    assert (
        said[0]
        == "A competitor 1 % dearer changes demand by +0.50 % (80 % interval +0.37 to +0.63; 20 moves of its price)."
    )
    assert "(80 % interval −0.31 to +0.71, so perhaps nothing; 9 moves of its price)" in said[1]
    assert said[2].endswith("is unknown: it moved 2 times in the history, too few to tell.")
    assert said[3].endswith("is unknown: no move of it is in the history.")
    assert shown_competitor(replace(demand, competitor=None), 0).effect is None


def test_the_report_counts_what_is_known() -> None:
    demand = with_effects(make_demand(shared_panel()))
    every = pd.DataFrame(competitor_columns(demand, np.arange(12)))

    assert competitor_words(every) == (
        "The competitor: for the middle one of 2 products demand changes by +0.35 % where its price rises by 1 % "
        "(80 % interval +0.03 to +0.67); for 1 of them the interval lies above 0. For 10 products it is unknown."
    )
    assert competitor_words(every[2:]).startswith(
        "The competitor: what its price does to demand is unknown for 10 of 10 products"
    )


def test_a_model_keeps_the_effects_through_its_arrays_and_knows_nothing_of_new_products() -> None:
    panel = shared_panel()
    some = make_demand(panel.select(np.arange(12) != 1))  # without the second product
    some = with_effects(some)

    again = DemandModel.from_arrays(some.to_arrays(), some.meta())
    grown = add_products(again, panel)

    assert again.competitor is not None
    assert again.competitor.moves.tolist() == some.competitor.moves.tolist()  # type: ignore[union-attr]
    assert grown.competitor is not None
    assert np.isnan(grown.competitor.mean[1])
    assert grown.competitor.mean[[0, 2]] == pytest.approx([0.5, 0.2])


def test_the_service_says_what_the_competitor_does_to_demand(tmp_path: Path) -> None:
    with open_app(tmp_path, version=shared_version()) as shop:
        served = shop.service.champion.served
        assert served.version is not None
        elasticity = shop.client.get("/products/P00001/elasticity").get_json()
        answer = shop.client.post("/explain", json={"request": {**REQUEST, "comp_price": 8.0}}).get_json()

    words = shown_competitor(load(shared_version()).demand, 0).words
    assert elasticity["competitor"] == {"effect": None, "low": None, "high": None, "moves": 0, "words": words}
    assert [driver["sentence"].endswith(words) for driver in answer["drivers"] if driver["name"] == "competitor"] == [
        True
    ]
