"""Walk-forward validation: refit at each cutoff, forecast with the serving code, and score the forecasts."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from pricing.arrays import Bools, Floats, Ints
from pricing.config_models import DemandConfig
from pricing.data.panel import STEP_DAYS, Panel
from pricing.demand import baselines, evaluation
from pricing.demand.curve import Offers
from pricing.demand.direct import direct_forecast
from pricing.demand.ensemble import CLASSES, FORECASTERS, bounded, prior_weights, volume_of
from pricing.demand.folds import Fold, fitting, walk_forward
from pricing.demand.levels import LevelForecasts
from pricing.demand.model import DemandModel, add_products
from pricing.demand.network import Progress
from pricing.demand.out_of_fold import (
    DEFAULT_WIDTH,
    OutOfFold,
    choose_weights,
    known_before,
    measure_width,
    with_measured_width,
    with_quantiles,
)
from pricing.demand.shrinkage import PLAUSIBLE
from pricing.demand.state import span
from pricing.demand.training import Calendar, Trained, WarmStart, fit

OnFold = Callable[[int, dict[str, Any]], None]

SEED = 0  # of the bootstrap interval around the gain over the baseline: makes figures reproducible


@dataclass(frozen=True)
class Backtest:
    """Results of walk-forward validation.

    The frame has one row a product, cutoff and step: product_id, category, volume_class, cutoff, date, step, price,
    actual, censored, shelf (units at opening, infinite where unknown), forecast (mean demand), network, level, booster
    (each forecaster's own forecast; the last NaN in a fold without trees), size, unit (counting unit), counted (whether
    sales are counts), q025, q10, q50, q90, q975 (of demand), expected, pit_low, pit_high, crps (of sales given the
    stock, `expected` being their mean), naive, flat, direct (the last NaN in a fold with too few rows to fit it).
    """

    frame: pd.DataFrame
    figures: dict[str, Any]  # `evaluation.figures`, `against_baseline`, last fold's `elasticity`, `weights`, `history`
    out_of_fold: OutOfFold  # for the model trained on everything


def backtest(
    panel: Panel,
    config: DemandConfig,
    *,
    calendar: Calendar | None = None,
    own: Bools | None = None,
    progress: Progress | None = None,
    on_fold: OnFold | None = None,
) -> Backtest:
    """Refit and score every fold; a later fold is warm-started from the earlier one's weights and elasticities.

    These were estimated on older data only, so no fold sees the days it is scored on. A history without room for a
    fold as configured is scored in shorter ones. Arguments are those of `train`, and `on_fold`, which is called after
    each fold with its number (0 first) and its figures, and may raise to stop early.

    Raises:
        HistoryError: The history is too short to estimate a level, or nothing was sold.
    """
    say = progress or (lambda _: None)
    config, short = fitting(config, len(panel.dates), period=panel.period)
    for words in short:
        say(words)
    folds = walk_forward(panel.dates, config=config, period=panel.period)
    frames: list[pd.DataFrame] = []
    trained: Trained | None = None
    # The direct LightGBM baseline does not depend on the fit, so it trains in a thread while the networks train.
    with ThreadPoolExecutor(max_workers=1) as beside:
        for number, fold in enumerate(folds):
            say(f"fold {number + 1} of {len(folds)}: train to {fold.cutoff}, score {fold.first} to {fold.last}")
            past = _known(panel, fold)
            warm = None if trained is None else _carried(trained, past)
            direct = beside.submit(_direct, past, panel, fold, config)
            ours = own if own is None else own[np.isin(panel.product_ids, past.product_ids), : len(past.dates)]
            trained = fit(past, config, calendar=calendar, start=warm, own=ours, progress=progress)
            model = trained.model
            weights = choose_weights(known_before(frames, fold.cutoff), prior=model.combination.weights)
            model = model.combined(trained.levels, weights=weights, dispersion=model.combination.dispersion)
            frame = evaluate(model, past=past, panel=panel, fold=fold, levels=trained.levels, direct=direct.result())
            frames.append(frame)
            if on_fold is not None:
                on_fold(number, evaluation.figures(frame))
    prior = prior_weights(len(panel.dates), context=config.context, trees=model.combination.booster.size > 0)
    found = OutOfFold(measure_width(frames), choose_weights(frames, prior=prior))
    frame = pd.concat(with_measured_width(frames), ignore_index=True)
    figures = evaluation.figures(frame)
    figures["against_baseline"] = baselines.against_baseline(frame, rng=np.random.default_rng(SEED))
    figures["elasticity"] = elasticity_figures(model)
    figures["weights"] = {
        name: dict(zip(FORECASTERS, row, strict=True))
        for name, row in zip((*CLASSES, "all"), found.weights.tolist(), strict=True)
    }
    figures["history"] = short
    return Backtest(frame, figures, found)


def evaluate(
    model: DemandModel,
    *,
    past: Panel,
    panel: Panel,
    fold: Fold,
    levels: LevelForecasts | None = None,
    direct: Floats | None = None,
) -> pd.DataFrame:
    """Build the evaluation frame of one fold: forecasts given what a request on that day would contain.

    That is the price really charged, the promotion, the competitor's price, and the opening stock, which bounds sales
    and is no input of the forecast; nothing else of the scored days is read. `levels` holds the forecasters' own
    forecasts, shown beside the combined one and computed when absent; `direct` the (product, period) baseline's.
    """
    paths = (levels or model.levels()).paths
    table = model.table()
    rows = np.searchsorted(panel.product_ids, past.product_ids)
    begin, end = (int(np.searchsorted(panel.dates, day)) for day in (fold.first, fold.last))
    naive = baselines.seasonal_naive(past, steps=end - begin + 1)
    flat = baselines.flat_median(past)
    classes = np.asarray(CLASSES)[volume_of(past)]
    shelf = panel.shelf
    parts = []
    for at in range(begin, end + 1):
        ahead = int((panel.dates[at] - fold.cutoff) // np.timedelta64(STEP_DAYS[panel.period], "D"))
        there = min(ahead, model.horizon)
        others = bounded(paths[:, :, there - 1]) - paths[0, :, there - 1] - model.combination.factor[:, there]
        price = panel.price[rows, at]
        grid = table.curves(_asked(panel, rows, at, model))(np.where(np.isfinite(price), price, 1.0)[:, None])
        forecast = (grid.first[:, :, 0] * grid.weight).sum(axis=1)
        columns: dict[str, Any] = {
            "product_id": past.product_ids,
            "category": past.categories,
            "volume_class": classes,
            "cutoff": fold.cutoff,
            "date": panel.dates[at],
            "step": ahead,
            "price": price,
            "actual": panel.units_sold[rows, at],
            "censored": panel.censored[rows, at],
            "shelf": shelf[rows, at],
            "forecast": forecast,
            **{name: forecast * np.exp(other) for name, other in zip(FORECASTERS, others, strict=True)},
            "size": grid.first_size * np.exp(-model.combination.narrow),
            "unit": grid.unit,
            "counted": model.counted,
            "naive": naive[:, at - begin],
            "flat": flat,
        }
        if not model.combination.booster.size:
            columns["booster"] = np.nan
        if direct is not None:  # a median of counts is a count
            point = direct[:, at - begin]
            columns["direct"] = np.where(model.counted, grid.unit * np.rint(point / grid.unit), point)
        parts.append(pd.DataFrame(columns)[panel.present[rows, at]])
    return with_quantiles(pd.concat(parts, ignore_index=True), DEFAULT_WIDTH)


def _asked(panel: Panel, rows: Ints, at: int, model: DemandModel) -> Offers:
    """Ask for the model's products, `rows` of the panel, what a request in a period would."""
    return Offers(
        product=np.arange(len(rows)),
        category=model.category,
        date=np.full(len(rows), panel.dates[at]),
        list_price=panel.list_price[rows, at],
        comp_price=panel.comp_price[rows, at],
        is_promo=panel.is_promo[rows, at],
        periods=np.ones(len(rows), np.int64),
    )


