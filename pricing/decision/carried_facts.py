"""Carry what is known of each product over new days: older facts fill in what recent rows do not show."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricing.config_models import ServingConfig
from pricing.data.anchors import Anchors
from pricing.data.panel import STEP_DAYS, Panel
from pricing.decision.cadence import carry_jumps, stock_jumps
from pricing.decision.last_price import anchor_moves, last_prices
from pricing.decision.product_facts import ProductFacts, told_comp_price
from pricing.demand.state import expand, overlay

Array = NDArray[Any]
# Facts that need a long history: older values are preferred over those from a few recent weeks.
_OF_A_HISTORY = ("delivery_gaps", "seen_low", "seen_high")
_COMPETITOR = ("comp_price", "comp_price_date")  # known where newer rows tell them, be it that there is none


def carry_facts(old: ProductFacts, tail: Panel, panel: Panel, *, kept: Panel, whole: bool) -> ProductFacts:
    """Returns the product facts as of the panel's last date.

    `tail` has the rows since the checkpoint, new ones included, of every product; `kept` those of the version before
    the refresh. Where the panel is the `whole` history, facts of its products come from it alone. Otherwise older facts
    fill in what recent rows do not show, or show too briefly; stock jumps of both count, as in the whole history.
    """
    new = ProductFacts.from_panel(panel if whole else tail)
    ids = np.union1d(old.product_ids, new.product_ids)
    at_old, in_old = _places(old.product_ids, ids)
    at_new, in_new = _places(new.product_ids, ids)
    told, _ = told_comp_price(panel if whole else tail)
    # A rate of 0 in facts without any tax says nothing: once others have rates it is unknown.
    first_taxes = (new.tax_rate > 0).any() and not (old.tax_rate > 0).any()
    columns: dict[str, Any] = {}
    for name, values in new.to_arrays().items():
        if name == "stock_jumps":
            continue
        before, after, seen = getattr(old, name)[at_old], values[at_new], np.isin(ids, panel.product_ids)
        if whole or (name == "tax_rate" and first_taxes):
            known = in_new
        elif name in _COMPETITOR:
            known = in_new & told[at_new]
        elif name in _OF_A_HISTORY:
            known = in_new & ~(in_old & _known(before, seen=seen))
        else:
            known = in_new & _known(after, seen=seen)
        columns[name] = np.where((in_old & ~known).reshape(-1, *(1,) * (after.ndim - 1)), before, after)
    columns["product_ids"] = ids
    columns["stock_jumps"] = np.zeros((len(ids), 0), np.uint8)
    recurring = new.recurring if whole else old.recurring
    carried = replace(new, recurring=recurring, **columns)
    carried = carried.planned(old.promotions, deliveries=old.planned_deliveries)
    rows = expand(panel, ids)
    if not whole:
        rows = overlay(expand(kept, ids), rows, whole=np.zeros(len(ids), bool))
    periods = int((new.state_date - old.state_date) // np.timedelta64(STEP_DAYS[new.period], "D"))
    since = carry_jumps(old.jumps()[at_old], rows, periods=periods, since=kept.dates[0])
    return carried.with_jumps(np.where((in_old & ~(in_new & whole))[:, None], since, stock_jumps(rows)))


def carry_last_price(
    old: ProductFacts,
    new: ProductFacts,
    *,
    history: Panel,
    tail: Panel,
    kept: Panel,
    anchors: Anchors,
    serving: ServingConfig,
) -> Array:
    """Returns `last_prices` as of the new facts' date, (2, product): those known before, moved by newer rows.

    So no fault in the sales moves one at once. A product without one has what the history says, which is the whole one
    where it is at hand, else `tail`; the other rows are those of `carry_facts`.
    """
    settings: dict[str, Any] = {"largest_jump": serving.largest_jump, "confirmed": serving.jump_confirmed}
    ids, rows, past = new.product_ids, expand(tail, new.product_ids), expand(kept, new.product_ids)
    every = expand(history, ids)
    read = last_prices(every.price, every.present, moves=anchor_moves(anchors, ids, every.dates), **settings)
    at, known = _places(old.product_ids, ids)
    before = np.where(known, np.stack([old.last_price[at], old.former_price[at]]), np.nan)
    counted, since = past.dates < old.state_date, rows.dates >= old.state_date  # its own rows may have been corrected
    carried = last_prices(
        np.hstack([past.price[:, counted], rows.price[:, since]]),
        np.hstack([past.present[:, counted], rows.present[:, since]]),
        moves=anchor_moves(anchors, ids, np.concatenate([past.dates[counted], rows.dates[since]])),
        before=before,
        seen=int(counted.sum()),
        **settings,
    )
    return np.where(np.isfinite(before[0]), carried, read)


def _places(some: Array, wanted: Array) -> tuple[Array, Array]:
    places = np.minimum(np.searchsorted(some, wanted), len(some) - 1)
    return places, some[places] == wanted


def _known(values: Array, *, seen: Array) -> Array:
    """Returns where a recent fact is known; flags are known where the product was seen."""
    if values.dtype.kind in "fM":
        return np.asarray(~np.isnan(values).reshape(len(values), -1).any(axis=1))  # or no time
    return np.asarray(values != "") if values.dtype.kind == "U" else seen
