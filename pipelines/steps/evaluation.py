"""Report how good a version is: the backtest's metrics, frame and lines of text, and the model card."""

import math
import tempfile
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.reports import render
from pricing.arrays import Floats
from pricing.config import leaves
from pricing.data.event_windows import EventLifts, percent
from pricing.demand import evaluation
from pricing.demand.baselines import FLAT_PERIODS, baseline_words
from pricing.demand.ensemble import CLASSES
from pricing.demand.grades import GRADES
from pricing.demand.table import DemandTable
from pricing.registry.causes import CAUSES, causes
from pricing.registry.knowledge import (
    ELASTICITY_DIGITS,
    HOLDS_ONLY_MEANING,
    MEANINGS,
    shares_by_grade,
    shown_competitor,
    shown_elasticities,
    words_of_tests,
)
from pricing.registry.version import LoadedVersion

SPAN = 7  # days scored together, as in a monitoring window
_COLUMNS = {"WAPE": "wape", "CRPS": "crps", "naive": "wape_naive", "flat": "wape_flat", "direct": "wape_direct"}
_TOTALS = ("wape", "crps", "skill", "bias", "coverage_80", "coverage_95")
_EVENTS = 15  # most events in the card's table
_CLEAR = 2.0  # standard deviations above which a lift is listed


