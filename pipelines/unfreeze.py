"""End the freeze or the override of a product, a category or everything."""

import datetime as dt
from collections.abc import Callable

import click

from pipelines.steps.control import control_record
from pipelines.steps.switch import REASON, clock, entry_of, in_force, scope_of, scoped, write
from pricing.config import load_config
from pricing.decision.switches import Unfreeze
from pricing.runtime.cli import job


@job("unfreeze")
@scoped
@REASON
def main(
    *,
    config: str | None,
    product: str | None,
    category: str | None,
    everything: bool,
    reason: str,
    now: Callable[[], dt.datetime] = clock,
) -> int:
    """Ends the freeze or the override of a scope."""
    at = now()
    ending = entry_of(Unfreeze, at=at, reason=reason, **scope_of(product, category, everything))
    record = control_record(load_config(config))
    before = record.control(at=at).switches
    if (ending.scope, ending.name) not in {(switch.scope, switch.name) for switch in before}:
        raise click.UsageError(f"nothing is frozen or overridden for {ending.whose}. {in_force(before)}")
    return write(record, ending, now=at)
