"""Name the product that an unknown id was probably meant to be, at a cost that a flood of unknown ids cannot raise.

Ids are compared without case, punctuation and leading zeros, so that `p7` finds `P-007`. Near are those that are then
the same, or become the same when a character is left out of either or both: one too many, too few, mistaken, or swapped
with its neighbour (Garbe's symmetric deletes). Their hashes are looked up; no search goes through all ids, and none
compares an id with another.
"""

import re
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from pricing.arrays import Bools, Ints

PRODUCTS = 10_000  # beyond these the index leaves no character of an id out: it would grow too large
LENGTH = 64  # characters of an id that count
SHORTEST = 3  # characters of an id in which one may be mistaken: P7 and P8 are two products
_PADDING = re.compile(r"(?<!\d)0+(?=\d)")


class NearestProduct:
    """Finds the known product id nearest to an unknown one. The index is made when that is first asked."""

    def __init__(self, product_ids: Sequence[str]) -> None:
        self._product_ids = product_ids

    def of(self, product_id: str) -> str | None:
        """The known id nearest to an unknown one; None where none is near.

        The same one is nearest, then one with a character more, one with a character less, and one with another
        character. Of several of one kind it is the same one in every process.
        """
        if not self._product_ids:
            return None
        plain, (hashes, rows, shortened) = _plain(product_id), self._index
        keys = np.array([hash(key) for key in _keys(plain)])
        places = np.minimum(hashes.searchsorted(keys), len(hashes) - 1)
        found = hashes[places] == keys
        if not found[0]:  # nor is it known with a character more
            less = found & ~shortened[places]
            found = less if less.any() or len(plain) < SHORTEST else found
        return self._product_ids[rows[places[found.argmax()]]] if found.any() else None

    @cached_property
    def _index(self) -> tuple[Ints, Ints, Bools]:
        """(key,) the hashes of all keys, ascending; the row of the id that each is of; whether it lacks a character.

        Of equal keys those of whole ids come first, then those of lower rows.
        """
        keys = [_keys(_plain(name)) for name in self._product_ids]
        lacking = [of_one[1:] if len(keys) <= PRODUCTS else [] for of_one in keys]
        hashes = np.array(
            [hash(of_one[0]) for of_one in keys] + [hash(key) for of_one in lacking for key in of_one], dtype=np.int64
        )
        every = np.arange(len(keys))
        rows = np.concatenate([every, np.repeat(every, [len(of_one) for of_one in lacking])])
        order = np.argsort(hashes, kind="stable")
        return hashes[order], rows[order], order >= len(keys)


def _plain(product_id: str) -> str:
    """The id without what is often written otherwise."""
    text = product_id[:LENGTH].casefold()
    return "".join(filter(str.isalnum, _PADDING.sub("", text))) or text


def _keys(plain: str) -> list[str]:
    """The id, and the id without each of its characters."""
    return list(dict.fromkeys([plain, *(plain[:place] + plain[place + 1 :] for place in range(len(plain)))]))
