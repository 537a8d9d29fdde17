"""Report a backtest: diagnostics, MLflow metrics, the evaluation frame, and lines of text."""

import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.arrays import Floats
from pricing.data.panel import STEP_DAYS, Period
from pricing.demand import evaluation
from pricing.demand.baselines import baseline_words, baselines_of, sales_rows

SPAN = 7  # days scored together, as in a monitoring window
_BASELINES = ("wape_naive", "wape_flat", "wape_direct", "wape_baseline")
_COLUMNS = {"WAPE": "wape", "CRPS": "crps", "naive": "wape_naive", "flat": "wape_flat", "direct": "wape_direct"}
_TOTALS = ("wape", "crps", "bias", "coverage_80", "coverage_95")


def described(frame: pd.DataFrame, figures: Mapping[str, Any], period: Period) -> dict[str, Any]:
    """Returns a copy of a `Backtest`'s figures with `weeks`.

    These are the scores of each whole week of each fold; monitoring derives its tolerances from their variance.
    """
    return {**figures, "weeks": weekly(sales_rows(frame), span=max(1, SPAN // STEP_DAYS[period]))}


def weekly(scored: pd.DataFrame, *, span: int = SPAN) -> list[dict[str, Any]]:
    """Returns the scores of each complete block of `span` steps of each fold of `sales_rows`, oldest first.

    `bias_se` and `wape_mean_se` are standard errors clustered by product: the sampling variation that the interval of
    a monitoring window includes already.
    """
    found = []
    for (cutoff, number), part in scored.groupby(["cutoff", (scored["step"] - 1) // span], sort=True):
        if part["step"].nunique() < span:
            continue  # incomplete block at the end of the horizon
        actual, forecast = part["actual"].to_numpy(), part["forecast"].to_numpy()
        product = pd.factorize(part["product_id"])[0]
        found.append(
            {
                "cutoff": str(pd.Timestamp(str(cutoff)).date()),
                "first_step": int(str(number)) * span + 1,
                "wape_mean": evaluation.wape(actual, forecast),
                "wape_naive": evaluation.wape(actual, part["naive"].to_numpy()),
                "wape_mean_se": ratio_error(np.abs(forecast - actual), actual, group=product),
                "bias": evaluation.bias(actual, forecast),
                "bias_se": ratio_error(forecast - actual, actual, group=product),
                "coverage_80": evaluation.coverage(part, level=0.80),
            }
        )
    return found


def ratio_error(above: Floats, below: Floats, *, group: NDArray[np.integer]) -> float:
    """Cluster-robust standard error of the ratio of two sums of (row,) (linearised, Cochran 1977, 6.4).

    NaN with fewer than two groups, whose numbers count from 0, or a denominator of 0.
    """
    count, total = int(group.max(initial=-1)) + 1, float(below.sum())
    if count < 2 or total <= 0:
        return float("nan")
    residual = np.bincount(group, above, count) - above.sum() / total * np.bincount(group, below, count)
    return float(np.sqrt(count / (count - 1) * (residual**2).sum()) / total)


def log_backtest(frame: pd.DataFrame, figures: Mapping[str, Any]) -> None:
    """Logs a backtest to the active run, and its frame and figures as artifacts below evaluation/.

    Totals are single metrics; fold scores are metrics below `fold/` with the fold number as MLflow step; error and
    coverage by horizon are metrics below `step/` with the forecast step as MLflow step.
    """
    mlflow.log_metrics(dict(totals(figures)))
    for number, fold in enumerate(figures["folds"], start=1):
        scores = {f"fold/{name}": float(value) for name, value in fold.items() if _is_number(value)}
        mlflow.log_metrics(scores, step=number)
    for step, part in sales_rows(frame).groupby("step"):
        found = {"wape": evaluation.wape(part["actual"].to_numpy(), part["q50"].to_numpy())}
        found["coverage_80"] = evaluation.coverage(part, level=0.80)
        scores = {f"step/{name}": value for name, value in found.items() if _is_number(value)}
        mlflow.log_metrics(scores, step=int(str(step)))
    mlflow.log_dict(dict(figures), "evaluation/figures.json")
    with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
        path = Path(scratch) / "frame.parquet"
        frame.to_parquet(path, index=False)
        mlflow.log_artifact(str(path), "evaluation")


def totals(figures: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yields the backtest's finite figures under their names in MLflow; `skill` is from `saved`.

    The few that judge a model stand alone. MLflow groups the others by what stands before the slash.
    """
    for name in _TOTALS:
        if _is_number(figures.get(name)):
            yield name, float(figures[name])
    skill = saved(figures)
    if skill is not None:
        yield "skill", skill
    groups: dict[str, Mapping[str, Any]] = {"baseline": {name: figures.get(name) for name in _BASELINES}}
    for kind, key in (("volume", "by_volume"), ("weight", "weights")):
        groups |= {f"{kind}_{name}": scores for name, scores in figures.get(key, {}).items()}
    groups |= {name: figures.get(name, {}) for name in ("against_baseline", "elasticity")}
    for group, values in groups.items():
        yield from ((f"{group}/{name}", float(value)) for name, value in values.items() if _is_number(value))


def score_lines(figures: Mapping[str, Any]) -> list[str]:
    """Returns the walk-forward scores beside the baselines as text: a line per fold, one for all, and remarks."""
    gain = figures["against_baseline"]
    more = [
        f"{label} {shown(gain[name], '+.3f')} (90 % interval {shown(gain[f'{name}_low'], '+.3f')} to "
        f"{shown(gain[f'{name}_high'], '+.3f')})"
        for name, label in (("wape", "WAPE"), ("crps", "CRPS"))
    ]
    weights = [
        f"{name} volume " + ", ".join(f"{forecaster} {weight:.0%}" for forecaster, weight in weights.items())
        for name, weights in figures.get("weights", {}).items()
        if name in figures.get("by_volume", {})
    ]
    return [
        f"{'known until':<16}" + "".join(f"{name:>9}" for name in (*_COLUMNS, "saved")) + "  baseline",
        *(_score_line(str(fold["cutoff"]), fold, names=[fold["baseline"]]) for fold in figures["folds"]),
        _score_line("all folds", figures, names=baselines_of(figures)),
        f"the model's error less the baseline's: {', '.join(more)}",
        *([f"the level is a mean of forecasters, weighed by earlier folds: {'; '.join(weights)}"] if weights else []),
        *figures.get("history", []),
        *_shelf_lines(figures),
        f"bias {shown(figures['bias'], '+.1%')}; the 80 % range held {shown(figures['coverage_80'], '.1%')} of the "
        f"sales, the 95 % range {shown(figures['coverage_95'], '.1%')}",
    ]


def shown(value: float | None, form: str) -> str:
    """Formats a figure; a dash where there is none, as in a fold or class without sales."""
    return format(value, form) if _is_number(value) else "–"


def saved(scores: Mapping[str, Any]) -> float | None:
    """Returns the model's skill, 1 − WAPE / baseline WAPE; None where either is unknown or the baseline's is 0."""
    ours, base = scores["wape"], scores["wape_baseline"]
    return 1.0 - ours / base if _is_number(ours) and _is_number(base) and base > 0 else None


def _shelf_lines(figures: Mapping[str, Any]) -> list[str]:
    """Describes how sold-out rows were scored; empty where none sold out."""
    if not figures.get("censored"):
        return []
    left_out, always = figures["left_out"], figures.get("always_sold_out", 0)
    share = figures["censored"] / (figures["rows"] + left_out)
    said = f"{share:.1%} of the rows sold out: scored is what the shelf could give"
    said += f"; {left_out:,} that opened empty are not" if left_out else ""
    never = f"; {always:,} product(s) sold out every time, and nothing judges what is forecast of their demand"
    return [said + (never if always else "")]


def _score_line(label: str, scores: Mapping[str, Any], *, names: list[str]) -> str:
    values = [shown(scores.get(name), ".3f") for name in _COLUMNS.values()] + [shown(saved(scores), ".1%")]
    base = shown(scores["wape_baseline"], ".3f")
    return f"{label:<16}" + "".join(f"{value:>9}" for value in values) + f"  {base} {baseline_words(names)}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
