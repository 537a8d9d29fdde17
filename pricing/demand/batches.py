"""Sample training batches for the networks: random windows of the panel, each with many cutoffs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Floats, Ints
from pricing.data import features
from pricing.data.counting_units import in_steps
from pricing.data.ewma import Norms
from pricing.data.features import Past
from pricing.data.panel import Panel

# Exponent of step sampling: 1 is uniform, above 1 favours near steps, which decide most prices. Uniform sampling makes
# their error over the noise floor 1 % larger without improving the far ones.
NEARNESS = 2.0
KNOWN_PRICES = 3  # past-price features of the price network
Batch = tuple[list[NDArray[Any]], Floats]  # one training step's inputs and target, see `draw_batches`


@dataclass(frozen=True)
class FeatureTable:
    """Precomputed features of every (product, period) of a panel; units are 0 where there is no row."""

    past: Past  # features known after each period
    common: Floats  # (product, period, 15) `features.known_features` with step 1 in its last column
    promo: Floats  # (product, period) promotion flag
    draw: Floats  # (product, period) the flag times `features.promo_effect_share` at the price charged
    log_price: Floats  # (product, period) log price over usual price; 0 where there is no row
    offset: Floats  # (product, period) effect of the price charged and named events on log units
    restated: Floats  # (product, period) units at usual price, without promotion and events
    units: Floats  # (product, period) units sold, in each product's own `Norms.unit`
    seen: Floats  # (product, period) 1.0 where the history has a row
    censored: Floats  # (product, period) 1.0 where sales met the stock
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
    share = np.nan_to_num(features.promo_effect_share(panel.price, panel.list_price))
    return FeatureTable(
        past=past,
        common=common_features(panel, usual),
        promo=panel.is_promo,
        draw=(panel.is_promo * share).astype(np.float32),
        log_price=log_price,
        offset=features.known_effect(log_price, norms, dates=panel.dates, period=panel.period),
        restated=features.restated_units(panel, norms),
        units=in_steps(np.where(panel.present, np.nan_to_num(panel.units_sold), 0.0), norms.unit[:, None]),
        seen=panel.present.astype(np.float32),
        censored=panel.censored.astype(np.float32),
        weekday=features.weekdays(panel.dates, period=panel.period),
        category=np.asarray(category, np.int32),
        begin=np.argmax(panel.present, axis=1),
    )


def gather_known(
    table: FeatureTable, rows: Ints, cutoff: Ints, step: Ints, *, flag: bool, prices: bool = False
) -> Floats:
    """(…, KNOWN) the network's `known` input for products `rows` at periods cutoff + step; all of one shape (…).

    Args:
        table: The panel's table.
        rows: Products.
        cutoff: Period index of the cutoff.
        step: Periods after it, at least 1.
        flag: Add the promotion flag as one more, for the nuisance networks.
        prices: Add KNOWN_PRICES more, for the price network: the log price at the cutoff, seven periods before it, and
            their difference.
    """
    target = cutoff + step
    common = table.common[rows, target].copy()
    common[..., -1] = np.log(step) / 3.0
    profile = table.past.profile[rows, cutoff, table.weekday[target]]
    parts = [common, profile[..., None], table.past.summary[rows, cutoff]]
    if flag:
        parts.append(table.promo[rows, target][..., None])
    if prices:
        now, before = table.log_price[rows, cutoff], table.log_price[rows, np.maximum(cutoff - 7, 0)]
        parts.append(5.0 * np.stack([now, before, now - before], axis=-1))
    return np.concatenate(parts, axis=-1).astype(np.float32)


@dataclass(frozen=True)
class SamplingPlan:
    """What batches are drawn: how many, from which periods, for which network."""

    series: int  # in a batch
    length: int  # periods of past
    cutoffs: int  # in each
    steps: int  # sampled after each cutoff
    horizon: int  # the largest step
    keep: Floats  # (period,) 1.0 where a target period may be trained on (cross-fitting)
    price: bool = False  # the log price change is the target
    flag: bool = False  # add the promotion flag


def draw_batches(table: FeatureTable, plan: SamplingPlan, rng: np.random.Generator) -> Iterator[Batch]:
    """Yield batches forever; L periods of past, N cutoffs (the last N periods), M steps after each.

    Inputs are the (series, L, PAST) past, what is (series, N, M, known) of each period to come, the (series, N, M)
    fraction of a promotion's draw, and each series' category: one in ten gets the unknown one, to train its embedding.
    The target is (series, N, M, 4): units sold (or the log price ratio), the log units expected before the network
    speaks, 1.0 where the stock ran out, and the weight in the loss, 0 where there is nothing to learn.
    """
    products, periods = table.seen.shape
    unknown = int(table.category.max()) + 1
    active = np.maximum(periods - table.begin, 1).astype(np.float64)
    back = np.arange(plan.length)
    while True:
        rows = rng.choice(products, plan.series, p=active / active.sum())
        earliest = np.minimum(np.maximum(table.begin[rows] - plan.length // 4, 0), periods - plan.length - 1)
        start = rng.integers(earliest, periods - plan.length)  # (series,)
        within = start[:, None] + back  # (series, length)
        cutoff = within[:, plan.length - plan.cutoffs :, None]  # (series, cutoffs, 1)
        asked = 1 + (plan.horizon * rng.random((plan.series, plan.cutoffs, plan.steps)) ** NEARNESS).astype(np.int64)
        step = np.minimum(asked, periods - 1 - cutoff)
        target = cutoff + step
        who = np.broadcast_to(rows[:, None, None], step.shape)
        cutoffs = np.broadcast_to(cutoff, step.shape)
        category = np.where(rng.random(plan.series) < 0.1, unknown, table.category[rows]).astype(np.int32)
        weight = table.seen[who, target] * plan.keep[target]
        weight = weight * (cutoffs >= table.begin[who] - 1) * (step == asked)
        nothing = np.zeros(step.shape, np.float32)
        if plan.price:
            actual, offset = table.log_price[who, target] - table.log_price[who, cutoffs], nothing
        else:
            actual = table.units[who, target]
            offset = table.offset[who, target] + baseline(table, who, cutoffs, step)
        known = gather_known(table, who, cutoffs, step, flag=plan.flag, prices=plan.price)
        draw = nothing if plan.price or plan.flag else table.draw[who, target]
        told = [actual, offset, table.censored[who, target], weight.astype(np.float32)]
        yield [table.past.inputs[rows[:, None], within], known, draw, category], np.stack(told, axis=-1)


def baseline(table: FeatureTable, rows: Ints, cutoff: Ints, step: Ints) -> Floats:
    """(…) log units expected at usual price without the network: level plus weekday profile."""
    profile = table.past.profile[rows, cutoff, table.weekday[cutoff + step]]
    total: Floats = table.past.level[rows, cutoff] + profile
    return total
