"""Which jobs are started, what is remembered of them, and what becomes of those that end badly or not at all."""

import datetime as dt

import pytest

from monitoring.launch import act_on, lost_jobs
from monitoring.policy import PolicyOutcome
from monitoring.store import MonitoringStore
from pricing.errors import DeliveryError
from tests.kit.monitoring_world import NOW

RETRAIN = PolicyOutcome("retrain", "error 0.6, backtest 0.4", "decay")
CALM = PolicyOutcome("none", "all is well", "nothing")


@pytest.fixture
def store(tmp_path):
    return MonitoringStore(f"sqlite:///{tmp_path / 'monitoring.db'}", model="shop")


class Door:
    def __init__(self, well=True, refuses=False):
        self.well, self.refuses, self.started = well, refuses, []

    def run(self, action, *, reason):
        if self.refuses:
            raise DeliveryError("no machine")
        self.started.append((action, reason))
        return self.well, "its log"


def begin(store, launcher, outcome=RETRAIN):
    _, job = store.claim(lambda _past: outcome, now=NOW)
    return act_on(outcome, job, launcher=launcher, store=store)


def test_a_due_job_is_started_with_its_reason_and_remembered_and_nothing_else_is(store):
    launcher = Door()

    begin(store, launcher, CALM)
    begin(store, launcher, PolicyOutcome("page", "", "fault"))
    result = begin(store, launcher)

    assert launcher.started == [("retrain", RETRAIN.reason)]
    assert "ended well" in result.text
    assert store.past(now=NOW).retrained == NOW


@pytest.mark.parametrize(("hours", "codes"), [(1, []), (7, ["job_lost"])])
def test_a_job_whose_end_cannot_be_learnt_is_given_up_as_neither_failed_nor_done(store, hours, codes):
    store.claim(lambda _past: RETRAIN, now=NOW)
    later = NOW + dt.timedelta(hours=hours)

    kept = lost_jobs(store, now=later, lock_hours=6, gives_up=False)  # a run that calls nobody
    findings = lost_jobs(store, now=later, lock_hours=6)

    assert kept == []
    assert [finding.check for finding in findings] == codes
    assert (store.past(now=later).running_since is None) is bool(codes)
    assert (store.past(now=later).failed, store.past(now=later).retrained) == (0, None)


def test_jobs_that_fail_or_are_refused_or_nobody_may_start_say_so(store):
    failed, refused = begin(store, Door(well=False)), begin(store, Door(refuses=True))

    assert failed.failures
    assert store.past(now=NOW).failed == 1
    assert (refused.failures, store.running()) == (("no machine",), {})
    assert act_on(RETRAIN, None, launcher=None, store=store).by_hand
    assert act_on(RETRAIN, None, launcher=Door(), store=store, acting=False).by_hand
    assert not act_on(RETRAIN, None, launcher=None, store=store, within_night=True).by_hand
