"""How often monitoring cries wolf, and how soon it sees the wolf: `python -m benchmarks.monitoring drift|decay|market`.

Prints the tables of benchmarks/monitoring.md. Worlds differ by seed only; nothing here was used to choose a setting but
the seeds from 5000 on, with which the transformation of drift's distances was chosen.
"""

import argparse
import datetime as dt
import json
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.monitoring_market import measure, table
from benchmarks.provenance import reminder
from monitoring import performance
from monitoring.drift import chance_per_window, distance, estimate_threshold
from monitoring.evaluate import rules
from monitoring.policy import JobHistory, Situation, decide
from monitoring.samples import MONITORED_COLUMNS, WATCHED, Role, Samples, take
from pricing.config import load_config
from pricing.config_models import MonitoringConfig
from pricing.data.panel import Panel
from tests.kit.monitoring_world import Truth, World, backtest_figures, build, earlier_weeks_error, live_join

ROOT = Path(__file__).parents[1]
FIRST_SEED = 200  # of markets; no setting was chosen on these
# A training of seconds, beyond config/small.yaml.
QUICK = {"context": 60, "units": 16, "steps": 60, "demand_steps": 20}
COLUMNS = [watched for watched in MONITORED_COLUMNS if watched.role in ("input", "target") and watched.among != "asked"]
SHIFTS: dict[str, dict[str, float]] = {
    "prices 5 % lower": {"price_factor": 0.95},
    "prices 10 % lower": {"price_factor": 0.90},
    "twice the promotions": {"promo_factor": 2.0},
    "demand +15 %": {"demand_factor": 1.15},
    "demand +15 %, no season": {"demand_factor": 1.15, "season": 0.0},
    "demand +30 %": {"demand_factor": 1.3},
    "demand −30 %": {"demand_factor": 0.7},
}
REGIMES: dict[str, dict[str, float]] = {
    "demand −20 %": {"demand_factor": 0.8},
    "demand −30 %": {"demand_factor": 0.7},
    "demand +40 %": {"demand_factor": 1.4},
    "elasticities −1, prices 10 % lower": {"elasticity_shift": -1.0, "price_factor": 0.9},
}


def chance(config: MonitoringConfig) -> float:
    """The false alarms that one column may make in one window, as `compare` shares them out."""
    return chance_per_window(config.false_alarm, window_days=28) / WATCHED


def alarms(world: World, config: MonitoringConfig) -> Counter[str]:
    """Which columns alarm in the newest window of one world; "any" when one of them does."""
    panel, _ = build(world)
    taken = take(
        panel, live_join(panel, since=world.days), window=28, reference=364, rows=200_000, rng=np.random.default_rng(0)
    )
    found: Counter[str] = Counter()
    for watched in COLUMNS:
        known = watched.values(taken.reference).dropna(), watched.values(taken.current).dropna()
        limit = estimate_threshold(taken.reference, watched, window=28, step_days=1, false_alarm=chance(config))
        if limit is not None and distance(*known, kind=watched.kind) > limit.value:
            found[watched.column] = found["any"] = 1
    return found


