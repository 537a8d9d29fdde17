import datetime as dt
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from monitoring.drift import compare
from monitoring.evidently_reports import add_to_workspace, html, render
from monitoring.samples import Samples, take
from pricing.config import load_config
from tests.kit.monitoring_world import World, build, live_join

pytestmark = pytest.mark.filterwarnings("ignore")
EVIL = "</script><script>alert(1)</script>"
END = dt.date(2025, 1, 26)
LIVE = 336  # first day with our prices, on which decisions begin


def samples(**world) -> tuple[Samples, pd.DataFrame]:
    panel, _ = build(World(products=20, days=392, change_day=364, **world))
    panel = replace(panel, categories=np.where(panel.categories == "cat-3", EVIL, panel.categories))
    joined = live_join(panel, since=LIVE, products=10)
    return take(panel, joined, window=28, reference=364, rows=200_000, rng=np.random.default_rng(0)), joined


@pytest.fixture(scope="module")
def shifted():
    taken, joined = samples(price_factor=0.85, promo_factor=4.0)
    drift = compare(taken, window=28, step_days=1, false_alarm=0.05, min_rows=100)
    scored = joined.assign(category=EVIL, forecast=joined["units_sold"] + 1)
    tags = {"version": "7", "outcome": "none"}
    metrics = {"wape": 0.4, "bias": np.nan}
    reports = render(drift, scored, metrics=metrics, since=pd.Timestamp("2024-12-30"), end=END, tags=tags)
    return drift, reports


def test_evidently_reports_the_distance_that_the_thresholds_were_calibrated_for(shifted):
    drift, reports = shifted

    found = json.loads(reports["inputs"].json())["metrics"]
    drifts = [one for one in found if one["config"].get("type", "").endswith(":ValueDrift")]
    shown = {one["config"]["column"]: float(one["value"]) for one in drifts}

    assert set(shown) == {column.watched.column for column in drift.watched}
    for column in drift.watched:
        assert shown[column.watched.column] == pytest.approx(column.value, rel=1e-6, abs=1e-9)


def test_names_from_the_data_cannot_break_out_of_evidentlys_script(shifted):
    _, reports = shifted

    page = html(reports)

    assert 'src="http' not in page  # it needs no network
    assert EVIL not in page
    assert "</script><script>" not in page.split("alert(1)")[0][-200:]
    assert r"\u2039/script\u203a" in page  # shown all the same, with other brackets
    assert EVIL not in reports["forecasts"].get_html_str(as_iframe=False)


def test_the_workspace_keeps_each_windows_reports_once_dated_tagged_and_with_a_dashboard(shifted, tmp_path):
    _, reports = shifted

    add_to_workspace(reports, tmp_path / "evidently", end=END)
    add_to_workspace(reports, tmp_path / "evidently", end=END)

    (project,) = (tmp_path / "evidently").glob("*/metadata.json")
    kept = [json.loads(path.read_text()) for path in project.parent.glob("snapshots/*.json")]
    assert len(kept) == 3
    assert {one["timestamp"][:10] for one in kept} == {"2025-01-26"}
    assert all({"version 7", "outcome none"} <= set(one["tags"]) for one in kept)
    assert {one["name"].partition(",")[0] for one in kept} == {"figures", "inputs", "forecasts"}
    (board,) = project.parent.glob("dashboard.json")
    assert "drift_comp_level" in board.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_calm_shop_that_goes_live_alarms_nobody_in_its_first_three_months(seed):
    config, start = load_config().monitoring, 365
    panel, _ = build(World(products=12, days=start + 92, live_day=start, seed=seed))

    for day in range(start + 6, start + 91, 7):
        seen, rng = panel.through(panel.dates[day]), np.random.default_rng(0)
        taken = take(seen, live_join(seen, since=start), window=28, reference=364, rows=200_000, rng=rng)
        drift = compare(taken, window=28, step_days=1, false_alarm=config.false_alarm, min_rows=config.min_rows)
        assert not drift.drifted("input"), seen.dates[-1]
