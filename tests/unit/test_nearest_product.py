"""The known id that an unknown one was probably meant to be: found, alike in every process, and cheaply."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.decision import nearest_product
from pricing.decision.nearest_product import LENGTH, NearestProduct

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


@pytest.mark.parametrize("asked", ["banana", "Q9", "P8", "☕", "0", "P7" * 100])
def test_an_id_like_no_other_finds_none(asked: str) -> None:
    assert NearestProduct(IDS).of(asked) is None


def test_no_product_is_near_where_none_is_known() -> None:
    assert NearestProduct([]).of("P7") is None


@pytest.mark.parametrize(
    ("known", "meant"),
    [
        (["sku1x", "sku", "sku12", "SKU-1"], "SKU-1"),
        (["sku2", "sku", "sku12", "sku13"], "sku12"),
        (["sku2", "sku"], "sku"),
        (["sku2", "sku3"], "sku2"),
    ],
)
def test_the_same_id_is_nearest_then_a_longer_then_a_shorter_one_then_one_with_another_character(
    known: list[str], meant: str
) -> None:
    assert NearestProduct(known).of("sku1") == meant


def likeness(one: str, other: str) -> float:
    """The share of both that they have in common, in order, 0 to 1."""
    longest = [0] * (len(other) + 1)
    for character in one:
        before = longest[:]
        for place, its in enumerate(other):
            longest[place + 1] = before[place] + 1 if its == character else max(longest[place], before[place + 1])
    return 2 * longest[-1] / (len(one) + len(other))


@given(
    known=st.lists(st.text("ab1 -", min_size=1, max_size=5), min_size=1, max_size=6, unique=True),
    asked=st.text("ab1 -", min_size=1, max_size=5),
)
def test_of_the_ids_at_most_a_character_away_the_likest_is_named(known: list[str], asked: str) -> None:
    found = NearestProduct(known).of(asked)

    plain, keys = nearest_product._plain(asked), set(nearest_product._keys(nearest_product._plain(asked)))
    likest = {
        name: likeness(nearest_product._plain(name), plain)
        for name in known
        if keys & set(nearest_product._keys(nearest_product._plain(name)))
    }
    best = max(likest.values(), default=0.0)
    assert (found is None) == (best < 0.6)
    assert found is None or likest[found] == best


def test_of_very_many_products_those_spelt_otherwise_are_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest_product, "PRODUCTS", 3)
    near = NearestProduct(IDS)

    assert near.of("sku 12345") == "SKU-12345"
    assert near.of("sku 12354") is None
    assert len(near._index[0]) == len(IDS)


@pytest.mark.parametrize("shared", ["A" * (LENGTH - 4), "A" * LENGTH])
def test_long_ids_that_differ_little_cost_no_more_than_others(shared: str) -> None:
    near = NearestProduct([f"{shared}{number:04d}" for number in range(1000)])
    asked = f"{'A' * (LENGTH - 4)}01x7"
    near.of(asked)

    def seconds() -> float:
        started = time.perf_counter()
        near.of(asked)
        return time.perf_counter() - started

    assert min(seconds() for _ in range(20)) < 0.001  # some 0.02 ms; to compare it with twenty ids took 6
