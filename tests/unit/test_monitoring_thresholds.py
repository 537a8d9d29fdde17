import numpy as np
import pandas as pd
import pytest

from monitoring.drift import LEAST_DISTANCE, METHODS, _jensen_shannon, _wasserstein, distance, estimate_threshold
from monitoring.samples import MONITORED_COLUMNS, take
from tests.kit.monitoring_world import World, build, live_join, without

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

    found = _wasserstein(values, blocks)
    categorical = _jensen_shannon(codes, blocks)

    for number, block in enumerate(blocks):
        expected = distance(pd.Series(values[~block]), pd.Series(values[block]), kind="numerical")
        assert found[number] == pytest.approx(expected, rel=1e-9)
        words = pd.Series(codes).map(str)
        assert categorical[number] == pytest.approx(distance(words[~block], words[block], kind="categorical"), abs=1e-9)


def test_product_id_is_never_watched():
    assert "product_id" not in BY_NAME
    assert "product" not in BY_NAME


def test_the_window_of_an_unchanged_world_stays_below_every_threshold():
    panel, _ = build(World(products=20, days=392, seed=4))
    taken = samples(panel)

    for watched in (one for one in MONITORED_COLUMNS if one.values(taken.current).notna().any()):
        limit = estimate_threshold(taken.reference, watched, window=28, step_days=1, false_alarm=0.05 / 8)
        now = distance(
            taken.reference[watched.column].dropna(), taken.current[watched.column].dropna(), kind=watched.kind
        )
        assert limit.method == METHODS[watched.kind]
        assert now <= limit.value


def test_a_changed_price_level_passes_its_threshold():
    panel, _ = build(World(products=20, days=392, seed=4, change_day=364, price_factor=0.85))
    taken = samples(panel)

    limit = estimate_threshold(taken.reference, BY_NAME["price_level"], window=28, step_days=1, false_alarm=0.05 / 8)

    now = distance(taken.reference["price_level"], taken.current["price_level"], kind="numerical")
    assert now > limit.value


def test_a_smaller_window_gets_a_larger_threshold():
    panel, _ = build(World(products=20, days=392, seed=4))
    reference = samples(panel).reference

    wide = estimate_threshold(reference, BY_NAME["demand_level"], window=28, step_days=1, false_alarm=0.01)
    narrow = estimate_threshold(reference, BY_NAME["demand_level"], window=7, step_days=1, false_alarm=0.01)

    assert narrow.typical > wide.typical


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


def test_columns_that_nobody_filled_stay_empty():
    panel, _ = build(World(products=8, days=300))

    taken = samples(without(panel, "comp_price", "stock"))

    assert taken.current["comp_gap"].isna().all()
    assert taken.current["stock_cover"].isna().all()
    assert taken.current["discount"].notna().all()


def test_a_large_panel_is_sampled_by_whole_products_and_says_so():
    panel, _ = build(World(products=40, days=300))

    taken = samples(panel, rows=2720)

    assert taken.current["product"].nunique() == 10
    assert [finding.code for finding in taken.findings] == ["sampled"]


def test_errors_join_the_sample_on_product_and_day():
    panel, _ = build(World(products=3, days=100))
    joined = live_join(panel, since=99).iloc[1:].assign(scored=[True, False], forecast=5.0, units_sold=3.0)

    taken = take(panel, joined, window=28, reference=364, rows=10_000, rng=np.random.default_rng(0))

    known = taken.current[taken.current["error"].notna()]
    assert len(known) == 1
    assert known["error"].item() == pytest.approx(2 / panel.units_sold[1, :72].mean(), rel=1e-5)
