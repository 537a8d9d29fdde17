"""Download the champion from MLflow, verify it, and point the workers at it. The only process that loads MLflow."""

import argparse
import logging
import math
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from pricing.decision.experiments import read_experiments
from pricing.objects import open_store
from pricing.errors import PricingError, RegistryError, SourceError, VersionError
from pricing.fileio import redact_text, replace_json
from pricing.registry.rest import ElsewhereError, RestRegistry, can_read
from pricing.registry.version import load
from pricing.runtime.shop_time import shop_now
from serving.champion import VERSION_ERRORS
from serving.current_version import (
    BAKED,
    FollowerPaths,
    FollowerStatus,
    Pointer,
    is_partial_download,
    is_version_folder,
    pointed_folder,
    read_pointer,
    version_folder,
    write_pointer,
)
from serving.database_watch import IMPORTING, DatabaseWatch
from serving.log_upload import LogUpload, Uploading
from serving.logs import configure_logging
from serving.notices import no_champion
from serving.settings import Settings, baked_config, read_settings
from serving.timed_calls import TimedCalls
from serving.verification import VerificationGuard

REMIND_SECONDS = 600.0  # between two reminders that there is no champion
RETRY_SECONDS = 600.0  # a refused version is downloaded again after this long: the network may have been at fault
ANSWER_SECONDS = 10.0  # the service is ready only after the first attempt, so that must fail soon
DOWNLOAD_SECONDS = 600.0
# So long after a call has run out of its time the follower begins anew, with connections of its own: longer than MLflow
# itself tries to reach a database (150 s at 5 s an attempt).
HUNG_SECONDS = 180.0

_log = logging.getLogger(__name__)
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "PGCONNECT_TIMEOUT": "5",
}


class ListedVersion(Protocol):
    """A version as the registry lists it."""

    @property
    def number(self) -> str:
        """Its number."""
        ...

    @property
    def created_ms(self) -> int:
        """When it was registered, milliseconds since 1970."""
        ...


class VersionSource(Protocol):
    """The methods of a registry that the follower needs; each may raise RegistryError."""

    def at(self, alias: str) -> ListedVersion | None:
        """The version that an alias names; None where it is not set."""
        ...

    def version(self, number: str) -> ListedVersion | None:
        """The version of a number; None where there is none."""
        ...

    def download(self, reference: str, to: Path) -> Path:
        """Downloads a version's folder into the new folder `to`."""
        ...


@dataclass(frozen=True)
class FollowerOptions:
    """The follower's options.

    Attributes:
        run_id: The run of the service that the follower belongs to.
        keep: Versions kept on disk.
        pinned: The number of the version to serve, whatever the alias names; None to follow the alias.
    """

    run_id: str
    keep: int
    pinned: str | None = None


def verify_version(folder: Path) -> int:
    """Loads a version, verifies checksums and golden requests, and returns the number of golden requests.

    Raises:
        VersionError: It cannot be loaded here, or does not answer as it did when it was packed.
    """
    return load(folder).verify().requests


@dataclass(frozen=True)
class _Listed:
    number: str
    created_ms: int


@dataclass(frozen=True)
class _Refusal:
    why: str
    at: float


