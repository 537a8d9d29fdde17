from dataclasses import replace

import numpy as np
import pytest

from monitoring.drift import chance_per_window, compare
from monitoring.policy import PolicyOutcome
from monitoring.samples import Samples, our_products, take
from tests.kit.monitoring_world import World, build, live_join

PRODUCTS = 10
SHOPS = World(products=PRODUCTS, days=392, change_day=364)
LIVE = replace(SHOPS, change_day=None, live_day=252)  # long enough for requests to be judged


def looked_at(world: World, *, products: int | None = None, **changes) -> Samples:
    """The samples of a world; in one that went live the first so many products are ours."""
    panel, _ = build(world)
    joined = live_join(panel, since=world.live_day or len(panel.dates), products=products).assign(**changes)
    return take(panel, joined, window=28, reference=364, rows=200_000, rng=np.random.default_rng(0))


def judged(taken: Samples, **changes):
    return compare(taken, **{"window": 28, "step_days": 1, "false_alarm": 0.05, "min_rows": 100, **changes})


def found(drift):
    return {finding.code for finding in drift.findings}


def compared(drift):
    return {column.watched.column for column in drift.columns}


@pytest.fixture(scope="module")
def live() -> Samples:
    return looked_at(LIVE)


def test_prices_that_the_shop_makes_are_inputs_and_each_that_moved_is_named():
    drift = judged(looked_at(replace(SHOPS, price_factor=0.85, promo_factor=4.0)))

    assert {"price_level", "discount", "comp_gap"} <= set(drift.drifted("input"))
    assert not {"category", "comp_level", "cost_level", "list_level"} & set(drift.drifted("input"))
    assert drift.drifted("error") is None
    assert drift.drifted("price") is None


def test_prices_that_we_make_are_reported_apart_and_are_no_input_that_drifts(live):
    drift = judged(live)

    assert drift.drifted("input") == []
    assert {"our_price_level", "our_discount", "our_comp_gap"} <= compared(drift)
    assert not {"price_level", "discount", "comp_gap"} & compared(drift)
    assert all(column.watched.role != "price" for column in drift.watched)
    assert not [one for one in drift.findings if one.level != "note"]


def test_beside_our_prices_the_shop_still_answers_for_its_own():
    half = replace(LIVE, change_day=364, price_factor=0.8)
    taken = looked_at(half, products=5)

    drift = judged(taken)

    assert taken.current["priced"].mean() == 0.5
    assert {"price_level", "our_price_level"} <= compared(drift)


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"comp_factor": 0.85}, "comp_level"),
        ({"cost_factor": 1.1}, "cost_level"),
        ({"stock_factor": 0.4}, "stock_cover"),
    ],
)
def test_what_shop_and_market_decide_drifts_after_our_prices_went_live_too(change, column):
    drift = judged(looked_at(replace(LIVE, change_day=364, **change)))

    assert column in drift.drifted("input")


def test_a_change_of_a_hundredth_of_still_costs_is_none():
    drift = judged(looked_at(replace(LIVE, change_day=364, cost_factor=1.01)))

    assert "cost_level" in compared(drift)
    assert "cost_level" not in drift.drifted("input")


@pytest.mark.parametrize(
    ("pricing", "live", "held_out", "ours"),
    [
        (["followed", "kept"], [True, True], [False, False], True),
        (["followed", "overridden", "kept"], [True] * 3, [False] * 3, False),
        (["followed"], [False], [False], False),  # a replay
        (["followed"], [True], [True], False),
    ],
)
def test_a_products_prices_are_ours_where_half_of_its_live_decisions_are_charged(pricing, live, held_out, ours):
    panel, _ = build(World(products=1, days=20))
    joined = live_join(panel, since=20 - len(pricing)).assign(pricing=pricing, live=live, held_out=held_out)

    assert our_products(joined) == ["SKU00000"] * ours


def test_requests_that_no_longer_name_the_competitor_are_a_breach_that_leaves_the_sales_alone():
    panel, _ = build(LIVE)
    joined = live_join(panel, since=LIVE.live_day)
    late = joined["period"] >= joined["period"].max() - np.timedelta64(27, "D")
    drift = judged(looked_at(LIVE, comp_price=joined["comp_price"].where(~late)))

    (breach,) = [one for one in drift.findings if one.level == "breach"]

    assert breach.kind == "column_empty-request_comp"
    assert not PolicyOutcome("page", "", "fault", fault=breach.kind).doubts_sales
    assert PolicyOutcome("page", "", "fault", fault=f"column_empty-comp_level+{breach.kind}").doubts_sales


def test_requests_that_name_stock_less_often_are_called_so_and_days_before_requests_do_not_count():
    panel, _ = build(LIVE)
    joined = live_join(panel, since=LIVE.live_day)
    late = joined["period"] >= joined["period"].max() - np.timedelta64(27, "D")
    drift = judged(looked_at(LIVE, stock=joined["stock"].where(~(late & (np.arange(len(joined)) % 2 == 0)))))

    (emptier,) = [one for one in drift.findings if one.code == "column_emptier"]

    assert emptier.text == "request_stock is missing in 50% of the newest requests, 0% of the reference"


def test_values_in_requests_are_watched():
    panel, _ = build(LIVE)
    joined = live_join(panel, since=LIVE.live_day)
    late = joined["period"] >= joined["period"].max() - np.timedelta64(27, "D")

    drift = judged(looked_at(LIVE, comp_price=joined["comp_price"].where(~late, joined["comp_price"] / 100)))

    assert "request_comp" in drift.drifted("input")
    assert "comp_level" not in drift.drifted("input")


def test_false_alarms_are_counted_by_the_month():
    assert chance_per_window(0.02, window_days=28) == pytest.approx(2 * chance_per_window(0.01, window_days=28))
    assert chance_per_window(0.02, window_days=56) == pytest.approx(2 * chance_per_window(0.02, window_days=28))


def test_an_empty_window_is_a_finding_and_no_pass(live):
    drift = judged(replace(live, current=live.current.iloc[:0]))

    assert drift.columns == []
    assert {"column_empty", "drift_unjudged"} <= found(drift)


def test_a_column_that_went_empty_is_a_breach_and_the_others_are_judged(live):
    drift = judged(replace(live, current=live.current.assign(comp_level=np.nan)))

    assert [finding.kind for finding in drift.findings if finding.level == "breach"] == ["column_empty-comp_level"]
    assert compared(judged(live)) - compared(drift) == {"comp_level"}


def test_a_column_that_is_new_has_nothing_to_compare_with(live):
    assert "column_new" in found(judged(replace(live, reference=live.reference.assign(stock_cover=np.nan))))


def test_few_rows_are_not_judged(live):
    drift = judged(replace(live, current=live.current.iloc[:50]))

    assert drift.columns == []
    assert {"rows_few", "drift_unjudged"} <= found(drift)


def test_a_column_that_is_half_empty_is_called_so(live):
    half = live.current.assign(comp_level=live.current["comp_level"].where(np.arange(len(live.current)) % 2 == 0))

    assert "column_emptier" in found(judged(replace(live, current=half)))
