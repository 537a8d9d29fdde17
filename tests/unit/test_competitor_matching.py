"""Offers find their product by id, EAN or mapping, or are listed; nothing is guessed."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.config_competitors import MatchingConfig
from pricing.errors import SourceError
from pricing.sources.competitor_matching import Matched, match_offers, read_gtin, write_unmatched
from tests.kit.competitor_offers import offers

CATALOGUE = pd.DataFrame(
    {
        "product_id": ["P1", "P2", "P3", "P4"],
        "ean": ["4006381333931", "00012345678905", None, "not an ean"],
    }
)
NOWHERE = {"product_id": None, "observed_at": "2026-03-01T00:00:00Z"}


def match(*rows: dict[str, Any], mapping: pd.DataFrame | None = None, **settings: Any) -> Matched:
    given_offers = offers(*[{**NOWHERE, **row} for row in rows])
    return match_offers(given_offers, catalogue=CATALOGUE, mapping=mapping, config=MatchingConfig(**settings))


def found(matched: Matched) -> list[tuple[str, str]]:
    return list(zip(matched.offers["product_id"], matched.offers["matched_by"], strict=True))


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("4006381333931", "04006381333931"),
        (" 4006381-333931 ", "04006381333931"),
        ("04006381333931", "04006381333931"),
        ("012345678905", "00012345678905"),
        ("12345678905", "00012345678905"),
        ("96385074", "00000096385074"),
        ("14006381333938", "14006381333938"),
    ],
    ids=["EAN-13", "spaces", "14 digits", "UPC", "UPC without its zero", "EAN-8", "a case of packs"],
)
def test_a_gtin_is_read_in_any_of_its_lengths(text: str, digits: str) -> None:
    assert read_gtin(text).digits == digits


@pytest.mark.parametrize(
    "text", ["4006381333932", "400638133393", "", "4.00638E+12", "0000000000000", "123", "٤٠٠٦٣٨١"]
)
def test_what_is_no_gtin_is_refused(text: str) -> None:
    assert (read_gtin(text).digits, read_gtin(text).fault) == ("", "ean_invalid")


@pytest.mark.parametrize("text", ["2012345678903", "0212345678909", "0412345678903", "20123451", "00123457"])
def test_a_number_that_every_shop_gives_out_itself_is_refused(text: str) -> None:
    assert read_gtin(text).fault == "ean_internal"


@given(body=st.integers(10**11, 10**12 - 1), wrong=st.integers(1, 9))
def test_one_wrong_check_digit_is_found(body: int, wrong: int) -> None:
    weighted = sum(int(digit) * (1, 3)[place % 2] for place, digit in enumerate(str(body)))  # EAN-13, from the left
    check = -weighted % 10

    assert read_gtin(f"{body}{check}").fault in ("", "ean_internal")
    assert read_gtin(f"{body}{(check + wrong) % 10}").fault == "ean_invalid"


def test_our_own_id_matches() -> None:
    assert found(match({"product_id": " P3 "})) == [("P3", "product_id")]


def test_an_ean_matches_in_another_length() -> None:
    matched = match({"ean": "04006381333931"}, {"ean": "12345678905"})

    assert found(matched) == [("P1", "ean"), ("P2", "ean")]


def test_a_mapping_matches_the_competitors_own_id_for_that_competitor() -> None:
    mapping = pd.DataFrame({"competitor": ["Rival", None], "item_id": ["r-7", "any-8"], "product_id": ["P3", "P4"]})
    rows = [{"item_id": "r-7"}, {"item_id": "r-7", "competitor": "Other"}, {"item_id": "any-8", "competitor": "Other"}]

    matched = match(*rows, mapping=mapping)

    assert found(matched) == [("P3", "mapping"), ("P4", "mapping")]
    assert matched.unmatched[["competitor", "item", "reason"]].to_dict("records") == [
        {"competitor": "Other", "item": "item_id:r-7", "reason": "unknown"}
    ]


def test_a_mapping_may_map_eans() -> None:
    mapping = pd.DataFrame({"ean": ["96385074"], "product_id": ["P3"]})

    assert found(match({"ean": "0096385074"}, mapping=mapping)) == [("P3", "mapping")]


def test_an_ean_of_two_products_is_ambiguous() -> None:
    catalogue = pd.DataFrame({"product_id": ["P1", "P9"], "ean": ["4006381333931"] * 2})
    given_offers = offers({**NOWHERE, "ean": "4006381333931"})

    matched = match_offers(given_offers, catalogue=catalogue, config=MatchingConfig())

    assert matched.offers.empty
    assert matched.unmatched[["reason", "found"]].to_dict("records") == [
        {"reason": "ambiguous", "found": "ean leads to P1 and P9"}
    ]


def test_an_id_and_an_ean_of_different_products_are_ambiguous() -> None:
    matched = match({"product_id": "P2", "ean": "4006381333931"})

    assert matched.offers.empty
    assert matched.unmatched["found"].tolist() == ["product_id says P2 and ean says P1"]


def test_a_mapping_to_two_products_is_ambiguous() -> None:
    mapping = pd.DataFrame({"item_id": ["r-7", "r-7"], "product_id": ["P3", "P4"]})

    assert match({"item_id": "r-7"}, mapping=mapping).reasons() == {"ambiguous": 1}


def test_a_mapping_to_what_is_no_product_is_listed() -> None:
    mapping = pd.DataFrame({"item_id": ["r-7"], "product_id": ["gone"]})

    assert match({"item_id": "r-7"}, mapping=mapping).reasons() == {"mapped_to_unknown": 1}


def test_only_the_configured_ways_are_tried() -> None:
    assert match({"ean": "4006381333931"}, by=("product_id",)).reasons() == {"unknown": 1}


def test_the_unmatched_are_listed_with_their_number_and_newest_price(tmp_path: Path) -> None:
    rows = [
        {"ean": "96385074", "price": 3, "observed_at": "2026-03-05T00:00:00Z"},
        {"ean": "96385074", "price": 2},
        {"ean": "4006381333932"},
        {"item_id": "=1+1"},
        {"product_id": "P1"},
    ]

    matched = match(*rows)
    write_unmatched(tmp_path / "unmatched.csv", matched.unmatched)

    assert matched.reasons() == {"unknown": 3, "ean_invalid": 1}
    assert matched.unmatched.iloc[0][["item", "offers", "price"]].tolist() == ["ean:96385074", 2, 3.0]
    assert matched.examples(1)[0] == "unknown: ean:96385074 of Rival (ean 96385074)"
    written = pd.read_csv(tmp_path / "unmatched.csv", dtype=str)
    assert len(written) == 3
    assert not any(cell.startswith("=") for row in written.to_numpy() for cell in row)


def test_all_matched_leaves_an_empty_list() -> None:
    matched = match({"product_id": "P1"})

    assert matched.unmatched.empty
    assert (matched.reasons(), matched.examples()) == ({}, [])


def test_no_offers_are_matched_to_nothing() -> None:
    matched = match_offers(offers({**NOWHERE, "ean": "1"})[:0], catalogue=CATALOGUE, config=MatchingConfig())

    assert matched.offers.empty
    assert matched.unmatched.empty


@pytest.mark.parametrize(
    ("catalogue", "mapping", "words"),
    [
        (CATALOGUE.rename(columns={"product_id": "sku"}), None, "the product master has no column product_id"),
        (CATALOGUE, pd.DataFrame({"item_id": ["a"]}), "the mapping of competitors' items has no column product_id"),
        (CATALOGUE, pd.DataFrame({"product_id": ["P1"]}), "neither item_id nor ean"),
    ],
)
def test_a_table_without_what_it_needs_is_refused(
    catalogue: pd.DataFrame, mapping: pd.DataFrame | None, words: str
) -> None:
    given_offers = offers({**NOWHERE, "ean": "96385074"})

    with pytest.raises(SourceError, match=words):
        match_offers(given_offers, catalogue=catalogue, mapping=mapping, config=MatchingConfig())
