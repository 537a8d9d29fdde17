"""The configuration: one YAML file of defaults, a user's file over it, read once into frozen models."""

import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ValidationError,
    model_validator,
)

from pricing.config_models import (
    DataConfig,
    DecisionConfig,
    DemandConfig,
    MonitoringConfig,
    RegistryConfig,
    Section,
    ServingConfig,
    TuningConfig,
)
from pricing.errors import ConfigError, nearest
from pricing.paths import SETTINGS

_log = logging.getLogger(__name__)

# Keys that versions packed by earlier releases carry, and what does their work now.
RETIRED = {
    ("decision", "min_gain"): "decision.menu_cost does its work",
    ("decision", "rule_list_trust"): "a rule keeps the price now",
    ("decision", "category_list_trust"): "decision.cvar_level does its work",
}
# Former name of a key or section → its name now, both as paths such as "decision.menu_cost". Only names belong here: a
# key whose values mean something else now is retired. A key of `demand` that is renamed is one of `tuning.space`, too.
FORMER: Mapping[str, str] = {
    "monitoring.doors": "monitoring.endpoints",
    "serving.trial": "serving.strategy_test",
}
DEFAULT_PATH = SETTINGS / "default.yaml"


class ModelConfig(Section):
    """What a price depends on: the sections that a model version carries."""

    data: DataConfig
    demand: DemandConfig
    decision: DecisionConfig

    @model_validator(mode="after")
    def _new_rows_suffice(self) -> Self:
        kept = self.demand.checkpoint
        windows = {"list_price_window": self.data.list_price_window}
        windows |= {"zero_window": self.data.zero_window} if self.data.zero_run is not None else {}
        for name, window in windows.items():
            if window > kept:
                raise ValueError(
                    f"data.{name} {window} passes demand.checkpoint {kept}: a version does not keep enough periods to "
                    f"derive newer rows as in the whole history; lower the first or raise the second"
                )
        return self

    @model_validator(mode="after")
    def _margins_agree(self) -> Self:
        least, high = self.decision.guardrails.min_margin, self.decision.guardrails.band[1]
        for category, margin in self.data.margin.items():
            if least > 0 and (1 - margin) / (1 - least) > high:
                raise ValueError(
                    f"decision.guardrails.min_margin {least} contradicts decision.guardrails.band {high}: "
                    f"with data.margin {category} {margin} the margin's floor lies above the band"
                )
        return self


class Config(ModelConfig):
    """Everything a person may tune."""

    registry: RegistryConfig
    serving: ServingConfig
    monitoring: MonitoringConfig
    tuning: TuningConfig


def load_config(path: str | Path | None = None, *, former: Mapping[str, str] = FORMER) -> Config:
    """Reads config/default.yaml and lays the file at `path` over it, key by key.

    A mapping in the user's file is merged into the default one; anything else replaces it, and so do choices a range.
    A key that it gives by its former name counts, and a warning names the present one.

    Args:
        path: The user's file, or where there is none of that name, the bare name of one that lies beside the default
            one, such as "weekly".
        former: Former name of a key or section → its name now, as paths.

    Raises:
        ConfigError: The file is missing or is no YAML mapping; a key is unknown (the nearest known one is
            named), or given by its former and its present name; a value has the wrong type or is out of range.

    Example:
        >>> from pricing.config import load_config
        >>> load_config().demand.horizon  # days
        28
        >>> weekly = load_config("weekly")  # the shipped config/weekly.yaml
        >>> weekly.data.period, weekly.demand.horizon
        ('week', 4)
    """
    values = _read(DEFAULT_PATH)
    if path is not None:
        values = _merge(values, _renamed(_read(_named(Path(path))), former, where=str(path)))
    return _validated(Config, values, str(path or DEFAULT_PATH))


def parse_config(values: dict[str, Any], *, where: str, former: Mapping[str, str] = FORMER) -> Config:
    """Checks a whole configuration.

    Args:
        values: Sections by name.
        where: Names the source in messages.
        former: As in `load_config`.

    Raises:
        ConfigError: As `load_config`.
    """
    return _validated(Config, _renamed(values, former, where=where), where)


def parse_model_config(values: Mapping[str, Any], *, where: str, former: Mapping[str, str] = FORMER) -> ModelConfig:
    """Checks the configuration that a model version carries, whichever release of this library packed it.

    A key that it lacks takes the value that its section declares for older files, else the shipped one; former names
    count; retired keys and sections that no price depends on are left out unread.

    Args:
        values: Sections by name.
        where: Names the source in messages.
        former: As in `load_config`.

    Raises:
        ConfigError: As `load_config`, also for a section that is unknown.
    """
    values = _renamed(values, former, where=where, level=logging.DEBUG)  # nobody can edit a version
    elsewhere = Config.model_fields.keys() - ModelConfig.model_fields.keys()
    mine = {name: _without_retired(name, section) for name, section in values.items() if name not in elsewhere}
    shipped = _read(DEFAULT_PATH) if DEFAULT_PATH.is_file() else {}  # a version's own copy of the code is without
    return _validated(ModelConfig, _completed(ModelConfig, mine, shipped), where)


