"""Facts of each product on the day the history ends: prices, cost, stock, and when deliveries come."""

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Days, Floats, Ints, Strings, flatten
from pricing.config_models import ServingConfig
from pricing.data.anchors import Anchors
from pricing.data.calendar import NO_PLAN, Plan, recurring_holidays
from pricing.data.net_price import highest_rates, margin_of, net_price
from pricing.data.panel import STEP_DAYS, Panel, Period
from pricing.decision import cadence
from pricing.decision.last_price import anchor_moves, as_written, last_prices
from pricing.demand.curve import DELIVERIES
from pricing.demand.state import expand, overlay

RECENT = 28  # periods behind typical_units
RESTATED = 2.0  # size of the elasticity with which they are restated at list price
USUAL = ("list_price", "units", "margin", "tax_rate")  # usual values of a category

Array = NDArray[Any]
# Columns that only carrying the facts forward reads, and what else stands in for them:
NOT_READ: dict[str, Array] = {
    "former_price": np.zeros(0, np.float32),
    "stock_counts": np.zeros(0, np.uint8),
    "stock_jumps": np.zeros(0, np.uint8),
    "delivery_gaps": np.zeros(0, np.float32),
    "last_delivery": np.zeros(0, "M8[D]"),
}
# Facts that need a long history: older values are preferred over those from a few recent weeks.
_OF_A_HISTORY = ("delivery_gaps", "seen_low", "seen_high")
_COMPETITOR = ("comp_price", "comp_price_date")  # known where newer rows tell them, even that there is none


