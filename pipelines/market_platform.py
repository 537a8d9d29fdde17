"""The platform as a policy of the simulated market: each morning's requests through the code that serves."""

from collections.abc import Callable
from typing import get_args

import numpy as np
import pandas as pd

from pricing.config import ModelConfig
from pricing.data.anchors import Anchors, version_anchors
from pricing.data.build import build_panel
from pricing.data.market import Market
from pricing.data.market_rollforward import Requests
from pricing.data.market_truth import Floats
from pricing.data.panel import Panel
from pricing.decision.facts import ProductFacts
from pricing.decision.pricer import Pricer
from pricing.decision.request import Decision, PriceRequest, Weekday
from pricing.demand.curve import Demand

Learn = Callable[[Panel], Demand | None]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)


def price_requests(requests: Requests) -> list[PriceRequest]:
    """A market's morning as a shop would ask for it, request by request."""
    today = requests.date.astype("datetime64[D]").item()
    day = WEEKDAYS[today.weekday()]
    columns = {
        "product_id": requests.product_id,
        "current_stock": requests.stock,
        "comp_price": np.where(np.isnan(requests.comp_price), None, requests.comp_price),  # type: ignore[call-overload]
        "is_promo": requests.is_promo,
        "current_price": requests.current_price,
        "category": requests.category,
        "unit_cost": requests.unit_cost,
        "list_price": requests.list_price,
        "next_delivery": requests.next_delivery.astype("datetime64[D]"),
    }
    return [
        PriceRequest(
            day_of_week=day, date=today, is_holiday=requests.is_holiday, **dict(zip(columns, row, strict=True))
        )
        for row in zip(*(column.tolist() for column in columns.values()), strict=True)
    ]


class Platform:
    """Answers a market's requests with a `Pricer`, and learns again from the whole history at each refresh.

    Attributes:
        decisions: The decisions of the last morning.
    """

    def __init__(self, market: Market, config: ModelConfig, learn: Learn, *, frame: pd.DataFrame | None = None) -> None:
        """Learns from the market's history.

        Args:
            market: Whose requests it will answer; only `market.frame()` is read.
            config: The platform's configuration.
            learn: Makes a demand from the panel so far; called now and at each refresh. None for the rules.
            frame: `market.frame()`, where it is at hand.
        """
        self._config, self._learn = config, learn
        self._frame = market.frame() if frame is None else frame
        self._anchors: Anchors | None = None  # the market's incumbent priced the whole history
        self.decisions: list[Decision] = []
        self._pricer = self._learnt()

    def refresh(self, rows: pd.DataFrame) -> None:
        """Adds newly recorded rows to the history and learns from it."""
        self._frame = pd.concat([self._frame, rows], ignore_index=True)
        self._pricer = self._learnt()

    def __call__(self, requests: Requests) -> Floats:
        """Prices a morning."""
        today = requests.date.astype("datetime64[D]").item()
        self.decisions = self._pricer.price(price_requests(requests), today=today)
        return np.array([decision.recommended_price for decision in self.decisions])

    def _learnt(self) -> Pricer:
        panel = build_panel(self._frame, self._config.data, anchors=self._anchors)
        self._anchors = version_anchors(self._anchors, panel)
        facts = ProductFacts.from_panel(panel, anchors=self._anchors)
        return Pricer(self._learn(panel), facts, self._config, version="market")
