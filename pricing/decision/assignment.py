"""Which products take part in a strategy test, and which are held out: drawn within strata, and kept for good.

The two draws round a stratum's share differently. `deal` rounds to the nearest, so that every stratum has its share of
every strategy to within one product. `hold_out` rounds at random, so that the share over all products is the one that
was asked for, however small the strata. Where no file keeps what was drawn, it is drawn again: whatever changes a draw
moves products of a strategy test that goes on.
"""

import datetime as dt
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pricing.arrays import Floats, Strings
from pricing.config_models import StrategyTestConfig
from pricing.errors import SourceError
from pricing.fileio import replace_json

OUTSIDE = ""
_CLASSES = (1 / 3, 2 / 3)  # quantiles of a category's volumes that part it into small, middle and large products


@dataclass(frozen=True)
class Holdout:
    """The held-out products, and those that are priced.

    Attributes:
        held: Products kept on static prices.
        priced: All other products that were there at the last assignment.
        began: The first day that was priced, as far as any log has shown it; None before the first.
    """

    held: frozenset[str]
    priced: frozenset[str]
    began: dt.date | None = None


def strata_of(product_ids: Strings, *, categories: Strings, mean_units: Floats) -> dict[str, str]:
    """Product → category and third of the category by volume; equal volumes fall in the same third, unknown ones are 0.

    Args:
        product_ids: (product,)
        categories: (product,)
        mean_units: (product,) units sold in a period.
    """
    units = np.nan_to_num(np.asarray(mean_units, dtype=np.float64))
    found: dict[str, str] = {}
    for category in np.unique(categories):
        rows = np.flatnonzero(categories == category)
        size = np.searchsorted(np.quantile(units[rows], _CLASSES), units[rows], side="right")
        for row, number in zip(rows.tolist(), size.tolist(), strict=True):
            found[str(product_ids[row])] = f"{category}/{number}"
    return found


def deal(strata: Mapping[str, str], strategy_test: StrategyTestConfig, *, kept: Mapping[str, str]) -> dict[str, str]:
    """Deals products to a strategy test's strategies.

    Within each stratum, products come in an order drawn from their names; the first is dealt by lot, each later one
    goes where the stratum lacks most. So every stratum has its share of every strategy, to within one product, and
    whoever was dealt once keeps its place.

    Args:
        strata: Product → its stratum.
        strategy_test: Its name draws the order.
        kept: Product → strategy of those dealt before; "" for those that stay outside.

    Returns:
        Product → strategy, "" outside the strategy test; `kept` included.
    """
    each = strategy_test.share / len(strategy_test.strategies)
    wanted = dict.fromkeys(strategy_test.strategies, each) | {OUTSIDE: 1 - strategy_test.share}
    dealt = dict(kept)
    held: dict[str, Counter[str]] = {}
    for product, stratum in strata.items():
        if product in kept:
            held.setdefault(stratum, Counter())[kept[product]] += 1
    for product in sorted(strata, key=lambda name: _draw(strategy_test.name, name)):
        if product not in dealt:
            there = held.setdefault(strata[product], Counter())
            dealt[product] = (
                _lacking(wanted, there) if there else _by_lot(wanted, _draw(strategy_test.name, strata[product]))
            )
            there[dealt[product]] += 1
    return dealt


def hold_out(strata: Mapping[str, str], *, share: float, before: Holdout | None = None) -> Holdout:
    """Holds out a share of the products of each stratum.

    Sticky: whoever was assigned before stays where they were; new products fill up their stratum's share. Which ones
    is decided by a hash of their ids, so that it depends neither on other products nor on their order.

    Args:
        strata: Product → its stratum.
        share: 0…1; each stratum holds out this fraction, rounded at random where it is not whole.
        before: The earlier assignment.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for product, stratum in strata.items():
        members[stratum].append(product)
    held = set(before.held if before else ())
    known = held | set(before.priced if before else ())
    for stratum, products in members.items():
        wanted = int(share * len(products) + _unit(f"pricing/{stratum}"))
        missing = wanted - sum(product in held for product in products)
        fresh = sorted(set(products) - known, key=lambda one: _unit(f"pricing|{one}"))
        held.update(fresh[: max(0, missing)])
    return Holdout(frozenset(held), frozenset((known | set(strata)) - held), before.began if before else None)


def holdout_file(home: Path) -> Path:
    """Where the holdout lies under PRICING_HOME: monitoring writes it, everybody else reads it."""
    return home / "monitoring" / "holdout.json"


def read_holdout(path: Path) -> Holdout | None:
    """The holdout in a file; None when there is none.

    Raises:
        SourceError: The file is no such list.
    """
    try:
        document = json.loads(path.read_bytes())
        held, priced = _products(document["held"]), _products(document["priced"])
        began = document.get("began")
        return Holdout(held, priced, None if began is None else dt.date.fromisoformat(began))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path}: is no list of held-out products ({error}); remove it to draw a new one") from error


def read_held(path: Path) -> frozenset[str]:
    """The products that are held out, whatever else the file says; none where there is no list.

    Raises:
        SourceError: As `read_holdout`.
    """
    try:
        return _products(json.loads(path.read_bytes())["held"])
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path}: is no list of held-out products ({error}); remove it to draw a new one") from error


def write_holdout(path: Path, holdout: Holdout) -> None:
    """Writes the holdout, whole or not at all."""
    document: dict[str, object] = {"held": sorted(holdout.held), "priced": sorted(holdout.priced)}
    if holdout.began is not None:
        document["began"] = holdout.began.isoformat()
    replace_json(path, document, indent=1)


def _products(value: object) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(product, str) for product in value):
        raise TypeError("expected held and priced to be lists of product ids")
    return frozenset(value)


def _lacking(wanted: Mapping[str, float], there: Counter[str]) -> str:
    count = there.total() + 1
    return max(wanted, key=lambda name: round(wanted[name] * count - there[name], 9))


def _by_lot(wanted: Mapping[str, float], draw: bytes) -> str:
    """A stratum's first product: by chance, or many small strata would leave the same strategies without any."""
    left = int.from_bytes(draw, "big") / 2**64
    for name, share in wanted.items():
        left -= share
        if left < 0:
            return name
    return next(iter(wanted))


def _draw(*words: str) -> bytes:
    return hashlib.blake2b("\n".join(words).encode(), digest_size=8).digest()


def _unit(text: str) -> float:
    """A number in [0, 1) that looks random and always is the same for the same text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
