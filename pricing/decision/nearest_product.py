"""Name the product that an unknown id was probably meant to be, at a cost that a flood of unknown ids cannot raise.

Ids are compared without case, punctuation and leading zeros, so that `p7` finds `P-007`. Near are those that are then
the same, or become the same when a character is left out of either or both: one too many, too few, mistaken, or swapped
with its neighbour (Garbe's symmetric deletes). Their hashes are looked up; no search goes through all ids.
"""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import cached_property
from itertools import islice

import numpy as np

from pricing.arrays import Ints

LEAST = 0.6  # similarity below which no id is named, 0 to 1, as difflib has it
PRODUCTS = 10_000  # beyond these the index leaves no character of an id out: it would grow too large
LENGTH = 64  # characters of an id that count
COMPARED = 20  # ids that one unknown id is compared with
_PADDING = re.compile(r"(?<!\d)0+(?=\d)")


class NearestProduct:
    """Finds the known product id nearest to an unknown one. The index is made when that is first asked."""

    def __init__(self, product_ids: Sequence[str]) -> None:
        self._product_ids = product_ids

    def of(self, product_id: str) -> str | None:
        """The known id nearest to an unknown one; None where none is near."""
        plain, (hashes, rows) = _plain(product_id), self._index
        keys = np.array([hash(key) for key in _keys(plain)])
        spans = zip(
            hashes.searchsorted(keys, "left").tolist(), hashes.searchsorted(keys, "right").tolist(), strict=True
        )
        near = dict.fromkeys(row for first, end in spans for row in rows[first:end].tolist())
        matcher = SequenceMatcher(None, b=plain, autojunk=False)
        likeness: dict[int, float] = {}
        for row in islice(near, COMPARED):
            matcher.set_seq1(_plain(self._product_ids[row]))
            likeness[row] = matcher.ratio()
        best = max(likeness, key=likeness.__getitem__, default=None)
        return None if best is None or likeness[best] < LEAST else self._product_ids[best]

    @cached_property
    def _index(self) -> tuple[Ints, Ints]:
        """(key,) the hashes of all keys, ascending, and the row of the id that each is of."""
        most = 1 if len(self._product_ids) > PRODUCTS else None  # the first key is the id itself
        keys = [_keys(_plain(name))[:most] for name in self._product_ids]
        hashes = np.array([hash(key) for of_one in keys for key in of_one], dtype=np.int64)
        rows = np.repeat(np.arange(len(keys)), [len(of_one) for of_one in keys])
        order = np.argsort(hashes, kind="stable")
        return hashes[order], rows[order]


def _plain(product_id: str) -> str:
    """The id without what is often written otherwise."""
    text = product_id[:LENGTH].casefold()
    return "".join(filter(str.isalnum, _PADDING.sub("", text))) or text


def _keys(plain: str) -> list[str]:
    """The id, and the id without each of its characters."""
    return list(dict.fromkeys([plain, *(plain[:place] + plain[place + 1 :] for place in range(len(plain)))]))
