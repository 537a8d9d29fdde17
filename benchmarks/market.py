"""Measure the market itself: what each policy earns on it, and how far naive estimators are off.

python -m benchmarks.market            all settings; prints the tables of market.md
python -m benchmarks.market --settings default --seeds 2
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.reference import GridSearch, LogLog
from benchmarks.table import markdown, measured, spread
from pipelines.market import run_policies, scores, standard_policies
from pricing.config import Config, load_config
from pricing.runtime.cli import configure_logging
from simulation.config import HELD_OUT_SEEDS
from simulation.market import Market, MarketConfig, simulate

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("Default: mean elasticity about −2.5", {}),
    "blind": ("Endogeneity 0: past prices blind to demand", {"endogeneity": 0.0}),
    "inelastic": ("Mean elasticity about −1.6", {"mean_elasticity": -1.6}),
    "elastic": ("Mean elasticity about −3.5", {"mean_elasticity": -3.5}),
    "regime": ("Regime change 45 days before the end of the history", {"regime_change": True}),
}
SEEDS = {"default": 10}  # held-out seeds used; elsewhere 5
TARGETS = {
    "oracle, gain": (0.12, 0.20),
    "rules, share": (0.35, 0.50),
    "true elasticities, share": (0.80, 0.92),
    "log-log regression, share": (-np.inf, 0.0),
    "LightGBM with grid search, share": (-np.inf, 0.0),
}
MEANS = {"stock_turns": ".1f", "discount_depth": ".1%", "price_changes": ".1f", "stock_outs": ".1%"}


def measure(options: MarketConfig, config: Config, *, ahead: int) -> dict[str, Any]:
    """Plays every policy, naive ones included, on one market."""
    market = simulate(options)
    history = market.frame()
    regression, search = LogLog(history), GridSearch(history)
    policies = standard_policies(market, config)
    policies |= {"log-log regression": regression, "LightGBM with grid search": search}
    table = scores(run_policies(market, policies, ahead=ahead))
    return {
        "seed": options.seed,
        "mean_elasticity": float(market.truth.elasticity[market.in_history].mean()),
        "regression_error": _error(market, regression),
        "scores": [asdict(row) for row in table],
    }


def _error(market: Market, regression: LogLog) -> dict[str, float]:
    known = market.in_history & np.isin(market.category_names, list(regression.elasticities))
    truth = market.truth.elasticity[known]
    found = np.array([regression.elasticities[name] for name in market.category_names[known]])
    return {"bias": float((found - truth).mean()), "mae": float(np.abs(found - truth).mean())}


def section(name: str, markets: list[dict[str, Any]]) -> str:
    """One setting's policies, and what the market promises of the default one."""
    bias = [market["regression_error"]["bias"] for market in markets]
    truth = np.mean([market["mean_elasticity"] for market in markets])
    return "\n".join(
        [
            f"## {SETTINGS[name][0]}\n",
            _policies(markets),
            *([_targets(markets)] if name == "default" else []),
            f"{len(markets)} seeds; true elasticities {truth:.2f} on average; the log-log regression is off by "
            f"{spread(bias, '+.2f')}.\n",
        ]
    )


def _policies(markets: list[dict[str, Any]]) -> str:
    names = [row["policy"] for row in markets[0]["scores"]]
    rows = {name: [_row(market, name) for market in markets] for name in names}
    return markdown(
        ["policy", "gain", "share", "turns", "discount", "changes a week", "stock-outs", "refused"],
        (
            [
                name,
                spread([row["gain"] for row in some], "+.1%"),
                spread([row["share"] for row in some], ".2f"),
                *(f"{np.mean([row[key] for row in some]):{form}}" for key, form in MEANS.items()),
                str(sum(row["refused"] for row in some)),
            ]
            for name, some in sorted(rows.items(), key=lambda item: np.mean([row["gain"] for row in item[1]]))
        ),
    )


def _targets(markets: list[dict[str, Any]]) -> str:
    lines = []
    for name, (low, high) in TARGETS.items():
        policy, key = name.rsplit(", ", 1)
        mean = np.mean([_row(market, policy)[key] for market in markets])
        wanted = f"below {high:g}" if np.isinf(low) else f"{low:.2f} to {high:.2f}"
        lines.append([name, wanted, f"{mean:.2f}{'' if low <= mean <= high else ' (missed)'}"])
    endless = np.mean([_row(market, "oracle, stock endless")["share"] for market in markets])
    lines.append(["part of the oracle's gain that comes from stock", "0.25 to 0.50", f"{1 - endless:.2f}"])
    return markdown(["what the market promises", "range", "measured"], lines)


def _row(market: dict[str, Any], policy: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in market["scores"] if row["policy"] == policy)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    configure_logging()
    options = _options(argv)
    config = load_config(options.config)
    print(measured())
    for name in options.settings:
        markets = []
        for seed in HELD_OUT_SEEDS["default"][: options.seeds or SEEDS.get(name, 5)]:
            market = MarketConfig(seed=seed, **SETTINGS[name][1])
            markets.append(measure(market, config, ahead=options.ahead))
            print(f"{name}, seed {seed} done", file=sys.stderr, flush=True)
        print(section(name, markets), flush=True)
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = argparse.ArgumentParser("python -m benchmarks.market", description=__doc__)
    options.add_argument("--config", metavar="FILE", help="YAML laid over config/default.yaml")
    options.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS), help="which markets")
    options.add_argument("--seeds", type=int, default=None, help="held-out seeds; absent: 10 for default, else 5")
    options.add_argument("--ahead", type=int, default=90, help="days that the policies price")
    return options.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
