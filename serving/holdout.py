"""Which products are held out of pricing: read from the list that monitoring draws, again whenever it changes."""

import json
from pathlib import Path

from serving.watched import Watched


class Holdout(Watched[frozenset[str]]):
    """The products that keep their prices.

    A list that is missing holds nobody out. One that cannot be read does not either: a shop must not be left with
    static prices because of a bad file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, read=_read, empty=frozenset(), what="list of held-out products")

    @property
    def products(self) -> frozenset[str]:
        """The products of this moment."""
        return self.content


def _read(path: Path) -> frozenset[str]:
    held = json.loads(path.read_bytes())["held"]
    if not isinstance(held, list) or not all(isinstance(product, str) for product in held):
        raise TypeError("expected held to be a list of product ids")
    return frozenset(held)