def drift(worlds: int, config: MonitoringConfig) -> None:
    """Prints false alarms per window, and how many windows of a changed world alarm."""
    names = ["any", *(watched.column for watched in COLUMNS)]
    print("| 28-day window | windows | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 2))
    cases: list[tuple[str, int, dict[str, float], int]] = [
        ("nothing changed, reference 364 days", worlds, {}, 392),
        ("nothing changed, no season", worlds, {"season": 0.0}, 392),
        ("nothing changed, reference 172 days", worlds // 2, {}, 200),
        *((name, max(1, worlds // 5), shift, 392) for name, shift in SHIFTS.items()),
    ]
    for name, count, shift, days in cases:
        total: Counter[str] = Counter()
        for seed in range(count):
            base = World(products=30, days=days, seed=seed, change_day=days - 28 if shift else None)
            total += alarms(replace(base, **shift), config)  # type: ignore[arg-type]
        print(
            f"| {name} | {count} | " + " | ".join(f"{total[column] / count:.1%}" for column in names) + " |", flush=True
        )


WINDOW_DAYS = 28  # of a window of drift
LOOK_DAYS = 7  # between two looks of `live`
MONTH_DAYS = 365 / 12
LIVE_DAY = 365
SHOCKS: dict[str, dict[str, float]] = {
    "the competitor 10 % cheaper": {"comp_factor": 0.9},
    "costs 10 % higher": {"cost_factor": 1.1},
    "half the stock": {"stock_factor": 0.5},
    "three times the promotions": {"promo_factor": 3.0},
}


def looks(
    world: World, config: MonitoringConfig, *, until: int, role: Role = "input"
) -> list[tuple[int, tuple[str, ...]]]:
    """Looks at a shop each week from its first week with our prices on: days since then, and columns that drift."""
    panel, _ = build(world)
    start = world.live_day or 0
    found = []
    for days in range(LOOK_DAYS, until + 1, LOOK_DAYS):
        seen = panel.through(panel.dates[start + days - 1])
        taken = take(
            seen, live_join(seen, since=start), window=28, reference=364, rows=200_000, rng=np.random.default_rng(0)
        )
        found.append((days, drifted_columns(taken, config, role=role)))
    return found


def alerts(found: Sequence[tuple[int, tuple[str, ...]]]) -> int:
    """The alerts that looks lead to: the same drift is told once a window."""
    last: dict[tuple[str, ...], int] = {}
    count = 0
    for days, names in found:
        if names and days - last.get(names, -WINDOW_DAYS) >= WINDOW_DAYS:
            last[names] = days
            count += 1
    return count


def drifted_columns(taken: Samples, config: MonitoringConfig, *, role: Role = "input") -> tuple[str, ...]:
    """The columns of a role that drift, by the thresholds of monitoring without Evidently's page."""
    names = []
    for watched in MONITORED_COLUMNS:
        known = watched.values(taken.reference).dropna(), watched.values(taken.current).dropna()
        if watched.role != role or min(map(len, known)) < config.min_rows:
            continue
        limit = estimate_threshold(taken.reference, watched, window=28, step_days=1, false_alarm=chance(config))
        if limit is not None and distance(*known, kind=watched.kind) > limit.value:
            names.append(watched.column)
    return tuple(names)


def live(worlds: int, config: MonitoringConfig) -> None:
    """Prints the looks that alarm in the year after a calm shop goes live, and how soon a true shock is seen."""
    base = World(products=30, days=LIVE_DAY + 366, live_day=LIVE_DAY)
    calm = [looks(replace(base, seed=seed), config, until=365) for seed in range(worlds)]
    sent = sum(alerts(each) for each in calm)
    print(f"{sent} alerts in {12 * worlds} months, {sent / (12 * worlds):.3f} a month\n")
    print("| months since go-live | looks | that alarm | columns |\n|---|---|---|---|")
    for first in range(0, 12, 3):
        span = [names for each in calm for days, names in each if first < days / MONTH_DAYS <= first + 3]
        columns = Counter(name for names in span for name in names)
        told = ", ".join(f"{name} {count}" for name, count in columns.most_common()) or "–"
        print(f"| {first + 1}–{first + 3} | {len(span)} | {sum(map(bool, span))} | {told} |", flush=True)
    print("\n| change 120 days after go-live | worlds | seen in 8 weeks | median days |\n|---|---|---|---|")
    for name, shift in SHOCKS.items():
        waits = []
        for seed in range(worlds):
            world = replace(base, seed=seed, days=LIVE_DAY + 180, change_day=LIVE_DAY + 120, **shift)  # type: ignore[arg-type]
            quiet = dict(calm[seed])
            new = [
                days - 120
                for days, names in looks(world, config, until=176)
                if days > 120 and set(names) - set(quiet.get(days, ()))
            ]
            waits += new[:1]
        print(f"| {name} | {worlds} | {len(waits)} | {statistics.median(waits) if waits else '–'} |", flush=True)


def joined(panel: Panel, forecast: np.ndarray) -> pd.DataFrame:
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


def watch_a_year(world: World, config: MonitoringConfig) -> list[int]:
    """Runs the decay rules every night from day 120 on and returns the days of retraining.

    A retrained model knows the world as it is then.
    """
    panel, truth = build(world)
    calm, known = build(replace(world, change_day=None, days=120))
    figures = backtest_figures(calm, known)
    rng = np.random.default_rng(world.seed + 10_000)
    noise = np.exp(rng.normal(0, 0.1, truth.mean.shape))
    frame = joined(panel, truth.old * noise)
    retrained: list[int] = []
    cache: dict[tuple[int, int], performance.WindowVerdict] = {}
    promised = performance.band(figures, config)
    start = np.datetime64(panel.dates[0])
    for today in range(120, world.days):
        days = performance.window_days(
            frame[frame["day"] <= today],
            last=start + today,
            least=config.score_window,
            most=config.score_window_most,
            min_rows=config.min_rows,
        )
        ends = [today - days * back for back in range(config.windows - 1, -1, -1)]
        for end in ends:
            if (end, days) not in cache:
                rows = frame[frame["day"].between(end - days + 1, end)]
                score = performance.score(rows, name=str(start + end), rng=np.random.default_rng(max(end, 0)))
                cache[end, days] = performance.judge(score, promised, min_rows=config.min_rows)
        newest = [cache[end, days] for end in ends]
        now = pd.Timestamp(start + today).to_pydatetime().replace(tzinfo=dt.UTC)
        last = pd.Timestamp(start + retrained[-1]).to_pydatetime().replace(tzinfo=dt.UTC) if retrained else None
        seen = Situation(
            now=now,
            decayed=tuple(bool(one.breaches) if one.judged else None for one in newest),
            why="error grew",
            window_days=days,
            drifted=(),
            state_age=1,
            silent_days=0,
            share_rule=0.0,
            broken=(),
        )
        if decide(seen, JobHistory(retrained=last), rules(config)).action == "retrain":
            retrained.append(today)
            frame = _relearn(frame, truth, noise, since=today)
            cache = {key: verdict for key, verdict in cache.items() if key[0] <= today}
    return retrained


def _relearn(frame: pd.DataFrame, truth: Truth, noise: np.ndarray, *, since: int) -> pd.DataFrame:
    forecast = np.where(frame["day"] > since, (truth.mean * noise).ravel(), frame["forecast"])
    return frame.assign(forecast=forecast)


def regimes(worlds: int, config: MonitoringConfig, *, products: int) -> None:
    """Prints false retrainings a year, and the days from a regime change to the retraining."""
    calm = [watch_a_year(World(products=products, days=485, seed=seed), config) for seed in range(worlds)]
    false = sum(len(days) for days in calm)
    print(f"no change: {false} retrainings in {worlds} years, {false / worlds:.2f} a year\n")
    print("| change on day 250 | worlds | seen | median days | slowest | retrainings after it |\n|" + "---|" * 6)
    for name, shift in REGIMES.items():
        waits, after = [], []
        for seed in range(worlds):
            world = World(products=products, days=400, seed=seed, change_day=250)
            days = [day - 250 for day in watch_a_year(replace(world, **shift), config) if day >= 250]  # type: ignore[arg-type]
            after.append(len(days))
            waits += days[:1]
        middle, slowest = (statistics.median(waits), max(waits)) if waits else ("–", "–")
        print(f"| {name} | {worlds} | {len(waits)} | {middle} | {slowest} | {statistics.mean(after):.2f} |", flush=True)


def market(worlds: int, *, fall: float) -> None:
    """Measures the simulated market, seed by seed; keeps the figures of each seed in monitoring_market.json.

    Args:
        worlds: Markets.
        fall: Fraction by which demand for everything falls, beside the market's own regime change.
    """
    config = load_config(ROOT / "config" / "small.yaml")
    config = config.model_copy(update={"demand": config.demand.model_copy(update=QUICK)})
    path = ROOT / "benchmarks" / "monitoring_market.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    kept = [one for one in kept if "fortnightly" in one["changed"] and "calm" in one]  # whole ones
    for seed in range(FIRST_SEED, FIRST_SEED + worlds):
        if all((one["seed"], one["fall"]) != (seed, fall) for one in kept):
            started = time.process_time()
            kept.append(measure(seed, config, fall=fall))
            path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
            print(f"seed {seed}: {time.process_time() - started:.0f} s of CPU time", flush=True)
    print(f"\ndemand falls by {fall:.0%} as well\n\n{table([one for one in kept if one['fall'] == fall])}")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one of the two benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", choices=("drift", "live", "decay", "market"))
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--products", type=int, default=40, help="decay only: products of each shop")
    parser.add_argument("--fall", type=float, default=0.5, help="market only: by which fraction demand falls, too")
    options = parser.parse_args(argv)
    started = time.perf_counter()
    config = load_config().monitoring
    if options.which == "market":
        market(options.worlds, fall=options.fall)
    elif options.which == "decay":
        regimes(options.worlds, config, products=options.products)
    elif options.which == "live":
        live(options.worlds, config)
    else:
        drift(options.worlds, config)
    print(f"\n{time.perf_counter() - started:.0f} s")
    print(reminder("monitoring.md"))


if __name__ == "__main__":
    main()
