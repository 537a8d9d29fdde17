"""Requests that arrive while others are priced: they wait for their turn, and are then priced in one pass."""

import threading
from collections import deque
from collections.abc import Callable, Sequence

from pricing.decision.detailed import Detailed
from pricing.decision.request import PriceRequest
from pricing.errors import RequestError
from serving.champion import Served

Price = Callable[[Served, list[PriceRequest]], Sequence[Detailed]]
PATIENCE_SECONDS = 0.001


class _Place:
    """One request in the queue, and what it came to once it had its turn."""

    __slots__ = ("asked", "outcome", "served")

    def __init__(self, served: Served, asked: PriceRequest) -> None:
        self.served, self.asked = served, asked
        self.outcome: Detailed | RequestError | None = None


class Together:
    """Prices the single requests of many threads, one pass at a time.

    Threads that price at once hand Python's lock to and fro inside each pass, while one pass over four requests takes
    little more than half as long again as over one. So whoever has the turn prices everything that waits, and lets
    as many come as came the last time, for a millisecond at most. A request that comes alone waits for nobody, unless a
    group came just before it.
    """

    def __init__(self, price: Price) -> None:
        """Makes ready.

        Args:
            price: Prices requests in one pass by one version; raises RequestError when any of them cannot be.
        """
        self._price = price
        self._waiting: deque[_Place] = deque()
        self._turn = threading.Lock()
        self._expected = 1
        self._all_here = threading.Event()

    def price(self, served: Served, asked: PriceRequest) -> Detailed:
        """Prices one request by `served`.

        Raises:
            RequestError: As `price` for this request alone.
        """
        place = _Place(served, asked)
        self._waiting.append(place)
        if len(self._waiting) >= self._expected > 1:
            self._all_here.set()
        with self._turn:
            outcome = self._answer_all(place) if place.outcome is None else place.outcome
        if isinstance(outcome, RequestError):
            raise outcome
        return outcome

    def _answer_all(self, own: _Place) -> Detailed | RequestError:
        """Prices whatever waits, and returns what became of `own`.

        Should pricing fail as a whole, the others find no outcome when their turn comes, and try for themselves.
        """
        self._all_here.clear()
        if len(self._waiting) < self._expected:
            self._all_here.wait(PATIENCE_SECONDS)
        group: list[_Place] = [own]
        others: list[_Place] = []
        while self._waiting:
            place = self._waiting.popleft()
            if place is not own:
                (group if place.served is own.served else others).append(place)
        self._expected = len(group)
        self._waiting.extend(others)  # around a switch some wait for another version: they answer when their turn comes
        try:
            answers: Sequence[Detailed | RequestError] = self._price(own.served, [place.asked for place in group])
        except RequestError as error:
            answers = [error] if len(group) == 1 else [self._alone(place) for place in group]
        for place, answer in zip(group, answers, strict=True):
            place.outcome = answer
        return answers[0]

    def _alone(self, place: _Place) -> Detailed | RequestError:
        try:
            return self._price(place.served, [place.asked])[0]
        except RequestError as error:
            return error
