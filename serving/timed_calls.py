"""Call a registry and stop waiting after a while: a server may accept a connection and never answer."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from pricing.errors import RegistryError

Result = TypeVar("Result")


class TimedCalls:
    """Calls one after the other, each in a thread of its own, none of which is waited for longer than it may take.

    A call that has not ended holds back the next ones, which are refused meanwhile: nothing piles up.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pending: Future[Any] | None = None
        self._since = 0.0
        self._given_up = 0.0

    @property
    def overdue_seconds(self) -> float:
        """How long a call has not ended since its caller gave up; 0 without one."""
        return 0.0 if self._pending is None or self._pending.done() else self._clock() - self._given_up

    def within(self, call: Callable[[], Result], *, seconds: float) -> Result:
        """Returns the result of a call, or raises its error.

        Raises:
            RegistryError: It has not ended within `seconds`, or the one before has not.
        """
        if self._pending is not None and not self._pending.done():
            raise RegistryError(f"the registry has not answered for {self._clock() - self._since:.0f} s")
        self._pending, self._since = Future(), self._clock()
        self._given_up = self._since + seconds
        threading.Thread(target=_run, args=(self._pending, call), name="registry-call", daemon=True).start()
        pending: Future[Result] = self._pending
        try:
            pending.exception(timeout=seconds)
        except TimeoutError as error:
            self._given_up = self._clock()
            raise RegistryError(f"the registry has not answered within {seconds:g} s") from error
        return pending.result()


def _run(future: Future[Any], call: Callable[[], object]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001 - it is raised again by who waits
        future.set_exception(error)
