import datetime as dt
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from monitoring.decisions import load_decisions
from monitoring.outcomes import forecast_at, join
from pricing.data.panel import Panel
from pricing.demand import evaluation
from pricing.demand.out_of_fold import Width, with_quantiles
from tests.kit.monitoring_world import World, build, entries, redecided, write_log

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
PANEL, TRUTH = build(World(products=6, days=60))
DAYS = range(50, 60)


def logged(folder, made, *, worker="w"):
    write_log(folder, made, worker=worker)
    return load_decisions(str(folder), now=NOW)


def changed(panel: Panel, name: str, value: float, *, row: int, day: int) -> Panel:
    values = getattr(panel, name).copy()
    values[row, day] = value
    return replace(panel, **{name: values})


def counts(findings):
    return {finding.code: finding.count for finding in findings}


def test_every_decision_meets_the_sales_of_its_day(tmp_path):
    decisions, _ = logged(tmp_path, entries(PANEL, TRUTH, days=DAYS))

    frame = join(decisions, PANEL).frame

    assert len(frame) == 6 * 10
    for row in frame.itertuples():
        product = list(PANEL.product_ids).index(row.product_id)
        day = list(PANEL.dates).index(np.datetime64(row.period, "D"))
        assert row.units_sold == PANEL.units_sold[product, day]
        assert row.charged == pytest.approx(PANEL.price[product, day])
        assert row.age == 60 - day


def test_a_decision_whose_sales_are_not_in_waits(tmp_path):
    decisions, _ = logged(tmp_path, entries(PANEL, TRUTH, days=DAYS))

    joined = join(decisions, PANEL.through(PANEL.dates[54]))

    assert joined.waiting == 6 * 5
    assert len(joined.frame) == 6 * 5


def test_sold_out_days_count_for_no_error(tmp_path):
    day = changed(PANEL, "stock", 0.0, row=2, day=55)
    decisions, _ = logged(tmp_path, entries(PANEL, TRUTH, days=range(55, 56)))

    frame = join(decisions, day).frame.set_index("product_id")

    assert frame.loc["SKU00002", "censored"]
    assert not frame.loc["SKU00002", "scored"]


def test_a_price_that_a_person_charged_instead_is_recognised_and_scored_at_that_price(tmp_path):
    lower = float(PANEL.price[1, 55]) * 0.9
    panel = changed(changed(PANEL, "price", lower, row=1, day=55), "stock", 1e6, row=1, day=55)
    made = entries(PANEL, TRUTH, days=range(55, 56), noise=0.0)
    decisions, _ = logged(tmp_path, made)

    frame = join(decisions, panel).frame.set_index("product_id")

    assert frame.loc["SKU00001", "pricing"] == "overridden"
    assert frame.loc["SKU00000", "pricing"] == "followed"
    expected = TRUTH.old[1, 55] * 0.9 ** TRUTH.elasticity[1]
    assert frame.loc["SKU00001", "forecast"] == pytest.approx(expected, rel=1e-4)
    assert frame.loc["SKU00001", "scored"]


def with_size(record: dict) -> dict:
    """The line as serving writes it now: the size of the forecast's negative binomial at each candidate."""
    sizes = np.linspace(4, 8, 9).tolist()
    return {**record, "candidates": {**record["candidates"], "size": sizes}}


def rewritten(folder, change) -> None:
    (segment,) = folder.rglob("*.jsonl")
    lines = [json.dumps(change(json.loads(line))) for line in segment.read_text().splitlines()]
    segment.write_text("\n".join(lines) + "\n")


