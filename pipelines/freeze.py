"""Freeze prices, give prices, and end either: a person's switches over the model, in the control table.

Every serving task takes them up within seconds, whatever becomes of the registry; `pricing price` does, too.
"""

import datetime as dt
import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
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
from pricing.registry.published_store import fetch_version, parse_pointer, pointer_key, published_url
from pricing.registry.version import load
from pricing.runtime.cli import flag, job, typed

SHOWN = 3  # products of a decision that are named
_log = logging.getLogger(__name__)


def _clock() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def _scoped(function: Callable[..., int]) -> Callable[..., int]:
    for option in (
        click.option("--product", metavar="ID", help="of a product; goes before --category and --all"),
        click.option("--category", metavar="NAME", help="of a category; goes before --all"),
        flag("--all", "everything", help="of everything"),
    ):
        function = option(function)
    return function


def _day_or_moment(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text) if "T" not in text else dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: expected a day such as 2026-03-06, or 2026-03-06T08:00") from error


_REASON = click.option("--reason", metavar="WHY", required=True, help="why, for whoever reads the record")
_UNTIL = click.option(
    "--until",
    type=_day_or_moment,
    metavar="WHEN",
    help="the last day on which it counts, such as 2026-03-06, where the shop is (time_zone, else UTC); or the moment "
    "when it ends, such as 2026-03-06T08:00, in this machine's time zone where none is given",
)


@job("freeze")
@_scoped
@_UNTIL
@click.option("--reason", metavar="WHY", help="why; needed")
@flag("--list", "listed", help="show what is in force, and do nothing")
def freeze(*, config: str | None, listed: bool, now: Callable[[], dt.datetime] = _clock, **said: Any) -> int:
    """Freezes prices: each stays what it is now, inside cost and the bands around list price and anchor.

    Without --until it lasts until it is ended. Freezing a scope that has an override ends that.
    """
    if listed:
        print(_said(control_in_force(load_config(config), at=now()).switches))
        return 0
    return _act(config, Switch, action="freeze", now=now(), **said)


@job("override")
@click.option("--product", required=True, metavar="ID", help="of a product")
@click.option("--price", type=float, required=True, metavar="P", help="the price to charge")
@_UNTIL
@_REASON
@flag("--force", "below_cost", help="the price counts below cost, too")
def override(*, config: str | None, now: Callable[[], dt.datetime] = _clock, **said: Any) -> int:
    """Gives a product a price for a while, whatever the model and the guardrails say; below cost with --force alone.

    Overriding a product that is frozen ends its freeze.
    """
    return _act(config, Switch, action="override", now=now(), **said)


@job("unfreeze")
@_scoped
@_REASON
def unfreeze(*, config: str | None, now: Callable[[], dt.datetime] = _clock, **said: Any) -> int:
    """Ends the freeze or the override of a scope."""
    return _act(config, Unfreeze, now=now(), **said)


def _act(
    config: str | None,
    kind: type[Switch | Unfreeze],
    *,
    now: dt.datetime,
    product: str | None,
    category: str | None = None,
    everything: bool = False,
    until: dt.date | None = None,
    **said: Any,
) -> int:
    """Sets or ends a switch; returns the exit code, 4 where it is written and not published.

    Raises:
        click.UsageError: The options do not say what to do.
        RegistryError: The database does not answer or refuses.
    """
    scopes = {"product": product, "category": category, "all": "" if everything else None}
    given = [(scope, name) for scope, name in scopes.items() if name is not None]
    if len(given) != 1:
        raise click.UsageError("say of what: exactly one of --all, --category NAME and --product ID")
    scope, name = given[0]
    settings, end = load_config(config), dict[str, dt.datetime]()
    if until is not None:
        moment = until if isinstance(until, dt.datetime) else settings.end_of(until)
        end["until"] = moment.astimezone(dt.UTC)
    try:
        word = kind.model_validate({"scope": scope, "name": name, "by": actor(), "at": now, **end, **said})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise click.UsageError(faults) from error
    if isinstance(word, Switch) and word.ended(now):
        raise click.UsageError(f"--until {until}: that is past")
    record = control_record(settings)
    before = record.control(at=now).switches
    if isinstance(word, Switch):
        _refuse_unknown(word, model=settings.registry.model_name)
    elif (scope, name) not in {(one.scope, one.name) for one in before}:
        raise click.UsageError(f"nothing is frozen or overridden for {word.whose}. {_said(before)}")
    record.append(word)
    print(f"{sentence(word)}.")
    if isinstance(word, Switch) and word.price is not None and not word.below_cost:
        print("Where this lies below the product's cost, the cost is charged; --force charges it all the same.")
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
        raise click.UsageError(f"the champion knows no {switch.whose}{meant} Nothing was changed")


def _money(price: float) -> str:
    return f"{price:.12g}"  # without what floating point adds


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
