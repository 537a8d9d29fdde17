import datetime as dt
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from monitoring.holdout import first_day, since
from pricing.decision.assignment import Holdout, hold_out, read_holdout, write_holdout

from monitoring import holdout as holdout_job
from monitoring.business import effect, line, weeks
from pricing.data.panel import save_panel
from pricing.errors import SourceError
from tests.kit.monitoring_world import World, build, without

PANEL, _ = build(World(products=40, days=140))
ALL = np.ones(40, dtype=bool)
BEGIN = 112


def joined(products):
    days = pd.to_datetime(PANEL.dates[BEGIN:])
    rows = [(product, day) for product in products for day in days]
    return pd.DataFrame(rows, columns=["product_id", "period"]).assign(pricing="followed", live=True, held_out=False)


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


def test_without_stock_turns_and_stockouts_are_unknown():
    found = line(without(PANEL, "stock"), name="all", rows=ALL, periods=slice(100, 107))

    assert np.isnan(found.turns)
    assert np.isnan(found.sold_out)


def test_the_newest_week_ends_with_the_sales():
    (_, before), (name, newest) = weeks(PANEL)

    assert name.endswith(str(PANEL.dates[-1]))
    assert (before.stop, newest.start, newest.stop) == (133, 133, 140)


def test_a_margin_that_pricing_raised_is_found_and_one_it_did_not_is_not():
    held, priced = halves()
    gained = PANEL.units_sold.copy()
    gained[np.isin(PANEL.product_ids, sorted(priced)), BEGIN:] *= 1.5
    holdout = Holdout(held, priced)

    with_gain = effect(
        replace(PANEL, units_sold=gained), joined(priced), holdout, window=28, rng=np.random.default_rng(0)
    )
    without_gain = effect(PANEL, joined(priced), holdout, window=28, rng=np.random.default_rng(0))

    assert 0.3 < with_gain.margin.value < 0.75
    assert with_gain.margin.low > 0.1
    assert without_gain.margin.low < 0 < without_gain.margin.high


def test_the_gain_is_that_since_pricing_began_although_the_logs_first_days_are_gone():
    held, priced = halves()
    gained = PANEL.units_sold.copy()
    gained[np.isin(PANEL.product_ids, sorted(priced)), BEGIN - 28 :] *= 1.5
    panel = replace(PANEL, units_sold=gained)
    began = PANEL.dates[BEGIN - 28].astype(dt.date)

    kept, forgotten = (
        effect(panel, joined(priced), Holdout(held, priced, start), window=28, rng=np.random.default_rng(0))
        for start in (began, None)
    )

    assert kept.margin.low > 0.1
    assert forgotten.margin.value < kept.margin.value - 0.1


def test_the_day_that_pricing_began_is_kept_and_only_moves_back(tmp_path):
    path = tmp_path / "holdout.json"
    assert since(path, dt.date(2024, 3, 1), keep=True) is None, "nobody is held out"
    write_holdout(path, hold_out({"A": "x", "B": "x"}, share=0.5))
    assert since(path, None, keep=True).began is None

    days = [since(path, dt.date(2024, 3, day), keep=True).began for day in (5, 9, 2)]

    assert [day.day for day in days] == [5, 5, 2]
    assert hold_out({"A": "x", "B": "x", "C": "x"}, share=0.5, before=read_holdout(path)).began == dt.date(2024, 3, 2)


@pytest.mark.parametrize("began", ["soon", 5])
def test_a_beginning_that_is_no_day_is_an_error(tmp_path, began):
    path = tmp_path / "holdout.json"
    path.write_text(json.dumps({"held": [], "priced": [], "began": began}))

    with pytest.raises(SourceError, match="is no list of held-out products"):
        since(path, dt.date(2024, 3, 1), keep=True)


def test_a_run_that_may_leave_no_trace_keeps_no_beginning(tmp_path):
    path = tmp_path / "holdout.json"
    write_holdout(path, hold_out({"A": "x", "B": "x"}, share=0.5))

    assert since(path, dt.date(2024, 3, 1), keep=False).began == dt.date(2024, 3, 1)
    assert read_holdout(path).began is None


@pytest.mark.parametrize(
    "changes", [{"live": False}, {"pricing": "overridden"}, {"pricing": "kept"}], ids=["past", "changed", "ignored"]
)
def test_one_decision_for_a_past_day_or_that_nobody_followed_does_not_begin_pricing(changes):
    held, priced = halves()
    frame = joined(priced)
    stray = frame.iloc[:1].assign(period=pd.Timestamp(PANEL.dates[3]), **changes)
    with_stray = pd.concat([stray, frame], ignore_index=True)

    assert first_day(with_stray) == first_day(frame) == PANEL.dates[BEGIN].astype(dt.date)
    found, plain = (
        effect(PANEL, rows, Holdout(held, priced), window=28, rng=np.random.default_rng(0))
        for rows in (with_stray, frame)
    )
    assert found == plain


