"""How elasticities are learnt from endogenous history: two cross-fitted networks, then residual on residual."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pricing.data.features import KNOWN, PAST, weekends
from pricing.data.memory import Norms
from pricing.data.panel import Panel
from pricing.demand import forward
from pricing.demand.elasticity import Residuals, Shift, Shrunk, level_prior, regress, shrink
from pricing.demand.moves import fit_moves, routine_part
from pricing.demand.network import Shape, Trainer, Weights
from pricing.demand.sampling import KNOWN_PRICES, Plan, Table, baseline, build_table, draw_batches, gather_known
from pricing.sections import DemandConfig

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Progress = Callable[[str], None]

SERIES = 64
CHUNK = 1000  # products whose states are held at a time
SAME_PRICE = 0.002  # log units; a smaller difference is rounding, not a move
YOUNG = 14  # rows of a product before its first move that is looked at: its level is a guess until then
WEEKEND_LIMIT = 0.5  # relative
SPELL = 3  # periods after a move that are scored, as long as the new price stands


@dataclass(frozen=True)
class Identified:
    """Elasticities, and the figures that say how they came about.

    Attributes:
        norms: The products' scales with the elasticities in them.
        shrunk: Posterior elasticities; their deviations hold the level's uncertainty.
        events: Scored periods of price moves.
        control: Coefficient of the routine part of moves; near 0 it does not say that prices ignored demand.
    """

    norms: Norms
    shrunk: Shrunk
    events: int
    control: float


@dataclass(frozen=True)
class Events:
    """Price moves: (event,) product, cutoff before the move, and periods from the cutoff to the one scored."""

    product: Ints
    cutoff: Ints
    step: Ints


def find_events(table: Table, *, spell: int) -> Events:
    """Every period in which a price moved, and up to `spell` − 1 more while the new price stood.

    A period counts when it has a row, did not sell out, and YOUNG rows of the product came before.
    """
    products, periods = table.seen.shape
    price, seen = table.log_price, table.seen > 0
    usable = seen & (table.censored == 0)
    age = np.cumsum(seen, axis=1)
    moved = np.zeros((products, periods), bool)
    moved[:, 1:] = (np.abs(np.diff(price, axis=1)) > SAME_PRICE) & seen[:, 1:] & seen[:, :-1]
    moved[:, 1:] &= age[:, :-1] >= YOUNG
    found: list[tuple[Ints, Ints, Ints]] = []
    for step in range(1, spell + 1):
        stands = np.zeros((products, periods), bool)  # (product, cutoff)
        last = periods - step
        stands[:, :last] = moved[:, 1 : last + 1] & usable[:, step:]
        stands[:, :last] &= np.abs(price[:, step:] - price[:, 1 : last + 1]) <= SAME_PRICE
        rows, cutoffs = np.nonzero(stands)
        found.append((rows, cutoffs, np.full(len(rows), step)))
    product, cutoff, steps = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Events(product, cutoff, steps)


class Nuisances:
    """The two nuisance networks, compiled once for panels of one length, trained on some blocks and read on others."""

    def __init__(self, panel: Panel, *, category: Ints, config: DemandConfig) -> None:
        self._config = config
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
        self._demand = Trainer(shape, loss="demand", seed=config.seed)
        self._price = Trainer(replace(shape, known=KNOWN + 1 + KNOWN_PRICES), loss="price", seed=config.seed + 1)
        self._shape = shape
        block = config.block if panel.period == "day" else config.block // 7
        block = max(min(block, periods // config.nuisance_folds), 1)  # no fold of a short panel without a block
        self._fold = (np.arange(periods) // block) % config.nuisance_folds

    def price_residual(self, table: Table, events: Events) -> tuple[Floats, float]:
        """(event,) move of the log price less its out-of-fold expectation, and the foreseen share of its variance."""
        expected, _ = self._cross_fit(table, events, price=True)
        at = events.cutoff + events.step
        move = table.log_price[events.product, at] - table.log_price[events.product, events.cutoff]
        residual = move - expected
        foreseen = 1.0 - float((residual**2).sum()) / max(float((move**2).sum()), 1e-12) if len(move) else 0.0
        return residual, foreseen

    def demand_forecast(self, table: Table, events: Events) -> tuple[Floats, Floats]:
        """(event,) expected units at the price charged and size, out of fold."""
        log_mean, log_size = self._cross_fit(table, events, price=False)
        at = events.cutoff + events.step
        log_mean = log_mean + baseline(table, events.product, events.cutoff, events.step)
        return np.exp(np.clip(log_mean + table.offset[events.product, at], -9, 14)), np.exp(log_size)

    def _cross_fit(self, table: Table, events: Events, *, price: bool) -> tuple[Floats, Floats]:
        config = self._config
        trainer = self._price if price else self._demand
        value, size = np.zeros(len(events.product)), np.zeros(len(events.product))
        block = self._fold[events.cutoff + events.step]
        for fold in range(config.nuisance_folds):
            plan = Plan(
                series=SERIES,
                length=self._shape.length,
                cutoffs=self._shape.cutoffs,
                steps=1,
                horizon=SPELL,
                keep=(self._fold != fold).astype(np.float32),
                recency=np.ones(table.seen.shape[1], np.float32),
                price=price,
                flag=True,
            )
            rng = np.random.default_rng([config.seed, fold, int(price)])
            weights = trainer.fit(
                draw_batches(table, plan, rng),
                steps=config.price_steps if price else config.demand_steps,
                rate=config.learning_rate,
            )
            scored = block == fold
            part = Events(events.product[scored], events.cutoff[scored], events.step[scored])
            value[scored], size[scored] = read_events(weights, table, part, price=price)
        return value, size


def read_events(weights: Weights, table: Table, events: Events, *, price: bool) -> tuple[Floats, Floats]:
    """(event,) the network's log mean over the offset, and log size."""
    value, size = np.zeros(len(events.product), np.float32), np.zeros(len(events.product), np.float32)
    for begin in range(0, len(table.category), CHUNK):  # the states of a day of every product would fill the memory
        some = slice(begin, begin + CHUNK)
        inputs = table.past.inputs[some]
        states, _ = forward.encode(weights, inputs, state=forward.blank_state(weights, len(inputs)))
        at = np.flatnonzero((events.product >= begin) & (events.product < begin + CHUNK))
        rows, cutoff = events.product[at], events.cutoff[at]
        prepared = forward.prepare(weights, states[rows - begin, cutoff], table.category[rows])
        known = gather_known(table, rows, cutoff, events.step[at], flag=True, prices=price)
        value[at], _, size[at] = forward.respond(weights, prepared, known)
    return value, size


