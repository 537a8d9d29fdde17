"""What is wrong with a section `sources` is said so that a newcomer can mend it: what, where, and what to do."""

import datetime as dt
from pathlib import Path

import pytest

from pricing.config import load_config
from pricing.config_sources import OrderLines
from pricing.errors import ConfigError, PricingError
from pricing.sources.collect import collect

LINES = "line_id,time,product_id,quantity,unit_price\n1,2026-01-05T10:00:00,A1,2,5.50\n"
THEIRS = "id,ordered_at,sku,qty,paid\n1,2026-01-05T10:00:00,A1,2,5.50\n"


def message(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> str:
    """What a job says of a configuration, in a folder with order lines under our names and under others."""
    monkeypatch.chdir(folder)
    (folder / "orders.csv").write_text(LINES)
    (folder / "theirs.csv").write_text(THEIRS)
    (folder / "my.yaml").write_text(text)
    with pytest.raises(PricingError) as failure:
        collect(
            load_config("my.yaml"),
            folder=folder / "store",
            run_id="run",
            now=dt.datetime(2026, 2, 1, tzinfo=dt.UTC),
            environment={},
        )
    return str(failure.value)


def of_sales(*settings: str) -> str:
    inner = ", ".join(["kind: order_lines", *settings])
    return f"sources:\n  zone: Europe/Berlin\n  sales: {{{inner}}}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: {missing: zero}", ["section sources", "it has none", "docs/data.md"]),
        ("sources: [1]", ["sources: expected a mapping, or null", "(line 1)"]),
        (
            "sources:\n  sales: {kind: order_lines, location: orders.csv}",
            ["sources.zone: is missing", "such as America/New_York"],
        ),
        (
            "sources:\n  zone: Berlin\n  sales: {kind: order_lines, location: orders.csv}",
            ["sources.zone: ", "'Berlin' is no time zone", "Europe/Berlin", "(line 2)"],
        ),
        (
            "sources:\n  zone: Europe/Berlin\n  sales: {location: orders.csv}",
            ["sources.sales.kind: is missing; expected one of order_lines, rows (line 3)"],
        ),
        (
            "sources:\n  zone: Europe/Berlin\n  sales: {kind: orders, location: orders.csv}",
            ["sources.sales.kind: expected one of order_lines, rows, found 'orders'", "the nearest is order_lines"],
        ),
        (
            of_sales("location: orders.csv") + "  stock: {location: a.csv}",
            ["sources.stock.kind: is missing; expected one of snapshots, movements"],
        ),
        (
            of_sales("location: orders.csv") + "  stock: {kind: snapshots, location: a}\n  stock: {location: b}",
            ["stock is given twice, first on line 4"],
        ),
        (of_sales("location: orders.csv", "colums: {}"), ["sources.sales.colums; the nearest known one is columns"]),
        (of_sales("location: orders.csv", "stores: sum"), ["sources.sales.stores; it belongs elsewhere: sources.stor"]),
        (
            of_sales("location: orders.csv", "returns: sale"),
            ["sources.sales.returns: expected one of sale_day, return_day, ignore, found 'sale' (line 3)"],
        ),
        (
            of_sales("location: orders.csv", "columns: {price: paid}"),
            ["sources.sales: columns: 'price' is no column that is read here; did you mean unit_price?"],
        ),
        (
            of_sales("location: theirs.csv", "columns: {sku: product_id}"),
            ["sources.sales: columns: our name stands first: write product_id: sku, not sku: product_id"],
        ),
        (
            of_sales("location: theirs.csv"),
            ["sources.sales: ", "theirs.csv: has no column 'time'", "found 'id', 'ordered_at'", "under columns:"],
        ),
        (
            of_sales("location: theirs.csv", "columns: {time: ordered_at, product_id: sku, quantity: qty}"),
            ["sources.sales: theirs.csv holds 1 rows, and none that can be used", "unit_price or amount", "line 1"],
        ),
        (of_sales("location: order.csv"), ["sources.sales: order.csv: does not exist; it was looked for in /"]),
        (of_sales("location: 'in/*.csv'"), ["sources.sales: in/*.csv: no file matches this pattern", "looked for in"]),
        (
            of_sales("location: 'https://shop.example/orders.csv'"),
            ["sources.sales: https://shop.example/orders.csv: https:// is not read here; expected a path, s3://"],
        ),
        (
            of_sales("location: 'postgresql://shop:${SHOP_PASSWORD}@db/shop#orders'"),
            ["sources.sales: the environment variable SHOP_PASSWORD", "is not set; set it"],
        ),
        (of_sales("location: 'sqlite:///my.db'"), ["sources.sales: sqlite://…: names no table; add #table"]),
        (of_sales("location: orders.csv") + "  tax_rates: {standard: 20}", ["tax_rates.standard", "below 1, found 20"]),
        (of_sales("location: orders.csv") + "  currency: euro", ["sources.currency: expected a text like EUR"]),
        (
            of_sales("location: orders.csv") + "  competitor_prices: {location: rival.csv}",
            ["competitor_prices needs the section competitors"],
        ),
        (
            of_sales("location: orders.csv") + "  competitors: {apis: {}}",
            ["sources.competitors.currency: is missing; expected a text like EUR", "that of the section sources"],
        ),
    ],
)  # fmt: skip
def test_a_wrong_configuration_is_told_with_its_place_and_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: list[str]
) -> None:
    found = message(tmp_path, monkeypatch, text)

    assert [words for words in said if words not in found] == []


