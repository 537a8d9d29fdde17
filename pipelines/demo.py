"""Run the whole platform on one machine with the same commands and requests that a user would type: `make demo`."""

import argparse
import json
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.commands import only_one
from pipelines.demo_world import DemoEnvironment, StageError, call, next_folder
from pipelines.evaluation import score_lines
from pricing.data.calendar import WEEKDAYS
from pricing.data.panel import Panel, load_panel
from pricing.paths import CHECKOUT, ROOT, pricing_home
from pricing.runtime.cli import Options, Terminated, run_main
from simulation.market import MarketConfig, simulate

AMPLE = 10_000.0  # units; stock in requests where the sales have none
BATCH = 1000


@dataclass(frozen=True)
class DemoScenario:
    """Scenario of a demo.

    Attributes:
        title: Description of its input.
        config: File in config/ that all commands use.
        holdout: Number of last periods not used for training; decisions on them are scored.
        market: The simulated market; None for the grocery sales.
        ahead: Days after the history that the market's policies price.
    """

    title: str
    config: str
    holdout: int
    market: MarketConfig | None = None
    ahead: int = 0


def scenarios() -> dict[tuple[str, str], DemoScenario]:
    """Returns all scenarios, by data and size."""
    ahead = 60
    full, small = MarketConfig(future=ahead), MarketConfig(products=16, days=400, future=ahead)
    return {
        ("grocery", "full"): DemoScenario("a year of real grocery sales, weekly", "grocery.yaml", 4),
        ("market", "full"): DemoScenario("a simulated market whose truth is known", "market.yaml", 28, full, ahead),
        ("market", "small"): DemoScenario("a small simulated market", "small.yaml", 28, small, ahead),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns the exit code."""
    return run_main(_demo, argv)


def _demo(argv: Sequence[str] | None) -> int:
    options = _options(argv)
    if not CHECKOUT:
        raise StageError("the demo runs `mlflow run .`, so it needs a checkout; there `make demo` starts it")
    scenario = scenarios().get((options.data, options.size))
    if scenario is None:
        raise StageError(f"there is no {options.size} demo on {options.data}")
    home = pricing_home().resolve()
    with only_one("demo", home=home):
        environment = DemoEnvironment(next_folder(home / "demo" / options.data), ROOT / "config" / scenario.config)
        environment.begin()
        try:
            _run_stages(scenario, environment)
            environment.finish()
        except (KeyboardInterrupt, Terminated):
            shutil.rmtree(environment.folder, ignore_errors=True)
            raise
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = Options(
        "python -m pipelines.demo", "Runs the whole loop, from raw sales to served prices and a drift report."
    )
    options.add_argument("--data", default="grocery", choices=("grocery", "market"), help="what it runs on")
    options.add_argument("--size", default="full", choices=("full", "small"), help="small: a market of seconds, for CI")
    return options.parse(argv)


def _run_stages(scenario: DemoScenario, environment: DemoEnvironment) -> None:
    print(f"The whole loop on {scenario.title}. Everything it makes lies in {environment.folder}", flush=True)

    environment.stage("1 Sales: read, check, build the panel")
    environment.run(
        "etl",
        [
            "python",
            "-m",
            "pipelines.etl",
            "--sales",
            _sales(scenario, environment),
            "--config",
            str(environment.config),
        ],
    )
    panel = load_panel(environment.folder / "panel")
    cut = len(panel.dates) - scenario.holdout - 1
    sales, until = str(environment.folder / "panel"), str(panel.dates[cut])

    environment.stage(f"2 Training: walk forward, then fit on everything up to {until}, by `mlflow run`")
    environment.mlflow_run("main", {"sales": sales, "until": until, "reason": "demo"})

    environment.stage("3 Promotion: the challenger becomes champion if it passes every gate")
    promotion = environment.mlflow_run("promote", {"reason": "demo"})

    environment.stage("4 Serving: Flask answers from the champion, without TensorFlow")
    with environment.serving() as address:
        model = call(f"{address}/model")
        answers = [(body, call(f"{address}/get_price", body)) for body in _three(panel, cut)]
        environment.stage(f"5 Decisions for the {scenario.holdout} {panel.period}s that the model has not seen")
        decided = [_decide(address, panel, period) for period in range(cut + 1, len(panel.dates))]
        print(f"   {_describe_decisions(np.concatenate(decided))}", flush=True)

    environment.stage("6 Monitoring: the decisions meet the sales that followed")
    environment.mlflow_run("monitor", {"sales": sales, "act": "false"})

    policy_table: list[str] = []
    if scenario.market is not None:
        environment.stage(f"7 Profit: {scenario.ahead} days of the same market under each policy, with common shoppers")
        policy_table = _play(scenario, environment)
    environment.stage("What came out")
    print("\n".join(_summary(environment, model, answers=answers, promotion=promotion, policy_table=policy_table)))


def _sales(scenario: DemoScenario, environment: DemoEnvironment) -> str:
    if scenario.market is None:
        return "completejourney"
    path = environment.folder / "sales.parquet"
    simulate(scenario.market).frame().to_parquet(path, index=False)
    return str(path)


def _three(panel: Panel, cut: int) -> Iterator[dict[str, Any]]:
    """Yields requests with the five documented fields for a high-, a mid- and a low-volume product."""
    sold = np.nansum(panel.units_sold[:, : cut + 1], axis=1)
    out = panel.stock[:, cut + 1] < 1
    order = np.argsort(np.where(out, np.inf, -sold))[: int((~out).sum())]
    for row in (order[0], order[len(order) // 2], order[-1]):
        asked = _request(panel, int(row), cut)
        contract = ("product_id", "current_stock", "day_of_week", "comp_price", "is_promo")
        yield {name: asked[name] for name in contract} | {"day_of_week": "Friday", "is_promo": False}


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
        f"{middle:.0%}; {int(decided[:, 1].sum())} by rule. What holds them is in decision.guardrails: cost, "
        "the band around list price, the prices ever charged, the largest move"
    )


def _request(panel: Panel, row: int, known: int) -> dict[str, Any]:
    """Builds the request for the period after `known`: its stock and competitor price, and the previous price."""
    today = min(known + 1, len(panel.dates) - 1)
    stock, rival = panel.stock[row, today], panel.comp_price[row, today]
    return {
        "product_id": str(panel.product_ids[row]),
        "current_stock": float(stock) if np.isfinite(stock) else AMPLE,
        "day_of_week": WEEKDAYS[panel.dates[today].astype("datetime64[D]").item().weekday()],
        "comp_price": round(float(rival), 2) if np.isfinite(rival) else None,
        "current_price": round(float(panel.price[row, known]), 2),
        "is_promo": False,
    }


def _play(scenario: DemoScenario, environment: DemoEnvironment) -> list[str]:
    market = scenario.market
    if market is None:
        return []
    pointer = next((environment.folder / "versions").glob("*/champion.json"))
    folder = pointer.parent / json.loads(pointer.read_text(encoding="utf-8"))["folder"]
    options = {"products": market.products, "days": market.days, "ahead": scenario.ahead, "seed": market.seed}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    lines = environment.run("market", ["python", "-m", "pipelines.market", *words, "--model_version", str(folder)])
    return lines[next(number for number, line in enumerate(lines) if line.startswith("policy")) :]


def _summary(
    environment: DemoEnvironment,
    model: dict[str, Any],
    *,
    answers: Sequence[tuple[dict[str, Any], dict[str, Any]]],
    promotion: Sequence[str],
    policy_table: Sequence[str],
) -> Iterator[str]:
    settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.settings.items())
    yield "Walk-forward scores (smaller is better), beside the baselines:"
    yield from (f"   {line}" for line in score_lines(model["backtest"]))
    yield f"\nRegistered and promoted: version {model['model_version']} of `pricing`. Its gates:"
    yield from (f"   {line}" for line in promotion if line.startswith("|"))
    ample = any(body["current_stock"] == AMPLE for body, _ in answers)
    yield "\nThree answers over HTTP" + ("; these sales know no stock, so the requests say 10,000:" if ample else ":")
    for body, answer in answers:
        address = f"http://127.0.0.1:{environment.port}/get_price"
        yield f"   $ curl -s {address} -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"
        yield f"   {json.dumps(answer)}"
    if policy_table:
        yield "\nProfit against holding list prices, beside rules and the oracle who knows expected demand:"
        yield from (f"   {line}" for line in policy_table)
        yield f"   Plot: {environment.folder / 'market' / 'market.png'}"
    yield f"\nDrift report: {environment.folder / 'monitoring' / 'latest' / 'drift.html'}"
    yield f"MLflow UI:    .venv/bin/mlflow ui --port 5000 --backend-store-uri {shlex.quote(environment.tracking_uri)}"
    yield f"Serve again, so that the curl commands answer:\n   {settings} make serve"
    yield (
        "Your own sales: a row per product and day with date, product_id, units_sold, price (README.md: the rest):\n"
        "   make train SALES=sales.csv && make promote && make serve\n"
        "Whatever the demo made is in one folder, and goes with it (the next demo keeps the last finished one): "
        f"rm -r {shlex.quote(str(environment.folder))}"
    )


if __name__ == "__main__":
    sys.exit(main())
