"""One competitor price per product and period: what counts, what is set aside, and how old it is."""

import datetime as dt
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.config_competitors import CompetitorsConfig
from pricing.sources import competitor_prices
from pricing.sources.competitor_prices import CompetitorPrices, comp_prices
from tests.kit.competitor_offers import offers

FIRST = dt.date(2026, 3, 1)
DAYS = [FIRST + dt.timedelta(days=number) for number in range(30)]


def config(**others: Any) -> CompetitorsConfig:
    return CompetitorsConfig.model_validate({"currency": "EUR", **others})


def at(day: int, hour: int = 12) -> str:
    """A time on a day of March 2026."""
    return f"2026-03-{day:02}T{hour:02}:00:00Z"


def table(*rows: dict[str, Any], products: Sequence[str] = ("P1",), **others: Any) -> CompetitorPrices:
    settings = {name: others.pop(name) for name in ("time_zone", "own_prices") if name in others}
    return comp_prices(offers(*rows), products=products, periods=DAYS, config=config(**others), **settings)


def cell(found: CompetitorPrices, day: int, product: str = "P1") -> tuple[float, float, str | None]:
    """Price, age and competitor of a product on a day of March; nan, nan, None where there is none."""
    prices = found.prices
    row = prices[(prices["product_id"] == product) & (prices["date"] == f"2026-03-{day:02}")].iloc[0]
    name = row["competitor"]
    return float(row["comp_price"]), float(row["comp_price_age"]), None if pd.isna(name) else str(name)


def absent(found: CompetitorPrices, day: int, product: str = "P1") -> bool:
    price, age, name = cell(found, day, product)
    return math.isnan(price) and math.isnan(age) and name is None


def test_a_price_counts_from_its_day_on_with_its_age() -> None:
    found = table({"observed_at": at(3), "price": 9.5})

    assert absent(found, 2)
    assert cell(found, 3) == (9.5, 0, "Rival")
    assert cell(found, 5) == (9.5, 2, "Rival")


def test_a_price_older_than_allowed_is_none() -> None:
    found = table({"observed_at": at(3)}, max_age_days=7)

    assert cell(found, 10) == (10, 7, "Rival")
    assert absent(found, 11)


def test_a_limit_of_no_days_takes_prices_of_the_day_alone() -> None:
    found = table({"observed_at": at(3)}, max_age_days=0)

    assert cell(found, 3) == (10, 0, "Rival")
    assert absent(found, 4)


def test_a_price_counts_when_it_was_seen_and_not_before() -> None:
    found = table({"observed_at": at(3), "seen_at": at(6)})

    assert absent(found, 5)
    assert cell(found, 6) == (10, 3, "Rival")


def test_an_older_observation_that_comes_late_replaces_nothing() -> None:
    found = table({"observed_at": at(5), "price": 9}, {"observed_at": at(4), "seen_at": at(7), "price": 8})

    assert cell(found, 8) == (9, 3, "Rival")


def test_a_correction_of_the_same_observation_counts_once_it_is_seen() -> None:
    found = table({"observed_at": at(5), "price": 9}, {"observed_at": at(5), "seen_at": at(7), "price": 8})

    assert cell(found, 6) == (9, 1, "Rival")
    assert cell(found, 7) == (8, 2, "Rival")


def test_days_are_those_of_the_shop() -> None:
    late = {"observed_at": at(3, 23)}

    assert absent(table(late, time_zone="Europe/Berlin"), 3)
    assert cell(table(late, time_zone="Europe/Berlin"), 4) == (10, 0, "Rival")
    assert cell(table(late, time_zone="America/New_York"), 3) == (10, 0, "Rival")


def rivals(**others: Any) -> CompetitorPrices:
    """A at 12 today, B at 10 six days ago, C at 11 yesterday."""
    rows = [
        {"competitor": "A", "price": 12, "observed_at": at(10)},
        {"competitor": "B", "price": 10, "observed_at": at(4)},
        {"competitor": "C", "price": 11, "observed_at": at(9)},
    ]
    return table(*rows, **others)


