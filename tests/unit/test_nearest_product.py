"""The known id that an unknown one was probably meant to be: found, alike in every process, and cheaply."""

from difflib import SequenceMatcher

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.decision import nearest_product
from pricing.decision.nearest_product import COMPARED, LEAST, NearestProduct

IDS = ["P1", "P7", "P00012", "SKU-12345", "apple-red", "日本茶"]


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("p7", "P7"),
        (" P7 ", "P7"),
        ("P-007", "P7"),
        ("p12", "P00012"),
        ("sku12345", "SKU-12345"),
        ("SKU_12354", "SKU-12345"),  # two digits swapped
        ("SKU 1234", "SKU-12345"),  # one too few
        ("aple red", "apple-red"),
        ("apples red", "apple-red"),
        ("appla-red", "apple-red"),
        ("日本茶 ☕", "日本茶"),
    ],
)
def test_an_id_spelt_otherwise_or_mistyped_finds_the_one_meant(asked: str, meant: str) -> None:
    assert NearestProduct(IDS).of(asked) == meant


@pytest.mark.parametrize("asked", ["banana", "Q9", "☕", "0", "P7" * 100])
def test_an_id_like_no_other_finds_none(asked: str) -> None:
    assert NearestProduct(IDS).of(asked) is None


def test_no_product_is_near_where_none_is_known() -> None:
    assert NearestProduct([]).of("P7") is None


@given(
    known=st.lists(st.text("ab1 -", min_size=1, max_size=5), min_size=1, max_size=6, unique=True),
    asked=st.text("ab1 -", min_size=1, max_size=5),
)
def test_of_the_ids_at_most_a_character_away_the_likest_is_named(known: list[str], asked: str) -> None:
    found = NearestProduct(known).of(asked)

    plain = nearest_product._plain(asked)

    def likeness(name: str) -> float:
        return SequenceMatcher(None, nearest_product._plain(name), plain, autojunk=False).ratio()

    keys = set(nearest_product._keys(plain))
    near = [name for name in known if keys & set(nearest_product._keys(nearest_product._plain(name)))]
    best = max(map(likeness, near), default=0.0)
    assert (found is None) == (best < LEAST)
    assert found is None or likeness(found) == best


def test_of_very_many_products_those_spelt_otherwise_are_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest_product, "PRODUCTS", 3)
    near = NearestProduct(IDS)

    assert near.of("sku 12345") == "SKU-12345"
    assert near.of("sku 12354") is None
    assert len(near._index[0]) == len(IDS)


def test_an_unknown_id_is_compared_with_few_however_many_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    class Counting(SequenceMatcher[str]):
        def set_seq1(self, a: str) -> None:  # type: ignore[override]
            compared.append(a)
            super().set_seq1(a)

    near = NearestProduct([f"P{number:04d}" for number in range(3000)])
    near.of("P1")
    monkeypatch.setattr(nearest_product, "SequenceMatcher", Counting)

    assert near.of("p129x") is not None

    assert 1 < len(compared) - 1 <= COMPARED  # it sets an empty one at first
