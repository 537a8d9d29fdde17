"""The job that prices files: requests in, decisions out, from a version's folder or the registry."""

import datetime as dt
import re
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from console.worklist import WAYS, Pick, read_table
from pipelines import price
from pipelines.price import main
from pipelines.steps.decisions import read_requests
from pricing.config import load_config
from pricing.data.panel import Period
from pricing.decision.every_product import day_priced, requests_for_all_products
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import RECENT, ProductFacts, carry_facts
from pricing.decision.request import PriceRequest
from pricing.decision.switches import Control, Switches
from pricing.objects import FolderStore, open_store
from pricing.registry.golden import choose_requests
from pricing.registry.price_moves import sample_requests
from pricing.registry.published_store import published_url
from pricing.registry.version import load
from tests.kit.control import approve, freeze, override, put_control
from tests.kit.mlflow_jobs import enter
from tests.kit.panels import put
from tests.kit.serving import sent
from tests.kit.versions import loaded_version, make_version, shared_panel, shared_version

PRODUCTS = [str(name) for name in shared_panel().product_ids[:3]]


@pytest.fixture(autouse=True)
def _own_tracking(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(tmp_path, monkeypatch, template=empty_store)


def requests_file(folder: Path, *, name: str = "requests.csv", **columns: list[object]) -> Path:
    values: dict[str, list[object]] = {
        "product_id": list(PRODUCTS),
        "current_stock": [5, 50, 500],
        "day_of_week": ["Friday"] * 3,
        "comp_price": [9.5, None, 12.25],
        "is_promo": [0, 1, 0],
    }
    frame = pd.DataFrame(values | columns)
    path = folder / name
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False)
    return path


def run(*options: object) -> int:
    return main([str(option) for option in options])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_of_requests_becomes_a_file_of_decisions_in_the_same_order(tmp_path: Path, suffix: str) -> None:
    requests = requests_file(tmp_path, name=f"requests{suffix}")
    output = tmp_path / "deep" / f"prices{suffix}"

    code = run("--requests", requests, "--version", shared_version(), "--output", output, "--today", "2024-01-02")

    decisions = pd.read_csv(output) if suffix == ".csv" else pd.read_parquet(output)
    assert code == 0
    assert decisions["product_id"].tolist() == PRODUCTS
    assert (decisions["recommended_price"] >= decisions["unit_cost"] - 1e-9).all()
    assert (decisions["price_low"] <= decisions["price_high"]).all()
    assert decisions["decision_id"].is_unique
    assert decisions["model_version"].unique().tolist() == ["version"]


def test_products_that_nobody_knows_keep_their_price_and_where_none_is_given_nothing_is_priced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, list[object]] = {"product_id": ["ghost", PRODUCTS[1], "zzz"], "list_price": [9.5, None, 4.0]}
    known, unknown = requests_file(tmp_path, **given), given | {"list_price": [9.5, None, None]}
    output, version = tmp_path / "prices.csv", ("--version", shared_version(), "--today", "2024-01-02")

    code = run("--requests", known, "--output", output, *version)
    refused = run("--requests", requests_file(tmp_path, **unknown), "--output", tmp_path / "none.csv", *version)

    assert (code, refused) == (0, 2)
    assert pd.read_csv(output)["recommended_price"][0] == 9.5
    assert "'zzz'" in capsys.readouterr().err
    assert not (tmp_path / "none.csv").exists()


def test_without_requests_every_product_on_sale_is_priced_for_today(tmp_path: Path) -> None:
    output = tmp_path / "prices.csv"
    panel = shared_panel()
    later = panel.dates[-1] + np.timedelta64(9, "D")

    code = run("--version", shared_version(), "--output", output, "--today", later)

    decisions = pd.read_csv(output)
    assert code == 0
    assert set(decisions["product_id"]) == set(panel.product_ids[panel.price[:, -1] > 0].tolist())
    assert pd.to_datetime(decisions["date"]).unique().tolist() == [pd.Timestamp(later)]


@pytest.mark.parametrize(
    ("period", "after", "priced"),
    [
        ("day", 0, 1),  # today's sales are in the states already
        ("day", 9, 9),
        ("day", 28, 28),
        ("day", 29, 1),  # beyond the horizon nothing is forecast
        ("week", 3, 7),
        ("week", 13, 7),
        ("week", 14, 14),
    ],
)
def test_the_period_priced_is_todays_or_the_first_one_that_can_be(period: Period, after: int, priced: int) -> None:
    facts = replace(ProductFacts.from_panel(shared_panel()), period=period)
    last = facts.state_date.astype("datetime64[D]").item()

    day = day_priced(facts, today=last + dt.timedelta(days=after), horizon=28)

    assert day == last + dt.timedelta(days=priced)


