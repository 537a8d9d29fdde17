"""A retailer's files are read as they are meant, or refused or set aside with what is wrong: see docs/data.md."""

import datetime as dt
import gzip
import os
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pricing.config_sources import FinishedRows, OrderLines, ProductSource, TableSource
from pricing.errors import SourceError
from pricing.sources import delimited, typed_files
from pricing.sources.reading import Reading, read_chunks

BERLIN = ZoneInfo("Europe/Berlin")
HEADER = "time,product_id,quantity,unit_price\n"
LINES = HEADER + "2024-01-01,00123,2,3.5\n2024-01-02,B,1,2.25\n"


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def reading_of(
    location: Path | str,
    *,
    kind: type[TableSource] = OrderLines,
    asked: dict[str, Any] | None = None,
    **configured: Any,
) -> Reading:
    kinds = {OrderLines: "order_lines", FinishedRows: "rows"}
    given = {"location": str(location), **configured} | ({"kind": kinds[kind]} if kind in kinds else {})
    source = kind.model_validate(given)
    settings: dict[str, Any] = {"environment": {}, **(asked or {})}
    return read_chunks(source, name="sales", zone=BERLIN, sql_seconds=60.0, **settings)


def read(location: Path | str, **configured: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All rows, and all that were set aside."""
    reading = reading_of(location, **configured)
    frames = [chunk.frame for chunk in reading]
    rows = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    aside = pd.concat(reading.rejected, ignore_index=True) if reading.rejected else pd.DataFrame()
    assert reading.complete
    assert sum(origin.rows for origin in reading.origins) == len(rows)
    assert sum(origin.rejected for origin in reading.origins) == len(aside)
    return rows, aside


def test_ids_are_kept_as_they_are_written_and_numbers_and_times_are_read(tmp_path: Path) -> None:
    rows, _ = read(write(tmp_path / "a.csv", LINES))

    assert rows["product_id"].tolist() == ["00123", "B"]
    assert rows["unit_price"].tolist() == [3.5, 2.25]
    assert rows["time"].tolist() == [pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-02")]
    assert rows["time"].dtype == "datetime64[s]"


@pytest.mark.parametrize(
    "content",
    [
        LINES.encode("utf-8-sig"),
        LINES.encode("utf-16"),
        LINES.replace("\n", "\r\n").encode(),
        LINES.replace("\n", "\r").encode(),
        LINES.replace(",", ";").encode(),
        LINES.replace(",", "\t").encode(),
        LINES.replace(",", "|").encode(),
        ("sep=;\r\n" + LINES.replace(",", ";")).encode(),
        ("\n\n" + LINES).encode(),
        LINES.replace("time,product_id", "\u00a0time , product_id").encode(),
        LINES.replace("B,1", '" B\u00a0"," 1 "').encode(),
        LINES.replace("00123", '"=""00123"""').encode(),
        LINES.replace("00123", '="00123"').encode(),
        LINES.replace("quantity", "Menge, quantity").replace(",2,", ",x,2,").replace(",1,", ",x,1,").encode(),
        LINES.removesuffix("\n").encode(),
        LINES.replace(",3.5", ',"3.5"').encode(),
        LINES.replace("2024-01-02", '"2024-01-02"').encode(),
    ],
)
def test_other_ways_to_write_the_same_text_are_understood(tmp_path: Path, content: bytes) -> None:
    expected, _ = read(write(tmp_path / "plain.csv", LINES))

    rows, aside = read(write(tmp_path / "a.csv", content))

    pd.testing.assert_frame_equal(rows, expected)
    assert aside.empty


def test_a_quoted_line_end_is_part_of_its_cell(tmp_path: Path) -> None:
    text = 'time,product_id,quantity,category\n2024-01-01,A,1,"tea,\nloose"\n2024-01-02,B,1,x\n'

    rows, _ = read(write(tmp_path / "a.csv", text))

    assert rows["category"].tolist() == ["tea,\nloose", "x"]


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_other_encodings_are_refused_until_they_are_configured(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "a.csv", LINES.replace("B", "Käse").encode(encoding))

    with pytest.raises(SourceError, match=r"is not UTF-8 text; set text\.encoding"):
        read(path)
    rows, _ = read(path, text={"encoding": encoding})

    assert rows["product_id"].tolist() == ["00123", "Käse"]


