from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from monitoring.__main__ import job_options
from monitoring.decisions import in_force, period_start
from monitoring.evaluate import prices_held, rules
from pricing.config import load_config
from pricing.runtime.cli import UsageError
from tests.kit.monitoring_world import World, build


def test_an_empty_value_counts_as_not_given_in_both_spellings():
    read = job_options().parse(["--sales", "sales.csv", "--config=", "--act", "false"])

    assert (read.sales, read.config, read.act) == ("sales.csv", None, "false")


@pytest.mark.parametrize(
    ("words", "near"),
    [(["--sale=x"], "--sales"), (["--decision", "d"], "--decisions"), (["x"], "every value follows an option")],
)
def test_an_unknown_option_names_the_nearest(words, near):
    with pytest.raises(UsageError, match=near):
        job_options().parse(words)


def test_the_rules_take_their_limits_from_the_configuration():
    config = load_config().monitoring.model_copy(update={"cooldown": 99})

    assert rules(config).cooldown == 99
    assert rules(config).breaches == config.breaches


def test_days_fall_into_the_week_that_begins_before_them():
    dates = pd.Series(pd.to_datetime(["2024-01-01", "2024-01-07", "2024-01-08", "2023-12-31"]))

    found = period_start(dates, first=np.datetime64("2024-01-01"), days=7)

    assert found.dt.strftime("%m-%d").tolist() == ["01-01", "01-01", "01-08", "12-25"]


def test_exactly_one_decision_a_product_and_day_is_in_force():
    rng = np.random.default_rng(0)
    count = 200
    frame = pd.DataFrame(
        {
            "product_id": rng.choice(["A", "B", "C"], count),
            "date": pd.Timestamp("2024-01-05") + pd.to_timedelta(rng.integers(0, 4, count), unit="D"),
            "at": pd.Timestamp("2024-01-05", tz="UTC") + pd.to_timedelta(rng.integers(0, 200, count), unit="h"),
            "worker": rng.choice(["x", "y"], count),
            "sequence": np.arange(count),
        }
    ).assign(period=lambda rows: rows["date"])

    chosen = frame[in_force(frame)]

    assert len(chosen) == len(frame.groupby(["product_id", "period"]))
    for row in chosen.itertuples():
        rivals = frame[(frame["product_id"] == row.product_id) & (frame["period"] == row.period)]
        end = (row.date + pd.Timedelta(days=1)).tz_localize("UTC")
        in_time = rivals[rivals["at"] < end]
        assert row.at == (in_time if len(in_time) else rivals)["at"].max()


def test_the_benchmark_world_is_the_same_for_the_same_seed():
    first, _ = build(World(products=3, days=40, seed=5))
    again, _ = build(World(products=3, days=40, seed=5))
    other, _ = build(replace(World(products=3, days=40), seed=6))

    assert np.array_equal(first.units_sold, again.units_sold)
    assert not np.array_equal(first.units_sold, other.units_sold)


@pytest.mark.parametrize(("share", "levels"), [(float("nan"), []), (0.0, []), (0.1, ["note"]), (0.9, ["warning"])])
def test_prices_held_for_want_of_an_elasticity_are_a_finding_and_never_a_breach(share, levels):
    findings = prices_held(share, warn_above=0.25)

    assert [finding.level for finding in findings] == levels
    assert all("test prices on these products" in finding.text for finding in findings)
