from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from monitoring.drift import LEAST_DISTANCE, compare, distances, estimate_threshold
from monitoring.policy import PolicyOutcome
from monitoring.samples import MONITORED_COLUMNS, Samples, our_products, take
from tests.kit.monitoring_world import World, build, live_join

PRODUCTS = 10
SHOPS = World(products=PRODUCTS, days=392, change_day=364)
LIVE = replace(SHOPS, change_day=None, live_day=252)  # long enough for requests to be judged


def looked_at(world: World, **changes) -> Samples:
    """The samples of a world; in one that went live the first so many products are ours."""
    panel, _ = build(world)
    joined = live_join(panel, since=world.live_day or len(panel.dates)).assign(**changes)
    return take(panel, joined, window=28, reference=364, rows=200_000, rng=np.random.default_rng(0))


def judged(taken: Samples, **changes):
    return compare(taken, **{"window": 28, "step_days": 1, "false_alarm": 0.05, "min_rows": 100, **changes})


def found(drift):
    return {finding.check for finding in drift.findings}


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

    assert drift.drifted("input") == ()
    assert {"our_price_level", "our_discount", "our_comp_gap"} <= compared(drift)
    assert not {"price_level", "discount", "comp_gap"} & compared(drift)
    assert all(column.watched.role != "price" for column in drift.watched)
    assert not [one for one in drift.findings if one.level != "note"]


@pytest.mark.parametrize(
    ("change", "column", "drifts"),
    [
        ({"comp_factor": 0.85}, "comp_level", True),
        ({"cost_factor": 1.1}, "cost_level", True),
        ({"cost_factor": 1.01}, "cost_level", False),  # a hundredth of still costs
        ({"stock_factor": 0.4}, "stock_cover", True),
    ],
)
def test_what_shop_and_market_decide_drifts_after_our_prices_went_live_too(change, column, drifts):
    drift = judged(looked_at(replace(LIVE, change_day=364, **change)))

    assert column in compared(drift)
    assert (column in drift.drifted("input")) is drifts


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


@pytest.mark.parametrize(
    ("rows", "codes"), [(0, {"column_empty", "drift_unjudged"}), (50, {"rows_few", "drift_unjudged"})]
)
def test_a_window_that_is_empty_or_small_is_a_finding_and_no_pass(live, rows, codes):
    drift = judged(replace(live, current=live.current.iloc[:rows]))

    assert drift.columns == []
    assert codes <= found(drift)


def test_a_threshold_needs_four_windows_and_is_never_below_what_counts_as_a_move(live):
    discount, category = (
        next(one for one in MONITORED_COLUMNS if one.column == name) for name in ("discount", "category")
    )
    chance = {"window": 28, "step_days": 1, "false_alarm": 0.01}
    short = live.reference[live.reference["period"] < live.reference["period"].min() + pd.Timedelta(days=3 * 28)]

    assert estimate_threshold(short, discount, **chance) is None
    assert estimate_threshold(live.reference, category, **chance).value == LEAST_DISTANCE


def test_samples_are_relative_to_each_product_and_leave_sold_out_days_out():
    panel, _ = build(World(products=40, days=300))
    taken, large = (
        take(panel, live_join(panel, since=300), window=28, reference=364, rows=rows, rng=np.random.default_rng(0))
        for rows in (200_000, 2720)
    )

    assert len(taken.current) == 40 * 28
    assert taken.reference["price_level"].median() == pytest.approx(1.0, abs=0.03)
    assert taken.current["demand_level"].isna().sum() == panel.censored[:, -28:].sum()
    assert large.current["product"].nunique() == 10  # by whole products
    assert [finding.check for finding in large.findings] == ["sampled"]
