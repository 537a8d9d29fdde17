"""Load the served version in a worker: map the files that the pointer names, warm up, swap between requests."""

import datetime as dt
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pricing.config import ModelConfig
from pricing.decision.pricer import Pricer
from pricing.decision.request import PriceRequest
from pricing.errors import PricingError, VersionError
from pricing.registry.version import LoadedVersion, load
from pricing.served_config import ServedConfig, served_config
from serving.current_version import (
    NO_VERSION,
    FollowerStatus,
    Pointer,
    pointed_folder,
    read_follower_status,
    read_pointer,
)
from serving.settings import Settings

CHECK_SECONDS = 0.2
# After this long, readiness no longer waits for the follower's first report: without a version that may be a download,
# while one that was served last, or baked in, answers as well until there is another.
FIRST_ATTEMPT_SECONDS = 120.0
FIRST_ATTEMPT_SECONDS_WITH_VERSION = 5.0
RETRY_SECONDS = 10.0  # a version that could not be read from disk is tried again after this long

# What a bad version or file makes of the code that reads it and prices by it.
VERSION_ERRORS = (
    PricingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,  # RecursionError is one
    SyntaxError,
    TypeError,
    ValueError,
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Served:
    """The version that prices a request from start to end, or the rules when there is none.

    Attributes:
        name: The version's number, as decisions carry it; "none" without one.
        pricer: Prices by it.
        settings: The configuration that its pricer uses, and where a version and the user's file differ.
        version: The version itself; None without one.
        tried: Whether an experiment tries it beside the champion.
        rules: Prices where it fails: rules with its facts, costs and list prices; None without facts.
        cached_bodies: Cache of response bodies that depend only on the version, by name.
    """

    name: str
    pricer: Pricer
    settings: ServedConfig
    version: LoadedVersion | None
    tried: bool = False
    rules: Pricer | None = None
    cached_bodies: dict[str, bytes] = field(default_factory=dict)

    @property
    def config(self) -> ModelConfig:
        """The configuration that its pricer uses."""
        return self.settings.config


class Champion:
    """Holds what is served now. Any thread may read `served`; a request reads it once."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._started = clock()
        self.rules = Served(
            name=NO_VERSION,
            pricer=Pricer(None, None, settings.config, version=NO_VERSION),
            settings=ServedConfig(settings.config),
            version=None,
        )
        self.served = self.rules
        self.challenger: Served | None = None
        self._seen: dict[Path, tuple[int, int]] = {}
        self._again: dict[Path, float] = {}  # pointer file → when to retry a version that could not be read
        self._champion_at_check: str | None = None  # the champion's name at the last check of the challenger
        self.reload()

    @property
    def following(self) -> FollowerStatus | None:
        """The status of this run's follower; None before its first report, or when there is no follower."""
        following = read_follower_status(self._settings.places.status)
        return following if following is not None and following.run_id == self._settings.run_id else None

    @property
    def first_attempt_ended(self) -> bool:
        """Whether the first attempt to load a champion has ended, and this worker serves its outcome."""
        patience = FIRST_ATTEMPT_SECONDS if self.served is self.rules else FIRST_ATTEMPT_SECONDS_WITH_VERSION
        if not self._settings.follows or self._clock() - self._started > patience:
            return True
        following = self.following
        if following is None or not following.attempted:
            return False
        return following.state != "following" or following.served == self.served.name

    def reload(self) -> bool:
        """Checks for a new champion and a new challenger; returns whether the champion changed."""
        swapped = self._look_for_champion()
        self._look_for_challenger()
        return swapped

    def _look_for_challenger(self) -> None:
        """Loads the challenger that its pointer names; none where that is the champion, or cannot be loaded."""
        path = self._settings.places.challenger
        mark = _mark(path)
        if mark is None or (self.challenger is not None and self.challenger.name == self.served.name):
            self.challenger = None
        if self.challenger is None and self._champion_at_check != self.served.name:
            self._seen.pop(path, None)  # its version was the champion, or could not be loaded beside it
        self._champion_at_check = self.served.name
        if mark is None or not self._is_new(path, mark):
            return
        self.challenger = None
        try:
            pointer = read_pointer(path)
            if pointer is not None and pointer.version != self.served.name:
                self.challenger = self._serve(pointer, folder=pointed_folder(path, pointer), tried=True)
                _log.info("version %s is tried beside %s from now on", pointer.version, self.served.name)
        except (VersionError, OSError) as error:
            _log.error("%s; no challenger is tried", error)
            self._failed(path, error)

    def _look_for_champion(self) -> bool:
        """Loads the version that the pointer names, if it is a new one; returns whether it did.

        A version that cannot be loaded changes nothing: the current one stays in service.
        """
        places = self._settings.places
        for path in (places.pointer, places.baked):
            mark = _mark(path)
            if mark is None:
                continue
            if not self._is_new(path, mark):
                return False
            try:
                pointer = read_pointer(path)
                if pointer is not None and self._settings.pinned not in (None, pointer.version):
                    _log.info("version %s is not served: version %s is pinned", pointer.version, self._settings.pinned)
                    continue
                if pointer is not None:
                    self.served = self._serve(pointer, folder=pointed_folder(path, pointer))
                    _log.info("version %s answers from now on", pointer.version)
                    return True
            except (VersionError, OSError) as error:
                _log.error("%s; version %s goes on", error, self.served.name)
                self._failed(path, error)
                if self.served is not self.rules:
                    return False
        return False

    def _is_new(self, path: Path, mark: tuple[int, int]) -> bool:
        """Whether to load a pointer's version: the pointer has changed, or a retry after a disk error is due."""
        if mark == self._seen.get(path) and self._clock() < self._again.get(path, math.inf):
            return False
        self._seen[path] = mark
        self._again.pop(path, None)
        return True

    def _failed(self, path: Path, error: VersionError | OSError) -> None:
        if isinstance(error, OSError) or isinstance(error.__cause__, OSError):
            self._again[path] = self._clock() + RETRY_SECONDS

    def _serve(self, pointer: Pointer, *, folder: Path, tried: bool = False) -> Served:
        """Opens a version and prices its golden requests once, to warm it up.

        Raises:
            VersionError: It cannot be opened, or cannot price with this configuration.
            OSError: A file cannot be read.
        """
        try:
            return self._opened(pointer, folder=folder, tried=tried)
        except VersionError:
            raise
        except VERSION_ERRORS as error:
            raise VersionError(
                f"version {pointer.version} cannot answer here ({type(error).__name__}: {error})"
            ) from error

    def _opened(self, pointer: Pointer, *, folder: Path, tried: bool) -> Served:
        version = open_version(folder)
        settings = served_config(version.config, self._settings.file, name=pointer.version)
        config = settings.config
        for line in settings.lines(pointer.version, file=self._settings.file.path):
            _log.warning("%s", line)
        jump = self._settings.config.serving.largest_jump
        pricer = version.pricer(version=pointer.version, config=config, largest_jump=jump)
        rules = Pricer(None, version.facts, config, version=NO_VERSION, largest_jump=jump)
        served = Served(pointer.version, pricer, settings, version, tried, rules)
        golden = golden_requests(served)
        served.pricer.price(golden[0], today=golden[1])
        return served


class PeriodicTasks:
    """A background thread that runs a worker's periodic tasks, such as the check for a new champion."""

    def __init__(self, tasks: Sequence[Callable[[], object]], *, every: float = CHECK_SECONDS) -> None:
        self._tasks = tasks
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="champion-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        said: dict[Callable[[], object], str] = {}  # a repeated error is logged once
        while not self._stop.wait(self._every):
            for task in self._tasks:
                try:
                    task()
                except (*VERSION_ERRORS, OSError) as error:  # the next run may succeed
                    if said.get(task) != str(error):
                        _log.exception("what a worker does regularly failed")
                    said[task] = str(error)


def open_version(folder: Path) -> LoadedVersion:
    """Maps a version and compares its checksums: its files may have been damaged since the follower verified them."""
    return load(folder)


def golden_requests(served: Served) -> tuple[list[PriceRequest], dt.date]:
    """Returns a version's golden requests and the day on which they are priced."""
    if served.version is None:
        unknown_product = PriceRequest(product_id="health-check", day_of_week="Monday", list_price=10.0)
        return [unknown_product], dt.date(2026, 1, 1)
    golden = served.version.meta["golden"]
    requests = [PriceRequest.model_validate(case["request"]) for case in golden["cases"]]
    return requests, dt.date.fromisoformat(golden["today"])


def _mark(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
