"""Follow what is published: fetch champion and challenger, verify them, and swap them between requests.

What was served last lies in a store of its own under PRICING_HOME: a process that starts while the published one is
away answers at once. What an image was baked with answers only where no pointer can be read.
"""

import datetime as dt
import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pricing.config import ServedConfig, served_config
from pricing.decision.pricer import Pricer
from pricing.decision.request import PriceRequest
from pricing.decision.switches import NO_CONTROL, Control, Switches, parse_control
from pricing.errors import ConfigError, PricingError, SourceError, VersionError, first_line
from pricing.fileio import redact_text
from pricing.objects import FolderStore, ObjectStore, open_store
from pricing.registry.published_store import (
    BAKED,
    Pointer,
    PublishedVersion,
    control_key,
    fetch_version,
    parse_pointer,
    pointer_key,
    versions_prefix,
)
from pricing.registry.version import LoadedVersion, load
from serving.settings import Settings

NO_VERSION = "none"  # the name of what answers where no version does
POLL_SECONDS = 2.0  # between two looks at what is published
RETRY_SECONDS = 60.0  # after which a version that could not be served is tried again
FollowerState = Literal["starting", "following", "none", "unreachable", "refused"]

# All that the code which reads a version and prices by it raises where the version or its file is bad.
VERSION_ERRORS = (
    PricingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,  # RecursionError among them
    SyntaxError,
    TypeError,
    ValueError,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Served:
    """A version that prices, or the rules where there is none."""

    name: str  # its number, as decisions carry it; "none" without a version
    pricer: Pricer
    settings: ServedConfig  # of its pricer, and where version and user's file differ
    version: LoadedVersion | None = None
    rules: Pricer | None = None  # prices where it fails: rules with its facts, costs and list prices

    def price_golden(self) -> float:
        """The price of the version's first golden request, by its pricer with the settings that count."""
        golden = {} if self.version is None else self.version.meta["golden"]
        request = PriceRequest.model_validate(golden["cases"][0]["request"])
        today = dt.date.fromisoformat(golden["today"])
        return self.pricer.price([request], today=today)[0].recommended_price


@dataclass(frozen=True, eq=False)
class Current:
    """The versions and the control that answer; a request reads it once."""

    champion: Served  # or the rules
    challenger: Served | None = None  # that an experiment tries beside it
    control: Control = NO_CONTROL  # switches of people, and experiments
    pointer: Pointer | None = None  # what named the versions


@dataclass(frozen=True)
class Following:
    """How following goes."""

    state: FollowerState = "starting"  # the outcome of the last look
    champion: str | None = None  # the number that the published pointer names, as far as it is known
    detail: str | None = None  # what went wrong last, in one line
    refused: Mapping[str, str] = field(default_factory=dict)  # number → why that version is not served
    answered_at: float = 0.0  # when all that is published was last followed, seconds since 1970


class Follower:
    """Keeps `current` at what is published. One thread looks; any thread may read `current` and `following`."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        """Loads what was served last, as far as it is whole; otherwise rules answer."""
        self._settings = settings
        self._clock = clock
        self._model = settings.config.registry.model_name
        self._pointer_key = pointer_key(self._model)
        self._control_key = control_key(self._model)
        self._store = open_store(settings.published)
        own = settings.home / "serving"
        self._own = FolderStore(own)
        self._versions = own / versions_prefix(self._model)
        self._refused: dict[PublishedVersion, tuple[str, float]] = {}  # why, when
        self._reported: dict[str, str] = {}  # subject → the line that is true of it
        self._control: bytes | None = None  # the document that was taken over
        self.failures = 0  # looks that ended in what nobody foresaw

        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        rules = Pricer(None, None, settings.config, version=NO_VERSION)
        self.rules = Served(NO_VERSION, rules, ServedConfig(settings.config))
        self.current = Current(self.rules)
        self.following = Following(answered_at=clock())
        try:
            content = self._own.get(self._control_key)
            if content is not None:
                self.current = replace(self.current, control=parse_control(content))
        except SourceError as error:
            _log.error("%s; no switch is in force until the published one is read", error)
        self._serve_from(self._own, self._versions)

    def start(self) -> None:
        """Looks every POLL_SECONDS from now on."""
        self._thread.start()

    def close(self) -> None:
        """Ends the looks."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def look(self) -> None:
        """Looks once at pointer and control; never raises, whatever a document makes of the code that reads it."""
        try:
            self._look()
        except Exception as error:  # noqa: BLE001 - the one edge: this thread must not end, the next look may succeed
            self.failures += 1
            line = _line(error)
            self.following = replace(self.following, state="refused", detail=line)
            if self._reported.get("look") != line:
                _log.error("a look at what is published failed", exc_info=error)
            self._reported["look"] = line
        else:
            self._reported["look"] = ""

    def _look(self) -> None:
        now = replace(self.following, detail=None)
        try:
            unknown = self._look_at_control()  # first: a freeze waits for no version, and none answers past one
            content = self._store.get(self._pointer_key)
            if unknown is not None:
                now = replace(now, state="refused", detail=unknown)
            elif content is None:
                now = replace(now, state="none", champion=None, detail="nothing is published")
                self._use_baked()
            else:
                now = self._take(content, now)
        except SourceError as error:
            now = replace(now, state="unreachable", detail=str(error))
            self._use_baked()
        if now.state == "following" and not self.current.control.unread:
            now = replace(now, answered_at=self._clock())
        refused = {version.number: why for version, (why, _) in self._refused.items()}
        self.following = replace(now, refused=refused)
        self._report("state", None if now.state == "following" else f"{now.state}: {now.detail}")

    def _take(self, content: bytes, now: Following) -> Following:
        """Serves what the published pointer names, and keeps it in the own store."""
        try:
            pointer = parse_pointer(content, model=self._model)
        except VersionError as error:
            self._use_baked()
            return replace(now, state="refused", detail=str(error))
        self._refused = {version: why for version, why in self._refused.items() if version in pointer.served}
        now = replace(now, champion=pointer.champion.number)
        served = self.current.pointer
        if served is not None and pointer.sequence < served.sequence:
            why = f"sequence {pointer.sequence} of the published pointer is below {served.sequence}, which is served"
            return replace(now, state="refused", detail=f"{why}; pricing publish --again mends it")
        try:
            self._serve(pointer, self._store, self._versions)
        except VersionError as error:
            return replace(now, state="refused", detail=str(error))
        self._keep(self._pointer_key, content)
        needed = {version.folder for version in pointer.served}
        for path in self._versions.glob("*"):
            if path.name not in needed:
                shutil.rmtree(path, ignore_errors=True)
        return replace(now, state="following")

    def _serve(self, pointer: Pointer, store: ObjectStore, versions: Path) -> None:
        """Loads what is not loaded yet, and swaps all of it at once.

        Raises VersionError where the champion cannot be served; it also answers for a challenger that cannot.
        """
        champion = self._opened(pointer.champion, store, versions)
        challenger = None
        if pointer.challenger is not None:
            try:
                challenger = self._opened(pointer.challenger, store, versions)
            except (SourceError, VersionError) as error:
                self._report("challenger", f"version {pointer.challenger.number} is not tried: {error}")
        changed = replace(self.current, champion=champion, challenger=challenger, pointer=pointer)
        if vars(changed) != vars(self.current):
            self.current = changed
            beside = f", beside it {challenger.name}" if challenger else ""
            _log.info("version %s answers from now on%s", champion.name, beside)

    def _opened(self, version: PublishedVersion, store: ObjectStore, versions: Path) -> Served:
        """A version that is served already, or the version fetched where it is not on the disk, and verified.

        Raises VersionError where it cannot be served; it is tried again after a minute.
        """
        for served in filter(None, (self.current.champion, self.current.challenger)):
            own = served.version and PublishedVersion(served.name, served.version.meta["checksum"])
            if own == version:
                return served
        why, at = self._refused.get(version, ("", 0.0))
        if why and self._clock() - at < RETRY_SECONDS:
            raise VersionError(why)
        folder = versions / version.folder
        try:
            served = self._fetched(version, store, folder)
        except SourceError:  # of the store, not of the version: the next look may fetch it
            raise
        except VERSION_ERRORS as error:
            why = f"version {version.number} cannot be served ({_line(error)})"
            if store is self._store:
                self._refused[version] = (why, self._clock())
            if versions == self._versions and not isinstance(error, ConfigError | OSError | MemoryError):
                shutil.rmtree(folder, ignore_errors=True)
            raise VersionError(why) from error
        self._refused.pop(version, None)
        return served

    def _fetched(self, version: PublishedVersion, store: ObjectStore, folder: Path) -> Served:
        """Verifies a version that is on the disk, or fetches it: also where what is on the disk is damaged."""
        if store is self._store and folder.is_dir():
            try:
                return self._verified(version, folder)
            except VersionError as error:
                self._report(version.folder, f"{_line(error)}; it is fetched anew")
                shutil.rmtree(folder, ignore_errors=True)
        fetch_version(store, version, model=self._model, folder=folder)
        return self._verified(version, folder)

    def _verified(self, version: PublishedVersion, folder: Path) -> Served:
        """Maps a version, compares its checksums and golden requests, and prices one with the settings that count.

        Raises VersionError, or ConfigError where the user's file contradicts it.
        """
        settings = self._settings
        loaded = load(folder)
        if loaded.meta["checksum"] != version.checksum:
            raise VersionError(f"{folder}: is another version than the pointer names")
        requests = len(loaded.verify())
        config = served_config(loaded.config, settings.file, name=version.number)
        for line in config.lines(version.number, file=settings.file.path):
            _log.warning("%s", line)
        jump = settings.config.serving.largest_jump
        pricer = loaded.pricer(version=version.number, config=config.config, largest_jump=jump)
        rules = Pricer(None, loaded.facts, config.config, version=NO_VERSION, largest_jump=jump)
        served = Served(version.number, pricer, config, loaded, rules)
        served.price_golden()
        _log.info("version %s answered %d golden requests", version.number, requests)
        return served

    def _use_baked(self) -> None:
        """Serves what the image was baked with, where nothing else answers; any published pointer is newer."""
        if self.current.champion is self.rules:
            root = self._settings.home / BAKED
            self._serve_from(FolderStore(root), root / versions_prefix(self._model))
            if self.current.pointer is not None:
                self.current = replace(self.current, pointer=replace(self.current.pointer, sequence=-1))

    def _serve_from(self, store: FolderStore, versions: Path) -> None:
        try:
            content = store.get(self._pointer_key)
            if content is not None:
                self._serve(parse_pointer(content, model=self._model), store, versions)
        except (SourceError, VersionError) as error:
            self._report(str(versions), f"what lies in {versions.parent} is not served: {error}")

    def _look_at_control(self) -> str | None:
        """Takes over the published switches and experiments; where there are none, the last known stay.

        Returns why they are unknown, where they cannot be read and none were known before.
        """
        content = self._store.get(self._control_key)
        if content is None:
            return None
        if content != self._control:
            try:
                control = parse_control(content)
                known = self.current.control.sequence
                if control.sequence < known:
                    why = f"sequence {control.sequence} of control.json is below {known}, which is in force"
                    raise SourceError(f"{why}; pricing publish --again mends it")
            except SourceError as error:
                return self._stay_with_known(error)
            if control.unread:
                control = _completed(control, self.current.control)
            self.current = replace(self.current, control=control)
            self._control = content
            words = "; ".join(f"{each.action} of {each.whose} by {each.by}: {each.reason}" for each in control.switches)
            _log.warning("switches in force: %s", words or "none")
            self._report("control", "; ".join(control.unread) or None)
        self._keep(self._control_key, content)
        return None

    def _stay_with_known(self, error: SourceError) -> str | None:
        """Stays with what is in force where the published document cannot be read; returns why, where nothing is."""
        if self.current.champion is self.rules and self._own.get(self._control_key) is None:
            return str(error)
        self._report("control", f"{error}; what was known before stays in force")
        known = replace(self.current.control, unread=(str(error),))
        self.current = replace(self.current, control=known)
        self._control = None
        return None

    def _keep(self, key: str, content: bytes) -> None:
        """Keeps a document in the own store, where it is not there already; a full disk is no reason to stop."""
        try:
            if self._own.get(key) != content:
                self._own.put(key, content)
            self._report(key, None)
        except SourceError as error:
            self._report(key, f"{error}: a restart while the store is away would not know what is served now")

    def _report(self, subject: str, line: str | None) -> None:
        """Logs a line about a subject once, until another one is true."""
        if line is not None and self._reported.get(subject) != line:
            _log.error("%s", redact_text(line))
        self._reported[subject] = line or ""

    def _run(self) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(POLL_SECONDS)


def _completed(control: Control, known: Control) -> Control:
    """A control of which a part cannot be read, with the switches known before that it does not name.

    That part may be a freeze that was known, which ends only where the control ends it.
    """
    named = {(switch.scope, switch.name) for switch in control.switches}
    kept = (switch for switch in known.switches if (switch.scope, switch.name) not in named)
    approved = control.switches.approved or known.switches.approved
    return replace(control, switches=Switches((*control.switches, *kept), approved))


def _line(error: BaseException) -> str:
    return str(error) if isinstance(error, PricingError) else f"{type(error).__name__}: {first_line(error)}"
