"""The configuration: one YAML file of defaults, a user's file over it, read once into frozen models."""

import copy
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ValidationError, field_validator, model_validator

from pricing.config_file import KeyPath, key_comments, key_lines, read_mapping
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
from pricing.config_schema import Place, Words, editor_schema, find
from pricing.errors import ETL, ConfigError
from pricing.fileio import holds_password
from pricing.paths import SETTINGS

_log = logging.getLogger(__name__)

# Keys that versions packed by earlier releases carry, and what does their work now.
RETIRED: Mapping[KeyPath, str] = {
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
_FRACTION = "int_from_float"  # pydantic's name of the fault that a number is not whole
_LIMITS = (  # and of those that lie beyond a limit
    *("greater_than", "greater_than_equal", "less_than", "less_than_equal"),
    *("string_too_short", "string_too_long", _FRACTION),
)
DEFAULT_PATH = SETTINGS / "default.yaml"
WEEKLY_PATH = SETTINGS / "weekly.yaml"
SCHEMA_PATH = SETTINGS / "schema.json"
_PLANS = ("promotions", "events", "deliveries")  # tables of `etl`, and keys of `data`


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

    time_zone: str | None = None
    etl: dict[str, Any] | None = None  # checked by the program etl, which alone knows what it means
    registry: RegistryConfig
    serving: ServingConfig
    monitoring: MonitoringConfig
    tuning: TuningConfig

    @field_validator("time_zone")
    @classmethod
    def _is_a_zone(cls, value: str | None) -> str | None:
        try:
            return value if value is None else ZoneInfo(value).key
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(
                f"{value!r} is no time zone; give one such as Europe/Berlin or America/New_York"
            ) from error

    @field_validator("etl")
    @classmethod
    def _names_its_passwords(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        """Each run logs its configuration."""
        if any(holds_password(text) for text in _texts(value)):
            raise ValueError(
                "holds a password, which would be logged with the configuration: put it in an environment variable and "
                "write its name, such as postgresql://shop:${SHOP_PASSWORD}@db/shop#orders"
            )
        return value

    @property
    def zone(self) -> ZoneInfo | None:
        """The shop's time zone, whose day is today; None: the machine's own."""
        return None if self.time_zone is None else ZoneInfo(self.time_zone)

    @model_validator(mode="after")
    def _monitoring_finds_what_it_needs(self) -> Self:
        needed = self.monitoring.days_looked_at
        kept = {"registry.keep_days": self.registry.keep_days, "serving.log_days": self.serving.log_days}
        for name, days in kept.items():
            if 0 < days < needed:
                raise ValueError(
                    f"{name} {days} is less than the {needed} days that monitoring looks back (score_window, windows, "
                    "maturities): raise it, or set it to 0, and nothing is deleted"
                )
        return self


def load_config(path: str | Path | None = None, *, former: Mapping[str, str] = FORMER) -> Config:
    """Reads config/default.yaml and lays the file at `path` over it, key by key.

    A mapping in the user's file is merged into the default one; anything else replaces it, and so do choices a range.
    A key that it gives by its former name counts, and a warning names the present one. Where the file says that the
    panel's period is the week, config/weekly.yaml lies between the two: all that counts periods follows. Plans that
    `etl` keeps count, as `_with_etl_plans` says.

    Args:
        path: The user's file, or where there is none of that name, the bare name of one that lies beside the default
            one, such as "small".
        former: Former name of a key or section → its name now, as paths.

    Raises:
        ConfigError: The file is missing or is no YAML mapping; a key is unknown (the nearest known one is
            named), given twice, or by its former and its present name; a value has the wrong type or is out of range.

    Example:
        >>> from pricing.config import load_config
        >>> load_config().demand.horizon  # days
        28
        >>> from pathlib import Path
        >>> Path("mine.yaml").write_text("data: {period: week}")
        20
        >>> load_config("mine.yaml").demand.horizon  # weeks
        4
    """
    return read_config_file(path, former=former).config


@dataclass(frozen=True)
class ConfigFile:
    """A configuration as a person gave it.

    Attributes:
        config: The defaults, with what the file gives over them, and the plans that `etl` reads.
        path: The file; None for the defaults alone.
        given: What the file gives, by present names.
    """

    config: Config
    path: Path | None = None
    given: Mapping[str, Any] = field(default_factory=dict)


def read_config_file(path: str | Path | None = None, *, former: Mapping[str, str] = FORMER) -> ConfigFile:
    """As `load_config`, and keeps apart what the file itself gives.

    Raises:
        ConfigError: As `load_config`.
    """
    defaults = read_mapping(DEFAULT_PATH)
    if path is None:
        return ConfigFile(_validated(Config, defaults, str(DEFAULT_PATH)))
    file = _named(Path(path))
    given = _renamed(read_mapping(file), former, where=str(path))
    values = merge(_for_period(defaults, given), given)
    config = _with_etl_plans(_validated(Config, values, str(path), file=file, former=former))
    return ConfigFile(config, file.absolute(), given)


def _texts(value: Any) -> Iterator[str]:
    """All texts of nested mappings and lists."""
    if isinstance(value, str):
        yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(one)


def _with_etl_plans(config: Config) -> Config:
    """The configuration in which a plan that `etl` reads counts, where `data` names none itself (null)."""
    tables = (config.etl or {}).get("tables")
    found = {
        name: ETL
        for name in _PLANS
        if isinstance(tables, Mapping) and name in tables and getattr(config.data, name) is None
    }
    return config.model_copy(update={"data": config.data.model_copy(update=found)}) if found else config


def _for_period(defaults: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The default values for the period that a configuration names; none where there are none to begin with.

    Raises:
        ConfigError: Those of the week are missing.
    """
    data = given.get("data")
    if not defaults or not isinstance(data, Mapping) or data.get("period") != "week":
        return defaults
    if not WEEKLY_PATH.is_file():
        raise ConfigError(
            f"{WEEKLY_PATH} is missing, which holds the defaults of data.period week; those of the day would count "
            "instead: restore it, or install the library anew"
        )
    return merge(defaults, read_mapping(WEEKLY_PATH))


def parse_config(values: dict[str, Any], *, where: str, former: Mapping[str, str] = FORMER) -> Config:
    """Checks a whole configuration.

    Args:
        values: Sections by name.
        where: Names the source in messages.
        former: As in `load_config`.

    Raises:
        ConfigError: As `load_config`.
    """
    return _validated(Config, _renamed(values, former, where=where), where, former=former)


def parse_model_config(values: Mapping[str, Any], *, where: str, former: Mapping[str, str] = FORMER) -> ModelConfig:
    """Checks the configuration that a model version carries, whichever release of this library packed it.

    A key that it lacks takes the value that its section declares for older files, else the shipped one; former names
    count; retired keys and sections that no price depends on are left out unread. A value beyond a limit that came
    later counts as it was packed, and a warning names it.

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
    shipped = _for_period(_shipped(), mine)
    return as_packed(_completed(ModelConfig, mine, shipped), where=where)


def as_packed(values: Mapping[str, Any], *, where: str) -> ModelConfig:
    """Checks a version's configuration; what only lies beyond a limit that came later counts as it was packed.

    Refusing it would take a champion out of service with the update of the library that brought the limit. A fraction
    where a whole number is expected now counts as the next one, as it did when it was packed.

    Args:
        values: Sections by name, none of their keys missing.
        where: Names the source in messages.

    Raises:
        ConfigError: Something else is wrong.
    """
    within: Any = values
    counting: dict[Place, Any] = {}
    warnings: list[str] = []
    while faults := _beyond_limits(within):  # again where the next whole number lies beyond a limit
        for fault in faults:
            place, nearest = find(Config, fault["loc"]), _nearest(fault)
            within = _replaced(within, place.keys, nearest)
            if place not in counting:
                fraction = fault["type"] == _FRACTION
                counting[place] = nearest if fraction else fault["input"]
                counts = f"as {nearest}" if fraction else "as packed"
                warnings.append(f"{place.path} is {fault['input']}, now limited to {place.may_be}; it counts {counts}")
    config: Any = _validated(ModelConfig, within, where)
    for words in warnings:
        _log.warning("%s: %s", where, words)
    for place, value in counting.items():
        config = _replaced(config, place.keys, value)
    packed: ModelConfig = config
    return packed


def _beyond_limits(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What pydantic finds to lie beyond a limit, and nothing else that may be wrong."""
    try:
        ModelConfig.model_validate(values)
    except ValidationError as error:
        return [dict(fault) for fault in error.errors() if fault["type"] in _LIMITS]
    return []


def _nearest(fault: Mapping[str, Any]) -> Any:
    """The value nearest to the one found that keeps the limit; so two that were in order stay so."""
    found = fault["input"]
    if fault["type"] == _FRACTION:
        return math.ceil(found)
    (limit,) = fault["ctx"].values()
    match fault["type"]:
        case "greater_than":
            return limit + 1 if isinstance(limit, int) else math.nextafter(limit, math.inf)
        case "less_than":
            return limit - 1 if isinstance(limit, int) else math.nextafter(limit, -math.inf)
        case "string_too_short":
            return found.ljust(limit)
        case "string_too_long":
            return found[:limit]
        case _:
            return limit


def _replaced(part: Any, keys: KeyPath, value: Any) -> Any:
    """A copy of nested sections, mappings and lists with another value at one place."""
    if not keys:
        return value
    key, *rest = keys
    if isinstance(part, BaseModel):
        return part.model_copy(update={str(key): _replaced(getattr(part, str(key)), tuple(rest), value)})
    if isinstance(part, Mapping):
        return {**part, key: _replaced(part[key], tuple(rest), value)}
    items = [_replaced(item, tuple(rest), value) if number == key else item for number, item in enumerate(part)]
    return tuple(items) if isinstance(part, tuple) else items


def _shipped() -> dict[str, Any]:
    return read_mapping(DEFAULT_PATH) if DEFAULT_PATH.is_file() else {}  # a version's own copy of the code is without


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


def _validated(
    kind: type[_Checked],
    values: Mapping[str, Any],
    where: str,
    *,
    file: Path | None = None,
    former: Mapping[str, str] = FORMER,
) -> _Checked:
    """The checked configuration; `file` is where its faults are looked up by line."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = key_lines(file.read_text(encoding="utf-8")) if file is not None else {}
        for old, new in former.items():
            place, now = tuple(old.split(".")), tuple(new.split("."))
            n = len(place)
            lines |= {(*now, *keys[n:]): line for keys, line in lines.items() if keys[:n] == place}
        words = Words(Config, former=former, retired=RETIRED, lines=lines)
        faults = [words.of(dict(fault)) for fault in error.errors()]
        raise ConfigError(f"{where}: " + "; ".join(dict.fromkeys(faults))) from error


def _completed(section: type[BaseModel], values: Mapping[str, Any], shipped: Mapping[str, Any]) -> dict[str, Any]:
    """The values with every key that the section needs and they lack taken from the shipped ones."""
    complete = dict(values)
    for name, about in section.model_fields.items():
        inner, ours, theirs = about.annotation, complete.get(name), shipped.get(name)
        if name not in complete and about.is_required() and name in shipped:
            complete[name] = theirs
        elif isinstance(inner, type) and issubclass(inner, BaseModel) and isinstance(ours, dict):
            complete[name] = _completed(inner, ours, theirs if isinstance(theirs, dict) else {})
    return complete


def _named(path: Path) -> Path:
    shipped = SETTINGS / f"{path}.yaml"
    bare = len(path.parts) == 1 and not path.suffix
    return shipped if bare and not path.exists() and shipped.is_file() else path


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lays some values over others, key by key."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and _of_one_kind(old, value):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def _of_one_kind(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two mappings can be merged: half a range and half of choices would be neither, nor would two kinds."""
    return "choices" not in {*old, *new} and new.get("kind", old.get("kind")) == old.get("kind")


def schema_for_editors() -> dict[str, Any]:
    """The JSON schema of configuration files, which config/schema.json holds."""
    text = DEFAULT_PATH.read_text(encoding="utf-8")
    return editor_schema(Config, shipped=read_mapping(DEFAULT_PATH), comments=key_comments(text))
