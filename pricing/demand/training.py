"""Train a demand model: estimate elasticities and lifts, train the network on all data, encode the states."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pricing.arrays import Bools, Days, Floats, Ints
from pricing.config_models import DemandConfig
from pricing.data.build import ONE_CATEGORY
from pricing.data.counting_units import Units, find_units, in_steps, typical_unit
from pricing.data.features import restated_units
from pricing.data.panel import STEP_DAYS, Panel
from pricing.demand.adoption import initial_norms
from pricing.demand.batches import FeatureTable, SamplingPlan, build_table, draw_batches, shape_for
from pricing.demand.competitor import estimate_competitor_effects
from pricing.demand.diversion import estimate_diversion
from pricing.demand.ensemble import network_only, prior_weights, volume_of
from pricing.demand.event_lifts import learn_lifts
from pricing.demand.folds import check_length
from pricing.demand.forward_pass import Weights
from pricing.demand.grades import CATEGORY, PRIOR_ONLY, category_tells, parents_of
from pricing.demand.identification import Identified, identify
from pricing.demand.levels import LevelForecasts, Priors
from pricing.demand.model import DemandModel
from pricing.demand.network import Progress, Trainer
from pricing.demand.out_of_fold import LEVEL_ERROR, OutOfFold
from pricing.demand.promotion_lift import learn_promotion_lift
from pricing.demand.shrinkage import elasticity_of
from pricing.demand.state import encode_panel
from pricing.demand.trees import train_trees
from pricing.errors import HistoryError

Calendar = Callable[[Days], Bools]

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
    tested: Floats | None = None,
    own: Bools | None = None,
    progress: Progress | None = None,
) -> DemandModel:
    """Train the final model on the whole panel.

    Args:
        panel: The whole history.
        config: The demand section.
        calendar: Tells which of some days are holidays; none after the panel when absent.
        out_of_fold: Estimates from a backtest; the default level error and prior combination weights when absent.
        tested: The draws of experiments; see `identify`.
        own: (product, period) True where the platform itself set the price; None if people set all prices.
        progress: Called with a sentence about each step.

    Raises:
        HistoryError: The panel is too short, or nothing was sold.
        TrainingError: The network did not converge.
    """
    check_length(len(panel.dates), period=panel.period)
    trained = fit(panel, config, calendar=calendar, tested=tested, own=own, progress=progress)
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
    tested: Floats | None = None,
    own: Bools | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train once; uses the weights and elasticities of `start` where given.

    `tested` holds the draws of experiments, as for `identify`. Price changes of the platform's `own` depend on the
    model's forecasts and are not used to estimate elasticities, except for those draws.

    Raises:
        HistoryError: Nothing was sold.
        TrainingError: As `train`.
    """
    if not (panel.units_sold[panel.present] > 0).any():
        raise HistoryError("no units were sold in the whole panel; check that units_sold holds sales")
    category = np.unique(panel.categories, return_inverse=True)[1]
    units = find_units(panel.units_sold, panel.categories)
    sold = in_steps(np.where(panel.present, panel.units_sold, 0.0), units.size[:, None])
    level = _category_level(panel, category, units=sold)
    norms = initial_norms(panel, units=units, level=level[category])
    if start is not None:  # counting units are always this panel's
        known = replace(start.identified.norms, unit=norms.unit, prior_level=norms.prior_level)
        identified = replace(start.identified, norms=known)
    else:
        lifts = learn_lifts(panel, norms=norms, category=category, ahead=HOLIDAY_PERIODS - 1)
        identified = identify(
            panel,
            norms=replace(norms, lifts=lifts),
            category=category,
            config=config,
            progress=progress,
            tested=tested,
            own=own,
        )
    identified, level = _with_scales(identified, panel, category)
    table = build_table(panel, norms=identified.norms, category=category)
    horizon = min(config.horizon, len(panel.dates) // 3)
    weights = _train_network(table, config, horizon=horizon, start=start, progress=progress)
    priors = _priors(identified, panel, category, level=level, units=units)
    model = _model(
        panel,
        config,
        identified,
        weights=weights,
        horizon=horizon,
        priors=priors,
        counted=units.counted,
        calendar=calendar,
    )
    model, levels = _with_forecasters(model, panel, table, config)
    return Trained(model, WarmStart(weights, identified), levels)


def _with_scales(identified: Identified, panel: Panel, category: Ints) -> tuple[Identified, Floats]:
    """Estimate lifts and levels given the elasticities, so that they exclude the effect of prices.

    Returns:
        The same elasticities with these scales, and the (category,) level.
    """
    norms = identified.norms
    norms = replace(norms, promotion=learn_promotion_lift(panel, norms=norms, category=category))
    lifts = learn_lifts(panel, norms=norms, category=category, ahead=HOLIDAY_PERIODS - 1, passes=1)
    level = _category_level(panel, category, units=restated_units(panel, norms))
    norms = replace(norms, lifts=lifts, prior_level=level[category].astype(np.float32))
    return replace(identified, norms=norms), level


def _train_network(
    table: FeatureTable,
    config: DemandConfig,
    *,
    horizon: int,
    start: WarmStart | None,
    progress: Progress | None,
) -> Weights:
    """Train the forecasting network on all periods; a third of the steps at half the rate after a warm start."""
    periods = len(table.weekday)
    length = min(config.context, periods - horizon - 1)
    categories = int(table.category.max()) + 1
    shape = shape_for(config, "forecast", length=length, steps=STEPS_AHEAD, categories=categories)
    plan = SamplingPlan("forecast", shape, horizon=horizon, keep=np.ones(periods, np.float32))
    batches = draw_batches(table, plan, np.random.default_rng([config.seed, periods]))
    trainer = Trainer(shape, loss="demand", seed=config.seed)
    steps = config.steps
    rate = config.learning_rate
    weights = None
    if start is not None:
        steps = max(steps // 3, 1)
        rate = rate / 2
        weights = start.weights
    return trainer.fit(batches, steps=steps, rate=rate, start=weights, progress=progress, watched=True)


def _model(
    panel: Panel,
    config: DemandConfig,
    identified: Identified,
    *,
    weights: Weights,
    horizon: int,
    priors: Priors,
    counted: Bools,
    calendar: Calendar | None,
) -> DemandModel:
    """Put the model together, with the network as its only forecaster."""
    categories, category = np.unique(panel.categories, return_inverse=True)
    norms = identified.norms
    sd = identified.shrunk.sd
    return DemandModel(
        product_ids=panel.product_ids,
        categories=categories,
        category=category.astype(np.int32),
        period=panel.period,
        horizon=horizon,
        own_periods=config.own_periods,
        weights=weights,
        norms=norms,
        counted=counted,
        elasticity_sd=sd.astype(np.float32),
        grade=identified.grade,
        evidence=identified.evidence,
        tested=identified.tested,
        list_price=panel.list_price[:, -1].astype(np.float32),
        priors=priors,
        level_error=LEVEL_ERROR,
        holidays=_holidays(panel, calendar),
        combination=network_only(len(panel.product_ids)),
        encoded=encode_panel(weights, panel, norms=norms, tail=config.checkpoint),
        competitor=estimate_competitor_effects(panel, norms=norms, category=category, elasticity_sd=sd),
        networks=identified.networks,
        ladder=identified.ladder,
    )


def _with_forecasters(
    model: DemandModel, panel: Panel, table: FeatureTable, config: DemandConfig
) -> tuple[DemandModel, LevelForecasts]:
    """Add boosted trees and prior combination weights to the model; returns it with the forecasters' levels."""
    trees = b""
    if config.booster_rows:
        trees = train_trees(
            table,
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


def _category_level(panel: Panel, category: Ints, *, units: Floats) -> Floats:
    """(category,) geometric mean over products of mean units a period, from (product, period) in their own units."""
    log_mean = np.log((units.sum(axis=1) + 0.5) / (panel.present.sum(axis=1) + 1.0))
    return np.asarray(np.exp(np.bincount(category, log_mean) / np.maximum(np.bincount(category), 1)))


def _priors(identified: Identified, panel: Panel, category: Ints, *, level: Floats, units: Units) -> Priors:
    """Summarise the products of each category, and all products for the unknown one."""
    shrunk = identified.shrunk
    tells = category_tells(identified.evidence, category=category, parent=parents_of(panel))
    members = [category == number for number in range(len(level))]
    members.append(np.ones(len(category), np.bool_))
    diversion = estimate_diversion(panel, norms=identified.norms, group=category, elasticity_sd=shrunk.sd)
    diversion[np.unique(panel.categories) == ONE_CATEGORY] = 0.0  # of goods that nobody has grouped
    typical = [typical_unit(units, each) for each in members]
    return Priors(
        level=np.append(level, np.exp(np.log(level).mean())).astype(np.float32),
        unit=np.array([unit for unit, _ in typical]),
        counted=np.array([counted for _, counted in typical]),
        elasticity=elasticity_of(shrunk.category_mean, shrunk.category_sd).astype(np.float32),
        elasticity_sd=shrunk.category_sd.astype(np.float32),
        grade=np.append(np.where(tells, CATEGORY, PRIOR_ONLY), PRIOR_ONLY).astype(np.int8),
        diversion=np.append(diversion, 0.0).astype(np.float32),
    )


def _holidays(panel: Panel, calendar: Calendar | None) -> Floats:
    flags = np.zeros(HOLIDAY_PERIODS, np.float32)
    flags[0] = float(panel.is_holiday[:, -1].max(initial=0.0))
    if calendar is not None:
        period = np.timedelta64(STEP_DAYS[panel.period], "D")
        flags[1:] = calendar(panel.dates[-1] + np.arange(1, HOLIDAY_PERIODS) * period)
    return flags
