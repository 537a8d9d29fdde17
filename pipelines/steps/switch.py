"""Set a person's switch over the model: which products it concerns, until when it counts, and what is in force then.

Every serving task takes switches up within seconds, whatever becomes of the registry; `pricing price` does, too.
"""

import datetime as dt
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import ValidationError

from pipelines.steps.control import control_record, local_time, publish_control, sentence
from pricing.config import load_config
from pricing.decision.switches import Switch, Switches, Unfreeze
from pricing.errors import PricingError, nearest
from pricing.objects import open_store
from pricing.paths import actor
from pricing.quoting import printable
from pricing.registry.control import ControlRecord
from pricing.registry.published_store import fetch_version, parse_pointer, pointer_key, published_url
from pricing.registry.version import load
from pricing.runtime.cli import flag, typed

Entry = TypeVar("Entry", Switch, Unfreeze)
_log = logging.getLogger(__name__)


def clock() -> dt.datetime:
    """Returns the moment, to the second."""
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def scoped(function: Callable[..., int]) -> Callable[..., int]:
    """Adds the options that name a scope."""
    for option in (
        click.option("--product", metavar="ID", help="of a product; goes before --category and --all"),
        click.option("--category", metavar="NAME", help="of a category; goes before --all"),
        flag("--all", "everything", help="of everything"),
    ):
        function = option(function)
    return function


def day_or_moment(text: str) -> dt.date:
    """Reads an option: a day, or a moment with or without a time zone, of this century or the next."""
    try:
        found = dt.date.fromisoformat(text) if "T" not in text else dt.datetime.fromisoformat(text)
        if not 2000 <= found.year < 2200:
            raise ValueError("no year of ours")
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: expected a day such as 2026-03-06, or 2026-03-06T08:00") from error
    return found


REASON = click.option("--reason", metavar="WHY", required=True, help="why, for whoever reads the record")
UNTIL = click.option(
    "--until",
    type=day_or_moment,
    metavar="WHEN",
    help="the last day on which it counts, such as 2026-03-06, where the shop is (time_zone, else UTC); or the moment "
    "when it ends, such as 2026-03-06T08:00, in this machine's time zone where none is given",
)


def scope_of(product: str | None, category: str | None = None, everything: bool = False) -> dict[str, str]:
    """Returns the fields `scope` and `name` of the one scope that options name.

    Raises:
        click.UsageError: They name none, or several.
    """
    scopes = {"product": product, "category": category, "all": "" if everything else None}
    given = [{"scope": scope, "name": name} for scope, name in scopes.items() if name is not None]
    if len(given) != 1:
        raise click.UsageError("say of what: exactly one of --all, --category NAME and --product ID")
    return given[0]


def entry_of(kind: type[Entry], **fields: Any) -> Entry:
    """Makes an entry of the control table, by this actor.

    Raises:
        click.UsageError: The fields contradict each other, or one is missing.
    """
    try:
        return kind.model_validate({"by": actor(), **fields})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise click.UsageError(faults) from error


def set_switch(
    config: str | None,
    *,
    scope: dict[str, str],
    now: dt.datetime,
    until: dt.date | None = None,
    note: str = "",
    at_once: bool = False,
    **fields: Any,
) -> int:
    """Freezes or overrides a scope; returns the exit code, 4 where that is written and not published.

    `at_once` puts it into the published store alone: see `ControlRecord.freeze_unrecorded`.

    Raises:
        click.UsageError: The options do not say what to do, or name what the champion does not know.
        RegistryError: The database does not answer or refuses.
    """
    settings = load_config(config)
    if until is not None:
        fields["until"] = settings.moment_of(until).astimezone(dt.UTC)
    switch = entry_of(Switch, at=now, **scope, **fields)
    if switch.ended(now):
        raise click.UsageError(f"--until {until}: that is past")
    _refuse_unknown(switch, model=settings.registry.model_name)
    record = control_record(settings)
    if at_once:
        control = record.freeze_unrecorded(switch, now=now)
        print(f"{sentence(switch)}.\nNot on record yet: `{typed('publish')}` records it once the database is back.")
        print(in_force(control.switches.at(now)))
        return 0
    return write(record, switch, now=now, note=note)


def _refuse_unknown(switch: Switch, *, model: str) -> None:
    """Refuses the name of a product or category that the published champion does not know, where that can be told."""
    if switch.scope == "all":
        return
    try:
        known = _known_names(switch.scope, model=model)
    except (PricingError, OSError) as error:
        _log.warning("the name cannot be looked up: %s", error)
        return
    if known is None or switch.name in known:
        return
    near = nearest(switch.name, sorted(known))
    meant = f"; did you mean {near!r}?" if near is not None else "."
    raise click.UsageError(f"the champion knows no {switch.whose}{meant} Nothing was changed")


def _known_names(scope: str, *, model: str) -> set[str] | None:
    """Returns the products or categories that the published champion knows; None where none is published."""
    store = open_store(published_url())
    pointer = store.get(pointer_key(model))
    if pointer is None:
        return None
    with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
        folder = Path(scratch) / "version"
        fetch_version(store, parse_pointer(pointer, model=model).champion, model=model, folder=folder)
        facts = load(folder).facts
        names = facts.product_ids if scope == "product" else facts.categories
        return {str(name) for name in names}


def write(record: ControlRecord, entry: Switch | Unfreeze, *, now: dt.datetime, note: str = "") -> int:
    """Writes an entry, prints it, a note and what is in force then, and publishes; returns the exit code."""
    record.append(entry)
    print(f"{sentence(entry)}.")
    if note:
        print(note)
    print(in_force(record.control(at=now).switches))
    return publish_control(record, now=now)


def in_force(switches: Switches) -> str:
    """Lists switches, one a line."""
    if not switches:
        return "In force: no freeze and no override."
    lines = [printable(f"  {sentence(switch)} ({switch.by}, {local_time(switch.at)})") for switch in switches]
    return "In force; the narrowest counts:\n" + "\n".join(lines)
