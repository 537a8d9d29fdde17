"""Give a product a price for a while: a person's switch over the model, in the control table."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import click

from pipelines.steps.switch import REASON, UNTIL, clock, scope_of, set_switch
from pricing.runtime.cli import flag, job

COST_COUNTS = "Where this lies below the product's cost, the cost is charged; --force charges it all the same."


@job("override")
@click.option("--product", required=True, metavar="ID", help="of a product")
@click.option("--price", type=float, required=True, metavar="P", help="the price to charge")
@UNTIL
@REASON
@flag("--force", "below_cost", help="the price counts below cost, too")
def main(
    *,
    config: str | None,
    product: str,
    below_cost: bool,
    now: Callable[[], dt.datetime] = clock,
    **fields: Any,
) -> int:
    """Gives a product a price for a while, whatever the model and the guardrails say; below cost with --force alone.

    Overriding a product that is frozen ends its freeze.
    """
    note = "" if below_cost else COST_COUNTS
    scope = scope_of(product)
    return set_switch(config, scope=scope, now=now(), note=note, action="override", below_cost=below_cost, **fields)
