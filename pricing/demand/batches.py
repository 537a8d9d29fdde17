"""Sample training batches for the networks: random windows of the panel, each with many cutoffs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Floats, Ints
from pricing.config_models import DemandConfig
from pricing.data import features
from pricing.data.counting_units import in_steps
from pricing.data.ewma import Norms
from pricing.data.features import KNOWN, Past
from pricing.data.panel import Panel

# Exponent of step sampling: 1 is uniform, above 1 favours near steps, which decide most prices. Uniform sampling makes
# their error over the noise floor 1 % larger without improving the far ones.
NEARNESS = 2.0
SERIES = 64  # products in a batch
KNOWN_PRICES = 3  # past-price features of the price network
UNKNOWN_CATEGORY = 0.1  # share of a batch's series that train the unknown category's embedding
Batch = tuple[list[NDArray[Any]], Floats]  # one training step's inputs and target, see `draw_batches`
# The network that forecasts, and the two nuisance networks of the elasticities: of demand and of price changes.
Kind = Literal["forecast", "demand", "price"]
WIDTH: dict[Kind, int] = {"forecast": KNOWN, "demand": KNOWN, "price": KNOWN + KNOWN_PRICES}


@dataclass(frozen=True)
class Shape:
    """Dimensions of a network and of its batches."""

    length: int  # periods of past
    cutoffs: int  # the last ones of them, each followed by forecasts
    steps: int  # sampled after each cutoff
    known: int  # features known of a period to come
    categories: int
    units: int  # of the LSTM


def shape_for(config: DemandConfig, kind: Kind, *, length: int, steps: int, categories: int) -> Shape:
    """Return the shape of a network that forecasts from the last five sixths of `length` periods of past."""
    return Shape(
        length=length,
        cutoffs=max(length - length // 6, 1),
        steps=steps,
        known=WIDTH[kind],
        categories=categories,
        units=config.units,
    )


@dataclass(frozen=True)
class Targets:
    """Periods to forecast: of which product, from which cutoff, and how many periods after it; all of one shape (…)."""

    product: Ints
    cutoff: Ints  # the last period known
    step: Ints  # at least 1

    @property
    def at(self) -> Ints:
        """(…) the period forecast."""
        return self.cutoff + self.step

    def __len__(self) -> int:
        return len(self.product)

    def select(self, rows: Bools | Ints | slice) -> "Targets":
        """Select some, of those in one row."""
        return Targets(self.product[rows], self.cutoff[rows], self.step[rows])


@dataclass(frozen=True)
class FeatureTable:
    """Precomputed features of every (product, period) of a panel; units are 0 where there is no row."""

    past: Past  # features known after each period
    common: Floats  # (product, period, 15) `features.known_features` with step 1 in its last column
    promo: Floats  # (product, period) promotion flag
    draw: Floats  # (product, period) the flag times `features.promo_effect_share` at the price charged
    log_price: Floats  # (product, period) log price over usual price; 0 where there is no row
    offset: Floats  # (product, period) effect of the price charged, promotion and named events on log units
    restated: Floats  # (product, period) units at usual price, without promotion and events
    units: Floats  # (product, period) units sold, in each product's own `Norms.unit`
    seen: Floats  # (product, period) 1.0 where the history has a row
    censored: Floats  # (product, period) 1.0 where units are a lower bound: `Panel.bounded`
    weekday: Ints  # (period,) column of the profile
    category: NDArray[np.int32]  # (product,) row of the embedding
    begin: Ints  # (product,) first period with a row


def common_features(panel: Panel, price: Floats) -> Floats:
    """(product, period, 15) `FeatureTable.common`, the competitor's price being held against `price`."""
    gap, gap_known = features.competitor_gap(panel.comp_price, price)
    return features.known_features(
        np.broadcast_to(panel.dates, panel.present.shape),
        holiday=features.holiday_window(panel.is_holiday),
        gap=gap,
        gap_known=gap_known,
        step=np.ones(panel.present.shape, np.float32),
    )


def build_table(panel: Panel, *, norms: Norms, category: Ints) -> FeatureTable:
    """Compute the features of the whole panel."""
    past, _ = features.past_features(panel, norms=norms)
    usual = norms.usual_price[:, None]
    log_price = features.relative_price(panel.price, usual)
    return FeatureTable(
        past=past,
        common=common_features(panel, usual),
        promo=panel.is_promo,
        draw=features.promo_draw(panel),
        log_price=log_price,
        offset=features.known_effect(log_price, panel, norms),
        restated=features.restated_units(panel, norms),
        units=in_steps(np.where(panel.present, np.nan_to_num(panel.units_sold), 0.0), norms.unit[:, None]),
        seen=panel.present.astype(np.float32),
        censored=panel.bounded.astype(np.float32),
        weekday=features.weekdays(panel.dates, period=panel.period),
        category=np.asarray(category, np.int32),
        begin=np.argmax(panel.present, axis=1),
    )


