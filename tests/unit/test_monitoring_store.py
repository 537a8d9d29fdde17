import datetime as dt
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pandas as pd
import pytest

from monitoring.policy import PolicyOutcome, Rules, Situation, decide
from monitoring.store import MonitoringStore
from pricing.errors import SourceError

NOW = dt.datetime(2024, 6, 1, 3, tzinfo=dt.UTC)
MATURITIES = [1, 7, 28]


def outcomes(age, units=(5.0, 3.0)):
    return pd.DataFrame(
        {
            "product_id": ["A", "B"],
            "period": pd.Timestamp("2024-05-20"),
            "age": age,
            "decision_id": ["a", "b"],
            "units_sold": units,
            "charged": 9.0,
            "forecast": 4.0,
            "scored": [True, False],
            "category": "fruit",
            "pricing": ["followed", "kept"],
            "cost": 7.0,
            "earned": 2.0,
        }
    )


@pytest.fixture(params=["file", "database"])
def opened(request, tmp_path):
    """Opens the memory, as each run does; the integration tests do so in PostgreSQL, too."""
    path = tmp_path / "deep" / "monitoring.db"
    if request.param == "file":
        return lambda: MonitoringStore(path)
    return lambda: MonitoringStore(path, url=f"sqlite:///{tmp_path / 'pricing.db'}", model="shop")


@pytest.fixture
def store(opened):
    return opened()


def test_an_outcome_is_written_once_for_each_maturity(store):
    counted = [store.write_outcomes(outcomes(age), maturities=MATURITIES, now=NOW).new for age in (1, 2, 7, 8, 28, 40)]

    assert counted == [2, 0, 2, 0, 2, 0]


def test_a_run_after_missed_nights_catches_up(store):
    assert store.write_outcomes(outcomes(30), maturities=MATURITIES, now=NOW).new == 6


def test_a_day_that_arrives_twice_is_scored_once(store):
    store.write_outcomes(outcomes(1), maturities=MATURITIES, now=NOW)

    again = store.write_outcomes(outcomes(1), maturities=MATURITIES, now=NOW)

    assert (again.new, again.corrected) == (0, 0)


def test_a_corrected_day_replaces_what_was_known_of_it(store):
    store.write_outcomes(outcomes(7), maturities=MATURITIES, now=NOW)

    corrected = store.write_outcomes(outcomes(8, units=(9.0, 3.0)), maturities=MATURITIES, now=NOW)
    again = store.write_outcomes(outcomes(9, units=(9.0, 3.0)), maturities=MATURITIES, now=NOW)

    assert (corrected.new, corrected.corrected) == (0, 1)
    assert again.corrected == 0


def test_how_far_the_truth_moved_is_measured_between_first_and_last(store):
    store.write_outcomes(outcomes(1), maturities=MATURITIES, now=NOW)

    late = store.write_outcomes(outcomes(28, units=(7.0, 3.0)), maturities=MATURITIES, now=NOW)

    assert late.moved == pytest.approx(2 / 8)


def test_errors_of_days_that_left_the_log_are_those_known_last_where_they_were_scored(store):
    store.write_outcomes(outcomes(1), maturities=MATURITIES, now=NOW)
    store.write_outcomes(outcomes(28, units=(7.0, 3.0)), maturities=MATURITIES, now=NOW)

    known = store.errors(["A", "B", "C"], first=dt.date(2024, 5, 1), last=dt.date(2024, 5, 20))

    assert known.to_dict("records") == [
        {"product_id": "A", "period": pd.Timestamp("2024-05-20"), "forecast": 4.0, "units_sold": 7.0}
    ]
    assert store.errors(["B"], first=dt.date(2024, 5, 1), last=dt.date(2024, 5, 20)).empty
    assert store.errors(["A"], first=dt.date(2024, 5, 21), last=dt.date(2024, 6, 1)).empty


def test_what_has_no_forecast_is_no_number_and_spoils_no_figure(store):
    unknown = outcomes(1).assign(forecast=[float("nan"), 4.0], charged=float("nan"))

    store.write_outcomes(unknown, maturities=MATURITIES, now=NOW)
    late = store.write_outcomes(outcomes(28, units=(7.0, 3.0)), maturities=MATURITIES, now=NOW)

    assert late.moved == pytest.approx(2 / 8)
    assert store.daily()["units"].tolist() == [7.0]


def test_errors_of_more_products_than_a_statement_takes_are_all_found(store, monkeypatch):
    monkeypatch.setattr("monitoring.store._PRODUCTS_AT_ONCE", 1)
    store.write_outcomes(outcomes(1).assign(scored=True), maturities=MATURITIES, now=NOW)

    known = store.errors(["B", "C", "A"], first=dt.date(2024, 5, 1), last=dt.date(2024, 5, 20))

    assert sorted(known["product_id"]) == ["A", "B"]


def test_figures_of_a_day_stay_when_its_outcomes_are_deleted(store):
    store.write_outcomes(outcomes(28), maturities=MATURITIES, now=NOW)

    kept, deleted = store.prune(before=dt.date(2024, 5, 20)), store.prune(before=dt.date(2024, 5, 21))

    assert (kept, deleted) == (0, 6)
    assert store.has_outcomes()
    assert store.daily().to_dict("records") == [
        {
            **{"period": "2024-05-20", "category": "fruit", "decisions": 2, "scored": 1, "units": 5.0},
            **{"error": 1.0, "surplus": -1.0, "followed": 1, "margin": 16.0},
        }
    ]


def test_a_day_of_which_only_a_part_is_read_keeps_its_figures(store):
    store.write_outcomes(outcomes(1), maturities=MATURITIES, now=NOW)
    whole = store.daily().to_dict("records")

    store.write_outcomes(outcomes(2).head(1), maturities=MATURITIES, now=NOW)
    part = store.daily().to_dict("records")
    store.write_outcomes(outcomes(3, units=(9.0, 3.0)), maturities=MATURITIES, now=NOW)

    assert part == whole
    assert store.daily()["units"].tolist() == [9.0]


