"""A shop whose rows are weeks, and whose file says no more of that than `period: week`."""

import datetime as dt
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pricing.decision.request import PriceRequest
from pricing.registry.mlflow_registry import Registry
from pricing.registry.version import load
from tests.kit.mlflow_jobs import TINY, JobFolder, place, write_sales

WEEKS = 45


@pytest.fixture
def shop(empty_store: Path, tmp_path: Path) -> JobFolder:
    return place(tmp_path / "shop", template=empty_store)


def weekly_sales(path: Path) -> Path:
    """Those of the small simulated market, summed over weeks from Monday on; a week has the price of its first day."""
    daily = pd.read_csv(write_sales(path, days=7 * (WEEKS + 1)))
    monday = pd.to_datetime(daily["date"]).dt.to_period("W").dt.start_time
    whole = daily.groupby(["product_id", monday])["date"].transform("count") == 7
    grouped = daily[whole].assign(date=monday[whole]).groupby(["product_id", "date"], as_index=False)
    grouped.agg({name: "sum" if name == "units_sold" else "first" for name in daily.columns[2:]}).to_csv(
        path, index=False
    )
    return path


def small(path: Path) -> Path:
    """The period, with networks of seconds and gates that are no matter here."""
    quick = {key: TINY["demand"][key] for key in ("folds", "units", "steps", "demand_steps", "price_steps", "rounds")}
    registry = {**TINY["registry"], "plots": False}
    path.write_text(yaml.safe_dump({"data": {"period": "week"}, "demand": quick, "registry": registry}))
    return path


def test_weekly_sales_are_trained_promoted_and_priced_where_only_the_period_is_given(shop: JobFolder) -> None:
    sales, config = weekly_sales(shop.folder / "sales.csv"), str(small(shop.folder / "config.yaml"))

    trained = shop.run("pipelines.train", "--sales", str(sales), "--config", config)
    promoted = shop.run("pipelines.promote", "--config", config)

    assert (trained.code, promoted.code) == (0, 0), trained.err + promoted.err
    assert "products × 45 weeks" in trained.out
    version = load(Registry("pricing", uri=shop.uri).download("champion", shop.folder / "version"))
    assert (version.demand.period, version.facts.period, version.demand.horizon) == ("week", "week", 4)
    assert len(version.demand.encoded.tail.dates) == 8
    thursday = version.demand.state_date + dt.timedelta(days=10)
    asked = [
        PriceRequest(product_id=product, current_stock=500, day_of_week="Friday", date=thursday + dt.timedelta(days=1))
        for product in version.demand.product_ids.tolist()
    ]
    for answer in version.pricer(version="1").price_detailed(asked, today=thursday):
        assert answer.date == version.demand.state_date + dt.timedelta(days=7)
        assert answer.decision.source in ("model", "rule")
        assert answer.decision.recommended_price > 0
        assert "stale_state" not in answer.decision.reasons
