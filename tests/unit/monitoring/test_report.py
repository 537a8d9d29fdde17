import datetime as dt
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from monitoring.policy import PolicyOutcome
from monitoring.report import effect, line, newest_week, page
from monitoring.todo import Task
from pricing.data.findings import Finding
from pricing.decision.experiments import Arm, Experiment
from tests.kit.monitoring_world import World, build
from tests.kit.panels import put

PANEL, _ = build(World(products=40, days=140))
ALL = np.ones(40, dtype=bool)
BEGIN = 112


def joined(products):
    days = pd.to_datetime(PANEL.dates[BEGIN:])
    rows = [(product, day) for product in products for day in days]
    return pd.DataFrame(rows, columns=["product_id", "period"]).assign(pricing="followed", live=True, held_out=False)


def holding(products):
    """An experiment that keeps their prices."""
    start = PANEL.dates[BEGIN].astype(dt.date)
    return Experiment("holdout", start, None, (Arm("keep", share=0.25),), dict.fromkeys(products, "keep"))


def halves():
    held = frozenset(PANEL.product_ids[3::4].tolist())
    return held, frozenset(PANEL.product_ids.tolist()) - held


def test_a_line_adds_up_what_a_slow_loop_adds_up():
    found = line(PANEL, name="all", rows=ALL, periods=slice(100, 107))

    revenue = margin = at_list = 0.0
    for row in range(40):
        for day in range(100, 107):
            units = float(PANEL.units_sold[row, day])
            revenue += units * float(PANEL.price[row, day])
            at_list += units * float(PANEL.list_price[row, day])
            margin += units * (float(PANEL.price[row, day]) - float(PANEL.unit_cost[row, day]))
    assert found.revenue == pytest.approx(revenue, rel=1e-5)
    assert found.margin == pytest.approx(margin, rel=1e-5)
    assert found.discount == pytest.approx(1 - revenue / at_list, rel=1e-4)
    assert found.turns == pytest.approx(found.units / (PANEL.stock[:, 100:107].sum() / 7), rel=1e-5)


@pytest.mark.parametrize(("days", "before"), [(140, range(126, 133)), (10, range(3)), (7, None)])
def test_the_newest_week_ends_with_the_sales_and_the_week_before_may_be_cut_off(days, before):
    seen = PANEL.through(PANEL.dates[days - 1])

    week = newest_week(seen, joined([]), holdout=None, rng=np.random.default_rng(0))

    assert week.name == f"{PANEL.dates[days - 7]} to {PANEL.dates[days - 1]}"
    assert week.now.units == PANEL.units_sold[:, days - 7 : days].sum()
    assert (week.before and week.before.units) == (before and PANEL.units_sold[:, before].sum())


@pytest.mark.parametrize(("lifted", "gain"), [("priced", True), ("none", False), ("all", False)])  # all: a season
def test_a_margin_that_pricing_raised_is_found_and_no_other(lifted, gain):
    held, priced = halves()
    rows = np.isin(PANEL.product_ids, {"priced": sorted(priced), "none": [], "all": PANEL.product_ids}[lifted])
    lively = put(PANEL, np.s_[rows, BEGIN:], units_sold=1.5 * PANEL.units_sold[rows, BEGIN:])

    found = effect(lively, joined(priced), holding(held), window=28, rng=np.random.default_rng(0)).margin

    assert found.low > 0.1 if gain else found.low < 0 < found.high
    assert not gain or 0.3 < found.value < 0.75


@pytest.mark.parametrize(
    ("held", "priced"),
    [([], PANEL.product_ids), (PANEL.product_ids[:1], PANEL.product_ids[1:]), (PANEL.product_ids[3::4], [])],
    ids=["no holdout", "too small a holdout", "no outcome yet"],
)
def test_without_a_comparison_nothing_is_claimed(held, priced):
    holdout = holding(held) if len(held) else None

    found = effect(PANEL, joined(priced), holdout, window=28, rng=np.random.default_rng(0))

    assert np.isnan(found.margin.value)


def test_a_hostile_name_and_what_it_is_said_of_stand_on_the_page_as_text(seen, world):
    evil = "</td><script>alert(1)</script>"
    panel, _ = world
    hostile = replace(panel, categories=np.where(panel.categories == "cat-1", evil, panel.categories))
    frame = seen.joined.frame
    found = replace(
        seen,
        findings=[Finding("log_damaged", "warning", sentence=evil)],
        by_category=[replace(seen.newest, name=f"category {evil}")],
    )
    week = newest_week(hostile, frame, holdout=None, rng=np.random.default_rng(0))

    shown = page(
        found, week, outcome=PolicyOutcome("none", evil, "nothing"), done=evil, tasks=[Task(evil, evil, (evil,))]
    )

    assert "<script" not in shown
    assert shown.count("&lt;script&gt;alert(1)") == 7
