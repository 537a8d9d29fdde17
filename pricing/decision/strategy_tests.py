"""Which products take part in a strategy test, under which strategy, and how a decision's test and arm are named."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pricing.config_models import StrategyTestConfig
from pricing.decision.assignment import deal, strata_of
from pricing.decision.product_facts import ProductFacts
from pricing.decision.reasons import SWITCHED
from pricing.decision.request import Decision, PriceRequest
from pricing.errors import ConfigError
from pricing.fileio import replace_json

CHALLENGER = "challenger"
_FIXED = SWITCHED | {"holdout"}  # reasons with which no strategy and no version has chosen the price


def canary(share: float) -> StrategyTestConfig | None:
    """The share of the products that goes to the challenger, as a strategy test of one arm; None without any."""
    return StrategyTestConfig.model_construct(name=CHALLENGER, share=share, strategies=[CHALLENGER]) if share else None


def check_strategy_test(strategy_test: StrategyTestConfig | None, strategies: Sequence[str]) -> None:
    """Checks that a strategy test names only configured strategies.

    Raises:
        ConfigError: It does not; names the strategy.
    """
    for name in strategy_test.strategies if strategy_test else ():
        if name not in strategies:
            raise ConfigError(f"serving.strategy_test: strategy {name!r} is none of {', '.join(sorted(strategies))}")


def strategy_test_file(home: Path, name: str) -> Path:
    """Where the products of a strategy test are kept under PRICING_HOME."""
    return home / "trials" / f"{name}.json"


def arms_of(
    path: Path, facts: ProductFacts, strategy_test: StrategyTestConfig, *, local: Path | None = None
) -> dict[str, str]:
    """Product → arm: as `path` keeps it, and for products that it lacks, as they would be dealt; "" is outside.

    Args:
        path: The file that keeps them.
        facts: Of the products.
        strategy_test: The strategy test.
        local: A second file, that counts for products of which `path` says nothing.
    """
    strata = strata_of(facts.product_ids, categories=facts.categories, mean_units=facts.typical_units)
    kept = read(path, strategy_test)
    return deal(strata, strategy_test, kept=kept if local is None else read(local, strategy_test) | kept)


def extend(
    path: Path, facts: ProductFacts, strategy_test: StrategyTestConfig, *, local: Path | None = None
) -> dict[str, str]:
    """Deals the products that were not dealt before, and keeps the result in `path`.

    Serving's follower calls it, and the job that prices files. Both deal alike and move nobody whom the file keeps.

    Args:
        path: The file, or a draft of it that is shared with other tasks.
        facts: Of the products.
        strategy_test: The strategy test.
        local: The file as this task has it, where `path` is a draft: it keeps whom the task dealt to an arm while the
            database was away.

    Raises:
        OSError: The file cannot be written.
    """
    dealt = arms_of(path, facts, strategy_test, local=local)
    if dealt != read(path, strategy_test):
        replace_json(path, {"strategy_test": strategy_test.model_dump(mode="json"), "products": dealt})
    return dealt


def read(path: Path, strategy_test: StrategyTestConfig) -> dict[str, str]:
    """Reads the arms dealt before in the same strategy test; empty when there are none or the file is damaged."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(values, dict):
        return {}
    if values.get("strategy_test") != strategy_test.model_dump(mode="json"):
        return {}
    products = values.get("products")
    if not isinstance(products, dict) or not all(isinstance(arm, str) for arm in products.values()):
        return {}
    return products


def with_assigned_strategy(arms: Mapping[str, str], asked: PriceRequest) -> PriceRequest:
    """Returns the request with the strategy that a strategy test assigned to its product."""
    arm = _assigned(arms, asked)
    return asked.model_copy(update={"strategy": arm}) if arm else asked


def arm_label(
    asked: PriceRequest, decision: Decision, *, strategy_test: str, arms: Mapping[str, str], challenger: str = ""
) -> str | None:
    """The test and arm that priced a request, as the decision log names them: "spring/clearance", "challenger/7".

    Args:
        asked: The request as it came, before a strategy was assigned to it.
        decision: Its answer.
        strategy_test: Name of the strategy test; empty where there is none.
        arms: Product → the strategy that the strategy test assigned to it; "" or absent where it takes part in none.
        challenger: Number of the version that was to price it as the challenger; empty where the champion was.

    Returns:
        None when the request named a strategy itself, when its product is in no test or held out of pricing, when a
        person has set its price, and when another version than the challenger had to answer for it.
    """
    if not _FIXED.isdisjoint(decision.reasons):  # the list, or the switches, may have changed since
        return None
    if challenger:
        return f"{CHALLENGER}/{challenger}" if decision.model_version == challenger else None
    arm = _assigned(arms, asked)
    return f"{strategy_test}/{arm}" if strategy_test and arm else None


def _assigned(arms: Mapping[str, str], asked: PriceRequest) -> str | None:
    return arms.get(asked.product_id) if asked.strategy is None else None
