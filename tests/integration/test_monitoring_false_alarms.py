"""How often monitoring cries wolf: small shops that retrain although nothing has changed."""

import datetime as dt
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from monitoring import performance
from monitoring.evaluate import SCORE_WINDOW_MOST
from monitoring.policy import JobHistory, Situation, decide
from pricing.config import load_config
from pricing.config_models import SCORE_WINDOWS
from pricing.data.panel import Panel
from tests.kit.monitoring_world import Truth, World, backtest_figures, build, earlier_weeks_error

CONFIG = load_config().monitoring
# Two of a hundred calm years: in 39 one window of two weeks is in breach by chance, twice; in 66 two of three would be,
# were intervals not wider for few clusters.
UNLUCKY = (39, 66)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


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


@pytest.mark.weekly
def test_calm_years_of_eight_products_retrain_nothing() -> None:
    assert [watch_a_year(World(products=8, days=485, seed=seed)) for seed in UNLUCKY] == [[], []]
