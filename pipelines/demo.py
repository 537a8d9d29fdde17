"""Run the whole platform on one machine with the commands and requests that a user would type: `make demo`."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from pipelines import demo_shop
from pipelines.commands import only_one
from pipelines.evaluation import shown
from pricing.config import load_config
from pricing.data.calendar import WEEKDAYS
from pricing.data.panel import Panel, load_panel
from pricing.decision.reasons import meanings
from pricing.demand.baselines import baseline_words, baselines_of
from pricing.errors import ETL, PricingError
from pricing.paths import CHECKOUT, ROOT, SQLITE, pricing_home, tracking_uri
from pricing.registry import CHAMPION
from pricing.registry.mlflow_registry import Registry
from pricing.runtime.cli import flag, job
from pricing.runtime.experiment import EXPERIMENT
from pricing.runtime.mlflow_runs import connect, experiment_id
from simulation.completejourney import completejourney_sales
from simulation.market import MarketConfig, simulate

AHEAD = 60  # days after the history that the market's policies price
PORT = 8080
_READY_SECONDS = 120
_LAST_LINES = 20  # shown of a stage that failed


class StageError(PricingError):
    """A stage of the demo failed."""


@dataclass(frozen=True)
class Scenario:
    """Sales that a demo runs on."""

    title: str  # their description
    told: str  # the first stage's work on them, in words
    holdout: int  # number of last periods that the model does not see; decisions on them are scored
    market: MarketConfig | None = None  # the simulated market; None for the grocery sales


SCENARIOS = {  # by the name of their file in config/
    "grocery": Scenario("a year of grocery sales, weekly", "read, check, build the panel", 4),
    "market": Scenario(
        "a simulated market whose truth is known", "read, check, build the panel", 28, MarketConfig(future=AHEAD)
    ),
    "database": Scenario(
        "a shop's own database",
        "order lines, stock, products and promotions from PostgreSQL, competitor prices by API",
        28,
        MarketConfig(products=20, days=400, future=AHEAD),
    ),
}


@job("demo", config=False)
@click.option("--data", default="grocery", type=click.Choice(list(SCENARIOS)), help="what it runs on")
@flag("--serve", help="serve the model of the last finished demo, on PORT, instead of running one")
def main(*, data: str, serve: bool) -> int:
    """Runs the whole loop, from raw sales to served prices and a drift report."""
    if not CHECKOUT:
        raise StageError("the demo runs `mlflow run .`, so it needs a checkout; there `make demo` starts it")
    home, port = pricing_home().resolve(), os.environ.get("PORT") or str(PORT)
    scenario, folder = SCENARIOS[data], home / "demo" / data
    if serve:
        if not (folder / "config.yaml").exists():
            raise StageError(f"there is no demo in {folder}; make demo makes one")
        _enter(folder, port=port)
        os.execv(sys.executable, [sys.executable, "-m", "serving"])
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", int(port))) == 0:
            raise StageError(f"port {port} is taken; give another one as PORT")
    with only_one("demo", home=home), ExitStack() as until_the_end:
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "logs").mkdir(parents=True)
        config, shop = (ROOT / "config" / f"{data}.yaml").read_text(encoding="utf-8"), None
        if data == "database" and scenario.market:
            shop = until_the_end.enter_context(demo_shop.running_shop(demo_shop.market_tables(scenario.market)))
            config = config.replace(f":{demo_shop.PORT}/", f":{shop.api.server_port}/")
            os.environ.update(SHOP_DATABASE=shop.url, RIVAL_KEY=demo_shop.KEY)
        (folder / "config.yaml").write_text(config, encoding="utf-8")
        _enter(folder, port=port)
        connect()
        experiment_id()  # makes the experiment, with its artifacts in the folder
        demo = _Demo(scenario, folder, shop)
        asked = demo.run()
        where = {"market": "DATA=market ", "database": "SOURCES=database "}.get(data, "")
        print(f"Ask this model for a price, once the last line's command serves it:\n   {_curl(asked)}")
        print(f"   PRICING_HOME={shlex.quote(str(home))} make serve-demo {where}PORT={port}")
        print("The page of today's prices, on http://127.0.0.1:8090 once this runs:")
        print(
            f"   PRICING_HOME={shlex.quote(str(folder))} make console CONFIG={shlex.quote(str(folder / 'config.yaml'))}"
        )
    return 0


def _enter(folder: Path, *, port: str) -> None:
    """Lets this process and all that it starts write to the demo's folder only, and use its configuration."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]
    os.environ.update(
        PRICING_HOME=str(folder),
        MLFLOW_TRACKING_URI=f"{SQLITE}{folder / 'mlflow.db'}",
        PRICING_CONFIG=str(folder / "config.yaml"),
        PORT=port,
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        PYTHONUNBUFFERED="1",
    )


