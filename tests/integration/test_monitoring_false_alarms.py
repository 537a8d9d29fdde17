"""How often monitoring cries wolf: small shops that retrain although nothing has changed, and shops that go live."""

from dataclasses import replace

import pytest

from benchmarks.monitoring import LIVE_DAY, alerts, looks, watch_a_year
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


LIVE = World(products=12, days=LIVE_DAY + 92, live_day=LIVE_DAY)


@pytest.mark.parametrize("seed", range(3))
def test_a_calm_shop_that_goes_live_alarms_nobody_in_its_first_three_months(seed: int) -> None:
    assert alerts(looks(replace(LIVE, seed=seed), CONFIG, until=91)) == 0


def test_our_own_prices_would_alarm_in_those_months_were_they_inputs() -> None:
    found = looks(LIVE, CONFIG, until=91, role="price")

    assert alerts(found) > 0  # so that the test above can show a fault


def test_a_competitor_that_turns_cheaper_after_go_live_is_seen() -> None:
    changed = replace(LIVE, change_day=LIVE_DAY + 60, comp_factor=0.85)

    found = looks(changed, CONFIG, until=91)

    assert [days for days, names in found if "comp_level" in names and days <= 60] == []
    assert "comp_level" in found[-1][1]
