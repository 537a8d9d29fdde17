"""The only place that reads configurations as YAML: no key counts twice, and every key is known by its line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from pricing.errors import ConfigError

KeyPath = tuple[str | int, ...]  # such as ("decision", "guardrails", "band", 1)
_MERGE = "tag:yaml.org,2002:merge"


class _GivenTwiceError(Exception):
    """A mapping has a key twice."""

    def __init__(self, key: str, *, first: int, second: int) -> None:
        super().__init__(f"line {second}: {key} is given twice, first on line {first}; the two may differ: keep one")


class _NoKeyTwice(yaml.constructor.SafeConstructor):
    """YAML itself lets the last one count, without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if key.value in seen:
                    raise _GivenTwiceError(key.value, first=seen[key.value], second=line)
                seen[key.value] = line
        return super().construct_mapping(node, deep=deep)


class _Loader(_NoKeyTwice, yaml.SafeLoader):
    pass


# PyYAML's parser in C is ten times as fast. Errors are those of its parser in Python.
_C: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Fast: Any = type("_Fast", (_NoKeyTwice, _C), {})


def read_mapping(path: Path) -> dict[str, Any]:
    """Reads the mapping that a YAML file holds; an empty file holds an empty one.

    Raises:
        ConfigError: The file cannot be read, is no YAML, holds something else, or gives a key twice.
    """
    try:
        values = _parsed(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the path of a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from error
    except _GivenTwiceError as error:
        raise ConfigError(f"{path}: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, found {type(values).__name__}")
    return values


def _parsed(text: str) -> Any:
    try:
        return yaml.load(text, Loader=_Fast)
    except yaml.YAMLError:
        return yaml.load(text, Loader=_Loader)


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line, counted from 1, of every key and list item of a YAML document."""
    return dict(_lines(yaml.compose(text, Loader=_C), ()))


def _lines(node: yaml.Node | None, path: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            yield inner, key.start_mark.line + 1
            yield from _lines(value, inner)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield (*path, number), value.start_mark.line + 1
            yield from _lines(value, (*path, number))
