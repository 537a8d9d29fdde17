"""Measure where the platform's prices end when they come back as its sales, and what they earn on the way.

python -m benchmarks.closed_loop                           prints the table of closed_loop.md
python -m benchmarks.closed_loop --seeds 1 --products 10   one shop to look at
"""

import argparse
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.table import markdown, measured
from pipelines.quiet import import_tensorflow
from pricing.config import Config, load_config
from pricing.data.anchors import Anchors
from pricing.data.panel import Panel
from pricing.demand.model import DemandModel
from pricing.runtime.cli import job_options, run_main
from tests.kit.closed_loop import OPTIONAL, Learnt, LoopResult, Shop, TrueDemand, run_nights

HISTORY, NIGHTS, LAST = 364, 60, 10
FIRST_SEED = 300
TOLERANCE = 0.005  # a price this near a limit, as a fraction of the anchor, stands at it
FOUR, COSTS = "four needed columns", "and unit_cost"
# Name → optional columns, true margin (None: drawn between 0.25 and 0.45), whether anchored, whether demand is known.
SETTINGS: dict[str, tuple[tuple[str, ...], float | None, bool, bool]] = {
    FOUR: ((), None, True, False),
    "the same, every true margin 0.25": ((), 0.25, True, False),
    "the same, every true margin 0.45": ((), 0.45, True, False),
    COSTS: (("unit_cost",), None, True, False),
    "every column": (OPTIONAL, None, True, False),
    "four needed columns, demand known exactly": ((), None, True, True),
    "four needed columns, without anchors": ((), None, False, False),
    "the same, demand known exactly": ((), None, False, True),
}


def draw_shop(*, seed: int, products: int, margin: float | None) -> Shop:
    """Elasticities around −2.5, levels with a heavy tail, sales drawn with as much noise as the simulated market's."""
    rng = np.random.default_rng(seed)
    return Shop(
        elasticity=np.clip(2.5 * np.exp(rng.normal(0, 0.25, products)), 1.2, 4.5),
        list_price=np.round(np.exp(rng.normal(2.0, 0.5, products)), 2),
        level=np.exp(rng.normal(2.0, 1.2, products)),
        margin=rng.uniform(0.25, 0.45, products) if margin is None else np.full(products, margin),
        size=10.0,
    )


def measure(name: str, config: Config, *, seed: int, products: int) -> dict[str, float]:
    """One shop in one setting: its nights in figures."""
    columns, margin, anchored, exact = SETTINGS[name]
    shop = draw_shop(seed=seed, products=products, margin=margin)

    def learn(panel: Panel, _: Anchors) -> Learnt:
        if exact:
            return TrueDemand(shop)
        from pricing.demand.training import train  # noqa: PLC0415 - imports TensorFlow

        return train(panel, config.demand)

    def refresh(demand: Learnt, panel: Panel) -> Learnt:
        return demand.refresh(panel) if isinstance(demand, DemandModel) else demand

    nights = run_nights(
        shop,
        config,
        learn=learn,
        refresh=refresh,
        columns=columns,
        history=HISTORY,
        nights=NIGHTS,
        anchored=anchored,
        seed=seed,
    )
    return figures(nights, config)


def figures(nights: LoopResult, config: Config) -> dict[str, float]:
    """What a page says of one loop."""
    relative, band = nights.relative, config.decision.guardrails.band
    answers = [decision for night in nights.decisions for decision in night]
    last = relative[-1]
    return {
        "lowest": relative.min(),
        "highest": relative.max(),
        "outside": np.mean((relative < band[0] - TOLERANCE) | (relative > band[1] + TOLERANCE)),
        "at_limit": np.mean((last < band[0] + TOLERANCE) | (last > band[1] - TOLERANCE)),
        "moved_last": float(np.median(nights.moved(last=LAST))),
        "profit": nights.earned.sum() / nights.held.sum(),
        "worst_product": nights.against_holding.min(),
        "losing": np.mean(nights.against_holding < 0.98),
        "by_model": np.mean([answer.source == "model" for answer in answers]),
    }


def table(results: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """A row a setting: means over shops, extremes over nights and shops."""
    rows = []
    for name, shops in results.items():
        mean = {key: float(np.mean([shop[key] for shop in shops])) for key in shops[0]}
        lowest, highest = min(shop["lowest"] for shop in shops), max(shop["highest"] for shop in shops)
        rows.append(
            [
                *(name, f"{lowest:.2f}", f"{highest:.2f}", f"{mean['outside']:.0%}", f"{mean['at_limit']:.0%}"),
                *(f"{mean['moved_last']:.1%}", f"{mean['profit']:.3f}"),
                *(f"{min(shop['worst_product'] for shop in shops):.2f}", f"{mean['losing']:.0%}"),
                f"{mean['by_model']:.0%}",
            ]
        )
    head = ["sales have", "lowest", "highest", "outside the band", "at its ends, last night"]
    head += [f"median move of the last {LAST} nights", "profit", "worst product", "products that lose", "by model"]
    return markdown(head, rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    return run_main(_benchmark, argv)


def _benchmark(argv: Sequence[str] | None) -> int:
    options = _options(argv)
    config = load_config(options.config)
    import_tensorflow()
    results: dict[str, list[dict[str, float]]] = {name: [] for name in SETTINGS if name in options.settings}
    for name, rows in results.items():
        for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
            rows.append(measure(name, config, seed=seed, products=options.products))
            print(f"{name}, shop {seed} done", file=sys.stderr, flush=True)
    print(f"{measured()}\n{table(results)}")
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = job_options("closed_loop", "Prices a shop that nobody else prices, for sixty nights.", sales=False)
    options.prog = "python -m benchmarks.closed_loop"
    options.add_argument("--seeds", type=int, default=3, help="shops")
    options.add_argument("--products", type=int, default=30, help="products of a shop")
    options.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS), help="which columns")
    return options.parse(argv)


if __name__ == "__main__":
    sys.exit(main())