def identify(
    panel: Panel, *, norms: Norms, category: Ints, config: DemandConfig, progress: Progress | None = None
) -> Identified:
    """Elasticities of every product.

    1. The price network says which part of each price move could be foreseen from sales, calendar and past prices; cost
       and stock stay out of it, so that what they do to price is variation to learn from.
    2. The demand network forecasts the periods of each move from the day before, with the current elasticities in its
       offset and past sales restated by them.
    3. Residual on residual, with a control for what routine moves tell of hidden demand (`moves`), then shrinkage.
    4. Steps 2 and 3 again from there, `config.rounds` times in all.
    """
    say = progress or (lambda _: None)
    nuisances = Nuisances(panel, category=category, config=config)
    recency = recency_weights(len(panel.dates), half_life=config.recency_half_life)
    cluster = np.arange(len(panel.dates)) // (14 if panel.period == "day" else 2)
    current = replace(norms, elasticity=np.full_like(norms.elasticity, config.elasticity_start))
    table = build_table(panel, norms=current, category=category)
    events = find_events(table, spell=SPELL)
    at = events.cutoff + events.step
    if not len(at):
        say("no price ever moved: elasticities stay where they begin, with wide intervals")
        return _unmoved(current, category, config)
    residual, r2 = nuisances.price_residual(table, events)
    weekend = weekends(panel.dates, period=panel.period)
    moves = fit_moves(residual)
    say(f"{len(residual)} periods of price moves, {r2:.0%} of their variance foreseen")
    routine = routine_part(residual, moves) if config.control else np.zeros_like(residual)
    for number in range(config.rounds):
        if number:
            del table  # two of a large panel would not fit the memory
            table = build_table(panel, norms=current, category=category)
        mean, size = nuisances.demand_forecast(table, events)
        shift = regress(
            Residuals(
                product=events.product,
                cluster=cluster[at],
                units=table.units[events.product, at],
                mean=mean,
                price=residual * (1.0 + current.weekend[events.product] * weekend[at]),
                routine=routine,
                weight=recency[at],
                size=size,
                weekend=current.elasticity[events.product] * residual * weekend[at],
            ),
            products=len(category),
            weekend=float(current.weekend[0]),
        )
        shrunk = _posterior(current, shift, category=category, config=config)
        stronger = np.clip(current.weekend + shift.weekend, -WEEKEND_LIMIT, WEEKEND_LIMIT)
        current = replace(current, elasticity=shrunk.mean.astype(np.float32), weekend=stronger.astype(np.float32))
        say(
            f"round {number + 1}: elasticity {shrunk.mean.mean():+.2f} ± {shift.mean_error:.2f}, "
            f"spread {shrunk.between:.2f}, control {shift.control:+.2f}, "
            f"weekend {float(current.weekend[0]):+.2f}"
        )
    return Identified(current, shrunk, len(residual), shift.control)


def _unmoved(current: Norms, category: Ints, config: DemandConfig) -> Identified:
    """What is known when no price ever moved: the configured start, and how little that is."""
    nothing = np.full(len(category), np.inf)
    prior = (config.elasticity_start, config.elasticity_prior_sd)
    shrunk = shrink(np.zeros(len(category)), nothing, category=category, prior=prior)
    return Identified(replace(current, elasticity=shrunk.mean.astype(np.float32)), shrunk, events=0, control=0.0)


def _posterior(current: Norms, shift: Shift, *, category: Ints, config: DemandConfig) -> Shrunk:
    value = current.elasticity + shift.value
    start = (config.elasticity_start, config.elasticity_prior_sd)
    known = bool(np.isfinite(shift.error).any())
    level = float(np.mean(current.elasticity)) + shift.mean
    prior = level_prior(level, shift.mean_error if known else np.inf, start=start)
    shrunk = shrink(value, shift.error, category=category, prior=prior)
    common = np.where(np.isfinite(shift.error), shift.common, shift.mean_error)
    # A few events can leave the control all but undetermined; what is known without them is the prior.
    common = np.minimum(np.nan_to_num(common, nan=np.inf), config.elasticity_prior_sd)
    return replace(
        shrunk,
        sd=config.elasticity_sd_factor * np.sqrt(shrunk.sd**2 + common**2),
        category_sd=config.elasticity_sd_factor * np.sqrt(shrunk.category_sd**2 + float(np.mean(common)) ** 2),
    )


def recency_weights(periods: int, *, half_life: float | None) -> NDArray[np.float32]:
    """(period,) weights that halve every `half_life` periods into the past; all 1 when absent."""
    if half_life is None:
        return np.ones(periods, np.float32)
    age = np.arange(periods)[::-1]
    return (0.5 ** (age / half_life)).astype(np.float32)