class _Demo:
    """One demo in its folder; a stage that fails ends it."""

    def __init__(self, scenario: Scenario, folder: Path, shop: demo_shop.Shop | None) -> None:
        self._scenario, self._folder, self._shop = scenario, folder, shop
        self._started = time.monotonic()

    def run(self) -> dict[str, Any]:
        """Runs all stages and prints what came out; returns a request to ask the model with."""
        folder, shop, holdout = self._folder, self._shop, self._scenario.holdout
        print(f"The whole loop on {self._scenario.title}. Everything it makes lies in {folder}", flush=True)
        saved = str(folder / "panel")

        self._stage(f"1 Sales: {self._scenario.told}")
        sales = self._sales()
        self._job("etl", sales=sales)
        panel = load_panel(saved)
        first = len(panel.dates) - (0 if shop else holdout)  # that the model does not see
        until = str(panel.dates[first - 1])

        self._stage(f"2 Training: walk forward, then fit on everything up to {until}")
        self._job("main", sales=saved, until=until, reason="demo")

        self._stage("3 Promotion: the challenger becomes champion if it passes every gate")
        promotion = self._job("promote", reason="demo")

        self._stage("4 Serving: Flask answers from the champion, without TensorFlow")
        with self._serving() as address:
            model = call(f"{address}/model")
            asked = _three(panel, first)
            answers = [call(f"{address}/get_price?dry_run=true", _body(one)) for one in asked]
            if shop is not None:
                self._stage(f"  {holdout} days pass: {shop.record(shop.days[-holdout], shop.days[-1])}")
                self._job("etl", sales=sales)
                panel = load_panel(saved)
            self._stage(f"5 Decisions for the {holdout} {panel.period}s that the model has not seen")
            moves = [move for period in range(first, len(panel.dates)) for move in _decide(address, panel, period)]
        self._job("price")

        if shop is not None:
            self._stage("6 The night: etl, monitoring, states carried forward")
            watched = self._job("nightly", sales=sales)
        else:
            self._stage("6 Monitoring: the decisions meet the sales that followed")
            watched = self._job("monitor", sales=saved, act="false")
        league, platform = self._league()

        self._stage("What came out")
        print("\n".join(headline(model, promotion, moves, watched, platform, period=panel.period)))
        print("\nThree prices for the first day that the model has not seen:")
        for one, answer in zip(asked, answers, strict=True):
            print("\n".join(_price_lines(one, answer, period=panel.period)))
        if league:
            print("\nProfit against holding list prices, beside rules and the oracle who knows expected demand:")
            print("\n".join(f"   {line}" for line in league))
        places = {
            "the sales as read": folder / "panel.etl_report.html",
            "the week in figures": folder / "monitoring" / "latest" / "summary.html",
            "drift report": folder / "monitoring" / "latest" / "drift.html",
            "profit, day by day": folder / "market" / "market.png",
            "what each stage said": folder / "logs",
        }
        print("\nTo look at:")
        print("\n".join(f"   {name:<22}{place}" for name, place in places.items() if place.exists()))
        print(f"   {'runs and registry':<22}MLFLOW_TRACKING_URI={shlex.quote(tracking_uri())} make ui")
        return asked[0]

    def _sales(self) -> str:
        """Provides the first sales; returns what `sales` names them."""
        if self._shop is not None:
            self._shop.record(self._shop.days[0], self._shop.days[-1 - self._scenario.holdout])
            return ETL
        market, path = self._scenario.market, self._folder / "sales.parquet"
        frame = completejourney_sales() if market is None else simulate(market).frame()
        frame.to_parquet(path, index=False)
        return str(path)

    def _stage(self, words: str) -> None:
        print(f"\n== {words}  ({time.monotonic() - self._started:.0f} s)", flush=True)

    def _job(self, entry: str, **parameters: str) -> list[str]:
        """Runs an entry point of MLproject, as `make JOB` does; returns the lines that it printed."""
        given = {**parameters, "config": os.environ["PRICING_CONFIG"]}
        options = [word for name, value in given.items() for word in ("-P", f"{name}={value}")]
        words = ["mlflow", "run", ".", "-e", entry, "--env-manager", "local", "--experiment-name", EXPERIMENT]
        return self._command(entry, [*words, *options])

    def _command(self, name: str, command: Sequence[str]) -> list[str]:
        """Runs a command to its end; returns the lines that it printed, which logs/NAME.log keeps.

        Raises:
            StageError: It ended with an error.
        """
        log = self._folder / "logs" / f"{name}.log"
        print(f"   $ {shlex.join(command)}", flush=True)
        with log.open("a+b") as file:
            begin = file.tell()
            code = subprocess.run(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, check=False
            ).returncode
            file.seek(begin)
            lines = file.read().decode(errors="replace").splitlines()
        if code:
            last = "".join(f"\n   | {line}" for line in lines[-_LAST_LINES:])
            raise StageError(f"the stage {name} failed with exit code {code}; its whole log is {log}, and ends:{last}")
        return lines

    @contextmanager
    def _serving(self) -> Iterator[str]:
        """Runs the service; yields its address once it is ready.

        Raises:
            StageError: It ends early, or is not ready in time.
        """
        address, command = f"http://127.0.0.1:{os.environ['PORT']}", [sys.executable, "-m", "serving"]
        print(f"   $ {shlex.join(command)}", flush=True)
        with (
            (self._folder / "logs" / "serving.log").open("wb") as log,
            subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            ) as process,
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

    def _league(self) -> tuple[list[str], dict[str, Any] | None]:
        """Plays the champion against other policies on the market to come; returns the table, and its own score."""
        market = self._scenario.market
        if market is None or self._shop is not None:
            return [], None
        self._stage(f"7 Profit: {AHEAD} days of the same market under each policy, with common shoppers")
        model = load_config(os.environ["PRICING_CONFIG"]).registry.model_name
        version = Registry(model, uri=tracking_uri()).download(CHAMPION, self._folder / "champion")
        options = {"products": market.products, "days": market.days, "ahead": AHEAD, "seed": market.seed}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        program = [sys.executable, "-m", "pricing.runtime.command"]
        lines = self._command("market", [*program, "market", *words, "--model_version", str(version)])
        scores = json.loads((self._folder / "market" / "market.json").read_text(encoding="utf-8"))["scores"]
        own = next(score for score in scores if score["policy"] == "platform")
        return lines[next(number for number, line in enumerate(lines) if line.startswith("policy")) :], own


