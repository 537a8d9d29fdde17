"""By what a request is decided: a version, and where that fails, what is safer. The only broad except is here."""

import logging

from pricing.decision.pricer import Detailed
from pricing.decision.request import PriceRequest
from pricing.errors import RequestError
from serving.champion import Served
from serving.service import Service

_log = logging.getLogger(__name__)


class Answers:
    """Decides requests. Safe from several threads."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def price(self, served: Served, asked: list[PriceRequest]) -> list[Detailed]:
        """Decides by `served`, or where that fails for a reason that no caller can mend, by what is safer.

        A challenger that fails, or refuses what it is asked, leaves the answer to the champion, and a champion that
        fails to the rules.

        Raises:
            RequestError: A request contradicts itself or names an unknown strategy.
        """
        if served is self._service.champion.served or not served.canary:
            answers = self.attempt(served, asked)
            return answers if answers is not None else self._by_rule(asked)
        try:
            tried = self.attempt(served, asked)
        except RequestError:
            tried = None
        if tried is not None:
            return tried
        self._service.metrics.count("pricing_challenger_failures", by=len(asked))
        return self.price(self._service.champion.served, asked)

    def attempt(self, served: Served, asked: list[PriceRequest]) -> list[Detailed] | None:
        """Decides by `served`; None where that fails for a reason that no caller can mend.

        Raises:
            RequestError: A request contradicts itself or names an unknown strategy.
        """
        if served.arms:
            asked = [self._dealt(served, item) for item in asked]
        try:
            return served.pricer.price_detailed(
                asked, today=self._service.now().date(), held=self._service.holdout.products
            )
        except RequestError:
            raise
        except Exception:  # noqa: BLE001 - the one broad except: whatever ails a version, a shop gets its price
            _log.exception("version %s could not price %d request(s)", served.name, len(asked))
            return None

    def _by_rule(self, asked: list[PriceRequest]) -> list[Detailed]:
        self._service.metrics.count("pricing_edge_fallbacks", by=len(asked))
        today, held = self._service.now().date(), self._service.holdout.products
        return self._service.champion.rules.pricer.price_detailed(asked, today=today, held=held)

    def _dealt(self, served: Served, asked: PriceRequest) -> PriceRequest:
        """The request under the strategy that a trial dealt its product."""
        arm = served.arms.get(asked.product_id) if asked.strategy is None else None
        return asked.model_copy(update={"strategy": arm}) if arm else asked
