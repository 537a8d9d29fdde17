"""Plans of a retailer's own tables: written beside the rows, and read by every job that names no plan itself."""

import datetime as dt
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pricing.config import Config, load_config, with_source_plans
from pricing.config_models import DataConfig
from pricing.data.calendar_tables import read_deliveries, read_promotions
from pricing.data.events import named_events
from pricing.data.manifest import MANIFEST, Manifest
from pricing.paths import plan_file, plan_in_force, sources_folder
from pricing.sources.collect import collect
from pricing.sources.set_aside import SetAside
from tests.kit.shop import Shop, deliver, planning_shop

PLANS = ("promotions", "events", "deliveries")
_runs = itertools.count()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRICING_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def night(shop: Shop, folder: Path | None = None) -> None:
    now = dt.datetime(2026, 3, 1, 4, tzinfo=dt.UTC)
    collect(shop.config, folder=folder or sources_folder(), run_id=f"run-{next(_runs)}", now=now, environment={})


def events_of(data: DataConfig) -> set[str]:
    found = named_events(data, np.datetime64("2026-02-01"), np.datetime64("2026-02-20"), period="day")
    return {event.name for event in found}


def settings(folder: Path) -> Config:
    return load_config(folder / "shop.yaml")


def test_the_plans_of_the_sources_are_read_without_being_named(tmp_path: Path) -> None:
    night(planning_shop(tmp_path))

    data = settings(tmp_path).data

    assert {name: getattr(data, name) for name in PLANS} == {name: str(plan_file(name)) for name in PLANS}
    assert data.promotions is not None
    assert data.deliveries is not None
    assert list(read_promotions(data.promotions).spans()) == ["P1"]
    assert read_deliveries(data.deliveries).days() == {"P1": [dt.date(2026, 3, 9)]}
    assert "Spring fair" in events_of(data)


def test_before_the_first_night_there_is_no_plan_and_after_it_one_that_was_loaded_earlier_finds_them(
    tmp_path: Path,
) -> None:
    shop = planning_shop(tmp_path)
    before = settings(tmp_path)

    night(shop)

    assert [getattr(before.data, name) for name in PLANS] == [None] * 3
    assert with_source_plans(before) == settings(tmp_path)
    assert with_source_plans(settings(tmp_path)) == settings(tmp_path)


def test_a_plan_that_the_user_names_wins(tmp_path: Path) -> None:
    night(planning_shop(tmp_path))
    own = (tmp_path / "shop.yaml").read_text().replace("missing: zero", "missing: zero, deliveries: mine.csv")
    (tmp_path / "shop.yaml").write_text(own)

    data = settings(tmp_path).data

    assert (data.deliveries, data.promotions) == ("mine.csv", str(plan_file("promotions")))


def test_a_plan_whose_table_is_configured_no_longer_does_not_count(tmp_path: Path) -> None:
    night(planning_shop(tmp_path))
    (tmp_path / "bare").mkdir()
    bare = Shop(tmp_path / "bare")

    assert [getattr(bare.config.data, name) for name in PLANS] == [None] * 3
    assert [getattr(load_config().data, name) for name in PLANS] == [None] * 3


def test_a_relative_home_gives_absolute_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRICING_HOME", "here")

    assert plan_file("events") == tmp_path / "here" / "sources" / "plans" / "events.parquet"


@pytest.mark.parametrize(
    ("stores", "expected"),
    [
        ("sum", {"P1": ["2026-03-06", "2026-03-09", "2026-03-11"]}),
        ("separate", {"P1@S0": ["2026-03-09", "2026-03-11"], "P1@S1": ["2026-03-06", "2026-03-09"]}),
    ],
)
def test_deliveries_of_several_stores_are_the_products_or_each_stores_own(
    tmp_path: Path, stores: str, expected: dict[str, list[str]]
) -> None:
    shop = planning_shop(tmp_path, stores=2, more=f"  stores: {stores}\n")  # P1 on the 9th, in no store by name
    deliver(shop, "P1", "2026-03-11", store="S0")
    deliver(shop, "P1", "2026-03-06", store="S1")

    night(shop)

    found = read_deliveries(str(plan_file("deliveries"))).days()
    assert {name: [str(day) for day in days] for name, days in found.items()} == expected
    assert list(pd.read_parquet(plan_in_force(str(plan_file("deliveries"))))) == ["product_id", "date"]


def test_a_delivery_of_what_was_never_sold_stays_in_the_plan(tmp_path: Path) -> None:
    shop = planning_shop(tmp_path, stores=2, more="  stores: separate\n")
    deliver(shop, "new", "2026-03-10")

    night(shop)

    assert "new" in read_deliveries(str(plan_file("deliveries"))).days()


def test_a_run_that_dies_before_it_publishes_leaves_the_plans_that_go_with_the_rows(tmp_path: Path) -> None:
    shop = planning_shop(tmp_path)
    night(shop)
    deliver(shop, "P1", "2026-03-12")

    def dies(manifest: Manifest, set_aside: SetAside) -> None:
        raise KeyboardInterrupt

    now = dt.datetime(2026, 3, 2, 4, tzinfo=dt.UTC)
    with pytest.raises(KeyboardInterrupt):
        collect(shop.config, folder=sources_folder(), run_id="dies", check=dies, now=now, environment={})

    assert read_deliveries(str(plan_file("deliveries"))).days() == {"P1": [dt.date(2026, 3, 9)]}


def test_the_manifest_that_is_in_force_decides_which_plans_are(tmp_path: Path) -> None:
    shop = planning_shop(tmp_path)
    night(shop)
    kept = (sources_folder() / MANIFEST).read_bytes()
    deliver(shop, "P1", "2026-03-12")
    night(shop)
    both = read_deliveries(str(plan_file("deliveries"))).days()

    (sources_folder() / MANIFEST).write_bytes(kept)  # as if the run had ended just before it switched

    assert len(both["P1"]) == 2
    assert read_deliveries(str(plan_file("deliveries"))).days() == {"P1": [dt.date(2026, 3, 9)]}
    assert settings(tmp_path).data.deliveries == str(plan_file("deliveries")), "a version keeps a name that stays"


def test_a_table_that_has_become_empty_is_a_plan_without_any(tmp_path: Path) -> None:
    shop = planning_shop(tmp_path)
    night(shop)
    for table in ("leaflets", "fairs", "trucks"):
        shop.execute(f"DELETE FROM {table}")

    night(shop)

    data = settings(tmp_path).data
    assert data.promotions is not None
    assert data.deliveries is not None
    assert read_deliveries(data.deliveries).days() == {}
    assert read_promotions(data.promotions).spans() == {}
    assert "Spring fair" not in events_of(data)
