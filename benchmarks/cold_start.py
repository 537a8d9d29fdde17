"""What a price without a history of its own earns: the lower tiers, and the days until a product speaks for itself.

python -m benchmarks.cold_start                        markets 120 to 124; writes cold_start.json and .md beside this
python -m benchmarks.cold_start --first 0 --seeds 2 --output build/cold_start      two markets to look at
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.provenance import stamp, take
from pipelines.calendar import holiday_calendar
from pipelines.market import PolicyEntry
from pipelines.market_platform import Platform
from pricing.arrays import Floats
from pricing.config import Config, load_config
from pricing.data.build import build_panel
from pricing.data.panel import Panel
from pricing.decision.pricer import Pricer
from pricing.demand.model import DemandModel
from pricing.demand.training import fit
from pricing.runtime.cli import job_options, run_main
from simulation.market import Market, MarketConfig, simulate
from simulation.policies import Oracle, static
from simulation.rollforward import Policy, Refresh, Requests, roll_forward

HERE = Path(__file__).parent
FIRST_SEED = 120
HISTORIES = (7, 14, 28, 56, 112)  # days of a new product's own history before the first day priced
STRANGER = "no such category"
RESAMPLES = 2000
STATIC, ORACLE, CATEGORY = "list prices held", "oracle", "category"
Profits = dict[str, list[float]]


class Late:
    """A market half of whose products are new: what the platform may have seen of it.

    Attributes:
        market: The market, all products traded for the whole history.
        new: (product,) whether a product is one of the new ones, whose history is withheld.
        model: Trained on the others alone.
    """

    def __init__(self, market: Market, config: Config) -> None:
        self.market, self.config = market, config
        self.new = np.arange(len(market.product_ids)) % 2 == 1
        self._ids = market.product_ids[self.new]
        self._frame = market.frame()
        panel = build_panel(self.seen(days=0), config.data)
        self.model: DemandModel = fit(panel, config.demand, calendar=holiday_calendar(panel, config.data)).model

    def seen(self, *, days: int) -> pd.DataFrame:
        """The history with only the last `days` days of the new products."""
        last = self._frame["date"].max()
        old = ~self._frame["product_id"].isin(self._ids)
        return self._frame[old | (self._frame["date"] > last - pd.Timedelta(days=days))]

    def of_others(self, refresh: Refresh) -> Refresh:
        """A refresh that is never told of the new products."""

        def told(rows: pd.DataFrame) -> None:
            refresh(rows[~rows["product_id"].isin(self._ids)])

        return told

    def platform(self, *, days: int = 0, model: bool = True) -> Platform:
        """The code that serves, after `days` days of the new products; without a model it answers by rule."""
        state = {"model": self.model}

        def learn(panel: Panel) -> DemandModel | None:
            if not model:
                return None
            state["model"] = state["model"].refresh(panel)
            return state["model"]

        return Platform(self.market, self.config, learn, frame=self.seen(days=days))

    def prices(self, policy: Policy) -> Policy:
        """The policy for the new products; the others stay at list price."""

        def asked(requests: Requests) -> Floats:
            new = np.isin(requests.product_id, self._ids)
            columns = {name: values[new] for name, values in vars(requests).items() if np.ndim(values)}
            price = requests.list_price.copy()
            price[new] = policy(replace(requests, **columns))
            return price

        return asked


class Blank(Platform):
    """The platform with neither a model nor a history."""

    def _learnt(self) -> Pricer:
        return Pricer(None, None, self._config, version="none")


def tiers(late: Late) -> dict[str, PolicyEntry]:
    """Every tier, held for as long as prices are asked, and what brackets them."""
    served, stranger, rule, category = late.platform(), late.platform(), late.platform(model=False), late.platform()
    blank = Blank(late.market, late.config, lambda _: None)
    return {
        STATIC: PolicyEntry(static),
        "rule: no model, no history": PolicyEntry(late.prices(blank)),
        "rule: category not known": PolicyEntry(late.prices(unnamed(stranger)), late.of_others(stranger.refresh)),
        "rule: no model, category known": PolicyEntry(late.prices(rule), late.of_others(rule.refresh)),
        CATEGORY: PolicyEntry(late.prices(category), late.of_others(category.refresh)),
        "as served: category, then own history": PolicyEntry(late.prices(served), served.refresh),
        ORACLE: PolicyEntry(Oracle(late.market)),
    }


def histories(late: Late) -> dict[str, PolicyEntry]:
    """A version as it stands after so many days of the new products' history; none learns while it prices."""
    entries = {STATIC: PolicyEntry(static), CATEGORY: PolicyEntry(late.prices(late.platform()))}
    entries |= {f"{days} days": PolicyEntry(late.prices(late.platform(days=days))) for days in HISTORIES}
    return entries | {ORACLE: PolicyEntry(Oracle(late.market))}


def unnamed(policy: Policy) -> Policy:
    """The policy, asked about products of a category that nobody has heard of."""

    def asked(requests: Requests) -> Floats:
        return policy(replace(requests, category=np.full(len(requests), STRANGER)))

    return asked