def test_the_lowest_price_is_that_of_one_competitor_with_its_age() -> None:
    assert cell(rivals(), 10) == (10, 6, "B")


def test_what_is_too_old_leaves_the_next_lowest() -> None:
    assert cell(rivals(max_age_days=5), 10) == (11, 1, "C")


def test_of_equal_prices_the_freshest_counts() -> None:
    found = table({"competitor": "A", "observed_at": at(4)}, {"competitor": "B", "observed_at": at(6)})

    assert cell(found, 7) == (10, 1, "B")


def test_the_median_is_a_price_that_somebody_asks() -> None:
    assert cell(rivals(reduce={"rule": "median"}), 10) == (11, 1, "C")


def test_the_median_of_two_is_the_lower() -> None:
    assert cell(rivals(reduce={"rule": "median"}), 9) == (10, 5, "B")


def test_a_competitor_with_many_items_has_one_voice_in_the_median() -> None:
    rows = [{"competitor": "A", "item_id": f"i{n}", "price": 5 + n, "observed_at": at(3)} for n in range(3)]
    rows += [{"competitor": name, "price": price, "observed_at": at(3)} for name, price in (("B", 20), ("C", 30))]

    found = table(*rows, reduce={"rule": "median"})

    assert cell(found, 3) == (20, 0, "B")


def test_named_competitors_count_in_their_order_and_no_others() -> None:
    found = rivals(reduce={"rule": "named", "prefer": ["A", "C", "Nobody"]})

    assert absent(found, 8)
    assert cell(found, 9) == (11, 0, "C")
    assert cell(found, 10) == (12, 0, "A")


def test_what_is_sold_out_is_no_price_and_the_older_one_in_stock_neither() -> None:
    rows = [{"observed_at": at(3), "in_stock": True}, {"observed_at": at(5), "in_stock": False}]

    strict, lax = table(*rows, reduce={"in_stock_only": True}), table(*rows)

    assert cell(strict, 4) == (10, 1, "Rival")
    assert absent(strict, 5)
    assert cell(lax, 5) == (10, 0, "Rival")


def test_unknown_stock_counts_as_in_stock() -> None:
    found = table({"observed_at": at(3)}, reduce={"in_stock_only": True})

    assert cell(found, 3) == (10, 0, "Rival")


def test_delivery_is_added_where_configured_and_unknown_delivery_is_set_aside() -> None:
    rows = [
        {"observed_at": at(3), "delivery_cost": 2.5},
        {"observed_at": at(4), "competitor": "Other", "price": 1},
    ]

    found = table(*rows, reduce={"with_delivery": True})

    assert cell(found, 4) == (12.5, 1, "Rival")
    assert found.set_aside["reason"].tolist() == ["delivery_cost_unknown"]


def test_another_currency_is_set_aside_unless_its_rate_is_given() -> None:
    row = {"observed_at": at(3), "currency": "USD", "delivery_cost": 1}

    refused, taken = table(row), table(row, rates={"USD": 0.5}, reduce={"with_delivery": True})

    assert absent(refused, 3)
    assert refused.set_aside[["reason", "found"]].to_dict("records") == [
        {"reason": "currency_without_rate", "found": "USD"}
    ]
    assert cell(taken, 3) == (5.5, 0, "Rival")


def test_a_net_price_is_compared_with_its_tax() -> None:
    found = table({"observed_at": at(3), "tax_included": False, "tax_rate": 0.25})

    assert cell(found, 3) == (12.5, 0, "Rival")


@pytest.mark.parametrize("price", [9_999_999, 0.001])
def test_a_price_that_stands_for_none_is_set_aside(price: float) -> None:
    found = table({"observed_at": at(3)}, {"observed_at": at(4), "price": price})

    assert cell(found, 4) == (10, 1, "Rival")
    assert found.set_aside["reason"].tolist() == ["implausible_price"]


