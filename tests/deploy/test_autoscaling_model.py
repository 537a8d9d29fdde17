"""How scaling policies follow load, against cases that were computed by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.autoscaling_model import burst, follow
from deploy.environment import Jump, ServingPart, Size, read_environments

SIZE = Size(cpu=512, memory=1024)


def service(**given: object) -> ServingPart:
    """A service whose tasks answer 100 requests a second and are kept at half of it, 3,000 a minute."""
    values = {"size": SIZE, "least": 1, "most": 50, "saturation": 100, "cpu_target": 90, "requests_per_address": 100}
    return ServingPart.model_validate(values | given)


def test_a_burst_rises_stays_and_falls_back_in_the_same_time() -> None:
    assert burst(1, factor=10, before=2, rise=2, hold=3, after=1) == [1, 1, 5.5, 10, 10, 10, 10, 5.5, 1, 1]


def test_load_within_capacity_is_answered_by_the_least_number_of_tasks() -> None:
    outcome = follow([90] * 600, service(least=2), start_seconds=30)

    assert (outcome.answered, outcome.refused, outcome.last_over) == (54_000, 0, None)
    assert set(outcome.tasks) == {2}


def test_a_jump_is_seen_after_its_minute_and_the_delay_and_met_after_the_start() -> None:
    """Four times the target in the first minute, known at 120 s; tasks that start in 40 s answer from 160 s on."""
    outcome = follow([200] * 600, service(most=2), start_seconds=40, metric_delay=60)

    assert (outcome.tasks[159], outcome.tasks[160]) == (1, 2)
    assert (outcome.refused, outcome.seconds_over, outcome.last_over) == (160 * 100, 160, 159)
    assert outcome.refused_share == pytest.approx(16_000 / 120_000)


def test_target_tracking_waits_for_three_minutes_and_adds_what_brings_the_target_back() -> None:
    """1.4 times the target is no jump; the third minute is known at 240 s, and 4 × 1.4 tasks are 6."""
    outcome = follow([280] * 600, service(least=4), start_seconds=40, metric_delay=60)

    assert (outcome.tasks[279], outcome.tasks[280], outcome.tasks[-1]) == (4, 6, 6)


def test_cpu_adds_tasks_where_requests_cost_more_than_was_measured() -> None:
    """60 requests a second of 100 keep requests at 0.6 of their target, and CPU at 1.5 of its own."""
    part = service(saturation=100, target_share=1, cpu_target=40)

    outcome = follow([60] * 600, part, start_seconds=0, metric_delay=0)

    assert (outcome.tasks[179], outcome.tasks[180]) == (1, 2)


def test_a_second_jump_counts_while_the_first_ones_tasks_start_only_where_it_is_larger() -> None:
    """Twice the target adds 100 % of 2 tasks at 120 s; four times it, at 180 s, 300 % of the same 2, not of the 4."""
    part = service(least=2, jump_seconds=180)

    outcome = follow([200] * 60 + [400] * 1_000, part, start_seconds=500, metric_delay=60)

    assert (outcome.tasks[619], outcome.tasks[620], outcome.tasks[680]) == (2, 4, 8)


def test_a_short_pause_after_jumps_makes_them_answer_the_same_load_twice() -> None:
    load = [400] * 600

    counts = [max(follow(load, service(jump_seconds=pause), start_seconds=60).tasks) for pause in (10, 300)]

    assert counts[0] > 2 * counts[1]


def test_tasks_go_once_fifteen_minutes_lie_below_the_target() -> None:
    """The first minute's jump adds a task; the sixteenth minute is the fifteenth calm one, known at 1,020 s."""
    outcome = follow([200] * 60 + [20] * 1_500, service(most=2), start_seconds=40, metric_delay=60)

    assert (outcome.tasks[1_019], outcome.tasks[1_020]) == (2, 1)


def test_tasks_stay_until_the_pause_after_the_last_change_is_over() -> None:
    part = service(most=2, shrink_seconds=1_200)

    outcome = follow([200] * 60 + [20] * 1_500, part, start_seconds=40, metric_delay=60)

    assert (outcome.tasks[1_319], outcome.tasks[1_320]) == (2, 1)


def test_a_refusal_that_costs_a_fifth_of_an_answer_leaves_less_for_answers() -> None:
    """x answers and 150 − x refusals: x + 0.2 (150 − x) = 100, so x = 87.5."""
    outcome = follow([150], service(), start_seconds=40, refusal_cost=0.2)

    assert (outcome.answered, outcome.refused) == (87.5, 62.5)


def test_tasks_are_never_more_than_the_most() -> None:
    outcome = follow([5_000] * 1_200, service(most=7), start_seconds=10)

    assert max(outcome.tasks) == 7


@given(
    load=st.lists(st.floats(0, 2_000), min_size=1, max_size=400),
    cost=st.sampled_from([0.0, 0.1, 0.5]),
    start=st.integers(0, 200),
)
def test_every_request_is_answered_or_refused(load: list[float], cost: float, start: int) -> None:
    part = service(most=9, jumps=[Jump(above=2, add=50)])

    outcome = follow(load, part, start_seconds=start, refusal_cost=cost)

    assert outcome.answered + outcome.refused == pytest.approx(sum(load))
    assert outcome.refused >= -1e-6
    assert len(outcome.tasks) == len(load)
    assert all(part.least <= count <= part.most for count in outcome.tasks)


def test_production_answers_ten_times_a_fifth_of_a_tasks_load_without_a_refusal() -> None:
    part = read_environments()["production"].serving
    load = burst(0.2 * part.saturation, factor=10, before=600, hold=300, after=900)

    assert follow(load, part, start_seconds=60).refused == 0
