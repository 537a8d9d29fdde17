"""Forecasts of several on the same rows: scores, paired differences, and the baseline that could have been chosen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pricing.arrays import Floats
from pricing.demand.baselines import FLAT, NAIVE, chosen, paired_difference
from pricing.demand.ensemble import CLASSES
from pricing.demand.evaluation import bias, share_inside

OURS, CHOSEN, LIGHTGBM = "ours", "chosen", "lightgbm"
CANDIDATES = (NAIVE, FLAT, LIGHTGBM)  # of which the baseline is chosen
LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
QUANTILES = tuple(f"q{round(100 * level):02d}" for level in LEVELS)
KEYS = ["product_id", "cutoff", "date"]
ATOMS = 100  # equally likely units that a distribution is scored as
SEED = 0  # of the intervals


@dataclass(frozen=True)
class Forecasts:
    """A competitor's forecasts of every product-period that a backtest may score.

    Attributes:
        frame: `KEYS` and `QUANTILES`.
        tuning: `actual`, `censored`, `date`, and the forecasts of the block before the first judged cutoff by column:
            the two baselines and LightGBM.
    """

    frame: pd.DataFrame
    tuning: pd.DataFrame


def joined(frame: pd.DataFrame, forecasts: Forecasts, *, name: str, factor: float) -> pd.DataFrame:
    """An evaluation frame with a competitor's point (`name`), mean, CRPS and share inside 80 % in columns more.

    Args:
        frame: Evaluation rows of a backtest.
        forecasts: For the same history.
        name: Prefix of the columns.
        factor: What the history's units were multiplied by; forecasts are multiplied alike.

    Raises:
        ValueError: A row has no forecast, or more than one.
    """
    rows = frame[KEYS].assign(
        date=frame["date"].astype("datetime64[s]"), cutoff=frame["cutoff"].astype("datetime64[s]")
    )
    found = rows.merge(forecasts.frame, on=KEYS, how="left", validate="one_to_one")
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


def with_chosen(frame: pd.DataFrame, tuning: pd.DataFrame) -> pd.DataFrame:
    """The frame with, in `baseline`, which of the candidates had the least error before each cutoff.

    Args:
        frame: Judged rows with a column of each candidate.
        tuning: The block before the first cutoff, of which LightGBM's parameters are the best.
    """
    tuning = tuning.assign(date=tuning["date"].astype(frame["date"].dtype))
    names = {
        cutoff: chosen([tuning, frame[frame["cutoff"] < cutoff]], cutoff=cutoff, names=CANDIDATES)
        for cutoff in np.sort(frame["cutoff"].unique())
    }
    return frame.assign(baseline=frame["cutoff"].map(names))


def of_chosen(frame: pd.DataFrame, columns: dict[str, str]) -> Floats:
    """(row,) the chosen baseline's column, by its name."""
    return np.select([frame["baseline"] == name for name in columns], [frame[c].to_numpy() for c in columns.values()])


def errors(scored: pd.DataFrame, names: Sequence[str]) -> dict[str, dict[str, Floats]]:
    """(row,) absolute errors of medians (`wape`) and CRPS of everybody; the CRPS of a point is its absolute error."""
    actual = scored["actual"].to_numpy(np.float64)
    found = {OURS: {"wape": np.abs(actual - scored["q50"].to_numpy()), "crps": scored["crps"].to_numpy(np.float64)}}
    for name in names:
        point = np.abs(actual - scored[name].to_numpy(np.float64))
        found[name] = {"wape": point, "crps": scored.get(f"{name}_crps", pd.Series(point)).to_numpy(np.float64)}
    return found


def judge(frame: pd.DataFrame, tuning: pd.DataFrame) -> dict[str, Any]:
    """Scores of everybody and paired differences, on rows that did not sell out.

    Args:
        frame: `Backtest.frame` with the competitors' columns (`forecasters.joined`).
        tuning: The block before the first judged cutoff.
    """
    frame = with_chosen(frame, tuning)
    scored = frame[~frame["censored"].astype(bool)].reset_index(drop=True)
    names = (LIGHTGBM, NAIVE, FLAT)
    error = errors(scored, names)
    error[CHOSEN] = {
        kind: np.select([scored["baseline"] == name for name in CANDIDATES], [error[name][kind] for name in CANDIDATES])
        for kind in ("wape", "crps")
    }
    folds = scored.groupby("cutoff")["baseline"].first()
    return {
        "rows": len(scored),
        "cutoffs": int(scored["cutoff"].nunique()),
        "scores": {name: _scores(scored, name, error[name]) for name in error},
        "differences": {
            name: paired_difference(
                scored,
                more={kind: error[OURS][kind] - error[name][kind] for kind in ("wape", "crps")},
                rng=np.random.default_rng(SEED),
            )
            for name in (*names, CHOSEN)
        },
        "chosen": {name: int((folds == name).sum()) for name in CANDIDATES},
        "by_volume": {
            volume: {
                name: _scores(scored[rows], name, {kind: error[name][kind][rows] for kind in ("wape", "crps")})
                for name in (OURS, LIGHTGBM, CHOSEN)
            }
            | {"units": float(scored["actual"][rows].mean())}
            for volume in CLASSES
            if (rows := (scored["volume_class"] == volume).to_numpy()).any()
        },
    }


def _scores(scored: pd.DataFrame, name: str, error: dict[str, Floats]) -> dict[str, float | None]:
    """WAPE, CRPS over units sold, bias of the mean, and the share inside 80 % intervals; None where there are none."""
    actual = scored["actual"].to_numpy(np.float64)
    total = float(actual.sum())
    columns = {NAIVE: NAIVE, FLAT: FLAT, LIGHTGBM: f"{LIGHTGBM}_mean"}
    if name == CHOSEN:
        mean = of_chosen(scored, columns)
    else:
        mean = scored[{OURS: "forecast", **columns}[name]].to_numpy(np.float64)
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
