"""How far next-day forecasts are from the best there could be, at the prices of the history and at random ones.

python -m benchmarks.noise_floor                       held-out seeds; writes noise_floor.json and noise_floor.md

Per market: backtest and training on all but the last 28 days, the states carried forward day by day, every next day
forecast at the price that was charged. Then 28 days of prices drawn at random in the band, the same. Demand is the
market's own, stocked-out days included. The noise floor is the error of the true demand's median at that price, its
hidden shocks known: what is over it is the model's. The 80 % and 95 % intervals are scored by the randomised PIT.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.provenance import stamp, take
from pipelines.calendar import holiday_calendar
from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.data.panel import Panel
from pricing.demand import evaluation
from pricing.demand.backtest import backtest, evaluate
from pricing.demand.folds import Fold
from pricing.demand.intervals import Width, with_quantiles
from pricing.demand.model import DemandModel
from pricing.demand.training import train
from pricing.runtime.cli import job_options, run_main
from simulation.config import DEVELOPMENT_SEEDS, HELD_OUT_SEEDS
from simulation.market import Ledger, Market, MarketConfig, simulate
from simulation.rollforward import Policy, Requests, best_forecast, roll_forward

HERE = Path(__file__).parent
DAYS = 28
KINDS = ("logged prices", "random prices")


def random_prices(seed: int) -> Policy:
    """A policy that draws each price evenly in log between the market's bounds."""
    rng = np.random.default_rng(seed)

    def price(requests: Requests) -> NDArray[np.float64]:
        low, high = np.log(requests.lowest), np.log(requests.highest)
        drawn: NDArray[np.float64] = np.exp(low + (high - low) * rng.random(len(requests)))
        return np.clip(np.round(drawn, 2), requests.lowest, requests.highest)

    return price


def next_days(model: DemandModel, panel: Panel, *, days: int) -> pd.DataFrame:
    """The evaluation frame of the panel's last `days` days, each forecast from the evening before."""
    parts = []
    for back in range(days, 0, -1):
        past = panel.through(panel.dates[-1 - back])
        past = past.select(np.flatnonzero(past.present.any(axis=1)))
        model = model.refresh(past)
        day = panel.dates[-back]
        fold = Fold(past.dates[-1], day, day)
        parts.append(evaluate(model, past=past, panel=panel, fold=fold, levels=model.levels()))
    return with_quantiles(pd.concat(parts, ignore_index=True), _width(model))


def _width(model: DemandModel) -> Width:
    return Width(model.level_error, model.combination.dispersion)


def against_truth(frame: pd.DataFrame, market: Market, ledger: Ledger, model: DemandModel) -> dict[str, float]:
    """Errors of the frame's medians and of the best forecast, both on the market's own demand."""
    row = np.searchsorted(market.product_ids, frame["product_id"].to_numpy())
    day = (frame["date"].to_numpy() - market.truth.dates[0]).astype("timedelta64[D]").astype(int) - ledger.first_day
    demand = ledger.demand[day, row].astype(float)
    scored = with_quantiles(frame.assign(actual=demand, shelf=np.inf), _width(model))  # demand, not sales
    floor = evaluation.wape(demand, best_forecast(market, ledger)[day, row])
    error = evaluation.wape(demand, scored["q50"].to_numpy(float))
    return {
        "wape": error,
        "floor": floor,
        "over_floor": error / floor,
        "bias": evaluation.bias(demand, scored["forecast"].to_numpy(float)),
        "coverage_80": evaluation.coverage(scored, level=0.8),
        "coverage_95": evaluation.coverage(scored, level=0.95),
    }


