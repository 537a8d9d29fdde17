"""Files are read as they are written; what could be read in two ways is refused, and no password is told."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from etl.settings import read_settings
from pricing.config import load_config
from pricing.data.source import read_etl_rows
from pricing.errors import ConfigError, PricingError, SourceError
from tests.kit.etl_runs import etl_run

DATA_PAGE = Path(__file__).parents[3] / "docs" / "shop" / "data.md"


def lines(folder: Path, text: str, **more: Any) -> dict[str, Any]:
    (folder / "lines.csv").write_bytes(text.encode())
    columns = {"time": "Datum", "product_id": "Artikel", "quantity": "Menge", "unit_price": "Preis"}
    return {"order_lines": {"location": str(folder / "lines.csv"), "columns": columns, **more}}


HEADER = "Datum;Artikel;Menge;Preis\n"


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("31.12.2025;007;1;1.234,50\n30.12.2025;007;1;3,5\n", {"decimal": ",", "date_format": "%d.%m.%Y"}),
        ("03/04/2025 10:00;007;1;1.5\n", {"date_format": "%d/%m/%Y %H:%M"}),
        ('2025-12-31;"0;7";1;1.5\n', {}),
    ],
)
def test_a_dialect_is_found_but_for_marks_and_dates_which_are_declared(
    tmp_path: Path, text: str, more: dict[str, Any]
) -> None:
    report = etl_run(lines(tmp_path, HEADER + text, **more))

    read = report.tables["order_lines"]
    assert read.used == read.read == text.count("\n")
    assert "between cells, decimal mark" in read.told


@pytest.mark.parametrize("text", ["03/04/2025;007;1;1.5\n", "2025-12-31;007;1;1,234\n", "31.12.2025;007;1;2\n"])
def test_what_is_not_written_as_declared_stops_the_run(tmp_path: Path, text: str) -> None:
    with pytest.raises(SourceError, match=r"can(not)? be used"):
        etl_run(lines(tmp_path, HEADER + text))


@pytest.mark.parametrize("content", [b"PK\x03\x04 a workbook", b"\xff\xfeD\x00", b""])
def test_what_is_no_csv_is_refused(tmp_path: Path, content: bytes) -> None:
    tables = lines(tmp_path, "")
    (tmp_path / "lines.csv").write_bytes(content)

    with pytest.raises(PricingError, match=r"etl\.tables\.order_lines"):
        etl_run(tables)


def test_finished_rows_are_kept_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    rows = "".join(f"31/12/2025;tea{n};2;3,50;1\n" for n in range(30))
    path.write_text(f"date;product_id;units_sold;price;is_promo\n{rows}31/12/2025;jam;x;3,50;1\n")

    report = etl_run({"sales": {"location": str(path), "decimal": ",", "date_format": "%d/%m/%Y"}})

    assert report.tables["sales"].aside == {"units_sold cannot be read": 1}
    assert read_etl_rows()[["units_sold", "price", "is_promo"]].to_numpy().tolist() == [[2.0, 3.5, 1.0]] * 30


@pytest.mark.parametrize(
    "location",
    [
        "postgresql://shop:s3cr3t@db/shop#orders",
        "postgresql://shop:s3cr/3t@db/shop#orders",
        "postgresql:/shop:s3cr3t@db/shop#orders",
        "shop:s3cr3t@db/shop#orders",
        "postgresql://db/shop?user=x&password=s3cr3t#orders",
    ],
)
def test_a_password_in_the_configuration_is_refused_and_not_told(tmp_path: Path, location: str) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(yaml.safe_dump({"etl": {"tables": {"order_lines": {"location": location}}}}))

    with pytest.raises(ConfigError, match="holds a password") as caught:
        load_config(path)

    assert "s3cr" not in str(caught.value)


@pytest.mark.parametrize(
    "location",
    [
        "postgresql://shop:${PW}@127.0.0.1:port/shop#orders",
        "postgresql:/shop:${PW}@db/shop#orders",
        "mysql://shop:${PW}@127.0.0.1:1/shop#orders",
        "nosuch://shop:${PW}@db/shop#orders",
        "sqlite:///${PW}#orders",
        "${URL}#orders",
        "${URL}",
    ],
)
@pytest.mark.parametrize("secret", ["s3cr/3t#@x", "s3cr%3t ü"])
def test_a_password_is_in_no_message(location: str, secret: str) -> None:
    environ = {"PW": secret, "URL": "postgresql://shop:s3cr3t@127.0.0.1:1/shop"}

    with pytest.raises(PricingError) as caught:
        etl_run({"order_lines": {"location": location}}, environ=environ)

    assert "s3cr" not in str(caught.value)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM raw; COPY (SELECT 1) TO '{file}'",
        "SELECT * FROM raw) AS y; COPY (SELECT 1 AS x) TO '{file}'; SELECT * FROM (SELECT * FROM raw",
        "COPY raw TO '{file}'",
        "SELECT content AS product_id, * FROM raw, read_text('{secret}')",
        "SELECT * FROM raw, '{secret}'",
        "SELECT * FROM raw, os.environ",
        "",
    ],
)
def test_a_query_is_one_select_that_reaches_nothing_but_the_table(tmp_path: Path, query: str) -> None:
    secret = tmp_path / "secret.csv"
    file = tmp_path / "out.csv"
    secret.write_text("a\n1\n")
    (tmp_path / "own.sql").write_text(query.format(file=file, secret=secret))

    with pytest.raises(PricingError):
        etl_run(lines(tmp_path, HEADER + "2025-12-31;007;1;1.5\n", query=str(tmp_path / "own.sql")))

    assert not file.exists()


@pytest.mark.parametrize(
    "section",
    [
        {},
        {"tables": {}},
        {"tables": {"order_lines": {"location": "x.csv", "late_days": 3}}},
        {"tables": {"order_lines": {"location": "x.csv", "columns": {"qty": "n"}}}},
        {"tables": {"sales": {"location": "x.csv"}, "stock": {"location": "y.csv"}}},
    ],
    ids=str,
)
def test_a_wrong_section_is_refused(section: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        read_settings(section)


def test_a_variable_that_is_not_set_and_a_column_that_is_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="NOWHERE"):
        etl_run({"order_lines": {"location": "${NOWHERE}/x.csv"}})
    with pytest.raises(ConfigError, match="is it 'Mnge'"):
        etl_run(lines(tmp_path, "Datum;Artikel;Mnge;Preis\n2025-12-31;a;1;2\n"))


def test_the_settings_of_the_page_are_accepted() -> None:
    blocks = DATA_PAGE.read_text(encoding="utf-8").split("```yaml\n")[1:]
    sections = [yaml.safe_load(block.partition("```")[0]) for block in blocks]

    shown = [read_settings(section["etl"]) for section in sections if "etl" in section]

    assert shown
    assert {name for one in shown for name in one.tables.given()} >= {"sales", "order_lines", "stock", "products"}


@pytest.mark.parametrize(
    "moment", ["2025-10-01T00:00:00+01:00", "2025-09-30T23:00:00Z", "2025-10-01", "2025-10-01T23:30"]
)
def test_a_day_that_names_its_zone_is_of_the_shops(tmp_path: Path, moment: str) -> None:
    path = tmp_path / "sales.csv"
    path.write_text(f"date,product_id,units_sold,price\n{moment},tea,2,3.5\n")

    etl_run({"sales": {"location": str(path)}}, zone="Europe/London")

    assert read_etl_rows()["date"].astype(str).str[:10].tolist() == ["2025-10-01"]
