"""Shadow pricing: the challenger prices requests that the champion has answered, in a background thread."""

import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from pricing.decision.request import PriceRequest
from serving.champion import Served

LONGEST_QUEUE = 2000  # requests that may be queued; more are left out and counted
AT_ONCE = 100


class ShadowPricer:
    """Prices requests with the challenger in a background thread, after they have been answered."""

    def __init__(
        self, price: Callable[[Served, list[PriceRequest]], None], *, share: float, left_out: Callable[[int], None]
    ) -> None:
        """Starts the thread.

        Args:
            price: Prices and logs; must not raise.
            share: Share of the requests that are priced.
            left_out: Called with the number of requests for which the queue had no room.
        """
        self._price, self._share, self._left_out = price, share, left_out
        self._queue: deque[tuple[Served, PriceRequest]] = deque()
        self._wake = threading.Event()
        self._closed = False
        self._draw = random.Random()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        if share:
            self._thread.start()

    def enqueue(self, challenger: Served, asked: Sequence[PriceRequest]) -> None:
        """Queues requests that were answered."""
        if not self._share:
            return
        drawn = [one for one in asked if self._share >= 1 or self._draw.random() < self._share]
        room = max(LONGEST_QUEUE - len(self._queue), 0)
        if len(drawn) > room:
            self._left_out(len(drawn) - room)
        self._queue.extend((challenger, one) for one in drawn[:room])
        self._wake.set()

    def close(self) -> None:
        """Ends the thread once it has priced what is queued."""
        self._closed = True
        self._wake.set()
        if self._share:
            self._thread.join(timeout=10)

    def _run(self) -> None:
        while self._queue or not self._closed:
            if not self._queue:
                self._wake.wait(1.0)
                self._wake.clear()
                continue
            challenger, _ = self._queue[0]
            batch: list[Any] = []
            while self._queue and len(batch) < AT_ONCE and self._queue[0][0] is challenger:
                batch.append(self._queue.popleft()[1])
            self._price(challenger, batch)