def measure(seed: int) -> dict[str, Any]:
    """One market."""
    config = load_config()
    market = simulate(MarketConfig(seed=seed))
    history = market.frame()
    panel = build_panel(history, config.data)
    past = panel.through(panel.dates[-1 - DAYS])
    past = past.select(np.flatnonzero(past.present.any(axis=1)))
    calendar = holiday_calendar(past, config.data)
    tested = backtest(past, config.demand, calendar=calendar)
    model = train(past, config.demand, calendar=calendar, out_of_fold=tested.out_of_fold)
    run = roll_forward(market, random_prices(seed), days=DAYS, max_move=None)
    longer = build_panel(pd.concat([history, run.frame()], ignore_index=True), config.data)
    begin = len(market.ledger.price) - DAYS
    return {
        "seed": seed,
        KINDS[0]: against_truth(
            next_days(model, panel, days=DAYS), market, market.ledger.part(begin, begin + DAYS), model
        ),
        KINDS[1]: against_truth(next_days(model.refresh(panel), longer, days=DAYS), market, run.ledger, model),
        "backtest": {key: tested.figures[key] for key in ("wape", "wape_naive", "bias", "coverage_80", "coverage_95")},
    }


def report(markets: list[dict[str, Any]], *, seeds: str) -> str:
    """The results as a page."""
    lines = [
        "# Next-day forecasts and the noise floor",
        "",
        "Made by `python -m benchmarks.noise_floor`; figures are in `noise_floor.json` beside this page.",
        f"Default markets, {seeds} {', '.join(str(m['seed']) for m in markets)}; mean over markets, extremes in",
        "brackets. How it is measured: the command's own text.",
        "",
        "| prices | WAPE | noise floor | WAPE over floor | bias | 80 % intervals hold | 95 % intervals hold |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        cells = []
        for key, form in (
            ("wape", ".3f"),
            ("floor", ".3f"),
            ("over_floor", ".3f"),
            ("bias", "+.1%"),
            ("coverage_80", ".1%"),
            ("coverage_95", ".1%"),
        ):
            values = [market[kind][key] for market in markets]
            cells.append(f"{np.mean(values):{form}} ({min(values):{form}} to {max(values):{form}})")
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    tested = {key: np.mean([market["backtest"][key] for market in markets]) for key in markets[0]["backtest"]}
    lines += [
        "",
        f"The walk-forward backtests before that, 28 days ahead: WAPE {tested['wape']:.3f} (seasonal naive "
        f"{tested['wape_naive']:.3f}), bias {tested['bias']:+.1%}, intervals hold {tested['coverage_80']:.1%} and "
        f"{tested['coverage_95']:.1%}.",
    ]
    return "\n".join([*lines, ""])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    return run_main(_benchmark, argv)


def _benchmark(argv: Sequence[str] | None) -> int:
    options = _options(argv)
    pool = DEVELOPMENT_SEEDS if options.development else HELD_OUT_SEEDS
    seeds = "development seeds" if options.development else "held-out seeds"
    options.output.mkdir(parents=True, exist_ok=True)
    markets: list[dict[str, Any]] = []
    made = take("noise_floor.md")
    for seed in pool[options.skip :][: options.seeds]:
        markets.append(measure(seed))
        (options.output / "noise_floor.json").write_text(json.dumps(markets, indent=1) + "\n", encoding="utf-8")
        page = report(markets, seeds=seeds)
        (options.output / "noise_floor.md").write_text(page, encoding="utf-8")
        stamp(options.output / "noise_floor.md", made)
        print(f"seed {seed} done", file=sys.stderr, flush=True)
    print(page)
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = job_options("noise_floor", "Measures next-day forecasts against the noise floor.", sales=False)
    options.prog = "python -m benchmarks.noise_floor"
    options.add_argument("--seeds", type=int, default=5, help="markets")
    options.add_argument("--skip", type=int, default=0, help="seeds at the front to leave out: scored before")
    options.add_flag("--development", help="the seeds that settings are chosen on, not the held-out ones")
    options.add_argument("--output", type=Path, default=HERE, metavar="DIR", help="folder of the results")
    return options.parse(argv)


if __name__ == "__main__":
    sys.exit(main())
