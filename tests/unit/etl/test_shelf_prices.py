"""A till's lines become what each product cost on the shelf: discounts of single buyers are no moves of a price."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from etl.report import Report
from pricing.config import load_config
from pricing.data.contract import check
from pricing.data.findings import Finding
from pricing.data.quality import judge
from pricing.data.source import read_etl_rows
from tests.kit.etl_runs import etl_run
from tests.kit.till import Till, till

COLUMNS = {"time": "sold_at", "product_id": "article", "quantity": "bottles", "amount": "paid"}
NAMED = {**COLUMNS, "discount": "off"}


def read(
    shop: Till, folder: Path, *, columns: dict[str, str] = COLUMNS, lines: pd.DataFrame | None = None, **more: Any
) -> tuple[pd.DataFrame, Report]:
    """Returns the rows beside the truth, and the report."""
    shop.write(folder)
    (shop.lines if lines is None else lines).rename(columns={"discount": "off"}).to_csv(
        folder / "lines.csv", index=False
    )
    tables = {"order_lines": {"location": str(folder / "lines.csv"), "columns": columns}, **more}
    report = etl_run(tables)
    rows = read_etl_rows()
    rows["date"] = rows["date"].astype(shop.truth["date"].dtype)
    return rows.merge(shop.truth, on=["date", "product_id"], suffixes=("", "_true")), report


def wrong(rows: pd.DataFrame) -> float:
    """The share of rows with a sale whose price is not the shelf's."""
    sold = rows[rows["units_sold"] > 0]
    return float((abs(sold["price"] / sold["shelf_price"] - 1) > 0.005).mean())


@pytest.mark.parametrize(("columns", "most"), [(COLUMNS, 0.03), (NAMED, 0.01)])
@pytest.mark.parametrize("seed", [1, 2])
def test_discounts_of_single_buyers_are_not_the_shelf_price(
    tmp_path: Path, seed: int, columns: dict[str, str], most: float
) -> None:
    shop = till(products=12, days=200, seed=seed, buyers=2)

    rows, report = read(shop, tmp_path, columns=columns)

    assert wrong(rows) < most
    assert report.discounted == pytest.approx((shop.lines["discount"] > 0.005).mean(), abs=0.03)
    taken_off, paid = shop.lines[["discount", "paid"]].sum()
    assert report.taken_off == pytest.approx(taken_off / (taken_off + paid), abs=0.01)


def test_a_shop_without_discounts_keeps_each_price_that_was_paid(tmp_path: Path) -> None:
    shop = till(products=6, days=120, seed=3, regulars=0)
    plain = shop.lines[shop.lines["bottles"] < 6]

    rows, report = read(shop, tmp_path, lines=plain)

    assert wrong(rows) == 0
    assert (report.discounted, report.buyers, report.advice) == (0.0, 1, [])


def test_an_offer_to_everybody_is_a_price_though_lines_name_the_full_one(tmp_path: Path) -> None:
    shop = till(products=6, days=200, seed=4, buyers=3)
    full = shop.truth.groupby("product_id")["shelf_price"].max()
    lines = shop.lines.assign(full=shop.lines["article"].map(full))

    rows, _ = read(shop, tmp_path, columns={**COLUMNS, "list_price": "full"}, lines=lines)

    assert wrong(rows) < 0.03


@pytest.mark.parametrize("fault", ["discount is a percentage", "unit_price is after discount", "amount is without tax"])
def test_full_prices_that_nobody_pays_are_not_used_and_told(tmp_path: Path, fault: str) -> None:
    shop = till(products=6, days=200, seed=5, buyers=3)
    full = shop.lines["paid"] + shop.lines["discount"]
    share = (shop.lines["discount"] / full).round(2)
    changed, columns = {
        "discount is a percentage": ({"discount": 100 * share}, NAMED),
        "unit_price is after discount": (
            {"unit": shop.lines["paid"] / shop.lines["bottles"]},
            {
                **{name: COLUMNS[name] for name in ("time", "product_id", "quantity")},
                "unit_price": "unit",
                "discount": "off",
            },
        ),
        "amount is without tax": (
            {"unit": full / shop.lines["bottles"], "paid": full / 1.19},
            {**COLUMNS, "unit_price": "unit"},
        ),
    }[fault]

    rows, report = read(shop, tmp_path, columns=columns, lines=shop.lines.assign(**changed))

    assert len(report.advice) == 1
    assert fault == "amount is without tax" or wrong(rows) < 0.03


def slow_and_fast(*, cut: float, days: int) -> list[str]:
    """Lines of a fast product, a third of them 10 % off, and of a slow one that is cut from its 20th sale on."""
    lines = []
    for day in range(days):
        date = dt.date(2026, 3, 1) + dt.timedelta(days=day)
        lines += [f"{date} {hour}:00,fast,1,{4.5 if (day + hour) % 3 == 0 else 5.0}" for hour in range(10, 19)]
        if day % 5 == 0:
            lines.append(f"{date} 12:00,slow,1,{10.0 if day < 100 else cut}")
    return lines


def test_a_cut_deeper_than_discounts_is_seen_with_the_first_sale(tmp_path: Path) -> None:
    (tmp_path / "lines.csv").write_text(
        "\n".join(["time,product_id,quantity,unit_price", *slow_and_fast(cut=7.0, days=106)]) + "\n"
    )

    report = etl_run({"order_lines": {"location": str(tmp_path / "lines.csv")}})

    rows = read_etl_rows()
    slow = rows[(rows["product_id"] == "slow") & (rows["units_sold"] > 0)].sort_values("date")
    assert report.buyers > 2
    assert slow["price"].tolist() == [10.0] * 20 + [7.0] * 2
    assert set(rows.loc[rows["product_id"] == "fast", "price"]) == {5.0}


