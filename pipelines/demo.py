"""Run the whole platform on one machine with the same commands and requests that a user would type: `make demo`."""

import argparse
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.commands import only_one
from pipelines.demo_feed import DatabaseFeed, Feed, FileFeed
from pipelines.demo_world import (
    PORT,
    DemoEnvironment,
    StageError,
    call,
    last_finished,
    next_folder,
    reopen,
    serve_command,
)
from pipelines.evaluation import baseline_error, score_lines, shown
from pricing.data.calendar import WEEKDAYS
from pricing.data.panel import Panel, load_panel
from pricing.decision.reasons import REASONS
from pricing.demand.baselines import baseline_words, baselines_of
from pricing.paths import CHECKOUT, ROOT, pricing_home
from pricing.runtime.cli import Options, Terminated, run_main
from simulation.market import MarketConfig

BATCH = 1000
ASKED = ("product_id", "current_stock", "day_of_week", "comp_price", "is_promo", "date")


@dataclass(frozen=True)
class DemoResult:
    """What came out of a demo.

    Attributes:
        model: What the service says of the version that it serves.
        answers: Three requests, with the product's category and price before, and their answers.
        decided: What came of the prices for the days held out, in a line.
        promotion: What the promotion printed.
        watched: What monitoring printed.
        policy_table: What each policy earns on the market, a line each; empty for the grocery sales.
        period: Of the sales: day or week.
    """

    model: Mapping[str, Any]
    answers: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]
    decided: str
    promotion: Sequence[str]
    watched: Sequence[str]
    policy_table: Sequence[str]
    period: str


@dataclass(frozen=True)
class DemoScenario:
    """Scenario of a demo.

    Attributes:
        title: Description of its input.
        config: File in config/ that all commands use.
        holdout: Number of last periods not used for training; decisions on them are scored.
        market: The simulated market; None for the grocery sales.
        database: Whether its sales lie in a shop's PostgreSQL and at a competitor's API, and come day by day.
        ahead: Days after the history that the market's policies price.
    """

    title: str
    config: str
    holdout: int
    market: MarketConfig | None = None
    ahead: int = 0
    database: bool = False


