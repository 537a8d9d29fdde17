from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from monitoring.drift import add_to_workspace, compare, distance, html
from monitoring.samples import Samples, take
from tests.kit.monitoring_world import World, build

pytestmark = pytest.mark.filterwarnings("ignore")
NOTHING = pd.DataFrame({"scored": np.zeros(0, bool), "product_id": [], "forecast": [], "units_sold": []}).assign(
    period=pd.to_datetime([])
)


EVIL = "</script><script>alert(1)</script>"


def samples(**world) -> Samples:
    panel, _ = build(World(products=20, days=392, change_day=364, **world))
    panel = replace(panel, categories=np.where(panel.categories == "cat-3", EVIL, panel.categories))
    return take(panel, NOTHING, window=28, reference=364, rows=200_000, rng=np.random.default_rng(0))


def judged(taken: Samples, **changes):
    settings = {"window": 28, "step_days": 1, "false_alarm": 0.05, "min_rows": 100, **changes}
    return compare(taken, **settings)


def found(drift):
    return {finding.code for finding in drift.findings}


@pytest.fixture(scope="module")
def shifted():
    taken = samples(price_factor=0.85, promo_factor=4.0)
    return taken, judged(taken)


def test_evidently_reports_the_distance_that_the_thresholds_were_calibrated_for(shifted):
    taken, drift = shifted

    assert len(drift.columns) == 7
    for column in drift.columns:
        name, kind = column.watched.column, column.watched.kind
        expected = distance(taken.reference[name].dropna(), taken.current[name].dropna(), kind=kind)
        assert column.value == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_each_column_that_moved_is_named_and_no_other(shifted):
    _, drift = shifted

    assert {"price_level", "discount", "comp_gap"} <= set(drift.drifted("input"))
    assert "category" not in drift.drifted("input")
    assert drift.drifted("error") is None


def test_the_page_holds_the_head_and_needs_no_network(shifted):
    _, drift = shifted

    page = html(drift, head="<p>the head</p>")

    assert page.count("<p>the head</p>") == 1
    assert page.index("<body") < page.index("<p>the head</p>")
    assert 'src="http' not in page


def test_names_from_the_data_cannot_break_out_of_evidentlys_script(shifted):
    _, drift = shifted

    page = html(drift, head="")

    assert EVIL not in page
    assert "</script><script>" not in page.split("alert(1)")[0][-200:]
    assert r"\u2039/script\u203a" in page  # shown all the same, with other brackets


def test_the_workspace_keeps_every_report_in_one_project(shifted, tmp_path):
    _, drift = shifted

    add_to_workspace(drift, tmp_path / "evidently")
    add_to_workspace(drift, tmp_path / "evidently")

    assert len(list((tmp_path / "evidently").glob("*/metadata.json"))) == 1
    assert len(list((tmp_path / "evidently").glob("*/snapshots/*.json"))) in (1, 2)


def test_an_empty_window_is_a_finding_and_no_pass():
    taken = samples()

    drift = judged(replace(taken, current=taken.current.iloc[:0]))

    assert drift.columns == []
    assert drift.snapshot is None
    assert {"column_empty", "drift_unjudged"} <= found(drift)


def test_a_column_that_went_empty_is_a_breach_and_the_others_are_judged():
    taken = samples()
    current = taken.current.assign(comp_gap=np.nan)

    drift = judged(replace(taken, current=current))

    assert [finding.level for finding in drift.findings if finding.code == "column_empty"] == ["breach"]
    assert "comp_gap" not in {column.watched.column for column in drift.columns}
    assert len(drift.columns) == 6


def test_a_column_that_is_new_has_nothing_to_compare_with():
    taken = samples()

    drift = judged(replace(taken, reference=taken.reference.assign(stock_cover=np.nan)))

    assert "column_new" in found(drift)


def test_few_rows_are_not_judged():
    taken = samples()

    drift = judged(replace(taken, current=taken.current.iloc[:50]))

    assert drift.columns == []
    assert {"rows_few", "drift_unjudged"} <= found(drift)


def test_a_column_that_is_half_empty_is_called_so():
    taken = samples()
    half = taken.current.assign(discount=taken.current["discount"].where(np.arange(len(taken.current)) % 2 == 0))

    assert "column_emptier" in found(judged(replace(taken, current=half)))
