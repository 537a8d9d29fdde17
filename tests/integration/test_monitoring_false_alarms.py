"""How often monitoring cries wolf: shops that go live."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from monitoring.drift import compare
from monitoring.samples import Role, take
from pricing.config import load_config
from pricing.data.panel import Panel
from tests.kit.monitoring_world import World, build, live_join

CONFIG = load_config().monitoring
WINDOW_DAYS, LOOK_DAYS = 28, 7  # of a window of drift; between two looks
LIVE_DAY = 365
Looks = Sequence[tuple[int, tuple[str, ...]]]  # days since our prices are on, and the columns that drift

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def looks(world: World, *, until: int, role: Role = "input") -> Looks:
    """Looks at a shop each week from its first week with our prices on."""
    panel, _ = build(world)
    start = world.live_day or 0
    found = []
    for days in range(LOOK_DAYS, until + 1, LOOK_DAYS):
        seen = panel.through(panel.dates[start + days - 1])
        found.append((days, drifted_columns(seen, since=start, role=role)))
    return found


def drifted_columns(panel: Panel, *, since: int, role: Role) -> tuple[str, ...]:
    """The columns of a role that drift, by the thresholds of monitoring without Evidently's page."""
    rng = np.random.default_rng(0)
    taken = take(panel, live_join(panel, since=since), window=WINDOW_DAYS, reference=364, rows=200_000, rng=rng)
    drift = compare(taken, window=WINDOW_DAYS, step_days=1, false_alarm=CONFIG.false_alarm, min_rows=CONFIG.min_rows)
    return tuple(drift.drifted(role) or ())


def alerts(found: Looks) -> int:
    """The alerts that looks lead to: the same drift is told once a window."""
    last: dict[tuple[str, ...], int] = {}
    count = 0
    for days, names in found:
        if names and days - last.get(names, -WINDOW_DAYS) >= WINDOW_DAYS:
            last[names] = days
            count += 1
    return count


LIVE = World(products=12, days=LIVE_DAY + 92, live_day=LIVE_DAY)


@pytest.mark.parametrize("seed", range(3))
def test_a_calm_shop_that_goes_live_alarms_nobody_in_its_first_three_months(seed: int) -> None:
    assert alerts(looks(replace(LIVE, seed=seed), until=91)) == 0


def test_our_own_prices_would_alarm_in_those_months_were_they_inputs() -> None:
    found = looks(LIVE, until=91, role="price")

    assert alerts(found) > 0  # so that the test above can show a fault


def test_a_competitor_that_turns_cheaper_after_go_live_is_seen() -> None:
    changed = replace(LIVE, change_day=LIVE_DAY + 60, comp_factor=0.85)

    found = looks(changed, until=91)

    assert [days for days, names in found if "comp_level" in names and days <= 60] == []
    assert "comp_level" in found[-1][1]
