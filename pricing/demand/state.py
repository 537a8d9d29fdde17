"""Encode each product's past by the network's forward pass: from scratch, by new periods, or from a checkpoint.

NumPy only: neither refreshing nor reading a version needs Keras.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pricing.arrays import Bools, Floats, Ints, Strings
from pricing.data import features
from pricing.data.ewma import EwmaState, Norms, blank_ewma_state, select_ewma_state
from pricing.data.panel import SERIES, STEP_DAYS, Panel
from pricing.demand.forward_pass import Weights, blank_state, encode
from pricing.errors import HistoryError

CHUNK = 1000  # products encoded at a time: a long past of all at once may not fit in RAM
HISTORY = 0.5  # rows a period, relative to those since the checkpoint, from which rows count as a history


@dataclass(frozen=True)
class State:
    """State of every product after one period: the features' EWMA state and the LSTM's hidden and cell state."""

    memory: EwmaState
    hidden: Floats
    cell: Floats

    def take(self, rows: Ints) -> "State":
        """Select products by row; a row of −1 is blank."""
        new = (rows < 0)[:, None]
        hidden, cell = (np.where(new, 0.0, values[rows]).astype(np.float32) for values in (self.hidden, self.cell))
        return State(select_ewma_state(self.memory, rows), hidden, cell)


@dataclass(frozen=True)
class Encoded:
    """States as of a date, and what is needed to correct the recent past."""

    state: State  # after the last period
    checkpoint: State  # after the period before `tail` begins
    tail: Panel  # input rows since the checkpoint; corrections replace them and are encoded again
    digest: Floats  # (product, 3) `digest` of the rows up to the checkpoint, to detect a changed past


def advance(weights: Weights, panel: Panel, *, norms: Norms, state: State) -> State:
    """Encode the periods of `panel`, which follow `state`."""
    if not len(panel.dates):
        return state
    parts = []
    for begin in range(0, len(panel.product_ids), CHUNK):
        rows = np.arange(begin, min(begin + CHUNK, len(panel.product_ids)))
        own = state.take(rows)
        past, memory = features.past_features(panel.select(rows), norms=norms.take(rows), memory=own.memory)
        _, (hidden, cell) = encode(weights, past.inputs, state=(own.hidden, own.cell))
        parts.append(State(memory, hidden, cell))
    return _each(lambda *some: np.concatenate(some), *parts)


def _each(combine: Callable[..., Floats], *states: State) -> State:
    """Combine the arrays of several states one by one."""
    memories = [vars(state.memory) for state in states]
    memory = {name: combine(*(each[name] for each in memories)) for name in memories[0]}
    hidden = combine(*(state.hidden for state in states))
    return State(EwmaState(**memory), hidden, combine(*(state.cell for state in states)))


def blank(weights: Weights, panel: Panel) -> State:
    """Return the states of the panel's products before its first period."""
    hidden, cell = blank_state(weights, len(panel.product_ids))
    return State(blank_ewma_state(len(panel.product_ids), period=panel.period), hidden, cell)


def encode_panel(weights: Weights, panel: Panel, *, norms: Norms, tail: int) -> Encoded:
    """Encode a whole history, with a checkpoint `tail` periods before its end."""
    return _from(blank(weights, panel), np.zeros((len(panel.product_ids), 3)), weights, panel, norms=norms, tail=tail)


def _from(start: State, sums: Floats, weights: Weights, panel: Panel, *, norms: Norms, tail: int) -> Encoded:
    """Encode a panel from a state and the digest of what came before it."""
    cut = max(len(panel.dates) - tail, 0)
    head = span(panel, 0, cut)
    rest = span(panel, cut, len(panel.dates))
    checkpoint = advance(weights, head, norms=norms, state=start)
    state = advance(weights, rest, norms=norms, state=checkpoint)
    rest = replace(rest, notes=(), events=(), lineage={}, names={}, silent=())  # of which states know nothing
    return Encoded(state=state, checkpoint=checkpoint, tail=rest, digest=sums + digest(head))


