"""Register a version with other anchors, and with what follows from them: list prices, assumed costs, last prices."""

from dataclasses import replace

import numpy as np

from pipelines.steps.production import ProductionAccess
from pricing.arrays import Bools, Floats, Strings
from pricing.data.anchors import Anchors
from pricing.registry.version import LoadedVersion, Origin


def register_with_anchors(version: LoadedVersion, anchors: Anchors, *, access: ProductionAccess, parent: str) -> str:
    """Registers a copy of a version with other anchors and the values derived from them.

    A list price equal to its product's anchor changes with it, and so does a cost assumed from it. Must be called
    inside a run, with the given version's number as `parent`; returns that of the new one.

    Raises:
        RegistryError: The registry refuses.
    """
    facts = version.whole_facts().anchored(anchors)
    list_price = _moved(facts.list_price, version.facts.product_ids, version.anchors, anchors)
    ratio = list_price / facts.list_price
    moved = _differ(facts.product_ids, version.anchors, anchors)
    facts = replace(
        facts,
        list_price=list_price,
        unit_cost=np.where(facts.cost_assumed, facts.unit_cost * ratio, facts.unit_cost),
        # A person's decision: answers may go there at once, however far it is from what was charged.
        last_price=np.where(moved, facts.anchor_price, facts.last_price),
        former_price=np.where(moved, np.nan, facts.former_price),
    )
    listed = _moved(version.learner.list_price, version.demand.product_ids, version.anchors, anchors)
    return access.register(
        version,
        demand=replace(version.learner, list_price=listed.astype(np.float32)),
        facts=facts,
        anchors=anchors,
        origin=Origin(kind="refresh", data=version.meta["data"], parent=parent, checks=dict(version.meta["checks"])),
        words=f"Version {parent} with other anchors.",
    )


def _moved(list_price: Floats, product_ids: Strings, before: Anchors, after: Anchors) -> Floats:
    """(product,) list prices, with each one that equals the old anchor replaced by the new anchor."""
    old, new = (anchors.columns(product_ids)["list_price"] for anchors in (before, after))
    exact = new.astype(np.str_).astype(np.float64)  # 0.94, not 0.93999999762
    return np.where(np.isclose(list_price, old, rtol=1e-6, atol=0) & (old != new), exact, list_price)


def _differ(product_ids: Strings, before: Anchors, after: Anchors) -> Bools:
    """(product,) where people moved the anchor from one to the other; a new product's first one is no move."""
    old, new = (anchors.columns(product_ids)["list_price"] for anchors in (before, after))
    return np.asarray(np.isfinite(old) & np.isfinite(new) & (old != new))
