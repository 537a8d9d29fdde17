"""Freeze prices, give prices, and end either: a person's switches over the model, in the control table.

Every serving task takes them up within seconds, whatever becomes of the registry; `pricing price` does, too.
"""

import argparse
import datetime as dt
import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from pricing.config import load_config
from pricing.decision.experiments import Experiment
from pricing.decision.guardrails import NEAR, PriceGrid
from pricing.decision.switches import Scope, Switch, Switches
from pricing.errors import ConfigError, PricingError, nearest
from pricing.fileio import redact_url
from pricing.objects import ObjectStore, open_store
from pricing.registry.control import ControlRecord, Unfreeze
from pricing.registry.published import fetch_version, parse_pointer, pointer_key, published_url
from pricing.registry.version import load
from pricing.runtime.cli import EXIT_NOT_PUBLISHED, Options, UsageError, run_main
from pricing.runtime.shared_state import actor, database_url

SHOWN = 50  # newest entries that --list shows
_log = logging.getLogger(__name__)
_ABOUT = {
    "freeze": "Freezes prices: each stays what it is now, inside cost and the bands around list price and anchor. "
    "Freezing a scope that has an override ends that.",
    "override": "Gives a price for a while, whatever the model and the guardrails say; never one below cost without "
    "--force, and none for more than a product without --wide. Overriding a scope that is frozen ends the freeze.",
    "unfreeze": "Ends the freeze or the override of a scope.",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the action that the first word names; returns the exit code, 4 where it is written and not published."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] not in _ABOUT:
        raise UsageError(f"expected one of {', '.join(_ABOUT)}, found {' '.join(words[:1]) or 'nothing'}")
    return act(words[0], words[1:], now=_now)


def act(action: str, argv: Sequence[str], *, now: Callable[[], dt.datetime]) -> int:
    """Sets or ends a switch, or lists the record.

    Raises:
        UsageError: The options do not say what to do.
        RegistryError: The database does not answer or refuses.
    """
    options = _options(action).parse(argv)
    config, store = load_config(options.config), open_store(published_url())
    record = ControlRecord(database_url(), model=config.registry.model_name, store=store)
    if options.list:
        _list(record, now=now())
        return 0
    switch = _switch(action, options, step=config.decision.price_step, now=now())
    before = record.control(at=switch.at).switches
    if action == "unfreeze" and not any((one.scope, one.name) == (switch.scope, switch.name) for one in before):
        raise UsageError(f"nothing is frozen or overridden for {_whose(switch)}. {_said(before)}")
    if action != "unfreeze" and not options.new:
        unknown = _unknown(switch.scope, switch.name, store=store, model=config.registry.model_name)
        if unknown:
            raise UsageError(f"{action} of {_whose(switch)}: {unknown} Nothing was changed; --new says that it is new")
    record.append_switch(switch)
    print(f"{_sentence(switch)}. It is in {redact_url(database_url())}.")
    if isinstance(switch, Switch) and switch.price is not None and not switch.below_cost:
        print("Where this lies below a product's cost, the cost is charged; --force charges it all the same.")
    print(_said(record.control(at=switch.at).switches))
    return publish_control(record, now=switch.at)


def publish_control(record: ControlRecord, *, now: dt.datetime) -> int:
    """Publishes what a command has just written to the control table, and returns its exit code."""
    try:
        record.mirror(now=now)
    except PricingError as error:
        print(f"error: written, and not published, so serving does not know it yet: {error}", file=sys.stderr)
        print("`pricing publish` mends it, as its loop beside the service does", file=sys.stderr)
        return EXIT_NOT_PUBLISHED
    return 0


def _options(action: str) -> Options:
    parser = Options(prog=f"pricing {action}", description=_ABOUT[action])
    parser.add_flag("--all", help="of everything")
    parser.add_argument("--category", metavar="NAME", help="of a category; goes before --all")
    parser.add_argument("--product", metavar="ID", help="of a product; goes before --category and --all")
    if action == "override":
        parser.add_argument("--price", type=float, metavar="P", help="the price to charge")
        parser.add_flag("--force", help="the price counts below cost, too")
        parser.add_flag("--wide", help="one price for every product of a category, or of everything, is meant")
    if action != "unfreeze":
        parser.add_flag("--new", help="of a product or category that the published version does not know yet")
        needed = "needed" if action == "override" else "absent: until it is ended"
        parser.add_argument(
            "--until",
            metavar="TIME",
            help="when it ends, such as 2026-03-06T08:00, or 2026-03-06 for the end of that day; in this machine's "
            f"time zone where none is given; {needed}",
        )
    parser.add_argument("--reason", metavar="WHY", help="why; needed")
    parser.add_argument("--by", default=actor(), metavar="WHO", help="who; PRICING_ACTOR, or user@host")
    parser.add_flag("--list", help="show what is in force and the record, and do nothing")
    parser.add_config()
    return parser


def _switch(action: str, options: argparse.Namespace, *, step: float, now: dt.datetime) -> Switch | Unfreeze:
    scope, name = _scope(options)
    if not options.reason:
        raise UsageError("--reason: say why, for whoever reads the record in the morning")
    said: dict[str, Any] = {"scope": scope, "name": name, "reason": options.reason, "by": options.by, "at": now}
    try:
        if action == "unfreeze":
            return Unfreeze.model_validate(said)
        until = None if options.until is None else _time(options.until)
        if action == "override" and (options.price is None or until is None):
            raise UsageError("an override needs --price and --until: a price that is given for good is the shop's own")
        if until is not None and until <= now:
            raise UsageError(f"--until {options.until}: that is past")
        given = {"price": options.price, "below_cost": options.force} if action == "override" else {}
        switch = Switch.model_validate({**said, "action": action, "until": until, **given})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, one['loc'])) or action}: {one['msg']}" for one in error.errors())
        raise UsageError(faults) from error
    if switch.price is not None:
        _check_payable(switch.price, step=step)
        if scope != "product" and not options.wide:
            raise UsageError(
                f"override of {switch.whose}: it is one price, {_money(switch.price)}, for every product there; "
                "give each its own (--product ID), or add --wide where that is meant"
            )
    return switch