def test_an_odd_letter_far_down_the_file_is_found_too(tmp_path: Path) -> None:
    text = HEADER.encode() + b"2024-01-01,A,1,2\n" * 200_000 + "2024-01-01,é,1,2\n".encode("cp1252")

    with pytest.raises(SourceError, match=r"is not UTF-8 text; set text\.encoding"):
        read(write(tmp_path / "a.csv", text))


def test_an_encoding_that_is_configured_and_wrong_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"is no ascii text .*set text\.encoding"):
        read(write(tmp_path / "a.csv", LINES.replace("B", "é")), text={"encoding": "ascii"})
    with pytest.raises(SourceError, match="'klingon' is no encoding"):
        read(write(tmp_path / "a.csv", LINES), text={"encoding": "klingon"})


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("1.234,50", 1234.5),
        ("1234,5", 1234.5),
        ("1 234,50", 1234.5),
        ("1\u202f234,50", 1234.5),
        ("1'234,50", 1234.5),
        ("€ 1.234,50", 1234.5),
        ("1.234,50 €", 1234.5),
        ("-1.234,50", -1234.5),
        ("1.234,50-", -1234.5),
        ("\u2212" + "1.234,50", -1234.5),
        ("+3,5", 3.5),
        (",5", 0.5),
        ("1.234.567", 1234567.0),
    ],
)
def test_numbers_with_a_decimal_comma_are_read(tmp_path: Path, cell: str, value: float) -> None:
    text = f"time;product_id;quantity;unit_price\n2024-01-01;A;1.000;{cell}\n2024-01-01;A;1;2,5\n"

    rows, aside = read(write(tmp_path / "a.csv", text))

    assert aside.empty
    assert rows["unit_price"].tolist() == [value, 2.5]
    assert rows["quantity"].tolist() == [1000.0, 1.0]


def test_the_same_number_means_what_the_others_say(tmp_path: Path) -> None:
    point, _ = read(write(tmp_path / "a.csv", HEADER + "2024-01-01,A,1.250,9.99\n"))
    comma, _ = read(
        write(tmp_path / "b.csv", (HEADER + "2024-01-01,A,1.250,9#99\n").replace(",", ";").replace("#", ","))
    )

    assert point["quantity"].tolist() == [1.25]
    assert comma["quantity"].tolist() == [1250.0]


@pytest.mark.parametrize("cell", ["1.234", '"1,234"'])
def test_a_number_that_may_be_a_thousand_times_another_is_refused_until_it_is_configured(
    tmp_path: Path, cell: str
) -> None:
    path = write(tmp_path / "a.csv", HEADER + f"2024-01-01,A,{cell},2\n")

    with pytest.raises(SourceError, match=r"may be a thousand times the other.*set text\.decimal"):
        read(path)
    values = {read(path, text={"decimal": mark})[0]["quantity"].item() for mark in ".,"}

    assert values == {1.234, 1234.0}


def test_points_and_commas_that_contradict_each_other_are_refused_until_one_is_configured(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HEADER + '2024-01-01,A,1,"1,5"\n2024-01-01,B,1,2.5\n')

    with pytest.raises(SourceError, match=r"with a decimal point .*and with a decimal comma .*set text\.decimal"):
        read(path)
    rows, aside = read(path, text={"decimal": ","})

    assert rows["unit_price"].tolist() == [1.5]
    assert aside["reason"].tolist() == ["unit_price is no number"]


@pytest.mark.parametrize(
    "cell", ["many", "1.2.3", "1 2", "12€50", "0x10", "inf", "nan", "1_000", "20 %", "#N/A", "5-5"]
)
def test_what_is_no_number_is_set_aside_with_its_line(tmp_path: Path, cell: str) -> None:
    rows, aside = read(write(tmp_path / "a.csv", LINES + f"2024-01-03,C,{cell},1\n"))

    assert len(rows) == 2
    assert aside[["line", "reason"]].to_numpy().tolist() == [[3, "quantity is no number"]]
    assert f"quantity={cell}" in aside["text"].item()


def test_a_column_that_turns_to_text_half_way_loses_no_row_before_and_none_in_silence(tmp_path: Path) -> None:
    text = HEADER + "2024-01-01,A,1,2.5\n" * 200_000 + "2024-01-01,A,one,2.5\n" * 1000

    rows, aside = read(write(tmp_path / "a.csv", text))

    assert len(rows) == 200_000
    assert aside["line"].tolist() == list(range(200_001, 201_001))


