"""Make the product ids of all sources alike, follow renamed products, and find ids that differ only in spelling."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.data import coerce
from pricing.errors import SourceError
from pricing.sources.chunk import Chunk
from pricing.sources.set_aside import SetAside

Rule = Literal["as_written", "upper", "digits"]
SEPARATOR = "@"  # between product and store in the id of a series
_INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u200c\u200d\u2060\u00ad"))
_BLANKS = re.compile(r"\s+")
_NAMED = 5  # examples in a message


@dataclass(frozen=True)
class LookAlike:
    """An id of one source that another source has only in another spelling.

    Attributes:
        left: The id as the first source has it.
        right: As the second one has it.
        difference: "case", "blanks" or "leading zeros", joined by " and ".
    """

    left: str
    right: str
    difference: str


class Identifiers:
    """Turns cells of product_id into ids, and numbers them in the order in which they come.

    Attributes:
        rule: How ids are made alike.
        ids: Every id seen so far; a code is a position here.
    """

    def __init__(self, rule: Rule = "as_written", *, aliases: Mapping[str, str] | None = None) -> None:
        """Takes renamed products.

        Args:
            rule: How ids are made alike.
            aliases: Former id to id, both as written in their source; a chain leads to its end.

        Raises:
            SourceError: Aliases lead in a circle.
        """
        self.rule = rule
        self.ids: list[str] = []
        self._codes: dict[str, int] = {}
        self._written: dict[str, int] = {}  # cell text: code
        self._sources: dict[str, dict[str, None]] = {}  # source: its ids, in order
        self._spellings: dict[str, set[str]] = {}  # id: cell texts, where there are several
        self._aliased: dict[str, int] = {}  # former id: rows
        self._aliases = _resolved({self.alike(old): self.alike(new) for old, new in (aliases or {}).items()})

    def alike(self, text: str) -> str:
        """One id by the rule: blanks and invisible characters removed, then capitals, then no leading zeros."""
        if not text.isascii():
            text = unicodedata.normalize("NFC", text).translate(_INVISIBLE)
        text = _BLANKS.sub(" ", text).strip()
        if self.rule == "as_written":
            return text
        text = text.upper()
        return text.lstrip("0") or "0" if self.rule == "digits" and text.isdecimal() else text

    def codes(self, column: "pd.Series[Any]", *, source: str) -> NDArray[np.int64]:
        """(row,) code of each cell's id; -1 where there is none.

        Args:
            column: Cells: texts or whole numbers.
            source: The table that they are from; its ids are remembered under this name.
        """
        cells = coerce.names(column)
        table = np.full(len(cells.names) + 1, -1, dtype=np.int64)
        seen = self._sources.setdefault(source, {})
        rows = np.bincount(cells.values[cells.values >= 0], minlength=len(cells.names))
        for place, text in enumerate(cells.names):
            code = self._written.get(text)
            if code is None:
                code = self._new(text)
            table[place] = code
            if code >= 0:
                seen[self.ids[code]] = None
                if self._aliases and (former := self.alike(text)) in self._aliases:
                    self._aliased[former] = self._aliased.get(former, 0) + int(rows[place])
        codes: NDArray[np.int64] = table[cells.values]
        return codes

    def of(self, codes: NDArray[np.int64]) -> "pd.Series[str]":
        """(row,) ids by code."""
        names = pd.Index(self.ids, dtype="str")
        return pd.Series(names.take(codes), dtype="str")

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources that ids were read of."""
        return tuple(self._sources)

    def known(self, source: str) -> tuple[str, ...]:
        """The ids of one source, sorted."""
        return tuple(sorted(self._sources.get(source, ())))

    def merged(self) -> dict[str, tuple[str, ...]]:
        """Ids that were written in several ways, with those ways; renamed products are not among them."""
        return {name: tuple(sorted(texts)) for name, texts in sorted(self._spellings.items()) if len(texts) > 1}

    def renamed(self) -> dict[str, int]:
        """Former ids that were found, with the number of their rows."""
        return dict(sorted(self._aliased.items()))

    def look_alikes(self, left: str, right: str) -> tuple[LookAlike, ...]:
        """Ids of a source that another one lacks but has in another spelling: case, blanks, leading zeros."""
        theirs = self._sources.get(right, {})
        loose: dict[str, str] = {}
        for name in theirs:
            loose.setdefault(_loose(name), name)
        found = []
        for name in sorted(self._sources.get(left, {})):
            other = loose.get(_loose(name))
            if name not in theirs and other is not None:
                found.append(LookAlike(name, other, _difference(name, other)))
        return tuple(found)

    def _new(self, text: str) -> int:
        name = self.alike(text)
        own = name
        name = self._aliases.get(name, name)
        if not name:
            self._written[text] = -1
            return -1
        code = self._codes.setdefault(name, len(self.ids))
        if code == len(self.ids):
            self.ids.append(name)
        self._written[text] = code
        if own == name:
            self._spellings.setdefault(name, set()).add(text)
        return code


