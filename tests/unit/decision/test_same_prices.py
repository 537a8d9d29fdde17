"""The fast way to a price comes to the same as the slow one."""

import datetime as dt
from dataclasses import replace
from functools import cache
from typing import get_args

import numpy as np
import pytest

from pricing.config import load_config
from pricing.decision.decide import decide
from pricing.decision.pricer import Pricer
from pricing.decision.request import PriceRequest, Weekday
from pricing.decision.resolve import ResolvedBatch, Resolver
from pricing.demand.grades import CATEGORY, OWN_HISTORY, PRIOR_ONLY
from pricing.registry.version import LoadedVersion, load
from tests.kit.plain_pricing import PlainDecision, plain_grid
from tests.kit.versions import shared_version

CONFIG = load_config()


@cache
def version() -> LoadedVersion:
    return load(shared_version())


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
    table, rows = version().demand, np.ones(len(version().demand.levels))
    known = np.linspace(0.0, 0.9, len(rows))  # beyond what the prior knows, too
    table = replace(table, rival=0.5 * rows, rival_usual=9 * rows, promotion=0.3 * rows, elasticity_sd=known)
    batch = resolved(requests(60, seed=later), table.state_date + dt.timedelta(days=later))
    prices = pricer().policy.allowed.candidates(batch.context)

    fast = table.curves(batch.offers)(prices)

    slow = plain_grid(table, batch.offers, prices)
    for name in ("first", "until", "first_size", "until_size", "known"):
        np.testing.assert_allclose(getattr(fast, name), getattr(slow, name), rtol=2e-5, atol=1e-6)
    assert fast.source.tolist() == slow.source.tolist()


def test_a_request_is_answered_alone_as_in_any_batch() -> None:
    asked, today = requests(300, seed=9), version().demand.state_date

    together = pricer().price(asked, today=today)

    backwards = pricer().price(asked[::-1], today=today)[::-1]
    alone = [pricer().price([one], today=today)[0] for one in asked]
    without_id = [[one.model_dump(exclude={"decision_id"}) for one in each] for each in (together, backwards, alone)]
    assert without_id[0] == without_id[1] == without_id[2]


def test_the_price_is_the_one_that_slow_arithmetic_finds() -> None:
    rng, count = np.random.default_rng(6), 150
    rows = len(version().demand.elasticity)
    table = replace(
        version().demand,
        elasticity_sd=rng.choice([0.1, 0.6, 0.75], rows).astype(np.float32),
        grade=rng.choice([PRIOR_ONLY, CATEGORY, OWN_HISTORY], rows).astype(np.int8),
    )
    plain = [one.model_copy(update={"is_promo": False}) for one in requests(count, seed=5)]  # a promotion has kinks
    batch = resolved(plain, table.state_date)
    assumed = rng.random(count) < 0.3
    context = replace(batch.context, cost_assumed=assumed, cost_sd=assumed * 0.05 * batch.context.list_price)
    policy = pricer().policy

    found = decide(context, table.curves(batch.offers), policy)

    limits = policy.allowed.limits(context)
    rows = [
        PlainDecision(context, row, table=table, offers=batch.offers, config=policy.config).price(limits, row=row)
        for row in range(count)
    ]
    price, near = np.array(rows).T
    clear = (near > 0.004) & (found.target >= context.cost_floor)
    np.testing.assert_allclose(found.price[clear], price[clear], rtol=0.003, atol=0.01)
    assert clear.mean() > 0.85
    assert (np.abs(price / context.current_price - 1) > 0.01).mean() > 0.25
    assert (found.wanted > found.target * 1.01).mean() > 0.1
