"""What each product's history can tell before training, and the reason where it cannot."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.data.panel import Event, Panel
from pricing.demand.grades import CATEGORY, OWN_HISTORY, PRIOR_ONLY
from pricing.demand.learnability import REASONS, Learnability, learnability

DAYS = 120
CONFIG = load_config().data.model_copy(update={"named_holidays": False})


def product(
    name: str,
    *,
    moves: tuple[int, ...] = (30, 45, 60, 75, 90, 105),
    cut: float = 0.2,
    units: float = 40,
    category: str = "tea",
    **columns: object,
) -> pd.DataFrame:
    """Daily rows whose price is cut for seven days from each of `moves` on."""
    days = np.arange(DAYS)
    low = np.zeros(DAYS, dtype=bool)
    for day in moves:
        low[day : day + 7] = True
    frame = pd.DataFrame(
        {
            "date": pd.Timestamp("2026-01-05") + pd.to_timedelta(days, unit="D"),
            "product_id": name,
            "category": category,
            "units_sold": units,
            "price": np.where(low, 10 * (1 - cut), 10.0),
            "is_holiday": 0,
            "is_promo": 0,
        }
    )
    return frame.assign(**columns)


def look(*products: pd.DataFrame, live_since: str | None = None) -> tuple[Panel, Learnability]:
    panel = build_panel(pd.concat(products, ignore_index=True), CONFIG)
    return panel, learnability(panel, prior_sd=1.0, live_since=np.datetime64(live_since) if live_since else None)


def reason_of(frame: pd.DataFrame, *others: pd.DataFrame, live_since: str | None = None) -> str:
    panel, found = look(frame, *others, live_since=live_since)
    return str(found.reason[panel.product_ids == frame["product_id"].iloc[0]][0])


def test_enough_changes_of_a_product_that_sells_teach_its_elasticity() -> None:
    _, found = look(product("A"))

    assert found.grade.tolist() == [OWN_HISTORY]
    assert found.reason.tolist() == [""]
    assert found.prices.tolist() == [2]
    assert found.changes.tolist() == found.usable.tolist() == found.independent.tolist() == [12]


def low_days(*, moves: tuple[int, ...] = (30, 45, 60, 75, 90, 105)) -> np.ndarray:
    return np.isin(np.arange(DAYS), [day + more for day in moves for more in range(7)])


CASES = {
    "no_sales": product("A", units=0),
    "one_price": product("A", moves=()),
    "few_rows": product("A", moves=(5,)).head(12),
    "sold_out": product("A", stock=40.0),
    "early_changes": product("A", moves=(2,), cut=0.1).head(23),
    "few_changes": product("A", moves=(110,)),
    "with_promotions": product("A", is_promo=low_days().astype(int)),
    "little_sold": product("A", cut=0.01, units=1),
}


@pytest.mark.parametrize("name", list(CASES))
def test_each_reason_is_given_where_it_holds(name: str) -> None:
    assert reason_of(CASES[name]) == name


def test_changes_on_holidays_teach_nothing() -> None:
    low = low_days()
    edges = np.flatnonzero(np.diff(low.astype(int)) != 0) + 1
    holiday = np.isin(np.arange(DAYS), edges).astype(int)

    assert reason_of(product("A", is_holiday=holiday)) == "on_holidays"


def test_changes_on_days_of_a_named_event_of_their_category_teach_nothing() -> None:
    panel, _ = look(product("A"), product("B", category="jam"))
    edges = np.flatnonzero(np.diff(low_days().astype(int)) != 0) + 1
    events = tuple(Event("fair", day, day, category="tea") for day in panel.dates[edges])

    found = learnability(replace(panel, events=events), prior_sd=1.0)

    assert found.reason.tolist() == ["on_holidays", ""]


def test_changes_of_the_whole_category_at_once_teach_nothing() -> None:
    assert reason_of(product("A"), product("B"), product("C")) == "with_category"
    assert reason_of(product("A"), product("B")) == ""  # two may do so by chance


def test_prices_that_the_platform_set_teach_nothing() -> None:
    assert reason_of(product("A"), live_since="2026-01-06") == "platform_prices"
    assert reason_of(product("A"), live_since="2026-05-30") == ""


def test_a_product_without_evidence_takes_that_of_others_of_its_category() -> None:
    told = [product(name, moves=tuple(day + at for day in (30, 50, 70, 90))) for at, name in enumerate("BCDE")]
    panel, found = look(product("A", moves=()), *told, product("F", moves=(), category="jam"))

    grades = dict(zip(panel.product_ids.tolist(), found.grade.tolist(), strict=True))

    assert grades["A"] == CATEGORY
    assert grades["F"] == PRIOR_ONLY


def test_a_products_own_evidence_does_not_count_as_its_categorys() -> None:
    rare = product("A", moves=(110,), cut=0.5)  # told enough by units, in too few fortnights

    alone, lent = (look(rare, *others)[1] for others in ([], [product("B")]))

    assert (alone.grade.tolist(), alone.reason.tolist()) == ([PRIOR_ONLY], ["few_changes"])
    assert lent.grade.tolist() == [CATEGORY, OWN_HISTORY]


def test_stores_of_one_product_are_counted_together() -> None:
    few = [product("A@1", moves=(30,)), product("A@2", moves=(60,)), product("A@3", moves=(95,))]
    panel, apart = look(*few)
    shared = replace(panel)
    object.__setattr__(shared, "parent_ids", np.array(["A", "A", "A"]))

    together = learnability(shared, prior_sd=1.0)

    assert together.fortnights.tolist() == [max(together.fortnights)] * 3
    assert max(together.fortnights) > max(apart.fortnights)


def test_every_reason_says_why_and_what_would_help() -> None:
    assert all(why and helps for why, helps in REASONS.values())
