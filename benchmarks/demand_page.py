"""The page of the demand benchmark's results."""

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.confidence import figures, table
from benchmarks.demand_settings import Setting
from pipelines.market import PLATFORM, STATIC

DEVELOPMENT, HELD_OUT = "development seeds", "held-out seeds"
PLAIN, REFERENCE = "plain rule, our elasticities", "reference"
WORTH_SHARING = 0.03  # the oracle's gain over static below which shares of it say nothing
LEVEL = 0.90  # of the intervals over seeds
AGAINST = (PLAIN, REFERENCE, STATIC)
GRADED = ("own_history", "tested")  # grades that claim to know a product's own elasticity

Market = dict[str, Any]


def report(results: Mapping[str, list[Market]], settings: Mapping[str, Setting], *, same: Mapping[str, Any]) -> str:
    """The results as a page; `same` is what all of them have in common: commit, seeds, config, plan."""
    plan = same["plan"]
    lines = ["# The demand model on markets with known truth", "", *_wrapped(_made_by(same))]
    lines += ["", *_summary(results, settings), "", *_families(results, settings)]
    for name, markets in results.items():
        lines += ["", f"## {name}: {settings[name].title}", "", *_policies(markets), "", *_differences(markets)]
        lines += ["", *_elasticities(markets), "", *_grades(markets)]
        lines += [
            "",
            *_wrapped(_in_words(markets, ahead=plan["ahead"])),
            "",
            *_confidence(markets, seeds=same["seeds"]),
        ]
    return "\n".join([*lines, ""])


def difference(
    markets: list[Market], policy: str, other: str, key: str, *, by_seed: bool = False
) -> tuple[float, float, float]:
    """Mean over seeds of one policy's figure less another's in the same market, and its 90 % interval.

    Student's t over seeds; with one seed the interval is NaN. `key` is "gain", in shares of static's profit, or
    "share", of the oracle's gain, which counts only the seeds where that is at least 3 %; NaN where there is none.
    With `by_seed` markets of one seed, which share their world, are averaged first.
    """
    counted = [market for market in markets if key != "share" or oracle_gain(market) >= WORTH_SHARING]
    values = np.array([_row(market, policy)[key] - _row(market, other)[key] for market in counted])
    if by_seed:
        seeds = np.array([market["seed"] for market in counted])
        values = np.array([values[seeds == seed].mean() for seed in np.unique(seeds)])
    if not len(values):
        return (float("nan"),) * 3
    mean = float(values.mean())
    if len(values) == 1:
        return mean, float("nan"), float("nan")
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, mean - reach, mean + reach


def oracle_gain(market: Market) -> float:
    """The oracle's gain over static."""
    return float(_row(market, market["oracle"])["gain"])


def _made_by(same: Mapping[str, Any]) -> str:
    plan = same["plan"]
    withheld = f" The platform does not get {', '.join(plan['withhold'])}." if plan["withhold"] else ""
    move = "any move" if plan["max_move"] is None else f"moves of at most {plan['max_move']:.0%} of yesterday's price"
    return (
        f"Made by `python -m benchmarks.demand` at commit {same['commit']}, configuration {same['config']}; figures "
        "are in `demand.json` beside this page, the seeds of each setting are under its table. What the markets are "
        "says docs/market.md. 730 days of history and 60 products where nothing else is said, "
        f"{plan['ahead']} days priced with a refresh a fortnight; {same['seeds']}. Every row prices under the same "
        f"guardrails: 0.70 to 1.35 of list, never below cost, {move}; list prices always pass; the platform also "
        f"stays within 10 % of the prices ever charged.{withheld} "
        "Share: part of the oracle's gain over holding list prices, shown where that gain is at least "
        f"{WORTH_SHARING:.0%}. Mean over seeds ± standard error, extremes in brackets. Differences are paired: the "
        f"same market, then the mean over seeds with a {LEVEL:.0%} interval (Student's t). *Reference*: double "
        "machine learning with LightGBM, a mark-up rule damped 0.5 and run-out protection "
        f"(`benchmarks/reference.py`). *{PLAIN.capitalize()}*: the same rule, damped 0.8, with the elasticities that "
        "the platform learnt. *True elasticities* are decided on by the platform's code with a plain mean of past "
        "sales for the level. An oracle with a word in brackets is no upper bound. True elasticity: units of 28 days "
        "at a price held 1 % above and below list, other prices fixed. Every market's level error is taken from "
        "backtests of default markets, not measured again."
    )


