"""The configuration: two files of defaults, a user's over them, and what counts beside a version's own settings."""

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import BaseModel, ValidationError, field_validator, model_validator

from pricing.config_models import (
    ConsoleConfig,
    DataConfig,
    DecisionConfig,
    DemandConfig,
    MonitoringConfig,
    RegistryConfig,
    ScaleConfig,
    Section,
    ServingConfig,
    TuningConfig,
)
from pricing.errors import ETL, ConfigError, nearest
from pricing.fileio import holds_password, redact_text, redact_url
from pricing.paths import SETTINGS

DEFAULT_PATH = SETTINGS / "default.yaml"
EXPERT_PATH = SETTINGS / "expert.yaml"
WEEKLY_PATH = SETTINGS / "weekly.yaml"
_PLANS = ("promotions", "events", "deliveries")  # tables of `etl`, and keys of `data`


class ModelConfig(Section):
    """The sections that a model version carries: all that a price depends on."""

    data: DataConfig
    demand: DemandConfig
    decision: DecisionConfig

    @model_validator(mode="after")
    def _new_rows_suffice(self) -> Self:
        kept = self.demand.checkpoint
        window = self.data.list_price_window
        if window > kept:
            raise ValueError(
                f"data.list_price_window {window} passes demand.checkpoint {kept}: a version does not keep enough "
                "periods to derive newer rows as in the whole history; lower the first or raise the second"
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
    console: ConsoleConfig
    scale: ScaleConfig
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

    def now(self) -> dt.datetime:
        """The present moment where the shop is, whose day `date` and `day_of_week` are counted from."""
        return dt.datetime.now(dt.UTC).astimezone(self.zone)

    def end_of(self, day: dt.date) -> dt.datetime:
        """The moment when a day ends where the shop is; by UTC without a time zone.

        Raises ValueError for a day after 2199, of which other zones may have none.
        """
        if day.year > 2199:
            raise ValueError(f"{day}: expected a day of this century or the next")
        return dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), tzinfo=self.zone or dt.UTC)

    def moment_of(self, given: dt.date) -> dt.datetime:
        """A moment with its zone, this machine's where it has none; of a bare day its end where the shop is."""
        return given.astimezone() if isinstance(given, dt.datetime) else self.end_of(given)

    @model_validator(mode="after")
    def _monitoring_finds_what_it_needs(self) -> Self:
        needed = self.monitoring.days_looked_at
        kept = {"registry.keep_days": self.registry.keep_days, "serving.log_days": self.serving.log_days}
        for name, days in kept.items():
            if 0 < days < needed:
                raise ValueError(
                    f"{name} {days} is less than the {needed} days that monitoring looks back (window, score_window): "
                    "raise it, or set it to 0, and nothing is deleted"
                )
        return self


def load_config(path: str | Path | None = None) -> Config:
    """Reads config/default.yaml and config/expert.yaml, and lays the file at `path` over them, key by key.

    A mapping in the user's file is merged into the defaults; anything else replaces it.
    Where the file says that the panel's period is the week, config/weekly.yaml lies between the two: all that counts
    periods follows. `data` takes the time zone and the plans that `etl` keeps.

    Args:
        path: The user's file, or the bare name of one such as "small"; see `config_file`.

    Raises:
        ConfigError: The file is missing or is no YAML mapping; a key is unknown (the nearest known one is
            named) or given twice; a value has the wrong type or is out of range.

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
    return read_config_file(path).config


@dataclass(frozen=True)
class ConfigFile:
    """A configuration as a person gave it."""

    config: Config  # the defaults, with what the file gives over them, and the plans that `etl` reads
    path: Path | None = None  # the file; None for the defaults alone
    given: Mapping[str, Any] = field(default_factory=dict)  # what the file gives


def read_config_file(path: str | Path | None = None) -> ConfigFile:
    """Reads as `load_config` does, and keeps apart what the file itself gives.

    Raises:
        ConfigError: As `load_config`.
    """
    defaults = merge(read_mapping(EXPERT_PATH), read_mapping(DEFAULT_PATH))
    if path is None:
        return ConfigFile(_validated(Config, defaults, str(DEFAULT_PATH)))
    file = config_file(path)
    given = read_mapping(file)
    values = merge(_for_period(defaults, given), given)
    config = _with_data_completed(_validated(Config, values, str(path)))
    return ConfigFile(config, file.absolute(), given)


def _texts(value: Any) -> Iterator[str]:
    """All texts of nested mappings and lists."""
    if isinstance(value, str):
        yield value
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _with_data_completed(config: Config) -> Config:
    """Add to section `data`, which a version carries, what other keys settle.

    That is the shop's time zone, and each plan that `etl` reads where `data` names none itself (null).
    """
    tables = (config.etl or {}).get("tables")
    given = tables if isinstance(tables, Mapping) else {}
    found = {name: ETL for name in _PLANS if name in given and getattr(config.data, name) is None}
    if config.time_zone is not None:
        found["time_zone"] = config.time_zone
    return config.model_copy(update={"data": config.data.model_copy(update=found)})


def _for_period(defaults: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The default values for the period that a configuration names."""
    data = given.get("data")
    weekly = isinstance(data, Mapping) and data.get("period") == "week"
    return merge(defaults, read_mapping(WEEKLY_PATH)) if weekly else defaults


