"""A shop in partitions: two nights, whose versions and prices do not depend on who worked on them, or died doing so."""

import gzip
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from etl.partition import partition
from pipelines.steps import parts
from pipelines.steps.parts import Work, fit_part, partitioned_as, refresh_part
from pipelines.steps.pricing import Pricing, price_part, price_place
from pricing.config import load_config
from pricing.config_models import ScaleConfig
from pricing.data.etl_output import sample_of
from pricing.data.load import load_panel_from
from pricing.decision.request import PriceRequest
from pricing.decision.switches import NO_CONTROL
from pricing.errors import RegistryError
from pricing.objects import ObjectStore, open_store
from pricing.registry import files
from pricing.registry.version import LoadedVersion, load
from pricing.runtime.workers import map_partitions
from simulation.config import MarketConfig
from simulation.market import simulate
from tests.kit.mlflow_jobs import JobFolder, place, write_config

pytestmark = pytest.mark.slow
COUNT, DAYS = 3, 130  # partitions; days of the history before the second night


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> JobFolder:
    """After two nights: version 1 trained on the history, version 2 refreshed by 35 days of which two are new."""
    here = place(tmp_path_factory.mktemp("shop"), template=empty_store)
    settings = write_config(here.folder / "shop.yaml", auto_promote=True)
    given = yaml.safe_load(settings.read_text())
    settings.write_text(yaml.safe_dump({**given, "scale": {"series": 14, "sample": 20}}))
    frame = simulate(MarketConfig(products=42, days=DAYS + 2, categories=3, seed=4)).frame()
    day = pd.to_datetime(frame["date"])
    last = day.min() + pd.Timedelta(days=DAYS - 1)
    nights = {"history": frame[day <= last], "newest": frame[day > last - pd.Timedelta(days=33)]}
    for name, rows in nights.items():
        rows.to_parquet(here.folder / f"{name}.parquet")
        options = ["--sales", str(here.folder / f"{name}.parquet"), "--output", str(here.folder / name)]
        assert here.run("partition", *options, "--count", str(COUNT), "--config", str(settings)).returncode == 0
        given = ["--sales", str(here.folder / name), "--config", str(settings)]
        jobs = {"history": (["train", *given], ["promote", *given[2:]]), "newest": (["nightly", *given],)}[name]
        for job in jobs:
            done = here.run(*job)
            assert done.returncode == 0, done.stdout + done.stderr
    return here


def version_of(shop: JobFolder, number: str) -> Path:
    """The folder of a registered version."""
    source = shop.client.get_model_version_download_uri("pricing", number)
    return Path(source.removeprefix("file://")) / "artifacts" / "version"


@pytest.fixture
def work(shop: JobFolder, monkeypatch: pytest.MonkeyPatch) -> Work:
    """The refresh of the second night, to be done again."""
    for name, value in shop.environment().items():
        monkeypatch.setenv(name, value)
    config, version = load_config(str(shop.folder / "shop.yaml")), load(version_of(shop, "1"))
    newest = load_panel_from(sample_of(str(shop.folder / "newest")), config.data, past=version.learner.encoded.tail)
    known = {"number": "1", "checksums": version.meta["files"]}
    return Work(str(shop.folder / "newest"), config, "", None, version.anchors, newest.events, **known)


def test_a_night_registers_one_version_of_all_partitions(shop: JobFolder) -> None:
    first, second = (load(version_of(shop, number)) for number in "12")
    history = pd.read_parquet(shop.folder / "history.parquet")

    assert first.partitions == second.partitions == COUNT
    assert first.demand.product_ids.tolist() == sorted(history["product_id"].unique())
    assert (second.facts.state_date - first.facts.state_date) == np.timedelta64(2, "D")
    assert set(second.demand.product_ids) >= set(first.demand.product_ids)
    assert shop.aliases()["champion"] == "2"
    assert not list((shop.home / "published" / "pricing").rglob("parts/*"))  # nothing is left, and serving gets none
    second.verify()


def undiverted(version: LoadedVersion) -> LoadedVersion:
    """The version with no sales lost to the category's other products, of which a partition has not all."""
    return replace(version, demand=replace(version.demand, diversion=np.zeros_like(version.demand.diversion)))


def test_a_product_is_priced_as_by_the_version_of_its_own_partition(shop: JobFolder, tmp_path: Path) -> None:
    whole = load(version_of(shop, "2"))
    today = whole.demand.state_date
    for number in range(COUNT):
        part = load(files.untar((whole.folder / files.part_name(number)).read_bytes(), tmp_path / f"{number}"))
        requests = [PriceRequest(product_id=each, day_of_week="Friday") for each in part.demand.product_ids.tolist()]
        own, united = (undiverted(each).pricer(version="x").price(requests, today=today) for each in (part, whole))
        ignored = {"decision_id": "", "reasons": []}
        assert [one.model_copy(update=ignored) for one in own] == [one.model_copy(update=ignored) for one in united]


def test_prices_lie_in_files_and_what_changes_apart(shop: JobFolder) -> None:
    (day,) = (shop.home / "prices" / "pricing").glob("day=*/*")
    prices = pd.concat([pd.read_parquet(path) for path in sorted(day.glob("part=*"))])
    changed = pd.concat([pd.read_parquet(path) for path in sorted((day / "changed").glob("part=*"))])

    moved = (prices["recommended_price"] - prices["current_price"]).abs() > 0.005
    assert prices["product_id"].is_unique
    assert len(prices) > 25
    assert set(changed["product_id"]) == set(prices["product_id"][moved | prices["current_price"].isna()])
    (table,) = (shop.home / "published" / "pricing" / "prices").iterdir()
    assert gzip.decompress(table.read_bytes()).decode() == changed.to_csv(index=False)


