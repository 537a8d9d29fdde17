"""The fast way to a price comes to the same as the slow one."""

import datetime as dt
from functools import cache
from typing import get_args

import numpy as np
import pytest

from pricing.config import load_config
from pricing.decision.choose import Choices, choose
from pricing.decision.pricer import Pricer
from pricing.decision.request import PriceRequest, Weekday
from pricing.decision.resolve import ResolvedBatch, Resolver
from pricing.registry.version import LoadedVersion, load
from tests.kit.plain_pricing import plain_grid, plain_worth
from tests.kit.versions import shared_version

CONFIG = load_config()


@cache
def version() -> LoadedVersion:
    return load(shared_version(), check=False)


@cache
def pricer() -> Pricer:
    return version().pricer(version="7", config=CONFIG)


def requests(count: int, *, seed: int = 0) -> list[PriceRequest]:
    """All kinds: promotions, hardly any stock, unknown products with and without a category, other prices."""
    rng = np.random.default_rng(seed)
    demand = version().demand
    made = []
    for number in range(count):
        known = rng.random() < 0.85
        more: dict[str, object] = {} if known else {"list_price": 9.5, "category": str(demand.categories[0])}
        if rng.random() < 0.2:
            more["current_price"] = round(float(rng.uniform(1, 20)), 2)
        made.append(
            PriceRequest(
                product_id=str(rng.choice(demand.product_ids)) if known else f"unknown {number}",
                current_stock=float(rng.choice([0, 1, 5, 40, 300, 5000])),
                day_of_week=get_args(Weekday)[int(rng.integers(7))],
                comp_price=None if rng.random() < 0.2 else round(float(rng.uniform(1, 20)), 2),
                is_promo=bool(rng.random() < 0.4),
                **more,
            )
        )
    return made


def resolved(asked: list[PriceRequest], today: dt.date) -> ResolvedBatch:
    resolver = Resolver(version().demand, version().facts, CONFIG, pricer().policy)
    return resolver.resolve(asked, today=today)


@pytest.mark.parametrize("later", [1, 40, 500])
def test_demand_is_what_the_formula_says_request_by_request(later: int) -> None:
    today = version().demand.state_date + dt.timedelta(days=later)
    for asked in requests(60, seed=later):
        batch = resolved([asked], today)
        prices = pricer().policy.candidate_grid.candidates(batch.context).prices

        fast = version().demand.grid(batch.offers, prices)

        slow = plain_grid(version().demand, batch.offers, prices)
        for name in ("first", "until", "first_size", "until_size"):
            # Single precision: NumPy and BLAS round single numbers and arrays differently in the last places.
            np.testing.assert_allclose(getattr(fast, name), getattr(slow, name), rtol=1e-5, atol=1e-9)
        assert fast.source.tolist() == slow.source.tolist()


def test_a_request_is_answered_alone_as_in_any_batch() -> None:
    asked, today = requests(300, seed=9), version().demand.state_date

    together = pricer().price(asked, today=today)

    backwards = pricer().price(asked[::-1], today=today)[::-1]
    alone = [pricer().price([one], today=today)[0] for one in asked]
    without_id = [[one.model_dump(exclude={"decision_id"}) for one in each] for each in (together, backwards, alone)]
    assert without_id[0] == without_id[1] == without_id[2]


def test_demand_of_a_batch_is_that_of_its_requests_in_single_precision() -> None:
    batch = resolved(requests(120), version().demand.state_date)
    prices = pricer().policy.candidate_grid.candidates(batch.context).prices

    fast = version().demand.grid(batch.offers, prices)

    slow = plain_grid(version().demand, batch.offers, prices)
    for name in ("first", "until", "first_size", "until_size"):
        np.testing.assert_allclose(getattr(fast, name), getattr(slow, name), rtol=2e-5, atol=1e-9)


def test_the_price_is_the_one_that_slow_arithmetic_finds() -> None:
    asked = requests(150, seed=5)
    batch = resolved(asked, version().demand.state_date)
    found: Choices = choose(batch.context, lambda prices: version().demand.grid(batch.offers, prices), pricer().policy)
    slow = plain_grid(version().demand, batch.offers, found.candidates.prices)

    close, moved = 0, 0
    for row in range(len(asked)):
        prices = found.candidates.prices[row]
        worth = plain_worth(batch.context, slow, prices, row=row, level=CONFIG.decision.cvar_level)
        if not found.candidates.allowed[row]:
            worth[found.candidates.current[row]] = -np.inf
        best, nearest = int(worth.argmax()), found.candidates.nearest[row]
        rivals = worth.max() - worth < 3e-6  # single precision cannot tell them apart
        close += len(np.unique(prices[rivals])) > 1
        kept = found.doubtful[row] or found.price[row] == prices[nearest]
        assert (
            kept
            or found.price[row] == pytest.approx(prices[best], rel=1e-9)
            or rivals[prices == found.price[row]].any()
        )
        moved += not kept

    assert moved > len(asked) / 4
    assert close < len(asked) / 5
