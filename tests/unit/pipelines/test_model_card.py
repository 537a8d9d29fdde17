"""The card of a version: what it says, and in which order."""

from dataclasses import replace
from typing import Any

import numpy as np

from pipelines.steps.evaluation import model_card
from pricing.arrays import Ints
from pricing.demand.competitor import CompetitorEffects
from pricing.demand.grades import OWN_HISTORY, PRIOR_ONLY
from pricing.registry.knowledge import shown_elasticities, words_of_tests
from tests.kit.versions import FIGURES, loaded_version, with_feast, with_test


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


def test_the_card_tells_the_grades_by_their_share_of_sales() -> None:
    demand, facts = loaded_version().demand, loaded_version().facts
    order = np.argsort(-facts.typical_units)
    grade = np.full(len(order), OWN_HISTORY, np.int8)
    grade[order[[1, 3]]] = PRIOR_ONLY

    text = model_card(replace(loaded_version(), demand=replace(demand, grade=grade), backtest=FIGURES), model="pricing")

    share = facts.typical_units[order[[1, 3]]].sum() / facts.typical_units.sum()
    assert f"| prior_only | 2 | {share:.0%} |" in text
    assert f"| own_history | {len(order) - 2} | {1 - share:.0%} |" in text


class Looked(CompetitorEffects):
    """Effects that count how often their interval is asked for."""

    looks = 0

    def spread(self, rows: Ints) -> CompetitorEffects:
        Looked.looks += 1
        return super().spread(rows)


def test_the_card_tells_the_middle_effect_of_the_competitor_and_looks_at_all_products_at_once() -> None:
    demand = loaded_version().demand
    mean = np.full(len(demand.product_ids), np.nan, np.float32)
    mean[[1, 3, 4, 6]] = 0.2, 0.9, 0.5, 0.04
    effects = Looked(mean, np.full_like(mean, 0.1), np.full(len(mean), 9, np.int32))

    text = model_card(replace(loaded_version(), demand=replace(demand, competitor=effects)), model="pricing")

    assert "the middle one of 4 products changes by +0.20 % (80 % interval +0.07 to +0.33); for 3 of them" in text
    assert Looked.looks <= 2


def test_the_card_shows_observed_beside_tested_elasticities_where_something_was_tested() -> None:
    demand = with_test(loaded_version().demand)
    category = str(demand.categories[0])

    text = model_card(replace(loaded_version(), demand=demand), model="pricing")

    assert f"| {category} | {words_of_tests(demand)[category]} |" in text
    assert "(12 products)" not in card(FIGURES)


def test_the_card_names_events_with_what_they_add_to_demand() -> None:
    learner = with_feast(loaded_version().learner, date="2023-08-04", lift=0.3)

    text = model_card(replace(loaded_version(), demand=learner.table(), backtest=FIGURES), model="pricing")

    assert "| Feast | 3 × | +16 % ± 7 % | +35 % ± 8 % | +0 % ± 6 % |" in text


def test_the_card_names_what_may_make_gates_refuse_it_once() -> None:
    text = card({**FIGURES, "history": ["77 days: too few"], "rows": 60, "left_out": 0, "censored": 30})

    named = [line for line in text.splitlines() if line.startswith("- ")]
    assert [sum(figure in line for line in named) for figure in ("77 days", "50%")] == [1, 1]
