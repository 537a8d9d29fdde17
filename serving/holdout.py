"""Which products are held out of pricing: read from the list that monitoring draws, again whenever it changes."""

from pathlib import Path

from pricing.decision.assignment import read_held
from serving.watched import Watched


class Holdout(Watched[frozenset[str]]):
    """The products that keep their prices.

    A list that is missing holds nobody out. One that cannot be read does not either: a shop must not be left with
    static prices because of a bad file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, read=read_held, empty=frozenset(), what="list of held-out products")

    @property
    def products(self) -> frozenset[str]:
        """The products of this moment."""
        return self.content
