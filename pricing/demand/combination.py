"""One level out of three forecasters: the network, the level that is remembered, and boosted trees.

Which of them is best depends on how long and how regular a history is, and is not known beforehand; a combination is
rarely far from the best of its parts (Bates and Granger 1969, doi:10.1057/jors.1969.103). How demand answers to price
and promotion is the same in all three. NumPy only.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Floats, Ints

FORECASTERS = ("network", "level", "booster")  # columns of the evaluation frame
CLASSES = ("low", "mid", "high")  # thirds of the products by volume; after them, those of which it is not known
UNKNOWN_VOLUME = len(CLASSES)
LIMIT = 3.0  # log units that a forecaster may move a level by
LEAST_NOISE = 0.2  # of the variance beyond counting that a period's own noise has at least, beside the level's error


@dataclass(frozen=True)
class Combination:
    """What makes one forecast of three.

    Attributes:
        weights: (class, forecaster) of the three volume classes and of products whose volume is not known; they sum to
            1 in each class.
        dispersion: (class,) log factor on the negative binomial's size, which holds all that a period may be off by.
        narrow: (product,) log factor on it that leaves, besides, what the level's own error does not explain.
        volume: (product,) row of `weights` and `dispersion`.
        booster: (byte,) the trees as text; empty without any.
        factor: (product, horizon + 1) log units to add to the network's, by steps after the state's date; the first
            column is that of the second.
    """

    weights: Floats
    dispersion: Floats
    narrow: Floats
    volume: Ints
    booster: NDArray[np.uint8]
    factor: Floats


def volume_rows(mean_units: Floats) -> NDArray[np.int8]:
    """(product,) thirds of the products by mean units, as rows of `Combination.weights`; unknown units count as none.

    The thirds are equally large: where equal sales straddle two of them, the order of the products parts them.
    """
    rank = np.argsort(np.argsort(np.nan_to_num(mean_units), kind="stable"), kind="stable")
    return np.minimum(rank * len(CLASSES) // max(len(mean_units), 1), len(CLASSES) - 1).astype(np.int8)


def prior_weights(periods: int, *, context: int, trees: bool = True) -> Floats:
    """(class, forecaster) what is taken where nothing was scored: equal weights, less for a network that saw little.

    Args:
        periods: That the history covers.
        context: Periods of past that the network reads; one that has never seen so many counts in proportion.
        trees: Whether there are any; else they weigh nothing.
    """
    own = np.ones(len(FORECASTERS))
    own[FORECASTERS.index("network")] = min(periods / context, 1.0)
    own[FORECASTERS.index("booster")] = float(trees)
    return np.tile(own / own.sum(), (len(CLASSES) + 1, 1))


def network_alone(products: int) -> Combination:
    """No combination: what versions were before there was one, and what a model without trees or folds may be."""
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


def admit_combination(combination: Combination, rows: Ints) -> Combination:
    """The combination with new products, of whose volume nothing is known.

    Args:
        combination: Of the products known so far.
        rows: (product,) row of each in it; -1 where it is new.
    """
    new, at = rows < 0, np.maximum(rows, 0)
    return Combination(
        weights=combination.weights,
        dispersion=combination.dispersion,
        narrow=np.where(new, 0.0, combination.narrow[at]).astype(np.float32),
        volume=np.where(new, UNKNOWN_VOLUME, combination.volume[at]).astype(np.int8),
        booster=combination.booster,
        factor=np.where(new[:, None], 0.0, combination.factor[at]).astype(np.float32),
    )


def own_noise(log_size: Floats, *, dispersion: Floats, level_error: tuple[float, float], step: float) -> Floats:
    """(product,) log factor on the size that leaves a period's own noise.

    Var = m + m²/r holds the error of the level, m² (e^(a² + b² step) − 1), which decisions count apart, since a
    product's periods share it.

    Args:
        log_size: (product,) of r, as the network says.
        dispersion: (product,) log factor on it that folds found.
        level_error: a and b.
        step: Periods from the state's date.
    """
    size = np.exp(log_size + dispersion)
    shared = np.exp(level_error[0] ** 2 + level_error[1] ** 2 * step) - 1.0
    rest = np.maximum(1.0 / size - shared, LEAST_NOISE / size)
    return np.asarray(-np.log(rest) - log_size, np.float32)


def bounded(paths: Floats) -> Floats:
    """Log factors on the level within LIMIT: beyond it a forecaster has run away, as where every row sold out."""
    return np.clip(paths, -LIMIT, LIMIT)


def combined_factor(paths: Floats, *, weights: Floats, volume: Ints) -> Floats:
    """(product, horizon + 1) log of the combined level over the network's.

    Args:
        paths: (forecaster, product, horizon) log factor of each on level and profile.
        weights: (class, forecaster).
        volume: (product,) row of `weights`.
    """
    shares = weights[volume].T[:, :, None]  # (forecaster, product, 1)
    factor = np.log((shares * np.exp(bounded(paths))).sum(axis=0)) - paths[0]
    return np.concatenate([factor[:, :1], factor], axis=1).astype(np.float32)
