"""Write the model card of a version: description, accuracy, elasticities, limits."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipelines.evaluation import baseline_error, gain_lines, saved, shelf_lines, shown, weight_lines
from pipelines.reports.sensitivity import competitor_columns, competitor_words
from pricing.data.lifts import EventLifts, percent
from pricing.demand.baselines import FLAT_PERIODS, baseline_words, baselines_of
from pricing.demand.grades import GRADES, PRIOR_ONLY
from pricing.demand.shrinkage import PLAUSIBLE
from pricing.markdown_text import escape_markdown
from pricing.registry.version import (
    HOLDS_ONLY_MEANING,
    MEANINGS,
    LoadedVersion,
    shares_by_grade,
    shown_elasticities,
    unit_shares,
)

_NAMED = 10  # most products listed in a line
_EVENTS = 15  # most events in the table
_CLEAR = 2.0  # standard deviations above which a lift is listed
_COLUMNS = "WAPE | CRPS | seasonal naive | flat median | direct LightGBM | baseline | error saved"


def model_card(version: LoadedVersion, *, model: str) -> str:
    """Returns the model card of a version of the registered model `model`, in Markdown."""
    figures = version.backtest
    parts = [_head(version), _scores(figures), _by_step(figures, period=version.meta["period"]), _by_class(figures)]
    parts += [
        _calibration(figures),
        _price(version),
        _events(version),
        _known(version),
        _limits(version),
        _data(version),
        _use(model),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(version: LoadedVersion) -> str:
    meta = version.meta
    facts = version.facts
    trees = ", combined with boosted trees for the level," if version.learner.combination.booster.size else ""
    return (
        f"# Demand and price model, {meta['products']} products\n\n"
        f"A global LSTM demand model{trees} over "
        f"{meta['products']} products in {len(version.demand.categories)} categories, "
        f"one row a {meta['period']}, with an elasticity and its uncertainty per product. It forecasts up to "
        f"{meta['horizon']} {meta['period']}s after {meta['state_date']}, and beyond that with wider ranges. Prices "
        "are chosen from it under the configured strategy and guardrails.\n\n"
        f"Unit costs: {int((~facts.cost_assumed).sum())} products given, {int(facts.cost_assumed.sum())} assumed "
        f"from the configured margin. Stock known for {int(np.isfinite(facts.stock).sum())}, a competitor's price "
        f"for {int(np.isfinite(facts.comp_price).sum())}. {_units(version)}"
    )


def _units(version: LoadedVersion) -> str:
    """Describes the sales units (counted or by weight), which decide the likelihood."""
    demand = version.learner
    count, products = int(demand.counted.sum()), len(demand.counted)
    steps, numbers = np.unique(demand.norms.unit[demand.counted], return_counts=True)
    said = []
    if count:
        step = f"{steps[np.argmax(numbers)]:g}"
        said.append(f"{count} are counted, most in steps of {step}: their units are negative binomial")
    if count < products:
        purchases = np.quantile(demand.norms.unit[~demand.counted], [0.1, 0.9])
        said.append(
            f"{products - count} are sold by weight: their units count in small purchases of {purchases[0]:.3g} to "
            f"{purchases[1]:.3g}, negative binomial and interpolated between two"
        )
    return f"Of the products {'; '.join(said)}."


def _scores(figures: Mapping[str, Any]) -> str:
    rows = [f"| known until | {_COLUMNS} |", f"|{'---|' * 8}"]
    for fold in figures["folds"]:
        rows.append(_score_row(str(fold["cutoff"]), fold, names=[fold["baseline"]]))
    rows.append(_score_row("**all folds**", figures, names=baselines_of(figures)))
    lines = [*gain_lines(figures), *weight_lines(figures), *shelf_lines(figures), *figures.get("history", [])]
    gains = [f"{line[0].upper()}{line[1:]}." for line in lines]
    return (
        "## How good the forecast is\n\n"
        "Walk-forward: refitted at each cutoff on the days up to it, scored on the days after it. The baseline is the "
        "best one, before each fold, of the seasonal naive forecast, the flat median of a product's last "
        f"{FLAT_PERIODS} periods and LightGBM alone, which reads price as a feature; the first fold takes the seasonal "
        "naive one. CRPS scores the whole distribution, on "
        "the scale of the WAPE: of a forecast of one number it is the WAPE.\n\n" + "\n".join([*rows, "", *gains])
    ).rstrip()


def _score_row(label: str, scores: Mapping[str, Any], *, names: Sequence[str] = ()) -> str:
    keys = ("wape", "crps", "wape_naive", "wape_flat", "wape_direct")
    errors = " | ".join(shown(scores.get(name), ".3f") for name in keys)
    base = f"{shown(baseline_error(scores), '.3f')}{f' ({baseline_words(names)})' if names else ''}"
    return f"| {label} | {errors} | {base} | {shown(saved(scores), '.1%')} |"


def _by_step(figures: Mapping[str, Any], *, period: str) -> str:
    steps = sorted(figures.get("by_step", {}).items(), key=lambda item: int(item[0].split("-")[0]))
    rows = [f"| {period}s ahead | {_COLUMNS} | 80 % range held |", f"|{'---|' * 9}"]
    rows += [f"{_score_row(name, scores)} {shown(scores.get('coverage_80'), '.0%')} |" for name, scores in steps]
    return "By how far ahead:\n\n" + "\n".join(rows) if steps else ""


def _by_class(figures: Mapping[str, Any]) -> str:
    rows = [f"| products | {_COLUMNS} | 80 % range held |", f"|{'---|' * 9}"]
    for kind in ("volume", "volatility"):
        groups = figures.get(f"by_{kind}", {})
        for name in ("low", "mid", "high"):
            if name in groups:
                row = _score_row(f"{name} {kind}", groups[name])
                rows.append(f"{row} {shown(groups[name].get('coverage_80'), '.0%')} |")
    return (
        "By how much a product sells, and by how far its weekly sales stray beyond the luck of counts (thirds of the "
        "products, as they stood at each cutoff):\n\n" + "\n".join(rows)
    )


def _calibration(figures: Mapping[str, Any]) -> str:
    said = [
        f"Bias {shown(figures['bias'], '+.1%')} of sales.",
        f"The 80 % range held {shown(figures['coverage_80'], '.1%')} of the outcomes, the 95 % range "
        f"{shown(figures['coverage_95'], '.1%')}, whole counts spread over their own probability.",
    ]
    if "pit" in figures:
        pit = figures["pit"]
        said.append(
            f"The probability transform has mean {shown(pit['mean'], '.2f')} (0.50: neither high nor low) and spread "
            f"{shown(pit['spread'], '.2f')} (below 1: ranges too wide, above: too narrow)."
        )
    return " ".join(said)


def _price(version: LoadedVersion) -> str:
    every = np.arange(len(version.demand.product_ids))
    known = shown_elasticities(version.demand, every, holds_only=version.holds_only)
    elasticity, low, high = (known[f"elasticity{end}"] for end in ("", "_low", "_high"))
    competitor = competitor_words(pd.DataFrame(competitor_columns(version.demand, every)))
    rows = ["| category | products | median elasticity | median 80 % interval |", "|---|---|---|---|"]
    for name in sorted(set(version.facts.categories.tolist())):
        mine = version.facts.categories == name
        interval = f"{np.median(low[mine]):.2f} to {np.median(high[mine]):.2f}"
        rows.append(f"| {escape_markdown(name)} | {int(mine.sum())} | {np.median(elasticity[mine]):.2f} | {interval} |")
    return (
        "## How demand answers to price\n\nPer cent of demand for one per cent of price, at list price over a week "
        "without promotion or holiday:\n\n"
        + "\n".join(rows)
        + f"\n\n{competitor}\n\nBy product and price level, with curves of demand, revenue and "
        "profit: `sensitivity/sensitivity.html` of the run."
    )


def _events(version: LoadedVersion) -> str:
    """Returns the table of event lifts, largest first, each with the category of the largest effect."""
    lifts = version.demand.lifts
    if lifts is None or not (lifts.sd > 0).any():
        return ""
    clear = np.where(lifts.sd > 0, np.abs(lifts.value) > _CLEAR * lifts.sd, False)
    order = np.argsort(-np.abs(lifts.value * clear).max(axis=(0, 2)), kind="stable")
    chosen = [event for event in order if clear[:, event].any()]
    rows = ["| event | seen | before | on it | after | most |", "|---|---|---|---|---|---|"]
    for event in chosen[:_EVENTS]:
        parts = [_lift(lifts, -1, event, where) for where in (-1, 0, 1)]
        most = int(np.argmax(np.abs(lifts.value[:-1, event] * clear[:-1, event]).max(axis=1)))
        peak = int(np.argmax(np.abs(lifts.value[most, event] * clear[most, event])))
        strongest = percent(float(lifts.value[most, event, peak]), float(lifts.sd[most, event, peak]))
        where = escape_markdown(str(lifts.categories[most]))
        name = f"{where} {strongest}{_from(int(lifts.positions[peak]), version.meta['period'])}"
        event_name = escape_markdown(str(lifts.names[event]))
        rows.append(f"| {event_name} | {lifts.seen[event]} × | {' | '.join(parts)} | {name} |")
    others = sorted(escape_markdown(str(lifts.names[event])) for event in order if event not in chosen)
    more = f"\n\nNothing clear was found of: {', '.join(others)}." if others else ""
    if not chosen:
        return f"## Events\n\nNo named event changes demand by more than {_CLEAR} standard deviations.{more}"
    return (
        "## Events\n\nWhat named events add to demand beside level, weekday and price, over all categories: means "
        "over the periods before and after, ± one standard deviation. Most: the category and period that answer most.\n"
        "\n" + "\n".join(rows) + more
    )


def _lift(lifts: EventLifts, row: int, event: int, where: int) -> str:
    """Formats the mean lift before (−1), on (0) or after (1) an event."""
    column = (np.sign(lifts.positions) == where) & (lifts.sd[row, event] > 0)
    if not column.any():
        return "–"
    sd = np.sqrt((lifts.sd[row, event, column] ** 2).sum()) / column.sum()
    return percent(float(lifts.value[row, event, column].mean()), float(sd))


def _from(position: int, period: str) -> str:
    count = abs(position)
    return f", {count} {period}{'s' if count > 1 else ''} {'before' if position < 0 else 'after'}" if count else ""


def _known(version: LoadedVersion) -> str:
    demand, facts = version.demand, version.facts
    rows = ["| grade | products | units | meaning |", "|---|---|---|---|"]
    for name, share in shares_by_grade(demand, facts).items():
        count = int((demand.grade[: len(demand.product_ids)] == GRADES.index(name)).sum())
        rows.append(f"| {name} | {count} | {share:.0%} | {MEANINGS[name]} |")
    parts = [
        "## What is known of each elasticity",
        f"**{HOLDS_ONLY_MEANING.capitalize()}.**" if version.holds_only else "",
    ]
    parts += ["\n".join(rows), _shared(version), _unknown(version), _beyond(version)]
    return "\n\n".join(part for part in parts if part)


def _shared(version: LoadedVersion) -> str:
    """Lists the products whose elasticity several series share, those with most series first."""
    parents, count = version.demand.sharing()
    names, first = np.unique(parents, return_index=True)
    series = count[first]
    if not (series > 1).any():
        return ""
    order = np.argsort(-series, kind="stable")[: min(_NAMED, int((series > 1).sum()))]
    named = ", ".join(f"{series[row]} series of {escape_markdown(str(names[row]))}" for row in order)
    more = int((series > 1).sum()) - len(order)
    rest = f" and those of {more} more products" if more else ""
    return (
        f"One elasticity each, estimated from all stores or channels of the product together (`parent_id`), is shared "
        f"by {named}{rest}."
    )


def _unknown(version: LoadedVersion) -> str:
    """Lists the best-selling products whose elasticity comes from the prior only, and why their prices stay."""
    shares = unit_shares(version.demand, version.facts)
    order = np.argsort(-shares, kind="stable")
    unknown = order[version.demand.grade[order] == PRIOR_ONLY]
    if not len(unknown):
        return ""
    largest = unknown[:_NAMED]
    named = [
        f"- The price of {escape_markdown(str(version.demand.product_ids[row]))} ({shares[row]:.1%} of units) {why}."
        for row, why in zip(
            largest, shown_elasticities(version.demand, largest, holds_only=version.holds_only)["why"], strict=True
        )
    ]
    more = [f"- And {len(unknown) - _NAMED} more."] if len(unknown) > _NAMED else []
    head = "Prior only, the largest first; drawn prices, moves of cost or more history tell:"
    return "\n".join([head, "", *named, *more])


def _beyond(version: LoadedVersion) -> str:
    """Lists the products whose elasticity is not plausible."""
    low, high = PLAUSIBLE
    elasticity = version.demand.elasticity[: len(version.demand.product_ids)]
    beyond = (elasticity <= low) | (elasticity >= high)
    if not beyond.any():
        return f"Every elasticity lies between {low:g} and {high:g}."
    names = [escape_markdown(str(name)) for name in version.demand.product_ids[beyond]]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"Not between {low:g} and {high:g}: {', '.join(names[:_NAMED])}{more}."


def _limits(version: LoadedVersion) -> str:
    lines = [
        "An elasticity is read from prices that somebody chose for a reason. What drove both price and demand and is "
        "not in the data biases it; the interval holds the model's uncertainty, not that.",
        "Outside the prices of the history the curve is extrapolated.",
        "The level of all elasticities is less certain than their order among products.",
        "A new product is priced by its category, an unknown category by rule; every answer says which.",
    ]
    if version.facts.cost_assumed.any():
        lines.append("Profit of products with an assumed cost is as good as that assumption.")
    return "## Where not to trust it\n\n" + "\n".join(f"- {line}" for line in lines)


def _data(version: LoadedVersion) -> str:
    rows = [f"| {name} | {value} |" for name, value in version.meta["data"].items()]
    return "## What it was trained on\n\n| | |\n|---|---|\n" + "\n".join(rows)


def _use(model: str) -> str:
    return (
        "## How to use it\n\n"
        "`pricing promote` lets it face the gates and, if it passes, serves it. In Python: "
        "`pricing.registry.version.load(folder).pricer(version=…).price(requests, today=…)`. As an ordinary model: "
        f"`mlflow models serve -m models:/{model}@champion`."
    )
