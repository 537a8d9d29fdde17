"""Numbers in texts are read as they were meant, whatever the marks of their country."""

import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.config_sources import TextFormat
from pricing.errors import SourceError
from pricing.sources.conversion import Marks, ids, numbers, times

# Country: its decimal mark, and what parts thousands there.
COUNTRIES = {"us": (".", ","), "de": (",", "."), "ch": (".", "'"), "fr": (",", "\u202f"), "plain": (".", "")}


def written(value: float, country: str) -> str:
    """An oracle: Python's own formatting, with the country's marks."""
    decimal, group = COUNTRIES[country]
    return f"{value:,.2f}".translate({ord(","): group, ord("."): decimal})


@given(st.lists(st.integers(-(10**10), 10**10), min_size=1, max_size=20), st.sampled_from(sorted(COUNTRIES)))
def test_numbers_with_two_decimals_come_back_whatever_the_country(cents: list[int], country: str) -> None:
    values = [number / 100 for number in cents]
    column = pa.array([written(value, country) for value in values])
    marks = Marks(TextFormat(), where="a file")

    marks.learn({"price": column})
    read = numbers(column, marks)

    assert read.values.to_pylist() == values
    assert not read.wrong["is no number"].any()


@given(st.lists(st.text(alphabet="0123456789.,-+ '€eE", max_size=10), max_size=10), st.sampled_from([".", ","]))
def test_every_cell_is_a_number_or_missing_or_wrong(cells: list[str], decimal: str) -> None:
    column = pa.array(cells, pa.string())
    marks = Marks(TextFormat.model_validate({"decimal": decimal}), where="a file")

    read = numbers(column, marks)

    for cell, value, wrong in zip(cells, read.values.to_pylist(), read.wrong["is no number"].tolist(), strict=True):
        assert (value is not None) + wrong + (not cell.strip()) == 1, cell


@given(st.integers(1, 999), st.integers(0, 999))
def test_a_number_alone_that_may_be_a_thousand_times_another_is_never_guessed(left: int, right: int) -> None:
    for mark in ".,":
        with pytest.raises(SourceError, match="may be a thousand times the other"):
            Marks(TextFormat(), where="a file").learn({"price": pa.array([f"{left}{mark}{right:03d}", "12"])})


@given(st.lists(st.text(max_size=12)))
def test_an_id_is_its_text_without_blanks_around_it_or_wrong_or_missing(texts: list[str]) -> None:
    read = ids(pa.array(texts, pa.string()))

    for position, (text, value) in enumerate(zip(texts, read.values.to_pylist(), strict=True)):
        wrong = any(mask[position] for mask in read.wrong.values())
        if value is not None:
            assert value == text.strip() or text.strip().startswith('="')
            assert not wrong
        else:
            assert wrong or text.strip() in ("", "\\N", '=""')


@given(st.datetimes(), st.sampled_from(["", "Z", "+02:00", "-0530", "+01"]), st.booleans())
def test_iso_times_are_what_python_takes_them_for(moment: dt.datetime, zone: str, slow: bool) -> None:
    text = f"{moment}{zone}"
    column = pa.array([text, "no time"] if slow else [text])

    read = times(column)

    expected = dt.datetime.fromisoformat(text)
    value = read.values.to_pylist()[0]
    assert value == expected
    assert (value.tzinfo is None) == (expected.tzinfo is None)
    if slow:
        assert [mask[1] for mask in read.wrong.values()].count(True) == 1
