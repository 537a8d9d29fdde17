"""How long the registry's jobs take: `python -m benchmarks.registry --products 100 10000`.

Each job runs as a process of its own would, start-up apart, on a store of its own (SQLite, local files). The model has
the configured network's shapes with random weights: what is timed does not depend on how well it forecasts.
"""

import argparse
import contextlib
import io
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import mlflow

from benchmarks.provenance import reminder
from pipelines import promote, refresh, rollback
from pricing.config import load_config
from pricing.data.anchors import Anchors
from pricing.data.build import build_panel
from pricing.data.panel import save_panel
from pricing.decision.product_facts import ProductFacts
from pricing.demand.state import span
from pricing.registry.mlflow_registry import Registry
from pricing.registry.version import Origin, pack
from simulation.market import MarketConfig, simulate
from tests.kit.versions import make_demand

GOOD = {"wape": 0.4, "wape_baseline": 0.5, "bias": 0.0, "coverage_80": 0.8, "coverage_95": 0.95}


def timed(job: Callable[[Sequence[str]], int], *options: str) -> str:
    """Seconds of one job, and of the processor; its own words are kept back unless it fails."""
    said = io.StringIO()
    started = clocks()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = job(options)
    if code != 0:
        raise SystemExit(f"{job.__module__} {' '.join(options)} ended with {code}:\n{said.getvalue()}")
    return since(started)


def clocks() -> tuple[float, float]:
    """Now, by the wall and by this process's processor time."""
    return time.perf_counter(), time.process_time()


def since(started: tuple[float, float]) -> str:
    """What has passed on both clocks."""
    return " / ".join(f"{now - before:.2f}" for now, before in zip(clocks(), started, strict=True))


def measure(products: int, *, days: int, folder: Path) -> dict[str, str]:
    """What each job takes at one size."""
    config = load_config()
    whole = build_panel(simulate(MarketConfig(products=products, days=days, seed=1)).frame(), config.data)
    before = whole.through(whole.dates[-2])
    store = f"sqlite:///{folder / 'mlflow.db'}"
    os.environ.update(MLFLOW_TRACKING_URI=store, PRICING_HOME=str(folder / "home"))
    os.environ.pop("PRICING_DATABASE_URL", None)
    os.chdir(folder)
    mlflow.set_tracking_uri(store)
    mlflow.set_experiment("pricing")
    registry = Registry(config.registry.model_name, uri=store)
    seconds: dict[str, str] = {}

    def register(seed: int) -> None:
        model = make_demand(before, seed=seed, units=config.demand.units)
        share = {"folds": [], "by_volume": {}, "elasticity": {"share_sane": 1.0}, "data": {"fingerprint": "same"}}
        started = clocks()
        version = pack(
            folder / f"v{seed}" / "version",
            demand=model,
            facts=ProductFacts.from_panel(before),
            config=config,
            backtest={**GOOD, **share},
            origin=Origin(kind="train", data={}),
            holds_only=False,
            anchors=Anchors.from_panel(before),
        )
        seconds["pack"] = since(started)
        started = clocks()
        with mlflow.start_run():
            registry.set_alias("challenger", registry.log_version(version.folder))
        seconds["log and register"] = since(started)
        size = sum(path.stat().st_size for path in version.folder.rglob("*") if path.is_file())
        seconds["size of the version, MB"] = f"{size / 1e6:.1f}"

    register(1)
    seconds["promote, the first"] = timed(promote.main)
    register(2)
    seconds["promote, against a champion"] = timed(promote.main)
    save_panel(whole, folder / "whole")
    save_panel(span(whole, days - 1, days), folder / "new")
    seconds["refresh by a day, new rows"] = timed(refresh.main, "--sales", str(folder / "new"))
    seconds["refresh by a day, whole history"] = timed(refresh.main, "--sales", str(folder / "whole"))
    seconds["rollback"] = timed(rollback.main)
    return seconds


def main() -> None:
    """Prints one row a job and one column a size."""
    parser = argparse.ArgumentParser("python -m benchmarks.registry", description=__doc__)
    parser.add_argument("--products", type=int, nargs="+", default=[100, 10_000])
    parser.add_argument("--days", type=int, default=730)
    options = parser.parse_args()
    columns = []
    home = Path.cwd()
    for products in options.products:
        with tempfile.TemporaryDirectory(prefix="pricing-") as folder:
            columns.append(measure(products, days=options.days, folder=Path(folder)))
            os.chdir(home)
    print(
        "| seconds: wall / processor | " + " | ".join(f"{products:,} products" for products in options.products) + " |"
    )
    print("|---|" + "---|" * len(columns))
    for name in columns[0]:
        print(f"| {name} | " + " | ".join(column[name] for column in columns) + " |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e3 if sys.platform == "linux" else 1e6)
    print(f"\npeak memory of the whole benchmark: {peak:,.0f} MB")
    print(reminder("registry.md"))


if __name__ == "__main__":
    main()
