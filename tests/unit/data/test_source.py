"""Files that are what their name says are read, others are refused with what they hold."""

import gzip
import re
from pathlib import Path

import pandas as pd
import pytest

from pricing.data.source import read_sales
from pricing.errors import SourceError

CSV = "date,product_id,units_sold,price\n2024-01-01,00123,2,3.5\n2024-01-02,NA,1,\n"


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "date": pd.to_datetime(["2024-01-01", "2024-01-02"]),
            "product_id": ["A", "B"],
            "units_sold": [1, 2],
            "price": [2.0, 3.0],
        }
    )


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def test_a_csv_keeps_its_ids_as_they_are_written(tmp_path: Path) -> None:
    plain = read_sales(write(tmp_path / "sales.csv", b"\xef\xbb\xbf" + CSV.encode()))
    packed = read_sales(write(tmp_path / "sales.csv.gz", gzip.compress(CSV.encode())))

    assert plain["product_id"].tolist() == ["00123", "NA"]
    assert plain["price"].isna().tolist() == [False, True]
    assert plain["date"].astype(str).tolist() == ["2024-01-01", "2024-01-02"]
    pd.testing.assert_frame_equal(packed, plain)


def test_line_ends_inside_quotes_survive_however_long_the_file_is(tmp_path: Path) -> None:
    rows = [f'2024-01-01,"{number},\n{"x" * 180}",1,2\n' for number in range(8_000)]  # read in blocks of 1 MB

    frame = read_sales(write(tmp_path / "sales.csv", CSV.splitlines(keepends=True)[0] + "".join(rows)))

    assert frame["product_id"].str.startswith("7999,\nx").iloc[-1]
    assert len(frame) == 8_000


def test_only_the_columns_asked_for_are_read_and_the_others_named(tmp_path: Path, frame: pd.DataFrame) -> None:
    frame.to_parquet(tmp_path / "sales.parquet")
    wanted = ["date", "product_id", "stock"]

    for path in (write(tmp_path / "sales.csv", CSV), str(tmp_path / "sales.parquet")):
        read = read_sales(path, columns=wanted)

        assert list(read.columns) == ["date", "product_id"]
        assert read.attrs["left_out"] == ["units_sold", "price"]


def test_lines_with_another_number_of_fields_are_kept_aside_with_their_number(tmp_path: Path) -> None:
    frame = read_sales(write(tmp_path / "sales.csv", CSV + "2024-01-03,B,1,2,3\n2024-01-04,B,1,2\n2024-01-05\n"))

    assert len(frame) == 3
    assert frame.attrs["damaged"] == [(4, "2024-01-03,B,1,2,3"), (6, "2024-01-05")]


def test_a_parquet_file_and_folder_are_read(tmp_path: Path, frame: pd.DataFrame) -> None:
    frame.to_parquet(tmp_path / "sales.parquet")
    frame.to_parquet(tmp_path / "parts", partition_cols=["product_id"])
    (tmp_path / "parts" / "_SUCCESS").write_text("")

    for path in ("sales.parquet", "parts"):
        read = read_sales(str(tmp_path / path)).sort_values("product_id")

        assert read["product_id"].astype(str).tolist() == ["A", "B"]
        assert read["price"].tolist() == [2.0, 3.0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("sales.csv", b""),
        ("sales.csv", CSV.replace(",", ";")),
        ("sales.csv", CSV.replace("00123", "Käse").encode("latin-1")),
        ("sales.csv.gz", b"not gzip at all"),
        ("sales.parquet", CSV),
        ("sales.xlsx", b"PK\x03\x04"),
        ("folder/sales.csv", CSV),
        ("nowhere.csv", None),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(
    tmp_path: Path, name: str, content: str | bytes | None
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if content is not None:
        write(path, content)
    given = str(path if path.parent == tmp_path else path.parent)

    with pytest.raises(SourceError, match=re.escape(given)):
        read_sales(given)


@pytest.mark.parametrize("url", ["nosuch://u:secret@h/d", "postgresql://u:secret@h:none/d", "oracle://u:secret@h/d"])
def test_an_address_that_no_driver_serves_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(SourceError, match="is no usable database URL") as caught:
        read_sales(url)

    assert "secret" not in str(caught.value)
