import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.policy import BREACHES, DAILY_BUDGET, JobHistory, Situation, decide
from pricing.config import load_config
from pricing.data.findings import Finding
from tests.kit.monitoring_world import NOW

RULES = load_config().monitoring
CALM = Situation(
    decayed=(False, False, False),
    why="error 0.6, backtest 0.4",
    window_days=7,
    drifted=(),
    state_age=1,
    silent_days=0,
    share_rule=0.02,
)


def faults(*kinds):
    """Faults of data by their code, and by the column that they are about."""
    parts = [kind.partition("-") for kind in kinds]
    return tuple(Finding(code, "breach", sentence=f"{code} it is", about=column) for code, _, column in parts)


def ago(**span):
    return NOW - dt.timedelta(**span)


CASES = [
    # what is so, what was done before → what is done, and why
    ("all is well", {}, {}, "none", "nothing"),
    ("one window in breach is not enough", {"decayed": (False, False, True)}, {}, "none", "decay"),
    ("two of three, the newest among them", {"decayed": (True, False, True)}, {}, "retrain", "decay"),
    ("two of three, but the newest is fine again", {"decayed": (True, True, False)}, {}, "none", "nothing"),
    ("the newest could not be judged", {"decayed": (True, True, None)}, {}, "none", "nothing"),
    ("decay while the states are old", {"decayed": (True, True, True), "state_age": 9}, {}, "refresh", "decay"),
    ("decay just after that refresh", {"decayed": (True,) * 3}, {"refreshed": ago(days=2)}, "none", "decay"),
    ("decay a window after that refresh", {"decayed": (True,) * 3}, {"refreshed": ago(days=8)}, "retrain", "decay"),
    (
        "decay and old states after a refresh that nobody promoted",
        {"decayed": (True,) * 3, "state_age": 16},
        {"refreshed": ago(days=7)},
        "retrain",
        "decay",
    ),
    (
        "decay and old states, the refresh was one of an earlier time",
        {"decayed": (True,) * 3, "state_age": 9},
        {"refreshed": ago(days=30)},
        "refresh",
        "decay",
    ),
    ("decay in the cooldown", {"decayed": (True,) * 3}, {"retrained": ago(days=3)}, "none", "decay"),
    ("decay that retraining did not mend", {"decayed": (True,) * 3}, {"retrained": ago(days=15)}, "page", "decay"),
    ("new decay long after a retraining", {"decayed": (True,) * 3}, {"retrained": ago(days=60)}, "retrain", "decay"),
    ("decay, one retraining failed", {"decayed": (True,) * 3}, {"failed": 1}, "retrain", "decay"),
    ("decay, two retrainings failed", {"decayed": (True,) * 3}, {"failed": 2}, "page", "decay"),
    ("decay, the budget is spent", {"decayed": (True,) * 3}, {"started_today": 2}, "none", "decay"),
    ("decay while a job runs", {"decayed": (True,) * 3}, {"running_since": ago(hours=1)}, "none", "decay"),
    ("drift, forecasts hold", {"drifted": ("comp_gap",)}, {}, "refresh", "drift"),
    ("drift, states are of today", {"drifted": ("comp_gap",), "state_age": 0}, {}, "none", "drift"),
    ("drift and decay", {"drifted": ("comp_gap",), "decayed": (True,) * 3}, {}, "retrain", "decay"),
    ("drift is unknown", {"drifted": None}, {}, "none", "nothing"),
    ("stale states", {"state_age": 29}, {}, "refresh", "stale"),
    ("no champion", {"state_age": None, "decayed": (None,) * 3}, {}, "none", "nothing"),
    ("sales have stopped, whatever else", {"silent_days": 4, "decayed": (True,) * 3}, {}, "page", "fault"),
    ("decisions have stopped", {"idle_days": 4}, {}, "page", "fault"),
    ("a weekend without decisions", {"idle_days": 3}, {}, "none", "nothing"),
    ("a column is empty", {"broken": faults("column_empty-comp_level"), "decayed": (True,) * 3}, {}, "page", "fault"),
    ("the rule answers", {"share_rule": 0.4}, {}, "page", "fault"),
    ("nothing was decided", {"share_rule": float("nan")}, {}, "none", "nothing"),
]


