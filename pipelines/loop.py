"""Run the whole platform in one folder with the commands and requests that a user would type: `make demo`."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
import httpx2
import numpy as np
import pandas as pd

from pipelines.steps.commands import COMMAND, only_one
from pipelines.steps.decisions import price_lines
from pipelines.steps.evaluation import shown
from pricing.arrays import Floats
from pricing.config import load_config
from pricing.data.panel import STEP_DAYS, Panel, load_panel
from pricing.decision.allowed_prices import PriceGrid
from pricing.decision.product_facts import ProductFacts
from pricing.demand.baselines import baseline_words
from pricing.errors import ETL, EXIT_REFUSED, PricingError
from pricing.paths import ROOT, SQLITE, pricing_home, tracking_uri
from pricing.registry import CHAMPION
from pricing.registry.mlflow_registry import Registry
from pricing.registry.version import load
from pricing.runtime.cli import job, option_words
from simulation.completejourney import completejourney_sales
from simulation.market import MarketConfig, simulate
from simulation.shop_tables import shop_tables

AHEAD = 60  # days after the history that the market's policies price
CENTS = PriceGrid(0.01)
_READY_SECONDS = 120
_LAST_LINES = 20  # shown of a stage that failed


class StageError(PricingError):
    """A stage of the demo failed."""


@dataclass(frozen=True)
class Scenario:
    """Sales that a demo runs on."""

    title: str  # their description
    holdout: int  # number of last periods that the model does not see; decisions on them are scored
    market: MarketConfig | None = None  # the simulated market; None for the grocery sales
    tables: bool = False  # as the tables of the market's shop, which the ETL reads, not as finished rows


SCENARIOS = {  # by the name of their file in config/
    "grocery": Scenario("a year of grocery sales, weekly", 4),
    "market": Scenario("a simulated market whose truth is known", 28, MarketConfig(future=AHEAD)),
    "shop": Scenario("a shop's own tables", 28, MarketConfig(products=20, days=400, future=AHEAD), tables=True),
}
_CLOCKS = {  # the column that tells when a row of a shop's table was recorded
    "order_lines": "ordered_at",
    "stock_counts": "counted_at",
    "product_master": "valid_from",
    "promotions": "first_day",
    "competitor_prices": "seen_at",
}


@job("loop", config=False)
@click.option("--data", default="grocery", type=click.Choice(list(SCENARIOS)), help="what it runs on")
def main(*, data: str) -> int:
    """Runs the whole loop, from raw sales to served prices and a drift report."""
    home = pricing_home().resolve()
    port = os.environ.get("PORT") or "8080"
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", int(port))) == 0:
            raise StageError(f"port {port} is taken; give another one as PORT")
    with only_one("demo", home=home):
        folder = _set_up(home / "demo" / data, data=data, port=port)
        asked = _Demo(SCENARIOS[data], folder).run()
        where = "" if data == "grocery" else f"DATA={data} "
        body = shlex.quote(json.dumps(asked))
        print("Serve this model, and ask it for a price:")
        print(f"   PRICING_HOME={shlex.quote(str(home))} make serve-demo {where}PORT={port}")
        print(f"   curl -s http://127.0.0.1:{port}/get_price -H 'Content-Type: application/json' -d {body}")
        print("The page of today's prices, on http://127.0.0.1:8090 once this runs:")
        print(f"   PRICING_HOME={shlex.quote(str(folder))} make console CONFIG={data}")
    return 0


def _set_up(folder: Path, *, data: str, port: str) -> Path:
    """Empties a demo's folder, and has this process and those it starts keep everything there; returns the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "logs").mkdir(parents=True)
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]
    os.environ.update(
        MLFLOW_TRACKING_URI=f"{SQLITE}{folder / 'mlflow.db'}",
        PYTHONUNBUFFERED="1",
        PRICING_HOME=str(folder),
        PRICING_CONFIG=data,
        PORT=port,
    )
    return folder