def read_aliases(chunks: Iterable[Chunk], *, set_aside: SetAside) -> dict[str, str]:
    """Read renamed products: former id to id, as written.

    A former id that is given twice has the product of its last row; the earlier rows are set aside. Rows without one of
    the two are set aside as well.
    """
    found: dict[str, str] = {}
    for chunk in chunks:
        former, new = (coerce.names(chunk.frame[name]) for name in ("former_id", "product_id"))
        empty = former.missing | new.missing
        set_aside.add(chunk, empty, table="aliases", reason="former_id and product_id must not be missing")
        twice = np.zeros(len(empty), dtype=np.bool_)
        last: dict[str, int] = {}
        for row in np.flatnonzero(~empty).tolist():
            old, product = former.names[former.values[row]], new.names[new.values[row]]
            if old in last:
                twice[last[old]] = found[old] != product
            found[old] = product
            last[old] = row
        set_aside.add(chunk, twice, table="aliases", reason="a later row gives this former_id another product")
    return found


def spelling_advice(ids: Identifiers, *, left: str = "sales") -> tuple[str, ...]:
    """One sentence for each other source that has ids of `left` in another spelling only."""
    found = (advise(ids.look_alikes(left, right), left=left, right=right) for right in ids.sources if right != left)
    return tuple(sentence for sentence in found if sentence is not None)


def advise(alike: Iterable[LookAlike], *, left: str, right: str) -> str | None:
    """One sentence on ids that differ only in spelling, with the setting that mends it; None where there are none."""
    found = list(alike)
    if not found:
        return None
    kinds = sorted({each.difference for each in found})
    zeros = any("zeros" in kind for kind in kinds)
    examples = ", ".join(f"{each.left!r} in {left}, {each.right!r} in {right}" for each in found[:_NAMED])
    cause = " (lost by a spreadsheet?)" if zeros else ""
    setting = "digits" if zeros else "upper"
    return (
        f"{len(found):,} ids of {left} are in {right} in another spelling, by {', '.join(kinds)}{cause}: {examples}; "
        f"if they are the same products, set sources.ids: {setting} or name them in sources.aliases"
    )


def series_id(product_id: "pd.Series[str]", store: "pd.Series[str]") -> "pd.Series[str]":
    """(row,) id of a product in a store: product@store. An "@" in the product's id stays; one in a store's is %40.

    So the last "@" always parts product and store.
    """
    return product_id + SEPARATOR + store.str.replace("%", "%25", regex=False).str.replace("@", "%40", regex=False)


def _resolved(aliases: Mapping[str, str]) -> dict[str, str]:
    """Each alias at the end of its chain."""
    ends: dict[str, str] = {}
    for start in aliases:
        path = [start]
        while path[-1] in aliases and aliases[path[-1]] != path[-1]:
            after = aliases[path[-1]]
            if after in path:
                circle = " → ".join([*path[path.index(after) :], after])
                raise SourceError(
                    f"sources.aliases: expected renamed products to lead to one product, found a circle: {circle}; "
                    "take out one of these rows"
                )
            path.append(after)
        if path[-1] != start:
            ends[start] = path[-1]
    return ends


def _loose(name: str) -> str:
    bare = "".join(name.split()).upper()
    return bare.lstrip("0") or "0"


def _difference(left: str, right: str) -> str:
    kinds = []
    if len(left.split()) != len(right.split()) or left != left.strip() or right != right.strip():
        kinds.append("blanks")
    bare = ["".join(name.split()) for name in (left, right)]
    if bare[0].lstrip("0").upper() == bare[1].lstrip("0").upper() and bare[0].lstrip("0") != bare[1].lstrip("0"):
        kinds.append("case")
    if len(bare[0]) - len(bare[0].lstrip("0")) != len(bare[1]) - len(bare[1].lstrip("0")):
        kinds.append("leading zeros")
    return " and ".join(kinds)
