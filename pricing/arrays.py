"""Type aliases of NumPy arrays, weekdays of days, and nested arrays as one flat mapping, which is how models are saved.

`Floats` is of any precision: features, states and network weights are float32, statistics float64.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Bools = NDArray[np.bool_]
Strings = NDArray[np.str_]
Days = NDArray[np.datetime64]


def weekday_of(days: Days) -> Ints:
    """Weekday of each day, Monday 0."""
    return (days.astype("datetime64[D]").astype(np.int64) + 3) % 7


def flatten(values: Mapping[str, Any], *, prefix: str = "") -> dict[str, NDArray[Any]]:
    """Arrays by path, such as "encoded/state/hidden"; whatever is neither an array nor holds any is left out."""
    flat: dict[str, NDArray[Any]] = {}
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, np.ndarray):
            flat[path] = value
        elif isinstance(value, Mapping):
            flat.update(flatten(value, prefix=f"{path}/"))
        elif is_dataclass(value) and not isinstance(value, type):
            inner = {field.name: getattr(value, field.name) for field in fields(value)}
            flat.update(flatten(inner, prefix=f"{path}/"))
    return flat


def below(flat: Mapping[str, NDArray[Any]], path: str) -> dict[str, NDArray[Any]]:
    """The arrays under `path`, by the rest of their paths."""
    start = f"{path}/"
    return {name[len(start) :]: value for name, value in flat.items() if name.startswith(start)}
