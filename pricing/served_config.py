"""Decides what counts where a model version's own settings meet a file that a person serves it with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pricing.config import ConfigFile, ModelConfig, merge, parse_model_config


@dataclass(frozen=True)
class Difference:
    """A setting that a version and a file have differently."""

    version: Any
    file: Any


@dataclass(frozen=True)
class ServedConfig:
    """The settings that a version is served with: its own, with those of `decision` that a file gives over them."""

    config: ModelConfig  # the settings that count
    # Key of `decision` → where the file's value differs from the version's, and counts.
    replaced: Mapping[str, Difference] = field(default_factory=dict)
    # Key of `data` or `demand` → where they differ and the version's counts, since it was trained with it.
    ignored: Mapping[str, Difference] = field(default_factory=dict)

    def lines(self, name: str, *, file: object) -> list[str]:
        """Says which value counts where version `name` and the file differ, a sentence each; none where they agree."""
        trained = "the version's values count, since it was trained with them; train with the file to change them"
        return [
            f"version {name} and {file} differ, and {which}: {_words(differing, name=name)}"
            for differing, which in ((self.replaced, "the file's values count"), (self.ignored, trained))
            if differing
        ]


def kept_settings(own: ModelConfig, file: ConfigFile, *, name: str) -> str:
    """The settings of a file that a job does not touch in a version, in words; empty where they agree."""
    differing = _given_differences(own, file, sections=("data", "demand", "decision"))
    if not differing:
        return ""
    return (
        f"version {name} keeps its own settings where {file.path} differs: {_words(differing, name=name)}. Serving "
        "with the file lays its decision over the version's; training with it changes the others"
    )


def _words(differing: Mapping[str, Difference], *, name: str) -> str:
    """Such as "decision.guardrails.max_move: 0.1 in version 3, 0.05 in the file"."""
    said = (f"{key}: {one.version!r} in version {name}, {one.file!r} in the file" for key, one in differing.items())
    return "; ".join(said)


def _given_differences(own: ModelConfig, file: ConfigFile, *, sections: Sequence[str]) -> dict[str, Difference]:
    """Where the keys that a file gives have other values than the version's."""
    ours, theirs = (each.model_dump(mode="json", include=set(sections)) for each in (own, file.config))
    named = {path for section in sections for path in leaves(file.given.get(section) or {}, section)}
    return {
        path: difference
        for path, difference in _differences(ours, theirs).items()
        if any(path == leaf or path.startswith(f"{leaf}.") for leaf in named)
    }


def served_config(own: ModelConfig, file: ConfigFile, *, name: str) -> ServedConfig:
    """Lays what a file gives in `decision` over a version's own settings, key by key.

    What the file leaves out stays the version's own, and so do `data` and `demand`, which its states rest on.

    Raises:
        ConfigError: The two contradict each other.
    """
    if not file.given:
        return ServedConfig(own)
    given = file.given.get("decision") or {}
    packed = own.model_dump(mode="json")
    values = {**packed, "decision": merge(packed["decision"], given)}
    config = parse_model_config(values, where=f"{file.path} over version {name}") if given else own
    ignored = _given_differences(own, file, sections=("data", "demand"))
    return ServedConfig(config, _differences(packed, config.model_dump(mode="json")), ignored)


def _differences(version: Mapping[str, Any], file: Mapping[str, Any]) -> dict[str, Difference]:
    ours, theirs = leaves(version), leaves(file)
    paths = dict.fromkeys([*ours, *theirs])
    return {path: Difference(ours.get(path), theirs.get(path)) for path in paths if ours.get(path) != theirs.get(path)}


def leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Each value by its path, such as "decision.guardrails.max_move"."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{prefix}.{key}" if prefix else str(key)
        found |= leaves(value, path) if isinstance(value, Mapping) and value else {path: value}
    return found
