"""Measure how well demand is forecast on real sales, beside naive forecasts and LightGBM on the same rows.

python -m benchmarks.forecast m5=PATH oj=PATH … [--variants whole x0.1 x10 short]

Prints the tables of forecast.md. The data sets are not part of the project (`benchmarks/forecast_data.py` reads them).
A variant multiplies all units, or leaves the end of the history alone.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.forecast_data import FACTORS, SETS, Sales, configured, history
from benchmarks.forecasters import KEYS, LEVELS, LIGHTGBM, QUANTILES, global_lightgbm
from benchmarks.table import markdown, measured
from pipelines.steps.sales import holiday_calendar
from pricing.arrays import Floats
from pricing.config import Config
from pricing.data.panel import Panel
from pricing.demand.baselines import FLAT, NAIVE, paired_difference
from pricing.demand.ensemble import CLASSES
from pricing.demand.evaluation import bias, share_inside
from pricing.demand.folds import walk_forward

OURS = "ours"
OTHERS = (NAIVE, FLAT, LIGHTGBM)
ATOMS = 100  # equally likely units that a distribution is scored as
SEED = 0  # of the intervals
VARIANTS = {"whole": "as it is", "x0.1": "units × 0.1", "x10": "units × 10", "short": "its end alone"}
BIAS, HOLD = 0.03, (0.76, 0.84)  # what is aimed at

Judgement = dict[str, Any]  # what `judge` found of one data set and variant, with its title and size


def measure(sales: Sales, panel: Panel, config: Config, *, variant: str, lightgbm: pd.DataFrame) -> Judgement:
    """Backtests one data set in one variant, beside what LightGBM forecast of its units as they are."""
    from pricing.demand.backtest import backtest  # noqa: PLC0415 - imports TensorFlow

    factor, demand = FACTORS[variant], config.demand
    started = time.process_time()
    frame = backtest(panel, demand, calendar=holiday_calendar(panel, config.data)).frame
    seconds = round(time.process_time() - started)
    frame = joined(frame, lightgbm, name=LIGHTGBM, factor=factor)
    found = judge(frame)
    size = f"{len(panel.product_ids)} × {found['cutoffs']} × {demand.horizon} ({demand.step})"
    return found | {"data": sales.title, "variant": VARIANTS[variant], "size": size, "seconds": seconds}


def joined(frame: pd.DataFrame, forecasts: pd.DataFrame, *, name: str, factor: float) -> pd.DataFrame:
    """An evaluation frame with a competitor's point (`name`), mean, CRPS and share inside 80 % in columns more.

    Args:
        frame: Evaluation rows of a backtest.
        forecasts: `KEYS` and `QUANTILES` of the same history.
        name: Prefix of the columns.
        factor: What the history's units were multiplied by; forecasts are multiplied alike.

    Raises:
        ValueError: A row has no forecast, or more than one.
    """
    rows = frame[KEYS].assign(
        date=frame["date"].astype("datetime64[s]"), cutoff=frame["cutoff"].astype("datetime64[s]")
    )
    found = rows.merge(forecasts, on=KEYS, how="left", validate="one_to_one")
    lost = found[QUANTILES[0]].isna()
    if lost.any():
        first = found[lost].iloc[0]
        raise ValueError(
            f"{name} must forecast every judged row, and {int(lost.sum())} of {len(found)} have none, first product "
            f"{first['product_id']}, cutoff {first['cutoff']:%Y-%m-%d}, date {first['date']:%Y-%m-%d}"
        )
    quantiles = factor * found[list(QUANTILES)].to_numpy(np.float64)
    # What is sold by the piece has quantiles of whole pieces, theirs as ours.
    step = np.where(frame["counted"].to_numpy(bool), frame["unit"].to_numpy(np.float64), 0.0)[:, None]
    units, quantiles = whole(atoms(quantiles), step), whole(quantiles, step)
    actual = frame["actual"].to_numpy(np.float64)
    # A tolerance: ×0.1 and the panel's single precision leave equal numbers apart.
    near = 1e-6 * np.maximum(actual, 1.0)[:, None]
    below = (units < actual[:, None] - near).mean(axis=1)
    return frame.assign(
        **{
            name: quantiles[:, LEVELS.index(0.50)],
            f"{name}_mean": units.mean(axis=1),
            f"{name}_crps": ranked_probability(units, actual),
            f"{name}_inside": share_inside(below, (units <= actual[:, None] + near).mean(axis=1), level=0.80),
        }
    )


def atoms(quantiles: Floats) -> Floats:
    """(row, atom) ascending, equally likely units: quantiles joined by lines, beyond the last as steep, not below 0."""
    levels = np.asarray(LEVELS)
    at = (np.arange(ATOMS) + 0.5) / ATOMS
    left = np.clip(np.searchsorted(levels, at) - 1, 0, len(levels) - 2)
    share = (at - levels[left]) / (levels[left + 1] - levels[left])
    found: Floats = np.maximum(quantiles[:, left] * (1.0 - share) + quantiles[:, left + 1] * share, 0.0)
    return found


def whole(units: Floats, step: Floats) -> Floats:
    """(row, …) units rounded to multiples of each row's (row, 1) step; as they are where that is 0."""
    safe = np.where(step > 0, step, 1.0)
    found: Floats = np.where(step > 0, safe * np.rint(units / safe), units)
    return found