@pytest.mark.parametrize(
    ("cell", "time"),
    [
        ("2024-03-31 02:30", "2024-03-31T02:30:00"),
        ("2024-03-31T00:30:00Z", "2024-03-31T00:30:00+00:00"),
        ("2024-03-31 02:30:00.5+02:00", "2024-03-31T00:30:00.500000+00:00"),
        ("2024-03-31 02:30:00+02", "2024-03-31T00:30:00+00:00"),
    ],
)
def test_times_are_kept_as_they_are_told(tmp_path: Path, cell: str, time: str) -> None:
    rows, _ = read(write(tmp_path / "a.csv", HEADER + f"{cell},A,1,2\n"))

    assert rows["time"].item().isoformat() == time


@pytest.mark.parametrize(
    "cell", ["31.03.2024", "03/31/2024", "2024-02-30", "20240331", "45382", "yesterday", "2024-1-1"]
)
def test_what_is_no_iso_date_is_set_aside(tmp_path: Path, cell: str) -> None:
    rows, aside = read(write(tmp_path / "a.csv", LINES + f"{cell},C,1,1\n"))

    assert len(rows) == 2
    assert aside["reason"].tolist() == ["time is no ISO 8601 date (text.dates sets another form)"]


def test_another_form_of_dates_is_configured(tmp_path: Path) -> None:
    text = HEADER + "31.03.2024,A,1,2\n2024-03-31,B,1,2\n"

    rows, aside = read(write(tmp_path / "a.csv", text), text={"dates": "%d.%m.%Y"})

    assert rows["time"].tolist() == [pd.Timestamp("2024-03-31")]
    assert aside["reason"].tolist() == ["time is no date of the form %d.%m.%Y"]


def test_times_with_and_without_a_zone_in_one_file_are_not_mixed_up(tmp_path: Path) -> None:
    rows, aside = read(write(tmp_path / "a.csv", HEADER + "2024-01-01 10:00Z,A,1,2\n2024-01-01 11:00,B,1,2\n"))

    assert rows["product_id"].tolist() == ["A"]
    assert aside["reason"].tolist() == ["time differs from the others in having a zone"]


def test_lines_with_another_number_of_fields_and_headers_again_are_set_aside(tmp_path: Path) -> None:
    text = LINES + "2024-01-03,C,1\n" + HEADER + "2024-01-04,D,1,2,3\n" + "2024-01-05,E,1,2\n"

    reading = reading_of(write(tmp_path / "a.csv", text))
    chunks = list(reading)

    assert chunks[0].lines.tolist() == [1, 2, 6]
    aside = pd.concat(reading.rejected)
    assert aside["line"].tolist() == [3, 4, 5]
    assert aside["text"].tolist() == ["2024-01-03,C,1", HEADER.strip(), "2024-01-04,D,1,2,3"]
    assert aside["reason"].tolist() == [
        "has another number of fields than the header's 4",
        "is the header again",
        "has another number of fields than the header's 4",
    ]


def test_lines_are_numbered_through_all_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "CHUNK_ROWS", 1)
    monkeypatch.setattr(delimited, "_BLOCK", 256)
    numbers = [f"{number}{',bad' if number % 7 == 0 else ''}" for number in range(1, 200)]
    text = HEADER + "".join(f"2024-01-01,A,1,{number}\n" for number in numbers)

    reading = reading_of(write(tmp_path / "a.csv", text))
    chunks = list(reading)

    assert len(chunks) > 5
    for chunk in chunks:
        assert chunk.lines.tolist() == chunk.frame["unit_price"].tolist()
    assert pd.concat(reading.rejected)["line"].tolist() == list(range(7, 200, 7))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"\n\n", "has no header line"),
        (LINES.replace("product_id", "product"), "has no column 'product_id', did you mean 'product'"),
        (LINES.replace("product_id", "quantity"), "has no column 'product_id'"),
        (LINES.replace("unit_price", "quantity"), "has 2 columns 'quantity'"),
        (HEADER + '2024-01-01,A,1,"2\n2024-01-02,B,1,2\n', "ends inside a quoted field, so that it is cut off"),
        (HEADER + '2024-01-01,"A', "ends inside a quoted field, so that it is cut off"),
        (HEADER + '2024-01-01,A,1,"2\n' + "2024-01-02,B,1,2\n" * 700_000, "has a line of more than 4 MB"),
        (b"PK\x03\x04\x00", "holds ZIP or Excel"),
        (b"\x00\x01\x02\x03", "holds binary data"),
        (LINES.encode("utf-16-le"), "binary data, or UTF-16 without its mark"),
        ("<html><body>Service unavailable</body></html>", "holds HTML or XML"),
        ('{"error": "no such report"}', "holds JSON"),
        ("a,b;product_id\n1,2;3\n", "has no column 'time'"),
    ],
)
def test_a_text_that_is_not_the_table_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = write(tmp_path / "a.csv", content)

    with pytest.raises(SourceError, match=message) as caught:
        read(path)

    assert str(path) in str(caught.value)


