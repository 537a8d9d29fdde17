"""How often a small shop retrains although nothing has changed: whole years, night by night."""

import pytest

from benchmarks.monitoring import watch_a_year
from pricing.config import load_config
from tests.kit.monitoring_world import World

CONFIG = load_config().monitoring
# Two of a hundred calm years: in 39 one window of two weeks is in breach by chance, twice; in 66 two of three would be,
# were intervals not wider for few clusters.
UNLUCKY = (39, 66)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def false_retrainings(seed: int, *, breaches: int) -> int:
    config = CONFIG.model_copy(update={"breaches": breaches})
    return len(watch_a_year(World(products=8, days=485, seed=seed), config))


def test_calm_years_of_eight_products_retrain_nothing() -> None:
    assert [false_retrainings(seed, breaches=CONFIG.breaches) for seed in UNLUCKY] == [0, 0]


def test_one_window_in_breach_would_retrain_falsely_in_such_years() -> None:
    assert false_retrainings(39, breaches=1) == 2  # so that the years above can show a fault
