"""Requests that wait at the same time are answered in one pass."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.api import Together


def test_requests_that_wait_share_a_pass_and_each_gets_its_own_answer() -> None:
    passes: list[int] = []
    first, gate = threading.Event(), threading.Event()

    def answers(asked: Sequence[int]) -> list[int]:
        passes.append(len(asked))
        first.set()
        gate.wait(10)
        return [10 * one for one in asked]

    together = Together(answers)
    with ThreadPoolExecutor(8) as threads:
        alone = threads.submit(together.answer, 0)
        first.wait(10)
        waiting = [threads.submit(together.answer, one) for one in range(1, 8)]
        while len(together.waiting) < 7:
            time.sleep(0.001)
        gate.set()

        assert [alone.result(10), *(one.result(10) for one in waiting)] == [0, 10, 20, 30, 40, 50, 60, 70]
    together.close()

    assert passes == [1, 7]


def test_an_error_reaches_who_waits_and_ends_nothing() -> None:
    def answers(asked: Sequence[int]) -> list[float]:
        return [1 / one for one in asked]

    together = Together(answers)

    with pytest.raises(ZeroDivisionError):
        together.answer(0)
    assert together.answer(4) == 0.25
    together.close()
