"""Texts that a spreadsheet would run are quoted in what the platform writes, and read back unchanged."""

from pathlib import Path

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from pipelines.steps.decisions import write
from pricing.data.source import read_sales
from pricing.quoting import quote_formulas, unquote_formulas

HOSTILE = ['=HYPERLINK("http://x","y")', "+1", "-2+3", "@SUM(A1)", "\tx", "'=1", "P1", "O'Neil"]


def test_our_own_reader_takes_the_quotes_back(tmp_path: Path) -> None:
    frame = pd.DataFrame({"product_id": HOSTILE, "category": HOSTILE[::-1], "price": -1.5})

    write(frame, tmp_path / "prices.csv")

    found = read_sales(str(tmp_path / "prices.csv"))
    assert found["product_id"].tolist() == HOSTILE
    assert found["category"].tolist() == HOSTILE[::-1]
    assert found["price"].tolist() == [-1.5] * len(HOSTILE)


@given(st.lists(st.text("'=+-@\t\rab1")))
def test_no_text_begins_a_formula_and_quoting_is_undone_exactly(texts: list[str]) -> None:
    frame = pd.DataFrame({"text": pd.Series(texts, dtype=object)})

    for kind in ("object", "str", "category"):
        quoted = quote_formulas(frame.astype({"text": kind}))
        assert not quoted["text"].astype(str).str.match(r"[=+\-@\t\r]").any()
        assert unquote_formulas(quoted)["text"].tolist() == texts
