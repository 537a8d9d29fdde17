"""Publish what the registry's aliases name: verified versions into the store, then the pointer that switches them.

The pointer is written under the lock of the promotion record, by aliases read under it: of jobs that publish at once,
the last one writes what the last promotion left.
"""

import datetime as dt
import logging
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pricing.decision.switches import Control
from pricing.errors import PricingError, RegistryError, VersionError
from pricing.fileio import utc_stamp
from pricing.objects import ObjectStore
from pricing.registry import CHAMPION, files
from pricing.registry.promotion import Audit, champion_of, note_manual_change
from pricing.registry.published_store import (
    Pointer,
    PublishedVersion,
    parse_pointer,
    pointer_key,
    put_version,
    versions_prefix,
    whole,
)
from pricing.registry.version import load

if TYPE_CHECKING:
    from pricing.registry.mlflow_registry import Registry

KEPT = 3  # newest versions that stay beside those in use, for tasks that are still fetching one
_FOLDER = re.compile(r"[0-9]{1,20}-[0-9a-f]{16}")  # as `PublishedVersion.folder` makes them
_log = logging.getLogger(__name__)


def publish(
    registry: "Registry",
    audit: Audit,
    store: ObjectStore,
    *,
    control: Callable[[], Control],
    now: dt.datetime,
    who: str,
    alone: bool = False,
    again: bool = False,
) -> Pointer | None:
    """Publishes champion and challenger, and returns what is published then; None without a champion.

    A change of the champion past the record is recorded. Nothing is written where all of it is published already.

    Args:
        registry: Has the aliases and the versions.
        audit: Has the record of promotions.
        store: Where they are published.
        control: Reads what people have tried.
        now: The moment, in the shop's time zone: an experiment that is over by its day names no version any more.
        who: The person or job, for the record.
        alone: Publishes the champion alone and deletes nothing, as an image is baked with it.
        again: Writes the pointer, of a higher sequence, also where all of it is published already.

    Raises:
        PricingError: The store, the registry or the record does not answer, or the champion is damaged or prices
            otherwise than when it was packed.
    """

    def ready() -> Pointer | None:
        tried = None if alone else control().experiments.challenger(now.date())
        return _ready(registry, store, champion=registry.aliases().get(CHAMPION), challenger=tried)

    wanted = ready()  # so that nobody waits while versions are fetched
    current = _pointer(store, registry.model_name)
    recorded = champion_of(audit.entries(registry.identity()))
    there = wanted is not None and current is not None and current.served == wanted.served
    if wanted is not None and there and recorded == wanted.champion.number and not again:
        return current
    with audit.turn(registry.identity()) as turn:
        note_manual_change(turn, registry.aliases(), who=who, at=utc_stamp(now))
        wanted = ready()  # by what the aliases name under the lock, most of which is in the store by now
        if wanted is None:
            return None
        pointer = _switch(store, wanted, now=now, again=again)
        if not alone:
            _delete_unused(store, pointer)
    return pointer


def champion_is_published(registry: "Registry", store: ObjectStore) -> bool:
    """True where serving tasks find the champion that the alias names."""
    pointer = _pointer(store, registry.model_name)
    return (
        pointer is not None
        and pointer.champion.number == registry.aliases().get(CHAMPION)
        and whole(store, pointer.champion, model=registry.model_name)
    )


def _ready(registry: "Registry", store: ObjectStore, *, champion: str | None, challenger: str | None) -> Pointer | None:
    """Puts the versions into the store, and returns a pointer to them, of no sequence yet; None without a champion."""
    checksums = {version.number: version.checksum for version in registry.versions()}

    def put(number: str) -> PublishedVersion:
        if not checksums.get(number):
            raise RegistryError(f"{registry.model_name} has no version {number} with a checksum of its files")
        return _put(registry, store, PublishedVersion(number, checksums[number]))

    if champion is None:
        return None
    pointer = Pointer(registry.model_name, 0, put(champion))
    if challenger is not None and challenger != champion:
        try:
            return replace(pointer, challenger=put(challenger))
        except (RegistryError, VersionError) as error:
            _log.warning("version %s is left out: %s", challenger, error)  # and keeps no champion from being published
    return pointer


def _put(registry: "Registry", store: ObjectStore, version: PublishedVersion) -> PublishedVersion:
    """Puts a version into the store, verified, where not every file of it is there."""
    if whole(store, version, model=registry.model_name):
        return version
    with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
        folder = registry.download(version.number, Path(scratch) / "version")
        loaded = load(folder)
        loaded.verify()
        if loaded.meta["checksum"] != version.checksum:
            raise VersionError(f"version {version.number}: its files are not those that were registered; train again")
        put_version(store, version, model=registry.model_name, folder=folder)
    _log.info("version %s is in the store", version.number)
    return version


def _switch(store: ObjectStore, ready: Pointer, *, now: dt.datetime, again: bool) -> Pointer:
    """Writes the pointer where another one is there, or `again`.

    Its sequence is the seconds since 1970, or one more than that of the last pointer where that is higher: it rises
    with each change also where the last pointer, or the record of promotions, is lost.
    """
    current = _pointer(store, ready.model)
    sequence = int(now.timestamp())
    if current is not None:
        if current.served == ready.served and not again:
            return current
        sequence = max(sequence, current.sequence + 1)
    pointer = replace(ready, sequence=sequence)
    store.put(pointer_key(ready.model), pointer.to_json())
    _log.info("version %s is published as champion, sequence %d", pointer.champion.number, pointer.sequence)
    return pointer


def _pointer(store: ObjectStore, model: str) -> Pointer | None:
    """The pointer in the store; None where there is none or it is damaged, which is logged."""
    content = store.get(pointer_key(model))
    if content is None:
        return None
    try:
        return parse_pointer(content, model=model)
    except VersionError as error:
        _log.warning("%s", error)
        return None


def _delete_unused(store: ObjectStore, pointer: Pointer) -> None:
    """Deletes versions of this model that nothing names, found by listing its prefix; the newest others stay."""
    prefix = versions_prefix(pointer.model)
    used = {version.folder for version in pointer.served}
    unused: dict[str, list[str]] = {}  # folder → keys
    try:
        for key in store.keys(prefix):
            folder, _, _ = key.removeprefix(prefix).partition("/")
            if _FOLDER.fullmatch(folder) and folder not in used:
                unused.setdefault(folder, []).append(key)
        newest_first = sorted(unused, key=lambda folder: int(folder.partition("-")[0]), reverse=True)
        for folder in newest_first[KEPT:]:  # the header first: a version that lacks it is not whole
            store.delete(sorted(unused[folder], key=lambda key: not key.endswith(f"/{files.HEADER}")))
    except PricingError as error:  # what is published is published
        _log.warning("versions that nothing names stay in the store: %s", error)
