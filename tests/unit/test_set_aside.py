"""Rows that are set aside are counted, all of them, and kept, some of them."""

import numpy as np
import pandas as pd

from pricing.sources.set_aside import SetAside
from tests.kit.chunks import chunk


def test_all_rows_are_counted_and_the_first_of_each_reason_kept_with_their_cells() -> None:
    aside = SetAside(kept=3)
    for first in (1, 6):
        rows = chunk("product_id quantity", *((f"p{n}", n) for n in range(first, first + 5)), first=first)
        broken = np.array([False, True, True, False, True])
        aside.add(rows, broken, table="sales", reason="odd", units=rows.frame["quantity"].to_numpy(np.float64))

    frame = aside.frame("sales")

    assert frame.columns.tolist() == ["source", "line", "reason", "product_id", "quantity"]
    assert frame["line"].tolist() == [2, 3, 5]
    (count,) = aside.counts
    assert (count.rows, count.units, count.first) == (6, 2 + 3 + 5 + 7 + 8 + 10, "lines.csv, line 2")
    assert aside.frame("stock").empty


def test_a_table_may_have_other_columns_from_file_to_file() -> None:
    aside = SetAside()
    aside.add(chunk("a b", (1, 2)), np.array([True]), table="sales", reason="one")
    aside.add(chunk("a c", (1, 2), origin="a.csv"), np.array([True]), table="sales", reason="one")

    frame = aside.frame("sales")

    assert frame["source"].tolist() == ["a.csv", "lines.csv"]
    assert {"a", "b", "c"} <= set(frame)


def test_rows_that_a_reader_could_not_read_are_counted_with_the_others() -> None:
    aside = SetAside()
    unread = pd.DataFrame({"source": "a.csv", "line": [3, 4], "reason": "too few fields", "text": ["x", "y"]})

    aside.add_unread(unread, table="sales")

    assert (aside.rows_of("sales"), aside.counts[0].first) == (2, "a.csv, line 3")
    assert aside.frame("sales")["text"].tolist() == ["x", "y"]
