"""What a run says of a backtest: metrics with steps, the evaluation frame, and the lines that a person reads."""

import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from pipelines.calibration import coverage_by
from pricing.demand.baselines import NAIVE, NAMES, baseline_words, baselines_of, sales_rows

_BASELINES = ("wape_naive", "wape_flat", "wape_direct", "wape_baseline", "wape_hindsight")
_COLUMNS = {"WAPE": "wape", "CRPS": "crps", "naive": "wape_naive", "flat": "wape_flat", "direct": "wape_direct"}
_TOTALS = ("wape", *_BASELINES, "crps", "bias", "coverage_80", "coverage_95")


def log_backtest(frame: pd.DataFrame, figures: Mapping[str, Any]) -> None:
    """Records a backtest in the active run.

    Totals are metrics of their own; each fold's scores are one metric with the fold as its step; error and coverage by
    days ahead are one metric each, with the forecast step as its step. The frame is the artifact
    evaluation/frame.parquet.

    Args:
        frame: One row per product, cutoff and step, as `Backtest.frame`.
        figures: As `Backtest.figures`.
    """
    mlflow.log_metrics(dict(totals(figures)))
    for number, fold in enumerate(figures["folds"], start=1):
        log_fold(fold, number=number)
    steps = {"wape_by_step": error_by(frame, "step"), "coverage_80_by_step": coverage_by(frame, "step", level=0.80)}
    for name, values in steps.items():
        for step, value in values.items():
            if math.isfinite(value):
                mlflow.log_metric(name, float(value), step=int(str(step)))
    mlflow.log_dict(dict(figures), "evaluation/figures.json")
    with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
        path = Path(scratch) / "frame.parquet"
        frame.to_parquet(path, index=False)
        mlflow.log_artifact(str(path), "evaluation")


def log_fold(fold: Mapping[str, Any], *, number: int) -> None:
    """Records one fold's scores with the fold's number as their step."""
    scores = {f"fold_{name}": value for name, value in fold.items() if _is_number(value)}
    mlflow.log_metrics({name: float(value) for name, value in scores.items()}, step=number)


