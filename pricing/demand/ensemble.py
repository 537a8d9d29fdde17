"""Combine three forecasters of the sales level: the network, the EWMA level and boosted trees.

Which is best depends on the length and regularity of the history and is not known beforehand; a combination is rarely
far from its best part (Bates and Granger 1969, doi:10.1057/jors.1969.103). The response to price and promotion is the
same in all three: it is part of the trees' offset, as of the network's, and no feature.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Floats, Ints
from pricing.data.panel import Panel

FORECASTERS = ("network", "level", "booster")  # columns of the evaluation frame
CLASSES = ("low", "mid", "high")  # thirds of the products by volume; one more row: unknown volume
UNKNOWN_VOLUME = len(CLASSES)
LIMIT = 3.0  # log units by which a forecaster may change a level
LEAST_NOISE = 0.2  # least share of the over-dispersion that is a period's own noise and not the level's error


@dataclass(frozen=True)
class Combination:
    """Weights and corrections that combine the three forecasters."""

    weights: Floats  # (class, forecaster) of the volume classes and of products of unknown volume; each row sums to 1
    dispersion: Floats  # (class,) log factor on the negative binomial's size, so that it covers all of the error
    narrow: Floats  # (product,) log factor on the size that adds `dispersion`, less the level's error (`own_noise`)
    volume: Ints  # (product,) row of `weights` and `dispersion`
    booster: NDArray[np.uint8]  # (byte,) the trees as text; empty without any
    # (product, horizon + 1) log units to add to the network's, by steps after the state's date; column 0 repeats 1
    factor: Floats


def volume_rows(mean_units: Floats) -> Ints:
    """(product,) third of the products by mean units, as a row of `Combination.weights`; NaN counts as 0.

    The thirds are equally large; ties at a boundary are split by the order of the products.
    """
    rank = np.argsort(np.argsort(np.nan_to_num(mean_units), kind="stable"), kind="stable")
    return (rank * len(CLASSES) // max(len(mean_units), 1)).astype(np.int8)


def volume_of(panel: Panel) -> Ints:
    """(product,) thirds by mean units; see `volume_rows`."""
    sold = np.where(panel.present, panel.units_sold, 0.0).sum(axis=1)
    return volume_rows(sold / np.maximum(panel.present.sum(axis=1), 1))


def prior_weights(periods: int, *, context: int, trees: bool = True) -> Floats:
    """(class, forecaster) weights before any fold is scored: equal, but none for trees where there are none.

    With fewer `periods` of history than the `context` that it reads, the network counts for less in proportion.
    """
    own = np.array([min(periods / context, 1.0), 1.0, float(trees)])
    return np.tile(own / own.sum(), (len(CLASSES) + 1, 1))


def network_only(products: int) -> Combination:
    """Return a combination with all weight on the network."""
    weights = np.zeros((len(CLASSES) + 1, len(FORECASTERS)))
    weights[:, 0] = 1.0
    return Combination(
        weights=weights,
        dispersion=np.zeros(len(weights)),
        narrow=np.zeros(products, np.float32),
        volume=np.full(products, UNKNOWN_VOLUME, np.int8),
        booster=np.zeros(0, np.uint8),
        factor=np.zeros((products, 2), np.float32),
    )


def extend_combination(combination: Combination, rows: Ints) -> Combination:
    """Return it with products `rows`, (product,) in its order; −1 stands for a new one of unknown volume."""
    new, at = rows < 0, np.maximum(rows, 0)
    return replace(
        combination,
        narrow=np.where(new, 0.0, combination.narrow[at]).astype(np.float32),
        volume=np.where(new, UNKNOWN_VOLUME, combination.volume[at]).astype(np.int8),
        factor=np.where(new[:, None], 0.0, combination.factor[at]).astype(np.float32),
    )


def own_noise(log_size: Floats, *, dispersion: Floats, level_error: tuple[float, float], step: float) -> Floats:
    """(product,) log factor on the size that leaves only a period's own noise.

    Var = m + m²/r includes the level's error, m² (e^(a² + b² step) − 1), which decisions treat separately since a
    product's periods share it. The network's `log_size` and the folds' `dispersion`, (product,) each, add up to log r;
    `level_error` is a and b.
    """
    at_once, growth = level_error
    size = np.exp(log_size + dispersion)
    shared = np.exp(at_once**2 + growth**2 * step) - 1.0
    rest = np.maximum(1.0 / size - shared, LEAST_NOISE / size)
    return np.asarray(-np.log(rest) - log_size, np.float32)


def bounded(paths: Floats) -> Floats:
    """Clip log factors on the level to ±LIMIT: a forecaster may diverge, as where every row sold out."""
    return np.clip(paths, -LIMIT, LIMIT)


def combined_factor(paths: Floats, *, weights: Floats, volume: Ints) -> Floats:
    """(product, horizon + 1) `Combination.factor`, from (forecaster, product, horizon) `LevelForecasts.paths`."""
    shares = weights[volume].T[:, :, None]  # (forecaster, product, 1)
    factor = np.log((shares * np.exp(bounded(paths))).sum(axis=0)) - paths[0]
    return np.concatenate([factor[:, :1], factor], axis=1).astype(np.float32)
