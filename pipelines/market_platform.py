"""The platform as a policy of the simulated market: each morning's requests through the code that serves."""

from collections.abc import Callable, Collection
from typing import get_args

import numpy as np
import pandas as pd

from pricing.arrays import Floats
from pricing.config import ModelConfig
from pricing.data.anchors import Anchors, version_anchors
from pricing.data.build import build_panel
from pricing.data.market_protocol import SimulatedMarket
from pricing.data.market_rollforward import MAX_MOVE, Requests
from pricing.data.panel import Panel
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision.request import Decision, PriceRequest, Weekday
from pricing.demand.curve import Demand
from pricing.errors import ConfigError

Learn = Callable[[Panel], Demand | None]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)


OPTIONAL = ("category", "list_price", "unit_cost", "stock", "comp_price", "is_promo", "is_holiday", "next_delivery")


def price_requests(requests: Requests, *, withhold: Collection[str] = ()) -> list[PriceRequest]:
    """A market's morning as a shop would ask for it, request by request.

    Args:
        requests: The morning.
        withhold: Columns among `OPTIONAL` that the shop does not have; the stock of a request is always given.
    """
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
        "is_holiday": np.full(len(requests), requests.is_holiday),
        "next_delivery": requests.next_delivery.astype("datetime64[D]"),  # NaT becomes None: not known
    }
    columns = {name: column for name, column in columns.items() if name not in withhold}
    return [
        PriceRequest(day_of_week=day, date=today, **dict(zip(columns, row, strict=True)))
        for row in zip(*(column.tolist() for column in columns.values()), strict=True)
    ]


def without(frame: pd.DataFrame, withhold: Collection[str]) -> pd.DataFrame:
    """A history of a shop that does not have some of the optional columns."""
    return frame.drop(columns=[name for name in withhold if name in frame])


class Platform:
    """Answers a market's requests with a `Pricer`, and learns again from the whole history at each refresh.

    Attributes:
        decisions: The decisions of the last morning.
        allowed: (request, 2) the lowest and highest price that each of them considered, currency units.
    """

    def __init__(
        self,
        market: SimulatedMarket,
        config: ModelConfig,
        learn: Learn,
        *,
        frame: pd.DataFrame | None = None,
        max_move: float | None = MAX_MOVE,
        withhold: Collection[str] = (),
        pricer: Callable[..., Pricer] = Pricer,
    ) -> None:
        """Learns from the market's history.

        Args:
            market: Whose requests it will answer; only `market.frame()` is read.
            config: The platform's configuration.
            learn: Makes a demand from the panel so far; called now and at each refresh. None for the rules.
            frame: `market.frame()`, where it is at hand.
            max_move: The largest move that the market takes; the configuration's own counts where it is smaller.
            withhold: Columns among `OPTIONAL` that history, newly recorded rows and requests lack.
            pricer: Made of what is learnt at each refresh.

        Raises:
            ConfigError: `withhold` names a column that no shop could do without.
        """
        unknown = sorted(set(withhold) - set(OPTIONAL))
        if unknown:
            raise ConfigError(f"cannot withhold {', '.join(unknown)}: the optional columns are {', '.join(OPTIONAL)}")
        self._config, self._learn, self._make = limited(config, max_move=max_move), learn, pricer
        self._withhold = tuple(withhold)
        self._frame = without(market.frame() if frame is None else frame, self._withhold)
        self._anchors: Anchors | None = None  # the market's incumbent priced the whole history
        self.decisions: list[Decision] = []
        self.allowed: Floats = np.zeros((0, 2))
        self._pricer = self._learnt()

    def refresh(self, rows: pd.DataFrame) -> None:
        """Adds newly recorded rows to the history and learns from it."""
        self._frame = pd.concat([self._frame, without(rows, self._withhold)], ignore_index=True)
        self._pricer = self._learnt()

    def __call__(self, requests: Requests) -> Floats:
        """Prices a morning."""
        today = requests.date.astype("datetime64[D]").item()
        asked = price_requests(requests, withhold=self._withhold)
        detailed = self._pricer.price_detailed(asked, today=today)
        self.decisions = [one.decision for one in detailed]
        self.allowed = np.array([(one.candidate_prices[0], one.candidate_prices[-1]) for one in detailed])
        return np.array([decision.recommended_price for decision in self.decisions])

    def _learnt(self) -> Pricer:
        panel = build_panel(self._frame, self._config.data, anchors=self._anchors)
        self._anchors = version_anchors(self._anchors, panel)
        facts = ProductFacts.from_panel(panel, anchors=self._anchors)
        return self._make(self._learn(panel), facts, self._config, version="market")


def limited(config: ModelConfig, *, max_move: float | None) -> ModelConfig:
    """The configuration with `max_move` as its largest move, or its own where that is smaller."""
    own = config.decision.guardrails.max_move
    least = min((move for move in (own, max_move) if move is not None), default=None)
    guardrails = config.decision.guardrails.model_copy(update={"max_move": least})
    return config.model_copy(update={"decision": config.decision.model_copy(update={"guardrails": guardrails})})
