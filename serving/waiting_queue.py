"""Keep the requests that wait for a thread, and tell how long a new one would have to wait."""

import queue
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")
_WEIGHT = 0.05  # of the newest interval in the mean: about the last twenty count


class WaitingQueue(Generic[Item]):
    """A queue, first come, first served, of which one thread puts and several take.

    What a newcomer would wait is predicted: the number of items before it times the mean interval between two takings
    (measured while more items wait than there are threads), but no less than the first item has waited already, which
    shows threads that are stuck. As long as no more wait than there are threads nothing is refused by the interval, or
    one that slow requests have left behind would never be measured again. At the begin of a burst the interval is not
    known yet, so that an item may wait longer than was predicted; whoever takes it is told so.
    """

    def __init__(self, *, seconds: float, threads: int, clock: Callable[[], float] = time.perf_counter) -> None:
        """Makes an empty queue.

        Args:
            seconds: The longest time that an item should wait.
            threads: How many threads take items.
            clock: Seconds of a clock that never goes back.
        """
        self._seconds, self._threads, self._clock = seconds, threads, clock
        self._items: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._came: deque[float] = deque()  # when each of them was put; SimpleQueue cannot be looked into
        self._taken_at = clock()
        self._interval = 0.0

    def is_too_long(self) -> bool:
        """Whether a newcomer would wait too long."""
        try:
            first = self._came[0]
        except IndexError:
            return False
        waiting = len(self._came)
        predicted = waiting * self._interval if waiting > self._threads else 0.0
        return max(predicted, self._clock() - first) > self._seconds

    def put(self, item: Item) -> None:
        """Adds an item."""
        self._came.append(self._clock())
        self._items.put(item)

    def take(self) -> tuple[Item, bool]:
        """Waits for an item; returns it, and whether it has waited too long."""
        item = self._items.get()
        came, now = self._came.popleft(), self._clock()
        if len(self._came) >= self._threads:  # of two threads at once one interval may be lost, which does no harm
            self._interval += _WEIGHT * (now - max(came, self._taken_at) - self._interval)
        self._taken_at = now
        return item, now - came > self._seconds
