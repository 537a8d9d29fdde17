"""How far a model's states lie from those that its rows give when they are encoded anew: what gates a refresh."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pricing.data.ewma import select_memory
from pricing.data.panel import Panel
from pricing.demand.model import DemandModel
from pricing.demand.state import State, advance, digest, encode_panel, expand, span

SAMPLE = 200


@dataclass(frozen=True)
class Parity:
    """The result of encoding a sample of products anew.

    Attributes:
        difference: Largest difference of any unit's state and of any step's log factor of the forecasters beside the
            network, relative where it is above 1.
        from_scratch: True when the whole history was encoded; False when only the rows since the checkpoint were,
            because the panel does not reach back further.
        products: Products compared.
    """

    difference: float
    from_scratch: bool
    products: int


def covers(panel: Panel, model: DemandModel) -> bool:
    """Whether a panel reaches back over the whole past that the model has read."""
    encoded = model.encoded
    before = span(panel, 0, int(np.searchsorted(panel.dates, encoded.tail.dates[0])))
    return bool(digest(before)[:, 0].sum() >= encoded.digest[:, 0].sum())


def parity(model: DemandModel, panel: Panel, *, sample: int = SAMPLE) -> Parity:
    """Encodes up to `sample` products, spread over the list, anew and compares.

    Args:
        model: As it is after the refresh.
        panel: What it was refreshed with; the whole history for a comparison from scratch.
        sample: Most products to compare; a sample, because encoding all of a long history takes minutes.
    """
    count = len(model.product_ids)
    rows = np.unique(np.linspace(0, count - 1, num=min(sample, count)).astype(np.int64))
    norms = model.norms.take(rows)
    encoded, ids = model.encoded, model.product_ids[rows]
    whole = covers(panel, model)
    if whole:
        anew = encode_panel(model.weights, expand(panel, ids), norms=norms, tail=len(encoded.tail.dates)).state
    else:
        anew = advance(model.weights, encoded.tail.select(rows), norms=norms, state=_select(encoded.checkpoint, rows))
    pairs = ((encoded.state.hidden[rows], anew.hidden), (encoded.state.cell[rows], anew.cell))
    levels = model.combination.factor[rows], model.factor_of(rows, anew)
    worst = max(float(np.max(np.abs(one - other) / np.maximum(1.0, np.abs(other)))) for one, other in (*pairs, levels))
    return Parity(difference=worst, from_scratch=whole, products=len(rows))


def _select(state: State, rows: NDArray[np.int64]) -> State:
    return State(memory=select_memory(state.memory, rows), hidden=state.hidden[rows], cell=state.cell[rows])
