"""What the service says of itself at its start, and while there is no champion."""

from pathlib import Path

from pricing.config import DEFAULT_PATH
from pricing.errors import VersionError
from pricing.fileio import redact_url
from pricing.paths import CHECKOUT, SQLITE
from pricing.runtime.shop_time import shop_now
from pricing.served_config import leaves
from serving.current_version import Pointer, read_pointer
from serving.settings import Settings, is_loopback

_TRAIN = "make train SALES=…" if CHECKOUT else "pricing train --sales …"
_PROMOTE = "make promote" if CHECKOUT else "pricing promote"


def at_start(settings: Settings) -> list[str]:
    """Configuration, champion, keys and time zone, one sentence each; no key itself."""
    return [_configuration(settings), _champion(settings), _keys(settings), _today(settings)]


def no_champion(settings: Settings) -> str:
    """That there is no champion, where one was looked for, and what to do."""
    where = redact_url(settings.registry_uri)
    missing = settings.registry_uri.startswith(SQLITE) and not Path(settings.registry_uri.removeprefix(SQLITE)).exists()
    return (
        f"no version of the model {settings.config.registry.model_name!r} is champion in {where}"
        + (", which does not exist" if missing else "")
        + f": `{_TRAIN}` trains one and `{_PROMOTE}` makes it the champion, both with this registry "
        "(MLFLOW_TRACKING_URI) and model (registry.model_name); then it is served within seconds"
    )


def last_served(settings: Settings) -> tuple[Pointer, bool] | None:
    """The version that answers until another one is fetched, and whether it was baked in; None where there is none.

    Where a version is pinned no other one answers.
    """
    for path, baked in ((settings.places.pointer, False), (settings.places.baked, True)):
        try:
            pointer = read_pointer(path)
        except VersionError:  # whoever opens it says so
            continue
        if pointer is not None and settings.pinned in (None, pointer.version):
            return pointer, baked
    return None


def _configuration(settings: Settings) -> str:
    file = settings.file
    if file.path is None:
        return f"configuration: {DEFAULT_PATH}; a version's prices follow the settings that it carries"
    mine = leaves(file.given.get("decision") or {}, "decision")
    others = [f"{name}.*" for name in ("data", "demand") if file.given.get(name)]
    parts = [f"configuration: {file.path} over {DEFAULT_PATH}"]
    if mine:
        parts.append(f"over the settings that a version carries, too, go {', '.join(mine)}")
    if others:
        parts.append(f"{' and '.join(others)} change nothing here: a version keeps those that it was trained with")
    return "; ".join(parts)


def _today(settings: Settings) -> str:
    zone = settings.config.zone
    where = f"in {zone.key}" if zone is not None else "of this machine's time zone; time_zone in the configuration says"
    now = shop_now(zone)
    return f"today: {now.date()} ({now:%H:%M %Z}), the day {where}" + ("" if zone else " another")


def _champion(settings: Settings) -> str:
    found, name = last_served(settings), settings.config.registry.model_name
    where = redact_url(settings.registry_uri)
    looked = f"the follower looks for the champion of {name!r} in {where}"
    if settings.pinned is not None:
        there = "which is on this machine" if found else f"which the follower fetches from {where}"
        return f"champion: not followed; version {settings.pinned} of {name!r} is pinned (PRICING_VERSION), {there}"
    if found is None:
        return f"champion: none on this machine yet; {looked}"
    pointer, baked = found
    origin = "baked in" if baked else "served last"
    return f"champion: version {pointer.version}, {origin}, until there is another; {looked}"


def _keys(settings: Settings) -> str:
    known = ", ".join(f"{key.name} ({', '.join(sorted(key.scopes))})" for key in settings.keys)
    number = f"{len(settings.keys)} known" + (f": {known}" if known else "")
    if settings.keys_needed:
        return f"keys: required, {number}"
    ignored = f"; {number}, not needed" if known else ""
    if is_loopback(settings.host):
        return f"keys: off on loopback ({settings.host}){ignored}"
    return f"keys: off, although other machines may reach {settings.host}{ignored}"
