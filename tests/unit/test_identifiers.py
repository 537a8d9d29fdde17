"""Ids of all sources are made alike by a stated rule, and those that still differ only in spelling are found."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.errors import SourceError
from pricing.sources.identifiers import Identifiers, read_aliases, series_id, spelling_advice
from pricing.sources.set_aside import SetAside
from tests.kit.chunks import chunk


def alike(rule: Any, *cells: Any) -> list[str]:
    ids = Identifiers(rule)
    codes = ids.codes(pd.Series(list(cells), dtype=object), source="sales")
    return ["" if code < 0 else ids.ids[code] for code in codes]


@pytest.mark.parametrize(
    ("rule", "cells", "ids"),
    [
        ("as_written", [" a1 ", "a1\u00a0", "\ufeffa1", "A1"], ["a1", "a1", "a1", "A1"]),
        ("as_written", ["a  1", "a\u00a01", "a 1"], ["a 1", "a 1", "a 1"]),
        ("as_written", [17, 17.0, "17", "017"], ["17", "17", "17", "017"]),
        ("as_written", ["cafe\u0301", "caf\u00e9"], ["caf\u00e9", "caf\u00e9"]),
        ("upper", ["a1", "A1 "], ["A1", "A1"]),
        ("digits", ["00123", "123", 123, "0", "000", "00a1"], ["123", "123", "123", "0", "0", "00A1"]),
        ("as_written", [None, "", "  ", float("nan")], ["", "", "", ""]),
    ],
)
def test_ids_are_made_alike_by_the_rule(rule: Any, cells: list[Any], ids: list[str]) -> None:
    assert alike(rule, *cells) == ids


def test_a_renamed_product_has_the_id_at_the_end_of_its_chain_and_is_counted() -> None:
    ids = Identifiers("upper", aliases={"old": "newer", "NEWER ": "newest", "same": "same"})

    codes = ids.codes(pd.Series(["old", "newer", "newest", "same", "old"]), source="sales")

    assert ids.of(codes).tolist() == ["NEWEST", "NEWEST", "NEWEST", "SAME", "NEWEST"]
    assert ids.renamed() == {"NEWER": 1, "OLD": 2}


def test_renamed_products_in_a_circle_are_refused_naming_it() -> None:
    with pytest.raises(SourceError, match="b → c → b"):
        Identifiers(aliases={"a": "b", "b": "c", "c": "b"})


def test_of_two_products_for_one_former_id_the_last_row_holds_and_the_other_is_set_aside() -> None:
    aside = SetAside()
    rows = chunk("former_id product_id", ("a", "b"), ("a", "c"), ("x", None), ("d", "e"), ("d", "e"))

    found = read_aliases([rows], set_aside=aside)

    assert found == {"a": "c", "d": "e"}
    assert {count.reason: count.rows for count in aside.counts} == {
        "former_id and product_id must not be missing": 1,
        "a later row gives this former_id another product": 1,
    }


def test_leading_zeros_that_a_spreadsheet_lost_are_found_with_the_setting_that_mends_it() -> None:
    ids = Identifiers()
    ids.codes(pd.Series(["123", "77"]), source="sales")
    ids.codes(pd.Series(["00123", "077", "88"]), source="stock")

    (advice,) = spelling_advice(ids)

    assert advice.startswith(
        "2 ids of sales are in stock in another spelling, by leading zeros (lost by a spreadsheet?)"
    )
    assert "'123' in sales, '00123' in stock" in advice
    assert "sources.ids: digits" in advice


@pytest.mark.parametrize(
    ("left", "right", "difference"),
    [("a1", "A1", "case"), ("a 1", "a1", "blanks"), ("0a1", "A1", "case and leading zeros")],
)
def test_the_difference_between_two_spellings_is_named(left: str, right: str, difference: str) -> None:
    ids = Identifiers()
    ids.codes(pd.Series([left]), source="sales")
    ids.codes(pd.Series([right]), source="stock")

    assert [each.difference for each in ids.look_alikes("sales", "stock")] == [difference]


def test_ids_that_were_written_in_several_ways_are_listed() -> None:
    ids = Identifiers("digits")
    ids.codes(pd.Series(["00123", "123", "a", "7"]), source="sales")

    assert ids.merged() == {"123": ("00123", "123")}


def test_codes_stay_the_same_from_chunk_to_chunk() -> None:
    ids = Identifiers()

    first = ids.codes(pd.Series(["b", "a"]), source="sales")
    second = ids.codes(pd.Series(["a", "c", "b"]), source="stock")

    assert (first.tolist(), second.tolist()) == ([0, 1], [1, 2, 0])
    assert (ids.known("sales"), ids.known("stock")) == (("a", "b"), ("a", "b", "c"))


@given(st.lists(st.tuples(st.text("@%ab4", min_size=1), st.text("@%ab4", min_size=1)), min_size=1, max_size=20))
def test_no_two_pairs_of_product_and_store_have_one_series_id(pairs: list[tuple[str, str]]) -> None:
    products, stores = (pd.Series(list(column), dtype="str") for column in zip(*pairs, strict=True))

    ids = series_id(products, stores)

    assert ids.nunique() == len(set(pairs))
    assert [each.rpartition("@")[0] for each in ids] == products.tolist()


@given(st.lists(st.text(min_size=0, max_size=6), max_size=20), st.sampled_from(["as_written", "upper", "digits"]))
def test_an_id_made_alike_stays_as_it_is(texts: list[str], rule: Any) -> None:
    ids = Identifiers(rule)

    once = [ids.alike(text) for text in texts]

    assert [ids.alike(text) for text in once] == once
    assert np.all([text == text.strip() for text in once])
