"""Which products take part in a trial of strategies, and under which: the file that keeps it."""

import json
from pathlib import Path

from pricing.config_models import TrialConfig
from pricing.decision.assignment import deal, strata_of
from pricing.decision.product_facts import ProductFacts
from pricing.fileio import replace_json

CHALLENGER = "challenger"


def canary(share: float) -> TrialConfig | None:
    """The share of the products that goes to the challenger, as a trial of one arm; None without any."""
    return TrialConfig.model_construct(name=CHALLENGER, share=share, strategies=[CHALLENGER]) if share else None


def arms_of(path: Path, facts: ProductFacts, trial: TrialConfig) -> dict[str, str]:
    """Product → arm: as `path` keeps it, and for products that it lacks, as they would be dealt; "" is outside."""
    strata = strata_of(facts.product_ids, categories=facts.categories, mean_units=facts.typical_units)
    return deal(strata, trial, kept=read(path, trial))


def extend(path: Path, facts: ProductFacts, trial: TrialConfig) -> dict[str, str]:
    """Deals the products that were not dealt before, and keeps the result in `path`; the follower alone calls it.

    Raises:
        OSError: The file cannot be written.
    """
    dealt = arms_of(path, facts, trial)
    if dealt != read(path, trial):
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
