"""Measure fitting, refreshing, pricing and serving sales in partitions, up to a million series.

python -m benchmarks.scale FOLDER --fit 10000 30000 100000 --shop 100000 1000000     prints the rows of scale.md

Simulated product-stores × 400 days, 5,000 a partition and a market of its own, written one after another: no process
ever holds all. `fit`: the elasticities, scales and states of every product by the networks of a sample of 2,000; the
sample's training is told apart, since it does not grow. `shop`: a shop of so many series, whose partitions are copies
of one fitted partition under other ids, is refreshed by the 34 newest days, one of them new, and priced. All on two
worker processes of Dask on this machine.
"""

import argparse
import datetime as dt
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import psutil

from benchmarks.table import markdown, measured
from pipelines.steps import parts
from pipelines.steps.parts import Work
from pipelines.steps.pricing import Pricing, price_parts
from pricing.config import Config, load_config
from pricing.data.anchors import Anchors
from pricing.data.etl_output import MANIFEST, Partitions, sample_of
from pricing.data.load import load_panel_from
from pricing.decision.product_facts import ProductFacts
from pricing.decision.switches import NO_CONTROL
from pricing.demand.adoption import adopt
from pricing.demand.backtest import evaluate
from pricing.demand.folds import Fold
from pricing.registry import files
from pricing.registry.mlflow_registry import Registry
from pricing.registry.union import unite_facts
from pricing.registry.version import LoadedVersion, Origin, load, pack
from simulation.config import MarketConfig
from simulation.market import simulate

DAYS, SERIES, SAMPLE, SEED = 400, 5000, 2000, 50
SERVE = """
import sys, time
begun = time.perf_counter()
from pricing.decision.request import PriceRequest
from pricing.registry.union import unite_facts
from pricing.registry.version import load
version = load(sys.argv[1])
version.verify()
pricer, ids = version.pricer(version="1"), version.demand.product_ids
pricer.price([PriceRequest(product_id=str(ids[len(ids) // 2]), day_of_week="Friday")], today=version.demand.state_date)
ready = time.perf_counter() - begun
found = dict(line.split()[:2] for line in open("/proc/self/smaps_rollup").read().splitlines()[1:])
print(ready, (int(found["Private_Dirty:"]) + int(found["Private_Clean:"])) / 1e6, int(found["Private_Dirty:"]) / 1e6)
"""


