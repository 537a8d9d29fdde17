"""Match competitors' offers to products: by our id, by EAN (GTIN), or by a mapping table. Nothing is guessed."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pricing.config_competitors import MatchingConfig
from pricing.csv_text import quote_formulas
from pricing.errors import SourceError
from pricing.fileio import replace_atomically

UNMATCHED = ("competitor", "item", "reason", "found", "offers", "newest", "price", "currency")
GTIN_DIGITS = 14
_LEAST_DIGITS = 7  # of a GTIN-8 whose leading zero a spreadsheet has lost
_SHORT = "000000"  # before a GTIN-8 that is written as a GTIN-14
_ANY = ""  # competitor of a mapping that is for all


@dataclass(frozen=True)
class Matched:
    """Offers and the products that they are of.

    Attributes:
        offers: Those of one product each; `product_id` is ours, and `matched_by` says how it was found.
        unmatched: One row per competitor, item and reason of the others: what was found, number of offers, the newest
            one's time, price and currency. `UNMATCHED` names the columns.
    """

    offers: pd.DataFrame
    unmatched: pd.DataFrame

    def reasons(self) -> dict[str, int]:
        """Reason → number of offers without a product, the most frequent first."""
        counts = self.unmatched.groupby("reason")["offers"].sum().sort_values(ascending=False)
        return {str(reason): int(count) for reason, count in counts.items()}

    def examples(self, most: int = 3) -> list[str]:
        """The first unmatched items of each reason in words."""
        return [
            f"{row['reason']}: {row['item']} of {row['competitor']} ({row['found']})"
            for _, group in self.unmatched.groupby("reason", sort=False)
            for _, row in group.head(most).iterrows()
        ]


@dataclass(frozen=True)
class Gtin:
    """A GTIN as 14 digits, or why a text is none.

    Attributes:
        digits: 14 digits, zeros in front; empty where `fault` says why.
        fault: "ean_invalid" (form or check digit) or "ean_internal" (a number that every shop gives out itself).
    """

    digits: str = ""
    fault: str = ""


def read_gtin(text: str) -> Gtin:
    """Reads an EAN or UPC of 8, 12, 13 or 14 digits, also one whose leading zeros a spreadsheet has lost.

    The check digit is that of the GS1 General Specifications, 7.9: digits are weighted 3 and 1 from the right, so that
    zeros in front do not change it. Numbers in GS1's ranges for restricted circulation (EAN-13 from 02, 04 or 2,
    GTIN-8 from 0 or 2) mean another product in each shop. A case of packs has a GTIN-14 of its own and is another item.

    Example:
        >>> from pricing.sources.competitor_matching import read_gtin
        >>> read_gtin("4006381333931").digits, read_gtin("4006381333932").fault, read_gtin("2012345678903").fault
        ('04006381333931', 'ean_invalid', 'ean_internal')
    """
    digits = text.strip().replace(" ", "").replace("-", "")
    if not (digits.isascii() and digits.isdigit() and _LEAST_DIGITS <= len(digits) <= GTIN_DIGITS):
        return Gtin(fault="ean_invalid")
    digits = digits.zfill(GTIN_DIGITS)
    weighted = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(digits))
    if weighted % 10 or not digits.strip("0"):
        return Gtin(fault="ean_invalid")
    if digits.startswith(_SHORT):
        internal = digits[len(_SHORT)] in "02"
    else:
        internal = digits[0] == "0" and digits[1:].startswith(("02", "04", "2"))
    return Gtin(fault="ean_internal") if internal else Gtin(digits)


def match_offers(
    offers: pd.DataFrame,
    *,
    catalogue: pd.DataFrame,
    mapping: pd.DataFrame | None = None,
    config: MatchingConfig,
) -> Matched:
    """Finds the product of each offer; what has none, or more than one, is listed and left out.

    Every way of `config.by` is tried. Where two find different products, or an EAN or a mapping leads to several, the
    offer is ambiguous and refused: a wrong competitor price does more harm than none.

    Args:
        offers: As `pricing.sources.competitor_offers` makes them; not modified.
        catalogue: Our products: `product_id` and, for matching by EAN, `ean`.
        mapping: Columns `product_id`, `item_id` or `ean` of the offer, and `competitor`, where empty means any.
        config: The ways.

    Raises:
        SourceError: A table lacks a column that it needs.
    """
    _need(catalogue, "product_id", where="the product master")
    products = frozenset(catalogue["product_id"].astype(str).str.strip())
    ways = _ways(catalogue, mapping, products=products, by=config.by)
    keys = ["competitor", "product_id", "ean", "item_id"]
    items = offers[keys].drop_duplicates(ignore_index=True)
    texts = items.astype(object).where(items.notna(), "").to_dict("records")
    found = [_match({str(name): str(value) for name, value in row.items()}, ways, products) for row in texts]
    items["matched"] = pd.array([each.product_id for each in found], dtype="string")
    items["matched_by"] = pd.array([each.way for each in found], dtype="string")
    items["reason"] = pd.array([each.reason for each in found], dtype="string")
    items["found"] = pd.array([each.found for each in found], dtype="string")
    joined = offers.merge(items, on=keys, how="left", validate="many_to_one")
    known = joined["reason"] == ""
    matched = joined[known].assign(product_id=joined.loc[known, "matched"])
    return Matched(
        matched.drop(columns=["matched", "reason", "found"]).reset_index(drop=True),
        _listed(joined[~known]),
    )


def write_unmatched(path: Path, unmatched: pd.DataFrame) -> None:
    """Writes the list of unmatched offers as a CSV file for a person, atomically."""
    with replace_atomically(path) as draft:
        quote_formulas(unmatched).to_csv(draft, index=False, lineterminator="\n")


@dataclass(frozen=True)
class _Match:
    product_id: str | None = None
    way: str | None = None
    reason: str = ""
    found: str = ""


@dataclass(frozen=True)
class _Way:
    """One way of matching: products that an offer may be of, and a fault that explains why there are none."""

    name: str
    find: Callable[[Mapping[str, str]], Iterable[str]]


def _match(offer: Mapping[str, str], ways: Iterable[_Way], products: frozenset[str]) -> _Match:
    found = {way.name: sorted(set(way.find(offer))) for way in ways}
    said = {name: ids for name, ids in found.items() if ids}
    for name, ids in said.items():
        if len(ids) > 1:
            return _Match(reason="ambiguous", found=f"{name} leads to {' and '.join(ids[:3])}")
    several = sorted({ids[0] for ids in said.values()})
    if len(several) > 1:
        ways_said = " and ".join(f"{name} says {ids[0]}" for name, ids in said.items())
        return _Match(reason="ambiguous", found=ways_said)
    if several and several[0] not in products:
        return _Match(reason="mapped_to_unknown", found=f"the mapping says {several[0]}, which is no product of ours")
    if several:
        return _Match(several[0], next(iter(said)))
    gtin = read_gtin(offer["ean"]) if offer["ean"] and "ean" in found else Gtin()
    given = ", ".join(f"{name} {offer[name]}" for name in ("product_id", "ean", "item_id") if offer[name])
    return _Match(reason=gtin.fault or "unknown", found=given)


def _ways(
    catalogue: pd.DataFrame, mapping: pd.DataFrame | None, *, products: frozenset[str], by: Iterable[str]
) -> list[_Way]:
    ways = []
    for name in by:
        if name == "product_id":
            ways.append(_Way(name, lambda offer: {offer["product_id"]} & products))
        elif name == "ean" and "ean" in catalogue:
            ways.append(_Way(name, _of_gtin(catalogue)))
        elif name == "mapping" and mapping is not None:
            ways.append(_Way(name, _mapped(mapping)))
    return ways


def _of_gtin(catalogue: pd.DataFrame) -> Callable[[Mapping[str, str]], Iterable[str]]:
    found: dict[str, list[str]] = {}
    rows = catalogue[["product_id", "ean"]].dropna().astype(str).drop_duplicates()
    for product, ean in zip(rows["product_id"], rows["ean"], strict=True):
        if digits := read_gtin(ean).digits:
            found.setdefault(digits, []).append(product.strip())
    return lambda offer: found.get(read_gtin(offer["ean"]).digits, ())


def _mapped(mapping: pd.DataFrame) -> Callable[[Mapping[str, str]], Iterable[str]]:
    _need(mapping, "product_id", where="the mapping of competitors' items")
    kinds = [name for name in ("item_id", "ean") if name in mapping]
    if not kinds:
        raise SourceError("the mapping of competitors' items has neither item_id nor ean; give one of them")
    texts = mapping.astype(object).where(mapping.notna(), "").astype(str).apply(lambda column: column.str.strip())
    found: dict[tuple[str, str, str], list[str]] = {}
    for row in texts.to_dict("records"):
        for kind in kinds:
            value = read_gtin(row[kind]).digits or row[kind] if kind == "ean" else row[kind]
            if value:
                found.setdefault((str(row.get("competitor", _ANY)), kind, value), []).append(row["product_id"])

    def find(offer: Mapping[str, str]) -> Iterable[str]:
        for kind in kinds:
            value = read_gtin(offer["ean"]).digits or offer["ean"] if kind == "ean" else offer[kind]
            for competitor in (offer["competitor"], _ANY):  # what is said of one competitor goes before what is of all
                if value and (competitor, kind, value) in found:
                    return found[competitor, kind, value]
        return ()

    return find


def _need(frame: pd.DataFrame, column: str, *, where: str) -> None:
    if column not in frame:
        columns = ", ".join(map(str, frame.columns))
        raise SourceError(f"{where} has no column {column} (it has {columns}); map one in the configuration")


def _listed(joined: pd.DataFrame) -> pd.DataFrame:
    """One row per competitor, item and reason, those with most offers first."""
    if joined.empty:
        return pd.DataFrame({name: pd.Series(dtype="string") for name in UNMATCHED}).astype({"offers": "int64"})
    newest = joined.sort_values("observed_at", kind="stable").groupby(["competitor", "item", "reason"], sort=False)
    listed = newest.agg(
        found=("found", "last"),
        offers=("price", "size"),
        newest=("observed_at", "last"),
        price=("price", "last"),
        currency=("currency", "last"),
    ).reset_index()
    listed = listed.sort_values(["offers", "competitor", "item"], ascending=[False, True, True], ignore_index=True)
    return listed[list(UNMATCHED)]
