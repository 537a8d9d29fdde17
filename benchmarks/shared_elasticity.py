"""How far elasticities are from the truth where a product's stores share one: estimated together, and each alone.

python -m benchmarks.shared_elasticity          writes shared_elasticity.json and shared_elasticity.md

Per chain, drawn with known elasticities (`tests/kit/stores.py`): sales after price changes are regressed on the price
residuals and shrunk towards categories, three times. Alone: every store as a product of its own. As if independent: the
stores' estimates averaged by precision. Shared: one coefficient a product and clusters of product and fortnight, as
`parent_id` has it. All three see the same chains. What the networks do before that is not part of it: forecasts are
right but for a level error and the shocks.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from benchmarks.provenance import stamp, take
from pricing.demand.elasticity_estimation import Estimates
from pricing.runtime.cli import job_options, run_main
from tests.kit.stores import Chain, ChainConfig, as_if_independent, draw_chain, estimate, posterior

HERE = Path(__file__).parent
FIRST_SEED = 5000  # apart from the seeds of the tests
Z = NormalDist().inv_cdf(0.9)
SHOCK = 0.15
CHAINS = {
    "prices and shocks of each store's own": ChainConfig(),
    "shocks common to a product's stores": ChainConfig(common_shock=SHOCK),
    "prices common": ChainConfig(common_prices=True),
    "prices and shocks common": ChainConfig(common_prices=True, common_shock=SHOCK),
    "the same, 40 stores": ChainConfig(common_prices=True, common_shock=SHOCK, stores=40),
    "the same, 10 fortnights": ChainConfig(common_prices=True, common_shock=SHOCK, fortnights=10),
    "stores' elasticities differ by 0.2": ChainConfig(differ=0.2),
    "stores' elasticities differ by 0.4": ChainConfig(differ=0.4),
}
WAYS = ("alone", "as if independent", "shared")


def measure(config: ChainConfig, *, seeds: range) -> dict[str, dict[str, float]]:
    """Figures of each way, means over the chains."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for seed in seeds:
        chain = draw_chain(config, seed=seed)
        alone = estimate(chain, shared=False)
        estimates = alone, as_if_independent(chain, alone), estimate(chain, shared=True)
        for way, known in zip(WAYS, estimates, strict=True):
            found[way].append(_figures(chain, known))
    return {
        way: {name: float(np.mean([each[name] for each in all_])) for name in all_[0]} for way, all_ in found.items()
    }


def _figures(chain: Chain, known: Estimates) -> dict[str, float]:
    """Errors and coverage against the products' elasticities, and errors against the stores' own."""
    shrunk = posterior(chain, known)
    of = np.arange(len(chain.parent)) if len(known.value) == len(chain.parent) else chain.parent
    truth = chain.elasticity[chain.parent]
    error, raw = np.abs(shrunk.mean[of] - truth), np.abs(known.value[of] - truth)
    return {
        "error_before": float(raw.mean()),
        "error": float(error.mean()),
        "error_of_store": float(np.abs(shrunk.mean[of] - chain.of_series).mean()),
        "coverage_before": float((raw <= Z * np.hypot(known.error, known.doubt)[of]).mean()),
        "coverage": float((error <= Z * shrunk.sd[of]).mean()),
        "sd": float(shrunk.sd[of].mean()),
    }


def report(results: dict[str, dict[str, dict[str, float]]], *, seeds: int) -> str:
    """The results as a page."""
    base = ChainConfig()
    lines = [
        "# One elasticity for all stores of a product",
        "",
        "Made by `python -m benchmarks.shared_elasticity`; figures are in `shared_elasticity.json` beside this page.",
        f"{seeds} chains a row, unless said otherwise {base.products} products in {base.stores} stores over "
        f"{base.fortnights} fortnights;",
        "how it is measured: the command's own text. Errors are mean absolute ones, against the product's true",
        "elasticity, and once against the store's own.",
        "",
        "| chain | estimated | error before shrinkage | error | of the store's own | 80 % intervals hold | before "
        "shrinkage | posterior sd |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for chain, ways in results.items():
        for way, figures in ways.items():
            lines.append(
                f"| {chain} | {way} | {figures['error_before']:.2f} | {figures['error']:.2f} | "
                f"{figures['error_of_store']:.2f} | {figures['coverage']:.0%} | {figures['coverage_before']:.0%} | "
                f"{figures['sd']:.2f} |"
            )
    return "\n".join([*lines, ""])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    return run_main(_benchmark, argv)


def _benchmark(argv: Sequence[str] | None) -> int:
    options = _options(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    made = take("shared_elasticity.md")
    results: dict[str, Any] = {}
    for name, config in CHAINS.items():
        results[name] = measure(config, seeds=range(FIRST_SEED, FIRST_SEED + options.seeds))
        print(f"{name}: done", file=sys.stderr, flush=True)
    page = report(results, seeds=options.seeds)
    (options.output / "shared_elasticity.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (options.output / "shared_elasticity.md").write_text(page, encoding="utf-8")
    stamp(options.output / "shared_elasticity.md", made)
    print(page)
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = job_options("shared_elasticity", "Compares shared elasticities with the stores' own.", sales=False)
    options.prog = "python -m benchmarks.shared_elasticity"
    options.add_argument("--seeds", type=int, default=100, help="chains of each kind")
    options.add_argument("--output", type=Path, default=HERE, metavar="DIR", help="folder of the results")
    return options.parse(argv)


if __name__ == "__main__":
    sys.exit(main())
