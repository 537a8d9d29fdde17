"""Train a demand model: estimate elasticities and lifts, train the network on all data, encode the states."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Days, Floats, Ints
from pricing.config_models import DemandConfig
from pricing.data.counting_units import Units, find_units, in_steps, typical_unit
from pricing.data.features import KNOWN, PAST, restated_units
from pricing.data.panel import STEP_DAYS, Panel
from pricing.demand.adoption import initial_norms, own_prices
from pricing.demand.batches import FeatureTable, SamplingPlan, build_table, draw_batches
from pricing.demand.competitor import estimate_competitor_effects
from pricing.demand.ensemble import network_only, prior_weights, train_trees, volume_of
from pricing.demand.folds import check_length
from pricing.demand.grades import CATEGORY, PRIOR_ONLY, category_tells, parents_of
from pricing.demand.identification import Identified, identify
from pricing.demand.levels import LevelForecasts, Priors
from pricing.demand.lifts import learn_lifts, learn_promotion_lift
from pricing.demand.model import DemandModel
from pricing.demand.network import Progress, Shape, Trainer, Weights, with_draw, without_draw
from pricing.demand.out_of_fold import LEVEL_ERROR, OutOfFold
from pricing.demand.shrinkage import elasticity_of
from pricing.demand.state import encode_panel
from pricing.errors import HistoryError

Calendar = Callable[[Days], Bools]

SERIES = 64
STEPS_AHEAD = 3
HOLIDAY_PERIODS = 420


@dataclass(frozen=True)
class WarmStart:
    """Where a fold's training starts: the fold before's weights, and elasticities of the panel's products."""

    weights: Weights
    identified: Identified


@dataclass(frozen=True)
class Trained:
    """A model with prior combination weights, the warm start for a later fold, and its forecasters' levels."""

    model: DemandModel
    start: WarmStart
    levels: LevelForecasts


def train(
    panel: Panel,
    config: DemandConfig,
    *,
    calendar: Calendar | None = None,
    out_of_fold: OutOfFold | None = None,
    tested: NDArray[np.floating] | None = None,
    live_since: np.datetime64 | None = None,
    progress: Progress | None = None,
) -> DemandModel:
    """Train the final model on the whole panel.

    Args:
        panel: The whole history.
        config: The demand section.
        calendar: Tells which of some days are holidays; none after the panel when absent.
        out_of_fold: Estimates from a backtest; the default level error and prior combination weights when absent.
        tested: The draws of experiments; see `identify`.
        live_since: First period whose prices may be the platform's own; None if people set all prices.
        progress: Called with a sentence about each step.

    Raises:
        HistoryError: The panel is too short, or nothing was sold.
        TrainingError: The network did not converge.
    """
    check_length(len(panel.dates), period=panel.period)
    trained = fit(panel, config, calendar=calendar, tested=tested, live_since=live_since, progress=progress)
    if out_of_fold is None:
        return trained.model
    model = replace(trained.model, level_error=out_of_fold.width.level_error)
    return model.combined(trained.levels, weights=out_of_fold.weights, dispersion=out_of_fold.width.dispersion)


