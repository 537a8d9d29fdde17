"""What 2,000 requests were answered before a version became a table, beside what its table answers.

`tests/data/pins.npz` holds, for two markets of each simulated family and the sample, a version's table and facts, 400
requests each, and what the network itself, run at each request, had answered: limits, units at five prices, prices and
reasons. What was dropped since: the network's own word on the competitor's price, lift and size by step.
"""

import datetime as dt
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pricing.arrays import below
from pricing.config import parse_model_config
from pricing.decision.experiments import Arm, Experiment, Experiments, keeping
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision.request import PriceRequest
from pricing.decision.switches import Switch, Switches
from pricing.demand.table import DemandTable

FACTORS = (0.7, 0.85, 1.0, 1.15, 1.35)  # of list price


@cache
def pins() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with np.load(Path(__file__).parents[1] / "data" / "pins.npz", allow_pickle=False) as file:
        arrays = dict(file)
    return arrays, json.loads(arrays.pop("documents").tobytes())


class Pinned:
    """One version with its requests, and what was answered before."""

    def __init__(self, name: str) -> None:
        arrays, documents = pins()
        self.before, about = below(arrays, name), documents[name]
        config = parse_model_config(about["config"], where=name)
        table = DemandTable.from_arrays(below(self.before, "table"), about["table"])
        facts = ProductFacts.from_arrays(below(self.before, "products"), about["products"])
        self.pricer = Pricer(table, facts, config, version="pins")
        self.today = dt.date.fromisoformat(about["today"])
        self.requests = [PriceRequest.model_validate(one) for one in about["requests"]]
        self.reasons = [one.split() for one in about["reasons"]]
        self.plain = np.array([kind == "plain" for kind in about["kinds"]])
        self.switched = np.array([kind in ("held", "freeze", "override") for kind in about["kinds"]])
        self.competitor = np.array([bool(one.get("comp_price")) for one in about["requests"]])
        draws = [
            Experiment(
                one["name"], dt.date.fromisoformat(one["start"]), one["weeks"],
                (Arm("draw", share=1.0, size=one["size"]),), dict.fromkeys(one["prices"], "draw"), one["prices"],
            )
            for one in about["plan"]
        ]  # fmt: skip
        self.given: dict[str, Any] = {
            "today": self.today,
            "experiments": Experiments((*keeping(about["held"]).every, *draws)),
            "switches": Switches([Switch.model_validate(one) for one in about["switches"]]),
        }


@pytest.fixture(params=["default0", "default1", "informed", "few_prices", "sample"])
def pinned(request: pytest.FixtureRequest) -> Pinned:
    return Pinned(request.param)


def test_limits_are_the_same(pinned: Pinned) -> None:
    context = pinned.pricer._resolver.resolve(pinned.requests, today=pinned.today).context
    limits = pinned.pricer.policy.candidate_grid.candidates(context).limits

    np.testing.assert_allclose(np.stack([limits.low, limits.high], axis=1), pinned.before["limits"], rtol=1e-12)


def test_units_are_within_what_was_dropped(pinned: Pinned) -> None:
    listed = pinned.before["list_price"]
    units = np.stack(
        [pinned.pricer.demand_at(pinned.requests, (listed * each).tolist(), today=pinned.today) for each in FACTORS],
        axis=1,
    )

    apart = np.abs(units / pinned.before["units"] - 1)
    usual = apart[pinned.plain & ~pinned.competitor]
    assert np.median(usual[:, 2]) < 0.01
    assert (np.median(usual, axis=0) < 0.05).all()
    bend = np.log(units / units[:, 2:3]) - np.log(pinned.before["units"] / pinned.before["units"][:, 2:3])
    assert np.quantile(np.abs(bend[~pinned.competitor]), 0.9) < 0.05  # the curve itself did not change


def test_nearly_all_prices_and_reasons_are_the_same(pinned: Pinned) -> None:
    answers = [one.decision for one in pinned.pricer.price_detailed(pinned.requests, **pinned.given)]

    apart = np.abs(np.array([one.recommended_price for one in answers]) / pinned.before["price"] - 1)
    same = [set(one.reasons) == set(reasons) for one, reasons in zip(answers, pinned.reasons, strict=True)]
    assert (apart < 1e-9).mean() > 0.97
    assert (apart < 0.025).mean() > 0.99
    assert (apart[pinned.switched] == 0).all()  # holdouts, freezes and overrides
    assert np.mean(same) > 0.97
