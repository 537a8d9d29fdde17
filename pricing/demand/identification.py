"""How elasticities are learnt from endogenous history: two cross-fitted networks, then residual on residual."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pricing.config import DemandConfig
from pricing.data.features import KNOWN, PAST, Norms
from pricing.data.panel import Panel
from pricing.demand import forward
from pricing.demand.elasticity import LIMITS, Residuals, Shift, Shrunk, pooled, regress, shrink
from pricing.demand.network import Shape, Trainer, Weights
from pricing.demand.sampling import Plan, Table, baseline, build_table, draw_batches, gather_known

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Progress = Callable[[str], None]

SERIES = 64


@dataclass(frozen=True)
class Identified:
    """Elasticities, and the figures that say how they came about.

    Attributes:
        norms: The products' scales with the elasticities in them.
        shrunk: Posterior elasticities.
        price_r2: Share of the log price's variance that the price network explained out of fold.
        response: How much of a change of the start one round gives back: 1 means that the start does not matter.
        level_error: Standard error of the mean elasticity, the ambiguity of the start included.
    """

    norms: Norms
    shrunk: Shrunk
    price_r2: float
    response: float
    level_error: float


class Nuisances:
    """The two nuisance networks, compiled once for panels of one length, trained on one half and read on the other."""

    def __init__(self, panel: Panel, *, category: Ints, config: DemandConfig) -> None:
        self._config = config
        self._panel = panel
        self._category = category
        periods = len(panel.dates)
        length = min(config.context, periods * 2 // 3)
        shape = Shape(
            length=length,
            cutoffs=max(length - length // 6, 1),
            steps=1,
            past=PAST,
            known=KNOWN + 1,
            categories=int(category.max()) + 1,
            units=config.units,
        )
        self._shape = shape
        self._demand = Trainer(shape, loss="demand", seed=config.seed)
        self._price = Trainer(shape, loss="price", seed=config.seed + 1)
        block = config.block if panel.period == "day" else max(config.block // 7, 1)
        self._fold = (np.arange(periods) // block) % config.nuisance_folds
        self._weights: dict[tuple[str, int], Weights] = {}

    def price_residual(self, norms: Norms) -> tuple[Floats, float]:
        """(product, period) log price ratio less its out-of-fold expectation, and the explained share of variance."""
        table = build_table(self._panel, norms=norms, category=self._category)
        expected = self._cross_fit(table, price=True)[0]
        residual = table.log_price - expected
        seen = table.seen > 0
        spread = float(np.var(table.log_price[seen]))
        own = [np.var(table.log_price[i, seen[i]]) for i in range(len(seen)) if seen[i].any()]
        r2 = 1.0 - float(np.mean(residual[seen] ** 2)) / max(min(spread, float(np.mean(own))), 1e-9)
        return residual, r2

    def shift(self, norms: Norms, price_residual: Floats, *, recency: Floats) -> Shift:
        """How far each product's elasticity lies from the one in `norms`."""
        table = build_table(self._panel, norms=norms, category=self._category)
        log_mean, log_size = self._cross_fit(table, price=False)
        mean = np.exp(np.clip(log_mean + table.offset, -9, 14))
        weight = table.seen * (1.0 - table.censored) * recency
        weight[:, 0] = 0.0
        # Before a product's first weeks its level is a guess.
        young = np.arange(weight.shape[1]) < (table.begin + 14 // (7 if self._panel.period == "week" else 1))[:, None]
        weight[young] = 0.0
        cluster = 14 if self._panel.period == "day" else 2
        return regress(
            Residuals(
                units=table.units,
                mean=mean,
                price=price_residual,
                weight=weight,
                size=np.exp(log_size),
                cluster=np.arange(weight.shape[1]) // cluster,
            )
        )

    def _cross_fit(self, table: Table, *, price: bool) -> tuple[Floats, Floats]:
        config = self._config
        trainer = self._price if price else self._demand
        products, periods = table.seen.shape
        value = np.zeros((products, periods))
        size = np.zeros((products, periods))
        for fold in range(config.nuisance_folds):
            plan = Plan(
                series=SERIES,
                length=self._shape.length,
                cutoffs=self._shape.cutoffs,
                steps=1,
                horizon=1,
                keep=(self._fold != fold).astype(np.float32),
                recency=np.ones(periods, np.float32),
                price=price,
                flag=True,
            )
            rng = np.random.default_rng([config.seed, fold, int(price)])
            name = "price" if price else "demand"
            weights = trainer.fit(
                draw_batches(table, plan, rng),
                steps=config.price_steps if price else config.demand_steps,
                rate=config.learning_rate,
                start=self._weights.get((name, fold)),
            )
            if not price:
                self._weights[(name, fold)] = weights
            log_mean, log_size = one_step(weights, table)
            if not price:
                log_mean = log_mean + _next_baseline(table)
            scored = self._fold == fold
            value[:, 1:][:, scored[1:]] = log_mean[:, scored[1:]]
            size[:, 1:][:, scored[1:]] = log_size[:, scored[1:]]
        return value, size


def one_step(weights: Weights, table: Table) -> tuple[Floats, Floats]:
    """Log mean over the offset and log size of each period from the one before; (product, period − 1) each."""
    products, periods = table.seen.shape
    states, _ = forward.encode(weights, table.past.inputs[:, :-1], state=forward.blank_state(weights, products))
    prepared = forward.prepare(weights, states, table.category)
    rows = np.broadcast_to(np.arange(products)[:, None], (products, periods - 1))
    cutoff = np.broadcast_to(np.arange(periods - 1), (products, periods - 1))
    known = gather_known(table, rows, cutoff, np.ones_like(cutoff), flag=True)
    log_mean, _, log_size = forward.respond(weights, prepared, known)
    return log_mean, log_size


def identify(
    panel: Panel, *, norms: Norms, category: Ints, config: DemandConfig, progress: Progress | None = None
) -> Identified:
    """Elasticities of every product, from two starts.

    One round gives back only part of a change of its start, because the demand network has already absorbed some of
    the price effect. Two starts show how much, and the secant through them finds the start that no round would move.
    """
    say = progress or (lambda _: None)
    nuisances = Nuisances(panel, category=category, config=config)
    recency = recency_weights(len(panel.dates), half_life=config.recency_half_life)
    low, high = config.elasticity_starts
    residual, r2 = nuisances.price_residual(_started(norms, low))
    say(f"price network: R² {r2:.2f} out of fold")
    means: list[tuple[float, float]] = []
    for start in (low, high):
        shift = nuisances.shift(_started(norms, start), residual, recency=recency)
        mean, error = pooled(shift, between=config.elasticity_spread)
        means.append((mean, error))
        say(f"start {start:+.2f}: mean shift {mean:+.2f} ± {error:.2f}")
    response = float(np.clip((means[0][0] - means[1][0]) / (high - low), 0.15, 1.5))
    root = float(np.clip(low + means[0][0] / response, *LIMITS))
    level_error = float(np.clip(means[0][1] / response, 0.0, 2.0))
    current = _started(norms, root)
    say(f"level {root:+.2f} ± {level_error:.2f}, response {response:.2f}")
    for round_number in range(config.rounds):
        shift = nuisances.shift(current, residual, recency=recency)
        # What a round gives back of an error is `response` of it: undo that before shrinking.
        value = current.elasticity + shift.value / response
        shrunk = shrink(value, shift.error / response, category=category, prior=(root, config.elasticity_prior_sd))
        current = replace(current, elasticity=shrunk.mean.astype(np.float32))
        say(f"round {round_number + 1}: mean {shrunk.mean.mean():+.2f}, spread {shrunk.between:.2f}")
    return Identified(current, shrunk, r2, response, level_error)


def recency_weights(periods: int, *, half_life: float | None) -> NDArray[np.float32]:
    """(period,) weights that halve every `half_life` periods into the past; all 1 when absent."""
    if half_life is None:
        return np.ones(periods, np.float32)
    age = np.arange(periods)[::-1]
    return (0.5 ** (age / half_life)).astype(np.float32)


def _started(norms: Norms, elasticity: float) -> Norms:
    return replace(norms, elasticity=np.full_like(norms.elasticity, elasticity))


def _next_baseline(table: Table) -> Floats:
    products, periods = table.seen.shape
    rows = np.broadcast_to(np.arange(products)[:, None], (products, periods - 1))
    cutoff = np.broadcast_to(np.arange(periods - 1), (products, periods - 1))
    return baseline(table, rows, cutoff, np.ones_like(cutoff))