def totals(figures: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yields the backtest's figures as flat names and finite numbers; `skill` is the error saved on the baseline."""
    for name in _TOTALS:
        if _is_number(figures.get(name)):
            yield name, float(figures[name])
    skill = saved(figures)
    if skill is not None:
        yield "skill", skill
    groups = {f"_{volume}": scores for volume, scores in figures["by_volume"].items()}
    groups |= {f"_volatility_{name}": scores for name, scores in figures.get("by_volatility", {}).items()}
    for ending, scores in groups.items():
        for name, value in scores.items():
            if _is_number(value):
                yield f"{name}{ending}", float(value)
    for volume, weights in figures.get("weights", {}).items():
        yield from ((f"weight_{name}_{volume}", float(value)) for name, value in weights.items())
    for part in ("against_baseline", "elasticity", "pit"):
        for name, value in figures.get(part, {}).items():
            if _is_number(value):
                yield f"{part}_{name}", float(value)


def error_by(frame: pd.DataFrame, column: str, *, forecast: str = "q50") -> "pd.Series[float]":
    """Weighted absolute percentage error (sum of absolute errors over sum of actual) for each value of a column.

    Of sales given the shelf: see `sales_rows`.
    """
    scored = sales_rows(frame)
    errors = (scored["actual"] - scored[forecast]).abs().groupby(scored[column], observed=True).sum()
    actual = scored["actual"].groupby(scored[column], observed=True).sum()
    return (errors / actual.where(actual > 0)).astype(float)


def score_lines(figures: Mapping[str, Any]) -> list[str]:
    """The walk-forward scores beside the baselines, one line per fold and one for all, to print."""
    lines = [f"{'known until':<16}" + "".join(f"{name:>9}" for name in (*_COLUMNS, "saved")) + "  baseline"]
    for fold in figures["folds"]:
        lines.append(_score_line(str(fold["cutoff"]), fold, names=[fold.get("baseline", NAIVE)]))
    lines.append(_score_line("all folds", figures, names=baselines_of(figures)))
    lines += gain_lines(figures)
    lines += weight_lines(figures)
    lines += figures.get("history", [])
    lines += shelf_lines(figures)
    if any(not _is_number(scores.get("wape_direct")) for scores in figures["folds"] if "wape_direct" in scores):
        lines.append("direct –: LightGBM alone had too few product-periods to train on, or they all sold out")
    lines.append(
        f"bias {shown(figures['bias'], '+.1%')}; the 80 % range held "
        f"{shown(figures['coverage_80'], '.1%')} of the sales, the 95 % range {shown(figures['coverage_95'], '.1%')}"
    )
    return lines


def shown(value: float | None, form: str) -> str:
    """A figure as text; a dash where there is none, as in a fold or a class in which nothing was sold."""
    return format(value, form) if _is_number(value) else "–"


def saved(scores: Mapping[str, Any]) -> float | None:
    """The share of the baseline's error that the model saved; None where an error is not known or the baseline's is 0.

    The baseline is the seasonal naive forecast in versions from before another could be chosen.
    """
    ours, base = scores["wape"], baseline_error(scores)
    return 1.0 - ours / base if _is_number(ours) and base is not None and base > 0 else None


def baseline_error(scores: Mapping[str, Any]) -> float | None:
    """WAPE of what the model is held against; None where it is not known."""
    base = scores["wape_baseline"] if "wape_baseline" in scores else scores["wape_naive"]
    return float(base) if _is_number(base) else None


def gain_lines(figures: Mapping[str, Any]) -> list[str]:
    """What the model gains on the chosen baseline, with its interval, and which baseline was best in hindsight.

    Nothing in versions from before another than seasonal naive could be chosen.
    """
    lines = []
    gain = figures.get("against_baseline")
    if gain:
        parts = [
            f"{label} {shown(gain[name], '+.3f')} (90 % interval {shown(gain[f'{name}_low'], '+.3f')} to "
            f"{shown(gain[f'{name}_high'], '+.3f')})"
            for name, label in (("wape", "WAPE"), ("crps", "CRPS"))
        ]
        lines.append(f"the model's error less the baseline's: {', '.join(parts)}")
    if "baseline_hindsight" in figures:
        name = NAMES[figures["baseline_hindsight"]]
        lines.append(f"best baseline in hindsight: {name}, WAPE {shown(figures['wape_hindsight'], '.3f')}")
    return lines


def weight_lines(figures: Mapping[str, Any]) -> list[str]:
    """How much each forecaster weighs in the level, by volume; nothing in versions of the network alone."""
    there = figures.get("by_volume", {})
    classes = [(name, weights) for name, weights in figures.get("weights", {}).items() if name in there]
    if not classes:
        return []
    parts = [
        f"{name} volume " + ", ".join(f"{forecaster} {weight:.0%}" for forecaster, weight in weights.items())
        for name, weights in classes
    ]
    return [f"the level is a mean of forecasters, weighed by earlier folds: {'; '.join(parts)}"]


def shelf_lines(figures: Mapping[str, Any]) -> list[str]:
    """What sold-out rows do to the scores; nothing where none sold out, nor in versions that did not score them."""
    if not figures.get("censored") or "left_out" not in figures:
        return []
    rows, left_out = figures["rows"] + figures["left_out"], figures["left_out"]
    said = f"{figures['censored'] / rows:.1%} of the rows sold out: scored is what the shelf could give"
    why = f"; {left_out:,} that opened empty are not" if left_out else ""
    always = figures.get("always_sold_out", 0)
    never = f"; {always:,} product(s) sold out every time, and nothing judges what is forecast of their demand"
    return [said + why + (never if always else "")]


def _score_line(label: str, scores: Mapping[str, Any], *, names: list[str]) -> str:
    values = [shown(scores.get(name), ".3f") for name in _COLUMNS.values()] + [shown(saved(scores), ".1%")]
    base = shown(baseline_error(scores), ".3f")
    return f"{label:<16}" + "".join(f"{value:>9}" for value in values) + f"  {base} {baseline_words(names)}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
