"""The page of the demand benchmark's results."""

import textwrap
from typing import Any

import numpy as np

from benchmarks.confidence import figures, table

DEVELOPMENT, HELD_OUT = "development seeds", "held-out seeds"


def report(
    results: dict[str, list[dict[str, Any]]], settings: dict[str, tuple[str, dict[str, Any]]], *, ahead: int, seeds: str
) -> str:
    """The results as a page."""
    lines = [
        "# The demand model on markets with known truth",
        "",
        *textwrap.wrap(
            "Made by `python -m benchmarks.demand --settings … --seeds … --skip …`, one setting after the other; the "
            "seeds of each are under its table, and held-out ones begin at 100. Figures are in `demand.json` beside "
            "this page; which seeds earlier versions were scored on says `docs/demand.md`. 730 days of history "
            f"and 60 products where nothing else is said, {ahead} days priced with a refresh a fortnight through the "
            f"code that serves; {seeds}. Share: part of the oracle's gain over holding list prices. Mean over seeds ± "
            "standard error, extremes of any seed in brackets. *Reference*: double machine learning with LightGBM, a "
            "damped mark-up rule and run-out protection (`benchmarks/reference.py`). *True elasticities* are "
            "decided on by the platform's code with a plain mean of past sales for the level; every other row named "
            "after elasticities puts those into the platform's own network, trained around them, and decisions. Every "
            "market's level error is taken from backtests of default markets, not measured again.",
            width=116,
            break_on_hyphens=False,
        ),
    ]
    for name, markets in results.items():
        lines += [
            "",
            f"## {settings[name][0]}",
            "",
            "| policy | profit over static | share | turns | discount | changes |",
        ]
        lines += ["|---|---|---|---|---|---|"]
        names = sorted({row["policy"] for row in markets[0]["scores"]}, key=lambda n: _mean(markets, n, "gain"))
        for policy in names:
            gain, share = (np.array([_row(m, policy)[key] for m in markets]) for key in ("gain", "share"))
            lines.append(
                f"| {policy} | {_figure(gain, '+.1%')} | {_figure(share, '.2f')} "
                f"| {_mean(markets, policy, 'stock_turns'):.1f} | {_mean(markets, policy, 'discount_depth'):.1%} "
                f"| {_mean(markets, policy, 'price_changes'):.1f} |"
            )
        lines += ["", "| elasticities | MAE | bias | rank correlation |", "|---|---|---|---|"]
        for estimate in markets[0]["estimates"]:
            mae, bias, rank = (
                np.array([m["estimates"][estimate][key] for m in markets]) for key in ("mae", "bias", "rank")
            )
            lines.append(f"| {estimate} | {_figure(mae, '.2f')} | {_figure(bias, '+.2f')} | {_figure(rank, '.2f')} |")
        inside = np.array([m["inside_80"] for m in markets])
        lines += [
            "",
            f"Seeds {', '.join(str(m['seed']) for m in markets)}; "
            f"true mean {np.mean([m['truth'] for m in markets]):.2f}; true elasticities inside "
            f"their 80 % interval: {inside.mean():.0%} ({inside.min():.0%} to {inside.max():.0%}); training took "
            f"{np.median([m['train_seconds'] for m in markets]):.0f} s (median). Prices refused by the market: "
            f"{sum(m['refused'] for m in markets)}; below cost: {sum(m['below_cost'] for m in markets)}. The "
            f"incumbent's discount in the last {ahead} days of the history: "
            f"{np.mean([m['incumbent_discount'] for m in markets]):.1%}.",
            "",
            "| confidence | decisions | right | calibration error | Brier skill |",
            "|---|---|---|---|---|",
        ]
        for kind in ("moves", "holds"):
            told = figures([m["confidence"] for m in markets], kind)
            lines.append(
                f"| {kind} | {told['decisions']:,} | {told['right']:.1%} | {told['calibration_error']:.3f} "
                f"| {told['brier_skill']:+.3f} |"
            )
            if seeds == DEVELOPMENT:
                lines[-1] += f" would be calibrated by {table([m['confidence'] for m in markets], kind)}"
    return "\n".join([*lines, ""])


def _figure(values: np.ndarray, form: str) -> str:
    if len(values) == 1:
        return f"{values[0]:{form}}"
    error = values.std(ddof=1) / np.sqrt(len(values))
    spread = form.replace("+", "")
    return f"{values.mean():{form}} ± {error:{spread}} ({values.min():{form}} to {values.max():{form}})"


def _row(market: dict[str, Any], policy: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in market["scores"] if row["policy"] == policy)
    return found


def _mean(markets: list[dict[str, Any]], policy: str, key: str) -> float:
    return float(np.mean([_row(market, policy)[key] for market in markets]))