def fit(
    panel: Panel,
    config: DemandConfig,
    *,
    calendar: Calendar | None = None,
    start: WarmStart | None = None,
    tested: NDArray[np.floating] | None = None,
    live_since: np.datetime64 | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train once; uses the weights and elasticities of `start` where given.

    `tested` holds the draws of experiments, as for `identify`. Price changes from `live_since` on depend on the model's
    own forecasts and are not used to estimate elasticities, except for those draws.

    Raises:
        HistoryError: Nothing was sold.
        TrainingError: As `train`.
    """
    say = progress or (lambda _: None)
    if not (np.where(panel.present, panel.units_sold, 0.0) > 0).any():
        raise HistoryError("no units were sold in the whole panel; check that units_sold holds sales")
    categories, category = np.unique(panel.categories, return_inverse=True)
    weights = with_draw(start.weights) if start is not None else None
    units = find_units(panel.units_sold, panel.categories)
    sold = in_steps(np.where(panel.present, panel.units_sold, 0.0), units.size[:, None])
    norms = initial_norms(panel, units=units, level=_category_level(panel, category, units=sold)[category])
    if start is not None:  # counting units are always this panel's
        identified = start.identified
        norms = replace(identified.norms, unit=norms.unit, prior_level=norms.prior_level)
    else:
        norms = replace(norms, lifts=learn_lifts(panel, norms=norms, category=category, ahead=HOLIDAY_PERIODS - 1))
        identified = identify(
            panel,
            norms=norms,
            category=category,
            config=config,
            progress=progress,
            tested=tested,
            own=own_prices(panel, live_since),
        )
        norms = identified.norms
    norms = replace(norms, promotion=learn_promotion_lift(panel, norms=norms, category=category))
    # Estimate lifts again now that elasticities are known, so that they exclude the effect of prices.
    lifts = learn_lifts(panel, norms=norms, category=category, ahead=HOLIDAY_PERIODS - 1, passes=1)
    level = _category_level(panel, category, units=restated_units(panel, norms))
    norms = replace(norms, lifts=lifts, prior_level=level[category].astype(np.float32))
    identified = replace(identified, norms=norms)
    table = build_table(panel, norms=norms, category=category)
    periods = len(panel.dates)
    horizon = min(config.horizon, periods // 3)
    length = min(config.context, periods - horizon - 1)
    shape = Shape(
        length=length,
        cutoffs=max(length - length // 6, 1),
        steps=STEPS_AHEAD,
        past=PAST,
        known=KNOWN,
        categories=len(categories),
        units=config.units,
    )
    plan = SamplingPlan(
        series=SERIES,
        length=length,
        cutoffs=shape.cutoffs,
        steps=STEPS_AHEAD,
        horizon=horizon,
        keep=np.ones(periods, np.float32),
    )
    steps = config.steps if weights is None else max(config.steps // 3, 1)
    rate = config.learning_rate if weights is None else config.learning_rate / 2
    batches = draw_batches(table, plan, np.random.default_rng([config.seed, periods]))
    trainer = Trainer(shape, loss="demand", seed=config.seed)
    weights = trainer.fit(batches, steps=steps, rate=rate, start=weights, progress=say, watched=True)
    serving = weights if table.draw.any() else without_draw(weights)
    sd = identified.shrunk.sd
    model = DemandModel(
        product_ids=panel.product_ids,
        categories=categories,
        category=category.astype(np.int32),
        period=panel.period,
        horizon=horizon,
        own_periods=config.own_periods,
        weights=serving,
        norms=norms,
        counted=units.counted,
        elasticity_sd=sd.astype(np.float32),
        grade=identified.grade,
        evidence=identified.evidence,
        list_price=panel.list_price[:, -1].astype(np.float32),
        priors=_priors(identified, panel, category, level=level, counted=units.counted),
        level_error=LEVEL_ERROR,
        holidays=_holidays(panel, calendar),
        combination=network_only(len(panel.product_ids)),
        encoded=encode_panel(serving, panel, norms=norms, tail=config.checkpoint),
        competitor=estimate_competitor_effects(panel, norms=norms, category=category, elasticity_sd=sd),
        networks=identified.networks,
    )
    model, levels = _with_forecasters(model, panel, table, config)
    return Trained(model, WarmStart(weights, identified), levels)


def _with_forecasters(
    model: DemandModel, panel: Panel, table: FeatureTable, config: DemandConfig
) -> tuple[DemandModel, LevelForecasts]:
    """Add boosted trees and prior combination weights to the model; returns it with the forecasters' levels."""
    trees = b""
    if config.booster_rows:
        trees = train_trees(
            table,
            lift=model.levels().lift,
            period=panel.period,
            horizon=model.horizon,
            reach=config.checkpoint,
            rows=config.booster_rows,
            seed=config.seed,
        )
    combination = replace(model.combination, volume=volume_of(panel), booster=np.frombuffer(trees, np.uint8))
    model = replace(model, combination=combination)
    levels = model.levels()
    weights = prior_weights(len(panel.dates), context=config.context, trees=bool(trees))
    return model.combined(levels, weights=weights, dispersion=combination.dispersion), levels


def _category_level(panel: Panel, category: Ints, *, units: Floats) -> NDArray[np.float64]:
    """(category,) geometric mean over products of mean units a period, from (product, period) in their own units."""
    log_mean = np.log((units.sum(axis=1) + 0.5) / (panel.present.sum(axis=1) + 1.0))
    level: NDArray[np.float64] = np.exp(np.bincount(category, log_mean) / np.maximum(np.bincount(category), 1))
    return level


def _priors(identified: Identified, panel: Panel, category: Ints, *, level: Floats, counted: Bools) -> Priors:
    shrunk = identified.shrunk
    tells = category_tells(identified.evidence, category=category, parent=parents_of(panel))
    sold = Units(identified.norms.unit, counted)
    members = [*(category == number for number in range(len(level))), np.ones(len(category), bool)]
    unit, pieces = zip(*(typical_unit(sold, each) for each in members), strict=True)
    return Priors(
        level=np.append(level, np.exp(np.log(level).mean())).astype(np.float32),
        unit=np.array(unit),
        counted=np.array(pieces),
        elasticity=elasticity_of(shrunk.category_mean, shrunk.category_sd).astype(np.float32),
        elasticity_sd=shrunk.category_sd.astype(np.float32),
        grade=np.append(np.where(tells, CATEGORY, PRIOR_ONLY), PRIOR_ONLY).astype(np.int8),
    )


def _holidays(panel: Panel, calendar: Calendar | None) -> Floats:
    flags = np.zeros(HOLIDAY_PERIODS, np.float32)
    flags[0] = float(panel.is_holiday[:, -1].max(initial=0.0))
    if calendar is not None:
        period = np.timedelta64(STEP_DAYS[panel.period], "D")
        flags[1:] = calendar(panel.dates[-1] + np.arange(1, HOLIDAY_PERIODS) * period)
    return flags