def weekly(scored: pd.DataFrame, *, span: int = SPAN) -> list[dict[str, Any]]:
    """Returns the scores of each complete block of `span` steps of each fold of `sales_rows`, oldest first.

    `bias_se` and `wape_mean_se` are standard errors clustered by product: the sampling variation that the interval of
    a monitoring window includes already.
    """
    found = []
    for (cutoff, number), part in scored.groupby(["cutoff", (scored["step"] - 1) // span], sort=True):
        if part["step"].nunique() < span:
            continue  # incomplete block at the end of the horizon
        actual = part["actual"].to_numpy()
        forecast = part["forecast"].to_numpy()
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
    count = int(group.max(initial=-1)) + 1
    total = float(below.sum())
    if count < 2 or total <= 0:
        return float("nan")
    residual = np.bincount(group, above, count) - above.sum() / total * np.bincount(group, below, count)
    return float(np.sqrt(count / (count - 1) * (residual**2).sum()) / total)


def log_backtest(frame: pd.DataFrame, figures: Mapping[str, Any]) -> None:
    """Logs a backtest to the active run, and its frame and figures as artifacts below evaluation/.

    The few figures that judge a model are metrics without a prefix, the others below that of their part; fold scores
    are metrics below `fold/` with the fold number as MLflow step.
    """
    found = {path.replace(".", "/"): value for path, value in leaves({**figures, "skill": saved(figures)}).items()}
    mlflow.log_metrics(
        {
            name if name in _TOTALS or "/" in name else f"backtest/{name}": float(value)
            for name, value in found.items()
            if _is_number(value)
        }
    )
    for number, fold in enumerate(figures["folds"], start=1):
        scores = {f"fold/{name}": float(value) for name, value in fold.items() if _is_number(value)}
        mlflow.log_metrics(scores, step=number)
    mlflow.log_dict(dict(figures), "evaluation/figures.json")
    with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
        path = Path(scratch) / "frame.parquet"
        frame.to_parquet(path, index=False)
        mlflow.log_artifact(str(path), "evaluation")


def score_lines(figures: Mapping[str, Any]) -> list[str]:
    """Returns the walk-forward scores beside the baselines as text: a line per fold, one for all, and remarks."""
    return [
        f"{'known until':<16}" + "".join(f"{name:>9}" for name in (*_COLUMNS, "saved")),
        *(_score_line(str(fold["cutoff"]), fold) for fold in figures["folds"]),
        _score_line("all folds", figures),
        f"the model's error less the baseline's ({baseline_words(figures)}): {_gains(figures['against_baseline'])}",
        *figures.get("history", []),
        *_shelf_lines(figures),
        f"bias {shown(figures['bias'], '+.1%')}; the 80 % range held {shown(figures['coverage_80'], '.1%')} of the "
        f"sales, the 95 % range {shown(figures['coverage_95'], '.1%')}",
    ]


def _gains(gain: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{label} {shown(gain[name], '+.3f')} (90 % interval {shown(gain[f'{name}_low'], '+.3f')} to "
        f"{shown(gain[f'{name}_high'], '+.3f')})"
        for name, label in (("wape", "WAPE"), ("crps", "CRPS"))
    )


def shown(value: float | None, form: str) -> str:
    """Formats a figure; a dash where there is none, as in a fold or class without sales."""
    return format(value, form) if _is_number(value) else "–"


def saved(scores: Mapping[str, Any]) -> float | None:
    """Returns the model's skill, 1 − WAPE / baseline WAPE; None where either is unknown or the baseline's is 0."""
    ours = scores["wape"]
    base = scores["wape_baseline"]
    return 1.0 - ours / base if _is_number(ours) and _is_number(base) and base > 0 else None


def _shelf_lines(figures: Mapping[str, Any]) -> list[str]:
    """Describes how sold-out rows were scored; empty where none sold out."""
    if not figures.get("censored"):
        return []
    left_out = figures["left_out"]
    share = figures["censored"] / (figures["rows"] + left_out)
    line = f"{share:.1%} of the rows sold out: scored is what the shelf could give"
    if left_out:
        line += f"; {left_out:,} that opened empty are not"
    always = figures.get("always_sold_out", 0)
    if always:
        line += f"; {always:,} product(s) sold out every time, and nothing judges what is forecast of their demand"
    return [line]


def _score_line(label: str, scores: Mapping[str, Any]) -> str:
    values = [shown(scores.get(name), ".3f") for name in _COLUMNS.values()] + [shown(saved(scores), ".1%")]
    return f"{label:<16}" + "".join(f"{value:>9}" for value in values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def model_card(version: LoadedVersion, *, model: str) -> str:
    """Returns the model card of a version of the registered model `model`, in Markdown."""
    figures = version.backtest
    facts = version.facts
    demand = version.demand
    around = version.circumstances()
    return render(
        "model_card.md.jinja",
        meta=version.meta,
        model=model,
        figures=figures,
        trees=version.learner.combination.booster.size > 0,
        categories=demand.categories,
        known={
            "cost": int((~facts.cost_assumed).sum()),
            "stock": int(np.isfinite(facts.stock).sum()),
            "rival": int(np.isfinite(facts.comp_price).sum()),
        },
        counted=int(version.learner.counted.sum()),
        flat_periods=FLAT_PERIODS,
        scores=score_lines(figures),
        groups=_groups(figures, period=version.meta["period"]),
        shown=shown,
        saved=saved,
        prices=_prices(version),
        tests=words_of_tests(demand),
        competitor=_competitor(demand),
        ladder=demand.ladder.sentence(),
        events=_events(demand.lifts),
        clear=_CLEAR,
        holds_only=version.holds_only,
        holds_only_meaning=HOLDS_ONLY_MEANING,
        causes=list(dict.fromkeys(chain(*(causes(gate, around) for gate in CAUSES)))),
        grades=_grades(version),
    )


def _grades(version: LoadedVersion) -> list[dict[str, Any]]:
    """Returns the grades of elasticities: of how many products, and of which share of the units sold."""
    grade = version.demand.grade[: len(version.demand.product_ids)]
    return [
        {"name": name, "count": int((grade == GRADES.index(name)).sum()), "share": share, "meaning": MEANINGS[name]}
        for name, share in shares_by_grade(version.demand, version.facts).items()
    ]


def _groups(figures: Mapping[str, Any], *, period: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Returns the scores of the walk-forward by step and by volume, each with its name."""
    steps = sorted(figures.get("by_step", {}).items(), key=lambda item: int(item[0].split("-")[0]))
    volume = figures.get("by_volume", {})
    return [
        *((f"{name} {period}s ahead", part) for name, part in steps),
        *((f"{name} volume", volume[name]) for name in CLASSES if name in volume),
    ]


def _prices(version: LoadedVersion) -> list[dict[str, Any]]:
    """Returns the middle elasticity of each category."""
    every = np.arange(len(version.demand.product_ids))
    known = shown_elasticities(version.demand, every, holds_only=version.holds_only)
    table = pd.DataFrame(
        {
            "name": version.facts.categories,
            "elasticity": known["elasticity"],
            "low": known["elasticity_low"],
            "high": known["elasticity_high"],
        }
    ).groupby("name", sort=True)
    middle = table.median().assign(products=table.size())
    found: list[dict[str, Any]] = middle.reset_index().to_dict("records")  # type: ignore[assignment]
    return found


def _competitor(demand: DemandTable) -> dict[str, Any]:
    """Returns the middle effect of a competitor's price, how many products have one, and how many have one above 0."""
    effects = demand.competitor
    if effects is None or not np.isfinite(effects.mean).any():
        return {}
    order = np.argsort(-effects.mean, kind="stable")[: np.isfinite(effects.mean).sum()]  # NaN comes last
    low, _ = effects.spread(order).interval()
    return {
        "middle": shown_competitor(demand, int(order[len(order) // 2])),
        "count": len(order),
        "above": int((low.round(ELASTICITY_DIGITS) > 0).sum()),
    }


def _events(lifts: EventLifts | None) -> list[dict[str, Any]] | None:
    """Returns the lifts of events that are clear, largest first; None without events."""
    if lifts is None or not (lifts.sd > 0).any():
        return None
    size = np.where(np.abs(lifts.value) > _CLEAR * lifts.sd, np.abs(lifts.value), 0.0) * (lifts.sd > 0)
    largest = size.max(axis=(0, 2))
    chosen = [event for event in np.argsort(-largest, kind="stable").tolist() if largest[event]]
    return [
        {
            "name": str(lifts.names[event]),
            "seen": lifts.seen[event],
            "parts": [_lift(lifts, event, where) for where in (-1, 0, 1)],
        }
        for event in chosen[:_EVENTS]
    ]


def _lift(lifts: EventLifts, event: int, where: int) -> str:
    """Formats the mean lift over all categories before (−1), on (0) or after (1) an event."""
    column = (np.sign(lifts.positions) == where) & (lifts.sd[-1, event] > 0)
    if not column.any():
        return "–"
    sd = np.sqrt((lifts.sd[-1, event, column] ** 2).sum()) / column.sum()
    return percent(float(lifts.value[-1, event, column].mean()), float(sd))
