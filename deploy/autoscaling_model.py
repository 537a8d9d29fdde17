"""How the scaling policies of `service.scale` follow load, second by second: a model to choose their numbers by.

What is modelled, and what is assumed of AWS: CloudWatch has figures of whole minutes, each `metric_delay` after its
minute ended. Target tracking adds tasks when three of them in a row lie above the target, as many as bring the newest
one back to it, and takes tasks away when fifteen lie below nine tenths of it (AWS, "How target tracking works").
Step scaling acts on one. A new task takes `start_seconds` from the decision to its first request. The load balancer
deals requests evenly; what is more than the tasks can answer is refused at once (429).

Left out: how many tasks Fargate can start at once, and scheduled capacity. AWS does not say whether target tracking
multiplies a figure with the tasks of its minute, as here, or with those of now, by which it would add more.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from deploy.environment import ServingPart

MINUTE = 60
GROW_POINTS, SHRINK_POINTS, SHRINK_BELOW = 3, 15, 0.9  # of target tracking
JUMP_LEAST = 2  # tasks that a jump adds at least


@dataclass(frozen=True)
class Outcome:
    """What became of the requests of a load.

    Attributes:
        answered: Requests.
        refused: Requests that got 429.
        seconds_over: Seconds in which more came than the tasks could answer.
        last_over: The last such second, from 0; None where there was none.
        tasks: Tasks that answer, in each second.
    """

    answered: float
    refused: float
    seconds_over: int
    last_over: int | None
    tasks: tuple[int, ...]

    @property
    def refused_share(self) -> float:
        """Refused requests, a share of all."""
        return self.refused / (self.answered + self.refused) if self.refused else 0.0


def burst(low: float, *, factor: float = 10, before: int, rise: int = 10, hold: int, after: int) -> list[float]:
    """Requests a second that rise to a multiple, stay there and fall back in as many seconds as they rose in.

    Args:
        low: Requests a second before and after.
        factor: Multiple.
        before: Seconds until they rise.
        rise: Seconds that rising takes.
        hold: Seconds at the multiple.
        after: Seconds after they have fallen back.
    """
    climb = [low * (1 + (factor - 1) * (second + 1) / rise) for second in range(rise)]
    return [low] * before + climb + [low * factor] * hold + climb[-2::-1] + [low] * (after + 1)


def follow(
    load: Sequence[float],
    part: ServingPart,
    *,
    start_seconds: int,
    metric_delay: int = 60,
    refusal_cost: float = 0.0,
) -> Outcome:
    """Lets the policies of a service follow a load, from the least number of tasks on.

    Args:
        load: (second,) requests that come in each second.
        part: The service: its policies, and what one task answers (`saturation`, requests a second).
        start_seconds: From the decision to start a task to its first request: capacity, image, program, two looks of
            the load balancer.
        metric_delay: Seconds from the end of a minute until CloudWatch's figures of it are acted on.
        refusal_cost: What a refusal costs a task, as a share of an answer: 0 to below 1.
    """
    scaling = _Scaling(part)
    serving, starting = part.least, deque[tuple[int, int]]()  # (second, tasks that answer from then on)
    minutes = deque[_Figures]()  # on their way to CloudWatch
    requests = busy = present = answered = 0.0
    over: list[int] = []
    tasks: list[int] = []
    for second, coming in enumerate(load):
        while starting and starting[0][0] <= second:
            serving += starting.popleft()[1]
        capacity = serving * part.saturation
        done = min(coming, max(0.0, (capacity - refusal_cost * coming) / (1 - refusal_cost)))
        answered += done
        if coming > capacity:
            over.append(second)
        tasks.append(serving)
        present += serving / MINUTE
        requests += coming / serving
        busy += (done + refusal_cost * (coming - done)) / capacity
        if (second + 1) % MINUTE == 0:
            minutes.append(_Figures(requests, 100 * busy / MINUTE, present))
            requests = busy = present = 0.0
        if second + 1 >= MINUTE + metric_delay and (second + 1 - metric_delay) % MINUTE == 0:
            wanted = scaling.decide(second + 1, minutes.popleft())
            known = serving + sum(count for _, count in starting)
            if wanted > known:
                starting.append((second + 1 + start_seconds, wanted - known))
            elif wanted < serving:
                serving = wanted
    return Outcome(answered, sum(load) - answered, len(over), over[-1] if over else None, tuple(tasks))


@dataclass(frozen=True)
class _Figures:
    """What CloudWatch has of a minute: requests of a task, its CPU in per cent, and how many tasks there were."""

    requests: float
    cpu: float
    tasks: float


class _Scaling:
    """The policies: target tracking of requests and of CPU, and jumps."""

    def __init__(self, part: ServingPart) -> None:
        self._part = part
        self._desired = self._before_jump = part.least
        self._points = deque[_Figures](maxlen=SHRINK_POINTS)
        self._grown = self._jumped = self._changed = -math.inf

    def decide(self, now: int, point: _Figures) -> int:
        """Returns the number of tasks that is wanted once a minute's figures are known, at the second `now`."""
        self._points.append(point)
        requests, cpu = self._shares(point)
        wanted = min(max(self._tracked(now), self._jump(now, requests)), self._part.most)
        if wanted > self._desired:
            self._desired, self._changed = wanted, now
        elif self._may_shrink(now):
            fewer = max(self._part.least, _tasks(point, max(requests, cpu)))
            if fewer < self._desired:
                self._desired = self._before_jump = fewer
                self._changed = now
        return self._desired

    def _shares(self, point: _Figures) -> tuple[float, float]:
        """Requests and CPU as multiples of their targets."""
        return point.requests / self._part.requests_per_minute, point.cpu / self._part.cpu_target

    def _tracked(self, now: int) -> int:
        wanted = 0
        newest = list(self._points)[-GROW_POINTS:]
        if len(newest) == GROW_POINTS and now >= self._grown + self._part.grow_seconds:
            for shares in zip(*map(self._shares, newest), strict=True):  # of requests, then of CPU
                if min(shares) > 1:
                    wanted = max(wanted, _tasks(newest[-1], shares[-1]))
        if wanted > self._desired:
            self._grown = now
        return wanted

    def _jump(self, now: int, share: float) -> int:
        steps = [jump.add for jump in self._part.jumps if share >= jump.above]
        if not steps:
            return 0
        cool = now < self._jumped + self._part.jump_seconds
        base = self._before_jump if cool else self._desired
        wanted = base + max(JUMP_LEAST, base * steps[-1] // 100)
        if wanted > self._desired:
            self._before_jump, self._jumped = base, now
        return wanted

    def _may_shrink(self, now: int) -> bool:
        """Whether both figures have lain below their targets for long enough, and nothing has changed lately."""
        return (
            len(self._points) == SHRINK_POINTS
            and now >= self._changed + self._part.shrink_seconds
            and all(max(self._shares(one)) < SHRINK_BELOW for one in self._points)
        )


def _tasks(point: _Figures, share: float) -> int:
    """Tasks that bring a minute's figure, a multiple of its target, back to the target."""
    return math.ceil(point.tasks * share - 1e-9)
