"""All products together: moves and their expected gain, experiments, forecasts, limits, categories."""

from functools import lru_cache
from typing import Any

import pandas as pd
from flask import Blueprint, render_template

from console.pages.common import current_shop, current_table, reasons_by_frequency
from console.worklist import WAYS, Pick, Worklist
from pricing.decision.reasons import GUARDRAILS, REASONS
from pricing.registry.knowledge import words_of_tests

_WHY_HELD = ("held", "low_confidence", "elasticity_unidentified", "holdout", "frozen")
page = Blueprint("portfolio", __name__)


@page.get("/portfolio")
def show() -> str:
    """Shows the figures of all products."""
    table = current_table()
    served = current_shop().served
    ways = {way: table.matching(Pick(way=way)) for way in WAYS}
    counts = reasons_by_frequency(table).items()
    return render_template(
        "portfolio.html",
        table=table,
        ways={way: table.counted(rows) for way, rows in ways.items()},
        moves=table.counted(~ways["stay"]),
        counts={
            "At which limit": [(code, number) for code, number in counts if code in GUARDRAILS],
            "Why prices stay": [(code, number) for code, number in counts if code in _WHY_HELD],
        },
        categories=_categories(table),
        tests=words_of_tests(served.version.demand) if served else {},
        REASONS=REASONS | GUARDRAILS,
    )


@lru_cache(maxsize=1)
def _categories(table: Worklist) -> list[Any]:
    """Each category with its expected gain, and how many of its prices rise, fall and stay; most gain first."""
    ways = {way: table.matching(Pick(way=way)) for way in WAYS}
    frame = pd.DataFrame({"name": table.text["category"], "gain": table.gain, **ways})
    return list(frame.groupby("name", as_index=False).sum().sort_values("gain", ascending=False).itertuples())
