"""Freeze prices, give prices, and end either: a person's switches over the model, in the platform's database.

Every serving task takes them up within seconds, whatever becomes of the registry; `pricing price` does, too.
"""

import argparse
import datetime as dt
import os
import sys
from collections.abc import Callable, Sequence

import numpy as np
from pydantic import ValidationError

from pricing.config import load_config
from pricing.decision.guardrails import NEAR, PriceGrid
from pricing.decision.switches import Scope, Switch, Switches
from pricing.fileio import redact_url
from pricing.registry.switch_record import LOCK_SECONDS, SwitchEntry, SwitchRecord, in_force
from pricing.runtime.cli import Options, UsageError, run_main
from pricing.runtime.shared_state import actor, database_url
from serving.known_names import unknown_name

SHOWN = 50  # newest entries that --list shows
_ABOUT = {
    "freeze": "Freezes prices: each stays what it is now, inside cost and the bands around list price and anchor. "
    "Freezing a scope that has an override ends that.",
    "override": "Gives a price for a while, whatever the model and the guardrails say; never one below cost without "
    "--force, and none for more than a product without --wide. Overriding a scope that is frozen ends the freeze.",
    "unfreeze": "Ends the freeze or the override of a scope.",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the action that the first word names, and returns the exit code."""
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
    url = database_url()
    config = load_config(options.config)
    record = SwitchRecord(url, model=config.registry.model_name, lock_seconds=LOCK_SECONDS)
    if options.list:
        _list(record.entries(), now=now())
        return 0
    entry = _entry(action, options, step=config.decision.price_step, now=now())
    before = in_force(record.entries(), at=entry.at)
    if action == "unfreeze" and not any((one.scope, one.name) == (entry.scope, entry.name) for one in before):
        raise UsageError(f"nothing is frozen or overridden for {_whose(entry)}. {_said(before)}")
    if action != "unfreeze" and not options.new:
        unknown = unknown_name(entry.scope, entry.name, environment=os.environ)
        if unknown is not None:
            raise UsageError(f"{action} of {_whose(entry)}: {unknown} Nothing was changed; --new says that it is new")
    record.append(entry)
    print(f"{_sentence(entry)}. It is in {redact_url(url)}, and every service that reads it answers so within 10 s.")
    if action == "override" and not entry.below_cost:
        print("Where this lies below a product's cost, the cost is charged; --force charges it all the same.")
    print(_said(in_force(record.entries(), at=entry.at)))
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
        parser.add_flag("--new", help="of a product or category that the version served here does not know yet")
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


def _entry(action: str, options: argparse.Namespace, *, step: float, now: dt.datetime) -> SwitchEntry:
    scope, name = _scope(options)
    if not options.reason:
        raise UsageError("--reason: say why, for whoever reads the record in the morning")
    if action == "unfreeze":
        return SwitchEntry(now, options.by, "unfreeze", scope, name, options.reason)
    until = None if options.until is None else _time(options.until)
    if action == "override" and (options.price is None or until is None):
        raise UsageError("an override needs --price and --until: a price that is given for good belongs to the shop")
    if until is not None and until <= now:
        raise UsageError(f"--until {options.until}: that is past")
    try:
        switch = Switch.model_validate(
            {
                "action": action,
                "scope": scope,
                "name": name,
                "price": options.price if action == "override" else None,
                "until": until,
                "reason": options.reason,
                "by": options.by,
                "at": now,
                "below_cost": action == "override" and options.force,
            }
        )
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, one['loc'])) or action}: {one['msg']}" for one in error.errors())
        raise UsageError(faults) from error
    entry = SwitchEntry.of(switch)
    if switch.price is not None:
        _check_payable(switch.price, step=step)
        if scope != "product" and not options.wide:
            raise UsageError(
                f"override of {_whose(entry)}: it is one price, {_money(switch.price)}, for every product there; "
                "give each its own (--product ID), or add --wide where that is meant"
            )
    return entry


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


def _list(entries: Sequence[SwitchEntry], *, now: dt.datetime) -> None:
    print(_said(in_force(entries, at=now)))
    if entries:
        print(f"The record, newest first ({len(entries):,} entries):")
    for entry in reversed(entries[-SHOWN:]):
        print(f"  {_shown(entry.at)}  {entry.who}: {_sentence(entry)}")


def _said(switches: Switches) -> str:
    if not switches:
        return "In force: nothing; every price is the model's."
    lines = [f"  {_sentence(SwitchEntry.of(one))} ({one.by}, {_shown(one.at)})" for one in switches]
    return "In force; the narrowest counts:\n" + "\n".join(lines)


def _sentence(entry: SwitchEntry) -> str:
    until = f" until {_shown(entry.until)}" if entry.until else ""
    price = f" at {_money(entry.price)}" if entry.price is not None else ""
    below = ", below cost too" if entry.below_cost else ""
    return f"{entry.action} of {_whose(entry)}{price}{below}{until}: {entry.why}"


def _whose(entry: SwitchEntry) -> str:
    return "everything" if entry.scope == "all" else f"{entry.scope} {entry.name}"


def _shown(moment: dt.datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M %Z")


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


if __name__ == "__main__":
    sys.exit(run_main(main))
