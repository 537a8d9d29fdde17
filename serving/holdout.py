"""Which products are held out of pricing: read from the list that monitoring draws, again whenever it changes."""

import json
import logging
from pathlib import Path
from typing import Literal

State = Literal["none", "read", "unreadable"]

_log = logging.getLogger(__name__)


class Holdout:
    """The products that keep their prices. Reading `products` is safe at any time, and is done once per request.

    A list that is missing holds nobody out. One that cannot be read does not either: a shop must not be left with
    static prices because of a bad file; but it is logged, counted, and said in the metrics.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self.products: frozenset[str] = frozenset()
        self.state: State = "none"
        self.faults = 0
        self.look()

    def look(self) -> None:
        """Reads the list if it is another one than before."""
        try:
            status = self._path.stat()
        except OSError:
            if self._seen is not None:
                _log.warning("%s is gone; no product is held out any more", self._path)
            self._seen, self.products, self.state = None, frozenset(), "none"
            return
        mark = status.st_mtime_ns, status.st_ino
        if mark == self._seen:
            return
        self._seen = mark
        try:
            self.products, self.state = _read(self._path), "read"
            _log.info("%d products are held out and keep their prices", len(self.products))
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.products, self.state = frozenset(), "unreadable"
            self.faults += 1
            _log.error("%s is no list of held-out products (%s); no product is held out", self._path, error)


def _read(path: Path) -> frozenset[str]:
    held = json.loads(path.read_bytes())["held"]
    if not isinstance(held, list) or not all(isinstance(product, str) for product in held):
        raise TypeError("expected held to be a list of product ids")
    return frozenset(held)
