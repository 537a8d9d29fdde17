import datetime as dt
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from monitoring.policy import PolicyOutcome
from monitoring.store import OUTCOME_DAYS, MonitoringStore
from pricing.errors import RegistryError
from tests.kit.monitoring_world import NOW

MAY = {"first": dt.date(2024, 5, 1), "last": dt.date(2024, 5, 31)}


def outcomes(day="2024-05-20", units=(5.0, 3.0), forecast=4.0):
    return pd.DataFrame(
        {
            "product_id": ["A", "B"],
            "period": pd.Timestamp(day),
            "units_sold": units,
            "forecast": forecast,
            "scored": [True, False],
        }
    )


def asks(action, cause="decay"):
    return lambda past: PolicyOutcome("none" if past.running_since else action, "error grew", cause)


def job(store, **told):
    """A job that was claimed, and what was noted of it."""
    _, number = store.claim(asks("retrain"), now=NOW)
    if told:
        store.note(number, **told)
    return number


@pytest.fixture
def opened(tmp_path):
    """Opens the memory, as each run does; the integration tests do so in PostgreSQL, too."""
    return lambda: MonitoringStore(f"sqlite:///{tmp_path / 'deep' / 'monitoring.db'}", model="shop")


@pytest.fixture
def store(opened):
    return opened()


def wrote(store, frame, last=dt.date(2024, 6, 1)):
    store.write_outcomes(frame, last=last)


def test_errors_are_those_of_scored_decisions_as_known_last(store):
    before = store.has_outcomes()
    nothing_scored = outcomes("2024-05-21", forecast=float("nan")).assign(scored=False)
    for each in (outcomes(), outcomes(units=(7.0, 3.0)), outcomes("2024-06-02"), nothing_scored):
        wrote(store, each)

    known = store.errors(["A", "B", "C"], **MAY)

    assert known.to_dict("records") == [
        {"product_id": "A", "forecast": 4.0, "units_sold": 7.0, "period": pd.Timestamp("2024-05-20")}
    ]
    assert store.errors(["B"], **MAY).empty
    assert (before, store.has_outcomes()) == (False, True)


def test_old_outcomes_are_deleted_and_no_others(store):
    wrote(store, pd.concat([outcomes(), outcomes("2024-05-21")]))

    wrote(store, outcomes().head(0), last=dt.date(2024, 5, 21) + dt.timedelta(days=OUTCOME_DAYS))

    assert store.errors(["A"], **MAY)["period"].tolist() == [pd.Timestamp("2024-05-21")]


def test_a_write_that_is_cut_off_loses_no_earlier_record(store, monkeypatch):
    wrote(store, outcomes())
    job(store)

    with monkeypatch.context() as patch:
        patch.setattr("monitoring.store.insert", lambda _table: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            wrote(store, outcomes(units=(9.0, 3.0)))

    assert store.errors(["A"], **MAY)["units_sold"].tolist() == [5.0]
    assert len(store.running()) == 1


def test_jobs_are_remembered_until_they_end(store):
    number = job(store)

    assert store.running() == {number: NOW}
    assert (store.past(now=NOW).running_since, store.past(now=NOW).started_today) == (NOW, 1)

    store.note(number, ended=NOW.isoformat(), succeeded=True)

    past = store.past(now=NOW + dt.timedelta(days=1))
    assert store.running() == {}
    assert (past.started_today, past.retrained, past.failed, past.running_since) == (0, NOW, 0, None)


def test_of_two_runs_at_once_only_one_gets_to_start_the_job(opened):
    together = threading.Barrier(4)

    def decide_slowly(past):
        time.sleep(0.05)
        return asks("retrain")(past)

    def run(_):
        store = opened()
        together.wait()
        return store.claim(decide_slowly, now=NOW)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, range(4)))

    assert sorted(outcome.action for outcome, _ in found) == ["none", "none", "none", "retrain"]
    (number,) = [number for _, number in found if number is not None]
    assert opened().running() == {number: NOW}


def test_failures_count_with_start_and_end_until_a_retraining_ends_well(store):
    later = NOW + dt.timedelta(hours=1)
    for succeeded in (False, False, None):
        job(store, ended=later.isoformat(), succeeded=succeeded)

    assert store.past(now=NOW).failures == ((NOW, later),) * 2
    assert (store.past(now=NOW).failed, store.past(now=NOW).retrained) == (2, None)

    job(store, ended=later.isoformat(), succeeded=True)

    assert store.past(now=NOW).failed == 0


def test_shops_that_share_a_database_share_no_memory(tmp_path):
    url = f"sqlite:///{tmp_path / 'pricing.db'}"
    one, other = (MonitoringStore(url, model=model) for model in ("one", "other"))

    wrote(one, outcomes())
    job(one)
    wrote(other, outcomes().head(0), last=dt.date(2030, 1, 1))

    assert (one.has_outcomes(), other.has_outcomes()) == (True, False)
    assert (other.running(), other.past(now=NOW).started_today) == ({}, 0)
    assert other.errors(["A"], **MAY).empty


@pytest.mark.parametrize("url", ["sqlite:///{folder}/broken.db", "postgresql://ann:hush@127.0.0.1:1/pricing"])
def test_a_memory_that_cannot_be_used_is_one_clear_error_without_the_password(tmp_path, url):
    (tmp_path / "broken.db").write_bytes(b"no database at all, but long enough to be looked at" * 40)

    with pytest.raises(RegistryError, match=r"broken\.db|127\.0\.0\.1") as found:
        MonitoringStore(url.format(folder=tmp_path), model="shop")

    assert "hush" not in str(found.value)
    assert len(str(found.value).splitlines()) == 1