def scenarios() -> dict[str, DemoScenario]:
    """Returns all scenarios by the name of their data."""
    ahead = 60
    shop = MarketConfig(products=20, days=400, future=ahead)
    return {
        "grocery": DemoScenario("a year of grocery sales, weekly", "grocery.yaml", 4),
        "market": DemoScenario(
            "a simulated market whose truth is known", "market.yaml", 28, MarketConfig(future=ahead), ahead
        ),
        "database": DemoScenario("a shop's own database", "database.yaml", 28, shop, database=True),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns the exit code."""
    return run_main(_demo, argv)


def _demo(argv: Sequence[str] | None) -> int:
    options = _options(argv)
    if not CHECKOUT:
        raise StageError("the demo runs `mlflow run .`, so it needs a checkout; there `make demo` starts it")
    scenario = scenarios()[options.data]
    home = pricing_home().resolve()
    folders = home / "demo" / options.data
    if options.serve:
        return _serve(folders)
    with only_one("demo", home=home), _feed(scenario) as feed:
        environment = DemoEnvironment(
            next_folder(folders), ROOT / "config" / scenario.config, verbose=options.verbose, extra=feed.variables
        )
        environment.begin()
        environment = feed.configured(environment)
        try:
            result = _run_stages(scenario, environment, feed)
            environment.finish()
            environment.stage("What came out")
            serve = serve_command(options.data, port=environment.port, home=home)
            print("\n".join(_summary(result, environment, serve=serve, verbose=options.verbose)))
        except (KeyboardInterrupt, Terminated):
            shutil.rmtree(environment.folder, ignore_errors=True)
            raise
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = Options(
        "python -m pipelines.demo", "Runs the whole loop, from raw sales to served prices and a drift report."
    )
    options.add_argument("--data", default="grocery", choices=tuple(scenarios()), help="what it runs on")
    options.add_flag("--verbose", help="show the commands, what they print, and every figure at the end")
    options.add_flag("--serve", help="serve the model of the last finished demo, on PORT, instead of running one")
    return options.parse(argv)


def _serve(folders: Path) -> int:
    """Becomes the service of the last finished demo below `folders`.

    Raises:
        StageError: There is none.
    """
    folder = last_finished(folders)
    if folder is None:
        raise StageError(f"there is no finished demo in {folders}; make demo DATA={folders.name} makes one")
    environment = reopen(folder, port=int(os.environ.get("PORT") or PORT))
    os.execve(sys.executable, [sys.executable, "-m", "serving"], {**os.environ, **environment.settings})


@contextmanager
def _feed(scenario: DemoScenario) -> Iterator[Feed]:
    if not scenario.database or scenario.market is None:
        yield FileFeed(scenario.market)
        return
    with DatabaseFeed.started(scenario.market, holdout=scenario.holdout) as feed:
        yield feed


def _run_stages(scenario: DemoScenario, environment: DemoEnvironment, feed: Feed) -> DemoResult:
    print(f"The whole loop on {scenario.title}. Everything it makes lies in {environment.folder}", flush=True)
    if not environment.verbose:
        print("It takes some minutes; with ARGS=--verbose each stage shows its commands and what they say.", flush=True)

    environment.stage(f"1 Sales: {feed.told}")
    where = feed.sales(environment)
    etl = ["python", "-m", "pipelines.etl", "--sales", where, "--config", str(environment.config)]
    _tell_sources(environment.run("etl", etl))
    panel = load_panel(environment.folder / "panel")
    cut = len(panel.dates) - 1 - (0 if scenario.database else scenario.holdout)
    sales, until = str(environment.folder / "panel"), str(panel.dates[cut])

    environment.stage(f"2 Training: walk forward, then fit on everything up to {until}, by `mlflow run`")
    environment.mlflow_run("main", {"sales": sales, "until": until, "reason": "demo"})

    environment.stage("3 Promotion: the challenger becomes champion if it passes every gate")
    promotion = environment.mlflow_run("promote", {"reason": "demo"})

    environment.stage("4 Serving: Flask answers from the champion, without TensorFlow")
    with environment.serving() as address:
        model = call(f"{address}/model")
        asked = [
            {name: value for name, value in body.items() if not (scenario.database and name == "comp_price")}
            for body in _three(panel, cut)  # the service knows the competitor's newest price, which etl has read
        ]
        url = f"{address}/get_price?dry_run=true"
        answers = [(body, call(url, {name: body[name] for name in ASKED if name in body})) for body in asked]
        if scenario.database:
            environment.stage(f"  {feed.go_on(scenario.holdout)}; etl reads what is new")
            _tell_sources(environment.run("etl-again", etl))
            panel = load_panel(environment.folder / "panel")
        environment.stage(f"5 Decisions for the {scenario.holdout} {panel.period}s that the model has not seen")
        decided = [_decide(address, panel, period) for period in range(cut + 1, len(panel.dates))]

    if scenario.database:
        environment.stage("6 The night, `pricing nightly`: etl, monitoring, states carried forward")
        night = ["python", "-m", "pipelines.nightly", "--sales", where, "--config", str(environment.config)]
        watched = environment.run("nightly", night)
    else:
        environment.stage("6 Monitoring: the decisions meet the sales that followed")
        watched = environment.mlflow_run("monitor", {"sales": sales, "act": "false"})

    policy_table: list[str] = []
    if scenario.ahead and scenario.market is not None:
        environment.stage(f"7 Profit: {scenario.ahead} days of the same market under each policy, with common shoppers")
        policy_table = _play(scenario, environment)
    said = _describe_decisions(np.concatenate(decided))
    return DemoResult(model, answers, said, promotion, watched, policy_table, panel.period)


def _tell_sources(lines: Sequence[str]) -> None:
    """Prints what etl read of the shop's tables, and what changed; of a file it says nothing of the kind."""
    told = ("etl: ", "returns: ", "join: ", "competitor: ")
    print("\n".join(f"   {line}" for line in lines if line.startswith(told)), flush=True)


def _three(panel: Panel, cut: int) -> Iterator[dict[str, Any]]:
    """Yields requests for a high-, a mid- and a low-volume product on the first day after `cut`, with its category."""
    sold = np.nansum(panel.units_sold[:, : cut + 1], axis=1)
    following = min(cut + 1, len(panel.dates) - 1)
    out = panel.stock[:, following] < 1
    day = panel.dates[cut] + (panel.dates[1] - panel.dates[0])
    order = np.argsort(np.where(out, np.inf, -sold))[: int((~out).sum())]
    for row in (order[0], order[len(order) // 2], order[-1]):
        category = str(panel.categories[row])
        asked = _request(panel, int(row), cut) | {"date": str(day), "category": category}
        yield asked | {"day_of_week": WEEKDAYS[day.item().weekday()]}


def _decide(address: str, panel: Panel, period: int) -> NDArray[np.float64]:
    """Requests prices of every product on sale in a period; returns rows as for `_describe_decisions`."""
    rows = np.flatnonzero(panel.present[:, period] & panel.present[:, :period].any(axis=1))
    requests = [
        _request(panel, int(row), period - 1)
        | {"date": str(panel.dates[period]), "is_promo": bool(panel.is_promo[row, period])}
        for row in rows
    ]
    answers: list[dict[str, Any]] = []
    for start in range(0, len(requests), BATCH):
        answers += call(f"{address}/get_prices", {"requests": requests[start : start + BATCH]})["decisions"]
    faults = [answer["error"] for answer in answers if "error" in answer]
    if faults:
        raise StageError(f"{len(faults)} of {len(answers)} requests were refused; the first: {json.dumps(faults[0])}")
    return np.array(
        [
            (answer["recommended_price"] / asked["current_price"], answer["source"] == "rule")
            for answer, asked in zip(answers, requests, strict=True)
        ]
    )


def _describe_decisions(decided: NDArray[np.float64]) -> str:
    """Summarises decisions in a line; `decided` is (decision, 2): price over the previous one, 1 where by rule."""
    moved = np.abs(decided[:, 0] - 1) > 0.001
    middle = np.median(np.abs(decided[moved, 0] - 1)) if moved.any() else 0.0
    return (
        f"{len(decided):,} prices: {moved.mean():.0%} differ from the price before, half of those by more than "
        f"{middle:.0%}; {int(decided[:, 1].sum())} by rule. decision.guardrails holds them: cost, the band around "
        "list price, the prices ever charged, the largest move"
    )


def _request(panel: Panel, row: int, known: int) -> dict[str, Any]:
    """Builds the request for the period after `known`: its stock and competitor price, and the previous price.

    After the last period the stock and the competitor's price are those of the last one.
    """
    today = min(known + 1, len(panel.dates) - 1)
    stock, rival = panel.stock[row, today], panel.comp_price[row, today]
    return {
        "product_id": str(panel.product_ids[row]),
        "current_stock": float(stock) if np.isfinite(stock) else None,
        "day_of_week": WEEKDAYS[panel.dates[today].astype("datetime64[D]").item().weekday()],
        "comp_price": round(float(rival), 2) if np.isfinite(rival) else None,
        "current_price": round(float(panel.price[row, known]), 2),
        "is_promo": False,
    }


def _play(scenario: DemoScenario, environment: DemoEnvironment) -> list[str]:
    market = scenario.market
    if market is None:
        return []
    (pointer,) = (environment.folder / "published").glob("*/champion.json")
    champion = json.loads(pointer.read_text(encoding="utf-8"))["champion"]["checksum"]
    versions = (environment.folder / "mlartifacts").rglob("version.json")  # with what they learnt
    folder = next(one.parent for one in versions if json.loads(one.read_text())["checksum"] == champion)
    options = {"products": market.products, "days": market.days, "ahead": scenario.ahead, "seed": market.seed}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    lines = environment.run("market", ["python", "-m", "pipelines.market", *words, "--model_version", str(folder)])
    return lines[next(number for number, line in enumerate(lines) if line.startswith("policy")) :]


def _summary(result: DemoResult, environment: DemoEnvironment, *, serve: str, verbose: bool) -> Iterator[str]:
    """Yields what a manager asks first, then where the rest is; where `verbose`, all figures in between."""
    yield from headline(result)
    yield "\nThree prices for the first day that the model has not seen:"
    for asked, answer in result.answers:
        yield from _price_lines(asked, answer, period=result.period)
    if result.policy_table:
        yield "\nProfit against holding list prices, beside rules and the oracle who knows expected demand:"
        yield from (f"   {line}" for line in result.policy_table)
    if verbose:
        yield from _figures(result, environment)
    folder = environment.folder
    yield "\nTo look at:"
    yield f"   the sales as read     {folder / 'panel.etl_report.html'}"
    yield f"   the week in figures   {folder / 'monitoring' / 'latest' / 'summary.html'}"
    yield f"   drift report          {folder / 'monitoring' / 'latest' / 'drift.html'}"
    if result.policy_table:
        yield f"   profit, day by day    {folder / 'market' / 'market.png'}"
    yield f"   what each stage said  {folder / 'logs'}"
    uri = shlex.quote(environment.tracking_uri)
    yield f"   runs and registry     .venv/bin/mlflow ui --port 5000 --backend-store-uri {uri}"
    yield (
        "Your own sales: a row per product and day with date, product_id, units_sold, price (README.md: the rest):\n"
        "   make train SALES=sales.csv && make promote && make serve\n"
        "The next demo keeps this one's folder, which may be removed at any time:\n"
        f"   rm -r {shlex.quote(str(folder))}\n"
        "Ask this model for a price, once the last line's command serves it:\n"
        f"   {_curl(result.answers[0][0], port=environment.port)}"
    )
    yield f"   {serve}"


def headline(result: DemoResult) -> Iterator[str]:
    """Yields what came of profit, forecasts, gates, prices and monitoring, a line each."""
    yield from (f"Profit     {words}" for words in _profit(result.policy_table))
    scores = result.model["backtest"]
    yield (
        f"Forecasts  off by {shown(scores['wape'], '.1%')} of the units sold, in {len(scores['folds'])} trials on "
        f"later {result.period}s; {baseline_words(baselines_of(scores))} by {shown(baseline_error(scores), '.1%')}. "
        f"The 80 % range held {shown(scores['coverage_80'], '.0%')} of the sales"
    )
    passed = sum("| pass |" in line for line in result.promotion)
    yield f"Gates      {passed} passed: version {result.model['model_version']} sets prices"
    yield f"Prices     {result.decided}"
    outcomes = [line.removeprefix("outcome: ") for line in result.watched if line.startswith("outcome: ")]
    yield from (f"Watching   {outcome.replace('none:', 'nothing to do:', 1)}" for outcome in outcomes)


def _profit(policy_table: Sequence[str]) -> Iterator[str]:
    """Yields the platform's line of the table in words; nothing where there is no table."""
    for line in policy_table:
        name, *columns = re.split(r"\s{2,}", line)
        if name == "platform":
            yield f"{columns[1]} over holding list prices, 95 % interval {columns[2]}; beside others below"


def _price_lines(asked: Mapping[str, Any], answer: Mapping[str, Any], *, period: str) -> Iterator[str]:
    """Yields an answer in words: one line with its figures, one with its reasons."""
    price, before = answer["recommended_price"], asked["current_price"]
    yield (
        f"   {asked['category']}, product {asked['product_id']}: {before:.2f} before, {price:.2f} now "
        f"({price / before - 1:+.0%}), {answer['expected_units']:.0f} units expected in the {period}, "
        f"confidence {answer['confidence']:.2f}, {_gain(answer['expected_gain'])}"
    )
    yield f"      {'; '.join(REASONS[reason] for reason in answer['reasons'])}"


def _gain(gain: Mapping[str, float]) -> str:
    return f"gain {gain['mean']:+.2f} ({gain['low']:+.2f} to {gain['high']:+.2f}) until the next delivery"


def _figures(result: DemoResult, environment: DemoEnvironment) -> Iterator[str]:
    yield "\nWalk-forward scores (smaller is better), beside the baselines:"
    yield from (f"   {line}" for line in score_lines(result.model["backtest"]))
    yield "\nGates:"
    yield from (f"   {line}" for line in result.promotion if line.startswith("|"))
    yield "\nThe three answers over HTTP:"
    for asked, answer in result.answers:
        yield f"   $ {_curl(asked, port=environment.port)}"
        yield f"   {json.dumps(answer)}"


def _curl(asked: Mapping[str, Any], *, port: int) -> str:
    body = shlex.quote(json.dumps({name: asked[name] for name in ASKED if name in asked}))
    return f"curl -s http://127.0.0.1:{port}/get_price -H 'Content-Type: application/json' -d {body}"


if __name__ == "__main__":
    sys.exit(main())