def test_jobs_are_remembered_until_they_end(store):
    job = store.started(action="retrain", cause="decay", reason="why", handle="7 x", now=NOW)

    assert store.running() == [(job, "7 x", NOW)]
    assert store.past(now=NOW).running_since == NOW
    assert store.past(now=NOW).started_today == 1

    store.ended(job, succeeded=True, now=NOW)

    past = store.past(now=NOW + dt.timedelta(days=1))
    assert store.running() == []
    assert (past.started_today, past.retrained, past.failed, past.running_since) == (0, NOW, 0, None)


def test_of_two_runs_at_once_only_one_gets_to_start_the_job(opened):
    together = threading.Barrier(4)

    def decide_slowly(past):
        time.sleep(0.05)
        return PolicyOutcome("none" if past.running_since else "retrain", "error grew", "decay")

    def run(_):
        store = opened()
        together.wait()
        return store.claim(decide_slowly, now=NOW)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, range(4)))

    assert sorted(outcome.action for outcome, _ in found) == ["none", "none", "none", "retrain"]
    (job,) = [job for _, job in found if job is not None]
    assert opened().running() == [(job, "", NOW)]


def test_failures_count_until_a_retraining_ends_well(store):
    for succeeded in (False, False):
        job = store.started(action="retrain", cause="decay", reason="", handle="", now=NOW)
        store.ended(job, succeeded=succeeded, now=NOW)

    assert store.past(now=NOW).failed == 2
    assert store.past(now=NOW).retrained is None

    job = store.started(action="retrain", cause="decay", reason="", handle="", now=NOW)
    store.ended(job, succeeded=True, now=NOW)

    assert store.past(now=NOW).failed == 0


def test_failures_are_kept_with_their_start_and_end(store):
    job = store.started(action="retrain", cause="decay", reason="", handle="", now=NOW)
    store.ended(job, succeeded=False, now=NOW + dt.timedelta(hours=1))

    assert store.past(now=NOW).failures == ((NOW, NOW + dt.timedelta(hours=1)),)


def test_only_a_refresh_against_decay_makes_the_rules_wait(store):
    for cause in ("drift", "stale"):
        store.ended(
            store.started(action="refresh", cause=cause, reason="", handle="", now=NOW), succeeded=True, now=NOW
        )
    assert store.past(now=NOW).refreshed is None

    store.ended(store.started(action="refresh", cause="decay", reason="", handle="", now=NOW), succeeded=True, now=NOW)

    assert store.past(now=NOW).refreshed == NOW


@pytest.mark.parametrize("promoted", [False, True])
def test_decay_with_old_states_leads_to_a_retraining_whether_or_not_anybody_promotes_the_refresh(store, promoted):
    rules = Rules(3, 2, 7, 2, 6, 28, 3, 0.25)
    started, age = [], 9
    for day in range(60):
        now = NOW + dt.timedelta(days=day)
        seen = Situation(now, (True,) * 3, "error grew", 7, (), age + day, 0, 0.0, ())
        outcome = decide(seen, store.past(now=now), rules)
        if outcome.action in ("refresh", "retrain"):
            started.append((day, outcome.action))
            job = store.started(action=outcome.action, cause=outcome.cause, reason="", handle="x", now=now)
            store.ended(job, succeeded=True, now=now)
            age = -day if promoted else age

    assert started[:2] == [(0, "refresh"), (7, "retrain")]


def test_a_damaged_memory_is_one_clear_error(tmp_path):
    path = tmp_path / "monitoring.db"
    path.write_bytes(b"no database at all, but long enough to be looked at" * 40)

    with pytest.raises(SourceError, match=r"monitoring\.db"):
        MonitoringStore(path)


def test_shops_that_share_a_database_share_no_memory(tmp_path):
    url = f"sqlite:///{tmp_path / 'pricing.db'}"
    one, other = (MonitoringStore(tmp_path / "none.db", url=url, model=model) for model in ("one", "other"))

    one.write_outcomes(outcomes(28), maturities=MATURITIES, now=NOW)
    one.started(action="retrain", cause="decay", reason="", handle="", now=NOW)

    assert (one.has_outcomes(), other.has_outcomes()) == (True, False)
    assert other.prune(before=dt.date(2030, 1, 1)) == 0
    assert (other.running(), other.past(now=NOW).started_today) == ([], 0)
    assert other.daily().empty
    assert other.errors(["A"], first=dt.date(2024, 5, 1), last=dt.date(2024, 5, 20)).empty
    assert other.write_outcomes(outcomes(28), maturities=MATURITIES, now=NOW).new == 6


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("found", [1, 3])
def test_a_memory_of_another_format_is_refused_and_left_as_it_is(tmp_path, shared, found):
    path = tmp_path / "monitoring.db"
    options = {"url": f"sqlite:///{path}", "model": "shop"} if shared else {}
    MonitoringStore(path, **options)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("update monitoring_format set format = ?", [found])
        connection.commit()

    for _ in range(2):
        with pytest.raises(SourceError, match=rf"is monitoring's memory of format {found}, expected 2; start a new"):
            MonitoringStore(path, **options)


def test_a_database_that_is_away_is_one_clear_error_without_the_password(tmp_path):
    with pytest.raises(SourceError, match="PRICING_DATABASE_URL") as found:
        MonitoringStore(tmp_path / "none.db", url="postgresql://ann:hush@127.0.0.1:1/pricing", model="shop")

    assert "hush" not in str(found.value)
    assert len(str(found.value).splitlines()) == 1