def test_outcomes_are_inside_or_outside_the_interval_at_the_price_charged(tmp_path):
    logged(tmp_path, entries(PANEL, TRUTH, days=DAYS))
    rewritten(tmp_path, with_size)
    decisions, _ = load_decisions(str(tmp_path), now=NOW)

    joined = join(decisions, PANEL)

    assert joined.frame.loc[joined.frame["scored"], "inside"].notna().all()
    for row in joined.frame.itertuples():
        if not row.scored:
            assert np.isnan(row.inside)
            continue
        size = np.interp(np.log(row.charged), np.log(row.candidate_price), row.candidate_size)
        truth = stats.nbinom(size, size / (size + row.demand))
        low, high = truth.ppf(0.1), truth.ppf(0.9)
        if row.censored or row.units_sold in (low, high):
            assert 0 <= row.inside <= 1
        else:
            assert row.inside == pytest.approx(float(low < row.units_sold < high))
    assert "interval_absent" not in counts(joined.findings)


def test_a_sold_out_day_is_scored_by_what_the_shelf_could_give(tmp_path):
    logged(tmp_path, entries(PANEL, TRUTH, days=range(55, 56), noise=0.0))
    rewritten(tmp_path, with_size)
    decisions, _ = load_decisions(str(tmp_path), now=NOW)
    shelves = {0: (3.0, 3.0), 1: (0.0, 0.0), 2: (3.0, 5.0), 3: (np.nan, 5.0)}  # row: stock, units sold
    panel = PANEL
    for row, (stock, units) in shelves.items():
        panel = changed(changed(panel, "stock", stock, row=row, day=55), "units_sold", units, row=row, day=55)

    joined = join(decisions, panel)

    frame = joined.frame.set_index("product_id").loc[[f"SKU0000{row}" for row in shelves]]
    sold_out, unlimited = frame.iloc[0], frame.iloc[3]
    size = np.interp(np.log(sold_out["charged"]), np.log(sold_out["candidate_price"]), sold_out["candidate_size"])
    truth = stats.nbinom(size, size / (size + sold_out["demand"]))
    assert frame["scored"].tolist() == [True, False, True, True]
    assert sold_out["demand"] > 5 > sold_out["forecast"] == pytest.approx(truth.sf([0, 1, 2]).sum())
    assert sold_out["inside"] == pytest.approx((0.9 - max(truth.cdf(2), 0.1)) / truth.sf(2))
    assert unlimited["forecast"] == unlimited["demand"]
    assert counts(joined.findings)["shelf_unknown"] == 1


def test_an_older_log_without_intervals_is_read_and_its_coverage_counted_as_not_judged(tmp_path):
    decisions, findings = logged(tmp_path, entries(PANEL, TRUTH, days=DAYS))

    joined = join(decisions, PANEL)

    assert "log_damaged" not in counts(findings)
    assert joined.frame["inside"].isna().all()
    assert counts(joined.findings)["interval_absent"] == joined.frame["scored"].sum()


def test_sizes_of_another_number_than_the_candidates_are_a_damaged_line(tmp_path):
    logged(tmp_path, entries(PANEL, TRUTH, days=range(55, 56)))
    rewritten(tmp_path, lambda record: {**record, "candidates": {**record["candidates"], "size": [1.0]}})

    decisions, findings = load_decisions(str(tmp_path), now=NOW)

    assert decisions.empty
    assert counts(findings)["log_damaged"] == 6


def test_units_by_weight_are_covered_as_in_the_backtest(tmp_path):
    kilograms = replace(PANEL, units_sold=PANEL.units_sold + np.float32(0.4), stock=np.full_like(PANEL.stock, np.nan))
    logged(tmp_path, entries(PANEL, TRUTH, days=DAYS))
    rewritten(tmp_path, with_size)
    decisions, _ = load_decisions(str(tmp_path), now=NOW)

    frame = join(decisions, kilograms).frame.query("scored")

    sizes = [np.interp(np.log(r.charged), np.log(r.candidate_price), r.candidate_size) for r in frame.itertuples()]
    forecasts = pd.DataFrame({"forecast": frame["forecast"], "size": sizes, "actual": frame["units_sold"], "step": 1})
    forecasts = forecasts.assign(unit=1.0, counted=False, volume_class="mid", shelf=np.inf)
    backtest = with_quantiles(forecasts, Width((0.0, 0.0), np.zeros(4)))
    assert len(frame) == 60
    assert frame["inside"].mean() > 0.6
    assert frame["inside"].mean() == pytest.approx(evaluation.coverage(backtest, level=0.8))


