"""Freeze prices, give prices, and end either: a person's switches over the model, in the control table.

Every serving task takes them up within seconds, whatever becomes of the registry; `pricing price` does, too.
"""

import datetime as dt
import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
from pydantic import ValidationError

from pricing.config import Config, load_config
from pricing.decision.experiments import Experiment
from pricing.decision.switches import Control, Review, Scoped, Switch, Switches, Unfreeze
from pricing.errors import EXIT_NOT_PUBLISHED, PricingError, nearest
from pricing.objects import open_store
from pricing.paths import actor, database_url
from pricing.registry.control import ControlRecord, known_control
from pricing.registry.published import fetch_version, parse_pointer, pointer_key, published_url
from pricing.registry.version import load
from pricing.runtime.cli import flag, job, typed

SHOWN = 3  # products of a decision that are named
_log = logging.getLogger(__name__)


def _clock() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def _scoped(function: Callable[..., int]) -> Callable[..., int]:
    for option in (
        flag("--list", help="show what is in force, and do nothing"),
        click.option("--reason", metavar="WHY", help="why; needed"),
        click.option("--product", metavar="ID", help="of a product; goes before --category and --all"),
        click.option("--category", metavar="NAME", help="of a category; goes before --all"),
        flag("--all", help="of everything"),
    ):
        function = option(function)
    return function


_NEW = flag("--new", help="of a product or category that the published version does not know yet")
_UNTIL = click.option(
    "--until",
    metavar="TIME",
    help="when it ends, such as 2026-03-06T08:00, or 2026-03-06 for the end of that day; in this machine's time zone "
    "where none is given",
)


@job("freeze")
@_scoped
@_NEW
@_UNTIL
def freeze(*, now: Callable[[], dt.datetime] = _clock, **options: Any) -> int:
    """Freezes prices: each stays what it is now, inside cost and the bands around list price and anchor.

    Without --until it lasts until it is ended. Freezing a scope that has an override ends that.
    """
    return _act("freeze", SimpleNamespace(**options), now=now())


@job("override")
@_scoped
@_NEW
@_UNTIL
@click.option("--price", type=float, metavar="P", help="the price to charge")
@flag("--force", help="the price counts below cost, too")
@flag("--wide", help="one price for every product of a category, or of everything, is meant")
def override(*, now: Callable[[], dt.datetime] = _clock, **options: Any) -> int:
    """Gives a price for a while, whatever the model and the guardrails say.

    Never one below cost without --force, and none for more than a product without --wide. Overriding a scope that is
    frozen ends the freeze.
    """
    return _act("override", SimpleNamespace(**options), now=now())


@job("unfreeze")
@_scoped
def unfreeze(*, now: Callable[[], dt.datetime] = _clock, **options: Any) -> int:
    """Ends the freeze or the override of a scope."""
    return _act("unfreeze", SimpleNamespace(**options), now=now())


def _act(action: str, options: SimpleNamespace, *, now: dt.datetime) -> int:
    """Sets or ends a switch, or lists the record; returns the exit code, 4 where it is written and not published.

    Raises:
        click.UsageError: The options do not say what to do.
        RegistryError: The database does not answer or refuses.
    """
    config = load_config(options.config)
    record = control_record(config)
    if options.list:
        print(_said(control_in_force(config, at=now).switches))
        return 0
    said = _said_by(action, options, now=now)
    before = record.control(at=now).switches
    if isinstance(said, Switch):
        if not options.new:
            _refuse_unknown(said, model=config.registry.model_name)
    elif (said.scope, said.name) not in {(one.scope, one.name) for one in before}:
        raise click.UsageError(f"nothing is frozen or overridden for {said.whose}. {_said(before)}")
    record.append(said)
    print(f"{sentence(said)}.")
    if isinstance(said, Switch) and said.price is not None and not said.below_cost:
        print("Where this lies below a product's cost, the cost is charged; --force charges it all the same.")
    print(_said(record.control(at=now).switches))
    return publish_control(record, now=now)


def control_record(config: Config) -> ControlRecord:
    """Opens the record of what persons have switched and tried."""
    return ControlRecord(database_url(), model=config.registry.model_name, store=open_store(published_url()))


def control_in_force(config: Config, *, at: dt.datetime | None = None) -> Control:
    """Reads what persons have switched and tried; see `known_control`."""
    return known_control(config.registry.model_name, url=database_url(), store=open_store(published_url()), at=at)


