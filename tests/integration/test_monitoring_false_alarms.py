"""How often monitoring cries wolf: small shops that retrain although nothing has changed, and shops that go live."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from monitoring import performance
from monitoring.drift import compare
from monitoring.evaluate import SCORE_WINDOW_MOST
from monitoring.policy import JobHistory, Situation, decide
from monitoring.samples import Role, take
from pricing.config import load_config
from pricing.config_models import SCORE_WINDOWS
from pricing.data.panel import Panel
from tests.kit.monitoring_world import Truth, World, backtest_figures, build, earlier_weeks_error, live_join

CONFIG = load_config().monitoring
# Two of a hundred calm years: in 39 one window of two weeks is in breach by chance, twice; in 66 two of three would be,
# were intervals not wider for few clusters.
UNLUCKY = (39, 66)
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


def priced(panel: Panel, forecast: np.ndarray) -> pd.DataFrame:
    """What the join would give when every day is priced by these forecasts."""
    product, day = np.indices(forecast.shape)
    frame = pd.DataFrame(
        {
            "product_id": panel.product_ids[product.ravel()],
            "day": day.ravel(),
            "period": pd.to_datetime(panel.dates)[day.ravel()],
            "forecast": forecast.ravel(),
            "units_sold": panel.units_sold.ravel().astype(float),
            "earlier_weeks_error": earlier_weeks_error(panel).ravel(),
            "scored": ~panel.censored.ravel(),
            "inside": np.nan,
            "charged": panel.price.ravel(),
            "cost": panel.unit_cost.ravel(),
            "earned": (panel.price - panel.unit_cost).ravel(),
        }
    )
    margin = (frame["charged"] - frame["cost"]) * frame["forecast"]
    return frame.assign(
        expected_margin=margin,
        pricing="followed",
        held_out=False,
        unidentified=False,
        source="model",
        confidence=0.7,
        comp_price_age=np.nan,
        comp_price_stale=False,
    )


def watch_a_year(world: World) -> list[int]:
    """Runs the decay rules every night from day 120 on and returns the days of retraining.

    A retrained model knows the world as it is then.
    """
    panel, truth = build(world)
    calm, known = build(replace(world, change_day=None, days=120))
    figures = backtest_figures(calm, known)
    rng = np.random.default_rng(world.seed + 10_000)
    noise = np.exp(rng.normal(0, 0.1, truth.mean.shape))
    frame = priced(panel, truth.old * noise)
    retrained: list[int] = []
    cache: dict[tuple[int, int], performance.WindowVerdict] = {}
    promised = performance.band(figures, CONFIG)
    start = np.datetime64(panel.dates[0])
    for today in range(120, world.days):
        days = performance.window_days(
            frame[frame["day"] <= today],
            last=start + today,
            least=CONFIG.score_window,
            most=SCORE_WINDOW_MOST,
            min_rows=CONFIG.min_rows,
        )
        ends = [today - days * back for back in range(SCORE_WINDOWS - 1, -1, -1)]
        for end in ends:
            if (end, days) not in cache:
                rows = frame[frame["day"].between(end - days + 1, end)]
                score = performance.score(rows, name=str(start + end), rng=np.random.default_rng(max(end, 0)))
                cache[end, days] = performance.judge(score, promised, min_rows=CONFIG.min_rows)
        newest = [cache[end, days] for end in ends]
        now = pd.Timestamp(start + today).to_pydatetime().replace(tzinfo=dt.UTC)
        last = pd.Timestamp(start + retrained[-1]).to_pydatetime().replace(tzinfo=dt.UTC) if retrained else None
        seen = Situation(
            decayed=tuple(bool(one.breaches) if one.judged else None for one in newest),
            why="error grew",
            window_days=days,
            drifted=(),
            state_age=1,
            silent_days=0,
            share_rule=0.0,
        )
        if decide(seen, JobHistory(retrained=last), CONFIG, now=now).action == "retrain":
            retrained.append(today)
            frame = relearnt(frame, truth, noise, since=today)
            cache = {key: verdict for key, verdict in cache.items() if key[0] <= today}
    return retrained


def relearnt(frame: pd.DataFrame, truth: Truth, noise: np.ndarray, *, since: int) -> pd.DataFrame:
    forecast = np.where(frame["day"] > since, (truth.mean * noise).ravel(), frame["forecast"])
    return frame.assign(forecast=forecast)


def false_retrainings(seed: int) -> int:
    return len(watch_a_year(World(products=8, days=485, seed=seed)))


@pytest.mark.weekly
def test_calm_years_of_eight_products_retrain_nothing() -> None:
    assert [false_retrainings(seed) for seed in UNLUCKY] == [0, 0]


LIVE = World(products=12, days=LIVE_DAY + 92, live_day=LIVE_DAY)


@pytest.mark.parametrize("seed", range(3))
def test_a_calm_shop_that_goes_live_alarms_nobody_in_its_first_three_months(seed: int) -> None:
    assert alerts(looks(replace(LIVE, seed=seed), until=91)) == 0


def test_a_competitor_that_turns_cheaper_after_go_live_is_seen() -> None:
    changed = replace(LIVE, change_day=LIVE_DAY + 60, comp_factor=0.85)

    found = looks(changed, until=91)

    assert [days for days, names in found if "comp_level" in names and days <= 60] == []
    assert "comp_level" in found[-1][1]