def test_an_inch_sign_is_no_quote_without_end(tmp_path: Path) -> None:
    text = 'time,product_id,quantity,category\n2024-01-01,A,1,19" rack\n2024-01-02,B,1,x\n'

    rows, _ = read(write(tmp_path / "a.csv", text))

    assert rows["category"].tolist() == ['19" rack', "x"]


def test_a_header_alone_is_a_table_without_rows(tmp_path: Path) -> None:
    for text in (HEADER, HEADER.strip()):
        rows, aside = read(write(tmp_path / "a.csv", text))

        assert rows.empty
        assert aside.empty


def test_a_separator_that_cannot_be_told_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "product_id,x;y,product_id;z\n".replace("y,product_id", "y"))
    both = write(tmp_path / "b.csv", "x;product_id,y\n")

    with pytest.raises(SourceError, match="has no column 'product_id'"):
        read(both, kind=ProductSource)
    rows, _ = read(path, kind=ProductSource)

    assert rows.empty


@pytest.mark.parametrize("cut", [20, 200, -9, -1])
def test_a_compressed_file_that_is_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    text = HEADER + "".join(f"2024-01-01,P{number * 7919 % 10007},1,2\n" for number in range(5000))

    with pytest.raises(SourceError, match=r"a\.csv\.gz: cannot be read"):
        read(write(tmp_path / "a.csv.gz", gzip.compress(text.encode())[:cut]))


def test_a_compressed_file_that_is_damaged_is_refused(tmp_path: Path) -> None:
    packed = bytearray(
        gzip.compress((HEADER + "".join(f"2024-01-01,P{n * 7919 % 10007},1,2\n" for n in range(5000))).encode())
    )
    packed[-6] ^= 0xFF  # of the checksum

    with pytest.raises(SourceError, match=r"a\.csv\.gz: cannot be read"):
        read(write(tmp_path / "a.csv.gz", bytes(packed)))


def test_ids_that_a_spreadsheet_has_shortened_or_a_quote_has_swallowed_are_set_aside(tmp_path: Path) -> None:
    text = LINES + '2024-01-03,4.00638E+12,1,2\n2024-01-04,"C,1,2\n2024-01-05,D",1,2\n'

    rows, aside = read(write(tmp_path / "a.csv", text))

    assert rows["product_id"].tolist() == ["00123", "B"]
    assert [reason.split()[0:2] for reason in aside["reason"]] == [["product_id", "was"], ["product_id", "has"]]


def test_constants_and_factors_and_flags(tmp_path: Path) -> None:
    text = (
        "date,product_id,units_sold,price,is_promo,is_holiday\n2024-01-01,A,2,350,yes,0\n2024-01-01,B,2,350,maybe,0\n"
    )

    rows, aside = read(
        write(tmp_path / "a.csv", text),
        kind=FinishedRows,
        factors={"price": 0.01},
        constants={"tax_rate": "0.2", "store": "007"},
    )

    assert rows[["price", "tax_rate", "store", "is_promo", "is_holiday"]].to_numpy().tolist() == [
        [3.5, 0.2, "007", 1, 0]
    ]
    assert aside["reason"].tolist() == ["is_promo is neither true nor false"]


def test_a_constant_or_a_factor_of_the_wrong_kind_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", LINES)

    with pytest.raises(SourceError, match="constants: tax_rate: 'much' is no number"):
        read(path, constants={"tax_rate": "much"})
    with pytest.raises(SourceError, match="factors: product_id is no number"):
        read(path, factors={"product_id": 2.0})


