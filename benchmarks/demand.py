"""What the demand model earns on markets whose truth is known, beside the reference, ablations and the truth itself.

python -m benchmarks.demand                                  all settings on held-out seeds; writes demand.json and .md
python -m benchmarks.demand --settings few --ablate true   one setting, what is in between too; others stay written
python -m benchmarks.demand --settings default --seeds 2 --development true --output build/demand   on development seeds
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from benchmarks.confidence import Judged
from benchmarks.demand_page import DEVELOPMENT, HELD_OUT, report
from benchmarks.market_naive import log_log_elasticities
from benchmarks.provenance import stamp, take
from benchmarks.reference import MarkUp, reference_elasticities
from pipelines.calendar import holiday_calendar
from pipelines.cli import job_options, run_main
from pipelines.market import Contestant, contestants, play, scores
from pipelines.market_platform import Platform
from pricing.config import Config, load_config
from pricing.data.build import build_panel
from pricing.data.market import Market, MarketConfig, simulate
from pricing.data.market_config import DEVELOPMENT_SEEDS, HELD_OUT_SEEDS
from pricing.data.market_rollforward import Requests, Run
from pricing.data.market_truth import Floats
from pricing.data.panel import Panel
from pricing.demand.elasticity import LIMITS
from pricing.demand.identification import Identified
from pricing.demand.model import DemandModel
from pricing.demand.training import Start, Trained, fit

HERE = Path(__file__).parent
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("Default: mean elasticity about −2.5", {}),
    "inelastic": ("Mean elasticity about −1.6", {"mean_elasticity": -1.6}),
    "elastic": ("Mean elasticity about −3.5", {"mean_elasticity": -3.5}),
    "blind": ("Endogeneity 0: past prices blind to demand", {"endogeneity": 0.0}),
    "noisy": ("Noise doubled", {"noise": 2.0}),
    "sparse": ("Nine price points", {"price_points": 9}),
    "few": ("20 products", {"products": 20}),
    "many": ("1,000 products", {"products": 1000}),
    "regime": ("Regime change 45 days before the end of the history", {"regime_change": True}),
}
LEVEL_ERROR = (0.2, 0.025)  # what backtests of default markets measured; a backtest here would triple the time
KEPT = ("static", "rules", "true elasticities", "oracle")


def learn(panel: Panel, config: Config) -> Trained:
    """The platform's own training, without the backtest."""
    trained = fit(panel, config.demand, calendar=holiday_calendar(panel, config.data))
    return Trained(replace(trained.model, level_error=LEVEL_ERROR), trained.start)


def learnt_elasticities(trained: Trained) -> Identified:
    """What a training that was given no elasticities learnt of them."""
    if trained.start.identified is None:
        raise ValueError("this training says nothing of its elasticities; start it without any")
    return trained.start.identified


def with_elasticities(trained: Trained, panel: Panel, config: Config, elasticity: np.ndarray) -> DemandModel:
    """The same network trained around other elasticities, taken for certain within 0.4."""
    identified = learnt_elasticities(trained)
    own = np.clip(elasticity, *LIMITS)
    shrunk = replace(identified.shrunk, mean=own, sd=np.full(len(own), 0.4))
    flat = np.zeros(len(own), np.float32)
    norms = replace(identified.norms, elasticity=own.astype(np.float32), weekend=flat)
    start = Start(None, replace(identified, shrunk=shrunk, norms=norms))
    calendar = holiday_calendar(panel, config.data)
    return replace(fit(panel, config.demand, calendar=calendar, start=start).model, level_error=LEVEL_ERROR)


def carried(market: Market, model: DemandModel, config: Config, history: pd.DataFrame) -> Contestant:
    """A model as a policy through the code that serves; its states are carried forward at each refresh."""
    state = {"model": model}

    def forward(panel: Panel) -> DemandModel:
        state["model"] = state["model"].refresh(panel)
        return state["model"]

    platform = Platform(market, config, forward, frame=history)
    return Contestant(platform, platform.refresh)


def measure(config: MarketConfig, *, ahead: int, ablate: bool) -> dict[str, Any]:
    """One market: elasticities and profit of the platform, the reference, and what is in between."""
    platform = load_config()
    market = simulate(config)
    history = market.frame()
    panel = build_panel(history, platform.data)
    truth = market.truth.elasticity[np.searchsorted(market.product_ids, panel.product_ids)]
    started = time.monotonic()
    trained = learn(panel, platform)
    seconds = time.monotonic() - started
    found = learnt_elasticities(trained)
    reference = reference_elasticities(history)
    theirs = reference["elasticity"].reindex(panel.product_ids).fillna(reference["elasticity"].mean()).to_numpy()
    entries = {name: entry for name, entry in contestants(market, platform).items() if name in KEPT}
    entries["platform"] = carried(market, trained.model, platform, history)
    mark_up = MarkUp(history, reference)
    entries["reference"] = Contestant(mark_up, mark_up.refresh)
    estimates = {"platform": trained.model.elasticity(np.arange(len(truth)))[0], "reference": theirs}
    estimates["category means of the reference"] = _category_mean(theirs, panel.categories)
    estimates["one for all, the truth's mean"] = np.full(len(truth), truth.mean())
    if ablate:
        slopes = log_log_elasticities(history)
        middle = float(np.median(list(slopes.values())))
        plain = np.array([slopes.get(name, middle) for name in panel.categories])
        blind = fit(panel, platform.demand.model_copy(update={"control": False}))
        for name, values in {
            "true elasticities, our network": truth,
            "reference's elasticities": theirs,
            "without the control": blind.model.elasticity(np.arange(len(truth)))[0],
            "log-log regression": plain,
            "no price head: −0.2": np.full(len(truth), LIMITS[1]),
        }.items():
            estimates[name] = values
            entries[name] = carried(market, with_elasticities(trained, panel, platform, values), platform, history)
    judged = Judged(market, platform.decision.hold_step)
    runs = play(market, entries | {"platform": watched(entries["platform"], judged)}, ahead=ahead)
    table = scores(runs)
    low, high = trained.model.elasticity(np.arange(len(truth)))[1:]
    return {
        "seed": config.seed,
        "truth": float(truth.mean()),
        "train_seconds": seconds,
        "moves": found.events,
        "control": found.control,
        "inside_80": float(((truth >= low) & (truth <= high)).mean()),
        "estimates": {name: _errors(values, truth) for name, values in estimates.items()},
        "scores": [asdict(row) for row in table],
        "refused": int(runs["platform"].refused.sum()),
        "below_cost": below_cost(runs["platform"]),
        "incumbent_discount": incumbent_discount(history, ahead=ahead),
        "confidence": judged.histograms(),
    }


