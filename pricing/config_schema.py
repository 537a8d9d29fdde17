"""Say in words what each key of the configuration may be, read from pydantic's JSON schema."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel

from pricing.config_file import KeyPath
from pricing.errors import nearest
from pricing.fileio import redact_url

Node = dict[str, Any]  # a part of a JSON schema
_SURE = 0.8  # similarity from which a name is a slip of the pen
_LIKELY = 0.6


@cache
def _schema_of(kind: type[BaseModel]) -> Node:
    return kind.model_json_schema()


@dataclass(frozen=True)
class Place:
    """A place in the configuration.

    Attributes:
        path: As a person writes it, such as "tuning.space.units.low".
        keys: The same, key by key.
        may_be: What may stand there, in words; empty where the place is unknown.
        keys_beside: The keys that may stand beside its last one.
        said: What its description says; "" where it has none.
        kinds: The kinds among which `kind` chooses there.
    """

    path: str
    keys: KeyPath
    may_be: str
    keys_beside: tuple[str, ...]
    said: str = ""
    kinds: tuple[str, ...] = ()


def find(kind: type[BaseModel], location: KeyPath) -> Place:
    """Finds the place of a fault by pydantic's location, which also names alternatives such as a kind of strategy."""
    definitions = _schema_of(kind)["$defs"]
    nodes, beside, keys, said = [_schema_of(kind)], (), (), ""  # type: list[Node], tuple[str, ...], KeyPath, str
    for part in location:
        chosen = [node for node in nodes if _is_called(node, part)]
        if len(nodes) > 1 and chosen:
            nodes = chosen
        elif isinstance(part, int) or any(node.get("type") == "object" for node in nodes):
            beside = tuple(dict.fromkeys(name for node in nodes for name in node.get("properties", {})))
            keys = (*keys, part)
            found = [below for node in nodes for below in _below(node, part)]
            said = next((str(below["description"]) for below in found if "description" in below), "")
            nodes = [whole for below in found for whole in _resolved(below, definitions)]
    kinds = tuple(_kind_of(node) for node in nodes if _kind_of(node)) if len(nodes) > 1 else ()
    return Place(".".join(map(str, keys)), keys, _words(nodes, definitions), beside, said, kinds)


def _kind_of(node: Node) -> str:
    """The kind that a schema is for; "" where it is for none, or for several."""
    return str(node.get("properties", {}).get("kind", {}).get("const", ""))


def _is_called(node: Node, part: str | int) -> bool:
    """Whether pydantic calls an alternative so in the location of a fault."""
    return node.get("title") == f"{str(part).capitalize()}Config" or (part != "" and _kind_of(node) == part)


def _options(node: Node) -> list[Node]:
    return [*node.get("oneOf", []), *node.get("anyOf", [])]


def _resolved(node: Node, definitions: Node) -> list[Node]:
    """The schema's alternatives, without references."""
    if "$ref" in node:
        return _resolved(definitions[node["$ref"].rsplit("/", 1)[-1]], definitions)
    return [whole for option in _options(node) for whole in _resolved(option, definitions)] or [node]


def _below(node: Node, part: str | int) -> Iterator[Node]:
    if isinstance(part, int):
        places = node.get("prefixItems", [])
        below = places[part] if part < len(places) else node.get("items")
    else:
        below = node.get("properties", {}).get(part, node.get("additionalProperties"))
    if isinstance(below, dict):
        yield below


def _words(nodes: Iterable[Node], definitions: Node) -> str:
    """What one of some schemas without references allows, in words."""
    said = list(dict.fromkeys(_kind_words(node, definitions) for node in nodes))
    return said[0] if len(said) == 1 else ", or ".join([", ".join(said[:-1]), said[-1]]) if said else ""


def _kind_words(node: Node, definitions: Node) -> str:
    kind = str(node.get("type", "any value"))
    if "const" in node:
        words = str(node["const"])
    elif "enum" in node:
        words = "one of " + ", ".join(map(str, node["enum"]))
    elif kind in ("integer", "number"):
        words = ("a whole number" if kind == "integer" else "a number") + _bounds(node)
    elif kind == "array":
        words = _list_words(node, definitions)
    elif node.get("format") == "date":
        words = "a day such as 2026-07-04"
    else:
        plain = {"string": "a text", "boolean": "true or false", "null": "null", "object": "a mapping"}
        words = plain.get(kind, kind) + _text_bounds(node)
    return words