def _summary(results: Mapping[str, list[Market]], settings: Mapping[str, Setting]) -> list[str]:
    lines = [
        "| setting | seeds | oracle − static | platform − static | − plain rule | − reference | − plain rule, share "
        "| − reference, share | units by grade | inside 80 %, graded | decisions at the band |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, markets in results.items():
        told = {
            other: _interval(difference(markets, PLATFORM, other, "gain"), "+.1%")
            for other in (STATIC, PLAIN, REFERENCE)
        }
        shares = {other: _interval(difference(markets, PLATFORM, other, "share"), "+.2f") for other in AGAINST[:2]}
        best = np.mean([oracle_gain(market) for market in markets])
        limits = _summed(markets, "limits")
        lines.append(
            f"| {name} ({settings[name].family}) | {len(markets)} | {best:+.1%} | {told[STATIC]} | {told[PLAIN]} "
            f"| {told[REFERENCE]} | {shares[PLAIN]} | {shares[REFERENCE]} | {_units_by_grade(markets)} "
            f"| {_graded_inside(markets)} | {limits['band'] / limits['decisions']:.1%} |"
        )
    return lines


def _families(results: Mapping[str, list[Market]], settings: Mapping[str, Setting]) -> list[str]:
    """All markets of a family together: what one setting's few seeds cannot tell."""
    lines = [
        "| family | markets | platform − static | − plain rule | − reference | − plain rule, share "
        "| − reference, share | moves: right, calibration error, skill | holds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for family in sorted({settings[name].family for name in results}):
        markets = [one for name, found in results.items() if settings[name].family == family for one in found]
        gains = [
            _interval(difference(markets, PLATFORM, other, "gain", by_seed=True), "+.1%")
            for other in (STATIC, PLAIN, REFERENCE)
        ]
        shares = [
            _interval(difference(markets, PLATFORM, other, "share", by_seed=True), "+.2f") for other in AGAINST[:2]
        ]
        confidence = [market["confidence"] for market in markets]
        told = [
            f"{one['right']:.0%}, {one['calibration_error']:.3f}, {one['brier_skill']:+.3f}"
            for one in (figures(confidence, kind) for kind in ("moves", "holds"))
        ]
        lines.append("| " + " | ".join([family, str(len(markets)), *gains, *shares, *told]) + " |")
    return lines


def _policies(markets: list[Market]) -> list[str]:
    lines = ["| policy | profit over static | share | turns | discount | changes |", "|---|---|---|---|---|---|"]
    worth = [market for market in markets if oracle_gain(market) >= WORTH_SHARING]
    for policy in sorted({row["policy"] for row in markets[0]["scores"]}, key=lambda n: _mean(markets, n, "gain")):
        gain, share = (
            np.array([_row(market, policy)[key] for market in some])
            for key, some in (("gain", markets), ("share", worth))
        )
        lines.append(
            f"| {policy} | {_figure(gain, '+.1%')} | {_figure(share, '.2f')} "
            f"| {_mean(markets, policy, 'stock_turns'):.1f} | {_mean(markets, policy, 'discount_depth'):.1%} "
            f"| {_mean(markets, policy, 'price_changes'):.1f} |"
        )
    return lines


def _differences(markets: list[Market]) -> list[str]:
    lines = [
        f"| platform less … ({LEVEL:.0%} interval) | of static's profit | of the oracle's gain | seeds ahead |",
        "|---|---|---|---|",
    ]
    for other in AGAINST:
        ahead = sum(_row(market, PLATFORM)["gain"] > _row(market, other)["gain"] for market in markets)
        lines.append(
            f"| {other} | {_interval(difference(markets, PLATFORM, other, 'gain'), '+.2%')} "
            f"| {_interval(difference(markets, PLATFORM, other, 'share'), '+.3f')} | {ahead} of {len(markets)} |"
        )
    return lines


def _elasticities(markets: list[Market]) -> list[str]:
    lines = ["| elasticities | MAE | bias | rank correlation |", "|---|---|---|---|"]
    for estimate in markets[0]["estimates"]:
        mae, bias, rank = (
            np.array([market["estimates"][estimate][key] for market in markets]) for key in ("mae", "bias", "rank")
        )
        lines.append(f"| {estimate} | {_figure(mae, '.2f')} | {_figure(bias, '+.2f')} | {_figure(rank, '.2f')} |")
    return lines


def _grades(markets: list[Market]) -> list[str]:
    lines = [
        "| grade | products | share of units | MAE | bias | inside 80 % interval |",
        "|---|---|---|---|---|---|",
    ]
    for name in _graded_names(markets):
        part = _of_grade(markets, (name,))
        lines.append(
            f"| {name} | {part['products']:.0f} | {part['units']:.0%} | {part['mae']:.2f} | {part['bias']:+.2f} "
            f"| {part['inside_80']:.0%} |"
        )
    return lines


def _in_words(markets: list[Market], *, ahead: int) -> str:
    inside = np.array([market["inside_80"] for market in markets])
    limits = _summed(markets, "limits")
    decisions, blind = limits["decisions"], limits["prior_only"]
    moved = f"; {limits['prior_only_moved'] / blind:.1%} of those on a prior alone moved" if blind else ""
    return (
        f"Seeds {', '.join(str(market['seed']) for market in markets)}; "
        f"true mean {np.mean([market['truth'] for market in markets]):.2f}; true elasticities inside "
        f"their 80 % interval: {inside.mean():.0%} ({inside.min():.0%} to {inside.max():.0%}); training took "
        f"{np.median([market['train_seconds'] for market in markets]):.0f} s, a market "
        f"{np.median([market['cpu_seconds'] for market in markets]):.0f} s of processor time (medians). "
        f"Prices refused by the market: "
        f"{sum(market['refused'] for market in markets)}; below cost: "
        f"{sum(market['below_cost'] for market in markets)}. "
        f"The platform's decisions: {limits['band'] / decisions:.1%} at a limit of the band, "
        f"{limits['last_band'] / limits['last_decisions']:.1%} on the last day, {limits['max_move'] / decisions:.1%} "
        f"at the largest move{moved}. The incumbent's discount in the last {ahead} days of the history: "
        f"{np.mean([market['incumbent_discount'] for market in markets]):.1%}."
    )


def _confidence(markets: list[Market], *, seeds: str) -> list[str]:
    lines = ["| confidence | decisions | right | calibration error | Brier skill |", "|---|---|---|---|---|"]
    for kind in ("moves", "holds"):
        told = figures([market["confidence"] for market in markets], kind)
        lines.append(
            f"| {kind} | {told['decisions']:,} | {told['right']:.1%} | {told['calibration_error']:.3f} "
            f"| {told['brier_skill']:+.3f} |"
        )
        if seeds == DEVELOPMENT:
            lines[-1] += f" would be calibrated by {table([market['confidence'] for market in markets], kind)}"
    return lines


def _graded_names(markets: list[Market]) -> list[str]:
    """The grades that any market has, from the least to the best identified."""
    order = ("ungraded", "prior_only", "category", *GRADED)
    return [name for name in order if any(name in market["grades"] for market in markets)]


def _of_grade(markets: list[Market], names: tuple[str, ...]) -> dict[str, float]:
    """Figures of the products of some grades in all markets together; units are a share of all, averaged over seeds."""
    parts = [market["grades"][name] for market in markets for name in names if name in market["grades"]]
    products = np.array([part["products"] for part in parts], dtype=np.float64)
    out = {
        key: float(np.average([part[key] for part in parts], weights=products)) for key in ("mae", "bias", "inside_80")
    }
    units = sum(part["units"] for part in parts) / len(markets)
    return out | {"products": float(products.sum()), "units": float(units)}


def _units_by_grade(markets: list[Market]) -> str:
    return ", ".join(f"{name} {_of_grade(markets, (name,))['units']:.0%}" for name in _graded_names(markets))


def _graded_inside(markets: list[Market]) -> str:
    if not set(GRADED) & set(_graded_names(markets)):
        return "–"
    return f"{_of_grade(markets, GRADED)['inside_80']:.0%}"


def _summed(markets: list[Market], name: str) -> dict[str, int]:
    return {key: sum(market[name][key] for market in markets) for key in markets[0][name]}


def _interval(found: tuple[float, float, float], form: str) -> str:
    mean, low, high = found
    if np.isnan(mean):
        return "–"
    return f"{mean:{form}}" if np.isnan(low) else f"{mean:{form}} ({low:{form}} to {high:{form}})"


def _figure(values: np.ndarray, form: str) -> str:
    if not len(values):
        return "–"
    if len(values) == 1:
        return f"{values[0]:{form}}"
    error = values.std(ddof=1) / np.sqrt(len(values))
    spread = form.replace("+", "")
    return f"{values.mean():{form}} ± {error:{spread}} ({values.min():{form}} to {values.max():{form}})"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, width=116, break_on_hyphens=False)


def _row(market: Market, policy: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in market["scores"] if row["policy"] == policy)
    return found


def _mean(markets: list[Market], policy: str, key: str) -> float:
    return float(np.mean([_row(market, policy)[key] for market in markets]))