def _known(panel: Panel, fold: Fold) -> Panel:
    """Select what is known at a fold's cutoff: the history until then, of products that it has a row of."""
    past = panel.through(fold.cutoff)
    return past.select(np.flatnonzero(past.present.any(axis=1)))


def _direct(past: Panel, panel: Panel, fold: Fold, config: DemandConfig) -> Floats | None:
    """(product, scored period) forecasts of the direct LightGBM baseline; None if trees are off or rows too few."""
    if not config.booster_rows:
        return None
    rows = np.searchsorted(panel.product_ids, past.product_ids)
    until = span(panel.select(rows), 0, int(np.searchsorted(panel.dates, fold.last)) + 1)
    return direct_forecast(until, known=len(past.dates), rows=config.booster_rows, seed=config.seed)


def elasticity_figures(model: DemandModel) -> dict[str, Any]:
    """Return the elasticities' mean, the mean standard deviation of their logs, and the share that is plausible."""
    mean = model.table().elasticities(np.arange(len(model.product_ids)))[0]
    return {
        "mean": float(mean.mean()),
        "sd_mean": float(model.elasticity_sd.mean()),
        "share_sane": float(((mean > PLAUSIBLE[0]) & (mean < PLAUSIBLE[1])).mean()),
        "limits": list(PLAUSIBLE),
    }


def _carried(earlier: Trained, past: Panel) -> WarmStart | None:
    """Adapt an earlier fold's start to a later fold's products; new ones get their category's elasticity.

    None (start anew) if the categories differ, since the network has no embedding for a new one.
    """
    if not np.array_equal(np.unique(past.categories), earlier.model.categories):
        return None
    grown = add_products(earlier.model, past)
    old = earlier.start.identified
    mean = np.log(-grown.norms.elasticity) - 0.5 * grown.elasticity_sd**2
    shrunk = replace(old.shrunk, mean=mean, sd=grown.elasticity_sd)
    identified = replace(old, norms=grown.norms, shrunk=shrunk, grade=grown.grade, evidence=grown.evidence)
    return replace(earlier.start, identified=identified)
