"""Prices of a file, charged by the shop: from the job that prices to the report that compares them with the sales."""

import datetime as dt
import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from monitoring.__main__ import main as monitor
from pipelines.price import main as price
from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.decision.experiments import Arm, Experiment
from pricing.registry import CHAMPION
from pricing.registry.mlflow_registry import Registry
from simulation.config import MarketConfig
from simulation.market import simulate
from tests.kit.control import put_control
from tests.kit.mlflow_jobs import enter
from tests.kit.versions import make_version

pytestmark = pytest.mark.filterwarnings("ignore")
PRODUCTS = 6


@pytest.fixture
def shop(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """The sales of a shop up to yesterday, and a champion whose states end there."""
    here = enter(tmp_path, monkeypatch, template=empty_store)
    sales = simulate(MarketConfig(products=PRODUCTS, days=100, seed=3)).frame()
    yesterday = pd.Timestamp(dt.datetime.now(dt.UTC).date()) - pd.Timedelta(days=1)
    sales["date"] = pd.to_datetime(sales["date"]) + (yesterday - pd.to_datetime(sales["date"]).max())
    make_version(tmp_path / "version", panel=build_panel(sales, load_config().data))
    registry = Registry("pricing", uri=here.uri)
    with mlflow.start_run():
        number = registry.log_version(tmp_path / "version")
    registry.set_alias(CHAMPION, number)
    return sales


def look(folder: Path, sales: pd.DataFrame) -> dict:
    """Monitors once on these sales; returns the outcome with its metrics by name."""
    sales.to_csv(folder / "sales.csv", index=False)
    assert monitor(["--sales", str(folder / "sales.csv")]) == 0
    return json.loads((folder / "home" / "monitoring" / "latest" / "outcome.json").read_text())


def charged(sales: pd.DataFrame, prices: pd.DataFrame) -> pd.DataFrame:
    """The sales with one day more, on which the shop charged these prices."""
    last = sales[sales["date"] == sales["date"].max()].drop(columns=["price"])
    today = last.assign(date=pd.to_datetime(prices["date"].iloc[0]))
    today = today.merge(prices[["product_id", "recommended_price"]].rename(columns={"recommended_price": "price"}))
    return pd.concat([sales, today[sales.columns]], ignore_index=True)


def scored(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "home" / "monitoring" / "latest" / "scored_decisions.csv").set_index("product_id")


def test_prices_of_a_file_are_seen_by_monitoring_once_their_sales_are_in(
    tmp_path: Path, shop: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    held = str(shop["product_id"].max())
    keep = Experiment("holdout", dt.date(2020, 1, 6), None, (Arm("keep", share=0.1),), {held: "keep"})
    put_control(tmp_path / "home", keep)
    assert price(["--output", "first.csv", "--applied", "true"]) == 0
    assert price(["--output", "prices.csv", "--applied", "true"]) == 0  # the last one counts
    assert price(["--output", "tried.csv"]) == 0  # and what is only tried out counts for nothing
    prices = pd.read_csv("prices.csv")

    waiting = look(tmp_path, shop)
    (todo,) = waiting["todo"][-1:]
    assert waiting["metrics"]["decisions_waiting"] == PRODUCTS
    assert "Look again when the sales of " + prices["date"].iloc[0] in todo["what"]

    sales = charged(shop, prices)
    other = sales["product_id"].eq(prices["product_id"].iloc[0]) & sales["date"].eq(sales["date"].max())
    sales.loc[other, "price"] = np.round(sales.loc[other, "price"] * 1.06, 2)  # the shop thought better of it
    found = look(tmp_path, sales)

    seen = scored(tmp_path)
    assert sorted(seen.index) == sorted(prices["product_id"])
    assert seen["recommended_price"].to_dict() == prices.set_index("product_id")["recommended_price"].to_dict()
    assert found["metrics"]["share_followed"] == pytest.approx((PRODUCTS - 2) / (PRODUCTS - 1))  # of those not held
    codes = {finding["code"]: finding["count"] for finding in found["findings"]}
    assert (codes["superseded"], codes["held_out"]) == (PRODUCTS, 1)
    assert "decided_late" not in codes  # made on the day itself
    assert "nan" not in capsys.readouterr().out.lower().split()
