"""The demand and price networks: a global LSTM trained by forking sequences. The only module using Keras.

Wen, Torkkola, Narayanaswamy, Madeka (2017), "A Multi-Horizon Quantile Recurrent Forecaster", arXiv:1711.11053: one pass
of the encoder over a series yields forecasts from every cutoff at once.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is loaded: hides its message about a missing GPU

import keras
from keras import ops

from pricing.arrays import Floats
from pricing.data.features import PAST, launched
from pricing.demand.batches import Batch, Shape
from pricing.demand.forward_pass import LOG_SIZE_LIMITS, Weights
from pricing.errors import TrainingError

Progress = Callable[[str], None]
Watcher = Callable[[int, float], None]
Tensor = Any  # a backend tensor; Keras has no type for it

HIDDEN = 32
EMBEDDING = 4
SEEN = 4.0  # times the units sold out: means beyond it get no gradient from a sold-out row
RIDGE = 1e-4  # weight of the squared log mean over the level and offset in the loss
_WATCHER: ContextVar[Watcher | None] = ContextVar("watcher", default=None)
_FAR = 1.0  # z-score at which the tail switches to a geometric series: slopes of the two differ least there


def build_network(shape: Shape) -> keras.Model:
    """Build the network, uncompiled: (past, known, category) → (series, N, M, 2).

    Its two outputs are the log of the mean over the offset and the log of the negative binomial's size. Price and
    promotion enter only through the offset, so that demand can only fall in price.
    """
    past = keras.Input((shape.length, PAST), name="past")
    known = keras.Input((shape.cutoffs, shape.steps, shape.known), name="known")
    category = keras.Input((), dtype="int32", name="category")
    states = keras.layers.LSTM(shape.units, return_sequences=True, name="lstm")(past, mask=launched(past))
    states = states[:, shape.length - shape.cutoffs :]
    hidden = keras.layers.Dense(HIDDEN, name="from_state")(states)[:, :, None]
    hidden = hidden + keras.layers.Dense(HIDDEN, use_bias=False, name="from_known")(known)
    embedding = keras.layers.Embedding(shape.categories + 1, EMBEDDING, name="category_embedding")(category)
    hidden = hidden + keras.layers.Dense(HIDDEN, use_bias=False, name="from_category")(embedding)[:, None, None]
    hidden = keras.layers.Activation("relu", name="hidden")(hidden)
    # Zero initial weights: training starts from the level itself, a good forecast.
    heads = keras.layers.Dense(2, kernel_initializer="zeros", name="heads")(hidden)
    size = ops.clip(heads[..., 1] + 1.0, *LOG_SIZE_LIMITS)
    return keras.Model([past, known, category], ops.stack([heads[..., 0], size], axis=-1))


def demand_loss(target: Tensor, output: Tensor) -> Tensor:
    """Weighted negative log likelihood of the negative binomial, right-censored where the stock ran out.

    `target` is (…, 4): actual, offset, censored, weight. Where sales met the stock only demand ≥ actual is known, whose
    probability is exact for a single unit; for more it is that of a gamma variable with the same mean and variance
    (Wilson and Hilferty 1931), and from a standard deviation above the mean P(demand = actual) times a geometric series
    in the odds of one more unit, so that much too low forecasts keep a gradient. Means beyond SEEN times the stock get
    none. Where every row sold out only RIDGE bounds a forecast, so weakly that any uncensored row dominates.
    """
    from tensorflow.math import lgamma  # noqa: PLC0415  keras.ops has none

    actual, offset, censored, weight = (target[..., i] for i in range(4))
    log_mean = ops.clip(output[..., 0] + offset, -9.0, 14.0)
    mean, size = ops.exp(log_mean), ops.exp(output[..., 1])
    exact = (
        lgamma(actual + size)
        - lgamma(size)
        - lgamma(actual + 1.0)
        + size * (output[..., 1] - ops.log(size + mean))
        + actual * (log_mean - ops.log(size + mean))
    )
    variance = mean + mean * mean / size
    shape = mean * mean / variance
    ratio = ops.maximum(actual - 0.5, 1e-3) / mean
    score = (ratio ** (1.0 / 3.0) - 1.0 + 1.0 / (9.0 * shape)) * 3.0 * ops.sqrt(shape)
    near = ops.log(0.5 * ops.erfc(ops.clip(score, -6.0, _FAR + 1.0) / np.sqrt(2.0)))
    one_more = (actual + size) / (actual + 1.0) * mean / (mean + size)
    far = exact - ops.log(ops.maximum(1.0 - one_more, 1e-3))
    any_at_all = ops.log(-ops.expm1(-size * ops.log1p(mean / size)))
    survival = ops.where(actual > 1, ops.where(score > _FAR, far, near), any_at_all)
    survival = ops.where(actual > 0, survival, 0.0)
    beyond = mean > SEEN * ops.maximum(actual, 1.0)
    survival = ops.where(beyond, ops.stop_gradient(survival), survival)
    likelihood = ops.where(censored > 0, survival, exact)
    from_level = output[..., 0] * output[..., 0]
    return ops.sum(weight * (RIDGE * from_level - likelihood)) / (ops.sum(weight) + 1e-6)


def price_loss(target: Tensor, output: Tensor) -> Tensor:
    """Weighted squared error of the log price ratio."""
    actual, offset, _, weight = (target[..., i] for i in range(4))
    error = output[..., 0] + offset - actual
    return ops.sum(weight * error * error) / (ops.sum(weight) + 1e-6)


@contextmanager
def watch_losses(watcher: Watcher) -> Iterator[None]:
    """Tell a watcher the step, from 1, and the loss at it of each watched fit inside the block."""
    token = _WATCHER.set(watcher)
    try:
        yield
    finally:
        _WATCHER.reset(token)


class Trainer:
    """A compiled network that can be trained repeatedly from given weights, without tracing the graph again."""

    def __init__(self, shape: Shape, *, loss: str, seed: int) -> None:
        self.network, self._optimizer, self._blank = _compiled(shape, loss, seed)

    def fit(
        self,
        batches: Iterator[Batch],
        *,
        steps: int,
        rate: float,
        start: Weights | None = None,
        progress: Progress | None = None,
        watched: bool = False,
    ) -> Weights:
        """Train for `steps` batches from `start` (initial weights when absent); cosine learning rate decay to 2 %.

        Where it is `watched`, whoever watches (`watch_losses`) is told the loss of each step.

        Raises:
            TrainingError: The loss is not finite.
        """
        given = self._blank if start is None else [start[name] for name in named_weights(self.network)]
        self.network.set_weights(given)
        for variable in self._optimizer.variables:
            if variable is not self._optimizer.learning_rate:
                variable.assign(ops.zeros_like(variable))
        smooth = float("nan")
        for step in range(steps):
            self._optimizer.learning_rate = rate * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * step / max(steps, 1))))
            self.network.reset_metrics()  # else Keras returns the mean since the network was made
            loss = float(self.network.train_on_batch(*next(batches)))
            if watched and (watcher := _WATCHER.get()) is not None:
                watcher(step + 1, loss)
            if not np.isfinite(loss):
                raise TrainingError(f"the loss became {loss} at step {step}; lower demand.learning_rate")
            smooth = loss if not np.isfinite(smooth) else 0.9 * smooth + 0.1 * loss
            if progress is not None and (step + 1) % 25 == 0:
                progress(f"step {step + 1}/{steps}, loss {smooth:.4f}")
        return named_weights(self.network)


@lru_cache(maxsize=6)
def _compiled(shape: Shape, loss: str, seed: int) -> tuple[keras.Model, keras.optimizers.Optimizer, list[Floats]]:
    """Return a network, its optimizer and its initial weights; cached so that a process traces each shape once."""
    keras.utils.set_random_seed(seed)
    network = build_network(shape)
    optimizer = keras.optimizers.Adam(learning_rate=1e-3, clipnorm=1.0)
    network.compile(optimizer=optimizer, loss={"demand": demand_loss, "price": price_loss}[loss])
    return network, optimizer, [weight.copy() for weight in network.get_weights()]


def named_weights(network: keras.Model) -> Weights:
    """Return the network's weights by layer and variable, such as "lstm/kernel"."""
    return {
        variable.path.split("/", 1)[-1] if variable.path.count("/") > 1 else variable.path: np.asarray(value)
        for variable, value in zip(network.weights, network.get_weights(), strict=True)
    }
