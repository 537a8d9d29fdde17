"""The parts that routes share, and the chain that a price comes along: arm, champion, its rules, rules without facts.

It holds the service's only broad except: whatever fails in a version, a price is answered.
"""

import datetime as dt
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pricing.decision.detailed import DetailedDecision
from pricing.decision.pricer import Pricer
from pricing.decision.request import PriceRequest
from pricing.decision_log.write import LogWriter
from pricing.errors import RequestError
from serving.auth import Authenticator
from serving.follower import Current, Follower, Served
from serving.metrics import Metrics
from serving.settings import Settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Service:
    """Everything that the routes share; `now` is the present moment with a time zone."""

    settings: Settings
    follower: Follower
    authenticator: Authenticator
    log: LogWriter
    metrics: Metrics
    now: Callable[[], dt.datetime]

    @staticmethod
    def version_for(product_id: str, day: dt.date, *, current: Current) -> Served:
        """What prices a product on a day: the version that an experiment tries on it, else the champion."""
        assigned = current.control.experiments.of(product_id, day) if current.arms else None
        if assigned is None or assigned.arm.kind != "challenger":
            return current.champion
        return current.arms.get(assigned.arm.of, current.champion)

    def price(
        self, served: Served, asked: Sequence[PriceRequest], *, current: Current, at: dt.datetime
    ) -> list[DetailedDecision]:
        """Prices requests in one pass by `served`, or by what stands behind it where that fails.

        An arm that fails, or refuses what the champion accepts, leaves the answer to the champion.

        Raises:
            RequestError: A request contradicts itself or names an unknown strategy; of many, an arm refuses one.
        """
        if served is not current.champion:
            try:
                answers = self._attempt(served.pricer, asked, current, at)
            except RequestError:
                if len(asked) > 1:
                    raise
                answers = None
            if answers is None:
                answers = self.price(current.champion, asked, current=current, at=at)
                self.metrics.arm_failures.inc(len(asked))
            return answers
        answers = self._attempt(served.pricer, asked, current, at)
        if answers is None:
            self.metrics.edge_fallbacks.inc(len(asked))
            answers = None if served.rules is None else self._attempt(served.rules, asked, current, at)
        if answers is None:
            rules, switches = self.follower.rules.pricer, current.control.switches.at(at)
            answers = rules.price_detailed(asked, today=at.date(), switches=switches)
        return answers

    def _attempt(
        self, pricer: Pricer, asked: Sequence[PriceRequest], current: Current, at: dt.datetime
    ) -> list[DetailedDecision] | None:
        """Prices by a version or its rules; returns None where that fails for a reason that no caller can fix."""
        control = current.control
        try:
            return pricer.price_detailed(
                asked, today=at.date(), experiments=control.experiments, switches=control.switches.at(at)
            )
        except RequestError:
            raise
        except Exception:  # noqa: BLE001 - see the module
            _log.exception("version %s could not price %d request(s)", pricer.version, len(asked))
            return None