def _renamed(
    values: Mapping[str, Any], former: Mapping[str, str], *, where: str, level: int = logging.WARNING
) -> dict[str, Any]:
    """The values under the names that keys and sections have now; each one that is renamed is logged."""
    renamed: dict[str, Any] = copy.deepcopy(dict(values))
    for old, new in former.items():
        *place, name = old.split(".")
        section = _section(renamed, place)
        if section is None or name not in section:
            continue
        *new_place, new_name = new.split(".")
        target = _section(renamed, new_place, make=True)
        if target is None:
            continue  # no mapping is where one should be, which is refused as such
        if new_name in target:
            raise ConfigError(f"{where}: gives both {old} and {new}, which is its name now; take {old} out")
        target[new_name] = section.pop(name)
        _log.log(level, "%s: %s is named %s now; the former name is still read, but rename it", where, old, new)
        above = _section(renamed, place[:-1])
        if place and not section and above is not None:  # nothing is left of a section that may be known no more
            del above[place[-1]]
    return renamed


def _section(values: dict[str, Any], path: Sequence[str], *, make: bool = False) -> dict[str, Any] | None:
    """The mapping at `path`, which is made where nothing is; None where there is no mapping."""
    for name in path:
        if make:
            values.setdefault(name, {})
        below = values.get(name)
        if not isinstance(below, dict):
            return None
        values = below
    return values


def _without_retired(name: str, section: Any) -> Any:
    if not isinstance(section, Mapping):
        return section
    return {key: value for key, value in section.items() if (name, key) not in RETIRED}


_Checked = TypeVar("_Checked", bound=ModelConfig)


def _validated(kind: type[_Checked], values: dict[str, Any], where: str) -> _Checked:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = [_explain(dict(fault)) for fault in error.errors()]
        raise ConfigError(f"{where}: " + "; ".join(lines)) from error


def _completed(section: type[BaseModel], values: Mapping[str, Any], shipped: Mapping[str, Any]) -> dict[str, Any]:
    """The values with every key that the section needs and they lack taken from the shipped ones."""
    complete = dict(values)
    for name, field in section.model_fields.items():
        inner, ours, theirs = field.annotation, complete.get(name), shipped.get(name)
        if name not in complete and field.is_required() and name in shipped:
            complete[name] = theirs
        elif isinstance(inner, type) and issubclass(inner, BaseModel) and isinstance(ours, dict):
            complete[name] = _completed(inner, ours, theirs if isinstance(theirs, dict) else {})
    return complete


def _named(path: Path) -> Path:
    shipped = SETTINGS / f"{path}.yaml"
    bare = len(path.parts) == 1 and not path.suffix
    return shipped if bare and not path.exists() and shipped.is_file() else path


def _read(path: Path) -> dict[str, Any]:
    try:
        values = _parsed(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the path of a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, found {type(values).__name__}")
    return values


def _parsed(text: str) -> Any:
    """YAML by PyYAML's parser in C, ten times as fast; errors are those of its parser in Python."""
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        return yaml.safe_load(text)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        # What tuning may try is either a range or choices: half of one and half of the other would be neither.
        if isinstance(old, dict) and isinstance(value, dict) and "choices" not in {*old, *value}:
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged


def _explain(fault: dict[str, Any]) -> str:
    if not fault["loc"]:
        return str(fault["msg"])  # two sections disagree, and the message names both keys
    where = ".".join(str(part) for part in fault["loc"])
    if fault["loc"] in RETIRED:
        return f"{where} is no longer a setting; take it out: {RETIRED[fault['loc']]}"
    if fault["type"] != "extra_forbidden":
        if isinstance(fault["input"], dict):  # settings that contradict each other: the sentence names them
            return f"{where}: {fault['msg'].removeprefix('Value error, ')}"
        return f"{where}: {fault['msg']} (found {fault['input']!r})"
    section: Any = Config
    for part in fault["loc"][:-1]:
        field = section.model_fields.get(part) if isinstance(section, type) and issubclass(section, BaseModel) else None
        section = field.annotation if field is not None else None
    known = list(section.model_fields) if isinstance(section, type) and issubclass(section, BaseModel) else []
    near = nearest(str(fault["loc"][-1]), known, cutoff=0.0)
    return f"unknown key {where}" + (f"; the nearest known one is {near}" if near else "")
