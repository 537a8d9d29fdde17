"""The card of a version: what it says, and in which order."""

from dataclasses import replace
from typing import Any

import numpy as np

from pipelines.evaluation import score_lines
from pipelines.reports.model_card import model_card
from pricing.demand.grades import OWN_HISTORY, PRIOR_ONLY
from pricing.registry.version import shown_elasticities
from tests.kit.versions import FIGURES, loaded_version, with_feast


def card(figures: dict[str, Any]) -> str:
    return model_card(replace(loaded_version(), backtest=figures), model="pricing")


def test_the_cards_elasticities_are_those_shown_everywhere() -> None:
    demand, facts = loaded_version().demand, loaded_version().facts
    shown = shown_elasticities(demand, np.arange(len(demand.product_ids)), holds_only=False)

    text = card(FIGURES)

    for name in set(facts.categories.tolist()):
        mine = facts.categories == name
        middle, low, high = (float(np.median(column[mine])) for column in list(shown.values())[:3])
        assert f"| {name} | {mine.sum()} | {middle:.2f} | {low:.2f} to {high:.2f} |" in text


def test_a_categorys_name_is_no_markup_in_the_card() -> None:
    known = loaded_version()
    named = replace(known.facts, categories=np.full(len(known.facts.categories), "a|b <img src=x>"))

    text = model_card(replace(known, facts=named, backtest=FIGURES), model="pricing")

    assert rf"| a\|b &lt;img src=x&gt; | {len(named.categories)} |" in text
    assert "<img" not in text


def test_the_card_has_the_scores_of_the_run_and_of_each_step_and_class_in_order() -> None:
    text = card(FIGURES)

    assert "\n".join(score_lines(FIGURES)) in text
    assert "| low volume | 0.300 | 0.400 | 25.0% | 80% |" in text
    assert "| mid volatility | 0.300 | 0.400 | 25.0% | 80% |" in text
    assert "mean 0.51" in text
    assert "spread 0.97" in text
    steps = [text.index(f"| {name} days ahead |") for name in ("1-7", "8-14", "15-21")]
    assert steps == sorted(steps)
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert all(len({line.count("|") for line in table}) == 1 for table in tables)


def test_the_card_tells_the_grades_and_names_the_largest_products_of_which_nothing_is_known() -> None:
    demand, facts = loaded_version().demand, loaded_version().facts
    order = np.argsort(-facts.typical_units)
    grade = np.full(len(order), OWN_HISTORY, np.int8)
    grade[order[[1, 3]]] = PRIOR_ONLY

    text = model_card(replace(loaded_version(), demand=replace(demand, grade=grade), backtest=FIGURES), model="pricing")

    known = text.split("## What is known of each elasticity")[1].split("##")[0]
    share = facts.typical_units[order[[1, 3]]].sum() / facts.typical_units.sum()
    first, second = facts.product_ids[order[[1, 3]]].tolist()
    assert f"| prior_only | 2 | {share:.0%} |" in known
    assert f"| own_history | {len(order) - 2} | {1 - share:.0%} |" in known
    whys = shown_elasticities(replace(demand, grade=grade), order[[1, 3]], holds_only=False)["why"]
    lines = [line for line in known.splitlines() if line.endswith(tuple(f"{why}." for why in whys))]
    assert [first in lines[0], second in lines[1], len(lines)] == [True, True, 2]
    assert "Every elasticity lies between -20 and -0.2." in known
    assert "holds_only" not in known


def test_the_card_names_elasticities_that_are_not_plausible() -> None:
    demand = loaded_version().demand
    elasticity = demand.elasticity.copy()
    elasticity[[2, 5]] = -25.0, -0.1

    odd = replace(loaded_version(), demand=replace(demand, elasticity=elasticity), backtest=FIGURES)

    assert f"-0.2: {demand.product_ids[2]}, {demand.product_ids[5]}." in model_card(odd, model="pricing")


def test_the_card_names_events_with_what_they_add_to_demand() -> None:
    feast, weak = (
        replace(
            loaded_version(),
            demand=with_feast(loaded_version().learner, date="2023-08-04", lift=lift).table(),
            backtest=FIGURES,
        )
        for lift in (0.3, 0.01)
    )
    first = loaded_version().demand.categories[0]

    assert f"| Feast | 3 × | +16 % ± 7 % | +35 % ± 8 % | +0 % ± 6 % | {first} +35 % ± 8 % |" in model_card(
        feast, model="pricing"
    )
    assert "No named event changes demand" in model_card(weak, model="pricing")
    assert "## Events" not in card(FIGURES)


def test_the_card_of_a_version_that_holds_only_says_so() -> None:
    holds = replace(loaded_version(), backtest=FIGURES, meta={**loaded_version().meta, "holds_only": True})

    assert "**The version is holds_only:" in model_card(holds, model="pricing")