def parse_model_config(values: Mapping[str, Any], *, where: str) -> ModelConfig:
    """Checks the sections that a model version carries: all of their keys, and no others; `where` names them in errors.

    Raises:
        ConfigError: As `load_config`.
    """
    return _validated(ModelConfig, values, where)


_Checked = TypeVar("_Checked", bound=ModelConfig)


def _validated(kind: type[_Checked], values: Mapping[str, Any], where: str) -> _Checked:
    try:
        # Strict, but for dates and pairs, which YAML and JSON write as texts and lists.
        return kind.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(_in_words(dict(fault)) for fault in error.errors())) from error


def _in_words(fault: Mapping[str, Any]) -> str:
    """One of pydantic's errors by key and value; an unknown key with the path of the most similar one."""
    path = ".".join(map(str, fault["loc"]))
    found = fault["input"]
    if fault["type"] == "extra_forbidden":
        near = nearest(path, _paths(Config), cutoff=0.68)
        return f"unknown key {path}" + (f"; did you mean {near}?" if near else "")

    message = str(fault["msg"]).removeprefix("Value error, ")
    if isinstance(found, bool):
        message += "; YAML reads yes, no, on and off as true or false: quote such a word, or give a number"
    if not path:
        return message
    if isinstance(found, Mapping):  # settings that contradict each other, which the message names
        return f"{path}: {message}"
    shown = redact_url(found) if isinstance(found, str) else found
    return f"{path}: {message}, found {redact_text(repr(shown))}"


def _paths(kind: type[BaseModel], above: str = "") -> Iterator[str]:
    """The dotted path of every key and section of a model."""
    for name, about in kind.model_fields.items():
        yield above + name
        for part in (about.annotation, *get_args(about.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from _paths(part, f"{above}{name}.")


_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the parser in C is ten times as fast


class _Loader(_Safe):  # type: ignore[misc]
    """Refuses a key that is given twice: YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Builds a mapping of which no key is given twice."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)

        made = dict(super().construct_mapping(node, deep=deep))
        for key in made:
            if not isinstance(key, str):
                problem = f"the key {key!r} is no text: quote it"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return made


def read_mapping(path: Path) -> dict[str, Any]:
    """Reads the mapping that a YAML file holds; an empty file holds an empty one.

    Raises:
        ConfigError: The file cannot be read, is no YAML, holds something else, or gives a key twice.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the path of a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from error
    if values is not None and not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, found {type(values).__name__}")
    return values or {}


def config_file(given: str | Path) -> Path:
    """The file itself, or where there is none of that name, the one that lies beside the default one, if any."""
    path, shipped = Path(given), SETTINGS / f"{given}.yaml"
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
    """Tells if two mappings can be merged: half of two kinds would be neither."""
    return bool(new.get("kind", old.get("kind")) == old.get("kind"))


@dataclass(frozen=True)
class ServedConfig:
    """The settings that a version is served with: its own, with those of `decision` that a file gives over them."""

    config: ModelConfig  # the settings that count
    # Key of `decision` whose value in the file counts → the values in `version` and `file`.
    replaced: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # Key of `data` or `demand` whose value in the file does not, since the version was trained with its own.
    ignored: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def lines(self, name: str, *, file: object) -> list[str]:
        """Names the values that count where version `name` and the file differ, a sentence each."""
        trained = "the version's values count, since it was trained with them; train with the file to change them"
        lines = []
        for differing, which in ((self.replaced, "the file's values count"), (self.ignored, trained)):
            both = [f"{key}: {values['version']!r} and {values['file']!r}" for key, values in differing.items()]
            if both:
                lines.append(f"version {name} and {file} differ, and {which}: {'; '.join(both)}")
        return lines


def served_config(own: ModelConfig, file: ConfigFile, *, name: str) -> ServedConfig:
    """Lays what a file gives in `decision` over a version's own settings, key by key.

    What the file leaves out stays the version's own, and so do `data` and `demand`, which its states rest on.

    Raises:
        ConfigError: The two contradict each other.
    """
    packed = own.model_dump(mode="json")
    config = own
    given = file.given.get("decision")
    if given:
        values = {**packed, "decision": merge(packed["decision"], given)}
        config = parse_model_config(values, where=f"{file.path} over version {name}")

    ours = leaves(packed)
    served = leaves(config.model_dump(mode="json"))
    trained = leaves({part: file.given.get(part) or {} for part in ("data", "demand")})
    theirs = leaves(file.config.model_dump(mode="json"))
    return ServedConfig(
        config,
        replaced=_differing(ours, served),
        ignored=_differing(ours, {path: theirs.get(path) for path in trained}),
    )


def _differing(version: Mapping[str, Any], file: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The values of `file` that are others in `version`, with those, by path."""
    return {
        path: {"version": version.get(path), "file": value}
        for path, value in file.items()
        if version.get(path) != value
    }


def leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Each value by its path, such as "decision.guardrails.max_move"."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{prefix}.{key}" if prefix else str(key)
        found |= leaves(value, path) if isinstance(value, Mapping) and value else {path: value}
    return found
