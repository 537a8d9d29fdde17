"""Where a demo's sales come from: a file at once, or a shop's database and a competitor's API day by day."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol
from zoneinfo import ZoneInfo

import numpy as np

from pipelines.demo_competitor import KEY, CompetitorApi, competitor_api
from pipelines.demo_database import ShopDatabase, shop_database
from pipelines.demo_world import DemoEnvironment
from pricing.arrays import Days
from pricing.errors import ETL
from simulation.completejourney import completejourney_sales
from simulation.market import MarketConfig, simulate
from simulation.shop_tables import shop_tables

ZONE = "Europe/Berlin"  # of config/database.yaml
_PORT = "127.0.0.1:8099"  # stands there for the port that is free


class Feed(Protocol):
    """Sales of a demo."""

    @property
    def told(self) -> str:
        """What the first stage does with them, in words."""

    @property
    def variables(self) -> Mapping[str, str]:
        """Environment variables that the demo's commands need."""

    def configured(self, environment: DemoEnvironment) -> DemoEnvironment:
        """The environment with the configuration that these sales need."""

    def sales(self, environment: DemoEnvironment) -> str:
        """Provides the first sales; returns what `--sales` names them."""

    def go_on(self, days: int) -> str:
        """Lets further days come; returns what came, in words."""


@dataclass(frozen=True)
class FileFeed:
    """All sales at once: a simulated market's as a file, or the grocery sales."""

    market: MarketConfig | None
    told: str = "read, check, build the panel"

    @property
    def variables(self) -> Mapping[str, str]:
        """None."""
        return {}

    def configured(self, environment: DemoEnvironment) -> DemoEnvironment:
        """The same environment."""
        return environment

    def sales(self, environment: DemoEnvironment) -> str:
        """Writes the sales to a file."""
        path = environment.folder / "sales.parquet"
        frame = completejourney_sales() if self.market is None else simulate(self.market).frame()
        frame.to_parquet(path, index=False)
        return str(path)

    def go_on(self, days: int) -> str:
        """Nothing more comes."""
        return f"all {days} days are there already"


@dataclass
class DatabaseFeed:
    """A shop's PostgreSQL and a competitor's API, both running on this machine.

    Attributes:
        days: Days of the history, ascending.
        holdout: Last days that come later.
        database: The shop's.
        api: The competitor's.
    """

    days: Days
    holdout: int
    database: ShopDatabase
    api: CompetitorApi
    told: str = "order lines, stock, products and promotions from PostgreSQL, competitor prices by API"

    @classmethod
    @contextmanager
    def started(cls, market: MarketConfig, *, holdout: int) -> Iterator["DatabaseFeed"]:
        """Starts both, empty; they end with the block."""
        frame = simulate(market).frame()
        tables = shop_tables(frame, zone=ZoneInfo(ZONE), rng=np.random.default_rng(market.seed))
        days = np.unique(frame["date"].to_numpy().astype("datetime64[D]"))
        with shop_database(tables) as database, competitor_api(tables.competitor_prices) as api:
            yield cls(days, holdout, database, api)

    @property
    def variables(self) -> Mapping[str, str]:
        """The database's address and the API's key."""
        return {"SHOP_DATABASE": self.database.url, "RIVAL_KEY": KEY}

    def configured(self, environment: DemoEnvironment) -> DemoEnvironment:
        """The environment with the port of the API."""
        path = environment.folder / environment.config.name
        path.write_text(self.with_port(environment.config.read_text(encoding="utf-8")), encoding="utf-8")
        return replace(environment, config=path)

    def with_port(self, text: str) -> str:
        """A configuration's text with the port of the API."""
        return text.replace(_PORT, f"127.0.0.1:{self.api.port}")

    def sales(self, environment: DemoEnvironment) -> str:
        """Records the days before those that come later."""
        self.record_first()
        return ETL

    def record_first(self) -> None:
        """Records the days before those that come later."""
        last = self.days[-1 - self.holdout]
        self.database.record(self.days[0], last)
        self.api.publish(self.days[0], last)

    def go_on(self, days: int) -> str:
        """Records the last days."""
        first = self.days[-days]
        lines = self.database.record(first, self.days[-1])
        prices = self.api.publish(first, self.days[-1])
        return f"{days} days pass: {lines:,} order lines and {prices:,} competitor prices come"