def ranked_probability(units: Floats, actual: Floats) -> Floats:
    """(row,) CRPS of equally likely ascending units, (row, atom): E|X − actual| − ½ E|X − X'|."""
    count = units.shape[1]
    weights = (2.0 * np.arange(1, count + 1) - count - 1.0) / count**2
    found: Floats = np.abs(units - actual[:, None]).mean(axis=1) - units @ weights
    return found


def errors(scored: pd.DataFrame) -> dict[str, dict[str, Floats]]:
    """(row,) absolute errors of medians (`wape`) and CRPS of everybody; the CRPS of a point is its absolute error."""
    actual = scored["actual"].to_numpy(np.float64)
    found = {OURS: {"wape": np.abs(actual - scored["q50"].to_numpy()), "crps": scored["crps"].to_numpy(np.float64)}}
    for name in OTHERS:
        point = np.abs(actual - scored[name].to_numpy(np.float64))
        found[name] = {"wape": point, "crps": scored.get(f"{name}_crps", pd.Series(point)).to_numpy(np.float64)}
    return found


def judge(frame: pd.DataFrame) -> dict[str, Any]:
    """Scores of everybody and paired differences from LightGBM, on rows that did not sell out.

    `frame` is `Backtest.frame` with the competitor's columns (`joined`).
    """
    scored = frame[~frame["censored"].astype(bool)].reset_index(drop=True)
    error = errors(scored)
    volumes = {volume: (scored["volume_class"] == volume).to_numpy() for volume in CLASSES}
    return {
        "rows": len(scored),
        "cutoffs": int(scored["cutoff"].nunique()),
        "scores": {name: _scores(scored, name, error[name]) for name in error},
        "difference": paired_difference(
            scored,
            more={kind: error[OURS][kind] - error[LIGHTGBM][kind] for kind in ("wape", "crps")},
            rng=np.random.default_rng(SEED),
        ),
        "by_volume": {
            volume: {
                name: _scores(scored[rows], name, {kind: error[name][kind][rows] for kind in ("wape", "crps")})
                for name in (OURS, LIGHTGBM)
            }
            | {"units": float(scored["actual"][rows].mean())}
            for volume, rows in volumes.items()
            if rows.any()
        },
    }


def _scores(scored: pd.DataFrame, name: str, error: dict[str, Floats]) -> dict[str, float | None]:
    """WAPE, CRPS over units sold, bias of the mean, and the share inside 80 % intervals; None where there are none."""
    actual = scored["actual"].to_numpy(np.float64)
    total = float(actual.sum())
    mean = scored[{OURS: "forecast", LIGHTGBM: f"{LIGHTGBM}_mean"}.get(name, name)].to_numpy(np.float64)
    inside = np.full(len(scored), np.nan)
    if name == OURS:
        inside = share_inside(scored["pit_low"].to_numpy(), scored["pit_high"].to_numpy(), level=0.80)
    elif f"{name}_inside" in scored:
        inside = scored[f"{name}_inside"].to_numpy(np.float64)
    known = np.isfinite(inside)
    return {
        "wape": float(error["wape"].sum()) / total,
        "crps": float(error["crps"].sum()) / total,
        "bias": bias(actual, mean),
        "coverage_80": float(inside[known].mean()) if known.any() else None,
    }


