"""Say that a product or category is not known to the version served on this machine: a typing error freezes nothing."""

import logging
from collections.abc import Mapping

from pricing.decision.product_facts import ProductFacts
from pricing.decision.switches import Scope
from pricing.errors import PricingError, nearest
from pricing.registry.version import load
from serving.current_version import read_pointer
from serving.settings import read_settings

SHOWN = 10  # categories that are named where none is near
_log = logging.getLogger(__name__)


def unknown_name(scope: Scope, name: str, *, environment: Mapping[str, str]) -> str | None:
    """Says that the version served here knows no such product or category, and which was perhaps meant.

    Args:
        scope: What the name is of; everything needs none.
        name: The name.
        environment: As the service reads it.

    Returns:
        A sentence; None where it is known, or where no version on this machine can tell.
    """
    facts = None if scope == "all" else _facts(environment)
    if facts is None:
        return None
    known = sorted({str(one) for one in (facts.product_ids if scope == "product" else facts.categories)})
    if name in known:
        return None
    near = _nearest(name, known)
    if near is not None:
        return f"the version served here knows no {scope} {name!r}; did you mean {near!r}?"
    some = f"; it knows {', '.join(known[:SHOWN])}" + (" and more" if len(known) > SHOWN else "")
    return f"the version served here knows no {scope} {name!r}{some if scope == 'category' else ''}."


def _nearest(name: str, known: list[str]) -> str | None:
    folded = {one.casefold(): one for one in known}
    near = nearest(name.casefold(), folded)
    return None if near is None else folded[near]


def _facts(environment: Mapping[str, str]) -> ProductFacts | None:
    try:
        places = read_settings(environment).places
        for path in (places.pointer, places.baked):
            pointer = read_pointer(path)
            if pointer is not None:
                return load(path.parent / pointer.folder).facts
    except (PricingError, OSError) as error:
        _log.warning("whether the name is known cannot be looked up: %s", error)
    return None