@pytest.mark.parametrize("workers", [2, *(pytest.param(each, marks=pytest.mark.weekly) for each in (1, 8))])
def test_the_same_bits_come_from_any_number_of_workers(work: Work, workers: int) -> None:
    scales = [ScaleConfig(scheduler=name, workers=workers, series=14, sample=20) for name in ("none", "local")]
    found = []
    for place_, scale in zip(("a/parts/", f"b{workers}/parts/"), scales, strict=True):
        made = replace(work, prefix=place_)
        map_partitions(refresh_part, made, range(COUNT), scale=scale)
        found.append([parts.results().get(f"{place_}{number:05}.tar") for number in range(COUNT)])

    assert found[0] == found[1]
    assert None not in found[0]


def dies_once(given: tuple[Callable[[Any, int], object], Any], number: int) -> None:
    """Work whose worker is killed on partition 1 once, after the result was made."""
    part, shared = given
    part(shared, number)
    marker = Path(os.environ["PRICING_HOME"]) / part.__name__
    if number == 1 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def results(store: ObjectStore, prefix: str) -> dict[str, object]:
    """What work made, but for the ids of decisions, which are random."""
    found = {key: store.get(key) or b"" for key in store.keys(prefix) if "/part" in key and "sample" not in key}
    tables = {key: pd.read_parquet(BytesIO(found[key])) for key in found if key.endswith("parquet")}
    return found | {key: table.drop(columns="decision_id").to_csv() for key, table in tables.items()}


@pytest.mark.parametrize("part", [fit_part, refresh_part, price_part])
def test_a_killed_worker_costs_its_partition_only(
    shop: JobFolder, work: Work, part: Callable[[Any, int], object]
) -> None:
    shared: Any = replace(work, prefix=f"{part.__name__}/parts/")
    store, prefix = parts.results(), shared.prefix
    if part is fit_part:
        shared = replace(shared, sales=str(shop.folder / "history"))
        store.put(prefix + parts.SAMPLE, files.tar(version_of(shop, "1")))
    if part is price_part:
        version = load(version_of(shop, "2"))
        day = version.demand.state_date
        plans = (version.facts.promotions, version.facts.planned_deliveries)
        given = (version.folder, "2", str(version.meta["checksum"]), work.config, version.config, plans, NO_CONTROL)
        shared = Pricing(*given, day, day, applied=False)
        store, prefix = open_store(price_place()), shared.prefix

    scale = ScaleConfig(scheduler="local", workers=1, series=14, sample=20)
    map_partitions(dies_once, (part, shared), range(COUNT), scale=scale)

    assert Path(os.environ["PRICING_HOME"], part.__name__).exists()
    killed = results(store, prefix)
    store.delete(list(killed))
    map_partitions(part, shared, range(COUNT), scale=work.config.scale)
    assert results(store, prefix) == killed
    assert len(killed) == COUNT * (2 if part is price_part else 1)


@pytest.mark.weekly
@pytest.mark.filterwarnings("ignore")  # what Dask's own sockets leave at its end
def test_workers_elsewhere_make_the_same_bits(shop: JobFolder, work: Work) -> None:
    from distributed import LocalCluster  # noqa: PLC0415 - takes a second

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:
        scale = work.config.scale.model_copy(update={"scheduler": cluster.scheduler_address})
        far = replace(work, prefix="f/parts/")
        map_partitions(refresh_part, far, range(COUNT), scale=scale)

    carried = load(version_of(shop, "2"))
    for number in range(COUNT):
        there = parts.results().get(f"f/parts/{number:05}.tar")
        assert there == (carried.folder / f"parts/{number:05}.tar").read_bytes()


def test_a_training_that_was_cut_off_goes_on_where_it_was(shop: JobFolder, work: Work) -> None:
    """Two of three partitions are there: the third is made, the others are not touched."""
    sales = replace(work, sales=str(shop.folder / "history"), prefix="e/parts/")
    first = load(version_of(shop, "1"))
    parts.results().put(sales.prefix + parts.SAMPLE, files.tar(first.folder))
    fit_part(sales, 0)
    parts.results().put(sales.prefix + "00001.tar", b"there already")

    map_partitions(fit_part, sales, range(COUNT), scale=work.config.scale)

    assert parts.results().get(sales.prefix + "00001.tar") == b"there already"
    made = [parts.results().get(f"{sales.prefix}{number:05}.tar") for number in (0, 2)]
    assert made == [(first.folder / f"parts/{number:05}.tar").read_bytes() for number in (0, 2)]


@pytest.mark.parametrize("count", [0, 2])
def test_a_version_of_partitions_is_carried_by_its_own_alone(shop: JobFolder, tmp_path: Path, count: int) -> None:
    newest = shop.folder / "newest.parquet"
    if count:
        partition(str(newest), str(tmp_path / "other"), scale=load_config().scale, count=count)

    with pytest.raises(RegistryError):
        partitioned_as(load(version_of(shop, "1")), str(tmp_path / "other" if count else newest))
