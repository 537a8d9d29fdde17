"""Compare the profit of pricing policies on a simulated market, the platform through its serving pricer among them."""

import json
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pricing.arrays import Floats
from pricing.config import Config, ModelConfig, load_config
from pricing.data.anchors import Anchors, version_anchors
from pricing.data.build import build_panel
from pricing.data.panel import Panel
from pricing.decision.experiments import NO_EXPERIMENTS
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision.request import DetailedDecision, PriceRequest, Weekday
from pricing.demand.curve import Demand
from pricing.errors import VersionError
from pricing.paths import pricing_home
from pricing.registry.version import load
from pricing.runtime.cli import FILE, job
from simulation.market import Market as SimulatedMarket
from simulation.market import MarketConfig, simulate
from simulation.policies import CostPlus, Oracle, RulePolicy, match_competitor, static
from simulation.rollforward import MAX_MOVE, Policy, PolicyScore, Requests, Run, roll_forward, score

Learn = Callable[[Panel], Demand | None]
STATIC = "static"
ORACLE = "oracle"
PLATFORM = "platform"
HEADER = (
    f"{'policy':<26}{'profit':>12}{'over static':>13}{'(95 % interval)':>20}{'share':>8}{'(95 % interval)':>18}"
    f"{'turns':>8}{'discount':>10}{'changes':>9}{'stock-outs':>12}{'refused':>9}"
)
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)
OPTIONAL = ("category", "list_price", "unit_cost", "stock", "comp_price", "is_promo", "is_holiday", "next_delivery")


def standard_policies(market: SimulatedMarket, config: Config) -> dict[str, Policy]:
    """Builds the standard policies by name, initialised with the market's history."""
    history = market.frame()
    return {
        STATIC: static,
        "match competitor": match_competitor,
        "cost-plus": CostPlus(history),
        "rules": RulePolicy(history),
        "platform without a model": Platform(market, config, lambda _: None),
        oracle_name(market): Oracle(market),
    }


def oracle_name(market: SimulatedMarket) -> str:
    """Returns the oracle's name, with the reason why it may not be optimal, if any."""
    limit = market.config.settings.oracle_limit
    return f"{ORACLE} ({limit})" if limit else ORACLE


def run_policies(
    market: SimulatedMarket, policies: dict[str, Policy], *, ahead: int, max_move: float = MAX_MOVE
) -> dict[str, Run]:
    """Runs each policy over the same `ahead` days; one with a method `refresh` learns each fortnight's new rows."""
    runs = {}
    for name, policy in policies.items():
        started = time.monotonic()
        runs[name] = roll_forward(
            market, policy, days=ahead, refresh=getattr(policy, "refresh", None), max_move=max_move
        )
        print(f"  {name}: {ahead} days in {time.monotonic() - started:.1f} s", file=sys.stderr)
    return runs


def scores(runs: dict[str, Run]) -> list[PolicyScore]:
    """Returns the scores, least profit first; static and the oracle must be among the runs."""
    oracle = runs[oracle_name(runs[STATIC].market)]
    table = [score(name, run, static=runs[STATIC], oracle=oracle) for name, run in runs.items()]
    return sorted(table, key=lambda row: row.profit)


def line(row: PolicyScore) -> str:
    """Formats one row of the table under `HEADER`."""
    gain = "({:+.1%}, {:+.1%})".format(*row.gain_interval)
    share = "({:.2f}, {:.2f})".format(*row.share_interval)
    return (
        f"{row.policy:<26}{row.profit:>12,.0f}{row.gain:>+13.1%}{gain:>20}"
        f"{row.share:>8.2f}{share:>18}{row.stock_turns:>8.1f}{row.discount_depth:>10.1%}"
        f"{row.price_changes:>9.2f}{row.stock_outs:>12.1%}{row.refused:>9}"
    )


