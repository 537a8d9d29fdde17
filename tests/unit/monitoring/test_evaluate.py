"""Which decisions are scored, and which forecasts a champion is blamed for."""

import datetime as dt

import pytest

from monitoring.evaluate import evaluate_decisions, metrics
from monitoring.tracking import ChampionRecord
from pricing.config import load_config
from tests.kit.monitoring_world import PROMISED, World, build, entries, joined, redecided

LATER = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
CONFIG = load_config().monitoring


def test_decisions_that_sales_do_not_score_are_counted_as_a_share_and_told(world):
    panel, truth = world
    made = entries(panel, truth, days=range(100, 120))
    lost = [
        redecided(one, product_id=f"{also}{one.request.product_id}", decision_id=f"{also}{number}")
        for also in ("X", "Y")
        for number, one in enumerate(made)
    ]
    found = joined([*made, *lost], panel, now=LATER)

    third = evaluate_decisions(panel, found, champion=ChampionRecord("3"), config=CONFIG)

    assert metrics(third, backtest_wape=0.4)["share_scored"] == pytest.approx(1 / 3, abs=0.03)
    assert "scored_few" in {finding.check for finding in third.findings}


def test_a_new_champion_is_not_blamed_for_the_decisions_of_the_one_before():
    panel, truth = build(World(products=20, days=60, change_day=30, demand_factor=0.4))
    made = [
        *entries(panel, truth, days=range(30, 50), version="1"),
        *entries(panel, truth, days=range(50, 60), version="2"),
    ]
    found = joined(made, panel, now=LATER)

    old, new = (
        evaluate_decisions(panel, found, champion=champion, config=CONFIG)
        for champion in (ChampionRecord("1", PROMISED), ChampionRecord("2", PROMISED, others=frozenset("1")))
    )

    assert all(verdict.breaches for verdict in old.verdicts)
    assert [verdict.judged for verdict in new.verdicts] == [False, False, True]
    assert {finding.check: finding.rows for finding in new.findings}["other_weights"] == 20 * 20
    assert metrics(new, backtest_wape=0.4)["rows_scored"] == 20 * 10
    assert metrics(new, backtest_wape=0.4)["wape"] == new.own.wape.value != new.newest.wape.value
