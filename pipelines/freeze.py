"""Freeze prices: a person's switch over the model, in the control table."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import click

from pipelines.steps.control import control_in_force
from pipelines.steps.switch import UNTIL, clock, in_force, scope_of, scoped, set_switch
from pricing.config import load_config
from pricing.runtime.cli import flag, job


@job("freeze")
@scoped
@UNTIL
@click.option("--reason", metavar="WHY", help="why; needed")
@flag("--now", "at_once", help="without the database, which is away: serving follows, and `publish` records it later")
@flag("--list", "listed", help="show what is in force, and do nothing")
def main(
    *,
    config: str | None,
    product: str | None,
    category: str | None,
    everything: bool,
    listed: bool,
    now: Callable[[], dt.datetime] = clock,
    **fields: Any,
) -> int:
    """Freezes prices: each stays what it is now, inside cost and the bands around list price and anchor.

    Without --until it lasts until it is ended. Freezing a scope that has an override ends that.
    """
    if listed:
        print(in_force(control_in_force(load_config(config), at=now()).switches))
        return 0
    scope = scope_of(product, category, everything)
    return set_switch(config, scope=scope, now=now(), action="freeze", **fields)