@pytest.mark.parametrize("factor", [100, 0.01, 5.1])
def test_a_price_far_from_its_own_last_is_set_aside_and_the_last_ages(factor: float) -> None:
    found = table({"observed_at": at(3)}, {"observed_at": at(4), "price": 10 * factor})

    assert cell(found, 4) == (10, 1, "Rival")
    assert found.set_aside["reason"].tolist() == ["jump"]
    assert "5 times off its last" in found.set_aside["found"].iloc[0]


def test_prices_that_come_right_again_count_at_once() -> None:
    rows = [{"observed_at": at(day), "price": 1000 if 4 <= day < 8 else 10 + day / 10} for day in range(3, 12)]

    found = table(*rows)

    assert cell(found, 8) == (10.8, 0, "Rival")
    assert len(found.set_aside) == 4


def test_a_new_level_is_believed_after_some_days_and_not_backwards() -> None:
    rows = [{"observed_at": at(day), "price": 10 if day < 5 else 100} for day in range(1, 29)]

    found = table(*rows, implausible={"believed_days": 10}, max_age_days=30)

    assert cell(found, 14) == (10, 10, "Rival")
    assert cell(found, 15) == (100, 0, "Rival")
    assert len(found.set_aside) == 10


def test_the_jump_of_one_offer_says_nothing_of_another() -> None:
    rows = [{"competitor": name, "price": price, "observed_at": at(3)} for name, price in (("A", 10), ("B", 100))]

    found = table(*rows)

    assert found.set_aside.empty


def test_a_first_price_is_compared_with_our_own_of_that_day_or_before() -> None:
    own = pd.DataFrame({"date": ["2026-03-02", "2026-03-09"], "product_id": "P1", "price": [10.0, 900.0]})
    rows = [
        {"competitor": "Early", "observed_at": at(1), "price": 1000},
        {"competitor": "Cents", "observed_at": at(3), "price": 1000},
        {"competitor": "Right", "observed_at": at(9), "price": 1000},
    ]

    found = table(*rows, own_prices=own)

    assert found.set_aside[["competitor", "reason"]].to_dict("records") == [
        {"competitor": "Cents", "reason": "far_from_own_price"}
    ]


def test_every_product_and_period_has_one_row() -> None:
    found = table({"observed_at": at(3)}, products=("P2", "P1", "P3"))

    assert len(found.prices) == 3 * len(DAYS)
    assert found.prices["product_id"].drop_duplicates().tolist() == ["P2", "P1", "P3"]
    assert found.prices["comp_price"].notna().sum() == 8
    assert list(found.prices.columns) == ["date", "product_id", "comp_price", "comp_price_age", "competitor"]


def test_no_offers_are_no_prices() -> None:
    found = comp_prices(offers({"observed_at": at(3)})[:0], products=["P1"], periods=DAYS, config=config())

    assert found.prices["comp_price"].isna().all()
    assert len(found.prices) == len(DAYS)


def test_no_argument_is_modified() -> None:
    given_offers = offers({"observed_at": at(3), "price": 9_999_999}, {"observed_at": at(1)})
    before = given_offers.copy(deep=True)

    comp_prices(given_offers, products=["P1"], periods=DAYS, config=config())

    pd.testing.assert_frame_equal(given_offers, before)


def test_chunks_of_products_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"product_id": f"P{n % 7}", "competitor": "AB"[n % 2], "observed_at": at(1 + n % 20), "price": 10 + n / 10}
        for n in range(60)
    ]
    names = [f"P{n}" for n in range(9)]
    whole = table(*rows, products=names)

    monkeypatch.setattr(competitor_prices, "CELLS", 1)

    pd.testing.assert_frame_equal(table(*rows, products=names).prices, whole.prices)


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    number = draw(st.integers(1, 14))
    rows = []
    for _ in range(number):
        observed = draw(st.integers(1, 20))
        hour = draw(st.integers(0, 23))
        rows.append(
            {
                "competitor": draw(st.sampled_from("ABC")),
                "product_id": draw(st.sampled_from(["P1", "P2"])),
                "item_id": draw(st.sampled_from(["x", "y"])),
                "price": draw(st.sampled_from([8.0, 10.0, 12.0, 60.0, 1000.0, 9_999_999.0])),
                "currency": draw(st.sampled_from(["EUR", "EUR", "USD"])),
                "in_stock": draw(st.sampled_from([True, False, None])),
                "observed_at": at(observed, hour),
                "seen_at": at(observed + draw(st.integers(0, 5)), hour),
            }
        )
    return rows