@pytest.mark.parametrize(
    "location",
    [
        "postgresql://shop:geheim@db/shop#orders",
        "postgresql://shop:ge/heim@db/shop#orders",
        "postgresql://shop:ge#heim@db/shop#orders",
        "postgresql://shop:geheim${MORE}@db/shop#orders",
        "postgresql://db/shop?user=shop&password=geheim#orders",
    ],
)
@pytest.mark.parametrize("more", [{}, {"kind": "orders"}, {"colums": {}}], ids=["alone", "kind", "key"])
def test_a_password_in_a_location_is_refused_and_never_repeated(
    tmp_path: Path, location: str, more: dict[str, object]
) -> None:
    settings = {"kind": "order_lines", "location": location, **more}
    path = tmp_path / "my.yaml"
    path.write_text(f"sources: {{zone: UTC, sales: {settings}}}")

    with pytest.raises(ConfigError) as failure:
        load_config(path)

    assert "heim" not in str(failure.value)
    assert more.get("kind") or "${SHOP_PASSWORD}" in str(failure.value)


@pytest.mark.parametrize(
    "location",
    [
        "postgresql://shop:${SHOP_PASSWORD}@db:5432/shop#orders",
        "postgresql://${HOST}:${PORT}/shop#orders",
        "postgresql://db:5432/shop#SELECT * FROM orders WHERE mail <> 'a:b@c'",
        "postgresql://shop@[::1]:5432/shop?password=${SHOP_PASSWORD}#orders",
        "sqlite:///C:/shop.db#orders",
        "postgresql+psycopg2://postgres:@/postgres?host=/tmp/pg#orders",
        "${SHOP_DATABASE}#orders",
    ],
)
def test_a_port_or_a_variable_is_not_taken_for_a_password(location: str) -> None:
    assert OrderLines(kind="order_lines", location=location).location == location


@pytest.mark.parametrize(
    ("written", "meant"),
    [("06:00", "06:00"), ("16:30", "16:30"), ("'16:30'", "16:30"), ("5:05", "05:05"), ("16:30:00", "16:30")],
)
def test_a_time_of_day_is_read_as_it_is_written(tmp_path: Path, written: str, meant: str) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(of_sales("location: orders.csv", f"due: {written}"))

    sources = load_config(path).sources

    assert sources is not None
    assert sources.sales.due == dt.time.fromisoformat(meant)


def test_a_constant_may_be_a_number(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(of_sales("location: orders.csv", "constants: {tax_rate: 0.2, currency: EUR, store: 7}"))

    sources = load_config(path).sources

    assert sources is not None
    assert sources.sales.constants == {"tax_rate": "0.2", "currency": "EUR", "store": "7"}
