"""Draws the products that are held out: kept on static prices, so that what pricing earns can be measured against them.

`pricing holdout --sales …` writes the list; the shop keeps those products' prices as they are. `--end` empties it.
"""

import datetime as dt
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from monitoring.samples import mean_units
from pricing.config import load_config
from pricing.data.load import load_panel_from
from pricing.decision.assignment import Holdout, hold_out, holdout_file, read_holdout, strata_of, write_holdout
from pricing.errors import PricingError
from pricing.paths import pricing_home
from pricing.runtime.cli import Options, run_main
from pricing.runtime.shared_files import job_files
from simulation.market import simulated_sales


def first_day(joined: pd.DataFrame) -> dt.date | None:
    """The first day that was priced, as far as the log shows it: None when it shows none.

    One decision for a past day, or one that nobody followed, says nothing about when pricing began.

    Args:
        joined: `Joined.frame`.
    """
    days = joined.loc[joined["live"] & ((joined["pricing"] == "followed") | joined["held_out"]), "period"]
    return None if days.empty else days.min().date()


def since(path: Path, first: dt.date | None, *, keep: bool) -> Holdout | None:
    """The assignment in a file with the day that pricing began, which is kept there: old days leave the decision log.

    Args:
        path: Where the assignment lies.
        first: The first day that the log shows; None when it shows none.
        keep: Whether it is written down: the log is the platform's own, and this run may leave traces.

    Raises:
        SourceError: As `read_holdout`.
    """
    found = read_holdout(path)
    if found is None or first is None or (found.began is not None and found.began <= first):
        return found
    known = replace(found, began=first)
    if keep:
        write_holdout(path, known)
    return known


def main(argv: Sequence[str] | None = None) -> int:
    """Draws the holdout, or adds new products to it, and says who is in it."""
    parser = Options(prog="pricing holdout", description=__doc__)
    parser.add_sales(needed=False)
    parser.add_config()
    parser.add_argument("--share", type=float, default=0.1, help="fraction of products to hold out, 0 to 0.5")
    parser.add_flag("--end", help="holds out no product any more; needs no sales")
    options = parser.parse(argv)
    if not 0 <= options.share <= 0.5:
        raise PricingError(f"--share {options.share}: expected a fraction from 0 to 0.5")
    config, path = load_config(options.config), holdout_file(pricing_home())
    files = job_files(config.registry.model_name)
    if options.end:
        files.edit(path, partial(write_holdout, holdout=Holdout(frozenset(), frozenset())))
        print(f"no product is held out any more: {path}")
        return 0
    panel = load_panel_from(options.sales, config.data, events=(), simulated=simulated_sales)
    strata = strata_of(panel.product_ids, categories=panel.categories, mean_units=mean_units(panel.units_sold))

    def draw(file: Path) -> Holdout:
        found = hold_out(strata, share=options.share, before=read_holdout(file))
        write_holdout(file, found)
        return found

    drawn = files.edit(path, draw)
    print(f"{len(drawn.held):,} of {len(strata):,} products are held out; keep their prices as they are: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