@pytest.mark.parametrize(("name", "seen", "done", "action", "cause"), CASES, ids=[case[0] for case in CASES])
def test_each_case_leads_to_its_action(name, seen, done, action, cause):
    outcome = decide(replace(CALM, **seen), replace(JobHistory(), **done), RULES, now=NOW)

    assert (outcome.action, outcome.cause) == (action, cause)
    assert outcome.reason


@pytest.mark.parametrize(
    ("seen", "done", "fault", "doubts"),
    [
        ({"silent_days": 4}, {}, "sales_stopped", True),
        ({"broken": faults("column_empty-comp_gap")}, {}, "column_empty-comp_gap", True),
        ({"broken": faults("log_empty", "column_empty-b")}, {}, "column_empty-b+log_empty", True),
        ({"broken": faults("log_empty")}, {}, "log_empty", False),
        ({"broken": faults("column_empty-request_comp")}, {}, "column_empty-request_comp", False),
        ({"lost": ("nobody knows how it ended",)}, {}, "job_lost", False),
        ({"idle_days": 4}, {}, "decisions_stopped", False),
        ({"share_rule": 0.4}, {}, "answers_by_rule", False),
        ({}, {}, "", False),
        ({"decayed": (True,) * 3}, {"failed": 2}, "", False),
    ],
)
def test_each_fault_has_a_word_of_its_own_and_says_whether_sales_may_be_read(seen, done, fault, doubts):
    outcome = decide(replace(CALM, **seen), replace(JobHistory(), **done), RULES, now=NOW)

    assert (outcome.fault, outcome.doubts_sales) == (fault, doubts)
    assert outcome.silent is ("log_empty" in fault or fault == "decisions_stopped")


situations = st.builds(
    Situation,
    decayed=st.lists(st.sampled_from([True, False, None]), max_size=6).map(tuple),
    why=st.just("error grew"),
    window_days=st.integers(1, 28),
    drifted=st.sampled_from([None, (), ("discount",)]),
    state_age=st.none() | st.integers(0, 90),
    silent_days=st.integers(0, 9),
    share_rule=st.floats(0, 1) | st.just(float("nan")),
    broken=st.sampled_from([(), faults("column_empty-comp_gap")]),
)
pasts = st.builds(
    JobHistory,
    started_today=st.integers(0, 4),
    retrained=st.none() | st.integers(0, 90).map(lambda days: ago(days=days)),
    refreshed=st.none() | st.integers(0, 90).map(lambda days: ago(days=days)),
    running_since=st.none() | st.integers(0, 20).map(lambda hours: ago(hours=hours)),
    failed=st.integers(0, 3),
)


@given(situations, pasts)
def test_nothing_is_started_while_a_job_runs_or_data_are_broken_or_the_budget_is_spent(seen, past):
    outcome = decide(seen, past, RULES, now=NOW)

    if past.running_since or seen.broken or seen.silent_days > 3 or past.started_today >= DAILY_BUDGET:
        assert outcome.action in ("none", "page")


@given(situations, pasts)
def test_a_retraining_needs_lasting_decay_that_is_still_there(seen, past):
    outcome = decide(seen, past, RULES, now=NOW)

    if outcome.action == "retrain":
        assert seen.decayed[-1] is True
        assert seen.decayed[-3:].count(True) >= BREACHES
        assert past.retrained is None or (NOW - past.retrained).days >= RULES.cooldown


@pytest.mark.parametrize(
    ("missed", "after", "action"), [(0, 1, "none"), (1, 1, "page"), (1, 2, "none"), (9, 0, "none")]
)
def test_silence_calls_a_person_after_so_many_days_or_never(missed: int, after: int, action: str) -> None:
    outcome = decide(
        replace(CALM, undecided_days=missed), JobHistory(), RULES.model_copy(update={"undecided_days": after}), now=NOW
    )

    assert outcome.action == action
    assert outcome.silent is (action == "page")
    assert not outcome.doubts_sales
