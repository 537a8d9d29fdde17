"""Draws the products that are held out: kept on static prices, so that what pricing earns can be measured against them.

`python -m monitoring.holdout --sales …` writes the list; the shop keeps those products' prices as they are.
"""

import datetime as dt
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from monitoring.samples import mean_units
from monitoring.scores import volume_classes
from pricing.config import load_config
from pricing.data.load import load_panel_from
from pricing.errors import PricingError, SourceError
from pricing.fileio import replace_json
from pricing.paths import pricing_home
from pricing.runtime.cli import Options, run_main


@dataclass(frozen=True)
class Holdout:
    """Who is held out and who was asked.

    Attributes:
        held: Products kept on static prices.
        priced: All other products that were there at the last assignment.
        began: The first day that was priced, as far as any log has shown it; None before the first.
    """

    held: frozenset[str]
    priced: frozenset[str]
    began: dt.date | None = None


def assign(strata: Mapping[str, str], *, share: float, before: Holdout | None = None, salt: str = "pricing") -> Holdout:
    """Holds out a share of the products of each stratum.

    Sticky: whoever was assigned before stays where they were; new products fill up their stratum's share. Which ones
    is decided by a hash of their ids, so that it depends on nobody and on no order.

    Args:
        strata: product_id → stratum, such as its category and volume class.
        share: 0…1; each stratum holds out this fraction, rounded at random where it is not whole.
        before: The earlier assignment.
        salt: Another salt gives another draw.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for product, stratum in strata.items():
        members[stratum].append(product)
    held = set(before.held if before else ())
    known = held | set(before.priced if before else ())
    for stratum, products in members.items():
        wanted = int(share * len(products) + _unit(f"{salt}/{stratum}"))
        missing = wanted - sum(product in held for product in products)
        fresh = sorted(
            (product for product in products if product not in known), key=lambda one: _unit(f"{salt}|{one}")
        )
        held.update(fresh[: max(0, missing)])
    return Holdout(frozenset(held), frozenset((known | set(strata)) - held), before.began if before else None)


def strata_of(product_ids: Sequence[str], categories: Sequence[str], volumes: Sequence[str]) -> dict[str, str]:
    """product_id → category and volume class."""
    return {one: f"{category}/{volume}" for one, category, volume in zip(product_ids, categories, volumes, strict=True)}


def read(path: Path) -> Holdout | None:
    """The assignment in a file; None when there is none.

    Raises:
        SourceError: The file is no such assignment.
    """
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        began = document.get("began")
        return Holdout(
            frozenset(_words(document["held"])),
            frozenset(_words(document["priced"])),
            None if began is None else dt.date.fromisoformat(began),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path}: is no list of held-out products ({error}); remove it to draw a new one") from error


def write(path: Path, holdout: Holdout) -> None:
    """Writes the assignment, whole or not at all."""
    document: dict[str, object] = {"held": sorted(holdout.held), "priced": sorted(holdout.priced)}
    if holdout.began is not None:
        document["began"] = holdout.began.isoformat()
    replace_json(path, document, indent=1)


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
        SourceError: As `read`.
    """
    found = read(path)
    if found is None or first is None or (found.began is not None and found.began <= first):
        return found
    known = replace(found, began=first)
    if keep:
        write(path, known)
    return known


def main(argv: Sequence[str] | None = None) -> int:
    """Draws the holdout, or adds new products to it, and says who is in it."""
    parser = Options(prog="python -m monitoring.holdout", description=__doc__)
    parser.add_sales()
    parser.add_argument("--config", metavar="FILE", help="YAML laid over config/default.yaml")
    parser.add_argument("--share", type=float, default=0.1, help="fraction of products to hold out, 0 to 0.5")
    options = parser.parse(argv)
    if not 0 <= options.share <= 0.5:
        raise PricingError(f"--share {options.share}: expected a fraction from 0 to 0.5")
    panel = load_panel_from(options.sales, load_config(options.config).data, events=())
    volumes = volume_classes(mean_units(panel.units_sold))
    path = pricing_home() / "monitoring" / "holdout.json"
    strata = strata_of(panel.product_ids.tolist(), panel.categories.tolist(), volumes.tolist())
    drawn = assign(strata, share=options.share, before=read(path))
    write(path, drawn)
    print(f"{len(drawn.held):,} of {len(strata):,} products are held out; keep their prices as they are: {path}")
    return 0


def _unit(text: str) -> float:
    """A number in [0, 1) that looks random and always is the same for the same text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def _words(value: Collection[str]) -> Collection[str]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise TypeError("expected a list of product ids")
    return value


if __name__ == "__main__":
    sys.exit(run_main(main))