def publish_control(record: ControlRecord, *, now: dt.datetime) -> int:
    """Publishes what a command has just written to the control table, and returns its exit code."""
    try:
        record.mirror(now=now)
    except PricingError as error:
        print(f"error: written, and not published, so serving does not know it yet: {error}", file=sys.stderr)
        print(f"`{typed('publish')}` mends it, as its loop beside the service does", file=sys.stderr)
        return EXIT_NOT_PUBLISHED
    return 0


def _said_by(action: str, options: SimpleNamespace, *, now: dt.datetime) -> Switch | Unfreeze:
    """Reads a switch, or the end of one, from a command line."""
    named = {"all": options.all and "", "category": options.category, "product": options.product}
    given = [(scope, name) for scope, name in named.items() if name not in (None, False)]
    if len(given) != 1:
        raise click.UsageError("say of what: exactly one of --all, --category NAME and --product ID")
    if not options.reason:
        raise click.UsageError("--reason: say why, for whoever reads the record in the morning")
    if action == "override" and (options.price is None or options.until is None):
        raise click.UsageError("an override needs --price and --until: a price given for good is the shop's own")
    (scope, name), kind = given[0], Unfreeze if action == "unfreeze" else Switch
    said: dict[str, Any] = {"scope": scope, "name": name, "reason": options.reason, "by": actor(), "at": now}
    if action != "unfreeze":
        said |= {"action": action, "until": None if options.until is None else _time(options.until)}
    if action == "override":
        said |= {"price": options.price, "below_cost": options.force}
        if scope != "product" and not options.wide:
            raise click.UsageError(
                "an override of more than a product is one price for all that are there; give each its own (--product "
                "ID), or add --wide where that is meant"
            )
    try:
        found = kind.model_validate(said)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, one['loc'])) or action}: {one['msg']}" for one in error.errors())
        raise click.UsageError(faults) from error
    if isinstance(found, Switch) and found.ended(now):
        raise click.UsageError(f"--until {options.until}: that is past")
    return found


def _refuse_unknown(switch: Switch, *, model: str) -> None:
    """Refuses the name of a product or category that the published champion does not know, where that can be told."""
    store = open_store(published_url())
    try:
        content = store.get(pointer_key(model)) if switch.scope != "all" else None
        if content is None:
            return
        with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
            folder = Path(scratch) / "version"
            fetch_version(store, parse_pointer(content, model=model).champion, model=model, folder=folder)
            facts = load(folder).facts
            known = {str(one) for one in (facts.product_ids if switch.scope == "product" else facts.categories)}
    except (PricingError, OSError) as error:
        _log.warning("the name cannot be looked up: %s", error)
        return
    if switch.name not in known:
        near = nearest(switch.name, sorted(known))
        meant = f"; did you mean {near!r}?" if near is not None else "."
        raise click.UsageError(f"the champion knows no {switch.whose}{meant} Nothing was changed; --new says it is new")


def _money(price: float) -> str:
    return f"{price:.12g}"  # without what floating point adds


def _time(text: str) -> dt.datetime:
    """A time in UTC; a date means the end of that day, and a time without zone is this machine's."""
    try:
        if len(text) == len("2026-03-06"):
            day = dt.date.fromisoformat(text) + dt.timedelta(days=1)
            return dt.datetime(day.year, day.month, day.day).astimezone(dt.UTC)  # of this machine's zone
        return dt.datetime.fromisoformat(text).astimezone(dt.UTC)
    except ValueError as error:
        raise click.UsageError(f"--until {text}: expected a time such as 2026-03-06T08:00, or a date") from error


def _said(switches: Switches) -> str:
    if not switches:
        return "In force: no freeze and no override."
    lines = [f"  {sentence(one)} ({one.by}, {_shown(one.at)})" for one in switches]
    return "In force; the narrowest counts:\n" + "\n".join(lines)


def sentence(said: Scoped | Review | Experiment) -> str:
    """What a person said of prices, in one line."""
    if isinstance(said, Experiment):
        return f"experiment {said.name}"
    if isinstance(said, Review):
        named = [f"{product} at {_money(price)}" for product, price in list(said.prices.items())[:SHOWN]]
        more = f" and {len(said.prices) - SHOWN:,} more" if len(said.prices) > SHOWN else ""
        return f"{said.verdict} of {', '.join(named)}{more}: {said.reason}"
    if not isinstance(said, Switch):
        return f"unfreeze of {said.whose}: {said.reason}"
    until = f" until {_shown(said.until)}" if said.until else ""
    price = f" at {_money(said.price)}" if said.price is not None else ""
    below = ", below cost too" if said.below_cost else ""
    return f"{said.action} of {said.whose}{price}{below}{until}: {said.reason}"


def _shown(moment: dt.datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M %Z")