def watched(entry: Contestant, judged: Judged) -> Contestant:
    """The platform's policy, whose every decision is judged on the way."""
    policy = entry.policy

    def price(requests: Requests) -> Floats:
        answer = policy(requests)
        judged.add(requests, policy.decisions)  # type: ignore[attr-defined]
        return answer

    return Contestant(price, entry.refresh)


def below_cost(run: Run) -> int:
    """Product-days whose price lay below cost by more than its rounding to cents."""
    days = slice(run.ledger.first_day, run.ledger.first_day + len(run.ledger.price))
    return int((run.on_sale & (run.ledger.price < run.market.world.unit_cost[days] - 0.005001)).sum())


def incumbent_discount(history: pd.DataFrame, *, ahead: int) -> float:
    """Mean cut below list of a unit that the incumbent sold in the last `ahead` days of the history."""
    recent = history[history["date"] > history["date"].max() - pd.Timedelta(days=ahead)]
    cut = (1 - recent["price"] / recent["list_price"]).clip(lower=0)
    return float((cut * recent["units_sold"]).sum() / recent["units_sold"].sum())


def _category_mean(values: np.ndarray, categories: np.ndarray) -> np.ndarray:
    return pd.Series(values).groupby(pd.Series(categories)).transform("mean").to_numpy()


def _errors(values: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    rank = spearmanr(values, truth)[0] if np.ptp(values) > 1e-9 else 0.0
    return {
        "mae": float(np.abs(values - truth).mean()),
        "bias": float((values - truth).mean()),
        "rank": float(rank),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    return run_main(_benchmark, argv)


def _benchmark(argv: Sequence[str] | None) -> int:
    options = _options(argv)
    pool = DEVELOPMENT_SEEDS if options.development else HELD_OUT_SEEDS
    seeds = DEVELOPMENT if options.development else HELD_OUT
    options.output.mkdir(parents=True, exist_ok=True)
    made = take("demand.md")
    same = {"ahead": options.ahead, "seeds": seeds, "config": fingerprint(load_config())}
    results = _earlier(options.output / "demand.json", same=same)
    for name in options.settings:
        results[name] = []
        for seed in pool[options.skip :][: options.seeds]:
            config = MarketConfig(seed=seed, **SETTINGS[name][1])
            found = measure(config, ahead=options.ahead, ablate=options.ablate)
            results[name].append(found | {"code": made.digest})
            text = json.dumps(same | {"results": results})
            (options.output / "demand.json").write_text(text + "\n", encoding="utf-8")
            page = report(results, SETTINGS, ahead=options.ahead, seeds=seeds)
            (options.output / "demand.md").write_text(page, encoding="utf-8")
            parts = [market.get("code") for markets in results.values() for market in markets]
            stamp(options.output / "demand.md", made, parts=parts)
            print(f"{name}, seed {seed} done", file=sys.stderr, flush=True)
    print(page)
    return 0


def fingerprint(config: Config) -> str:
    """Names what decides a result besides the code: the demand model's and the decision's settings."""
    text = config.demand.model_dump_json() + config.decision.model_dump_json()
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _earlier(path: Path, *, same: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Results of other settings, so that these can be measured one after the other; none where they do not compare."""
    if not path.is_file():
        return {}
    document = json.loads(path.read_text(encoding="utf-8"))
    found: dict[str, list[dict[str, Any]]] = document.pop("results")
    if document != same:
        print("what was measured before had other settings: it is begun anew", file=sys.stderr)
        return {}
    return found


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = job_options("demand", "Measures the demand model on markets with known truth.", sales=False)
    options.prog = "python -m benchmarks.demand"
    options.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS), help="which markets")
    options.add_argument("--seeds", type=int, default=5, help="seeds of each setting")
    options.add_argument("--skip", type=int, default=0, help="seeds at the front to leave out: scored before")
    options.add_argument("--ahead", type=int, default=90, help="days that the policies price")
    options.add_flag("--ablate", help="also what is in between: other elasticities in the platform's decisions")
    options.add_flag("--development", help="the seeds that settings are chosen on, not the held-out ones")
    options.add_argument("--output", type=Path, default=HERE, metavar="DIR", help="folder of the results")
    return options.parse(argv)


if __name__ == "__main__":
    sys.exit(main())