def verdicts(rows: Sequence[Judgement]) -> str:
    """A row a data set and variant: this model and every competitor."""
    head = ["data", "variant", "products × cutoffs × horizon (step)", "WAPE / CRPS", "bias", "80 % hold", "CPU s"]
    head += ["LightGBM", "its bias", "its 80 % hold", "difference in WAPE, CRPS", "seasonal naive", "flat median"]
    lines = []
    for row in rows:
        scores, more = row["scores"], row["difference"]
        lines.append(
            [
                row["data"],
                row["variant"],
                row["size"],
                *_told(scores[OURS]),
                str(row["seconds"]),
                *_told(scores[LIGHTGBM]),
                f"{interval(more, 'wape')}, {interval(more, 'crps')}",
                pair(scores[NAIVE]),
                pair(scores[FLAT]),
            ]
        )
    return markdown(head, lines)


def missed(rows: Sequence[Judgement]) -> str:
    """A row for every aim that a data set and variant misses, and by how much."""
    lines = []
    for row in rows:
        ours, more = row["scores"][OURS], row["difference"]
        beyond = {
            "WAPE above LightGBM's, at the interval's lower end": more["wape_low"],
            "CRPS above LightGBM's, at the interval's lower end": more["crps_low"],
            f"absolute bias above {BIAS:.0%}": abs(ours["bias"]) - BIAS,
            f"80 % intervals hold less than {HOLD[0]:.0%}": HOLD[0] - ours["coverage_80"],
            f"80 % intervals hold more than {HOLD[1]:.0%}": ours["coverage_80"] - HOLD[1],
        }
        lines += [[row["data"], row["variant"], words, f"{by:.3f}"] for words, by in beyond.items() if by > 0]
    return markdown(["data", "variant", "aim missed", "by"], lines)


def volumes(rows: Sequence[Judgement]) -> str:
    """A row a data set, variant and third of the products."""
    head = ["data", "variant", "products", "units a period", "WAPE / CRPS", "bias", "80 % hold"]
    head += ["LightGBM", "its bias", "its 80 % hold"]
    return markdown(
        head,
        (
            [row["data"], row["variant"], volume, f"{part['units']:.3g}", *_told(part[OURS]), *_told(part[LIGHTGBM])]
            for row in rows
            for volume, part in row["by_volume"].items()
        ),
    )


def _told(scores: dict[str, float]) -> tuple[str, str, str]:
    return pair(scores), f"{scores['bias']:+.1%}", f"{scores['coverage_80']:.1%}"


def pair(scores: dict[str, float]) -> str:
    """WAPE and CRPS."""
    return f"{scores['wape']:.3f} / {scores['crps']:.3f}"


def interval(more: dict[str, float], kind: str) -> str:
    """A difference with its 90 % interval."""
    return f"{more[kind]:+.3f} [{more[f'{kind}_low']:+.3f}, {more[f'{kind}_high']:+.3f}]"


def main(argv: Sequence[str] | None = None) -> int:
    """Measures what is asked for and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="SET=PATH", help=f"data sets: {', '.join(SETS)}")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["whole"])
    options = parser.parse_args(argv)
    given = dict(item.partition("=")[::2] for item in options.data)
    if unknown := set(given) - set(SETS):
        parser.error(f"expected {', '.join(SETS)} as SET=PATH, found {', '.join(sorted(unknown))}")
    rows = []
    for name, path in given.items():
        sales, others = SETS[name], dict[bool, pd.DataFrame]()
        frame = sales.read(path)
        for variant in options.variants:
            short = variant == "short"
            config, periods = configured(sales, short=short), sales.short_periods if short else None
            if short not in others:  # what LightGBM forecasts is made once, and multiplied with the units
                panel = history(frame, config, factor=1.0, periods=periods)
                cutoffs = [fold.cutoff for fold in walk_forward(panel.dates, config=config.demand, period=panel.period)]
                others[short] = global_lightgbm(panel, cutoffs, horizon=config.demand.horizon)
            panel = history(frame, config, factor=FACTORS[variant], periods=periods)
            rows.append(measure(sales, panel, config, variant=variant, lightgbm=others[short]))
            print(f"{name} {variant}: WAPE {rows[-1]['scores'][OURS]['wape']:.3f}", file=sys.stderr, flush=True)
    print("\n".join([measured(), verdicts(rows), missed(rows), volumes(rows)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
