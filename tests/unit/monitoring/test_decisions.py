import datetime as dt
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from monitoring.decisions import join
from pricing.demand import evaluation
from pricing.demand.out_of_fold import Width, with_quantiles
from tests.kit import monitoring_world
from tests.kit.monitoring_world import World, build, entries, redecided, write_log
from tests.kit.panels import put

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
PANEL, TRUTH = build(World(products=6, days=60))
WEEKLY = replace(PANEL, period="week", dates=PANEL.dates[0] + 7 * np.arange(60))
DAYS = range(50, 60)
SIZES = np.linspace(4, 8, 9).tolist()


def joined(made, panel=PANEL, **given):
    return monitoring_world.joined(made, panel, now=NOW, **given)


def one_day(panel=PANEL, **given):
    return entries(panel, TRUTH, days=range(55, 56), **given)


def by_product(found):
    return found.frame.set_index("product_id")


def counts(found):
    return {finding.check: finding.rows for finding in found.findings}


def test_every_decision_meets_the_sales_of_its_day_and_of_the_weeks_before():
    frame = joined(entries(PANEL, TRUTH, days=DAYS)).frame

    assert len(frame) == 6 * 10
    for row in frame.itertuples():
        product = list(PANEL.product_ids).index(row.product_id)
        day = list(PANEL.dates).index(np.datetime64(row.period, "D"))
        units, past = PANEL.units_sold[product], [day - 7 * lag for lag in range(1, 5)]
        shelf = PANEL.stock[product, day]
        off = [abs(units[day] - min(units[one], shelf)) for one in past if not PANEL.censored[product, one]]
        assert (row.units_sold, row.charged) == (units[day], PANEL.price[product, day])
        assert row.age == 60 - day
        assert row.earlier_weeks_error == pytest.approx(np.mean(off))


def test_decisions_whose_sales_are_not_in_wait_and_the_first_day_is_known():
    made = entries(PANEL, TRUTH, days=DAYS)

    found = joined(made, PANEL.through(PANEL.dates[54]))

    assert (found.waiting, len(found.frame)) == (6 * 5, 6 * 5)
    assert found.waiting_for == PANEL.dates[55].astype(dt.date)
    assert joined(made).waiting_for is None


@pytest.mark.parametrize("step", [0.76, 0.9, 1.0, 1.29, 2.0])
def test_the_forecast_is_read_off_at_the_price_charged_and_there_is_none_far_outside(step):
    price = float(PANEL.price[1, 55]) * step
    panel = put(PANEL, (1, 55), price=price, stock=1e6)

    found = joined(one_day(noise=0.0), panel)

    row = by_product(found).loc["SKU00001"]
    assert row["pricing"] == ("followed" if step == 1 else "overridden")
    assert row["scored"] == (step < 2)
    assert counts(found).get("no_forecast", 0) == (step == 2)
    if step < 2:
        assert row["forecast"] == pytest.approx(TRUTH.old[1, 55] * step ** TRUTH.elasticity[1], rel=1e-4)


def test_outcomes_are_inside_or_outside_the_interval_at_the_price_charged():
    found = joined([redecided(entry, candidate_sizes=SIZES) for entry in entries(PANEL, TRUTH, days=DAYS)])

    assert found.frame.loc[found.frame["scored"], "inside"].notna().all()
    for row in found.frame.itertuples():
        if not row.scored:
            assert np.isnan(row.inside)
            continue
        size = np.interp(np.log(1), np.log(np.linspace(0.75, 1.3, 9)), SIZES)  # charged as recommended
        truth = stats.nbinom(size, size / (size + row.demand))
        low, high = truth.ppf(0.1), truth.ppf(0.9)
        if row.censored or row.units_sold in (low, high):
            assert 0 <= row.inside <= 1
        else:
            assert row.inside == pytest.approx(float(low < row.units_sold < high))
    assert "interval_absent" not in counts(found)


