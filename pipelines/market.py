"""Compare the profit of pricing policies on the simulated market."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from pipelines.market_platform import Platform, TrueElasticityDemand
from pricing.config import Config, load_config
from pricing.errors import VersionError
from pricing.paths import pricing_home
from pricing.registry.version import load
from pricing.runtime.cli import FILE, flag, job
from simulation.market import Market as SimulatedMarket
from simulation.market import MarketConfig, simulate
from simulation.policies import CostPlus, Oracle, RulePolicy, match_competitor, static
from simulation.rollforward import Policy, PolicyScore, Run, roll_forward, score

STATIC, ORACLE, PLATFORM = "static", "oracle", "platform"
HEADER = (
    f"{'policy':<26}{'profit':>12}{'over static':>13}{'(95 % interval)':>20}{'share':>8}{'(95 % interval)':>18}"
    f"{'turns':>8}{'discount':>10}{'changes':>9}{'stock-outs':>12}{'refused':>9}"
)
_MARKET = {  # settings of the market that are options
    "products": "products with a history",
    "days": "days of history",
    "seed": "seed of the market",
    "mean_elasticity": "about the mean own-price elasticity",
    "endogeneity": "how strongly past prices follow demand; 0: not",
    "noise": "scales the over-dispersion of demand",
    "price_points": "prices in the history's price band",
    "regime_change": "half of the categories change 45 days before the history ends",
}


def standard_policies(market: SimulatedMarket, config: Config) -> dict[str, Policy]:
    """Builds the standard policies by name, initialised with the market's history."""
    history = market.frame()
    return {
        STATIC: static,
        "match competitor": match_competitor,
        "cost-plus": CostPlus(history),
        "rules": RulePolicy(history),
        "platform without a model": Platform(market, config, lambda _: None, frame=history),
        "true elasticities": Platform(market, config, partial(TrueElasticityDemand, market), frame=history),
        "oracle, stock endless": Oracle(market, heed_stock=False),
        oracle_name(market): Oracle(market),
    }


def oracle_name(market: SimulatedMarket) -> str:
    """Returns the oracle's name, with the reason why it may not be optimal, if any."""
    return f"{ORACLE} ({market.oracle_limit})" if market.oracle_limit else ORACLE


def run_policies(market: SimulatedMarket, policies: dict[str, Policy], *, ahead: int) -> dict[str, Run]:
    """Runs each policy over the same `ahead` days; one with a method `refresh` learns each fortnight's new rows."""
    runs = {}
    for name, policy in policies.items():
        started = time.monotonic()
        runs[name] = roll_forward(market, policy, days=ahead, refresh=getattr(policy, "refresh", None))
        print(f"  {name}: {ahead} days in {time.monotonic() - started:.1f} s", file=sys.stderr)
    return runs


def scores(runs: dict[str, Run]) -> list[PolicyScore]:
    """Returns the scores, least profit first; static and the oracle must be among the runs."""
    oracle = runs[oracle_name(runs[STATIC].market)]
    table = [score(name, run, static=runs[STATIC], oracle=oracle) for name, run in runs.items()]
    return sorted(table, key=lambda row: row.profit)


def line(row: PolicyScore) -> str:
    """Formats one row of the table under `HEADER`."""
    gain, share = row.gain_interval, row.share_interval
    return (
        f"{row.policy:<26}{row.profit:>12,.0f}{row.gain:>+13.1%}{f'({gain[0]:+.1%}, {gain[1]:+.1%})':>20}"
        f"{row.share:>8.2f}{f'({share[0]:.2f}, {share[1]:.2f})':>18}{row.stock_turns:>8.1f}{row.discount_depth:>10.1%}"
        f"{row.price_changes:>9.2f}{row.stock_outs:>12.1%}{row.refused:>9}"
    )


def plot(runs: dict[str, Run], path: Path) -> None:
    """Plots each policy's cumulative profit over that of static prices."""
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9, 5), layout="constrained")
        axes = figure.add_subplot()
        base = np.cumsum(runs[STATIC].earned.sum(axis=1))
        days = np.arange(1, len(base) + 1)
        for name, run in sorted(runs.items(), key=lambda pair: -pair[1].profit.sum()):
            axes.plot(days, (np.cumsum(run.earned.sum(axis=1)) - base) / base[-1] * 100, label=name)
        axes.set_xlabel("day after the history")
        axes.set_ylabel("profit over holding list prices, % of its total")
        axes.legend(frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)


def _market_options(function: Callable[..., int]) -> Callable[..., int]:
    for name, meaning in reversed(_MARKET.items()):
        default = getattr(MarketConfig(), name)
        if isinstance(default, bool):
            function = flag(f"--{name}", help=meaning)(function)
        else:
            function = click.option(f"--{name}", default=default, help=meaning)(function)
    return function


@job("market")
@_market_options
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


if __name__ == "__main__":
    sys.exit(main())
