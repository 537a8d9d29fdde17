"""A worker's side of following: maps the version that the pointer names, warms it, and swaps it in between requests."""

import datetime as dt
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pricing.config import ModelConfig
from pricing.decision.pricer import Pricer
from pricing.decision.request import PriceRequest
from pricing.errors import ConfigError, PricingError, VersionError
from pricing.registry.version import LoadedVersion, load
from serving.current_version import Following, Pointer, read_following, read_pointer
from serving.price_tests import arms_of, canary
from serving.settings import Settings, check_trial

NO_VERSION = "none"
LOOK_SECONDS = 0.2
SETTLED_SECONDS = 120.0  # a follower that says nothing for so long will not say anything
RETRY_SECONDS = 10.0  # a version that the disk did not give is tried again after this long

FAULTS = (PricingError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)  # of a version or a file
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Served:
    """What answers a request, from its first line to its last: one version, or the rules when there is none.

    Attributes:
        name: The version's number, as decisions carry it; "none" without one.
        pricer: Prices by it.
        config: The configuration that its pricer follows.
        version: The version itself; None without one.
        arms: Product → the strategy that a trial dealt it; "" and absent products are outside.
        canary: The products that it answers for as the challenger.
        rules: What answers where it fails: rules that know its facts, costs and list prices; None without facts.
        memory: Answers about it that never change, by what was asked.
    """

    name: str
    pricer: Pricer
    config: ModelConfig
    version: LoadedVersion | None
    arms: Mapping[str, str] = field(default_factory=dict)
    canary: frozenset[str] = frozenset()
    rules: Pricer | None = None
    memory: dict[str, bytes] = field(default_factory=dict)