def test_a_sold_out_day_is_scored_by_what_the_shelf_could_give():
    shelves = {0: (3.0, 3.0), 1: (0.0, 0.0), 2: (3.0, 5.0), 3: (np.nan, 5.0)}  # row: stock, units sold
    panel = PANEL
    for row, (stock, units) in shelves.items():
        panel = put(panel, (row, 55), stock=stock, units_sold=units)

    found = joined([redecided(entry, candidate_sizes=[5.0] * 9) for entry in one_day(noise=0.0)], panel)

    frame = by_product(found).loc[[f"SKU0000{row}" for row in shelves]]
    sold_out, unlimited = frame.iloc[0], frame.iloc[3]
    truth = stats.nbinom(5.0, 5.0 / (5.0 + sold_out["demand"]))
    assert frame["scored"].tolist() == [True, False, True, True]
    assert sold_out["demand"] > 5 > sold_out["forecast"] == pytest.approx(truth.sf([0, 1, 2]).sum())
    assert sold_out["inside"] == pytest.approx((0.9 - max(truth.cdf(2), 0.1)) / truth.sf(2))
    assert unlimited["forecast"] == unlimited["demand"]
    assert counts(found)["shelf_unknown"] == 1


def test_without_intervals_sold_out_days_are_left_out_and_coverage_is_not_judged():
    found = joined(entries(PANEL, TRUTH, days=DAYS))

    assert found.frame["inside"].isna().all()
    assert not found.frame.loc[found.frame["censored"], "scored"].any()
    assert counts(found)["interval_absent"] == found.frame["scored"].sum()


def test_units_by_weight_are_covered_as_in_the_backtest():
    kilograms = replace(PANEL, units_sold=PANEL.units_sold + np.float32(0.4), stock=np.full_like(PANEL.stock, np.nan))

    made = [redecided(entry, candidate_sizes=[5.0] * 9) for entry in entries(PANEL, TRUTH, days=DAYS)]
    frame = joined(made, kilograms).frame.query("scored")

    forecasts = pd.DataFrame({"forecast": frame["forecast"], "size": 5.0, "actual": frame["units_sold"], "step": 1})
    forecasts = forecasts.assign(unit=1.0, counted=False, volume_class="mid", shelf=np.inf)
    backtest = with_quantiles(forecasts, Width((0.0, 0.0), np.zeros(4)))
    assert len(frame) == 60
    assert frame["inside"].mean() == pytest.approx(evaluation.coverage(backtest, level=0.8))
    assert frame["inside"].mean() > 0.6


@pytest.mark.parametrize(
    ("reasons", "source", "flag"),
    [
        (["demand_unknown"], "rule", "unforecast"),
        (["elasticity_unidentified"], "rule", "unidentified"),
        (["elasticity_unidentified", "no_model"], "rule", ""),
        (["elasticity_unidentified", "model_failed"], "rule", ""),
        (["elasticity_unidentified", "unknown_category"], "rule", ""),
        (["low_confidence"], "rule", ""),
        (["held", "holdout"], "model", "held_out"),
        (["frozen", "cost_assumed"], "rule", "fixed"),
        (["overridden"], "override", "fixed"),
    ],
)
def test_what_became_of_a_price_is_known_by_its_reasons(reasons, source, flag):
    found = joined([redecided(entry, reasons=reasons, source=source) for entry in one_day()])

    frame = found.frame.assign(fixed=found.frame["pricing"] == "fixed", unforecast=found.frame["demand"].isna())
    told = {name for name in ("unidentified", "held_out", "fixed", "unforecast") if frame[name].any()}
    assert told == ({flag} if flag else set())
    assert frame["scored"].any() == (flag not in ("fixed", "unforecast"))
    assert {code for code in ("held_out", "fixed") if code in counts(found)} == told & {"held_out", "fixed"}


def test_a_price_that_stayed_as_it_was_is_told_apart_from_an_override():
    priced = [(one, one.answer.decision.recommended_price) for one in one_day()]
    kept = [redecided(one, recommended_price=999.0, current_price=price) for one, price in priced]

    assert set(joined(kept).frame["pricing"]) == {"kept"}