@dataclass(frozen=True)
class ProductFacts:
    """The last known facts of every product of a history, sorted by id: (product,) each; NaN, NaT where unknown."""

    period: Period
    state_date: np.datetime64  # first day of the last period of the history
    product_ids: Strings
    categories: Strings
    names: Strings  # for people; empty where none was given
    price: Floats  # price charged last
    last_price: Floats  # but for one that may be a fault (`last_price.last_prices`), which is NaN
    former_price: Floats  # that before it which lay further away, to which a price may go back at once
    list_price: Floats
    unit_cost: Floats  # without tax, given or assumed
    cost_assumed: Bools  # the configured margin stands in for a cost
    stock: Floats  # what the last count, less what sold since, leaves for the period to come (`cadence.stock_left`)
    comp_price: Floats  # the competitor's newest (`told_comp_price`); NaN where there is none any more
    comp_price_date: Days  # the day on which that was seen
    tax_rate: Floats  # now, a fraction of the net price; NaN where the newest rows alone do not show it
    seen_low: Floats  # lowest price that a person ever charged or set
    seen_high: Floats
    stock_counts: NDArray[np.uint8]  # (product, bytes) `cadence.stock_counts` as bits
    stock_jumps: NDArray[np.uint8]  # (product, bytes) `cadence.stock_jumps`; the next three are learnt from both
    delivery_gaps: Floats  # (product, LONGEST) from `cadence.delivery_gaps` or `cadence.rhythms`
    last_delivery: Days  # first day of the period that opened with it
    deliveries: NDArray[np.uint8]  # (product, AHEAD, DELIVERIES) from `cadence.next_deliveries`
    last_change: Days  # first day of the period in which the price last changed
    # Mean a period at list price, over the last RECENT in which stock did not run out; NaN for what is not on sale:
    typical_units: Floats
    anchor_price: Floats  # regular price as a person set it last
    anchor_cost: Floats  # cost of a unit when it was set
    recurring: tuple[str, ...] | None = None  # rules of the holidays of every year; None where a calendar said so
    promotions: Plan = NO_PLAN  # planned, and not over
    planned_deliveries: Plan = NO_PLAN  # to come

    @classmethod
    def from_panel(
        cls, panel: Panel, *, anchors: Anchors | None = None, largest_jump: float | None = None, confirmed: int = 1
    ) -> "ProductFacts":
        """Reads the facts off a panel's last periods. A product without a row yet has NaN everywhere.

        A product without one of `anchors`, the regular prices in force, is anchored as if people had set every price.
        The other arguments are those of `last_price.last_prices`.
        """
        state_date = panel.dates[-1].astype("datetime64[D]")
        jumps = cadence.stock_jumps(panel)
        counts = cadence.stock_counts(panel)
        learnt = _deliveries(panel, jumps, counts=counts, categories=panel.categories)
        comp_price, comp_price_date = _newest_comp_price(panel)
        learnt |= _anchor_columns(Anchors.from_panel(panel), panel.product_ids)
        last_price, former_price = last_prices(
            panel.price,
            panel.present,
            largest_jump=largest_jump,
            confirmed=confirmed,
            moves=anchor_moves(anchors, panel.product_ids, panel.dates),
        )
        facts = cls(
            period=panel.period,
            state_date=state_date,
            product_ids=panel.product_ids,
            categories=panel.categories,
            names=np.array([panel.names.get(product, "") for product in panel.product_ids.tolist()], np.str_),
            price=as_written(panel.price[:, -1]),
            last_price=last_price,
            former_price=former_price,
            list_price=as_written(panel.list_price[:, -1]),
            unit_cost=as_written(panel.unit_cost[:, -1]),
            cost_assumed=panel.cost_assumed,
            comp_price=as_written(comp_price),
            comp_price_date=comp_price_date,
            tax_rate=as_written(panel.tax_rate[:, -1]),
            last_change=_last_change(panel),
            typical_units=np.where(np.isin(panel.product_ids, panel.silent), np.nan, _typical_units(panel)),
            recurring=recurring_holidays(panel),
            **learnt,
        )
        return facts if anchors is None else facts.anchored(anchors)

    def anchored(self, anchors: Anchors) -> "ProductFacts":
        """The facts with what the anchors say of their products; the others keep what they had."""
        found = _anchor_columns(anchors, self.product_ids)
        known = np.isfinite(found["anchor_price"])
        columns: dict[str, Any] = {name: np.where(known, now, getattr(self, name)) for name, now in found.items()}
        return replace(self, **columns)

    def columns(self) -> dict[str, Array]:
        """The arrays by name, without those of plans."""
        return {name: values for name, values in flatten(self)[0].items() if "/" not in name}

    def planned(self, promotions: Plan | None = None, *, deliveries: Plan | None = None) -> "ProductFacts":
        """The facts with these plans, of which what is over is left out; None keeps the plan that they have."""
        promotions = self.promotions if promotions is None else promotions
        deliveries = self.planned_deliveries if deliveries is None else deliveries
        coming = deliveries.after(self.state_date)
        return replace(self, promotions=promotions.after(self.state_date), planned_deliveries=coming)

    def next_delivery(self, product_id: str) -> np.datetime64 | None:
        """The first planned delivery, else the median of those expected after the period to come; None if unknown."""
        planned = self.planned_deliveries
        coming = planned.first[planned.product_id == product_id]
        if len(coming):
            return np.datetime64(coming.min(), "D")
        periods = self.deliveries[self.product_ids == product_id, 0, (DELIVERIES - 1) // 2]
        if not len(periods) or periods[0] == cadence.UNKNOWN:
            return None
        return self.state_date + (1 + int(periods[0])) * np.timedelta64(STEP_DAYS[self.period], "D")

    def column(self, name: str, product_ids: Strings, *, missing: Any = np.nan) -> Array:
        """(product,) the column of a name; `missing` for products that are not known."""
        row, known = _places(self.product_ids, product_ids)
        return np.asarray(np.where(known, getattr(self, name)[row], missing))

    def known_costs(self, product_ids: Strings) -> Floats:
        """(product,) cost of a unit now; NaN where it is assumed, or the product is not known."""
        assumed = self.column("cost_assumed", product_ids, missing=True)
        return np.where(assumed, np.nan, self.column("unit_cost", product_ids))

    @cached_property
    def grouped(self) -> tuple[Strings, Ints]:
        """The categories by name, and (product,) the row of each product's there."""
        return np.unique(self.categories, return_inverse=True)

    def tax_rates(self) -> Floats:
        """(product,) `tax_rate`, and the highest of its category in place of an unknown one, which answers assume."""
        category = self.grouped[1]
        highest = highest_rates(self.tax_rate[:, None], category[:, None])[:, 0]
        return np.where(np.isnan(self.tax_rate), highest, self.tax_rate)

    @cached_property
    def others_margin(self) -> Floats:
        """(product,) margin of the other products of its category, a fraction of what they take; NaN if unknown.

        At regular prices in force, never at last ones, which the platform may have set. NaN where costs are known of
        less than half of what the others sell.
        """
        category = self.grouped[1]
        dearer = self.unit_cost / self.anchor_cost
        regular = self.anchor_price * np.where(np.isnan(dearer) | self.cost_assumed, 1.0, dearer)
        regular = np.where(np.isnan(regular), self.list_price, regular)
        taken = np.nan_to_num(self.typical_units * net_price(regular, self.tax_rates()))
        known = np.isfinite(self.unit_cost) & ~self.cost_assumed
        earned = np.where(known, taken - np.nan_to_num(self.typical_units * self.unit_cost), 0.0)

        def of_others(values: Floats) -> Floats:
            return np.asarray(np.bincount(category, values)[category] - values)

        left = of_others(np.where(known, taken, 0.0))
        enough = (left > 1e-9) & (left >= 0.5 * of_others(taken))
        found: Floats = np.divide(of_others(earned), left, where=enough, out=np.full(len(left), np.nan))
        return found

    @cached_property
    def typical(self) -> dict[str, Floats]:
        """(USUAL,) the usual values of each category, and under the empty name of all products; NaN where unknown.

        Medians of list price (NaN over all products, as it would be that of something else), of units a period and of
        the fraction of the net list price above a cost that is really known; and the highest tax, since with any lower
        one a price could lie below net cost.
        """
        tax_rate = self.tax_rates()
        margin = margin_of(self.list_price, self.unit_cost, tax_rate=tax_rate)
        margin = np.where(self.cost_assumed, np.nan, margin)
        columns = np.stack([self.list_price, self.typical_units, margin], axis=1)
        names, category = self.grouped
        groups = {"": np.ones(len(columns), np.bool_)}
        groups |= {name: category == row for row, name in enumerate(names.tolist()) if name}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a category of which nothing is known
            found = {
                name: np.array([*np.nanmedian(columns[rows], axis=0), tax_rate[rows].max(initial=0.0)])
                for name, rows in groups.items()
            }
        found[""][USUAL.index("list_price")] = np.nan
        return found


def _deliveries(panel: Panel, jumps: Bools, *, counts: Bools, categories: Strings) -> dict[str, Any]:
    """The columns that are learnt from counts of stock and what they jump by; the panel has the last ones."""
    gaps = cadence.delivery_gaps(jumps, categories=categories)
    rhythm = cadence.rhythms(jumps, counts, gaps=gaps, period=panel.period)
    state_date = panel.dates[-1].astype("datetime64[D]")
    last = cadence.last_deliveries(jumps, state_date=state_date, period=panel.period)
    since = np.floor((state_date - last) / np.timedelta64(STEP_DAYS[panel.period], "D"))  # periods; NaN without one
    return {
        "stock": cadence.stock_left(panel, counts, rhythm=rhythm),
        "stock_counts": np.packbits(counts, axis=1),
        "stock_jumps": np.packbits(jumps, axis=1),
        "delivery_gaps": rhythm.gaps,
        "last_delivery": last,
        "deliveries": cadence.next_deliveries(rhythm.gaps, since, ahead=rhythm.ahead),
    }


def _anchor_columns(anchors: Anchors, product_ids: Strings) -> dict[str, Floats]:
    columns = anchors.columns(product_ids)
    names = {"anchor_price": "list_price", "anchor_cost": "unit_cost", "seen_low": "seen_low", "seen_high": "seen_high"}
    return {name: as_written(columns[theirs]) for name, theirs in names.items()}


def told_comp_price(panel: Panel) -> tuple[Bools, Ints]:
    """(product,) whether a row tells the competitor's newest price, even that there is none, and its period.

    It is the product's last row up to the last period in which any product has such a price: without one there, the
    competitor is sold out or gone; later periods are a feed that stopped and tell nothing. A row of 0 units without a
    stock may be one that the sales left out (`data.missing`), and tells nothing either.
    """
    priced = np.isfinite(panel.comp_price)
    fed = np.flatnonzero(priced.any(axis=0))
    until = int(fed[-1]) + 1 if len(fed) else 0
    tells: Bools = priced | (panel.present & ((panel.units_sold != 0) | np.isfinite(panel.stock)))
    tells[:, until:] = False
    last = tells.shape[1] - 1 - np.argmax(tells[:, ::-1], axis=1)
    return np.asarray(tells.any(axis=1)), last


def _newest_comp_price(panel: Panel) -> tuple[Floats, Days]:
    """(product,) the competitor's newest price and the day on which it was seen; NaN and NaT where there is none."""
    told, last = told_comp_price(panel)
    rows = np.arange(len(last))
    price = np.where(told, panel.comp_price[rows, last], np.float32(np.nan))
    age = np.floor(np.nan_to_num(panel.comp_price_age[rows, last])).astype("timedelta64[D]")
    seen = panel.dates[last].astype("datetime64[D]") - age
    return price, np.where(np.isfinite(price), seen, np.datetime64("NaT", "D"))


def _last_change(panel: Panel) -> Days:
    """(product,) the period whose price first differs from the one before, counted from the end."""
    before = panel.price[:, :-1]
    after = panel.price[:, 1:]
    changed = np.isfinite(before) & (np.abs(after - before) > 1e-6 * np.abs(before))
    changed = np.pad(changed, ((0, 0), (1, 0)))
    last = changed.shape[1] - 1 - np.argmax(changed[:, ::-1], axis=1)
    return np.where(changed.any(axis=1), panel.dates[last].astype("datetime64[D]"), np.datetime64("NaT", "D"))


def _typical_units(panel: Panel) -> Floats:
    """(product,) mean units a period at list price; days that stock cut short count only where there are no others."""
    recent = slice(-RECENT, None)
    seen: Bools = panel.present[:, recent] & np.isfinite(panel.units_sold[:, recent])
    whole: Bools = seen & ~panel.censored[:, recent]
    counted = np.where(whole.any(axis=1, keepdims=True), whole, seen)
    units = np.where(counted, panel.units_sold[:, recent], 0.0).sum(axis=1, dtype=np.float64)
    dearness = np.where(counted, panel.price[:, recent] / panel.list_price[:, recent], 1.0)
    drawn = np.where(counted, dearness**-RESTATED, 0.0).sum(axis=1, dtype=np.float64)
    return np.where(drawn > 0, units / np.maximum(drawn, 1e-9), np.nan)


def carry_facts(old: ProductFacts, tail: Panel, panel: Panel, *, kept: Panel, whole: bool) -> ProductFacts:
    """Returns the product facts as of the panel's last date.

    `tail` has the rows since the checkpoint, new ones included, of every product; `kept` those of the version before
    the refresh. Where the panel is the `whole` history, facts of its products come from it alone. Otherwise older facts
    fill in what recent rows do not show, or show too briefly; stock jumps of both count, as in the whole history.
    """
    new = ProductFacts.from_panel(panel if whole else replace(tail, names=panel.names))
    ids = np.union1d(old.product_ids, new.product_ids)
    at_old, in_old = _places(old.product_ids, ids)
    at_new, in_new = _places(new.product_ids, ids)
    told, _ = told_comp_price(panel if whole else tail)
    # A rate of 0 in facts without any tax says nothing: once others have rates it is unknown.
    first_taxes = (new.tax_rate > 0).any() and not (old.tax_rate > 0).any()
    seen = np.isin(ids, panel.product_ids)
    columns: dict[str, Any] = {}
    for name, values in new.columns().items():
        if name in ("stock_counts", "stock_jumps"):
            continue
        before = getattr(old, name)[at_old]
        after = values[at_new]
        if whole or (name == "tax_rate" and first_taxes):
            known = in_new
        elif name in _COMPETITOR:
            known = in_new & told[at_new]
        elif name in _OF_A_HISTORY:
            known = in_new & ~(in_old & _known(before, seen=seen))
        else:
            known = in_new & _known(after, seen=seen)
        former = (in_old & ~known).reshape([-1] + [1] * (after.ndim - 1))
        columns[name] = np.where(former, before, after)
    columns["typical_units"] = np.where(np.isin(ids, panel.silent), np.nan, columns["typical_units"])
    columns["product_ids"] = ids
    columns["stock_counts"] = columns["stock_jumps"] = np.zeros((len(ids), 0), np.uint8)
    recurring = new.recurring if whole else old.recurring
    carried = replace(new, recurring=recurring, **columns)
    carried = carried.planned(old.promotions, deliveries=old.planned_deliveries)
    rows = expand(panel, ids)
    if not whole:
        rows = overlay(expand(kept, ids), rows, whole=np.zeros(len(ids), bool))
    periods = int((new.state_date - old.state_date) // np.timedelta64(STEP_DAYS[new.period], "D"))
    marks = {}
    for name, found in (("stock_jumps", cadence.stock_jumps(rows)), ("stock_counts", cadence.stock_counts(rows))):
        bits = np.unpackbits(getattr(old, name), axis=1, count=cadence.LOOK_BACK).astype(np.bool_)
        since = cadence.carry_jumps(bits[at_old], found, panel=rows, periods=periods, since=kept.dates[0])
        marks[name] = np.where((in_old & ~(in_new & whole))[:, None], since, found)
    learnt = _deliveries(rows, marks["stock_jumps"], counts=marks["stock_counts"], categories=carried.categories)
    return replace(carried, **learnt)


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
    ids = new.product_ids
    rows = expand(tail, ids)
    past = expand(kept, ids)
    every = expand(history, ids)
    read = last_prices(every.price, every.present, moves=anchor_moves(anchors, ids, every.dates), **settings)
    before = np.stack([old.column(name, ids) for name in ("last_price", "former_price")])
    counted = past.dates < old.state_date
    since = rows.dates >= old.state_date  # its own rows may have been corrected
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
