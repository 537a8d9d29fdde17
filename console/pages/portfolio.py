"""All products together: moves and their expected gain, experiments, forecasts, limits, categories."""

from functools import lru_cache
from typing import Any

import pandas as pd
from flask import Blueprint, abort, flash, g, redirect, render_template, url_for
from werkzeug.wrappers import Response

from console.pages.common import current_shop, current_table, reasons_by_frequency
from console.worklist import WAYS, Pick, Worklist
from pricing.decision.price_tests import of_arms, waiting
from pricing.decision.reasons import GUARDRAILS, REASONS
from pricing.registry.knowledge import words_of_tests

_WHY_HELD = ("held", "low_confidence", "field_test", "elasticity_unidentified", "holdout", "frozen")
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
        tests=_tests(),
        tested=words_of_tests(served.version.demand) if served else {},
        REASONS=REASONS | GUARDRAILS,
    )


@page.post("/tests")
def start_tests() -> Response:
    """Begins the price tests that are on offer."""
    shop = current_shop()
    planned = shop.tests_on_offer()
    if isinstance(planned, str) or shop.running_tests() is not None:
        abort(409, planned if isinstance(planned, str) else "the tests are under way already")
    shop.start_tests(planned, who=g.person.name)
    flash(f"Price tests of {len(planned.products):,} products begin on {planned.start}.")
    return redirect(url_for("portfolio.show"))


@page.post("/tests/stop")
def stop_tests() -> Response:
    """Stops the price tests that run, from today on."""
    shop = current_shop()
    running = shop.running_tests()
    if running is None:
        abort(409, "no price tests are under way")
    shop.stop_tests(running.name, who=g.person.name)
    flash("Price tests are stopped: no price is drawn any more, and from today on those drawn go back.")
    return redirect(url_for("portfolio.show"))


def _tests() -> dict[str, Any]:
    """The price tests that run; else those on offer, what they cost and teach, or the reason why there are none."""
    shop = current_shop()
    running = shop.running_tests()
    offer = shop.tests_on_offer() if running is None else ""
    if isinstance(offer, str) or shop.served is None:
        return {"running": running, "why_none": offer}
    version = shop.served.version
    told = of_arms(offer, version.demand, version.facts)
    drawn = [arm for arm in offer.arms if arm.name in told]
    arms = [(arm.size, len(offer.in_arm(arm.name)), told[arm.name].sentence()) for arm in drawn]
    return {
        "running": None,
        "start": offer.start,
        "arms": arms,
        "waiting": waiting(version.demand, version.facts, offer),
    }


@lru_cache(maxsize=1)
def _categories(table: Worklist) -> list[Any]:
    """Each category with its expected gain, and how many of its prices rise, fall and stay; most gain first."""
    ways = {way: table.matching(Pick(way=way)) for way in WAYS}
    frame = pd.DataFrame({"name": table.text["category"], "gain": table.gain, **ways})
    return list(frame.groupby("name", as_index=False).sum().sort_values("gain", ascending=False).itertuples())