def test_of_decisions_for_a_day_by_whomever_the_last_one_made_in_time_counts(tmp_path):
    (served, *_) = one_day()
    batches = [
        redecided(served, at=served.at + dt.timedelta(hours=hours), decision_id=name)
        for hours, name in ((-3, "before"), (4, "last"), (40, "too late"))
    ]
    for worker, made in enumerate(([batches[1]], [served, batches[0]], [batches[2]])):  # each a process of its own
        write_log(tmp_path, made, worker=f"w{worker}")

    found = join(str(tmp_path), PANEL, now=NOW)

    assert found.frame["decision_id"].tolist() == ["last"]
    assert counts(found)["superseded"] == 3


def test_on_weeks_a_decision_meets_its_week_and_the_last_one_in_it_counts():
    (monday, *_) = one_day(WEEKLY)
    friday = redecided(monday, date=monday.answer.date + dt.timedelta(days=4))
    start = dt.datetime.combine(monday.answer.date, dt.time(9), tzinfo=dt.UTC)
    made = [
        redecided(friday, at=start + dt.timedelta(days=days), decision_id=name)
        for days, name in ((0, "first"), (3, "thursday"), (12, "after"))
    ]

    found = joined(made, WEEKLY)

    (row,) = found.frame.itertuples()
    assert (row.decision_id, row.period, row.age) == ("thursday", pd.Timestamp(WEEKLY.dates[55]), 35)
    assert counts(found)["decided_late"] == 1


def test_a_replay_gives_way_to_what_was_decided_in_time_and_is_kept_where_nothing_was():
    first, second, *_ = one_day()
    again = [redecided(entry, at=NOW, decision_id=f"again-{row}") for row, entry in enumerate((first, second))]

    frame = joined([first, *again]).frame

    assert frame.set_index("decision_id")["live"].to_dict() == {
        first.answer.decision.decision_id: True,
        "again-1": False,
    }


def test_decisions_that_meet_no_sales_are_counted_by_what_is_missing():
    made = one_day()
    strange = redecided(made[-1], product_id="NEW", decision_id="strange")
    early = redecided(made[-1], date=dt.date(2023, 12, 31), decision_id="early")

    found = joined([strange, early, *made], put(PANEL, (3, 55), present=False))

    told = {"product_unknown": 1, "before_sales": 1, "truth_missing": 1}
    assert {code: counts(found)[code] for code in told} == told
    assert len(found.frame) == 5


def test_days_that_the_model_had_already_seen_count_for_no_error():
    found = joined(entries(PANEL, TRUTH, days=DAYS, version="3"), state_dates={"3": PANEL.dates[54]})

    assert not found.frame.loc[found.frame["period"] <= pd.Timestamp(PANEL.dates[54]), "scored"].any()
    assert counts(found)["hindsight"] == 6 * 5


def test_clocks_that_disagree_and_damaged_lines_are_counted(tmp_path):
    made = one_day()
    made[0] = redecided(made[0], at=NOW + dt.timedelta(days=2))
    write_log(tmp_path, made)
    (segment,) = tmp_path.rglob("*.jsonl")
    segment.write_bytes(segment.read_bytes()[:-40])
    segment.with_stem("copy").write_bytes(segment.read_bytes())  # a segment twice counts once

    found = join(str(tmp_path), PANEL, now=NOW)

    told = {"clock_ahead": 1, "decided_late": 1}
    assert {code: counts(found)[code] for code in told} == told
    assert found.decisions == 5
    assert counts(found)["log_damaged"] == 2  # of a damaged line nobody knows that it is a copy


@pytest.mark.parametrize(
    ("line", "known", "code", "level"),
    [
        ("", False, "no_decisions", "warning"),  # a shop that has not begun
        ("", True, "log_empty", "breach"),
        ("{", False, "log_empty", "breach"),
    ],
)
def test_an_empty_log_is_a_fault_only_where_decisions_were_seen_before(tmp_path, line, known, code, level):
    write_log(tmp_path, [])
    (segment,) = tmp_path.rglob("*.jsonl")
    segment.write_text(line)

    found = join(str(tmp_path), PANEL, now=NOW, known=known)

    assert (code, level) in {(finding.check, finding.level) for finding in found.findings}
    assert found.frame.empty
