"""Requests priced together: each gets its own answer, whoever had the turn."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from pricing.errors import RequestError
from serving.together import Together

FIRST: Any = SimpleNamespace(name="1")
SECOND: Any = SimpleNamespace(name="2")


class Desk:
    """Answers a request with its own words and the version's; holds the first pass until told to go on."""

    def __init__(self) -> None:
        self.passes: list[tuple[str, list[str]]] = []
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.failures = 0

    def price(self, served: Any, asked: list[Any]) -> Any:
        self.passes.append((served.name, list(asked)))
        if len(self.passes) == 1:
            self.entered.set()
            assert self.go_on.wait(10)
        if self.failures and len(self.passes) > 1:
            self.failures -= 1
            raise ZeroDivisionError
        for one in asked:
            if one.startswith("bad"):
                raise RequestError(f"strategy: {one}")
        return [f"{one} by {served.name}" for one in asked]


def run(desk: Desk, jobs: list[tuple[Any, str]]) -> dict[str, Any]:
    """Prices the first job, and while that goes on hands in the others."""
    together = Together(desk.price)
    outcomes: dict[str, Any] = {}

    def job(served: Any, asked: Any) -> None:
        try:
            outcomes[asked] = together.price(served, asked)
        except (RequestError, ZeroDivisionError) as error:
            outcomes[asked] = error

    threads = [threading.Thread(target=job, args=one) for one in jobs]
    threads[0].start()
    assert desk.entered.wait(10)
    for number, thread in enumerate(threads[1:], start=1):
        thread.start()
        while len(together._waiting) < number:
            pass
    desk.go_on.set()
    for thread in threads:
        thread.join(10)
    return outcomes


def test_what_comes_while_another_is_priced_is_priced_in_one_pass() -> None:
    desk = Desk()

    outcomes = run(desk, [(FIRST, "a"), (FIRST, "b"), (FIRST, "c"), (FIRST, "d")])

    assert outcomes == {one: f"{one} by 1" for one in "abcd"}
    assert [len(asked) for _, asked in desk.passes] == [1, 3]


def test_a_bad_request_fails_alone() -> None:
    outcomes = run(Desk(), [(FIRST, "a"), (FIRST, "bad b"), (FIRST, "c"), (FIRST, "bad d")])

    assert (outcomes["a"], outcomes["c"]) == ("a by 1", "c by 1")
    assert str(outcomes["bad b"]) == "strategy: bad b"
    assert str(outcomes["bad d"]) == "strategy: bad d"


def test_each_request_is_answered_by_the_version_that_it_came_under() -> None:
    desk = Desk()

    outcomes = run(desk, [(FIRST, "a"), (FIRST, "b"), (SECOND, "c"), (FIRST, "d"), (SECOND, "e")])

    assert outcomes == {"a": "a by 1", "b": "b by 1", "c": "c by 2", "d": "d by 1", "e": "e by 2"}


@pytest.mark.parametrize("failures", [1, 4])
def test_a_pass_that_fails_as_a_whole_leaves_nobody_without_an_outcome(failures: int) -> None:
    desk = Desk()
    desk.failures = failures

    outcomes = run(desk, [(FIRST, one) for one in "abcde"])

    failed = [one for one in outcomes.values() if isinstance(one, ZeroDivisionError)]
    assert len(outcomes) == 5
    assert len(failed) == failures


def test_a_lone_request_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    together = Together(lambda served, asked: [f"{one} by {served.name}" for one in asked])  # type: ignore[misc]
    monkeypatch.setattr(together._all_here, "wait", lambda _: pytest.fail("it waited"))

    assert together.price(FIRST, "a") == "a by 1"  # type: ignore[arg-type,comparison-overlap]