class _Demo:
    """One demo in its folder; a stage that fails ends it."""

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self._scenario = scenario
        self._folder = folder
        self._panel = folder / "panel"
        self._started = time.monotonic()

    def run(self) -> dict[str, Any]:
        """Runs all stages and prints what came out; returns a request to ask the last version with."""
        holdout = self._scenario.holdout
        market = self._scenario.market
        print(f"The whole loop on {self._scenario.title}. Everything it makes lies in {self._folder}", flush=True)
        rows = completejourney_sales() if market is None else simulate(market).frame()
        periods = np.unique(rows["date"].to_numpy("datetime64[D]"))
        known = self._learn(rows, until=periods[-1 - holdout])
        self._stage("3 Promotion: the challenger becomes champion if it passes every gate")
        promotion = self._job("promote", reason="demo")
        model = self._serve(known)
        self._stage(f"5 Decisions for {holdout} more {known.period}s, which the model has not seen")
        sales = self._write(rows, until=periods[-1])
        panel = self._decide(sales, len(known.dates))
        self._stage("6 The night: decisions meet the sales that followed, states are carried on, all is priced")
        watched = self._job("nightly", fine=(EXIT_REFUSED,), sales=sales)
        config = load_config(os.environ["PRICING_CONFIG"])
        registry = Registry(config.registry.model_name, uri=tracking_uri())
        version = registry.download(CHAMPION, self._folder / "champion")
        league = self._league(market, version) if market and not self._scenario.tables else []

        self._stage("What came out")
        prices = pd.read_csv(self._folder / "prices.csv", dtype={"product_id": str})
        weeks = weeks_counted(prices, load(version).facts, review_days=config.decision.review_days)
        print("\n".join([*headline(model, promotion, watched, period=known.period), *money(prices, weeks=weeks)]))
        print(f"\nOf the prices for {prices['date'].iloc[0]}:")
        print("\n".join(f"   {line}" for line in price_lines(examples(prices))))
        if league:
            print("\nProfit over holding list prices, beside rules and the oracle who knows expected demand:")
            print("\n".join(f"   {line}" for line in league))
        self._print_places()
        return _asked(panel)

    def _learn(self, rows: pd.DataFrame, *, until: np.datetime64) -> Panel:
        """Reads the sales up to a day and trains on them; returns their panel."""
        self._stage(f"1 Sales up to {until}: read, check, build the panel")
        self._job("etl", sales=self._write(rows, until=until))
        known = load_panel(str(self._panel))
        self._stage("2 Training: walk forward, then fit on everything")
        self._job("train", sales=self._panel, reason="demo")
        return known

    def _serve(self, known: Panel) -> Any:
        """Asks the service for a price; returns its answer about its version."""
        self._stage("4 Serving: Flask answers from the champion, without TensorFlow")
        with self._serving() as address:
            model = call(f"{address}/model")
            call(f"{address}/get_price?dry_run=true", _asked(known))
        return model

    def _decide(self, sales: str, seen: int) -> Panel:
        """Reads the newest sales and prices their periods after those `seen`; returns their panel."""
        self._job("etl", sales=sales)
        panel = load_panel(str(self._panel))
        requests = self._folder / "requests.parquet"
        unseen = [_requests(panel, period) for period in range(seen, len(panel.dates))]
        pd.concat(unseen).to_parquet(requests, index=False)
        self._job("price", requests=requests, output=self._folder / "decided.parquet", applied="true")
        return panel

    def _print_places(self) -> None:
        monitoring = self._folder / "monitoring" / "latest"
        places = {
            "the sales as read": self._folder / "panel.etl_report.html",
            "the week in figures": monitoring / "summary.html",
            "drift report": monitoring / "drift.html",
            "profit, day by day": self._folder / "market" / "market.png",
            "what each stage said": self._folder / "logs",
        }
        print("\nTo look at:")
        print("\n".join(f"   {name:<22}{place}" for name, place in places.items() if place.exists()))
        print(f"   {'runs and registry':<22}MLFLOW_TRACKING_URI={shlex.quote(tracking_uri())} make ui")

    def _write(self, rows: pd.DataFrame, *, until: np.datetime64) -> str:
        """Writes the sales up to a day, as rows or as the tables of a shop; returns what jobs take as --sales."""
        if not self._scenario.tables:
            path = self._folder / "sales.parquet"
            rows[rows["date"] <= until].to_parquet(path, index=False)
            return str(path)
        made = shop_tables(rows, zone=ZoneInfo("Europe/Berlin"), rng=np.random.default_rng(0))
        for name, clock in _CLOCKS.items():
            table = getattr(made, name)
            recorded = table[pd.to_datetime(table[clock], utc=True).dt.tz_localize(None) < until + 1]
            recorded.to_csv(self._folder / f"{name}.csv", index=False)
        return ETL

    def _stage(self, words: str) -> None:
        print(f"\n== {words}  ({time.monotonic() - self._started:.0f} s)", flush=True)

    def _job(self, name: str, *, fine: tuple[int, ...] = (), **options: object) -> list[str]:
        """Runs `pricing NAME` to its end; returns the lines that it printed, which logs/NAME.log keeps.

        Raises:
            StageError: It ended with an exit code other than 0 and those that are `fine`.
        """
        log = self._folder / "logs" / f"{name}.log"
        words = [name, *option_words(**options)]
        print(f"   $ pricing {shlex.join(words)}", flush=True)
        done = subprocess.run(
            [*COMMAND, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        with log.open("a", encoding="utf-8") as file:
            file.write(done.stdout)
        lines = done.stdout.splitlines()
        if done.returncode not in (0, *fine):
            last = "".join(f"\n   | {line}" for line in lines[-_LAST_LINES:])
            raise StageError(
                f"the stage {name} failed with exit code {done.returncode}; its log is {log}, and ends:{last}"
            )
        return lines

    @contextmanager
    def _serving(self) -> Iterator[str]:
        """Runs the service; yields its address once it is ready.

        Raises:
            StageError: It ends early, or is not ready in time.
        """
        address = f"http://127.0.0.1:{os.environ['PORT']}"
        log = self._folder / "logs" / "serving.log"
        print("   $ pricing serve", flush=True)
        with (
            log.open("wb") as file,
            subprocess.Popen([*COMMAND, "serve"], cwd=ROOT, stdout=file, stderr=file) as process,
        ):
            try:
                for _ in range(_READY_SECONDS * 5):
                    with suppress(StageError):
                        call(f"{address}/health/ready")
                        break
                    if process.poll() is not None:
                        break
                    time.sleep(0.2)
                call(f"{address}/health/ready")
                yield address
            finally:
                process.send_signal(signal.SIGINT)  # at which it waits for no load balancer

    def _league(self, market: MarketConfig, version: Path) -> list[str]:
        """Plays a version against other policies on the market to come; returns the table."""
        self._stage(f"7 Profit: {AHEAD} days of the same market under each policy, with common shoppers")
        lines = self._job(
            "market",
            products=market.products,
            days=market.days,
            ahead=AHEAD,
            seed=market.seed,
            model_version=version,
        )
        return lines[next(number for number, line in enumerate(lines) if line.startswith("policy")) :]


def _requests(panel: Panel, period: int) -> pd.DataFrame:
    """Returns requests for all products on sale in a period: what was known at its opening, and the price before.

    After the last period of the panel, all but the price and the day are those of the last one.
    """
    known = min(period, len(panel.dates) - 1)
    rows = np.flatnonzero(panel.present[:, known] & panel.present[:, :period].any(axis=1))
    return pd.DataFrame(
        {
            "product_id": panel.product_ids[rows],
            "date": str(panel.dates[period - 1] + (panel.dates[1] - panel.dates[0])),
            "current_price": panel.price[rows, period - 1].astype(float).round(2),
            "current_stock": panel.stock[rows, known].astype(float),
            "comp_price": panel.comp_price[rows, known].astype(float).round(2),
            "is_promo": panel.is_promo[rows, known] > 0,
        }
    )


def _asked(panel: Panel) -> dict[str, Any]:
    """Returns a request for the product that sold most after the last period, as a shop's system sends it.

    What the service knows is left out: the current and the competitor's price.
    """
    asked = _requests(panel, len(panel.dates)).drop(columns=["comp_price", "current_price"]).assign(is_promo=False)
    row = np.searchsorted(panel.product_ids, asked["product_id"])
    sold = np.where(asked["current_stock"] < 1, 0.0, np.nansum(panel.units_sold[row], axis=1))
    told: dict[str, Any] = json.loads(asked.iloc[int(np.argmax(sold))].to_json())
    return told


def headline(
    model: Mapping[str, Any],
    promotion: Sequence[str],
    watched: Sequence[str],
    *,
    period: str,
) -> Iterator[str]:
    """Yields what came of forecasts, gates and monitoring, a line each.

    It is given the service's answer about its version, and the lines that promotion and monitoring printed.
    """
    scores = model["backtest"]
    yield (
        f"Forecasts  off by {shown(scores['wape'], '.1%')} of the units sold, in {len(scores['folds'])} trials on "
        f"later {period}s; {baseline_words(scores)} by {shown(scores['wape_baseline'], '.1%')}. "
        f"The 80 % range held {shown(scores['coverage_80'], '.0%')} of the sales"
    )
    passed = sum("| pass |" in line for line in promotion)
    yield f"Gates      {passed} passed: version {model['model_version']} sets prices"
    outcomes = [line.removeprefix("outcome: ") for line in watched if line.startswith("outcome: ")]
    yield from (f"Watching   {outcome.replace('none:', 'nothing to do:', 1)}" for outcome in outcomes)


def weeks_counted(prices: pd.DataFrame, facts: ProductFacts, *, review_days: int) -> Floats:
    """(price,) weeks until each product's next delivery, or review, over which its gain is counted."""
    following = facts.state_date + np.timedelta64(STEP_DAYS[facts.period], "D")
    days = []
    for product in prices["product_id"]:
        delivery = facts.next_delivery(product)
        days.append(review_days if delivery is None else max(int((delivery - following).astype(int)), 1))
    return np.array(days) / 7


def money(prices: pd.DataFrame, *, weeks: Floats) -> Iterator[str]:
    """Yields what a table of prices did, and what it is expected to bring in a week, a line each.

    The interval adds up those of the products, as if all erred alike: doubt that they share does not average out.
    """
    change = _change(prices)
    up, down, held = (int(which.sum()) for which in (change > 0, change < 0, change == 0))
    rule = (prices["source"] == "rule").sum()
    forced = int(((change.abs() > 0) & (prices["expected_gain"] == 0)).sum())
    yield (
        f"Prices     {len(prices):,} prices: {up:,} raised, {down:,} cut ({forced:,} of both to an allowed ending or "
        f"limit alone), {held:,} held; {rule:,} by rule. decision.guardrails has the limits"
    )
    gain, low, high = ((prices[name] / weeks).sum() for name in ("expected_gain", "gain_low", "gain_high"))
    yield (
        f"Money      {gain:+,.0f} a week expected over the prices before, {low:+,.0f} to {high:+,.0f} (80 %, were all "
        "products to err alike)"
    )


def examples(prices: pd.DataFrame) -> pd.DataFrame:
    """Chooses the rise and the cut that promise most, small ones first, and of the prices held the best seller."""
    change = _change(prices)
    sized = prices.assign(size=-change.abs())
    moved = [sized[change * way > 0].nlargest(1, ["expected_gain", "size"]) for way in (1, -1)]
    return pd.concat([*moved, sized[change == 0].nlargest(1, "expected_units")])


def _change(prices: pd.DataFrame) -> "pd.Series[float]":
    """(price,) change of each in currency units, 0 for less than a cent; NaN where the price before is unknown."""
    price = prices["recommended_price"]
    before = prices["current_price"]
    return (price - before).where(CENTS.moved(price.to_numpy(), before.to_numpy()) | before.isna(), 0.0)


def call(url: str, body: object = None) -> Any:
    """Sends a GET, or a POST where there is a body, and returns the JSON response.

    Raises:
        StageError: No response, or not 2xx; includes the response.
    """
    try:
        response = httpx2.request("GET" if body is None else "POST", url, json=body, timeout=60)
    except httpx2.HTTPError as error:
        raise StageError(f"{url}: {type(error).__name__} {error}") from error
    if not response.is_success:
        raise StageError(f"{url}: HTTP {response.status_code} {response.text[:2000]}")
    return response.json()
