"""Readers of former formats of model versions: each turns the content of one format into that of the next.

Nothing else in the library knows former formats. A change of format raises FORMAT by one and adds a reader for the
number before it, `upgrade_from_<number>`, to READERS. A reader fills in, renames or removes; it reads no file and
computes no price. It names arrays and numbers literally: the library's own names and shapes may change after it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricing.registry.files import Files

Reader = Callable[[Files], Files]
Arrays = Mapping[str, NDArray[Any]]

FORMAT = 6
_PRIOR_ONLY = 0  # the lowest of the four grades of an elasticity


def upgrade_from_2(content: Files) -> Files:
    """Fills in what versions of format 2 do not say, as that format grew under one number.

    A version without grades has no elasticity that counts as identified: it holds prices (`holds_only`), and answers
    otherwise than its golden requests recorded, so that nothing of them is compared. One without
    `demand/priors/counted` priced products of no known category by other rules: of its golden requests only the prices
    are compared.

    Raises:
        KeyError: An array is missing that all versions of format 2 have.
    """
    arrays = dict(content.arrays)
    graded, compared = "demand/grade" in arrays, "demand/priors/counted" in arrays
    arrays = {**_elasticities_of_2(arrays), **_units_of_2(arrays), **_facts_of_2(arrays), **arrays}
    if "demand/combination/weights" not in arrays:
        arrays |= _network_alone_of_2(len(arrays["demand/product_ids"]))
    arrays.pop("demand/combination/lift", None)  # what the trees of some versions read; none does now
    golden = dict(content.header["golden"])
    if not compared:
        golden["compared"] = ["recommended_price", "source", "strategy"] if graded else []
    header = {"holds_only": _knows_no_elasticity(arrays), **content.header, "golden": golden}
    demand = {"elasticity_limits": [-20.0, -0.2], **content.documents["demand"]}
    return Files(header=header, documents={**content.documents, "demand": demand}, arrays=arrays)


def upgrade_from_3(content: Files) -> Files:
    """Says which golden answers were given by other rules.

    A guardrail that gave way went on to have an effect; the confidence of an answer with `low_confidence` was that of
    the price refused; a product nobody knew, not even by its category, was priced as if it sold like the others.
    """
    gave_way = ("anchor", "min_margin", "min_advertised", "min_days", "max_move", "seen", "comp_band")
    given_otherwise = [*(f"gave_way_{name}" for name in gave_way), "low_confidence", "unknown_category"]
    golden = {**content.header["golden"], "given_otherwise": given_otherwise}
    return replace(content, header={**content.header, "golden": golden})


def upgrade_from_4(content: Files) -> Files:
    """Says that the last prices charged are unknown: they bound no answer."""
    unknown = np.full(len(content.arrays["facts/product_ids"]), np.nan)
    return replace(content, arrays={**content.arrays, "facts/last_price": unknown})


def upgrade_from_5(content: Files) -> Files:
    """Says that prices include no tax, and that the days on which competitors' prices were seen are unknown.

    Without that day no request is answered by such a price: a request that gives none has none, as it had. In the rows
    since the checkpoint every price is of its row's day.
    """
    arrays = content.arrays
    products, tail = len(arrays["facts/product_ids"]), arrays["demand/encoded/tail/comp_price"]
    new = {
        "facts/tax_rate": np.zeros(products),
        "facts/comp_price_date": np.full(products, np.datetime64("NaT", "D")),
        "demand/encoded/tail/tax_rate": np.zeros(tail.shape, np.float32),
        "demand/encoded/tail/comp_price_age": np.where(np.isnan(tail), tail, np.float32(0)),
    }
    return replace(content, arrays={**arrays, **new})


READERS: Mapping[int, Reader] = {2: upgrade_from_2, 3: upgrade_from_3, 4: upgrade_from_4, 5: upgrade_from_5}


def readable(number: object) -> bool:
    """Whether a version of this format can be read."""
    return number in (*READERS, FORMAT)


def upgrade(content: Files, *, readers: Mapping[int, Reader] = READERS, until: int = FORMAT) -> Files:
    """The content of a version in the format `until`: the readers are applied in turn.

    Args:
        content: As it was packed, in the format `until` or in one that has a reader.
        readers: Format that is read → its reader, which gives the next one.
        until: The format to end with.

    Raises:
        KeyError: The content lacks what its format has, or no reader is there for it.
    """
    for number in range(content.header["format"], until):
        content = readers[number](content)
        content = replace(content, header={**content.header, "format": number + 1})
    return content


def _elasticities_of_2(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Grades and evidence: without them no elasticity is known to be identified, and nothing is known of why."""
    products, rows = len(arrays["demand/product_ids"]), len(arrays["demand/priors/level"])
    counts, left = np.zeros(products, np.int32), np.ones(products, np.float32)
    return {
        "demand/grade": np.full(products, _PRIOR_ONLY, np.int8),
        "demand/priors/grade": np.full(rows, _PRIOR_ONLY, np.int8),
        **{f"demand/evidence/{name}": counts for name in ("moves", "clusters", "prices", "flags")},
        **{f"demand/evidence/{name}": left for name in ("left", "left_own", "left_tested")},
    }


def _units_of_2(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Units: they counted in ones, by the piece, and levels were not restated by what a promotion draws."""
    products, rows = len(arrays["demand/product_ids"]), len(arrays["demand/priors/level"])
    return {
        "demand/counted": np.ones(products, np.bool_),
        "demand/norms/unit": np.ones(products),
        "demand/norms/promotion": np.zeros(products, np.float32),
        "demand/priors/unit": np.ones(rows),
        "demand/priors/counted": np.ones(rows, np.bool_),
    }


def _facts_of_2(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Facts: anchors, prices seen and deliveries are unknown."""
    products = len(arrays["facts/product_ids"])
    return {
        **{f"facts/{name}": np.full(products, np.nan) for name in ("anchor_price", "seen_low", "seen_high")},
        "facts/stock_jumps": np.zeros((products, 0), np.uint8),
        "facts/delivery_gaps": np.full((products, 63), np.nan, np.float32),
        "facts/last_delivery": np.full(products, np.datetime64("NaT", "D")),
        "facts/deliveries": np.zeros((products, 28, 4), np.uint8),
    }


def _network_alone_of_2(products: int) -> dict[str, NDArray[Any]]:
    """The combination of forecasters: all weight is the network's, whatever a product's volume."""
    parts: dict[str, NDArray[Any]] = {
        "weights": np.tile([1.0, 0.0, 0.0], (4, 1)),
        "dispersion": np.zeros(4),
        "narrow": np.zeros(products, np.float32),
        "volume": np.full(products, 3, np.int8),
        "booster": np.zeros(0, np.uint8),
        "factor": np.zeros((products, 2), np.float32),
    }
    return {f"demand/combination/{name}": values for name, values in parts.items()}


def _knows_no_elasticity(arrays: Arrays) -> bool:
    """Whether no product that sold of late has an elasticity with more than a prior behind it.

    Where none sold of late, all products count.
    """
    ids, grade = arrays["demand/product_ids"], arrays["demand/grade"]
    sold = np.isin(ids, arrays["facts/product_ids"][np.nan_to_num(arrays["facts/typical_units"]) > 0])
    return not (grade[sold if sold.any() else slice(None)] > _PRIOR_ONLY).any()