class Champion:
    """Holds what is served now; reading `served` is safe at any time, and is done once per request."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._started = clock()
        self.rules = Served(
            name=NO_VERSION,
            pricer=Pricer(None, None, settings.config, version=NO_VERSION),
            config=settings.config,
            version=None,
        )
        self.served = self.rules
        self.challenger: Served | None = None
        self._seen: dict[Path, tuple[int, int]] = {}
        self._again: dict[Path, float] = {}  # a pointer whose version failed for the moment → when to try anew
        self._beside: str | None = None  # what was served when the challenger was looked at last
        self.look()

    @property
    def following(self) -> Following | None:
        """How the follower of this run fares; None before it has said anything, or when there is none."""
        following = read_following(self._settings.places.status)
        return following if following is not None and following.run_id == self._settings.run_id else None

    @property
    def settled(self) -> bool:
        """Whether the first attempt to load a champion has ended, and its outcome is what is served here."""
        if not self._settings.follows or self._clock() - self._started > SETTLED_SECONDS:
            return True
        following = self.following
        if following is None or not following.attempted:
            return False
        return following.state != "following" or following.served == self.served.name

    def answers(self, product_id: str) -> Served:
        """What answers for a product: the champion, or the challenger where the product is one of its share."""
        challenger = self.challenger
        return challenger if challenger is not None and product_id in challenger.canary else self.served

    def look(self) -> bool:
        """Looks for another champion and another challenger; says whether the champion was swapped."""
        swapped = self._look_for_champion()
        if self._settings.tries_challenger:
            self._look_for_challenger()
        return swapped

    def _look_for_challenger(self) -> None:
        """Takes the challenger that is pointed at; none where that is no other version, or cannot be loaded."""
        path = self._settings.places.challenger
        mark = _mark(path)
        if mark is None or (self.challenger is not None and self.challenger.name == self.served.name):
            self.challenger = None
        if self.challenger is None and self._beside != self.served.name:
            self._seen.pop(path, None)  # the version that it names was the champion, or could not be tried beside it
        self._beside = self.served.name
        if mark is None or not self._is_new(path, mark):
            return
        self.challenger = None
        try:
            pointer = read_pointer(path)
            if pointer is not None and pointer.version != self.served.name:
                self.challenger = self._serve(pointer, folder=path.parent / pointer.folder, challenger=True)
                _log.info("version %s is tried beside %s from now on", pointer.version, self.served.name)
        except (VersionError, OSError) as error:
            _log.error("%s; no challenger is tried", error)
            self._failed(path, error)

    def _look_for_champion(self) -> bool:
        """Swaps the pointed version in if it is another one than before; says whether it did.

        A version that cannot be loaded changes nothing: what was served goes on.
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
                if pointer is not None:
                    self.served = self._serve(pointer, folder=path.parent / pointer.folder)
                    _log.info("version %s answers from now on", pointer.version)
                    return True
            except (VersionError, OSError) as error:
                _log.error("%s; version %s goes on", error, self.served.name)
                self._failed(path, error)
                if self.served is not self.rules:
                    return False
        return False

    def _is_new(self, path: Path, mark: tuple[int, int]) -> bool:
        """Whether a pointer is to be followed: it is another one than before, or the disk failed it some time ago."""
        if mark == self._seen.get(path) and self._clock() < self._again.get(path, math.inf):
            return False
        self._seen[path] = mark
        self._again.pop(path, None)
        return True

    def _failed(self, path: Path, error: VersionError | OSError) -> None:
        if isinstance(error, OSError) or isinstance(error.__cause__, OSError):
            self._again[path] = self._clock() + RETRY_SECONDS

    def _serve(self, pointer: Pointer, *, folder: Path, challenger: bool = False) -> Served:
        """Opens a version and lets it answer its golden requests.

        Raises:
            VersionError: It cannot be opened, or cannot answer with this configuration.
            OSError: The disk refuses.
        """
        try:
            return self._opened(pointer, folder=folder, challenger=challenger)
        except VersionError:
            raise
        except FAULTS as error:
            raise VersionError(
                f"version {pointer.version} cannot answer here ({type(error).__name__}: {error})"
            ) from error

    def _opened(self, pointer: Pointer, *, folder: Path, challenger: bool) -> Served:
        version = open_version(folder)
        config = version.config
        if self._settings.config_path is not None:
            config = config.model_copy(update={"decision": self._settings.config.decision})
        pricer = version.pricer(version=pointer.version, config=config)
        arms, products = ({}, self._canary(version)) if challenger else (self._arms(version, config), frozenset())
        rules = Pricer(None, version.facts, config, version=NO_VERSION)
        served = Served(pointer.version, pricer, config, version, arms, products, rules)
        golden = golden_requests(served)
        served.pricer.price(golden[0], today=golden[1])
        return served

    def _canary(self, version: LoadedVersion) -> frozenset[str]:
        """The products that the challenger answers for: as the follower dealt them, or as it would."""
        trial = canary(self._settings.config.serving.challenger_share)
        if trial is None:
            return frozenset()
        dealt = arms_of(self._settings.canary_file, version.facts, trial)
        return frozenset(product for product, arm in dealt.items() if arm)

    def _arms(self, version: LoadedVersion, config: ModelConfig) -> dict[str, str]:
        """The products of the trial: as the follower dealt them, and where it has not, as it would."""
        trial = self._settings.config.serving.trial
        if trial is None:
            return {}
        try:
            check_trial(trial, list(config.decision.strategies))
        except ConfigError as error:
            _log.error("%s; version %s is served without the trial", error, version.folder.name)
            return {}
        return arms_of(self._settings.trial_file, version.facts, trial)


class Watch:
    """A thread that looks for another champion, and does whatever else a worker does regularly."""

    def __init__(self, tasks: Sequence[Callable[[], object]], *, every: float = LOOK_SECONDS) -> None:
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
        said: dict[Callable[[], object], str] = {}  # a fault that stays is logged once
        while not self._stop.wait(self._every):
            for task in self._tasks:
                try:
                    task()
                except (*FAULTS, OSError, RuntimeError) as error:  # the next look may fare better
                    if said.get(task) != str(error):
                        _log.exception("what a worker does regularly failed")
                    said[task] = str(error)


def open_version(folder: Path) -> LoadedVersion:
    """Maps a version, its checksums compared: the disk may have lost what the follower once verified."""
    return load(folder)


def golden_requests(served: Served) -> tuple[list[PriceRequest], dt.date]:
    """The requests that a version carries for its own verification, and the day they count from."""
    if served.version is None:
        strangers = [PriceRequest(product_id="health-check", current_stock=1, day_of_week="Monday", list_price=10.0)]
        return strangers, dt.date(2026, 1, 1)
    golden = served.version.meta["golden"]
    requests = [PriceRequest.model_validate(case["request"]) for case in golden["cases"]]
    return requests, dt.date.fromisoformat(golden["today"])


def _mark(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
