"""The page of the burst benchmark says what its figures do not reach."""

from typing import Any

import pytest

from benchmarks.burst_page import LIMITS, report
from benchmarks.burst_stack import Pins

RATES = {"requests": 100, "refusals": 0, "offered": 100.0, "priced": 100.0, "refused": 0.0}
TIMES = {f"p{share}_ms": 10.0 for share in (50, 95, 99, 100)} | {
    f"refused_p{share}_ms": None for share in (50, 99, 100)
}
NONE_LOST = {"errors": 0, "lost": 0, "others": 0, "by_version": {"1": 100}, "by_source": {"model": 100}}
SPAN: dict[str, Any] = {"begin": 0.0, "end": 1.0, **RATES, **TIMES, **NONE_LOST, "processor": 0.5}
STEP = {"rate": 100.0, "answered": 100.0, "p50_ms": 5.0, "p99_ms": 50.0, "refused": 0, "processor": 0.5, "kept": True}
GENERATOR = {"late_ms": 2.0, "generator": 0.1}


def results(**held: Any) -> dict[str, Any]:
    """Results that reach everything, but for what the held part of both bursts has."""
    phases = [{"phase": name, **SPAN} for name in ("before", "rise", "held", "after")]
    phases[2] |= held
    burst = {"phases": phases, "seconds": [[100, 100, 5.0, 9.0, 0, None]] * 4, "first_refused": None, **GENERATOR}
    outage = {**SPAN, "during": SPAN, "states": ["unreachable"], "recovered_seconds": 3.0}
    moved = {**SPAN, "job_seconds": 5.0, "moved_seconds": 4.0, "followed_seconds": 2.0}
    damaged = {"job_exit_code": 2, "job_says": "", "refused_seconds": 4.0, "told": "checksums", "ready": [200, 200]}
    killed = {"lost_in_flight": 0, "lost_later": 0, "sent_on": 3, "replaced_seconds": 9.0, "last_old_seconds": 2.0}
    return {
        "machine": {"python": "3.11", "processors": 2, "pins": {"tasks": "0", "others": "1"}, "reserved": False},
        "load_average": {"begin": 0.1, "end": 0.9},
        "products": 500,
        "limit_ms": 100.0,
        "seconds": 300,
        "saturation": {"rate": 100, "seconds": 5.0, "overloaded": STEP, "steps": [{**STEP, **GENERATOR}]},
        "bursts": [{"tasks": 1, **burst}, {"tasks": 2, **burst}],
        "failures": {
            **{"rate": 40.0, "cut_seconds": 20.0, "promotion": moved, "rollback": moved},
            "damaged": {**SPAN, **damaged, "prices_from_it": 0, "back_seconds": 3.0},
            **dict.fromkeys(("mlflow", "postgres", "s3"), outage),
            "killed": {**SPAN, **killed, "by_task": {"task-2": {"1": 5, "5": 9}}},
        },
    }


def not_met(found: dict[str, Any]) -> str:
    return " ".join(report(found).partition("## What was not met, and why")[2].split())


def test_a_page_without_misses_says_so() -> None:
    assert not_met(results()) == f"- Nothing: every target is met. {' '.join(LIMITS)}"


@pytest.mark.parametrize(
    ("held", "told"),
    [
        ({"errors": 3}, "With one task 3 answers were 5xx, and 0 requests had none."),
        ({"refused": 50.0, "processor": 0.4}, "each got 40% of its half processor"),
        ({"refused": 50.0, "refused_p100_ms": 1500.0}, "the slowest 429 took 1500 ms, above 1000"),
        ({"refused": 50.0, "p99_ms": 480.0}, "p99 of what was priced in the burst is 480 ms, above 100"),
        ({"refused": 20.0}, "With two tasks 20% was refused in the burst"),
    ],
)
def test_a_burst_that_misses_a_target_is_told(held: dict[str, Any], told: str) -> None:
    assert told in not_met(results(**held))


def test_failures_that_cost_something_are_told() -> None:
    found = results()
    failures = found["failures"]
    failures["killed"]["lost_in_flight"] = 2
    failures["rollback"] = {**failures["rollback"], "followed_seconds": 58.0}
    failures["damaged"]["prices_from_it"] = 4
    failures["s3"] = {**failures["s3"], "during": {**SPAN, "errors": 7}}

    told = not_met(found)

    for words in (
        "A killed task takes",
        "took 62 s to reach every task",
        "4 prices came from a damaged",
        "7 answers 5xx",
    ):
        assert words in told
    assert "Nothing" not in told


def test_tasks_and_load_work_on_different_processors_where_there_are_two() -> None:
    assert Pins.of([0, 1]) == Pins("0", "1")
    assert Pins.of([2, 3, 5]) == Pins("2", "3,5")
    assert Pins.of([0]) == Pins("0", "0")
