"""Measures the market itself: what each policy earns on it, and how far naive estimators are off.

python -m benchmarks.market            all settings; writes benchmarks/market.json and benchmarks/market.md
python -m benchmarks.market --settings default --seeds 2 --output build/market
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.market_naive import GridSearch, LogLog
from benchmarks.provenance import Provenance, stamp, take
from pipelines.market import PolicyEntry, run_policies, scores, standard_policies
from pricing.config import Config, load_config
from pricing.runtime.cli import job_options, run_main
from simulation.config import HELD_OUT_SEEDS
from simulation.market import Market, MarketConfig, simulate

HERE = Path(__file__).parent
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


def measure(options: MarketConfig, config: Config, *, ahead: int) -> dict[str, Any]:
    """Plays every policy, naive ones included, on one market."""
    started = time.monotonic()
    market = simulate(options)
    history = market.frame()
    regression, search = LogLog(history), GridSearch(history)
    entries = standard_policies(market, config)
    entries["log-log regression"] = PolicyEntry(regression)
    entries["LightGBM with grid search"] = PolicyEntry(search, search.refresh)
    table = scores(run_policies(market, entries, ahead=ahead))
    return {
        "seed": options.seed,
        "mean_elasticity": float(market.truth.elasticity[market.in_history].mean()),
        "regression_error": _error(market, regression),
        "seconds": time.monotonic() - started,
        "scores": [asdict(row) for row in table],
    }


def _error(market: Market, regression: LogLog) -> dict[str, float]:
    known = market.in_history & np.isin(market.world.category_names, list(regression.elasticities))
    truth = market.truth.elasticity[known]
    found = np.array([regression.elasticities[name] for name in market.world.category_names[known]])
    return {"bias": float((found - truth).mean()), "mae": float(np.abs(found - truth).mean())}


def report(results: dict[str, list[dict[str, Any]]], *, ahead: int) -> str:
    """The results as a page."""
    lines = [
        "# The market, measured",
        "",
        "Made by `python -m benchmarks.market`; every figure is in `market.json` beside this page. 60 products, 730",
        f"days of history, {ahead} days priced, held-out seeds; the market was calibrated on other seeds, 0–9. Gain:",
        "profit over holding list prices. Share: part of the oracle's gain. Each is the mean over seeds ± its standard",
        "error, and in brackets the least and the most of any seed. What the policies are: docs/market.md.",
    ]
    for name, markets in results.items():
        lines += ["", f"## {SETTINGS[name][0]}", "", *_table(markets)]
        bias = np.array([market["regression_error"]["bias"] for market in markets])
        truth = np.mean([market["mean_elasticity"] for market in markets])
        lines += [
            "",
            f"{len(markets)} seeds; true elasticities {truth:.2f} on average; the log-log regression is off by "
            f"{bias.mean():+.2f} ± {_error_of(bias):.2f} ({bias.min():+.2f} to {bias.max():+.2f}).",
        ]
        if name == "default":
            lines += ["", *_targets(markets)]
    return "\n".join([*lines, *_speed(), ""])


def _table(markets: list[dict[str, Any]]) -> list[str]:
    names = [row["policy"] for row in markets[0]["scores"]]
    rows = {name: [_row(market, name) for market in markets] for name in names}
    rows = dict(sorted(rows.items(), key=lambda item: np.mean([row["gain"] for row in item[1]])))
    lines = [
        "| policy | gain | share | turns | discount | changes a week | stock-outs | refused |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, some in rows.items():
        gain, share = (np.array([row[key] for row in some]) for key in ("gain", "share"))
        turns, cut, changes, outs = (
            np.mean([row[key] for row in some])
            for key in ("stock_turns", "discount_depth", "price_changes", "stock_outs")
        )
        lines.append(
            f"| {name} | {gain.mean():+.1%} ± {_error_of(gain):.1%} ({gain.min():+.1%} to {gain.max():+.1%}) "
            f"| {share.mean():.2f} ± {_error_of(share):.2f} ({share.min():.2f} to {share.max():.2f}) "
            f"| {turns:.1f} | {cut:.1%} | {changes:.1f} | {outs:.1%} | {sum(row['refused'] for row in some)} |"
        )
    return lines


def _targets(markets: list[dict[str, Any]]) -> list[str]:
    lines = ["| what the market promises | range | measured |", "|---|---|---|"]
    for name, (low, high) in TARGETS.items():
        policy, key = name.rsplit(", ", 1)
        mean = np.mean([_row(market, policy)[key] for market in markets])
        wanted = f"below {high:g}" if np.isinf(low) else f"{low:.2f} to {high:.2f}"
        lines.append(f"| {name} | {wanted} | {mean:.2f}{'' if low <= mean <= high else ' (missed)'} |")
    endless = np.mean([_row(market, "oracle, stock endless")["share"] for market in markets])
    lines.append(f"| part of the oracle's gain that comes from stock | 0.25 to 0.50 | {1 - endless:.2f} |")
    return lines


def _speed() -> list[str]:
    path = HERE / "market_speed.json"
    if not path.exists():
        return []
    rows = json.loads(path.read_text(encoding="utf-8"))
    lines = ["", "## Speed", "", "`python -m benchmarks.market_speed`, each in its own process.", ""]
    lines += ["| what | seconds | peak memory, GB |", "|---|---|---|"]
    return lines + [f"| {row['what']} | {row['seconds']:.1f} | {row['peak_gb']:.2f} |" for row in rows]


def _row(market: dict[str, Any], policy: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in market["scores"] if row["policy"] == policy)
    return found


def _error_of(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    return run_main(_benchmark, argv)


def _benchmark(argv: Sequence[str] | None) -> int:
    options = _options(argv)
    config = load_config(options.config)
    results: dict[str, list[dict[str, Any]]] = {}
    made = take("market.md")
    for name in options.settings:
        seeds = HELD_OUT_SEEDS[: options.seeds or SEEDS.get(name, 5)]
        results[name] = []
        for seed in seeds:
            market = MarketConfig(seed=seed, **SETTINGS[name][1])
            results[name].append(measure(market, config, ahead=options.ahead))
            _write(results, options.output, ahead=options.ahead, made=made)
            print(f"{name}, seed {seed}: {results[name][-1]['seconds']:.0f} s", file=sys.stderr)
    print((options.output / "market.md").read_text(encoding="utf-8"))
    return 0


def _write(results: dict[str, list[dict[str, Any]]], folder: Path, *, ahead: int, made: Provenance) -> None:
    """Writes what is known so far, after each market, so that an interrupted run loses one."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"ahead": ahead, "results": results}, indent=1)
    (folder / "market.json").write_text(text + "\n", encoding="utf-8")
    (folder / "market.md").write_text(report(results, ahead=ahead), encoding="utf-8")
    stamp(folder / "market.md", made)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = job_options("market", "Measures the simulated market.", sales=False)
    options.prog = "python -m benchmarks.market"
    options.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS), help="which markets")
    options.add_argument("--seeds", type=int, default=None, help="held-out seeds; absent: 10 for default, else 5")
    options.add_argument("--ahead", type=int, default=90, help="days that the policies price")
    options.add_argument("--output", type=Path, default=HERE, metavar="DIR", help="folder of the results")
    return options.parse(argv)


if __name__ == "__main__":
    sys.exit(main())
