from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from monitoring.drift import LEAST_DISTANCE, chance_per_window, compare, distances, estimate_threshold
from monitoring.policy import PolicyOutcome
from monitoring.samples import MONITORED_COLUMNS, Samples, our_products, take
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


def test_few_rows_are_not_judged(live):
    drift = judged(replace(live, current=live.current.iloc[:50]))

    assert drift.columns == []
    assert {"rows_few", "drift_unjudged"} <= found(drift)


BY_NAME = {watched.column: watched for watched in MONITORED_COLUMNS}


def samples(panel, window=28, rows=200_000):
    return take(
        panel,
        live_join(panel, since=len(panel.dates)),
        window=window,
        reference=364,
        rows=rows,
        rng=np.random.default_rng(0),
    )


def test_distances_of_blocks_are_those_of_the_plain_definition():
    rng = np.random.default_rng(3)
    values = np.round(rng.gamma(2, 1, 900), 1)
    codes = rng.integers(0, 4, 900)
    blocks = [np.arange(900) // 90 == block for block in range(10)]

    numerical = distances(pd.Series(values), blocks, kind="numerical")
    categorical = distances(pd.Series(codes).map(str), blocks, kind="categorical")

    for number, block in enumerate(blocks):
        rest = values[~block]
        assert numerical[number] == pytest.approx(wasserstein_distance(rest, values[block]) / np.std(rest), rel=1e-9)
        shares = [np.bincount(codes[rows], minlength=4) for rows in (block, ~block)]
        assert categorical[number] == pytest.approx(jensenshannon(*shares), abs=1e-9)


def test_a_reference_shorter_than_four_windows_gives_no_threshold():
    panel, _ = build(World(products=5, days=28 * 4))

    assert (
        estimate_threshold(samples(panel).reference, BY_NAME["discount"], window=28, step_days=1, false_alarm=0.01)
        is None
    )


def test_what_never_moves_has_the_least_threshold():
    panel, _ = build(World(products=8, days=300))

    limit = estimate_threshold(samples(panel).reference, BY_NAME["category"], window=28, step_days=1, false_alarm=0.01)

    assert limit.value == LEAST_DISTANCE


def test_samples_are_relative_to_each_product_and_leave_sold_out_days_out():
    panel, _ = build(World(products=8, days=300))
    taken = samples(panel)

    assert len(taken.current) == 8 * 28
    assert taken.reference["price_level"].median() == pytest.approx(1.0, abs=0.03)
    assert taken.current["demand_level"].isna().sum() == panel.censored[:, -28:].sum()


def test_a_large_panel_is_sampled_by_whole_products_and_says_so():
    panel, _ = build(World(products=40, days=300))

    taken = samples(panel, rows=2720)

    assert taken.current["product"].nunique() == 10
    assert [finding.code for finding in taken.findings] == ["sampled"]