def measure(seed: int, config: Config, *, ahead: int) -> dict[str, Any]:
    """One market: profit of each new product under each tier, and by days of its own history."""
    late = Late(simulate(MarketConfig(seed=seed, products=120)), config)
    return {
        "seed": seed,
        "tiers": play(late, tiers(late), ahead=ahead),
        "histories": play(late, histories(late), ahead=config.demand.horizon),
    }


def play(late: Late, entries: dict[str, PolicyEntry], *, ahead: int) -> Profits:
    """Profit of each new product under each policy."""
    found = {}
    for name, entry in entries.items():
        run = roll_forward(late.market, entry.policy, days=ahead, refresh=entry.refresh)
        found[name] = run.profit[late.new].round(2).tolist()
    return found


def report(results: list[dict[str, Any]], *, ahead: int, horizon: int) -> str:
    """The results as a page."""
    seeds = [result["seed"] for result in results]
    products = sum(len(result["tiers"][STATIC]) for result in results)
    lines = [
        "# Prices without a history",
        "",
        f"Made by `python -m benchmarks.cold_start`; profits by product are in `cold_start.json`. {len(seeds)} markets",
        f"(seeds {', '.join(map(str, seeds))}) of 120 products and 730 days. Half of the products are new: the model",
        f"is trained on the others, and of the new ones ({products} in all) only what a row says has been seen. Gain:",
        "profit of the new products over holding their list prices: the mean over markets, the least and the most of",
        "any, and a 95 % interval by a bootstrap over products. Better: share of products that earn more than at list",
        "price. Requests carry list price, cost, stock and next delivery, as a shop's do.",
        "",
        f"## The tiers, {ahead} days",
        "",
        "Each tier is held all the time, also when the product would long have left it; *as served* is not.",
        "",
        *_table([result["tiers"] for result in results], "tier"),
        "",
        f"## How many days of its own history, {horizon} days",
        "",
        "The new products join by `refresh`, as they do every night: own level, own week, own state, and their",
        "category's elasticity until the next training. Nothing is learnt while prices are given.",
        "",
        *_table([result["histories"] for result in results], "own history", beside=CATEGORY),
        "",
    ]
    return "\n".join(lines)


def _table(markets: list[Profits], first: str, *, beside: str | None = None) -> list[str]:
    lines = [f"| {first} | gain | 95 % interval | share of the oracle's | better |", "|---|---|---|---|---|"]
    if beside:
        lines = [f"{lines[0]} gain over {beside} | 95 % interval |", f"{lines[1]}---|---|"]
    for name in markets[0]:
        each = np.array([gain(market[name], market[STATIC]) for market in markets])
        share = np.mean(each) / np.mean([gain(market[ORACLE], market[STATIC]) for market in markets])
        own, held = _pooled(markets, name), _pooled(markets, STATIC)
        low, high = interval(own, held)
        line = (
            f"| {name} | {each.mean():+.1%} ({each.min():+.1%} to {each.max():+.1%}) | {low:+.1%} to {high:+.1%} "
            f"| {share:.2f} | {np.mean(own > held):.0%} |"
        )
        if beside:
            other = _pooled(markets, beside)
            low, high = interval(own, other)
            line += f" {gain(own, other):+.1%} | {low:+.1%} to {high:+.1%} |"
        lines.append(line)
    return lines


def gain(profit: Sequence[float] | Floats, base: Sequence[float] | Floats) -> float:
    """Profit over that of a base, less 1."""
    return float(np.sum(profit) / np.sum(base) - 1)


def interval(profit: Floats, base: Floats) -> tuple[float, float]:
    """The 95 % interval of the gain, products resampled for both together."""
    picks = np.random.default_rng(0).integers(0, len(profit), (RESAMPLES, len(profit)))
    drawn = profit[picks].sum(axis=1) / base[picks].sum(axis=1) - 1
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def _pooled(markets: list[Profits], name: str) -> Floats:
    return np.concatenate([market[name] for market in markets])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    return run_main(_benchmark, argv)


def _benchmark(argv: Sequence[str] | None) -> int:
    options = _options(argv)
    config = load_config(options.config)
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "cold_start.json"
    made = take("cold_start.md")
    results: list[dict[str, Any]] = json.loads(path.read_text())["results"] if options.more and path.exists() else []
    for seed in range(options.first, options.first + options.seeds):
        results.append(measure(seed, config, ahead=options.ahead) | {"code": made.digest})
        path.write_text(json.dumps({"ahead": options.ahead, "results": results}) + "\n", encoding="utf-8")
        page = report(results, ahead=options.ahead, horizon=config.demand.horizon)
        (options.output / "cold_start.md").write_text(page, encoding="utf-8")
        stamp(options.output / "cold_start.md", made, parts=[result.get("code") for result in results])
        print(f"seed {seed} done", file=sys.stderr, flush=True)
    print(page)
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = job_options("cold_start", "Measures prices of products without a history.", sales=False)
    options.prog = "python -m benchmarks.cold_start"
    options.add_argument("--first", type=int, default=FIRST_SEED, help="seed of the first market")
    options.add_argument("--seeds", type=int, default=5, help="markets")
    options.add_argument("--ahead", type=int, default=90, help="days that the tiers price")
    options.add_flag("--more", help="add to the markets that are in the folder already")
    options.add_argument("--output", type=Path, default=HERE, metavar="DIR", help="folder of the results")
    return options.parse(argv)


if __name__ == "__main__":
    sys.exit(main())
