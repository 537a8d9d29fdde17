"""shap as the oracle of our own Shapley values, and the plots it draws of them."""

import datetime as dt
import io
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipelines.reports.sensitivity import analyse
from pipelines.reports.shap_plots import (
    LABELS,
    SAMPLE,
    explain_sample,
    load_shap,
    most_telling,
    sample_requests,
    shap_plots,
)
from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.decision.explanation import GROUPS, Explanation, explain
from pricing.decision.pricer import Pricer
from pricing.decision.request import PriceRequest
from pricing.demand.grades import PRIOR_ONLY
from pricing.registry.version import LoadedVersion, load
from simulation.market import MarketConfig, simulate
from tests.kit.versions import make_version, shared_version

TODAY = dt.date(2023, 8, 1)
REQUESTS: dict[str, dict[str, Any]] = {
    "scarce and promoted": {"current_stock": 5, "is_promo": True, "comp_price": 9.5},
    "a holiday at another cost": {"is_holiday": True, "unit_cost": 0.7, "current_stock": 40},
    "another strategy": {"strategy": "revenue", "current_price": 12.0, "current_stock": 12},
    "everything at once": {
        **{"current_stock": 5, "is_promo": True, "comp_price": 9.5, "is_holiday": True, "unit_cost": 0.7},
        **{"strategy": "revenue", "current_price": 12.0, "list_price": 13.0, "next_delivery": "2023-08-12"},
    },
}


@pytest.fixture(scope="module")
def shap() -> ModuleType:
    return load_shap()


@cache
def version() -> LoadedVersion:
    return load(shared_version())


def free_pricer() -> Pricer:
    """The version's, its prices free to move as far as the band, so that every input has something to say."""
    config = load_config()
    guardrails = config.decision.guardrails.model_copy(update={"max_move": None, "seen": None})
    decision = config.decision.model_copy(update={"guardrails": guardrails})
    return version().pricer(version="7", config=config.model_copy(update={"decision": decision}))


def request(name: str, product: str = "P00003") -> PriceRequest:
    # A Thursday, so that the day differs from the ordinary Wednesday too.
    given = {"product_id": product, "day_of_week": "Thursday", "date": "2023-08-03", "current_stock": 1e9}
    return PriceRequest.model_validate({**given, **REQUESTS[name]})


def written_out(asked: PriceRequest, pricer: Pricer) -> PriceRequest:
    """The request with the list price and the competitor's price that count where it names none."""
    (decided,) = pricer.price_detailed([asked], today=TODAY)
    counted = {"list_price": decided.list_price, "comp_price": decided.decision.comp_price_used}
    return asked.model_copy(update=counted)


class Untold:
    """The version's demand, of whose elasticities nothing is known."""

    def __init__(self, demand: Any) -> None:
        self._demand = demand

    def __getattr__(self, name: str) -> Any:
        return getattr(self._demand, name)

    def grid(self, offers: Any, prices: np.ndarray) -> Any:
        found = self._demand.grid(offers, prices)
        return replace(found, grade=np.zeros_like(found.grade))


def by_shap(shap: ModuleType, parts: dict[str, dict[str, Any]], whole: PriceRequest, worth: Any) -> dict[str, float]:
    """shap's own exact values of the same game, mixtures made here: what each driver has in the baseline in `parts`."""
    names = list(parts)

    def rows_worth(rows: Sequence[Sequence[float]]) -> np.ndarray:
        found = []
        for row in rows:
            out = [name for name, taken in zip(names, row, strict=True) if taken <= 0.5]
            update = {field: value for name in out for field, value in parts[name].items()}
            found.append(worth(whole.model_copy(update=update), frozenset(names) - frozenset(out)))
        return np.array(found)

    # Asked for as many samples as there are coalitions, KernelExplainer takes each of them: its values are exact, and
    # ExactExplainer's would be the same after seven seconds in which numba compiles it.
    explainer = shap.KernelExplainer(rows_worth, np.zeros((1, len(names))))
    options = {"nsamples": 2 ** len(names) + 100, "l1_reg": False, "silent": True}
    return dict(zip(names, explainer.shap_values(np.ones((1, len(names))), **options)[0].tolist(), strict=True))


def differing(whole: PriceRequest, baseline: PriceRequest, found: Explanation) -> dict[str, dict[str, Any]]:
    """What the baseline has, by each driver of the explanation that is a group of fields."""
    drivers = {driver.name for driver in found.drivers}
    return {
        name: {field: getattr(baseline, field) for field in fields}
        for name, fields in GROUPS.items()
        if name in drivers or any(getattr(whole, field) != getattr(baseline, field) for field in fields)
    }


def shifted(found: Explanation) -> dict[str, float]:
    """The exact effects, but for that of the guardrails, which are no part of the averages."""
    return {driver.name: driver.exact for driver in found.drivers if driver.name != "guardrails"}


@pytest.mark.parametrize("name", REQUESTS)
def test_our_effects_on_the_price_are_shaps(shap: ModuleType, name: str) -> None:
    pricer = free_pricer()
    asked = request(name)
    told = pricer.unguarded(demand=pricer.demand)
    untold = pricer.unguarded(demand=Untold(pricer.demand))

    found = explain(asked, pricer, today=TODAY)

    def price(mixture: PriceRequest, taken: frozenset[str]) -> float:
        return (told if "elasticity" in taken else untold).prices([mixture], today=TODAY)[0]

    whole = written_out(asked, pricer)
    oracle = by_shap(shap, {"elasticity": {}, **differing(whole, found.baseline, found)}, whole, price)
    assert shifted(found) == pytest.approx(oracle, abs=1e-6)
    assert sum(abs(effect) > 0.01 for effect in oracle.values()) > 1