def _unknown(scope: Scope, name: str, *, store: ObjectStore, model: str) -> str:
    """Says that the champion knows no such product or category, and which is near; empty where nothing can tell."""
    try:
        content = store.get(pointer_key(model)) if scope != "all" else None
        if content is None:
            return ""
        champion = parse_pointer(content, model=model).champion
        with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
            folder = Path(scratch) / "version"
            fetch_version(store, champion, model=model, folder=folder)
            facts = load(folder).facts
            known = sorted({str(one) for one in (facts.product_ids if scope == "product" else facts.categories)})
    except (PricingError, OSError) as error:
        _log.warning("the name cannot be looked up: %s", error)
        return ""
    if name in known:
        return ""
    folded = {one.casefold(): one for one in known}
    near = nearest(name.casefold(), folded)
    meant = f"; did you mean {folded[near]!r}?" if near is not None else "."
    return f"version {champion.number} knows no {scope} {name!r}{meant}"


def _check_payable(price: float, *, step: float) -> None:
    grid, given = PriceGrid(step), np.array(price)
    if abs(float(grid.nearest(given)) - price) <= NEAR * step:
        return
    beside = [each for each in (float(grid.below(given)), float(grid.above(given))) if each > 0]
    raise UsageError(
        f"--price {_money(price)}: nobody can pay that, as prices are multiples of {_money(step)} "
        f"(decision.price_step); the nearest: {' and '.join(map(_money, beside))}"
    )


def _money(price: float) -> str:
    return f"{price:.12g}"  # without what floating point adds


def _scope(options: argparse.Namespace) -> tuple[Scope, str]:
    given: list[tuple[Scope, str]] = []
    if options.all:
        given.append(("all", ""))
    if options.category is not None:
        given.append(("category", options.category))
    if options.product is not None:
        given.append(("product", options.product))
    if len(given) != 1:
        raise UsageError("say of what: exactly one of --all, --category NAME and --product ID")
    return given[0]


def _time(text: str) -> dt.datetime:
    """A time in UTC; a date means the end of that day, and a time without zone is this machine's."""
    try:
        if len(text) == len("2026-03-06"):
            day = dt.date.fromisoformat(text) + dt.timedelta(days=1)
            return dt.datetime(day.year, day.month, day.day).astimezone(dt.UTC)  # of this machine's zone
        return dt.datetime.fromisoformat(text).astimezone(dt.UTC)
    except ValueError as error:
        raise UsageError(f"--until {text}: expected a time such as 2026-03-06T08:00, or a date") from error


def _list(record: ControlRecord, *, now: dt.datetime) -> None:
    print(_said(record.control(at=now).switches))
    entries = record.entries()
    print(f"The record, newest first ({len(entries):,} entries):")
    for entry in reversed(entries[-SHOWN:]):
        try:
            body = entry.read()
            said = f"experiment {body.name}" if isinstance(body, Experiment) else _sentence(body)
        except ConfigError as error:
            said = f"cannot be read ({error})"
        print(f"  {entry.at}  {entry.who}: {said}")


def _said(switches: Switches) -> str:
    if not switches:
        return "In force: nothing; every price is the model's."
    lines = [f"  {_sentence(one)} ({one.by}, {_shown(one.at)})" for one in switches]
    return "In force; the narrowest counts:\n" + "\n".join(lines)


def _sentence(switch: Switch | Unfreeze) -> str:
    if isinstance(switch, Unfreeze):
        return f"unfreeze of {_whose(switch)}: {switch.reason}"
    until = f" until {_shown(switch.until)}" if switch.until else ""
    price = f" at {_money(switch.price)}" if switch.price is not None else ""
    below = ", below cost too" if switch.below_cost else ""
    return f"{switch.action} of {switch.whose}{price}{below}{until}: {switch.reason}"


def _whose(switch: Switch | Unfreeze) -> str:
    return "everything" if switch.scope == "all" else f"{switch.scope} {switch.name}"


def _shown(moment: dt.datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M %Z")


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


if __name__ == "__main__":
    sys.exit(run_main(main))
