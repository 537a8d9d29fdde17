"""Which products take part in a trial of strategies, and under which: dealt evenly within strata, and kept for good."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pricing.config_models import TrialConfig
from pricing.decision.product_facts import ProductFacts
from pricing.fileio import replace_json

OUTSIDE = ""
CHALLENGER = "challenger"
_CLASSES = (1 / 3, 2 / 3)  # quantiles of volume that part products into small, middle and large


def deal(strata: Mapping[str, str], trial: TrialConfig, *, kept: Mapping[str, str]) -> dict[str, str]:
    """Deals products to a trial's strategies.

    Within each stratum, products come in an order drawn from their names; the first is dealt by lot, each later one
    goes where the stratum lacks most. So every stratum has its share of every strategy, to within one product, and
    whoever was dealt once keeps its place.

    Args:
        strata: Product → its stratum.
        trial: Its name draws the order.
        kept: Product → strategy of those dealt before; "" for those that stay outside.

    Returns:
        Product → strategy, "" outside the trial; `kept` included.
    """
    each = trial.share / len(trial.strategies)
    wanted = dict.fromkeys(trial.strategies, each) | {OUTSIDE: 1 - trial.share}
    dealt = dict(kept)
    held: dict[str, Counter[str]] = {}
    for product, stratum in strata.items():
        if product in kept:
            held.setdefault(stratum, Counter())[kept[product]] += 1
    for product in sorted(strata, key=lambda name: _draw(trial.name, name)):
        if product not in dealt:
            there = held.setdefault(strata[product], Counter())
            dealt[product] = _lacking(wanted, there) if there else _by_lot(wanted, _draw(trial.name, strata[product]))
            there[dealt[product]] += 1
    return dealt


def canary(share: float) -> TrialConfig | None:
    """The share of the products that goes to the challenger, as a trial of one arm; None without any."""
    return TrialConfig.model_construct(name=CHALLENGER, share=share, strategies=[CHALLENGER]) if share else None


def strata_of(facts: ProductFacts) -> dict[str, str]:
    """Product → category and class of volume."""
    units = np.nan_to_num(np.asarray(facts.typical_units, dtype=np.float64))
    found: dict[str, str] = {}
    for category in np.unique(facts.categories):
        rows = np.flatnonzero(facts.categories == category)
        size = np.searchsorted(np.quantile(units[rows], _CLASSES), units[rows], side="right")
        for row, number in zip(rows.tolist(), size.tolist(), strict=True):
            found[str(facts.product_ids[row])] = f"{category}/{number}"
    return found


def extend(path: Path, facts: ProductFacts, trial: TrialConfig) -> dict[str, str]:
    """Deals the products that were not dealt before, and keeps the result in `path`; the follower alone calls it.

    Raises:
        OSError: The file cannot be written.
    """
    kept = read(path, trial)
    dealt = deal(strata_of(facts), trial, kept=kept)
    if dealt != kept:
        replace_json(path, {"trial": trial.model_dump(mode="json"), "products": dealt})
    return dealt


def read(path: Path, trial: TrialConfig) -> dict[str, str]:
    """What was dealt before in the same trial; empty when nothing was, it is damaged, or the trial is another now."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(values, dict) or values.get("trial") != trial.model_dump(mode="json"):
        return {}
    products = values.get("products")
    if not isinstance(products, dict) or not all(isinstance(arm, str) for arm in products.values()):
        return {}
    return products


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
