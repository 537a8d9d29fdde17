"""The list of products that are held out of pricing: where monitoring writes it, and how everybody else reads it."""

import json
from pathlib import Path

from pricing.errors import SourceError


def held_file(home: Path) -> Path:
    """Where the list lies under PRICING_HOME."""
    return home / "monitoring" / "holdout.json"


def read_held(path: Path) -> frozenset[str]:
    """The products that are held out; none where there is no list.

    Raises:
        SourceError: The file is no such list.
    """
    try:
        held = json.loads(path.read_bytes())["held"]
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path}: is no list of held-out products ({error})") from error
    if not isinstance(held, list) or not all(isinstance(product, str) for product in held):
        raise SourceError(f"{path}: is no list of held-out products (expected held to be a list of product ids)")
    return frozenset(held)