def gather_known(table: FeatureTable, targets: Targets, kind: Kind) -> Floats:
    """(…, WIDTH) the `known` input of a network: calendar, holidays, competitor, step, weekday profile, slow features.

    The network of prices also reads the log price at the cutoff, the one seven periods before it, and their difference.
    """
    rows, cutoff, at = targets.product, targets.cutoff, targets.at
    common = table.common[rows, at].copy()
    common[..., -1] = np.log(targets.step) / 3.0
    profile = table.past.profile[rows, cutoff, table.weekday[at]]
    parts = [common, profile[..., None], table.past.summary[rows, cutoff]]
    if kind == "price":
        now = table.log_price[rows, cutoff]
        before = table.log_price[rows, np.maximum(cutoff - 7, 0)]
        parts.append(5.0 * np.stack([now, before, now - before], axis=-1))
    return np.concatenate(parts, axis=-1).astype(np.float32)


def baseline(table: FeatureTable, targets: Targets) -> Floats:
    """(…) log units expected at usual price without the network: level plus weekday profile."""
    level = table.past.level[targets.product, targets.cutoff]
    profile = table.past.profile[targets.product, targets.cutoff, table.weekday[targets.at]]
    return np.asarray(level + profile)


@dataclass(frozen=True)
class SamplingPlan:
    """Which batches are drawn: for which network, and from which periods."""

    kind: Kind
    shape: Shape
    horizon: int  # the largest step
    keep: Floats  # (period,) 1.0 where a target period may be trained on (cross-fitting)


def draw_batches(table: FeatureTable, plan: SamplingPlan, rng: np.random.Generator) -> Iterator[Batch]:
    """Yield batches forever; L periods of past, N cutoffs (the last N periods), M steps after each.

    Inputs are the (series, L, PAST) past, what is (series, N, M, known) of each period to come, and each series'
    category: one in ten gets the unknown one, to train its embedding.
    The target is (series, N, M, 4): units sold (or the log price ratio), the log units expected before the network
    speaks, 1.0 where the stock ran out, and the weight in the loss, 0 where there is nothing to learn.
    """
    shape = plan.shape
    products, periods = table.seen.shape
    unknown = int(table.category.max()) + 1
    active = np.maximum(periods - table.begin, 1).astype(np.float64)
    while True:
        rows = rng.choice(products, SERIES, p=active / active.sum())
        earliest = np.minimum(np.maximum(table.begin[rows] - shape.length // 4, 0), periods - shape.length - 1)
        start = rng.integers(earliest, periods - shape.length)  # (series,)
        within = start[:, None] + np.arange(shape.length)  # (series, length)
        cutoff = within[:, shape.length - shape.cutoffs :, None]  # (series, cutoffs, 1)
        nearness = rng.random((SERIES, shape.cutoffs, shape.steps)) ** NEARNESS
        asked = 1 + (plan.horizon * nearness).astype(np.int64)
        step = np.minimum(asked, periods - 1 - cutoff)
        product = np.broadcast_to(rows[:, None, None], step.shape)
        targets = Targets(product, np.broadcast_to(cutoff, step.shape), step)

        category = np.where(rng.random(SERIES) < UNKNOWN_CATEGORY, unknown, table.category[rows]).astype(np.int32)
        weight = table.seen[product, targets.at] * plan.keep[targets.at]
        weight = weight * (targets.cutoff >= table.begin[product] - 1) * (step == asked)
        known = gather_known(table, targets, plan.kind)
        censored = table.censored[product, targets.at]
        target = [*_outcomes(table, targets, plan.kind), censored, weight.astype(np.float32)]
        yield [table.past.inputs[rows[:, None], within], known, category], np.stack(target, axis=-1)


def _outcomes(table: FeatureTable, targets: Targets, kind: Kind) -> tuple[Floats, Floats]:
    """(…) what a network is to predict, and the offset that it starts from."""
    product, at = targets.product, targets.at
    if kind == "price":
        change = table.log_price[product, at] - table.log_price[product, targets.cutoff]
        return change, np.zeros(at.shape, np.float32)
    return table.units[product, at], table.offset[product, at] + baseline(table, targets)