def test_only_rows_of_the_span_are_given(tmp_path: Path) -> None:
    """Midnight in Berlin is 23:00 UTC."""
    text = HEADER + "2023-12-31T22:59:59Z,A,1,2\n2023-12-31T23:00:00Z,B,1,2\n2024-01-01T23:00:00Z,C,1,2\n"
    span = {"since": dt.datetime(2024, 1, 1, tzinfo=BERLIN), "until": dt.datetime(2024, 1, 2, tzinfo=BERLIN)}

    reading = reading_of(write(tmp_path / "a.csv", text), asked=span)
    chunks = list(reading)

    assert [chunk.frame["product_id"].tolist() for chunk in chunks] == [["B"]]
    assert chunks[0].lines.tolist() == [2]
    assert reading.origins[0].newest == "2023-12-31T23:00:00+00:00"


def test_a_row_without_a_time_is_given_whatever_the_span(tmp_path: Path) -> None:
    span = {"since": dt.datetime(2024, 1, 2, tzinfo=BERLIN), "until": dt.datetime(2024, 1, 3, tzinfo=BERLIN)}

    rows, _ = read(write(tmp_path / "a.csv", LINES + ",C,1,2\n"), asked=span)

    assert rows["product_id"].tolist() == ["B", "C"]


def parquet(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    default = {
        "time": pa.array([dt.datetime(2024, 1, 1, 10)] * 2, pa.timestamp("ns", "Europe/Berlin")),
        "product_id": pa.array(["01", "02"]).dictionary_encode(),
        "quantity": pa.array([1, 2], pa.int32()),
    }
    pq.write_table(pa.table(default | columns), path)
    return path


def test_parquet_is_read_with_its_types(tmp_path: Path) -> None:
    money = pa.array([Decimal("1.25"), Decimal(2)], pa.decimal128(10, 2))

    rows, _ = read(parquet(tmp_path / "a.parquet", unit_price=money, line_id=pa.array([7, 8])))

    assert rows["product_id"].tolist() == ["01", "02"]
    assert rows["unit_price"].tolist() == [1.25, 2.0]
    assert rows["line_id"].tolist() == ["7", "8"]
    assert rows["time"].iloc[0] == pd.Timestamp("2024-01-01T10:00Z")


@pytest.mark.parametrize(
    ("ids", "expected", "reasons"),
    [
        (pa.array([123.0, 7.0]), ["123", "7"], []),
        (pa.array([123.0, None]), ["123", None], []),
        (pa.array([1.5, 2.0**60]), [], ["product_id is a number with decimals or too many digits"] * 2),
        (pa.array([2**60, 1]), [str(2**60), "1"], []),
        (pa.array([["a"], ["b"]]), [], ["product_id is a list or a structure"] * 2),
    ],
)
def test_ids_that_came_as_numbers_keep_their_digits_or_are_set_aside(
    tmp_path: Path, ids: Any, expected: list[Any], reasons: list[str]
) -> None:
    rows, aside = read(parquet(tmp_path / "a.parquet", product_id=ids))

    assert [None if pd.isna(value) else value for value in rows.get("product_id", [])] == expected
    assert [reason[: len(want)] for reason, want in zip(aside.get("reason", []), reasons, strict=True)] == reasons


@pytest.mark.parametrize("cut", [0, 4, 100, -1, -8])
def test_parquet_that_is_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    path = parquet(tmp_path / "a.parquet")
    path.write_bytes(path.read_bytes()[:cut])

    with pytest.raises(SourceError, match=r"a\.parquet: (is empty|is damaged or cut off)"):
        read(path)


def test_parquet_that_is_damaged_inside_is_refused(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "a.parquet",
        **{
            "time": pa.array([dt.date(2024, 1, 1)] * 50_000),
            "product_id": pa.array([f"P{number}" for number in range(50_000)]),
            "quantity": pa.array(range(50_000)),
        },
    )
    content = bytearray(path.read_bytes())
    content[1000:3000] = bytes(2000)
    path.write_bytes(content)

    with pytest.raises(SourceError, match="is damaged or cut off"):
        read(path)


def test_what_is_called_parquet_or_excel_and_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is called Parquet but holds text, perhaps CSV"):
        read(write(tmp_path / "a.parquet", LINES))
    with pytest.raises(SourceError, match=r"is called Excel \(\.xlsx\) but holds old Excel"):
        read(write(tmp_path / "a.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1"))
    with pytest.raises(SourceError, match=r"save it as \.xlsx"):
        read(write(tmp_path / "a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1"))
    with pytest.raises(SourceError, match=r"is no \.xlsx file that can be read"):
        read(write(tmp_path / "b.xlsx", b"PK\x03\x04 and no more"))


def excel(path: Path, *rows: list[Any], sheets: tuple[str, ...] = ("Tabelle1",), zeros: str = "") -> Path:
    book = openpyxl.Workbook()
    book.active.title = sheets[0]
    for name in sheets[1:]:
        book.create_sheet(name)
    for row in rows:
        book.active.append(row)
    if zeros:
        book.active["B2"].number_format = zeros
    book.save(path)
    return path


EXCEL_HEADER = ["time", "product_id", "quantity", "unit_price"]


def test_excel_is_read_with_numbers_and_dates_that_are_texts(tmp_path: Path) -> None:
    path = excel(
        tmp_path / "a.xlsx",
        [],
        EXCEL_HEADER,
        [dt.datetime(2024, 1, 1), "00123", 2, 3.5],
        ["2024-01-02", 456, "1", " 2.25 "],
        [dt.datetime(2024, 1, 3), "B", None, None],
        [None, None, None, None],
        [dt.datetime(2024, 1, 4), "C", "many", True],
    )

    rows, aside = read(path)

    assert rows["product_id"].tolist() == ["00123", "456", "B"]
    assert rows["quantity"].tolist()[:2] == [2.0, 1.0]
    assert rows["unit_price"].tolist()[:2] == [3.5, 2.25]
    assert rows["time"].dt.day.tolist() == [1, 2, 3]
    assert aside["line"].tolist() == [5]


def test_zeros_that_excel_shows_before_an_id_are_part_of_it(tmp_path: Path) -> None:
    path = excel(tmp_path / "a.xlsx", EXCEL_HEADER, [dt.datetime(2024, 1, 1), 123, 2, 3.5], zeros="00000")

    assert read(path)[0]["product_id"].tolist() == ["00123"]


def test_a_sheet_is_asked_for_where_there_are_several(tmp_path: Path) -> None:
    path = excel(tmp_path / "a.xlsx", EXCEL_HEADER, [dt.datetime(2024, 1, 1), "A", 2, 3.5], sheets=("Sales", "Notes"))

    with pytest.raises(SourceError, match="has several sheets; found 'Sales', 'Notes'; set sheet"):
        read(path)
    with pytest.raises(SourceError, match="has no sheet 'sales'"):
        read(path, sheet="sales")

    assert len(read(path, sheet="Sales")[0]) == 1


def test_an_excel_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = excel(tmp_path / "a.xlsx", EXCEL_HEADER, *([dt.datetime(2024, 1, 1), f"A{n}", 2, 3.5] for n in range(500)))
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(SourceError, match=r"is no \.xlsx file that can be read, or is cut off"):
        read(path)


def test_a_long_sheet_is_given_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typed_files, "CHUNK_ROWS", 100)
    path = excel(tmp_path / "a.xlsx", EXCEL_HEADER, *([dt.datetime(2024, 1, 1), f"A{n}", 2, 3.5] for n in range(250)))

    chunks = list(reading_of(path))

    assert [len(chunk.frame) for chunk in chunks] == [100, 100, 50]
    assert np.concatenate([chunk.lines for chunk in chunks]).tolist() == list(range(1, 251))


