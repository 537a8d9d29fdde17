"""A wine shop with a till, whose truth is known, from its export to prices: nothing goes wrong in silence.

It maps what its till calls `paid` and `bottles` as a stranger would at first, and as docs/shop/first_shop.md does.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.journeys.person import PRICING, ROOT, Person, in_a_folder
from tests.kit.till import ELASTICITY, Till, till

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PAGES = yaml.safe_load((ROOT / "docs" / "shop" / "first_shop" / "shop.yaml").read_text(encoding="utf-8"))
FIRST = {
    "time_zone": "Europe/Berlin",
    "data": {"country": "DE", "missing": "zero"},
    "etl": {
        "tables": {
            "order_lines": {
                "location": "docs/shop/first_shop/lines.csv",
                "columns": {"time": "sold_at", "product_id": "article", "quantity": "bottles", "amount": "paid"},
            },
            "products": {
                "location": "docs/shop/first_shop/articles.csv",
                "columns": {"product_id": "article", "unit_cost": "purchase_price", "price": "shelf_price"},
            },
            "stock": {
                "location": "docs/shop/first_shop/counts.csv",
                "columns": {"time": "counted_on", "product_id": "article", "quantity": "bottles"},
            },
        }
    },
}


def arrive(folder: Path, shop: Till, settings: dict[str, Any], *, discount: str) -> Person:
    """A person whose till wrote its export, where her configuration expects it."""
    export = folder / "docs" / "shop" / "first_shop"
    export.mkdir(parents=True)
    shop.write(export)
    shop.lines.rename(columns={"discount": discount}).to_csv(export / "lines.csv", index=False)
    quick = yaml.safe_load((ROOT / "config" / "small.yaml").read_text(encoding="utf-8"))
    (folder / "shop.yaml").write_text(yaml.safe_dump(quick | settings), encoding="utf-8")
    return in_a_folder(folder)


def read(person: Person, shop: Till) -> tuple[pd.DataFrame, list[str]]:
    """Her rows beside the truth, and what the page of the job lists to do."""
    person.pricing("etl", "--sales", "etl", "--config", "shop.yaml")
    pointer = json.loads((person.home / "etl" / "current.json").read_text(encoding="utf-8"))
    rows = pd.concat([pd.read_parquet(person.home / "etl" / name) for name in pointer["sales"]])
    rows["date"] = rows["date"].astype(shop.truth["date"].dtype)
    told = json.loads((person.home / "panel.etl.json").read_text(encoding="utf-8"))
    return rows.merge(shop.truth, on=["date", "product_id"], suffixes=("", "_true")), told["advice"]


def check(rows: pd.DataFrame, advice: list[str]) -> None:
    """Prices are the shelf's, or a finding names why; stock is the truth, or unknown."""
    wrong = (rows["price"] / rows["shelf_price"] - 1).abs() > 0.005
    assert wrong.mean() < 0.02 or advice
    assert wrong[rows["units_sold"] > 0].mean() < 0.02
    assert (rows["units_sold"] == rows["units_sold_true"]).all()
    counted = rows[rows["stock"].notna()]
    assert len(counted) > 0.1 * len(rows)  # every Monday opens with Sunday's count
    assert counted["stock"].between(0.5 * counted["stock_true"], 1.5 * counted["stock_true"]).all()


@pytest.fixture(scope="module")
def shop() -> Till:
    return till(products=12, days=400, seed=11, buyers=2)


def test_by_the_first_mapping_that_comes_to_mind(tmp_path: Path, shop: Till) -> None:
    person = arrive(tmp_path, shop, FIRST, discount="off")

    rows, advice = read(person, shop)

    check(rows, advice)
    assert len(advice) == 1  # which column names the discount


def test_by_the_mapping_of_the_page_to_prices(tmp_path: Path, shop: Till) -> None:
    person = arrive(tmp_path, shop, PAGES, discount="discount")

    rows, advice = read(person, shop)
    person.pricing("train", "--sales", "etl", "--config", "shop.yaml")
    person.pricing("promote", "--config", "shop.yaml")
    person.pricing("price", "--config", "shop.yaml")

    check(rows, advice)
    assert advice == []
    prices = pd.read_csv(person.home / "prices.csv")
    today = shop.articles.set_index("article")["shelf_price"]
    assert np.allclose(prices["current_price"], today[prices["product_id"]], rtol=0.005)
    assert not prices["reasons"].str.contains("stock_short", na=False).any()  # deliveries come before it runs out
    with person.serving(f"{PRICING} serve --config shop.yaml") as service:
        service.wait_for(person.champion())
        told = [service.ask(f"/products/{product}/elasticity")[1] for product in prices["product_id"]]
    elasticities = np.array([one["elasticity"] for one in told])
    assert ELASTICITY - 1 < elasticities.mean() < ELASTICITY + 1
    assert {one["grade"] for one in told} <= {"own_history", "category"}
