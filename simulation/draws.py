"""Random streams of a market, and the random paths and labels that its parts share."""

import numpy as np
from scipy import signal

from pricing.arrays import Floats
from simulation.config import MarketConfig
from simulation.kinds import STREAMS


def stream(config: MarketConfig, name: str, part: int = 0) -> np.random.Generator:
    """Return the random generator for one kind of draw and one of its arrays, whose rows are days or longer periods.

    Separate streams ensure that settings change nothing else, and that a longer future changes no earlier day.
    """
    family, number = STREAMS[config.settings.family][name]
    return np.random.default_rng([*family, config.seed, number, part])


def autoregression(normal: Floats, spread: float, persistence: float) -> Floats:
    """(day, series) stationary AR(1) of sd `spread` from standard normal draws of that shape."""
    step = spread * np.sqrt(1 - persistence**2) * normal
    step[0] = spread * normal[0]
    path: Floats = signal.lfilter([1.0], [1.0, -persistence], step, axis=0)
    return path


def random_walk(rng: np.random.Generator, shape: tuple[int, int], rate: tuple[float, float]) -> Floats:
    """(day, walk) random walks with steps of sd `rate[0]`, every `rate[1]` days on average, drawn day by day."""
    spread, apart = rate
    path = np.empty(shape)
    position = np.zeros(shape[1])
    for day in range(len(path)):
        moves = rng.random(shape[1]) < 1 / apart
        position += np.where(moves, spread * rng.standard_normal(shape[1]), 0.0)
        path[day] = position
    return path


def steps(config: MarketConfig, name: str, part: int, shape: tuple[int, int], rate: tuple[float, float]) -> Floats:
    """(period, walk) steps of random walks, whether and how far from two streams; `rate` is in periods."""
    spread, apart = rate
    moves = stream(config, name, part).random(shape) < 1 / apart
    moved: Floats = moves * spread * stream(config, name, part + 1).standard_normal(shape)
    return moved


def ending(price: Floats) -> Floats:
    """Round prices to end in 9 cents, at least 9 cents."""
    label: Floats = np.maximum(np.round(price, 1) - 0.01, 0.09).round(2)
    return label