def by_hand(rows: list[dict[str, Any]], product: str, day: int, settings: CompetitorsConfig) -> tuple[float, float]:
    """Price and age by loops, written without the code that is tested."""
    order = sorted(
        range(len(rows)),
        key=lambda n: (max(rows[n]["seen_at"], rows[n]["observed_at"]), rows[n]["seen_at"], rows[n]["observed_at"], n),
    )
    last: dict[Any, float] = {}
    suspect: dict[Any, tuple[float, int]] = {}
    best: dict[Any, dict[str, Any]] = {}
    for number in order:
        row = rows[number]
        known = int(row["seen_at"][8:10])
        if row["currency"] != "EUR" or row["price"] > settings.implausible.highest:
            continue
        key = (row["competitor"], row["product_id"], row["item_id"])
        price, factor = row["price"], settings.implausible.factor
        if key in last and max(price / last[key], last[key] / price) > factor:
            level, since = suspect.get(key, (None, known))
            if level is None or max(price / level, level / price) > factor:
                since = known
            suspect[key] = (price, since)
            if known - since < settings.implausible.believed_days:
                continue
        last[key] = price
        suspect.pop(key, None)
        if known <= day and (key not in best or row["observed_at"] >= best[key]["observed_at"]):
            best[key] = row
    live = []
    for (_, name, _), row in best.items():
        age = day - int(row["observed_at"][8:10])
        sold_out = settings.reduce.in_stock_only and row["in_stock"] is False
        if name == product and age <= settings.max_age_days and not sold_out:
            live.append((row["price"], age, row["competitor"]))
    if settings.reduce.rule == "named":
        preferred = [name for name in settings.reduce.prefer if name in {each[2] for each in live}]
        live = [each for each in live if preferred and each[2] == preferred[0]]
    if not live:
        return math.nan, math.nan
    if settings.reduce.rule == "median":
        cheapest = {name: min(each[0] for each in live if each[2] == name) for _, _, name in live}
        return sorted(cheapest.values())[(len(cheapest) - 1) // 2], math.nan
    return min(live)[0], min(live)[1]


@given(
    rows=histories(),
    rule=st.sampled_from(["lowest", "median", "named"]),
    in_stock_only=st.booleans(),
    max_age=st.integers(0, 9),
)
def test_prices_are_those_that_plain_loops_find(
    rows: list[dict[str, Any]], rule: str, in_stock_only: bool, max_age: int
) -> None:
    reduce = {"rule": rule, "prefer": ["B", "A"], "in_stock_only": in_stock_only}
    settings = {"reduce": reduce, "max_age_days": max_age, "implausible": {"believed_days": 3}}

    found = table(*rows, products=("P1", "P2"), **settings)

    for product in ("P1", "P2"):
        for day in range(1, 27):
            price, age, _ = cell(found, day, product)
            expected, expected_age = by_hand(rows, product, day, config(**settings))
            np.testing.assert_equal(price, expected)
            if rule != "median":
                np.testing.assert_equal(age, expected_age)


@given(rows=histories(), day=st.integers(1, 25), rule=st.sampled_from(["lowest", "median"]))
def test_no_period_knows_what_was_seen_later(rows: list[dict[str, Any]], day: int, rule: str) -> None:
    then = [row for row in rows if int(row["seen_at"][8:10]) <= day]
    settings = {"reduce": {"rule": rule}, "implausible": {"believed_days": 3}}

    later = table(*rows, **settings).prices
    until = table(*then, **settings).prices if then else later.assign(comp_price=np.nan, comp_price_age=np.nan)

    for name in ("comp_price", "comp_price_age"):
        np.testing.assert_array_equal(later[name].to_numpy()[:day], until[name].to_numpy()[:day])