def test_a_night_reads_prices_as_the_last_full_run_did(tmp_path: Path) -> None:
    shop = till(products=8, days=160, seed=12, buyers=3)
    tables = {"order_lines": {"location": str(tmp_path / "lines.csv"), "columns": COLUMNS}}
    lines = shop.lines.rename(columns={"discount": "off"})
    for days in (110, 111, 140, 160):
        until = shop.truth["date"].min() + np.timedelta64(days, "D")
        lines[lines["sold_at"] < until].to_csv(tmp_path / "lines.csv", index=False)
        night = etl_run(tables)
    nightly = read_etl_rows()

    full = etl_run(tables, full=True)

    both = nightly.merge(read_etl_rows(), on=["date", "product_id"], suffixes=("", "_full"))
    assert len(both) == len(nightly)
    assert night.first
    assert night.buyers == full.buyers > 1
    assert (both["price"] != both["price_full"]).mean() < 0.005


@pytest.mark.parametrize(
    "columns",
    [
        {"unit_price": "full", "amount": "paid"},  # a receipt's unit price is before what comes off the line
        {"unit_price": "full", "discount": "off"},
        {"amount": "paid", "list_price": "full"},
    ],
)
def test_whatever_names_the_full_price_gives_the_same_rows(tmp_path: Path, columns: dict[str, str]) -> None:
    shop = till(products=4, days=80, seed=6, buyers=3)
    lines = shop.lines.assign(full=(shop.lines["paid"] + shop.lines["discount"]) / shop.lines["bottles"])
    named = {name: COLUMNS[name] for name in ("time", "product_id", "quantity")}

    rows, _ = read(shop, tmp_path, columns={**named, **columns}, lines=lines)

    assert wrong(rows) < 0.005


def test_a_price_without_a_day_is_not_that_of_the_past(tmp_path: Path) -> None:
    shop = till(products=6, days=200, seed=7, buyers=0.5)
    articles = {
        "location": str(tmp_path / "articles.csv"),
        "columns": {"product_id": "article", "price": "shelf_price"},
    }

    rows, report = read(shop, tmp_path, columns=NAMED, products=articles)
    quiet = rows[rows["units_sold"] == 0]
    before = rows["price"].where(rows["units_sold"] > 0).groupby(rows["product_id"]).ffill()

    assert len(quiet) > 100
    assert (quiet["price"] == before[quiet.index]).all()
    assert (quiet["price"] != quiet["shelf_price"]).sum() <= report.between < 0.3 * len(quiet)


def test_a_product_that_never_sold_has_its_only_price(tmp_path: Path) -> None:
    shop = till(products=3, days=60, seed=8)
    shop.articles.loc[len(shop.articles)] = ["NEW", "New", "red", 3.0, 7.5, 0.19]
    shop.counts.loc[len(shop.counts)] = [shop.truth["date"].max(), "NEW", 12]
    articles = {
        "location": str(tmp_path / "articles.csv"),
        "columns": {"product_id": "article", "price": "shelf_price"},
    }
    counts = {
        "location": str(tmp_path / "counts.csv"),
        "columns": {"time": "counted_on", "product_id": "article", "quantity": "bottles"},
    }

    shop.write(tmp_path)
    etl_run(
        {
            "order_lines": {"location": str(tmp_path / "lines.csv"), "columns": COLUMNS},
            "products": articles,
            "stock": counts,
        }
    )

    rows = read_etl_rows()
    assert set(rows.loc[rows["product_id"] == "NEW", "price"]) <= {7.5}


def found(frame: pd.DataFrame) -> list[Finding]:
    """What the check of shelf prices finds in finished rows."""
    config = load_config().data.model_copy(update={"missing": "zero"})
    checked = check(frame, where="sales", period="day")
    return [one for one in judge(checked, config, names=list(frame.columns)).findings if one.check == "shelf_price"]


def finished(shop: Till) -> pd.DataFrame:
    return shop.truth.rename(columns={"shelf_price": "price"}).drop(columns="stock")


@pytest.mark.parametrize("buyers", [0.3, 1.2, 5])
def test_finished_rows_whose_prices_are_averages_are_found(buyers: float) -> None:
    shop = till(products=20, days=200, seed=9, buyers=buyers)
    lines = shop.lines.assign(date=shop.lines["sold_at"].dt.normalize())
    days = lines.groupby(["date", "article"], as_index=False)[["bottles", "paid"]].sum()
    averages = days.rename(columns={"article": "product_id", "bottles": "units_sold"})
    averages["price"] = averages.pop("paid") / averages["units_sold"]

    assert [one.level for one in found(averages)] == ["warning"]
    assert found(finished(shop)) == []


def test_rows_of_no_sale_at_todays_price_are_found() -> None:
    rows = finished(till(products=20, days=200, seed=10, buyers=0.5))
    today = rows.groupby("product_id")["price"].transform("last")

    faulty = found(rows.assign(price=np.where(rows["units_sold"] > 0, rows["price"], today)))

    assert [one.level for one in faulty] == ["warning"]
    assert faulty[0].products > 10