def test_files_of_a_folder_and_of_a_pattern_are_read_in_their_order(tmp_path: Path) -> None:
    for number, name in enumerate(
        ("2024/b.csv", "2024/a.csv", "2023/a.csv", "2023/note.md", ".hidden.csv", "_draft.csv")
    ):
        write(tmp_path / "in" / name, HEADER + f"2024-01-0{number + 1},{name},1,2\n")
    (tmp_path / "in/2023/note.md").rename(tmp_path / "note.md")

    for location, expected in {
        "in": ["2023/a.csv", "2024/a.csv", "2024/b.csv"],
        "in/*/a.csv": ["2023/a.csv", "2024/a.csv"],
        "in/**/*.csv": ["2023/a.csv", "2024/a.csv", "2024/b.csv"],
        "in/202[4-9]/?.csv": ["2024/a.csv", "2024/b.csv"],
        "in/202[!4]/*": ["2023/a.csv"],
        "in/2024/a.csv": ["2024/a.csv"],
    }.items():
        assert read(tmp_path / location)[0]["product_id"].tolist() == expected, location


@pytest.mark.parametrize("location", ["in/*.tsv", "in/x/*.csv", "nowhere", "in/*", "empty"])
def test_a_location_that_finds_nothing_or_something_else_is_refused(tmp_path: Path, location: str) -> None:
    write(tmp_path / "in/a.csv", LINES)
    write(tmp_path / "in/readme.md", "# Sales")
    (tmp_path / "empty").mkdir()

    with pytest.raises(SourceError, match=f"{tmp_path}/"):
        read(tmp_path / location)


