"""Carry what a version knows over new days, with the same weights, and compare with states encoded anew."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pricing.config_models import ServingConfig
from pricing.data.anchors import Anchors
from pricing.data.calendar import holidays_for
from pricing.data.panel import STEP_DAYS, Panel
from pricing.decision.product_facts import ProductFacts, carry_facts, carry_last_price
from pricing.demand.model import DemandModel
from pricing.demand.state import advance, digest, encode_panel, expand, span
from pricing.registry.version import LoadedVersion

SAMPLE = 200  # products compared, at most: encoding all of a long history takes minutes


@dataclass(frozen=True)
class Parity:
    """Result of comparing refreshed states with states encoded anew, on a sample of products."""

    difference: float  # largest of any hidden or cell state and any step's log factor; relative to values above 1
    from_scratch: bool  # else only the rows since the checkpoint were encoded: the panel does not reach back further

    @property
    def checks(self) -> dict[str, Any]:
        """The comparison as a version stores it."""
        return {"parity": self.difference, "parity_from_scratch": self.from_scratch}


@dataclass(frozen=True)
class Carried:
    """A version's knowledge as of a later day, and the versions of its partitions if it has any."""

    demand: DemandModel
    facts: ProductFacts
    anchors: Anchors
    parity: Parity
    parts: tuple[LoadedVersion, ...] = ()


def carry(
    version: LoadedVersion,
    panel: Panel,
    *,
    facts: ProductFacts,
    anchors: Anchors,
    serving: ServingConfig,
    rebuild: bool,
) -> Carried:
    """Carries a version over a panel's days; `facts` are its own, with the plans that count now.

    Raises:
        HistoryError: The panel leaves a gap after the state or changes rows before the checkpoint.
    """
    demand = version.learner.refresh(panel, rebuild=rebuild)
    checked = parity(demand, panel)
    kept = version.learner.encoded.tail
    whole = checked.from_scratch
    carried = carry_facts(facts, demand.encoded.tail, panel, kept=kept, whole=whole).anchored(anchors)
    last_price, former_price = carry_last_price(
        facts,
        carried,
        history=panel if whole else demand.encoded.tail,
        tail=demand.encoded.tail,
        kept=kept,
        anchors=anchors,
        serving=serving,
    )
    carried = replace(carried, last_price=last_price, former_price=former_price)
    demand = with_coming_holidays(demand, carried, country=version.config.data.country)
    return Carried(demand, carried, anchors, checked)


def with_coming_holidays(demand: DemandModel, facts: ProductFacts, *, country: str) -> DemandModel:
    """Returns the model with holidays from its state's date on; otherwise they end a year after training."""
    dates = facts.state_date + np.arange(1, len(demand.holidays)) * np.timedelta64(STEP_DAYS[demand.period], "D")
    flags = holidays_for(dates, recurring=facts.recurring, country=country, period=demand.period)
    return demand.with_holidays(flags.astype(np.float32))


def covers(panel: Panel, model: DemandModel) -> bool:
    """Returns True when a panel covers the whole history that the model has read."""
    encoded = model.encoded
    before = span(panel, 0, int(np.searchsorted(panel.dates, encoded.tail.dates[0])))
    return bool(digest(before)[:, 0].sum() >= encoded.digest[:, 0].sum())


def parity(model: DemandModel, panel: Panel) -> Parity:
    """Encodes up to SAMPLE products, evenly spaced by row, anew and compares their states.

    Args:
        model: The model after the refresh.
        panel: The sales it was refreshed with; the whole history for a comparison from scratch.
    """
    count = len(model.product_ids)
    rows = np.unique(np.linspace(0, count - 1, num=min(SAMPLE, count)).astype(np.int64))
    norms = model.norms.take(rows)
    encoded = model.encoded
    ids = model.product_ids[rows]
    whole = covers(panel, model)
    if whole:
        anew = encode_panel(model.weights, expand(panel, ids), norms=norms, tail=len(encoded.tail.dates)).state
    else:
        anew = advance(model.weights, encoded.tail.select(rows), norms=norms, state=encoded.checkpoint.take(rows))
    pairs = [
        (encoded.state.hidden[rows], anew.hidden),
        (encoded.state.cell[rows], anew.cell),
        (model.combination.factor[rows], model.factor_of(rows, anew)),
    ]
    worst = max(float(np.max(np.abs(kept - new) / np.maximum(1.0, np.abs(new)))) for kept, new in pairs)
    return Parity(worst, whole)
