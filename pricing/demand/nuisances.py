"""Cross-fit the nuisance networks over blocks of time: one predicts price changes, one demand, both out of fold.

These are m̂ and f̂ of docs/develop/demand.md, equation (5). Networks of a sample of the shop may stand in for new ones.
"""

from dataclasses import dataclass, replace

import numpy as np

from pricing.arrays import Floats, Ints
from pricing.config_models import DemandConfig
from pricing.data.panel import STEP_DAYS, Panel
from pricing.demand.batches import (
    FeatureTable,
    Kind,
    SamplingPlan,
    Targets,
    baseline,
    draw_batches,
    gather_known,
    shape_for,
)
from pricing.demand.forward_pass import NUISANCE_FOLDS, Networks, Weights, blank_state, encode, prepare, respond
from pricing.demand.price_changes import SCORED_PERIODS

BLOCK = 28  # days in a block; blocks alternate between the cross-fitting folds
CHUNK = 1000  # products encoded at a time


@dataclass(frozen=True)
class EventForecast:
    """Out-of-fold forecasts of (event,) demand at the price charged."""

    mean: Floats  # μ̂: expected units
    size: Floats  # r̂ of the negative binomial

    def select(self, rows: slice) -> "EventForecast":
        """Select events."""
        return EventForecast(self.mean[rows], self.size[rows])


class Nuisances:
    """Both nuisance networks of a panel: each event is predicted by those that were not fitted to its block of time."""

    def __init__(self, panel: Panel, *, category: Ints, config: DemandConfig, networks: Networks | None = None) -> None:
        self._config = config
        self._category = category
        self._periods = len(panel.dates)
        self.networks = networks or Networks({}, panel.dates[:1])
        self._fold = _alternating_folds(panel, since=self.networks.start[0])

    def price_residual(self, table: FeatureTable, events: Targets) -> tuple[Floats, float]:
        """(event,) log price change less its out-of-fold prediction, and the predicted share of its variance (R²)."""
        change = table.log_price[events.product, events.at] - table.log_price[events.product, events.cutoff]
        predicted, _ = self._predict(table, events, "price")
        residual = change - predicted
        left = float((residual**2).sum()) / max(float((change**2).sum()), 1e-12)
        foreseen = 1.0 - left if len(change) else 0.0
        return residual, foreseen

    def demand_forecast(self, table: FeatureTable, events: Targets, *, attempt: int) -> EventForecast:
        """Forecast the events at the price charged; each attempt samples other batches."""
        log_mean, log_size = self._predict(table, events, "demand", attempt=attempt)
        log_mean = log_mean + baseline(table, events)
        log_mean = log_mean + table.offset[events.product, events.at]
        return EventForecast(np.exp(np.clip(log_mean, -9, 14)), np.exp(log_size))

    def _predict(self, table: FeatureTable, events: Targets, kind: Kind, *, attempt: int = 0) -> tuple[Floats, Floats]:
        """(event,) log mean over the offset and log size; networks that are not known yet are fitted."""
        horizon = max(int(events.step.max(initial=1)), SCORED_PERIODS)
        fold_of_event = self._fold[events.at]
        log_mean, log_size = np.zeros((2, len(events)))
        known = dict(self.networks.weights)
        for fold in range(NUISANCE_FOLDS):
            name = f"{kind}-{attempt}-{fold}"
            if name not in known:
                known[name] = self._fit(table, kind, fold=fold, horizon=horizon, attempt=attempt)
            inside = fold_of_event == fold
            log_mean[inside], log_size[inside] = read_events(known[name], table, events.select(inside), kind)
        self.networks = replace(self.networks, weights=known)
        return log_mean, log_size

    def _fit(self, table: FeatureTable, kind: Kind, *, fold: int, horizon: int, attempt: int) -> Weights:
        """Fit a network on all blocks but those of a fold."""
        from pricing.demand.network import Trainer  # noqa: PLC0415 - importing Keras takes seconds

        config = self._config
        of_price = kind == "price"
        length = min(config.context, self._periods * 2 // 3)
        categories = int(self._category.max()) + 1
        shape = shape_for(config, kind, length=length, steps=1, categories=categories)
        plan = SamplingPlan(kind, shape, horizon=horizon, keep=(self._fold != fold).astype(np.float32))
        rng = np.random.default_rng([config.seed, fold, int(of_price), attempt])
        trainer = Trainer(shape, loss=kind, seed=config.seed + of_price)
        steps = config.price_steps if of_price else config.demand_steps
        return trainer.fit(draw_batches(table, plan, rng), steps=steps, rate=config.learning_rate)


def _alternating_folds(panel: Panel, *, since: np.datetime64) -> Ints:
    """(period,) the fold of each period's block of time; the first block begins at `since`."""
    periods = len(panel.dates)
    block = BLOCK if panel.period == "day" else BLOCK // 7
    block = max(min(block, periods // NUISANCE_FOLDS), 1)  # every fold of a short panel needs a block
    before = int((panel.dates[0] - since) // np.timedelta64(STEP_DAYS[panel.period], "D"))
    return np.asarray(((before + np.arange(periods)) // block) % NUISANCE_FOLDS)


def read_events(
    weights: Weights, table: FeatureTable, events: Targets, kind: Kind, *, chunk: int = CHUNK
) -> tuple[Floats, Floats]:
    """(event,) predict the network's log mean over the offset, and log size, `chunk` products at a time."""
    log_mean, log_size = np.zeros((2, len(events)), np.float32)
    for begin in range(0, len(table.category), chunk):  # all products' states may not fit in RAM
        inputs = table.past.inputs[begin : begin + chunk]
        states, _ = encode(weights, inputs, state=blank_state(weights, len(inputs)))
        at = np.flatnonzero((events.product >= begin) & (events.product < begin + chunk))
        some = events.select(at)
        prepared = prepare(weights, states[some.product - begin, some.cutoff], table.category[some.product])
        log_mean[at], log_size[at] = respond(weights, prepared, gather_known(table, some, kind))
    return log_mean, log_size