def carry(weights: Weights, encoded: Encoded, panel: Panel, *, norms: Norms, tail: int) -> Encoded:
    """Encode new periods and corrections of the periods since the checkpoint.

    The panel, of the same products in the same order, may begin at any period up to the one after the last encoded one.
    Its rows before the checkpoint are compared with those encoded; the result keeps `tail` periods of rows.

    Raises:
        HistoryError: Periods are missing between the state and the panel, or the past before the checkpoint differs.
    """
    days = STEP_DAYS[panel.period]
    old = encoded.tail
    begin = old.dates[0]
    first = panel.dates[0]
    if first > old.dates[-1] + np.timedelta64(days, "D"):
        raise HistoryError(
            f"the state ends on {old.dates[-1]} and the new rows begin on {first}: the periods between are missing; "
            "give rows from the day after the state's date on"
        )
    start = encoded.checkpoint
    sums = encoded.digest
    whole = np.zeros(len(panel.product_ids), bool)
    if first < begin:
        cut = int(np.searchsorted(panel.dates, begin))
        before = span(panel, 0, cut)
        panel = span(panel, cut, len(panel.dates))
        start, sums = _encode_unread(weights, encoded, before, norms=norms)
        # A product's age gives its first row: a panel that begins by then contains all of its past.
        age = start.memory.age
        _refuse_single_rows(before, old, age=age, read=sums[:, 0])
        there = before.present.any(axis=1) | panel.present.any(axis=1)
        whole = (age > 0) & (age * days <= (begin - first) // np.timedelta64(1, "D")) & there
        differs = ~np.isclose(digest(before), sums, rtol=1e-6, atol=1e-3).all(axis=1) & whole
        if differs.any():
            raise HistoryError(
                f"the past before {begin} is not the one that was encoded for {int(differs.sum())} product(s), first "
                f"{str(before.product_ids[differs][0])!r}; give the whole history and re-encode it from scratch with "
                "--rebuild true"
            )
    return _from(start, sums, weights, overlay(old, panel, whole=whole), norms=norms, tail=tail)


def _encode_unread(weights: Weights, encoded: Encoded, before: Panel, *, norms: Norms) -> tuple[State, Floats]:
    """Return checkpoint and digest with the past of products that had none: those that join with a history."""
    unread = (encoded.digest[:, 0] == 0) & (encoded.checkpoint.memory.age == 0)
    rows = np.flatnonzero(unread & before.present.any(axis=1))
    if not len(rows):
        return encoded.checkpoint, encoded.digest
    theirs = before.select(rows)
    fresh = advance(weights, theirs, norms=norms.take(rows), state=blank(weights, theirs))

    def put(old: Floats, new: Floats) -> Floats:
        merged = old.copy()
        merged[rows] = new
        return merged

    return _each(put, encoded.checkpoint, fresh), put(encoded.digest, digest(theirs))


def _refuse_single_rows(before: Panel, tail: Panel, *, age: Floats, read: Floats) -> None:
    """Refuse single rows from before the checkpoint, which can neither be encoded nor compared.

    A history has about as many rows a period as the `tail` since the checkpoint, or all that were read, a list of
    corrections far fewer; `age` has the (product,) periods from its first row to the checkpoint, `read` its rows there.

    Raises:
        HistoryError: The rows are so few that they must be corrections.
    """
    rows = before.present.sum(axis=1)
    there = rows > 0
    if not there.any():
        return
    expected = tail.present[there].mean() * np.minimum(age, len(before.dates))
    if rows.sum() >= HISTORY * np.minimum(expected, read)[there].sum():
        return
    product = int(np.argmax(there))
    period = before.dates[int(np.argmax(before.present[product]))]
    raise HistoryError(
        f"{int(rows.sum())} row(s) lie before {tail.dates[0]}, first {str(before.product_ids[product])!r} on {period}: "
        "that past is encoded already and a single row of it cannot be corrected; leave them out, or give the whole "
        "history and re-encode it from scratch with --rebuild true"
    )


def digest(panel: Panel) -> Floats:
    """(product, 3) sums of rows, units and absolute log prices over the panel's periods."""
    rows = panel.present.sum(axis=1).astype(np.float64)
    units = np.where(panel.present, panel.units_sold, 0.0).astype(np.float64).sum(axis=1)
    prices = np.where(panel.present, np.abs(np.log(np.where(panel.present, panel.price, 1.0))), 0.0)
    return np.stack([rows, units, prices.astype(np.float64).sum(axis=1)], axis=1)


def span(panel: Panel, start: int, stop: int) -> Panel:
    """Select the panel's periods start … stop − 1, as views."""
    cut = {name: getattr(panel, name)[:, start:stop] for name in SERIES}
    return replace(panel, dates=panel.dates[start:stop], **cut)


def overlay(old: Panel, new: Panel, *, whole: Bools) -> Panel:
    """Merge old and new periods; where both have a row the new one is used.

    An old row absent from the new panel is kept, unless the new panel has the product's `whole` (product,) past.
    """
    days = np.timedelta64(STEP_DAYS[new.period], "D")
    first = min(old.dates[0], new.dates[0])
    dates = np.arange(first, max(old.dates[-1], new.dates[-1]) + days, days)
    at_old, at_new = (int((panel.dates[0] - first) // days) for panel in (old, new))
    columns: dict[str, Any] = {}
    for name in SERIES:
        before = getattr(old, name)
        after = getattr(new, name)
        shape = (len(before), len(dates))
        merged = np.zeros(shape, bool) if before.dtype == np.bool_ else np.full(shape, np.nan, np.float32)
        merged[:, at_old : at_old + before.shape[1]] = before
        part = merged[:, at_new : at_new + after.shape[1]]
        # Without a new row the old values are kept, carried prices included.
        keep = ~new.present & ~np.isnan(part) if part.dtype != np.bool_ else ~new.present
        keep &= ~whole[:, None]
        part[...] = np.where(keep, part, after)
        columns[name] = merged
    gone = new.categories == ""  # set by `expand` for products absent from the new panel
    return replace(
        new,
        dates=dates,
        categories=np.where(gone, old.categories, new.categories),
        cost_assumed=np.where(gone, old.cost_assumed, new.cost_assumed),
        **columns,
    )


def find_rows(names: Strings, wanted: Strings) -> Ints:
    """(wanted,) the row of each among sorted names; −1 where it is not there."""
    row = np.minimum(np.searchsorted(names, wanted), max(len(names) - 1, 0))
    return np.where(names[row] == wanted, row, -1)


def expand(panel: Panel, product_ids: Strings) -> Panel:
    """Reorder the panel to `product_ids`; absent products get no rows.

    Their holiday flags are those of most products in the period, as for any product without a row.
    """
    where = find_rows(panel.product_ids, product_ids)
    found = where >= 0
    holiday = 2 * panel.is_holiday.sum(axis=0) > len(panel.is_holiday)
    blanks: dict[str, Any] = {"present": False, "is_promo": 0.0, "is_holiday": holiday}
    columns: dict[str, Any] = {}
    for name in SERIES:
        values = getattr(panel, name)[where]
        columns[name] = np.where(found[:, None], values, blanks.get(name, np.nan)).astype(values.dtype)
    parents = None if panel.parent_ids is None else np.where(found, panel.parent_ids[where], product_ids)
    return replace(
        panel,
        product_ids=product_ids,
        categories=np.where(found, panel.categories[where], ""),
        parent_ids=parents,
        cost_assumed=np.where(found, panel.cost_assumed[where], True),
        **columns,
    )


def add_blank_states(encoded: Encoded, product_ids: Strings, rows: Ints) -> Encoded:
    """Extend the states to all `product_ids`, sorted; (product,) `rows` has each one's row in them, −1 is a new one."""
    return Encoded(
        state=encoded.state.take(rows),
        checkpoint=encoded.checkpoint.take(rows),
        tail=expand(encoded.tail, product_ids),
        digest=np.where((rows < 0)[:, None], 0.0, encoded.digest[rows]),
    )
