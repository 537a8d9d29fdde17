"""Run the networks forward in NumPy: neither refreshing nor reading a version needs Keras."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pricing.arrays import Days, Floats, Ints
from pricing.data import features

Weights = dict[str, Floats]

LOG_SIZE_LIMITS = (-2.5, 5.0)
NUISANCE_FOLDS = 2  # of cross-fitting


@dataclass(frozen=True)
class Networks:
    """The nuisance networks of one estimation, with which elasticities of other products can be estimated.

    Their names say what they predict, in which round, and the fold that they were not fitted to: `demand-1-0`.
    """

    weights: Mapping[str, Weights]
    start: Days  # (1,) the period that the first block of time begins with

    @property
    def rounds(self) -> int:
        """Rounds that were estimated."""
        return len([name for name in self.weights if name.startswith("demand")]) // NUISANCE_FOLDS or 1


def encode(weights: Weights, inputs: Floats, *, state: tuple[Floats, Floats]) -> tuple[Floats, tuple[Floats, Floats]]:
    """Run the LSTM over (series, period, PAST) inputs; periods before a product's first row leave its state unchanged.

    Returns:
        The hidden state after every period, (series, period, unit), and the last hidden and cell state, which are
        (series, unit) each as in `state`, those before the first period.
    """
    kernel = weights["lstm_cell/kernel"]
    recurrent = weights["lstm_cell/recurrent_kernel"]
    bias = weights["lstm_cell/bias"]
    units = recurrent.shape[0]
    series, periods, _ = inputs.shape
    states = np.empty((series, periods, units), np.float32)
    waiting = ~features.launched(inputs).T[..., None]  # (period, series, 1)
    hidden, cell = state
    for t in range(periods):
        gates = inputs[:, t] @ kernel + hidden @ recurrent + bias  # (series, 4 × unit): input, forget, cell, output
        write, keep, _, show = np.split(0.5 * (np.tanh(0.5 * gates) + 1.0), 4, axis=1)
        candidate = np.tanh(gates[:, 2 * units : 3 * units])
        moved = keep * cell + write * candidate
        shown = show * np.tanh(moved)
        np.copyto(moved, cell, where=waiting[t])
        np.copyto(shown, hidden, where=waiting[t])
        cell = moved
        hidden = shown
        states[:, t] = hidden
    return states, (hidden, cell)


def blank_state(weights: Weights, series: int) -> tuple[Floats, Floats]:
    """Return the LSTM's initial (zero) state."""
    shape = (series, len(weights["lstm_cell/recurrent_kernel"]))
    return np.zeros(shape, np.float32), np.zeros(shape, np.float32)


def prepare(weights: Weights, states: Floats, category: Ints) -> Floats:
    """(series, …, HIDDEN) the part of the hidden layer that does not depend on the forecast period.

    From (series, …, unit) hidden states and the (series,) category, of which the last one is unknown.
    """
    embedding = weights["category_embedding/embeddings"][category] @ weights["from_category/kernel"]
    middle = (1,) * (states.ndim - 2)
    own: Floats = states @ weights["from_state/kernel"] + weights["from_state/bias"]
    return own + embedding.reshape(len(category), *middle, embedding.shape[-1])


def respond(weights: Weights, prepared: Floats, known: Floats) -> tuple[Floats, Floats]:
    """Compute the `heads` of (…, HIDDEN) from `prepare` and, broadcast against it, (…, known) features of a period."""
    return heads(weights, prepared + known @ weights["from_known/kernel"])


def heads(weights: Weights, hidden: Floats) -> tuple[Floats, Floats]:
    """Compute the output heads from the hidden layer before its activation, (…, HIDDEN).

    Returns:
        Log mean over the offset and log size of the negative binomial, each (…).
    """
    outputs = np.maximum(hidden, 0.0) @ weights["heads/kernel"] + weights["heads/bias"]
    mean, size = np.moveaxis(outputs, -1, 0)
    return mean, np.clip(size + 1.0, *LOG_SIZE_LIMITS)