def plot(runs: dict[str, Run], path: Path) -> None:
    """Plots each policy's cumulative profit over that of static prices."""
    earned = pd.DataFrame({name: run.earned.sum(axis=1) for name, run in runs.items()}).cumsum()
    gain = 100 * earned.sub(earned[STATIC], axis=0) / earned[STATIC].iloc[-1]
    figure = Figure(figsize=(9, 5), layout="constrained")
    gain.plot(
        ax=figure.add_subplot(),
        xlabel="day after the history",
        ylabel="profit over holding list prices, % of its total",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


@job("market")
@click.option("--products", default=60, help="products with a history")
@click.option("--days", default=730, help="days of history")
@click.option("--seed", default=0, help="seed of the market")
@click.option("--ahead", default=90, help="days that the policies price")
@click.option("--model_version", type=FILE, metavar="DIR", help="a packed version that joins as `platform`")
@click.option("--output", type=FILE, default=lambda: pricing_home() / "market", metavar="DIR", help="table and plot")
def main(*, config: str | None, ahead: int, model_version: Path | None, output: Path, **options: Any) -> int:
    """Simulates a market and prints what each pricing policy earns on it."""
    market = simulate(MarketConfig(future=ahead, **options))
    policies = standard_policies(market, load_config(config))
    if model_version is not None:
        version = load(model_version)
        if not set(version.demand.product_ids) & set(market.product_ids):
            raise VersionError(f"{version.folder}: knows none of this market's products")
        policies[PLATFORM] = Platform(market, version.config, lambda panel: version.learner.refresh(panel).table())
    runs = run_policies(market, policies, ahead=ahead)
    table = scores(runs)
    print("\n".join([HEADER, *map(line, table)]))
    plot(runs, output / "market.png")
    document = {"market": asdict(market.config), "ahead": ahead, "scores": [asdict(row) for row in table]}
    (output / "market.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"share: part of the oracle's gain over static. Table and plot: {output}")
    return 0


def price_requests(requests: Requests, *, withhold: Collection[str] = ()) -> list[PriceRequest]:
    """Converts a market's requests of one morning to price requests, without columns among `OPTIONAL`."""
    today = requests.date.astype("datetime64[D]").item()
    asked = {"product_id", "current_price", *OPTIONAL} - {"is_holiday", *withhold}
    columns = {name: getattr(requests, name) for name in asked}
    if "comp_price" in columns:
        columns["comp_price"] = np.where(np.isnan(requests.comp_price), None, requests.comp_price)  # type: ignore[call-overload]
    names = ["current_stock" if name == "stock" else name for name in columns]
    return [
        PriceRequest(day_of_week=WEEKDAYS[today.weekday()], date=today, **dict(zip(names, row, strict=True)))
        for row in zip(*(column.tolist() for column in columns.values()), strict=True)
    ]


def without(frame: pd.DataFrame, withhold: Collection[str]) -> pd.DataFrame:
    """Returns a history without the withheld columns."""
    return frame.drop(columns=[name for name in withhold if name in frame])


class Platform:
    """Policy that prices with a `Pricer` and rebuilds it from the whole history at each refresh."""

    def __init__(
        self,
        market: SimulatedMarket,
        config: ModelConfig,
        learn: Learn,
        *,
        withhold: Collection[str] = (),
    ) -> None:
        """Builds the first pricer from the market's history, of which only `market.frame()` is read.

        Where the configuration allows larger moves than the market, the market's count. `learn` returns a demand model
        for the panel so far, or None to price by rule, at each refresh. Columns among `OPTIONAL` can be withheld from
        history, new rows and requests.
        """
        move = config.decision.guardrails.max_move
        guardrails = config.decision.guardrails.model_copy(update={"max_move": min(move or MAX_MOVE, MAX_MOVE)})
        decision = config.decision.model_copy(update={"guardrails": guardrails})
        self._config = config.model_copy(update={"decision": decision})
        self._learn = learn
        self._withhold = tuple(withhold)
        self._frame = without(market.frame(), self._withhold)
        self._anchors: Anchors | None = None  # no price of the history is the platform's own
        self.decisions: list[DetailedDecision] = []  # of the last morning, with the figures behind them
        self.experiments = NO_EXPERIMENTS  # that the next morning's prices follow
        self._pricer = self._learnt()

    def refresh(self, rows: pd.DataFrame) -> None:
        """Adds new rows to the history and rebuilds the pricer."""
        self._frame = pd.concat([self._frame, without(rows, self._withhold)], ignore_index=True)
        self._pricer = self._learnt()

    def __call__(self, requests: Requests) -> Floats:
        """Prices one morning's requests: (request,) prices, currency units."""
        today = requests.date.astype("datetime64[D]").item()
        asked = price_requests(requests, withhold=self._withhold)
        self.decisions = self._pricer.price_detailed(asked, today=today, experiments=self.experiments)
        return np.array([detailed.decision.recommended_price for detailed in self.decisions])

    def _learnt(self) -> Pricer:
        panel = build_panel(self._frame, self._config.data, anchors=self._anchors)
        self._anchors = version_anchors(self._anchors, panel)
        self.facts = ProductFacts.from_panel(panel, anchors=self._anchors)
        return Pricer(self._learn(panel), self.facts, self._config, version="market")