class Follower:
    """Keeps the pointer at the newest champion that this machine can serve."""

    def __init__(
        self,
        registry: VersionSource,
        *,
        places: FollowerPaths,
        options: FollowerOptions,
        verify: Callable[[Path], int] | None = None,
        advice: Callable[[], str] = lambda: "no version is champion: train one and promote it",
        known: Callable[[], None] = lambda: None,
        tried: Callable[[], str | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._advice = advice
        self._known = known  # waits until what a person has switched is known, or the database is given up
        self._reminded_at = -math.inf
        self._verify = verify or verify_version
        self._clock = clock
        self._places = places
        self._status = places.status
        self._keep = options.keep
        self._tried = tried  # number of the version that an experiment tries beside the champion
        self._pinned = options.pinned
        self._guard = VerificationGuard(places.versions / "verifying.json")
        self._pointer = self._last_good(places.pointer)
        if self._pointer is not None and self._pinned not in (None, self._pointer.version):
            self._pointer = None  # nor do the workers serve it: another version is pinned
        self._challenger = self._last_good(places.challenger) if tried() else None
        self._refused: dict[tuple[str, int], _Refusal] = {}
        served = self._pointer.version if self._pointer else None
        self.following = FollowerStatus(run_id=options.run_id, pinned=options.pinned, served=served)
        self._publish(self.following)
        self._delete_partial_downloads()

    def poll(self) -> FollowerStatus:
        """Reads the aliases once and updates the pointers; never raises for a fault of registry or version."""
        try:
            entry = self._registry.at("champion")
        except RegistryError as error:
            return self._publish(replace(self.following, state="unreachable", attempted=True, detail=str(error)))
        following = self._follow_champion(entry) if self._pinned is None else self._keep_pinned(self._pinned, entry)
        return self._publish(self._follow_challenger(following))

    def _follow_challenger(self, now: FollowerStatus) -> FollowerStatus:
        """Points at the version that an experiment tries, where it can be served; its faults leave the champion be."""
        number = self._tried()
        if number is None or (self._pointer is not None and self._pointer.version == number):
            return self._no_challenger(now)
        if self._challenger is not None and self._challenger.version == number:
            return replace(now, challenger=number)
        try:
            entry = self._registry.version(number)
            if entry is None:
                raise RegistryError("there is no such version")
            if self._refusal(entry) is not None:
                return self._no_challenger(now)
            try:
                self._challenger = self._fetch(entry)
            except VersionError as error:
                self._refuse(entry, error)
                return self._no_challenger(now)
            write_pointer(self._places.challenger, self._challenger)
        except (RegistryError, OSError) as error:
            _log.error("version %s, which an experiment tries, cannot be fetched: %s", number, error)
            return self._no_challenger(now)
        self._refused.pop(_identity(entry), None)
        _log.info("version %s is tried beside the champion now", number)
        self._delete_old_versions()
        return replace(now, challenger=number, refused=self._reasons())

    def _no_challenger(self, now: FollowerStatus) -> FollowerStatus:
        self._challenger = None
        self._remove(self._places.challenger)
        return replace(now, challenger=None, refused=self._reasons())

    def _follow_champion(self, entry: ListedVersion | None) -> FollowerStatus:
        now = replace(self.following, attempted=True, detail=None, polled_at=round(time.time(), 3))
        if entry is None:
            return self._without_champion(replace(now, state="no_champion", champion=None))
        now = replace(now, champion=entry.number)
        if _names(self._pointer, entry):
            return self._publish(replace(now, state="following", served=entry.number))
        return self._publish(self._attempt(entry, now))

    def _keep_pinned(self, number: str, champion: ListedVersion | None) -> FollowerStatus:
        """Fetches the version that is pinned, unless it is served already; the alias is looked at only to be told."""
        named = None if champion is None else champion.number
        now = replace(
            self.following, attempted=True, detail=None, polled_at=round(time.time(), 3), champion=named, served=None
        )
        if named != self.following.champion or not self.following.attempted:
            _log.info("version %s is pinned (PRICING_VERSION); the champion is %s", number, named or "none")
        if self._pointer is not None:
            return self._publish(replace(now, state="following", served=number))
        try:
            entry = self._registry.version(number)
        except RegistryError as error:
            return self._publish(replace(now, state="unreachable", detail=str(error)))
        if entry is None:
            detail = f"version {number}, which PRICING_VERSION pins, does not exist; {self._answering()}"
            return self._publish(replace(now, state="unknown_version", detail=detail))
        return self._publish(self._attempt(entry, now))

    def _without_champion(self, now: FollowerStatus) -> FollowerStatus:
        """Says what answers instead and what to do, in the log again and again."""
        detail = f"{self._answering()}, since {self._advice()}"
        following = self._publish(replace(now, detail=detail))
        if self._clock() - self._reminded_at >= REMIND_SECONDS:
            self._reminded_at = self._clock()
            _log.warning("%s", following.detail)
        return following

    def _answering(self) -> str:
        """What answers while no version is fetched."""
        if self._pointer is not None:
            return f"version {self._pointer.version}, served last, goes on"
        baked = self._baked()
        if baked is not None and self._pinned in (None, baked.version):
            return f"version {baked.version}, which was baked in, goes on"
        return "every price comes by rule"

    def _baked(self) -> Pointer | None:
        try:
            return read_pointer(self._places.baked)
        except VersionError as error:
            _log.error("%s", error)
            return None

    def _attempt(self, entry: ListedVersion, now: FollowerStatus) -> FollowerStatus:
        refusal = self._refusal(entry)
        if refusal is None:
            try:
                self._switch(entry)
            except RegistryError as error:
                return replace(now, state="unreachable", detail=str(error))
            except OSError as error:
                return replace(now, state="failed", detail=str(error))
            except VersionError as error:
                refusal = self._refuse(entry, error)
            else:
                self._refused.pop(_identity(entry), None)
                return replace(now, state="following", served=entry.number, refused=self._reasons())
        return replace(now, state="refused", detail=refusal.why, refused=self._reasons())

    def _refusal(self, entry: ListedVersion) -> _Refusal | None:
        """Why a version is refused at present; None once it may be downloaded again."""
        refusal = self._refused.get(_identity(entry))
        return refusal if refusal is not None and self._clock() - refusal.at < RETRY_SECONDS else None

    def _refuse(self, entry: ListedVersion, error: VersionError) -> _Refusal:
        _log.error("version %s is refused: %s", entry.number, error)
        refusal = self._refused[_identity(entry)] = _Refusal(str(error), self._clock())
        return refusal

    def _switch(self, entry: ListedVersion) -> None:
        pointer = self._fetch(entry)
        write_pointer(self._places.pointer, pointer)
        self._pointer = pointer
        _log.info("version %s is served now", entry.number)
        self._delete_old_versions()

    def _fetch(self, entry: ListedVersion) -> Pointer:
        """Downloads a version, unless it is on disk already, and verifies it; deletes it where that fails.

        Raises:
            RegistryError: It cannot be downloaded.
            VersionError: It must not be served.
            OSError: A file cannot be read or written.
        """
        name = version_folder(entry.number, entry.created_ms)
        self._guard.admit(name)
        self._places.versions.mkdir(parents=True, exist_ok=True)
        folder = self._places.versions / name
        if folder in self._downloaded():
            try:
                return self._verified(entry)
            except VersionError as error:
                _log.error("version %s on disk cannot be served, and is fetched anew: %s", entry.number, error)
                shutil.rmtree(folder, ignore_errors=True)
        self._registry.download(entry.number, folder)
        try:
            return self._verified(entry)
        except VersionError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _verified(self, entry: ListedVersion) -> Pointer:
        """Verifies a version in a folder of the versions' own.

        Raises:
            VersionError: It must not be served.
            OSError: A file cannot be read or written.
        """
        name = version_folder(entry.number, entry.created_ms)
        try:
            with self._guard.verifying(name):
                requests = self._verify(self._places.versions / name)
        except VersionError:
            raise
        except VERSION_ERRORS as error:
            raise VersionError(f"it cannot answer here ({type(error).__name__}: {error})") from error
        _log.info("version %s answered %d golden requests", entry.number, requests)
        return Pointer(version=entry.number, created_ms=entry.created_ms, folder=name)

    def _reasons(self) -> dict[str, str]:
        return {number: refusal.why for (number, _), refusal in self._refused.items()}

    def _last_good(self, path: Path) -> Pointer | None:
        """Verifies the version of an earlier run's pointer; where that fails it is downloaded again."""
        pointer = None
        try:
            pointer = read_pointer(path)
            if pointer is not None:
                pointed_folder(path, pointer)
                self._guard.admit(version_folder(pointer.version, pointer.created_ms))
                self._verified(_Listed(pointer.version, pointer.created_ms))
            return pointer
        except OSError as error:
            _log.error("%s cannot be verified: %s", path, error)
            return pointer
        except VersionError as error:
            _log.error("the version on disk cannot be served: %s", redact_text(str(error)))
        self._remove(path)
        return None

    def _remove(self, path: Path) -> None:
        """Removes one of the follower's own files."""
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            _log.error("%s cannot be removed: %s", path, error)

    def _downloaded(self) -> list[Path]:
        """The folders of versions on disk; whatever else lies there, links among it, is none."""
        return [
            path
            for path in self._places.versions.iterdir()
            if is_version_folder(path.name) and path.is_dir() and not path.is_symlink()
        ]

    def _delete_partial_downloads(self) -> None:
        """Deletes what a follower that was stopped while it downloaded left behind; none other writes here."""
        try:
            found = [path for path in self._places.versions.iterdir() if is_partial_download(path.name)]
            for path in found:
                if path.is_dir() and not path.is_symlink():
                    _log.warning("%s is half a download of an earlier run, and deleted", path)
                    shutil.rmtree(path)
        except FileNotFoundError:  # no version was ever downloaded
            return
        except OSError as error:
            _log.error("%s cannot be swept: %s", self._places.versions, error)

    def _delete_old_versions(self) -> None:
        """Deletes the oldest downloaded versions; a worker that still maps one can go on using it."""
        try:
            newest_first = sorted(self._downloaded(), key=lambda path: path.stat().st_mtime, reverse=True)
        except OSError as error:  # the switch is valid all the same
            _log.error("%s cannot be swept: %s", self._places.versions, error)
            return
        pointed = {pointer.folder for pointer in (self._pointer, self._challenger) if pointer}
        others = [path for path in newest_first if path.name not in pointed]
        for folder in others[self._keep - 1 :]:
            shutil.rmtree(folder, ignore_errors=True)

    def _publish(self, following: FollowerStatus) -> FollowerStatus:
        if following.detail:
            following = replace(following, detail=redact_text(following.detail))
        if following.state != self.following.state or following.detail != self.following.detail:
            usual = following.state in ("following", "starting", "no_champion")  # of which a reminder warns
            words = f" ({following.detail})" if following.detail else ""
            _log.log(logging.INFO if usual else logging.WARNING, "follower: %s%s", following.state, words)
        if following.attempted and not self.following.attempted:
            self._known()  # the service may be ready from now on
        self.following = following
        try:
            replace_json(self._status, asdict(following))
        except OSError as error:
            _log.error("%s cannot be written: %s", self._status, error)
        return following


def _identity(entry: ListedVersion) -> tuple[str, int]:
    return entry.number, entry.created_ms


def _names(pointer: Pointer | None, entry: ListedVersion) -> bool:
    return pointer is not None and (pointer.version, pointer.created_ms) == _identity(entry)


class _LazyRegistry:
    """The registry, opened on first use: by its REST interface where that suffices, since MLflow's import takes longer.

    MLflow's own client reads databases, and servers and files that the other one does not reach.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open: VersionSource | None = None
        self._by_mlflow: VersionSource | None = None
        self.calls = TimedCalls()

    def at(self, alias: str) -> ListedVersion | None:
        return self._ask(lambda registry: registry.at(alias))

    def version(self, number: str) -> ListedVersion | None:
        return self._ask(lambda registry: registry.version(number))

    def download(self, reference: str, to: Path) -> Path:
        try:
            registry = self._registry()
            return self.calls.within(lambda: registry.download(reference, to), seconds=DOWNLOAD_SECONDS)
        except ElsewhereError:
            mlflow = self._mlflow()
            return self.calls.within(lambda: mlflow.download(reference, to), seconds=DOWNLOAD_SECONDS)

    def _ask(self, question: Callable[[VersionSource], ListedVersion | None]) -> ListedVersion | None:
        # MLflow would create a missing database, which takes seconds.
        uri = self._settings.registry_uri
        if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
            return None
        registry = self._registry()
        return self.calls.within(lambda: question(registry), seconds=ANSWER_SECONDS)

    def _registry(self) -> VersionSource:
        """Opens the registry before its time to answer begins: an import may take seconds."""
        if self._open is None:
            for name, value in _PATIENCE.items():
                os.environ.setdefault(name, value)
            uri = self._settings.registry_uri
            if can_read(uri):
                self._open = RestRegistry(self._settings.config.registry.model_name, uri=uri)
            else:
                self._open = self._mlflow()
        return self._open

    def _mlflow(self) -> VersionSource:
        if self._by_mlflow is None:
            with IMPORTING:
                from pricing.registry.mlflow_registry import Registry as MlflowRegistry  # noqa: PLC0415 - see the class

            name, uri = self._settings.config.registry.model_name, self._settings.registry_uri
            self._by_mlflow = self.calls.within(lambda: MlflowRegistry(name, uri=uri), seconds=ANSWER_SECONDS)
        return self._by_mlflow


def main(argv: list[str] | None = None) -> int:
    """Follows the champion until a signal or the end of the parent process, and returns the exit code."""
    parser = argparse.ArgumentParser("pricing follow", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--bake",
        action="store_true",
        help="fetch the champion once into PRICING_HOME/versions/baked, for an image to carry, and exit",
    )
    parser.add_argument("--config", metavar="FILE", help="YAML laid over config/default.yaml (PRICING_CONFIG)")
    options = parser.parse_args(argv)
    configure_logging()
    given = {"PRICING_CONFIG": options.config} if options.config else {}
    try:
        settings = read_settings({**os.environ, **given}, baked=not options.bake)
    except PricingError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    if options.bake:
        return _bake(settings)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    database = DatabaseWatch(settings, stop=stop)
    uploading = _upload_log(settings, stop)
    registry = _LazyRegistry(settings)
    follower = Follower(
        registry,
        places=settings.places,
        options=FollowerOptions(
            settings.run_id,
            settings.config.serving.keep_versions,
            pinned=settings.pinned,
        ),
        verify=partial(verify_beside, database=database),
        advice=partial(no_champion, settings),
        known=database.wait,
        tried=partial(version_tried, settings),
    )
    parent, first = os.getppid(), True
    while not stop.is_set() and os.getppid() == parent:
        follower.poll()
        if first:
            os.nice(5)  # from now on answering requests goes before downloading
            first = False
        if registry.calls.overdue_seconds > HUNG_SECONDS:
            _log.error(
                "a call of the registry has not ended %.0f s after its time; the follower begins anew", HUNG_SECONDS
            )
            return 1
        lives = database.lives and (uploading is None or uploading.lives)
        if not lives and not stop.is_set():  # in this order: they end with `stop`, too
            _log.error("a thread of the follower has ended; the follower begins anew")
            return 1
        stop.wait(settings.config.serving.poll_seconds)
    stop.set()
    database.join()
    if uploading is not None:
        uploading.join()
    return 0


def verify_beside(folder: Path, *, database: DatabaseWatch) -> int:
    """As `verify_version`; a version is served only once what the database has in force is known, or is away.

    Raises:
        VersionError: As `verify_version`.
    """
    requests = verify_version(folder)
    database.wait()
    return requests


def version_tried(settings: Settings) -> str | None:
    """Number of the version that an experiment names which is not over; None without one, or a file that says so."""
    try:
        experiments = read_experiments(settings.experiments_file)
    except SourceError:  # which the workers log, and count
        return None
    return experiments.challenger(shop_now(settings.config.zone).date())


def _upload_log(settings: Settings, stop: threading.Event) -> Uploading | None:
    """Starts to upload the decision log, where it is said to where."""
    if settings.decisions_url is None:
        return None
    serving = settings.config.serving
    upload = LogUpload(
        settings.decisions_folder,
        store=partial(open_store, settings.decisions_url),
        task=settings.task,
        status=settings.upload_file,
        waiting_bytes=int(serving.upload_waiting_mb * 1_000_000),
    )
    return Uploading(upload, stop=stop, every=serving.upload_seconds, stop_seconds=serving.upload_stop_seconds)


def _bake(
    settings: Settings, *, registry: VersionSource | None = None, verify: Callable[[Path], int] | None = None
) -> int:
    places = settings.places
    places = replace(places, registry=BAKED, status=places.home / "versions" / BAKED / "follower.json")
    follower = Follower(
        registry or _LazyRegistry(settings),
        places=places,
        options=FollowerOptions("bake", 1, pinned=settings.pinned),
        verify=verify,
        advice=partial(no_champion, settings),
    )
    following = follower.poll()
    if following.state != "following":
        wanted = f"version {settings.pinned}" if settings.pinned else "champion"
        print(f"error: no {wanted} to bake in: {following.state}: {following.detail}", file=sys.stderr)  # noqa: T201
        return 2
    try:
        _bake_config(settings)
    except OSError as error:
        print(f"error: the configuration cannot be baked in: {error}", file=sys.stderr)  # noqa: T201
        return 2
    places.status.unlink(missing_ok=True)
    print(f"version {following.served} of {redact_text(settings.registry_uri)} lies in {places.versions}")  # noqa: T201
    return 0


def _bake_config(settings: Settings) -> None:
    """Lays the configuration that was given beside the version, so that an image serves with it."""
    place = baked_config(settings.home)
    if settings.file.path is None:
        place.unlink(missing_ok=True)
        return
    shutil.copyfile(settings.file.path, place)
    print(f"{settings.file.path} lies beside it and counts where no PRICING_CONFIG is given")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
