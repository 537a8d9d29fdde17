"""Type aliases of NumPy arrays, weekdays of days, and dataclasses of arrays as files have them: flat arrays and JSON.

`Floats` is of any precision: features, states and network weights are float32, statistics float64.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Bools = NDArray[np.bool_]
Strings = NDArray[np.str_]
Days = NDArray[np.datetime64]
Whole = TypeVar("Whole")

_DAYS: dict[Any, Callable[[str], Any]] = {
    dt.date: dt.date.fromisoformat,
    np.datetime64: lambda day: np.datetime64(day, "D"),
}


def weekday_of(days: Days) -> Ints:
    """Weekday of each day, Monday 0."""
    return (days.astype("datetime64[D]").astype(np.int64) + 3) % 7


def place_in(values: NDArray[Any], wanted: Any) -> int | None:
    """The place of a value among sorted ones; None where it is not among them."""
    place = int(np.searchsorted(values, wanted))
    return place if place < len(values) and values[place] == wanted else None


def flatten(whole: Any, *, path: str = "") -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Take a dataclass apart: its arrays by path, such as "encoded/state/hidden", and whatever else it holds, for JSON.

    Fields may be arrays, dataclasses, mappings by text, tuples, days and what JSON has itself.
    """
    arrays: dict[str, NDArray[Any]] = {}
    rest: dict[str, Any] = {}
    parts = whole if isinstance(whole, Mapping) else {each.name: getattr(whole, each.name) for each in fields(whole)}
    for name, value in parts.items():
        if isinstance(value, np.ndarray):
            arrays[f"{path}{name}"] = value
        elif isinstance(value, Mapping) or is_dataclass(value):
            inner, rest[name] = flatten(value, path=f"{path}{name}/")
            arrays |= inner
        elif isinstance(value, tuple):
            rest[name] = [flatten(each)[1] if is_dataclass(each) else each for each in value]
        else:
            rest[name] = str(value) if isinstance(value, np.datetime64 | dt.date) else value
    return arrays, rest


def restore(kind: type[Whole], arrays: Mapping[str, NDArray[Any]], rest: Mapping[str, Any]) -> Whole:
    """Put together a dataclass that `flatten` took apart; the arrays may be memory-mapped and are not modified.

    Raises:
        ValueError: An array or another value is missing, or an array holds something else; its path is named.
    """
    whole: Whole = _restored(kind, arrays, rest, "")
    return whole


def _restored(kind: Any, arrays: Mapping[str, NDArray[Any]], rest: Any, path: str) -> Any:
    """Restore the value at `path`, of type `kind`; `rest` is what JSON has of it, `...` where that is nothing."""
    base, args = get_origin(kind) or kind, get_args(kind)
    if NoneType in args:
        return None if rest is None else _restored(args[0], arrays, rest, path)
    if path not in arrays if base is np.ndarray else rest is ...:
        raise ValueError(f"{path} is missing")
    if base is np.ndarray:
        if not np.issubdtype(arrays[path].dtype, get_args(args[1])[0]):
            raise ValueError(f"{path} holds {arrays[path].dtype}")
        return arrays[path]
    if is_dataclass(base):
        hints = get_type_hints(kind).items()
        at = f"{path}/" if path else ""
        return kind(**{name: _restored(hint, arrays, rest.get(name, ...), f"{at}{name}") for name, hint in hints})
    if base is tuple:
        return tuple(_restored(args[0], {}, each, path) for each in rest)
    if base in (dict, Mapping):
        own = {name: _restored(args[1], arrays, each, f"{path}/{name}") for name, each in rest.items()}
        return own or below(arrays, path)
    return _DAYS[base](rest) if base in _DAYS else rest


def below(flat: Mapping[str, NDArray[Any]], path: str) -> dict[str, NDArray[Any]]:
    """The arrays under `path`, by the rest of their paths."""
    start = f"{path}/"
    return {name[len(start) :]: value for name, value in flat.items() if name.startswith(start)}