def write(folder: Path, series: int) -> Partitions:
    """Writes a history and its newest days in partitions, one market after another."""
    count = max(series // SERIES, 1)
    rows, last = 0, pd.Timestamp(0)
    for number in range(count):
        size = min(series, SERIES)
        market = MarketConfig(products=size, categories=20, days=DAYS + 3, seed=SEED + number)
        frame = simulate(market).frame()
        frame["product_id"] = f"{number:03}-" + frame["product_id"]
        day = pd.to_datetime(frame["date"])
        last = day.min() + pd.Timedelta(days=DAYS - 1)
        drawn = sorted(frame["product_id"].unique(), key=lambda name: hashlib.md5(name.encode()).digest())
        chosen = frame["product_id"].isin(drawn[: SAMPLE // count])
        ago = (day - last).dt.days
        for name, of in (("history", ago <= 0), ("newest", (ago <= 1) & (ago > -33))):
            for place, kept in ((f"part={number}", of), ("_sample", of & chosen)):
                (folder / name / place).mkdir(parents=True, exist_ok=True)
                frame[kept].to_parquet(folder / name / place / f"{number}.parquet", index=False)
        rows += int((ago <= 0).sum())
    made = Partitions(made=f"{series}", count=count, series=series, rows=rows, last=last.date())
    for name in ("history", "newest"):
        (folder / name / MANIFEST).write_text(made.model_dump_json())
    return made


@contextmanager
def timed(found: dict[str, Any], name: str) -> Iterator[None]:
    """Adds the seconds of a block, and the most memory that a worker held in it, GB."""
    own, most, ended = psutil.Process(), [0.0], threading.Event()

    def look() -> None:
        while not ended.wait(0.5):
            with suppress(psutil.Error):
                held = [each.memory_info().rss / 1e9 for each in own.children(recursive=True)]
                most[0] = max([most[0], *held])

    watch = threading.Thread(target=look)
    watch.start()
    begun = time.perf_counter()
    yield
    found[name], found[f"{name}_gb"] = time.perf_counter() - begun, most[0]
    ended.set()
    watch.join()
    print(f"  {name}: {found[name]:.1f} s, {most[0]:.2f} GB a worker", file=sys.stderr, flush=True)


def fitted(folder: Path, made: Partitions, config: Config) -> tuple[LoadedVersion, dict[str, Any]]:
    """Trains on the sample, fits every partition, unites them and packs the version."""
    from pricing.demand.training import train  # noqa: PLC0415 - imports TensorFlow

    found: dict[str, Any] = {"series": made.series}
    sales = str(folder / "history")
    with timed(found, "sample"):
        panel = load_panel_from(sample_of(sales), config.data)
        anchors = Anchors.from_panel(panel)
        sample = pack(
            folder / "sample",
            demand=train(panel, config.demand),
            facts=ProductFacts.from_panel(panel, anchors=anchors),
            config=config,
            backtest={"data": {}},
            origin=Origin("train", {}),
            anchors=anchors,
            holds_only=False,
        )
    work = Work(sales, config, f"scale/parts/{made.series}/", None, anchors, panel.events)
    (folder / "parts").mkdir()
    with timed(found, "fit"):
        version = parts.spread(sample, work, made, folder=folder / "parts" / "version")
    return version, found


def agreement(folder: Path, config: Config) -> list[dict[str, Any]]:
    """Scores the last four weeks of a history by networks of the sample and by those of one fit of everything."""
    from pricing.demand.training import train  # noqa: PLC0415 - imports TensorFlow

    panel = load_panel_from(str(folder / "history"), config.data)
    drawn = np.isin(panel.product_ids, load_panel_from(sample_of(str(folder / "history")), config.data).product_ids)
    fold = Fold(panel.dates[-29], panel.dates[-28], panel.dates[-1])
    past = panel.through(fold.cutoff)
    sample = train(past.select(np.flatnonzero(drawn)), config.demand)
    halves = [past.select(half) for half in np.array_split(np.arange(len(drawn)), 2)]
    adopted = [adopt(half, config.demand, like=sample) for half in halves]
    whole = train(past, config.demand)
    logs = [np.log(-np.concatenate([one.norms.elasticity for one in models])) for models in (adopted, [whole])]
    print(f"correlation {np.corrcoef(logs)[0, 1]:.4f}, sd of the difference {np.std(logs[0] - logs[1]):.4f}, of logs")
    frames = {
        "networks of the sample": pd.concat(
            [evaluate(model, past=half, panel=panel, fold=fold) for model, half in zip(adopted, halves, strict=True)]
        ),
        "one fit of everything": evaluate(whole, past=past, panel=panel, fold=fold),
    }
    found = []
    for name, frame in frames.items():
        for whose, rows in (("all", frame), ("the sample", frame[frame["product_id"].isin(sample.product_ids)])):
            kept = rows[~rows["censored"].astype(bool)]
            inside = (kept["actual"] >= kept["q10"]) & (kept["actual"] <= kept["q90"])
            wape = float((kept["actual"] - kept["q50"]).abs().sum() / kept["actual"].sum())
            found.append({"forecasts by": name, "of": whose, "WAPE": wape, "80 % hold": float(inside.mean())})
    return found


def copied(version: LoadedVersion, folder: Path, *, series: int, newest: Path) -> tuple[LoadedVersion, Partitions]:
    """A shop of copies of a version's first partition under other ids, with its newest sales."""
    one = load(files.untar((version.folder / files.part_name(0)).read_bytes(), folder / "one"))
    content = files.read(one.folder, parts=("table", "products", "anchors", "backtest", "config", *files.LEARNT))
    header = {name: value for name, value in one.meta.items() if name not in ("files", "checksum")}
    count, size = series // len(one.demand.product_ids), len(one.demand.product_ids)
    rows = pd.read_parquet(newest / "part=0")
    loaded = []
    for number in range(count):
        arrays = {
            name: np.char.add(f"{number:03}/", array) if name.endswith(("product_ids", "parent_ids")) else array
            for name, array in content.arrays.items()
        }
        place = folder / "copies" / f"{number:05}"
        files.write(place, files.Files(content.documents, arrays), header=header)
        place.with_suffix(".tar").write_bytes(files.tar(place))
        loaded.append(load(place, mapped=False))
        (folder / "newest" / f"part={number}").mkdir(parents=True)
        rows.assign(product_id=f"{number:03}/" + rows["product_id"]).to_parquet(
            folder / "newest" / f"part={number}" / "0.parquet", index=False
        )
    shutil.copytree(newest / "_sample", folder / "newest" / "_sample")
    facts = unite_facts([each.whole_facts() for each in loaded])
    first, *others = (each.anchors for each in loaded)
    shop = pack(
        folder / "version",
        demand=version.learner,
        facts=facts,
        config=version.config,
        backtest={},
        origin=Origin("train", {}, parts=tuple(loaded)),
        anchors=first.joined(*others),
        holds_only=False,
    )
    shutil.rmtree(folder / "copies")
    made = Partitions(made=f"shop-{series}", count=count, series=count * size, rows=0, last=dt.date(2024, 1, 1))
    (folder / "newest" / MANIFEST).write_text(made.model_dump_json())
    return shop, made


def night(shop: LoadedVersion, made: Partitions, folder: Path, config: Config) -> dict[str, Any]:
    """Refreshes and prices a shop, and starts what a serving task starts."""
    found: dict[str, Any] = {"series": made.series}
    sales = str(folder / "newest")
    full = config.model_copy(update=dict(shop.config))
    registry = Registry(full.registry.model_name, uri=mlflow.get_tracking_uri())
    number, listed = registry.log_version(shop.folder), shop.meta["files"]
    given = {"number": number, "checksums": listed}
    scratch = folder / "refreshed"
    scratch.mkdir()
    with timed(found, "refresh"):
        panel = load_panel_from(sample_of(sales), shop.config.data, past=shop.learner.encoded.tail)
        work = Work(sales, full, f"scale/parts/{made.made}/", None, shop.anchors, panel.events, **given)
        carried = parts.refresh_parts(shop, panel, made, work=work, facts=shop.whole_facts(), scratch=scratch)
        origin = Origin("refresh", {}, parent="1", parts=carried.parts)
        newer = pack(
            folder / "next" / "version",
            demand=carried.demand,
            facts=carried.facts,
            config=shop.config,
            backtest={},
            origin=origin,
            anchors=carried.anchors,
            holds_only=False,
        )
        registry.log_version(newer.folder)
    shutil.rmtree(scratch)
    day = newer.demand.state_date + dt.timedelta(days=1)
    plans = (newer.facts.promotions, newer.facts.planned_deliveries)
    pricing = Pricing(
        folder=newer.folder,
        name="1",
        checksum=str(newer.meta["checksum"]),
        settings=config,
        served=shop.config,
        plans=plans,
        control=NO_CONTROL,
        today=day,
        day=day,
        applied=False,
    )
    with timed(found, "price"):
        prices, _ = price_parts(pricing, len(newer.facts.product_ids))
    found["priced"], found["own_gb"] = len(prices), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    served = folder / "served"
    for name in (*files.served(newer.meta), files.HEADER):
        (served / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(newer.folder / name, served / name)
    command = [sys.executable, "-c", SERVE, str(served)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True, check=True)
    found["ready"], found["private_gb"], found["dirty_gb"] = map(float, done.stdout.split())
    return found


def table(found: list[dict[str, Any]]) -> str:
    """A row of each dictionary."""
    head = list(found[0])
    rows = [[f"{one[name]:.4g}" if isinstance(one[name], float) else f"{one[name]}" for name in head] for one in found]
    return markdown(head, rows)


def main() -> int:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fit", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--shop", type=int, nargs="*", default=[100_000, 1_000_000])
    chosen = parser.parse_args()
    folder: Path = chosen.folder.resolve()
    os.environ["PRICING_HOME"] = str(folder / "home")
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
    os.chdir(folder)  # where MLflow keeps what is logged
    config = load_config()
    scale = config.scale.model_copy(update={"scheduler": "local", "workers": 2, "series": SERIES})
    config = config.model_copy(update={"scale": scale})
    print(measured())
    with mlflow.start_run():
        for series in chosen.fit:
            place = folder / f"fit-{series}"
            version, found = fitted(place, write(place, series), config)
            print(table([found]), flush=True)
            if series == chosen.fit[0]:
                print(table(agreement(place, config)), flush=True)
                for many in chosen.shop:
                    there = folder / f"shop-{many}"
                    there.mkdir()
                    shop, made = copied(version, there, series=many, newest=place / "newest")
                    print(table([night(shop, made, there, config)]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