def test_a_price_that_stayed_as_it_was_is_told_apart_from_an_override(tmp_path):
    made = [redecided(entry, recommended_price=999.0) for entry in entries(PANEL, TRUTH, days=range(55, 56))]
    kept = [redecided(entry, current_price=float(PANEL.price[row, 55])) for row, entry in enumerate(made)]
    decisions, _ = logged(tmp_path, kept)

    assert set(join(decisions, PANEL).frame["pricing"]) == {"kept"}


def test_a_price_that_a_person_froze_or_gave_is_known_by_its_reason(tmp_path):
    made = entries(PANEL, TRUTH, days=range(55, 56))
    frozen = redecided(made[0], reasons=["frozen", "cost_assumed"], source="rule")
    given = redecided(made[1], reasons=["overridden"], source="override")
    decisions, _ = logged(tmp_path, [frozen, given, *made[2:]])

    joined = join(decisions, PANEL)

    fixed = joined.frame[joined.frame["pricing"] == "fixed"]
    assert fixed["product_id"].tolist() == [made[0].request.product_id, made[1].request.product_id]
    assert counts(joined.findings)["fixed"] == 2
    assert not fixed[["held_out", "unidentified", "scored"]].to_numpy().any()


def test_a_held_out_product_is_known_by_its_reason(tmp_path):
    made = entries(PANEL, TRUTH, days=range(55, 56))
    decisions, _ = logged(tmp_path, [redecided(made[0], reasons=["held", "holdout"]), *made[1:]])

    joined = join(decisions, PANEL)

    assert joined.frame.loc[joined.frame["held_out"], "product_id"].tolist() == ["SKU00000"]
    assert counts(joined.findings)["held_out"] == 1


@pytest.mark.parametrize(
    ("reasons", "source", "unidentified"),
    [
        (["elasticity_unidentified"], "rule", True),
        (["elasticity_unidentified", "no_model"], "rule", False),
        (["elasticity_unidentified", "model_failed"], "rule", False),
        (["elasticity_unidentified", "unknown_category"], "rule", False),
        (["low_confidence"], "rule", False),
    ],
)
def test_a_price_held_for_want_of_an_elasticity_is_told_from_an_answer_without_a_model(
    tmp_path, reasons, source, unidentified
):
    made = entries(PANEL, TRUTH, days=range(55, 56))
    decisions, _ = logged(tmp_path, [redecided(entry, reasons=reasons, source=source) for entry in made])

    assert set(join(decisions, PANEL).frame["unidentified"]) == {unidentified}


def test_a_price_far_outside_the_candidates_has_no_forecast(tmp_path):
    panel = changed(PANEL, "price", float(PANEL.price[0, 55]) * 3, row=0, day=55)
    decisions, _ = logged(tmp_path, entries(PANEL, TRUTH, days=range(55, 56)))

    joined = join(decisions, panel)

    assert not joined.frame.set_index("product_id").loc["SKU00000", "scored"]
    assert counts(joined.findings)["no_forecast"] == 1


def test_of_several_decisions_for_a_day_the_last_one_made_in_time_counts(tmp_path):
    (first, *_) = entries(PANEL, TRUTH, days=range(55, 56))
    later = redecided(first, at=first.at + dt.timedelta(hours=1), decision_id="later", recommended_price=7.0)
    late = redecided(first, at=first.at + dt.timedelta(days=3), decision_id="late", recommended_price=8.0)
    decisions, findings = logged(tmp_path, [late, later, first])

    joined = join(decisions, PANEL)

    assert joined.frame["decision_id"].tolist() == ["later"]
    assert counts(findings)["superseded"] + counts(joined.findings)["superseded"] == 2


