"""Price with fallbacks: challenger, champion, its rules, rules without facts. Holds the service's only broad except."""

import logging
from collections.abc import Container

from pricing.decision.detailed import DetailedDecision
from pricing.decision.pricer import Pricer
from pricing.decision.request import PriceRequest
from pricing.decision.strategy_tests import with_assigned_strategy
from pricing.errors import RequestError
from serving.champion import Champion, Served
from serving.service import Service

_log = logging.getLogger(__name__)


class FallbackChain:
    """Prices requests along the fallback chain. Thread-safe."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def price(
        self, served: Served, asked: list[PriceRequest], *, held: Container[str] | None = None
    ) -> list[DetailedDecision]:
        """Prices by `served`, or by its fallback where that fails for a reason that the caller cannot fix.

        A challenger that fails, or refuses what the champion accepts, falls back to the champion, and a champion that
        fails to the rules.

        Args:
            served: The version, or the rules.
            asked: The requests, priced in one pass.
            held: Products that are held out; the current list by default.

        Raises:
            RequestError: A request contradicts itself or names an unknown strategy.
        """
        held = self._service.holdout.content if held is None else held
        if served is not self._service.champion.served and served.canary:
            return self._by_challenger(served, asked, held)
        answers = self.attempt(served, asked, held=held)
        return answers if answers is not None else self._by_rule(served, asked, held)

    def attempt(
        self, served: Served, asked: list[PriceRequest], *, held: Container[str] | None = None
    ) -> list[DetailedDecision] | None:
        """Prices by `served`; returns None where that fails for a reason that the caller cannot fix.

        Args:
            served: The version, or the rules.
            asked: The requests, priced in one pass.
            held: Products that are held out; the current list by default.

        Raises:
            RequestError: A request contradicts itself or names an unknown strategy.
        """
        held = self._service.holdout.content if held is None else held
        if served.arms:
            asked = [with_assigned_strategy(served.arms, item) for item in asked]
        return self._tried(served.pricer, asked, held, name=f"version {served.name}")

    def _tried(
        self, pricer: Pricer, asked: list[PriceRequest], held: Container[str], *, name: str
    ) -> list[DetailedDecision] | None:
        try:
            now, tests = self._service.now(), self._service.price_tests.content
            switches = self._service.switches.content.at(now)
            return pricer.price_detailed(asked, today=now.date(), held=held, tests=tests, switches=switches)
        except RequestError:
            raise
        except Exception:  # noqa: BLE001 - the one broad except: whatever fails in a version, a price is answered
            _log.exception("%s could not price %d request(s)", name, len(asked))
            return None

    def _by_challenger(self, served: Served, asked: list[PriceRequest], held: Container[str]) -> list[DetailedDecision]:
        """Prices by the challenger; counts requests that the champion answers instead, but no errors of the caller."""
        champion = self._service.champion.served
        try:
            tried = self.attempt(served, asked, held=held)
        except RequestError:
            answers: list[DetailedDecision] = []
            failures = 0
            for item in asked:
                alone = self._unless_refused(served, item, held)
                failures += alone is None
                answers += self.price(champion, [item], held=held) if alone is None else alone
        else:
            if tried is not None:
                return tried
            answers, failures = self.price(champion, asked, held=held), len(asked)
        self._service.metrics.count("pricing_challenger_failures", by=failures)
        return answers

    def _unless_refused(
        self, served: Served, asked: PriceRequest, held: Container[str]
    ) -> list[DetailedDecision] | None:
        try:
            return self.attempt(served, [asked], held=held)
        except RequestError:
            return None

    def _by_rule(self, served: Served, asked: list[PriceRequest], held: Container[str]) -> list[DetailedDecision]:
        """Prices by rules with the version's costs and prices; by rules without any facts where those fail, too."""
        self._service.metrics.count("pricing_edge_fallbacks", by=len(asked))
        if served.rules is not None:
            answers = self._tried(served.rules, asked, held, name=f"the rules of version {served.name}")
            if answers is not None:
                return answers
        now, rules = self._service.now(), self._service.champion.rules.pricer
        switches = self._service.switches.content.at(now)
        return rules.price_detailed(asked, today=now.date(), held=held, switches=switches)


def version_for(champion: Champion, product_id: str) -> Served:
    """Returns what prices a product: the challenger where the product is in its share, else the champion."""
    challenger = champion.challenger
    return challenger if challenger is not None and product_id in challenger.canary else champion.served
