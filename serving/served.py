"""What prices are answered by: verified versions, and what persons have switched and tried."""

import datetime as dt
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pricing.config import ModelConfig
from pricing.decision.control import NO_CONTROL, Control
from pricing.decision.pricer import Pricer
from pricing.decision.request import PriceRequest
from pricing.errors import PricingError, VersionError
from pricing.registry.published import Pointer, PublishedVersion
from pricing.registry.version import LoadedVersion, load
from pricing.served_config import ServedConfig, served_config
from serving.settings import Settings

NO_VERSION = "none"  # the name of what answers where no version does
FollowerState = Literal["starting", "following", "none", "unreachable", "refused"]
Marks = tuple[tuple[str, int, int, int], ...]

# What a bad version or file makes of the code that reads it and prices by it.
VERSION_ERRORS = (
    *(PricingError, ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError),
    *(SyntaxError, TypeError, ValueError),  # RecursionError is a RuntimeError
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Served:
    """A version that prices, or the rules where there is none.

    Attributes:
        name: The version's number, as decisions carry it; "none" without one.
        pricer: Prices by it.
        settings: The configuration that its pricer uses, and where a version and the user's file differ.
        version: The version itself; None without one.
        rules: Prices where it fails: rules with its facts, costs and list prices; None without facts.
        marks: Its files as they were when they were verified.
    """

    name: str
    pricer: Pricer
    settings: ServedConfig
    version: LoadedVersion | None = None
    rules: Pricer | None = None
    marks: Marks = ()

    @property
    def config(self) -> ModelConfig:
        """The configuration that its pricer uses."""
        return self.settings.config

    @property
    def checksum(self) -> str:
        """The checksum of the version's header; empty without one."""
        return "" if self.version is None else str(self.version.meta["checksum"])

    def golden(self) -> tuple[list[PriceRequest], dt.date]:
        """The version's golden requests and the day on which they are priced; none without a version."""
        if self.version is None:
            return [], dt.date.min
        golden = self.version.meta["golden"]
        requests = [PriceRequest.model_validate(case["request"]) for case in golden["cases"]]
        return requests, dt.date.fromisoformat(golden["today"])


@dataclass(frozen=True, eq=False)
class Current:
    """What prices are answered by; a request reads it once.

    Attributes:
        champion: The champion, or the rules.
        arms: Number → version that experiments try beside it.
        control: What persons have switched and tried.
        pointer: What named the versions; None where nothing did.
    """

    champion: Served
    arms: Mapping[str, Served] = field(default_factory=dict)
    control: Control = NO_CONTROL
    pointer: Pointer | None = None


@dataclass(frozen=True)
class Following:
    """How following goes.

    Attributes:
        state: The outcome of the last look.
        champion: The number that the published pointer names, as far as it is known.
        detail: What went wrong last, in one line.
        refused: Number → why that version is not served.
        answered_at: When the store last answered, seconds since 1970.
    """

    state: FollowerState = "starting"
    champion: str | None = None
    detail: str | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    answered_at: float | None = None


def open_served(version: PublishedVersion, folder: Path, settings: Settings) -> Served:
    """Maps a version, compares its checksums and golden requests, and prices one with the settings that count.

    Raises:
        VersionError: It is damaged, another one, or does not answer as it did when it was packed.
        ConfigError: The user's file contradicts it.
    """
    found, loaded = marks(folder), load(folder)
    if loaded.meta["checksum"] != version.checksum:
        raise VersionError(f"{folder}: is another version than the pointer names")
    requests = loaded.verify().requests
    config = served_config(loaded.config, settings.file, name=version.number)
    for line in config.lines(version.number, file=settings.file.path):
        _log.warning("%s", line)
    jump = settings.config.serving.largest_jump
    pricer = loaded.pricer(version=version.number, config=config.config, largest_jump=jump)
    rules = Pricer(None, loaded.facts, config.config, version=NO_VERSION, largest_jump=jump)
    served = Served(version.number, pricer, config, loaded, rules, found)
    golden, today = served.golden()
    pricer.price(golden[:1], today=today)
    _log.info("version %s answered %d golden requests", version.number, requests)
    return served


def marks(folder: Path) -> Marks:
    """What tells, without reading them, that a version's files were changed; empty without a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    stats = ((path.relative_to(folder).as_posix(), path.stat()) for path in paths)
    return tuple((name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in stats)