def test_a_segment_that_was_copied_does_not_count_twice(tmp_path):
    logged(tmp_path, entries(PANEL, TRUTH, days=DAYS))
    (segment,) = tmp_path.rglob("*.jsonl")
    segment.with_stem("copy").write_bytes(segment.read_bytes())

    decisions, findings = load_decisions(str(tmp_path), now=NOW)

    assert len(decisions) == 60
    assert counts(findings) == {}


def test_a_log_cut_in_the_middle_of_a_line_loses_that_line_only(tmp_path):
    logged(tmp_path, entries(PANEL, TRUTH, days=DAYS))
    (segment,) = tmp_path.rglob("*.jsonl")
    segment.write_bytes(segment.read_bytes()[:-40])

    decisions, findings = load_decisions(str(tmp_path), now=NOW)

    assert len(decisions) == 59
    assert counts(findings)["log_damaged"] == 1


def test_a_record_with_a_hole_in_it_is_counted_as_damaged(tmp_path):
    logged(tmp_path, entries(PANEL, TRUTH, days=range(55, 56)))
    (segment,) = tmp_path.rglob("*.jsonl")
    lines = segment.read_text().splitlines()
    lines[2] = lines[2].replace('"recommended_price":', '"recommended_prise":')
    segment.write_text("\n".join(lines) + "\n")

    decisions, findings = load_decisions(str(tmp_path), now=NOW)

    assert len(decisions) == 5
    assert counts(findings)["log_damaged"] == 1


def test_products_that_the_sales_do_not_know_are_counted(tmp_path):
    made = entries(PANEL, TRUTH, days=range(55, 56))
    strange = redecided(made[0], product_id="NEW")
    decisions, _ = logged(tmp_path, [strange, *made[1:]])

    joined = join(decisions, PANEL)

    assert counts(joined.findings)["product_unknown"] == 1
    assert counts(joined.findings)["undecided"] == 1
    assert len(joined.frame) == 5


def test_a_day_without_a_sales_row_is_missing_not_zero(tmp_path):
    present = PANEL.present.copy()
    present[3, 55] = False
    decisions, _ = logged(tmp_path, entries(PANEL, TRUTH, days=range(55, 56)))

    joined = join(decisions, replace(PANEL, present=present))

    assert "SKU00003" not in set(joined.frame["product_id"])
    assert counts(joined.findings)["truth_missing"] == 1


def test_a_newest_day_that_is_half_in_is_called_provisional(tmp_path):
    present = PANEL.present.copy()
    present[:4, -1] = False
    decisions, _ = logged(tmp_path, entries(PANEL, TRUTH, days=DAYS))

    findings = join(decisions, replace(PANEL, present=present)).findings

    assert counts(findings)["truth_partial"] == 6


def test_days_that_the_model_had_already_seen_count_for_no_error(tmp_path):
    decisions, _ = logged(tmp_path, entries(PANEL, TRUTH, days=DAYS, version="3"))

    joined = join(decisions, PANEL, state_dates={"3": PANEL.dates[54]})

    assert not joined.frame.loc[joined.frame["period"] <= pd.Timestamp(PANEL.dates[54]), "scored"].any()
    assert counts(joined.findings)["hindsight"] == 6 * 5


def test_clocks_that_disagree_are_counted(tmp_path):
    made = entries(PANEL, TRUTH, days=range(55, 56))
    made[0] = redecided(made[0], at=NOW + dt.timedelta(days=2))
    made[2] = redecided(made[2], at=made[2].at - dt.timedelta(hours=5))

    _, findings = logged(tmp_path, made)

    assert counts(findings)["clock_ahead"] == 1
    assert counts(findings)["clock_back"] == 2
    assert counts(findings)["decided_late"] == 1


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

    decisions, findings = load_decisions(str(tmp_path), now=NOW, known=known)

    assert (code, level) in {(finding.code, finding.level) for finding in findings}
    assert join(decisions, PANEL).frame.empty