def log(folder: Path) -> list[dict[str, Any]]:
    return sent(str(folder / "home" / "decisions"))


@pytest.mark.parametrize(
    ("options", "applied"),
    [
        ((), False),
        (("--version", "1", "--applied", "true"), True),
        (("--applied", ""), False),  # as `mlflow run` passes what is not given
    ],
)
def test_decisions_are_logged_where_a_person_says_that_they_are_applied(
    tmp_path: Path, stocked_store: Path, options: tuple[str, ...], applied: bool
) -> None:
    shutil.copy(stocked_store, tmp_path / "mlflow.db")

    code = run("--requests", requests_file(tmp_path), "--output", tmp_path / "prices.csv", *options)

    written = pd.read_csv(tmp_path / "prices.csv", dtype={"model_version": str})
    lines = log(tmp_path) if applied else []
    assert code == 0
    assert (tmp_path / "home" / "decisions").exists() is applied
    assert set(written["model_version"]) == {"1"}
    if applied:
        assert [line["decision"]["decision_id"] for line in lines] == written["decision_id"].tolist()
        assert [line["decision"]["recommended_price"] for line in lines] == written["recommended_price"].tolist()


@pytest.mark.parametrize("away", [False, True])
def test_a_batch_keeps_to_a_person_s_switches_as_serving_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], away: bool
) -> None:
    said = [freeze(), override(7.77, PRODUCTS[1], until=dt.datetime(2999, 1, 1, tzinfo=dt.UTC))]
    if away:  # what was published last
        mirror = Control(Switches(said), entries=2).to_json()
        FolderStore(tmp_path / "home" / "published").put("pricing/control.json", mirror)
        monkeypatch.setenv("PRICING_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    else:
        put_control(tmp_path / "home", *said)
    requests = requests_file(tmp_path, current_price=[1.0, 3.33, 9.5], list_price=[1.1, 3.2, 9.6], unit_cost=0.5)

    code = run("--requests", requests, "--version", shared_version(), "--output", "prices.csv", "--applied", "true")

    decisions = pd.read_csv("prices.csv")
    logged = [record["decision"]["source"] for record in log(tmp_path)]
    assert code == 0
    assert decisions["recommended_price"].tolist() == [1.0, 7.77, 9.5]
    assert decisions["source"].tolist() == logged == ["rule", "override", "rule"]
    assert "freeze of everything by ops: wrong costs" in capsys.readouterr().out


def test_approved_prices_are_counted_by_whether_the_newest_sales_show_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--version", shared_version(), "--output", "prices.csv")
    assert run(*words) == 0
    assert "approved prices" not in capsys.readouterr().out
    facts = loaded_version().facts
    charged = dict(zip(facts.product_ids.tolist(), facts.price.tolist(), strict=True))
    first, second = PRODUCTS[:2]
    prices = {first: charged[first] + 0.004, second: charged[second] + 0.01, "gone": 3.0}
    put_control(tmp_path / "home", approve(prices))

    assert run(*words) == 0

    (told,) = [line for line in capsys.readouterr().out.splitlines() if "approved prices" in line]
    assert re.findall(r"\d+", told.replace(str(facts.state_date), "")) == ["3", "1", "2"]


def test_a_log_that_cannot_be_written_stops_the_job_before_anybody_sees_a_price(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "decisions").write_text("in the way")

    options = ("--version", shared_version(), "--output", tmp_path / "prices.csv", "--applied", "true")
    code = run("--requests", requests_file(tmp_path), *options)

    assert code == 2
    assert not (tmp_path / "prices.csv").exists()


@pytest.mark.parametrize("mirror", [None, b"{half"])
def test_switches_and_experiments_that_cannot_be_read_stop_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: bytes | None
) -> None:
    monkeypatch.setenv("PRICING_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    if mirror is not None:
        FolderStore(tmp_path / "home" / "published").put("pricing/control.json", mirror)

    code = run("--requests", requests_file(tmp_path), "--version", shared_version(), "--output", tmp_path / "p.csv")

    assert code == 2
    assert not (tmp_path / "p.csv").exists()


def test_every_product_is_asked_for_at_the_stock_left_unless_it_is_no_longer_sold() -> None:
    panel = shared_panel()
    changed = put(panel, np.s_[:2, -RECENT:], present=False, units_sold=np.nan)
    changed = put(changed, (1, -1), present=True, units_sold=3.0)
    changed = put(put(changed, ..., stock=50.0), 2, stock=np.nan)

    asked = requests_for_all_products(ProductFacts.from_panel(changed))

    stocks = {request.product_id: request.current_stock for request in asked}
    assert all("comp_price" not in request.model_fields_set for request in asked)
    assert panel.product_ids[0] not in stocks
    assert stocks[panel.product_ids[1]] == 47.0
    assert stocks[panel.product_ids[2]] is None


def test_a_silent_product_is_neither_priced_nor_judged_and_yet_answered() -> None:
    panel = shared_panel()
    silent = replace(panel, silent=(str(panel.product_ids[0]),))
    known = ProductFacts.from_panel(panel)

    facts = ProductFacts.from_panel(silent)
    carried = [carry_facts(known, panel, silent, kept=panel, whole=whole) for whole in (False, True)]

    for one in (facts, *carried):
        asked = {request.product_id for request in requests_for_all_products(one)}
        assert {*panel.product_ids.tolist()} - asked == {*silent.silent}
        judged = sample_requests(one, None, size=1000, day=dt.date(2030, 1, 1))
        assert silent.silent[0] not in {request.product_id for request in judged}
    again = carry_facts(facts, panel, panel, kept=panel, whole=False)
    assert np.isfinite(again.typical_units[0])
    demand = loaded_version().demand
    chosen = choose_requests(demand, on_sale=panel.product_ids[1:], today=dt.date(2030, 1, 1))
    assert silent.silent[0] not in {request.product_id for request in chosen}
    request = PriceRequest(product_id=silent.silent[0], day_of_week="Friday")
    pricer = Pricer(demand, facts, load_config(), version="1")
    (answer,) = pricer.price([request], today=dt.date(2023, 8, 1))
    assert answer.source == "model"


def test_products_that_are_not_priced_are_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    panel = shared_panel()
    silent = tuple(panel.product_ids[[2, 5]].tolist())
    version = make_version(tmp_path / "version", panel=replace(panel, silent=silent))

    assert run("--version", version.folder, "--output", tmp_path / "prices.csv") == 0

    assert not set(silent) & set(pd.read_csv(tmp_path / "prices.csv")["product_id"])
    (told,) = [line for line in capsys.readouterr().out.splitlines() if silent[0] in line]
    assert told.startswith("2 ")
    assert silent[1] in told


def test_in_a_table_an_empty_cell_is_none_and_an_absent_column_what_is_known() -> None:
    rows = pd.DataFrame({"product_id": ["apple", "apple"], "day_of_week": ["Friday"] * 2})

    absent = read_requests(rows, where="rows")
    cells = read_requests(
        rows.assign(comp_price=[8.5, None], comp_price_age=[2, None], current_stock=[40, None]), where="rows"
    )

    assert ["comp_price" in request.model_fields_set for request in absent] == [False, False]
    assert [(request.comp_price, request.comp_price_age) for request in cells] == [(8.5, 2), (None, None)]
    assert all("comp_price" in request.model_fields_set for request in cells)
    assert [request.current_stock for request in (*absent, *cells)] == [None, None, 40, None]


def test_the_console_has_the_newest_prices_of_all_products_by_the_champion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(price, "_opened", lambda *_: nullcontext((load(shared_version()), "8")))
    store, day = open_store(published_url()), ("--today", "2024-01-02")

    tried = [("--output", tmp_path / "own.csv"), ("--version", "8"), ("--requests", requests_file(tmp_path))]
    assert [run(*options, *day) for options in tried] == [0, 0, 0]
    before = store.keys("pricing/prices/")
    assert [run(*day), run(*day)] == [0, 0]

    (key,) = store.keys("pricing/prices/")
    shown = read_table(store.get(key) or b"", key=key, made=dt.datetime.now(dt.UTC))
    written = pd.read_csv(tmp_path / "home" / "prices.csv").set_index("product_id")
    assert before == []
    assert shown.rows.keys() == set(written.index)
    prices = written["proposed_price"][list(shown.rows)]
    assert shown.number["proposed_price"].tolist() == pytest.approx(prices.tolist())
    told = re.findall(r"(\d+) prices rise, (\d+) fall and (\d+) stay", capsys.readouterr().out)[-1]
    assert [int(count) for count in told] == [shown.counted(shown.matching(Pick(way=way)))[0] for way in WAYS]
    assert set(shown.text["step"].tolist()) > {""}


def test_bad_rows_stop_the_job_with_their_numbers_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    days = ["Friday", "Friday", "Fryday"]
    bad = requests_file(tmp_path, current_stock=[-1, 50, 500], day_of_week=days)
    odd = requests_file(tmp_path, name="odd.csv", colour=["red", "red", "red"])
    greedy = requests_file(tmp_path, name="greedy.csv", strategy=["margin", "greed", None])

    codes = [run("--requests", one, "--version", shared_version(), "--output", "p.csv") for one in (bad, odd, greedy)]

    words = capsys.readouterr().err
    assert codes == [2, 2, 2]
    assert "2 of 3 rows" in words
    for found in ("row 1: current_stock", "row 3: day_of_week", "colour", "'greed'"):
        assert found in words
    assert not Path("p.csv").exists()
