"""Train a demand model: estimate elasticities and lifts, train the network on all data, encode the states."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Days, Floats, Ints
from pricing.config_models import DemandConfig
from pricing.data.counting_units import Units, find_units, in_steps, typical_unit
from pricing.data.ewma import Norms
from pricing.data.features import KNOWN, PAST, restated_units
from pricing.data.panel import STEP_DAYS, Panel
from pricing.demand.batches import FeatureTable, SamplingPlan, build_table, draw_batches
from pricing.demand.booster import train_booster
from pricing.demand.combination import network_only, prior_weights, volume_rows
from pricing.demand.competitor import estimate_competitor_effects
from pricing.demand.event_lifts import learn_lifts
from pricing.demand.folds import check_length
from pricing.demand.grades import CATEGORY, PRIOR_ONLY, category_tells
from pricing.demand.identification import Identified, identify
from pricing.demand.intervals import LEVEL_ERROR, Width
from pricing.demand.levels import LevelForecasts
from pricing.demand.model import DemandModel
from pricing.demand.network import Shape, Trainer, Weights, with_draw, without_draw
from pricing.demand.price_changes import recency_weights
from pricing.demand.product_parameters import Priors
from pricing.demand.promotion_lift import learn_promotion_lift
from pricing.demand.shrinkage import START, elasticity_of
from pricing.demand.state import encode_panel
from pricing.errors import HistoryError

Progress = Callable[[str], None]
Calendar = Callable[[Days], Bools]

SERIES = 64
STEPS_AHEAD = 3
HOLIDAY_PERIODS = 420


@dataclass(frozen=True)
class WarmStart:
    """Where a fold's training starts: at the weights and elasticities of the fold before.

    Attributes:
        weights: Of a network of the same shape.
        identified: Elasticities of the panel's products.
    """

    weights: Weights
    identified: Identified


@dataclass(frozen=True)
class OutOfFold:
    """Estimates from out-of-fold forecasts.

    Attributes:
        width: Corrections of the predictive distribution.
        weights: (class, forecaster) combination weights.
    """

    width: Width
    weights: NDArray[np.floating]


@dataclass(frozen=True)
class Trained:
    """A trained model, the warm start for a later fold, and its forecasters' levels.

    Attributes:
        model: The model, with prior combination weights.
        start: The network's weights and the elasticities.
        levels: Its forecasters' levels.
    """

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
        calendar: Holidays of the periods after the panel; none when absent.
        out_of_fold: Estimates from a backtest; the default level error and prior combination weights when absent.
        tested: The draws of price tests; see `identify`.
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

    `tested` holds the draws of price tests, as for `identify`. Price changes from `live_since` on depend on the model's
    own forecasts and are not used to estimate elasticities, except for those draws.

    Raises:
        HistoryError: Nothing was sold.
        TrainingError: As `train`.
    """
    say = progress or (lambda _: None)
    check_history(panel)
    categories, category = np.unique(panel.categories, return_inverse=True)
    weights = with_draw(start.weights) if start is not None else None
    identified = start.identified if start is not None else None
    units = find_units(panel.units_sold, panel.categories)
    norms = initial_norms(panel, category=category, units=units, config=config)
    if identified is not None:  # counting units are always this panel's
        scales = replace(identified.norms, unit=norms.unit, prior_level=norms.prior_level)
        identified = replace(identified, norms=scales)
    else:
        norms = replace(norms, lifts=learn_lifts(panel, norms=norms, category=category, ahead=HOLIDAY_PERIODS - 1))
        own = None if live_since is None else np.broadcast_to(panel.dates >= live_since, panel.present.shape)
        identified = identify(
            panel, norms=norms, category=category, config=config, progress=progress, tested=tested, own=own
        )
    promotion = learn_promotion_lift(panel, norms=identified.norms, category=category)
    identified = replace(identified, norms=replace(identified.norms, promotion=promotion))
    # Estimate lifts again now that elasticities are known, so that they exclude the effect of prices.
    lifts = learn_lifts(panel, norms=identified.norms, category=category, ahead=HOLIDAY_PERIODS - 1, passes=1)
    level = _category_level(panel, category, len(categories), units=restated_units(panel, identified.norms))
    prior_level = level[category].astype(np.float32)
    identified = replace(identified, norms=replace(identified.norms, lifts=lifts, prior_level=prior_level))
    table = build_table(panel, norms=identified.norms, category=category)
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
    trainer = Trainer(shape, loss="demand", seed=config.seed)
    plan = SamplingPlan(
        series=SERIES,
        length=length,
        cutoffs=shape.cutoffs,
        steps=STEPS_AHEAD,
        horizon=horizon,
        keep=np.ones(periods, np.float32),
        recency=recency_weights(periods, half_life=config.recency_half_life),
    )
    steps = config.steps if weights is None else max(config.steps // 3, 1)
    rate = config.learning_rate if weights is None else config.learning_rate / 2
    rng = np.random.default_rng([config.seed, periods])
    batches = draw_batches(table, plan, rng)
    weights = trainer.fit(batches, steps=steps, rate=rate, start=weights, progress=say, watched=True)
    serving = weights if table.draw.any() else without_draw(weights)
    encoded = encode_panel(serving, panel, norms=identified.norms, tail=config.checkpoint)
    model = DemandModel(
        product_ids=panel.product_ids,
        categories=categories,
        category=category.astype(np.int32),
        period=panel.period,
        horizon=horizon,
        own_periods=config.own_periods,
        weights=serving,
        norms=identified.norms,
        counted=units.counted,
        elasticity_sd=identified.shrunk.sd.astype(np.float32),
        grade=identified.grade,
        evidence=identified.evidence,
        list_price=panel.list_price[:, -1].astype(np.float32),
        priors=_priors(identified, category, level=level, counted=units.counted),
        level_error=LEVEL_ERROR,
        holidays=_holidays(panel, calendar),
        combination=network_only(len(panel.product_ids)),
        encoded=encoded,
        competitor=estimate_competitor_effects(
            panel, norms=identified.norms, category=category, elasticity_sd=identified.shrunk.sd
        ),
    )
    model, levels = _with_forecasters(model, panel, table, config)
    return Trained(model, WarmStart(weights, identified), levels)


def _with_forecasters(
    model: DemandModel, panel: Panel, table: FeatureTable, config: DemandConfig
) -> tuple[DemandModel, LevelForecasts]:
    """Add boosted trees and prior combination weights to the model; returns it with the forecasters' levels."""
    lift = model.levels().lift
    trees = b""
    if config.booster_rows:
        trees = train_booster(
            table,
            lift=lift,
            period=panel.period,
            horizon=model.horizon,
            reach=config.checkpoint,
            rows=config.booster_rows,
            seed=config.seed,
        )
    rows = panel.present.sum(axis=1)
    mean_units = np.where(panel.present, panel.units_sold, 0.0).sum(axis=1) / np.maximum(rows, 1)
    combination = replace(
        model.combination,
        volume=volume_rows(mean_units),
        booster=np.frombuffer(trees, np.uint8),
    )
    model = replace(model, combination=combination)
    levels = model.levels()
    weights = prior_weights(len(panel.dates), context=config.context, trees=bool(trees))
    return model.combined(levels, weights=weights, dispersion=combination.dispersion), levels


def check_history(panel: Panel) -> None:
    """Refuse a panel without sales.

    Raises:
        HistoryError: No units were sold.
    """
    if not (np.where(panel.present, panel.units_sold, 0.0) > 0).any():
        raise HistoryError("no units were sold in the whole panel; check that units_sold holds sales")


def initial_norms(panel: Panel, *, category: Ints, units: Units, config: DemandConfig) -> Norms:
    """Return initial scales: median price, category level, elasticity of which nothing is known."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # products without a row stay NaN and are never read
        usual = np.nanmedian(np.where(panel.present, panel.price, np.nan), axis=1)
    sold = in_steps(np.where(panel.present, panel.units_sold, 0.0), units.size[:, None])
    level = _category_level(panel, category, int(category.max()) + 1, units=sold)
    products = len(category)
    return Norms(
        usual_price=usual.astype(np.float32),
        unit=units.size,
        prior_level=level[category].astype(np.float32),
        elasticity=np.full(products, START, np.float32),
        weekend=np.zeros(products, np.float32),
        promotion=np.zeros(products, np.float32),
    )


def _category_level(panel: Panel, category: Ints, count: int, *, units: Floats) -> NDArray[np.float64]:
    """(category,) geometric mean over products of mean units a period; `units` are (product, period) in own units."""
    log_mean = np.log((units.sum(axis=1) + 0.5) / (panel.present.sum(axis=1) + 1.0))
    members = np.bincount(category, minlength=count)
    level: NDArray[np.float64] = np.exp(np.bincount(category, log_mean, count) / np.maximum(members, 1))
    return level


def _priors(identified: Identified, category: Ints, *, level: Floats, counted: Bools) -> Priors:
    shrunk, tells = identified.shrunk, category_tells(identified.evidence, category=category)
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
        days = STEP_DAYS[panel.period]
        dates = panel.dates[-1] + (np.arange(1, HOLIDAY_PERIODS) * days).astype("timedelta64[D]")
        flags[1:] = calendar(dates)
    return flags
