import threading
import time

import pytest

from pricing.errors import RegistryError
from serving.timed_calls import TimedCalls


def test_a_call_that_ends_in_time_gives_its_result_or_its_error() -> None:
    calls = TimedCalls()

    def fail() -> None:
        raise RegistryError("no such alias")

    assert calls.within(lambda: 7, seconds=5) == 7
    with pytest.raises(RegistryError, match="no such alias"):
        calls.within(fail, seconds=5)
    assert calls.overdue_seconds == 0


def test_an_error_of_the_call_that_is_a_time_out_itself_is_raised_as_it_is() -> None:
    def fail() -> None:
        raise TimeoutError("of the network")

    with pytest.raises(TimeoutError, match="of the network"):
        TimedCalls().within(fail, seconds=5)


def test_a_call_that_does_not_end_is_waited_for_no_longer_and_holds_back_the_next_until_it_ends() -> None:
    now, end = 100.0, threading.Event()
    calls = TimedCalls(clock=lambda: now)

    def begin() -> None:
        nonlocal now
        now = 115.0  # what it takes until its caller gives up
        end.wait()

    with pytest.raises(RegistryError, match=r"has not answered within 0\.2 s"):
        calls.within(begin, seconds=0.2)
    now = 130.0
    with pytest.raises(RegistryError, match="has not answered for 30 s"):
        calls.within(lambda: 7, seconds=5)
    waited = calls.overdue_seconds
    end.set()
    while calls.overdue_seconds:
        time.sleep(0.001)

    assert waited == 15  # not what its caller waited for it
    assert calls.within(lambda: 7, seconds=5) == 7
