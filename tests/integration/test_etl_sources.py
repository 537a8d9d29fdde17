"""etl over a shop's own tables: real PostgreSQL and a real HTTP API, from the command line."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from pipelines import nightly
from pipelines.commands import only_one
from pipelines.demo_feed import DatabaseFeed
from pipelines.etl import main
from pricing.config import load_config
from pricing.data.manifest import read_manifest, read_rows
from pricing.data.panel import load_panel
from simulation.market import MarketConfig, simulate
from tests.kit.shop import Shop

ROOT = Path(__file__).parents[2]
MARKET = MarketConfig(products=6, days=120)
KEYS = ["product_id", "date"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"  # making one takes seconds


@pytest.fixture(autouse=True)
def own_place(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("PRICING_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def feed() -> Iterator[DatabaseFeed]:
    with DatabaseFeed.started(MARKET, holdout=20) as running:
        running.record_first()
        yield running


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path, products=3)
    made.trade(25)
    return made


def etl(shop: Shop, *words: str) -> int:
    return main(["--sales", "sources", "--config", str(shop.path), *words])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_shops_tables_and_a_competitors_api_become_the_rows_that_they_were_made_from(
    feed: DatabaseFeed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in feed.variables.items():
        monkeypatch.setenv(name, value)
    config = tmp_path / "database.yaml"
    config.write_text(feed.with_port((ROOT / "config" / "database.yaml").read_text()))
    words = ["--sales", "sources", "--config", str(config)]

    first = main(words)
    held = len(read_rows(tmp_path / "home" / "sources"))
    feed.go_on(20)
    then = main(words)

    assert (first, then) == (0, 0)
    found = read_rows(tmp_path / "home" / "sources").sort_values(KEYS, ignore_index=True)
    made = simulate(MARKET).frame().sort_values(KEYS, ignore_index=True)
    seen = made["comp_price"].notna()
    made["comp_price"] = made.groupby("product_id")["comp_price"].ffill()  # the last one seen counts on
    assert held < len(found) == len(made)
    for name in ("units_sold", "price", "list_price", "unit_cost", "stock", "comp_price"):
        np.testing.assert_allclose(found[name], made[name], rtol=1e-6, equal_nan=True, err_msg=name)
    assert found["category"].tolist() == made["category"].tolist()
    assert (found["comp_price_age"] == 0).tolist() == seen.tolist()  # a price that was not seen that day has an age


def test_panel_run_and_manifest_name_each_other(shop: Shop, tmp_path: Path) -> None:
    assert etl(shop) == 0

    manifest = read_manifest(tmp_path / "home" / "sources")
    run = mlflow.get_run(manifest.run_id)
    assert load_panel(tmp_path / "home" / "panel").lineage == {"manifest": manifest.id, "etl_run_id": manifest.run_id}
    assert run.data.tags["manifest"] == manifest.id
    assert run.inputs.dataset_inputs[0].dataset.digest


def test_a_dry_run_tells_what_would_change_and_leaves_no_trace(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert etl(shop) == 0
    before = files(tmp_path / "home")
    shop.trade(1)
    capsys.readouterr()

    assert etl(shop, "--dry_run", "true") == 0

    said = capsys.readouterr().out
    assert "new: " in said
    assert "would be in" in said
    assert {name: data for name, data in files(tmp_path / "home").items() if "locks" not in name} == {
        name: data for name, data in before.items() if "locks" not in name
    }


def test_rows_that_cannot_be_used_are_written_with_source_line_and_reason(shop: Shop, tmp_path: Path) -> None:
    shop.sell("P1", 2, day=shop.day, price=0)

    assert etl(shop, "--quarantine", "bad") == 0

    bad = pd.read_csv(tmp_path / "bad" / "sources_sales.csv")
    assert bad["reason"].tolist() == ["the price is 0 (a gift or a sample)"]
    assert bad["source"].str.contains("lines").all()
    assert read_manifest(tmp_path / "home" / "sources").sources["sales"].rejected == 1


def test_the_quarantine_has_the_rows_of_the_last_run_and_a_dry_run_leaves_it_alone(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "home" / "quarantine"
    for _ in range(40):  # so that bad ones are few
        shop.sell("P0", 1, day=shop.day)
    shop.sell("P1", 2, day=shop.day, price=0)
    assert etl(shop) == 0
    (place / "sources_stock.csv").write_text("of a former night")
    (place / "sources_mine.csv").write_text("of somebody else")
    before = files(place)
    shop.sell("P2", 2, day=shop.day, price=0)

    assert etl(shop, "--dry_run", "true") == 0
    dry, said = files(place), capsys.readouterr().out
    assert etl(shop) == 0
    real = files(place)

    assert dry == before
    assert "set aside: 2 rows of sales" in said
    assert len(pd.read_csv(place / "sources_sales.csv")) == 2
    assert set(real) == {"sources_sales.csv", "sources_mine.csv"}


def test_too_many_bad_rows_stop_the_night_and_leave_the_former_panel(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert etl(shop) == 0
    before = read_manifest(tmp_path / "home" / "sources").id
    panel = files(tmp_path / "home" / "panel")
    for _ in range(30):
        shop.sell("P1", 2, day=shop.day, price=0)

    assert etl(shop) == 2

    assert "too_many_bad_rows" in capsys.readouterr().err
    assert read_manifest(tmp_path / "home" / "sources").id == before
    assert files(tmp_path / "home" / "panel") == panel


def test_a_second_run_beside_one_is_refused(shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with only_one("sources", home=tmp_path / "home"):
        assert etl(shop) == 2

    assert "sources is running already" in capsys.readouterr().err


def test_a_run_that_is_killed_leaves_the_former_rows_whole(shop: Shop, tmp_path: Path) -> None:
    assert etl(shop) == 0
    before = read_rows(tmp_path / "home" / "sources")
    shop.trade(30)
    command = [sys.executable, "-m", "pipelines.etl", "--sales", "sources", "--config", str(shop.path), "--full"]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ}, stderr=subprocess.DEVNULL) as process:
        tables = tmp_path / "home" / "sources" / "raw" / "sales"
        while process.poll() is None and len(list(tables.iterdir())) < 2:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)

    pd.testing.assert_frame_equal(read_rows(tmp_path / "home" / "sources"), before)
    assert etl(shop) == 0
    assert read_rows(tmp_path / "home" / "sources")["date"].max() > before["date"].max()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--since", "2026-02-30"], "expected a day such as 2026-03-31, found '2026-02-30'"),
        (["--until", "2026-02-01"], "--until needs --since"),
        (
            ["--since", "2026-02-02", "--until", "2026-02-01"],
            "--until needs --since, a day that does not come after it",
        ),
        (["--since", "2026-02-02", "--full"], "give one of them"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(
    shop: Shop, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert etl(shop, *words) == 2

    assert said in capsys.readouterr().err


def test_sources_that_nobody_configured_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--sales", "sources"]) == 2

    assert "docs/data.md shows one" in capsys.readouterr().err


def test_a_file_has_no_range_to_read_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--sales", "sales.csv", "--since", "2026-01-01"]) == 2

    assert "--since is for --sales sources" in capsys.readouterr().err


def test_jobs_read_the_rows_that_etl_made_of_the_sources(shop: Shop, tmp_path: Path) -> None:
    assert etl(shop) == 0

    assert main(["--sales", str(tmp_path / "home" / "sources"), "--output", "again", "--config", str(shop.path)]) == 0

    one, other = load_panel(tmp_path / "home" / "panel"), load_panel("again")
    np.testing.assert_array_equal(one.units_sold, other.units_sold)
    assert one.lineage == other.lineage


def test_a_night_begins_with_the_sources(shop: Shop, tmp_path: Path) -> None:
    started: list[tuple[str, ...]] = []

    def start(module: str, options: list[str], **_: object) -> int:
        started.append((module, *options))
        return 0

    assert nightly.main(["--sales", "sources", "--config", str(shop.path)], start=start) == 0

    module, *options = started[0]
    assert module == "pipelines.etl"
    assert options[options.index("--sales") + 1] == "sources"


def test_the_configuration_of_the_demo_is_valid() -> None:
    assert load_config(ROOT / "config" / "database.yaml").sources is not None