@pytest.mark.parametrize("name", REQUESTS)
def test_our_effects_on_demand_are_shaps(shap: ModuleType, name: str) -> None:
    pricer = free_pricer()
    asked = request(name)

    found = explain(asked, pricer, today=TODAY, quantity="demand")

    decided = found.decision
    prices = decided.current_price, decided.decision.recommended_price

    def units(mixture: PriceRequest, taken: frozenset[str]) -> float:
        return pricer.demand_at([mixture], [prices["price" in taken]], today=TODAY)[0]

    whole = written_out(asked, pricer)
    oracle = by_shap(shap, {"price": {}, **differing(whole, found.baseline, found)}, whole, units)
    assert {"price": 0.0, **shifted(found)} == pytest.approx(oracle, abs=1e-6)
    assert any(abs(effect) > 0.01 for effect in oracle.values())


@pytest.mark.parametrize("quantity", ["price", "demand"])
def test_our_values_are_shaps_against_another_request(shap: ModuleType, quantity: Any) -> None:
    pricer = free_pricer()
    asked, other = request("everything at once"), request("another strategy", product="P00007")
    free = pricer.unguarded(demand=pricer.demand)

    found = explain(asked, pricer, today=TODAY, against=other, quantity=quantity)

    def worth(mixture: PriceRequest, taken: frozenset[str]) -> float:
        if quantity == "price":
            return free.prices([mixture], today=TODAY)[0]
        return pricer.demand_at([mixture], [found.decision.decision.recommended_price], today=TODAY)[0]

    whole = written_out(asked, pricer)
    oracle = by_shap(shap, differing(whole, written_out(other, pricer), found), whole, worth)
    assert shifted(found) == pytest.approx(oracle, abs=1e-6)


def test_the_sample_is_the_same_each_time_and_does_not_grow_with_the_products() -> None:
    requests = sample_requests(version())

    assert requests == sample_requests(version())
    assert len(requests) == min(SAMPLE, len(version().facts.product_ids))
    assert len({request.product_id for request in requests}) == len(requests)


def test_what_is_drawn_adds_up_to_the_change_of_each_request() -> None:
    sample = explain_sample(version(), sample_requests(version()), today=version().demand.state_date, quantity="price")

    changes = [one.value - one.baseline_value for one in sample.explained]
    assert sample.effects.sum(axis=1) == pytest.approx(changes, abs=1e-9)
    assert set(sample.names) <= LABELS.keys()
    assert LABELS.keys() - {"elasticity", "price", "guardrails"} == GROUPS.keys() - {"product", "current_price"}


def test_the_waterfall_is_of_a_request_that_one_driver_does_not_explain() -> None:
    sample = explain_sample(version(), sample_requests(version()), today=version().demand.state_date, quantity="demand")

    chosen = np.sort(np.abs(sample.effects[most_telling(sample)]))

    assert chosen[-2] > 0.01


def test_products_without_stock_competitor_or_sales_are_drawn_too() -> None:
    facts, nothing = version().facts, np.full(len(version().facts.product_ids), np.nan)
    bare = replace(facts, stock=nothing, comp_price=nothing, typical_units=nothing)

    drawn = dict(shap_plots(replace(version(), facts=bare)))

    assert "shap_summary_price" in drawn


def test_a_sample_in_which_no_driver_moves_a_price_has_no_plots_of_prices(tmp_path: Path) -> None:
    frame = simulate(MarketConfig(products=9, days=150, seed=3)).frame()
    frame["price"] = frame.groupby("product_id")["price"].transform("first").round(2)
    panel = build_panel(frame[["date", "product_id", "units_sold", "price"]], load_config().data)

    drawn = dict(shap_plots(make_version(tmp_path / "version", panel=panel, grade=PRIOR_ONLY, holds_only=True)))

    assert list(drawn) == ["shap_summary_demand", "shap_waterfall_demand"]


def test_a_weekly_version_is_analysed_and_explained_like_a_daily_one(tmp_path: Path) -> None:
    daily = simulate(MarketConfig(products=6, days=364, seed=3)).frame()
    week = pd.to_datetime(daily["date"]).dt.to_period("W").dt.start_time
    first = daily.assign(date=week).groupby(["product_id", "date"], as_index=False)
    weekly = first.agg({name: "sum" if name == "units_sold" else "first" for name in daily.columns[2:]})
    settings = load_config()
    data = settings.data.model_copy(update={"period": "week"})
    panel = build_panel(weekly, data)
    made = make_version(tmp_path / "version", panel=panel, config=settings.model_copy(update={"data": data}))

    found = analyse(made, panel)
    drawn = dict(shap_plots(made))

    assert "weekend" not in set(found.products["context"])
    assert (found.summary["elasticity"] < 0).all()
    assert "shap_waterfall_price" in drawn


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_shap_draws_a_summary_and_a_waterfall_of_prices_and_of_demand() -> None:
    drawn = dict(shap_plots(version()))

    assert list(drawn) == ["shap_summary_price", "shap_waterfall_price", "shap_summary_demand", "shap_waterfall_demand"]
    for image in drawn.values():
        with Image.open(io.BytesIO(image)) as picture:
            assert picture.format == "PNG"
            assert picture.width > 500
            assert np.asarray(picture.convert("L")).std() > 5