def _three(panel: Panel, period: int) -> list[dict[str, Any]]:
    """Requests for a high-, a mid- and a low-volume product in a period, with its category.

    The competitor's price is left out: the service knows the newest one.
    """
    sold = np.nansum(panel.units_sold[:, :period], axis=1)
    out = panel.stock[:, min(period, len(panel.dates) - 1)] < 1
    order = np.argsort(np.where(out, np.inf, -sold))[: int((~out).sum())]
    requests = [
        _request(panel, row, period) | {"is_promo": False, "category": str(panel.categories[row])}
        for row in order[[0, len(order) // 2, -1]].tolist()
    ]
    return [{name: value for name, value in one.items() if name != "comp_price"} for one in requests]


def _request(panel: Panel, row: int, period: int) -> dict[str, Any]:
    """Builds the request for a period: what was known at its opening, and the price before.

    After the last period of the panel, all but the price and the day are those of the last one.
    """
    known = min(period, len(panel.dates) - 1)
    stock, rival = panel.stock[row, known], panel.comp_price[row, known]
    day = panel.dates[period - 1] + (panel.dates[1] - panel.dates[0])
    return {
        "product_id": str(panel.product_ids[row]),
        "current_stock": float(stock) if np.isfinite(stock) else None,
        "day_of_week": WEEKDAYS[day.item().weekday()],
        "comp_price": round(float(rival), 2) if np.isfinite(rival) else None,
        "is_promo": bool(panel.is_promo[row, known]),
        "date": str(day),
        "current_price": round(float(panel.price[row, period - 1]), 2),
    }


def _body(asked: Mapping[str, Any]) -> dict[str, Any]:
    """A request as a shop's system sends it, which leaves the current price to the service."""
    return {name: value for name, value in asked.items() if name not in ("current_price", "category")}


def _curl(asked: Mapping[str, Any]) -> str:
    body = shlex.quote(json.dumps(_body(asked)))
    return f"curl -s http://127.0.0.1:{os.environ['PORT']}/get_price -H 'Content-Type: application/json' -d {body}"


def _decide(address: str, panel: Panel, period: int) -> list[tuple[float, bool]]:
    """Requests prices of every product on sale in a period; returns each over the previous one, and if a rule gave it.

    Raises:
        StageError: A request was refused.
    """
    rows = np.flatnonzero(panel.present[:, period] & panel.present[:, :period].any(axis=1))
    requests = [_request(panel, row, period) for row in rows.tolist()]
    answers = call(f"{address}/get_prices", {"requests": requests})["decisions"]
    faults = [answer["error"] for answer in answers if "error" in answer]
    if faults:
        raise StageError(f"{len(faults)} of {len(answers)} requests were refused; the first: {json.dumps(faults[0])}")
    return [
        (answer["recommended_price"] / asked["current_price"], answer["source"] == "rule")
        for answer, asked in zip(answers, requests, strict=True)
    ]


def headline(
    model: Mapping[str, Any],
    promotion: Sequence[str],
    moves: Sequence[tuple[float, bool]],
    watched: Sequence[str],
    platform: Mapping[str, Any] | None,
    *,
    period: str,
) -> Iterator[str]:
    """Yields what came of profit, forecasts, gates, prices and monitoring, a line each.

    Args:
        model: The service's answer about the version that it serves.
        promotion: Lines that the promotion printed.
        moves: Prices over those before, each with whether a rule gave it.
        watched: Lines that monitoring printed.
        platform: Its score on the market; None where what a price earns is not known.
        period: Of the sales: day or week.
    """
    if platform is not None:
        low, high = platform["gain_interval"]
        yield (
            f"Profit     {platform['gain']:+.1%} over holding list prices, 95 % interval ({low:+.1%}, {high:+.1%}); "
            "beside others below"
        )
    scores = model["backtest"]
    yield (
        f"Forecasts  off by {shown(scores['wape'], '.1%')} of the units sold, in {len(scores['folds'])} trials on "
        f"later {period}s; {baseline_words(baselines_of(scores))} by {shown(scores['wape_baseline'], '.1%')}. "
        f"The 80 % range held {shown(scores['coverage_80'], '.0%')} of the sales"
    )
    passed = sum("| pass |" in line for line in promotion)
    yield f"Gates      {passed} passed: version {model['model_version']} sets prices"
    far = np.abs(np.array([ratio for ratio, _ in moves]) - 1)
    moved = far > 0.001
    yield (
        f"Prices     {len(far):,} prices: {moved.mean():.0%} differ from the price before, half of those by more than "
        f"{np.median(far[moved]) if moved.any() else 0:.0%}; {sum(by_rule for _, by_rule in moves)} by rule. "
        "decision.guardrails holds them: cost, the band around list price, the prices ever charged, the largest move"
    )
    outcomes = [line.removeprefix("outcome: ") for line in watched if line.startswith("outcome: ")]
    yield from (f"Watching   {outcome.replace('none:', 'nothing to do:', 1)}" for outcome in outcomes)


def _price_lines(asked: Mapping[str, Any], answer: Mapping[str, Any], *, period: str) -> Iterator[str]:
    """Yields an answer in words: one line with its figures, one with its reasons."""
    price, before, gain = answer["recommended_price"], asked["current_price"], answer["expected_gain"]
    yield (
        f"   {asked['category']}, product {asked['product_id']}: {before:.2f} before, {price:.2f} now "
        f"({price / before - 1:+.0%}), {answer['expected_units']:.0f} units expected in the {period}, "
        f"confidence {answer['confidence']:.2f}, "
        f"gain {gain['mean']:+.2f} ({gain['low']:+.2f} to {gain['high']:+.2f}) until the next delivery"
    )
    yield f"      {'; '.join(meanings(answer['reasons'], answer['binds'], answer['gave_way']).values())}"


def call(url: str, body: object = None) -> Any:
    """Sends a GET, or a POST where there is a body, and returns the JSON response.

    Raises:
        StageError: No response, or not 2xx; includes the response.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)
    except (OSError, ValueError) as error:
        said = error.read().decode(errors="replace")[:2000] if isinstance(error, urllib.error.HTTPError) else ""
        raise StageError(f"{url}: {error} {said}") from error


if __name__ == "__main__":
    sys.exit(main())