def test_a_held_out_product_begins_pricing_and_a_replay_shows_no_beginning():
    frame = joined(["A"])

    assert first_day(frame.assign(pricing="kept", held_out=True)) == PANEL.dates[BEGIN].astype(dt.date)
    assert first_day(frame.assign(live=False)) is None


def test_a_season_that_lifts_everything_is_not_taken_for_a_gain():
    held, priced = halves()
    lifted = PANEL.units_sold.copy()
    lifted[:, BEGIN:] *= 1.5

    found = effect(
        replace(PANEL, units_sold=lifted),
        joined(priced),
        Holdout(held, priced),
        window=28,
        rng=np.random.default_rng(0),
    )

    assert found.margin.low < 0 < found.margin.high


@pytest.mark.parametrize(
    ("holdout", "says"),
    [
        (None, "No products"),
        (Holdout(frozenset(), frozenset()), "No products"),
        (Holdout(frozenset({"SKU00000"}), frozenset()), "too few"),
    ],
)
def test_without_a_comparison_nothing_is_claimed(holdout, says):
    found = effect(PANEL, joined(PANEL.product_ids[1:]), holdout, window=28, rng=np.random.default_rng(0))

    assert np.isnan(found.margin.value)
    assert says in found.text


def test_before_any_outcome_nothing_is_claimed():
    held, priced = halves()

    found = effect(PANEL, joined([]), Holdout(held, priced), window=28, rng=np.random.default_rng(0))

    assert np.isnan(found.margin.value)


STRATA = {f"P{number}": f"c{number % 3}" for number in range(300)}


def test_each_stratum_gives_its_share():
    drawn = hold_out(STRATA, share=0.1)

    per_stratum = pd.Series(STRATA)[sorted(drawn.held)].value_counts()
    assert per_stratum.between(10, 11).all()


@given(st.sets(st.sampled_from(sorted(STRATA)), min_size=1), st.floats(0, 0.5))
def test_whoever_was_assigned_stays_where_it_was(first, share):
    early = hold_out({one: STRATA[one] for one in first}, share=share)

    late = hold_out(STRATA, share=share, before=early)

    assert early.held <= late.held
    assert early.priced <= late.priced
    assert late.held | late.priced == set(STRATA)
    assert not late.held & late.priced


def test_the_holdout_is_drawn_the_same_for_ever():
    drawn = hold_out({f"P{number}": "ab"[number % 2] for number in range(8)}, share=0.25)

    assert sorted(drawn.held) == ["P0", "P5"]


def test_the_draw_depends_on_no_order():
    backwards = dict(reversed(STRATA.items()))

    assert hold_out(STRATA, share=0.2) == hold_out(backwards, share=0.2)


def test_an_assignment_survives_writing_and_a_damaged_file_is_an_error(tmp_path):
    path = tmp_path / "monitoring" / "holdout.json"
    drawn = hold_out({"a": "x/0", "b": "x/1"}, share=0.5)

    assert read_holdout(path) is None
    write_holdout(path, drawn)
    assert read_holdout(path) == drawn

    for damaged in ('{"held": "a"}', '{"held": [], "priced": [1]}', "[]", "{half"):
        path.write_text(damaged)
        with pytest.raises(SourceError, match=r"holdout\.json"):
            read_holdout(path)


def test_small_strata_hold_out_the_share_in_total():
    strata = {f"P{number}": f"c{number % 1000}" for number in range(4000)}

    drawn = hold_out(strata, share=0.1)

    assert 350 <= len(drawn.held) <= 450


@pytest.mark.parametrize("shared", [False, True])
def test_a_holdout_is_drawn_kept_and_ended_by_a_command(tmp_path, monkeypatch, capsys, shared):
    monkeypatch.setenv("PRICING_HOME", str(tmp_path))
    monkeypatch.setenv("PRICING_DATABASE_URL", f"sqlite:///{tmp_path / 'pricing.db'}" if shared else "")
    save_panel(build(World(products=20, days=30))[0], tmp_path / "panel")
    path, found = tmp_path / "monitoring" / "holdout.json", []

    for words in (["--sales", str(tmp_path / "panel")], ["--sales", str(tmp_path / "panel")], ["--end", "true"]):
        assert holdout_job.main(words) == 0
        found.append(read_holdout(path).held)
        if shared:
            path.unlink()  # what is shared counts, not the file

    first, again, ended = found
    assert first == again
    assert len(first) in (1, 2, 3, 4)
    assert ended == frozenset()
    assert "no product is held out any more" in capsys.readouterr().out