def _list_words(node: Node, definitions: Node) -> str:
    places = [_words(_resolved(part, definitions), definitions) for part in node.get("prefixItems", [])]
    if places:
        same = len(set(places)) == 1
        return f"a list of {len(places)}, each {places[0]}" if same else f"a list of {' and '.join(places)}"
    least = f" of at least {node['minItems']}" if "minItems" in node else ""
    return f"a list{least}, each {_words(_resolved(node.get('items', {}), definitions), definitions)}"


def _bounds(node: Node) -> str:
    signs = {
        "exclusiveMinimum": "above",
        "minimum": "of at least",
        "exclusiveMaximum": "below",
        "maximum": "at most",
    }
    said = [f"{sign} {node[key]:,.12g}" for key, sign in signs.items() if key in node]
    return " " + " and ".join(said) if said else ""


def _text_bounds(node: Node) -> str:
    signs = {"minLength": "of at least {} characters", "maxLength": "of at most {} characters", "pattern": "like {}"}
    shown = {**node, "pattern": node["examples"][0]} if "pattern" in node and node.get("examples") else node
    said = [sign.format(shown[key]) for key, sign in signs.items() if key in shown]
    return " " + ", ".join(said) if said else ""


def _shown(value: Any) -> Any:
    """A value as messages may repeat it: without the passwords of addresses."""
    if isinstance(value, str):
        return redact_url(value)
    if isinstance(value, Mapping):
        return {name: _shown(part) for name, part in value.items()}
    return [_shown(part) for part in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Words:
    """Says in words what is wrong with a configuration.

    Attributes:
        kind: The whole configuration.
        lines: Key → its line in the file; empty where there is no file.
    """

    kind: type[BaseModel]
    lines: Mapping[KeyPath, int]

    def of(self, fault: Mapping[str, Any]) -> str:
        """One of pydantic's errors as a sentence that names key, value, what is expected, and the line."""
        message = str(fault["msg"]).removeprefix("Value error, ")
        if not fault["loc"]:  # two sections disagree, and the message names both keys
            return message
        place = find(self.kind, fault["loc"])
        line = f" (line {self.lines[place.keys]})" if place.keys in self.lines else ""
        return self._sentence(fault, place, message=message) + line

    def _sentence(self, fault: Mapping[str, Any], place: Place, *, message: str) -> str:
        found = f"{place.path}: expected {place.may_be}, found {_shown(fault['input'])!r}"
        match fault["type"]:
            case "extra_forbidden":
                found = f"unknown key {place.path}{self._suggestion(place)}"
            case "missing":
                found = f"{place.path}: is missing; expected {place.may_be}" + (f". {place.said}" if place.said else "")
            case "union_tag_not_found":
                found = f"{place.path}.kind: is missing; expected one of {', '.join(place.kinds)}"
            case "union_tag_invalid":
                found = f"{place.path}.kind: {_unknown_kind(fault['ctx'])}"
            case "value_error" if isinstance(
                fault["input"], dict
            ):  # settings that contradict each other: it names them
                found = f"{place.path}: {message}"
            case "value_error":
                found += f". {message}"
        return found

    def _suggestion(self, place: Place) -> str:
        """The known key that an unknown one is likely to mean, as the end of a sentence."""
        name, own = str(place.keys[-1]), place.keys_beside
        elsewhere = {path.rpartition(".")[2]: path for path in _paths(self.kind, "")}
        if sure := nearest(name, own, cutoff=_SURE):
            return f"; the nearest known one is {sure}"
        if name in elsewhere:
            return f"; it belongs elsewhere: {elsewhere[name]}"
        if likely := nearest(name, own, cutoff=_LIKELY):
            return f"; the nearest known one is {likely}"
        if other := nearest(name, elsewhere, cutoff=_SURE):
            return f"; the nearest known one is {elsewhere[other]}"
        return f"; known there are {', '.join(own)}" if own else ""


def _unknown_kind(context: Mapping[str, Any]) -> str:
    kinds, found = str(context["expected_tags"]).replace("'", ""), str(context["tag"])
    near = nearest(found, kinds.split(", "))
    return f"expected one of {kinds}, found {found!r}" + (f"; the nearest is {near}" if near else "")


def _paths(kind: type[BaseModel], prefix: str) -> Iterator[str]:
    """The path of every key and section, such as "decision.guardrails.max_move"."""
    for name, field in kind.model_fields.items():
        yield f"{prefix}{name}"
        # An optional section is one that may be null; parts that exist in several places, such as a table, are none.
        inner = [part for part in (field.annotation, *get_args(field.annotation)) if isinstance(part, type)]
        inner = [part for part in inner if issubclass(part, BaseModel)]
        if len(inner) == 1 and not prefix:
            yield from _paths(inner[0], f"{name}.")
        elif inner == [field.annotation]:
            yield from _paths(inner[0], f"{prefix}{name}.")