def test_of_decisions_by_the_service_and_by_batches_the_last_before_the_days_end_counts(tmp_path):
    (served, *_) = entries(PANEL, TRUTH, days=range(55, 56))
    batches = [
        redecided(served, at=served.at + dt.timedelta(hours=hours), decision_id=name)
        for hours, name in ((-3, "before"), (4, "last"), (40, "too late"))
    ]
    for worker, made in enumerate(([batches[1]], [served, batches[0]], [batches[2]])):  # each a process of its own
        logged(tmp_path, made, worker=f"w{worker}")

    decisions, findings = load_decisions(str(tmp_path), now=NOW)
    joined = join(decisions, PANEL)

    assert joined.frame["decision_id"].tolist() == ["last"]
    assert counts(findings)["superseded"] + counts(joined.findings)["superseded"] == 3


def test_on_weeks_a_decision_in_the_middle_of_its_week_is_live_and_the_last_one_counts(tmp_path):
    dates = PANEL.dates[0] + 7 * np.arange(60)
    panel = replace(PANEL, period="week", dates=dates)
    (monday, *_) = entries(panel, TRUTH, days=range(55, 56))
    start = dt.datetime.combine(monday.answer.date, dt.time(9), tzinfo=dt.UTC)
    thursday = redecided(monday, at=start + dt.timedelta(days=3), decision_id="thursday")
    after = redecided(monday, at=start + dt.timedelta(days=8), decision_id="after")
    logged(tmp_path, [monday, thursday, after])

    decisions, findings = load_decisions(str(tmp_path), now=NOW, days=7)

    assert decisions.set_index("decision_id")["live"].to_dict() == {"thursday": True, "after": False}
    assert counts(findings)["decided_late"] == 1
    assert join(decisions, panel).frame["decision_id"].tolist() == ["thursday"]


def test_the_first_day_that_a_decision_waits_for_is_known(tmp_path):
    decisions, _ = logged(tmp_path, entries(PANEL, TRUTH, days=range(55, 60)))

    assert join(decisions, PANEL.through(PANEL.dates[56])).waiting_for == PANEL.dates[57].astype(dt.date)
    assert join(decisions, PANEL).waiting_for is None


def test_on_weeks_a_decision_for_a_friday_meets_its_week(tmp_path):
    dates = PANEL.dates[0] + 7 * np.arange(60)
    panel = replace(PANEL, period="week", dates=dates)
    made = entries(panel, TRUTH, days=range(55, 56))
    friday = [redecided(entry, date=entry.answer.date + dt.timedelta(days=4)) for entry in made]
    decisions, _ = logged(tmp_path, friday)

    frame = join(decisions, panel).frame

    assert set(frame["period"]) == {pd.Timestamp(dates[55])}
    assert set(frame["age"]) == {35}


def test_joining_changes_neither_decisions_nor_sales(tmp_path):
    decisions, _ = logged(tmp_path, entries(PANEL, TRUTH, days=DAYS))
    before, units = decisions.copy(deep=True), PANEL.units_sold.copy()

    join(decisions, PANEL)

    pd.testing.assert_frame_equal(decisions, before)
    assert np.array_equal(PANEL.units_sold, units)


@given(st.floats(0.76, 1.29), st.floats(-5, -0.2), st.floats(0.1, 500))
def test_the_forecast_of_constant_elasticity_is_exact_between_candidates(step, elasticity, units):
    grid = 10 * np.linspace(0.75, 1.3, 9)
    curve = units * (grid / 10) ** elasticity

    (found,) = forecast_at(pd.Series([grid]), pd.Series([curve]), price=np.array([10 * step]))

    assert found == pytest.approx(units * step**elasticity, rel=1e-9)