def test_a_file_whose_name_looks_like_a_pattern_is_itself(tmp_path: Path) -> None:
    assert len(read(write(tmp_path / "sales [1].csv", LINES))[0]) == 2


def test_columns_may_lie_in_another_order_in_each_file_and_one_that_lacks_a_column_is_named(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", "time,product_id,quantity,store\n2024-01-01,A,1,S\n")
    write(tmp_path / "2.csv", "quantity;time;product_id\n2;2024-01-02;B\n")

    rows, _ = read(tmp_path)

    assert rows[["product_id", "quantity"]].to_numpy().tolist() == [["A", 1.0], ["B", 2.0]]
    with pytest.raises(SourceError, match=r"2\.csv: has no column 'store'"):
        read(tmp_path, columns={"store": "store"})


def test_an_empty_file_among_many_is_told_and_passed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "1.csv", LINES)
    write(tmp_path / "2.csv", "")

    reading = reading_of(tmp_path)
    rows = sum(len(chunk.frame) for chunk in reading)

    assert rows == 2
    assert [origin.rows for origin in reading.origins] == [2, 0]
    assert "2.csv: is empty" in caplog.text


def test_folders_that_hold_a_column_give_it(tmp_path: Path) -> None:
    parquet(tmp_path / "in/store=K%C3%B6ln/a.parquet")
    parquet(tmp_path / "in/store=__HIVE_DEFAULT_PARTITION__/a.parquet")

    rows, _ = read(tmp_path / "in")

    assert [None if pd.isna(store) else store for store in rows["store"]] == ["Köln", "Köln", None, None]


def test_a_file_that_is_still_being_written_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HEADER + "2024-01-01,A,1,2\n" * 400_000)
    reading = reading_of(path)
    chunks = iter(reading)
    next(chunks)

    with path.open("a") as stream:
        stream.write("2024-01-02,A,1,2\n")

    with pytest.raises(SourceError, match=r"changed while it was read .* still being written"):
        list(chunks)
    assert not reading.complete


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")

    for location in ("a.csv", "*.csv", ""):
        with pytest.raises(SourceError, match="is a pipe, socket or device"):
            read(tmp_path / location)


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "http://shop/a.csv",
        "https://shop/a.csv",
        "gopher://a",
        "oracle://u@h/d#t",
        "a\x00.csv",
        "FILE:a",
    ],
)
def test_other_addresses_are_refused(location: str) -> None:
    with pytest.raises(SourceError, match="sales: "):
        read(location)


def test_no_shell_sees_a_location(tmp_path: Path) -> None:
    for location in ("$(touch stolen).csv", "`touch stolen`.csv", "a.csv; touch stolen", "|touch stolen"):
        with pytest.raises(SourceError):
            read(tmp_path / location)

    assert not list(tmp_path.iterdir())


def test_variables_of_a_location_come_from_the_environment(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", LINES)

    assert len(read("${FOLDER}/a.csv", asked={"environment": {"FOLDER": str(tmp_path)}})[0]) == 2
    with pytest.raises(SourceError, match="the environment variable FOLDER, which its location names, is not set"):
        read("${FOLDER}/a.csv")
    with pytest.raises(SourceError, match="stands behind #"):
        read("sqlite:///a.db#SELECT ${WHAT}", asked={"environment": {"WHAT": "1; DROP TABLE x"}})


def test_what_was_read_is_known_by_its_digest(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", LINES)

    reading = reading_of(path)
    list(reading)

    (origin,) = reading.origins
    assert (origin.size, origin.rows, origin.newest) == (len(LINES), 2, "2024-01-02T00:00:00")
    assert len(origin.sha256) == 64
    assert "store" in origin.absent
