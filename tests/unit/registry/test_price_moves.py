import dataclasses
import datetime as dt
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pricing.config import load_config
from pricing.config_models import PriceMovesConfig
from pricing.decision.pricer import Pricer
from pricing.decision.request import PriceRequest
from pricing.registry.gates import price_moves_gate
from pricing.registry.price_moves import (
    PriceMoves,
    last_charged,
    list_prices,
    measure_moves,
    sample_requests,
)
from tests.kit.decision import TODAY, facts

LIMITS: PriceMovesConfig = load_config().registry.gates.price_moves


def moves(*factors: float, champion: tuple[float, ...] | None = None) -> PriceMoves:
    """Products that were charged 10, with a champion that leaves each there, or at other multiples of it."""
    before = champion if champion is not None else (1.0,) * len(factors)
    return PriceMoves(
        product_ids=tuple(f"P{place}" for place in range(len(factors))),
        charged=np.full(len(factors), 10.0),
        regular=np.full(len(factors), 10.0),
        champion=10.0 * np.array(before),
        candidate=10.0 * np.array(factors),
    )


@pytest.mark.parametrize(
    ("factors", "champion", "passes"),
    [
        ((1.1, 0.9, 1.0), None, True),
        ((0.9,) * 20, (1.0,) * 20, True),  # every product by a whole max_move where the champion holds
        ((1.1,) * 20, (0.9,) * 20, False),  # the two disagree about everything
        ((1.0,) * 11 + (1.1,) * 9, (1.0,) * 11 + (0.9,) * 9, True),  # or about less than half of it
        ((1.0,) * 19 + (100.0,), None, True),  # one product in twenty
        ((1.0,) * 11 + (100.0,), None, True),  # one of twelve
        ((1.0,) * 10 + (100.0,) * 2, None, False),
        ((0.01,) * 20, None, False),
        ((100.0,) * 20, (100.0,) * 20, False),  # as wrong as the champion, by the prices charged
        ((100.0,) * 20, (float("nan"),) * 20, False),  # a first version
    ],
)
def test_more_moves_than_the_guardrails_allow_are_refused(
    factors: tuple[float, ...], champion: tuple[float, ...] | None, passes: bool
) -> None:
    assert price_moves_gate(moves(*factors, champion=champion), LIMITS).passed is passes


def test_the_refusal_says_by_how_much_and_no_name_is_markup_in_its_table() -> None:
    found = moves(*(1.0,) * 17, 56.8, 60.0, 58.0)
    named = dataclasses.replace(moves(58.0), product_ids=("a|b <img src=x onerror=alert(1)>",))

    assert price_moves_gate(found, LIMITS).figure == pytest.approx(np.log(58.0))
    assert found.table(1).splitlines()[-1] == "| P18 | 10 | 10 | 10 | 600 | × 60 |"
    assert named.table(1).splitlines()[-1].startswith(r"| a\|b &lt;img src=x onerror=alert(1)&gt; | 10 |")


@pytest.mark.parametrize(
    ("charged", "listed", "champion", "candidate", "moved"),
    [
        (4.0, 10.0, np.nan, 10.0, 0.0),  # back to list price
        (4.0, 10.0, np.nan, 7.0, 0.0),  # part of the way
        (4.0, 10.0, 4.0, 10.0, 0.0),  # also where the champion would keep the cut
        (4.0, 10.0, 10.0, 4.0, 0.0),  # or where only the champion would end it
        (4.0, 10.0, np.nan, 11.0, np.log(1.1)),  # beyond it, from there
        (4.0, 10.0, np.nan, 3.0, np.log(4 / 3)),  # a deeper cut, from the cut
        (9.5, 10.0, np.nan, 10.0, np.log(10 / 9.5)),  # too little to be a cut
        (10.0, 1000.0, np.nan, 1000.0, np.log(100)),  # list prices in cents, too: no cut is so deep
        (10.0, 8.0, np.nan, 8.0, np.log(10 / 8)),  # charged above list price
        (10.0, np.nan, np.nan, 12.0, np.log(1.2)),  # no list price
    ],
)
def test_a_move_is_measured_from_the_regular_price_where_the_last_one_was_a_cut(
    charged: float, listed: float, champion: float, candidate: float, moved: float
) -> None:
    class Fixed(Pricer):
        def __init__(self, price: float) -> None:
            self.decided = SimpleNamespace(recommended_price=price)

        def price(self, requests: Sequence[PriceRequest], *, today: dt.date, **_: Any) -> list[Any]:
            return [self.decided] * len(requests)

    request = PriceRequest(product_id="apple", current_stock=5, day_of_week="Monday", current_price=charged)
    before = None if np.isnan(champion) else Fixed(champion)

    found = measure_moves([request], Fixed(candidate), before, listed=np.array([listed]), today=TODAY)

    assert found.sizes(found.charged).tolist() == pytest.approx([moved])
    if before is not None:
        assert found.sizes(found.champion).tolist() == pytest.approx([moved])


def test_last_and_list_prices_are_the_champions_word_where_it_has_one() -> None:
    ids = np.array(["apple", "bread", "new"])
    champion = facts(last_price=np.array([9.0, np.nan, 9.0]), price=np.array([99.0, 8.0, 99.0]))
    candidate = facts(product_ids=ids, last_price=np.full(3, 7.0), list_price=np.full(3, 1000.0))

    assert last_charged(ids, candidate, champion).tolist() == [9.0, 8.0, 7.0]
    assert last_charged(ids, candidate, None).tolist() == [7.0, 7.0, 7.0]
    assert list_prices(ids, candidate, facts()).tolist() == [10.0, 10.0, 1000.0]


def test_the_sample_is_the_catalogue_on_sale_or_a_part_of_each_category() -> None:
    many = 400
    known = facts(
        product_ids=np.array([f"P{place:03}" for place in range(many)]),
        categories=np.repeat(["fruit", "pantry"], [100, 300]),
        last_price=np.arange(1.0, many + 1),
        price=np.full(many, 5.0),
        typical_units=np.where(np.arange(many) % 2, 3.0, np.nan),
    )

    everything = sample_requests(known, None, size=1000, day=TODAY)
    part = sample_requests(known, None, size=40, day=TODAY)

    assert [request.product_id for request in everything] == [f"P{place:03}" for place in range(1, many, 2)]
    assert everything[0].current_price == 2.0
    assert part == sample_requests(known, None, size=40, day=TODAY)
    assert len(part) == 40
    assert sum(int(request.product_id[1:]) < 100 for request in part) == 10
