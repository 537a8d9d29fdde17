"""The one process that talks to MLflow: fetches the champion, verifies it, and switches the workers' pointer to it."""

import argparse
import logging
import os
import re
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

from pricing.errors import PricingError, RegistryError, VersionError
from pricing.registry.version import load
from serving import trials
from serving.logs import configure_logging
from serving.pointer import BAKED, Following, Places, Pointer, read_pointer, replace_file, write_pointer
from serving.settings import Settings, read_settings

RETRY_SECONDS = 600.0  # a refused version is fetched anew after this long: the fault may have been the network's

_SECRET = re.compile(r"://[^/@\s]+@")  # the user and password of an address

_log = logging.getLogger(__name__)
_PATIENCE = {
    # The first attempt decides when the service calls itself ready, so a dead server must be given up soon.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}


class Entry(Protocol):
    """A version as the registry lists it."""

    @property
    def number(self) -> str:
        """Its number."""
        ...

    @property
    def created_ms(self) -> int:
        """When it was registered."""
        ...


class Registry(Protocol):
    """What the follower needs of a registry; every method may raise RegistryError."""

    def at(self, alias: str) -> Entry | None:
        """The version that bears an alias."""
        ...

    def download(self, reference: str, to: Path) -> Path:
        """Fetches a version's folder into the new folder `to`."""
        ...


@dataclass(frozen=True)
class _Refusal:
    why: str
    at: float


class Follower:
    """Keeps the pointer at the newest champion that this machine can serve."""

    def __init__(
        self,
        registry: Registry,
        *,
        places: Places,
        run_id: str,
        keep: int,
        verify: Callable[[Path], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._verify = verify or admit
        self._clock = clock
        self._places = places
        self._status = places.status
        self._keep = keep
        self._pointer = self._last_good()
        self._refused: dict[tuple[str, int], _Refusal] = {}
        self.following = Following(run_id=run_id, served=self._pointer.version if self._pointer else None)
        self._tell(self.following)

    def poll(self) -> Following:
        """Looks at the alias once and does what it asks for; never raises for a fault of registry or version."""
        try:
            entry = self._registry.at("champion")
        except RegistryError as error:
            return self._tell(replace(self.following, state="unreachable", attempted=True, detail=str(error)))
        now = replace(self.following, attempted=True, detail=None, polled_at=round(time.time(), 3))
        if entry is None:
            return self._tell(replace(now, state="no_champion", champion=None))
        now = replace(now, champion=entry.number)
        if self._pointer is not None and _identity(entry) == (self._pointer.version, self._pointer.created_ms):
            return self._tell(replace(now, state="following", served=entry.number))
        return self._tell(self._attempt(entry, now))

    def _attempt(self, entry: Entry, now: Following) -> Following:
        refusal = self._refused.get(_identity(entry))
        if refusal is None or self._clock() - refusal.at >= RETRY_SECONDS:
            try:
                self._switch(entry)
            except RegistryError as error:
                return replace(now, state="unreachable", detail=str(error))
            except OSError as error:
                return replace(now, state="failed", detail=str(error))
            except VersionError as error:
                _log.error("version %s is refused: %s", entry.number, error)
                refusal = self._refused[_identity(entry)] = _Refusal(str(error), self._clock())
            else:
                self._refused.pop(_identity(entry), None)
                return replace(now, state="following", served=entry.number, refused=self._reasons())
        return replace(now, state="refused", detail=refusal.why, refused=self._reasons())

    def _switch(self, entry: Entry) -> None:
        name = f"{entry.number}-{entry.created_ms}"
        folder = self._places.versions / name
        self._places.versions.mkdir(parents=True, exist_ok=True)
        if not folder.exists():
            self._registry.download(entry.number, folder)
        try:
            requests = self._verify(folder)
        except VersionError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        pointer = Pointer(version=entry.number, created_ms=entry.created_ms, folder=name)
        write_pointer(self._places.pointer, pointer)
        self._pointer = pointer
        _log.info("version %s is served now; it answered %d golden requests", entry.number, requests)
        self._sweep()

    def _reasons(self) -> dict[str, str]:
        return {number: refusal.why for (number, _), refusal in self._refused.items()}

    def _last_good(self) -> Pointer | None:
        try:
            return read_pointer(self._places.pointer)
        except VersionError as error:
            _log.error("%s", error)
            return None

    def _sweep(self) -> None:
        """Deletes the oldest fetched versions; a worker that still maps one keeps it until it lets go."""
        folders = [path for path in self._places.versions.iterdir() if path.is_dir() and not path.name.startswith(".")]
        newest_first = sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)
        current = self._pointer.folder if self._pointer else None
        for folder in [path for path in newest_first if path.name != current][self._keep - 1 :]:
            shutil.rmtree(folder, ignore_errors=True)

    def _tell(self, following: Following) -> Following:
        if following.detail:
            following = replace(following, detail=_SECRET.sub("://***@", following.detail))
        if following.state != self.following.state or following.detail != self.following.detail:
            _log.info("follower: %s%s", following.state, f" ({following.detail})" if following.detail else "")
        self.following = following
        try:
            replace_file(self._status, asdict(following))
        except OSError as error:
            _log.error("%s cannot be written: %s", self._status, error)
        return following


def admit(folder: Path, *, settings: Settings | None = None) -> int:
    """Loads a version, checksums and all, lets it answer its golden requests, and returns how many they were.

    Where a trial is configured, its new products are dealt.

    Raises:
        VersionError: It cannot be loaded here, or does not answer as it did when it was packed.
    """
    version = load(folder)
    requests = version.verify().requests
    trial = settings.config.serving.trial if settings else None
    if settings and trial:
        try:
            trials.extend(settings.trial_file, version.facts, trial)
        except OSError as error:
            _log.error("%s cannot be written: %s; the workers deal the same for themselves", settings.trial_file, error)
    return requests


def _identity(entry: Entry) -> tuple[str, int]:
    return entry.number, entry.created_ms


class _Lazy:
    """The real registry, opened when it is first needed: importing MLflow takes longer than the first answers."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open: Registry | None = None

    def at(self, alias: str) -> Entry | None:
        # MLflow would create the database that it does not find, and take seconds over it.
        uri = self._settings.registry_uri
        if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
            return None
        return self._registry().at(alias)

    def download(self, reference: str, to: Path) -> Path:
        return self._registry().download(reference, to)

    def _registry(self) -> Registry:
        if self._open is None:
            for name, value in _PATIENCE.items():
                os.environ.setdefault(name, value)
            from pricing.registry.aliases import Registry as MlflowRegistry  # noqa: PLC0415 - see the class

            self._open = MlflowRegistry(self._settings.config.registry.model_name, uri=self._settings.registry_uri)
        return self._open


def main(argv: list[str] | None = None) -> int:
    """Follows the champion until a signal or the death of whoever started this; the program's exit code."""
    parser = argparse.ArgumentParser("python -m serving.follower", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--bake",
        action="store_true",
        help="fetch the champion once into PRICING_HOME/versions/baked, for an image to carry, and exit",
    )
    options = parser.parse_args(argv)
    configure_logging()
    try:
        settings = read_settings(os.environ)
    except PricingError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    if options.bake:
        return _bake(settings)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    follower = Follower(
        _Lazy(settings),
        places=settings.places,
        run_id=settings.run_id,
        keep=settings.config.serving.keep_versions,
        verify=partial(admit, settings=settings),
    )
    os.nice(5)  # answers go before what is fetched for later ones
    parent = os.getppid()
    while not stop.is_set() and os.getppid() == parent:
        follower.poll()
        stop.wait(settings.config.serving.poll_seconds)
    return 0


def _bake(settings: Settings) -> int:
    places = settings.places
    places = replace(places, registry=BAKED, status=places.home / "versions" / BAKED / "follower.json")
    follower = Follower(_Lazy(settings), places=places, run_id="bake", keep=1)
    following = follower.poll()
    if following.state != "following":
        print(f"error: no champion to bake in: {following.state} {following.detail or ''}", file=sys.stderr)  # noqa: T201
        return 2
    places.status.unlink(missing_ok=True)
    print(f"version {following.served} of {settings.registry_uri} lies in {places.versions}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
