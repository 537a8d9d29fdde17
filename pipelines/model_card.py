"""The written card of a model version: what it is, how good it is, where it must not be trusted."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.evaluation import saved, shown
from pricing.registry.version import LoadedVersion


def model_card(version: LoadedVersion, *, model: str) -> str:
    """Writes the card of a version of the registered model `model` in Markdown, from what the version carries."""
    parts = [_head(version), _scores(version.backtest), _by_volume(version.backtest), _price(version)]
    return "\n\n".join([*parts, _limits(version), _data(version), _use(model)]) + "\n"


def _head(version: LoadedVersion) -> str:
    meta = version.meta
    facts = version.facts
    return (
        f"# Demand and price model, {meta['products']} products\n\n"
        f"A global LSTM demand model over {meta['products']} products in {len(version.demand.categories)} categories, "
        f"one row a {meta['period']}, with an elasticity and its uncertainty per product. It forecasts up to "
        f"{meta['horizon']} {meta['period']}s after {meta['state_date']}, and beyond that with wider ranges. Prices "
        "are chosen from it under the configured strategy and guardrails.\n\n"
        f"Unit costs: {int((~facts.cost_assumed).sum())} products given, {int(facts.cost_assumed.sum())} assumed "
        f"from the configured margin. Stock known for {int(np.isfinite(facts.stock).sum())}, a competitor's price "
        f"for {int(np.isfinite(facts.comp_price).sum())}."
    )


def _scores(figures: Mapping[str, Any]) -> str:
    rows = ["| known until | WAPE | seasonal naive | error saved |", "|---|---|---|---|"]
    for fold in figures["folds"]:
        rows.append(_score_row(str(fold["cutoff"]), fold))
    rows.append(_score_row("**all folds**", figures))
    return (
        "## How good the forecast is\n\n"
        "Walk-forward: refitted at each cutoff on the days up to it, scored on the days after it.\n\n"
        + "\n".join(rows)
        + f"\n\nBias {shown(figures['bias'], '+.1%')}. The 80 % range held {shown(figures['coverage_80'], '.1%')} "
        f"of the outcomes, the 95 % range {shown(figures['coverage_95'], '.1%')}."
    )


def _score_row(label: str, scores: Mapping[str, Any]) -> str:
    ours, naive = (shown(scores[name], ".3f") for name in ("wape", "wape_naive"))
    return f"| {label} | {ours} | {naive} | {shown(saved(scores), '.1%')} |"


def _by_volume(figures: Mapping[str, Any]) -> str:
    rows = ["| volume | WAPE | seasonal naive |", "|---|---|---|"]
    for name in ("low", "mid", "high"):
        if name in figures["by_volume"]:
            scores = figures["by_volume"][name]
            ours, naive = (shown(scores[key], ".3f") for key in ("wape", "wape_naive"))
            rows.append(f"| {name} | {ours} | {naive} |")
    return "By how much a product sells:\n\n" + "\n".join(rows)


def _price(version: LoadedVersion) -> str:
    elasticity, low, high = version.demand.elasticity(np.arange(len(version.demand.product_ids)))
    rows = ["| category | products | median elasticity | median 80 % interval |", "|---|---|---|---|"]
    for name in sorted(set(version.facts.categories.tolist())):
        mine = version.facts.categories == name
        interval = f"{np.median(low[mine]):.2f} to {np.median(high[mine]):.2f}"
        rows.append(f"| {name} | {int(mine.sum())} | {np.median(elasticity[mine]):.2f} | {interval} |")
    return "## How demand answers to price\n\n" + "\n".join(rows)


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
        "`mlflow run . -e promote` lets it face the gates and, if it passes, serves it. In Python: "
        "`pricing.registry.version.load(folder).pricer(version=…).price(requests, today=…)`. As an ordinary model: "
        f"`mlflow models serve -m models:/{model}@champion`."
    )
