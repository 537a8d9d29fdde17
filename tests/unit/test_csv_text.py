"""Texts that a spreadsheet would run are quoted in what the platform writes, and read back unchanged."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.price import write
from pricing.csv_text import quote_formulas, unquote_formulas
from pricing.data.source import read_sales

HOSTILE = ['=HYPERLINK("http://x","y")', "+1", "-2+3", "@SUM(A1)", "\tx", "'=1", "P1", "O'Neil"]


def test_no_cell_of_text_begins_a_formula_and_numbers_stay_numbers(tmp_path: Path) -> None:
    frame = pd.DataFrame({"product_id": HOSTILE, "move": [-1.5] * len(HOSTILE)})

    write(frame, tmp_path / "prices.csv")

    found = pd.read_csv(tmp_path / "prices.csv")
    assert not found["product_id"].str.match(r"[=+\-@\t\r]").any()
    assert found["move"].tolist() == [-1.5] * len(HOSTILE)


def test_our_own_reader_takes_the_quotes_back(tmp_path: Path) -> None:
    frame = pd.DataFrame({"product_id": HOSTILE, "category": HOSTILE[::-1], "price": 1.0})

    write(frame, tmp_path / "prices.csv")

    found = read_sales(str(tmp_path / "prices.csv"))
    assert found["product_id"].tolist() == HOSTILE
    assert found["category"].tolist() == HOSTILE[::-1]


@given(st.lists(st.text("'=+-@\t\rab1")))
def test_quoting_is_undone_exactly(texts: list[str]) -> None:
    frame = pd.DataFrame({"text": pd.Series(texts, dtype=object)})

    assert unquote_formulas(quote_formulas(frame))["text"].tolist() == texts


@pytest.mark.parametrize("kind", ["object", "str", "category"])
def test_every_kind_of_text_is_quoted(kind: str) -> None:
    frame = pd.DataFrame({"text": pd.Series(["=1", None, "a"], dtype=kind)})

    assert quote_formulas(frame)["text"].tolist()[0] == "'=1"
