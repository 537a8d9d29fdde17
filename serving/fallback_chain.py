"""Price with fallbacks: challenger, champion, its rules, rules without facts. Holds the service's only broad except."""

import logging

from pricing.decision.detailed import DetailedDecision
from pricing.decision.experiments import Assignment, Experiments
from pricing.decision.pricer import Pricer
from pricing.decision.request import PriceRequest
from pricing.errors import RequestError
from serving.champion import Served
from serving.service import Service

_log = logging.getLogger(__name__)


class FallbackChain:
    """Prices requests along the fallback chain. Thread-safe."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def price(self, served: Served, asked: list[PriceRequest], *, experiments: Experiments) -> list[DetailedDecision]:
        """Prices by `served`, or by its fallback where that fails for a reason that the caller cannot fix.

        A challenger that fails, or refuses what the champion accepts, falls back to the champion, and a champion that
        fails to the rules.

        Args:
            served: The version, or the rules.
            asked: The requests, priced in one pass.
            experiments: What is tried on which products.

        Raises:
            RequestError: A request contradicts itself or names an unknown strategy.
        """
        if served.tried:
            return self._by_challenger(served, asked, experiments)
        answers = self._attempt(served.pricer, asked, experiments, name=f"version {served.name}")
        return answers if answers is not None else self._by_rule(served, asked, experiments)

    def _attempt(
        self, pricer: Pricer, asked: list[PriceRequest], experiments: Experiments, *, name: str
    ) -> list[DetailedDecision] | None:
        """Prices by a version; returns None where that fails for a reason that the caller cannot fix.

        Raises:
            RequestError: A request contradicts itself or names an unknown strategy.
        """
        now = self._service.now()
        try:
            switches = self._service.switches.content.at(now)
            return pricer.price_detailed(asked, today=now.date(), experiments=experiments, switches=switches)
        except RequestError:
            raise
        except Exception:  # noqa: BLE001 - the one broad except: whatever fails in a version, a price is answered
            _log.exception("%s could not price %d request(s)", name, len(asked))
            return None

    def _by_challenger(
        self, served: Served, asked: list[PriceRequest], experiments: Experiments
    ) -> list[DetailedDecision]:
        """Prices by the challenger; counts requests that the champion answers instead, but no errors of the caller."""
        answers: list[DetailedDecision] | None = None
        refused = False
        try:
            answers = self._attempt(served.pricer, asked, experiments, name=f"the challenger {served.name}")
        except RequestError:
            refused = True
        if answers is not None:
            return answers
        if refused and len(asked) > 1:  # one of them may be at fault
            return [one for item in asked for one in self._by_challenger(served, [item], experiments)]
        answers = self.price(self._service.champion.served, asked, experiments=experiments)
        self._service.metrics.count("pricing_challenger_failures", by=len(asked))
        return answers

    def _by_rule(self, served: Served, asked: list[PriceRequest], experiments: Experiments) -> list[DetailedDecision]:
        """Prices by rules with the version's costs and prices; by rules without any facts where those fail, too."""
        self._service.metrics.count("pricing_edge_fallbacks", by=len(asked))
        if served.rules is not None:
            name = f"the rules of version {served.name}"
            answers = self._attempt(served.rules, asked, experiments, name=name)
            if answers is not None:
                return answers
        now, rules = self._service.now(), self._service.champion.rules.pricer
        return rules.price_detailed(asked, today=now.date(), switches=self._service.switches.content.at(now))


def version_for(assigned: Assignment | None, *, champion: Served, challenger: Served | None) -> Served:
    """What prices a product: the version beside the champion where an experiment tries it there, else the champion."""
    if challenger is None or assigned is None or assigned.arm.name != f"challenger/{challenger.name}":
        return champion
    return challenger
