"""Which grade a history earns."""

from dataclasses import replace

import numpy as np
import pytest

from pricing.demand.endogeneity import UNTESTED, FalsificationTest, FalsificationTests
from pricing.demand.grades import (
    AT_LIMIT,
    CATEGORY,
    DIP_AFTER_CUT,
    FEW_MOVES,
    FLAGS,
    KINDS_DISAGREE,
    OWN_HISTORY,
    PRIOR_ONLY,
    TESTED,
    TREND,
    Evidence,
    flag_names,
    grade_categories,
    grade_products,
    why_held,
)

GOOD = {"moves": 40, "clusters": 20, "prices": 12, "left": 0.2, "left_own": 0.25, "left_tested": 1.0, "flags": 0}


def evidence(*products: dict[str, float]) -> Evidence:
    """Products with a good history, but for what is given."""
    return Evidence(**{name: np.asarray([(GOOD | one)[name] for one in products]) for name in GOOD})


def grades(*products: dict[str, float], category: int) -> list[int]:
    """The grades of products of one category."""
    graded = np.asarray([category], np.int8)
    return grade_products(evidence(*products), category_grade=graded, category=np.zeros(len(products), int)).tolist()


@pytest.mark.parametrize(
    ("changes", "category", "expected"),
    [
        ({}, CATEGORY, OWN_HISTORY),
        ({}, PRIOR_ONLY, OWN_HISTORY),
        ({"clusters": 3}, CATEGORY, CATEGORY),
        ({"left_own": 0.6}, CATEGORY, CATEGORY),
        ({"left": 0.6}, CATEGORY, CATEGORY),
        ({"left_own": 0.6}, PRIOR_ONLY, PRIOR_ONLY),
        ({"flags": AT_LIMIT}, CATEGORY, CATEGORY),
        ({"flags": FEW_MOVES}, CATEGORY, OWN_HISTORY),
        ({"flags": TREND}, CATEGORY, CATEGORY),
        ({"flags": KINDS_DISAGREE, "left_own": 0.6}, CATEGORY, PRIOR_ONLY),
        ({"left_tested": 0.4, "flags": TREND}, PRIOR_ONLY, TESTED),
    ],
)
def test_a_grade_is_what_the_evidence_earns(changes: dict[str, float], category: int, expected: int) -> None:
    assert grades(changes, {}, category=category)[0] == expected


@pytest.mark.parametrize("grade", range(4))
def test_only_a_price_that_no_elasticity_moves_is_told_why_it_stays(grade: int) -> None:
    assert bool(why_held(grade, moves=3, fortnights=2)) == (grade == PRIOR_ONLY)


def test_each_cause_for_which_a_price_stays_is_told_apart() -> None:
    objections = (0, TREND, DIP_AFTER_CUT, KINDS_DISAGREE, AT_LIMIT)
    causes = [{"moves": 0, "fortnights": 0}, {"moves": 1, "fortnights": 1}, {"moves": 9, "fortnights": 3}]
    causes += [{"moves": 9, "fortnights": 4, "flags": flags} for flags in objections]

    assert len({why_held(PRIOR_ONLY, **cause) for cause in causes}) == len(causes)


def test_products_without_evidence_are_their_categorys_at_best() -> None:
    nothing = {"left": 1.0, "left_own": 1.0, "clusters": 0}

    assert grades(nothing, {}, category=CATEGORY)[0] == CATEGORY
    assert grades(nothing, {}, category=PRIOR_ONLY)[0] == PRIOR_ONLY


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, OWN_HISTORY),
        ({"clusters": 3}, PRIOR_ONLY),
        ({"left_own": 0.6}, PRIOR_ONLY),
        ({"flags": AT_LIMIT}, PRIOR_ONLY),
        ({"flags": TREND}, PRIOR_ONLY),
        ({"left_tested": 0.4, "flags": TREND}, TESTED),
    ],
)
@pytest.mark.parametrize(
    "company",
    [[], *([{"left_own": left, "left": 0.5, "clusters": 0}] for left in (1.0, 0.95))],
    ids=["alone", "silent", "faint"],
)
def test_a_category_lends_nothing_to_the_only_product_that_it_learnt_from(
    changes: dict[str, float], expected: int, company: list[dict[str, float]]
) -> None:
    found = grades(changes, *company, category=CATEGORY)

    assert found == [expected, *[CATEGORY for _ in company]]  # but it does to the others


def test_no_product_of_another_category_lends_its_evidence() -> None:
    both = evidence({"clusters": 3}, {})
    graded = np.asarray([CATEGORY, CATEGORY], np.int8)

    found = grade_products(both, category_grade=graded, category=np.asarray([0, 1]))

    assert found.tolist() == [PRIOR_ONLY, OWN_HISTORY]


def test_a_category_counts_where_half_of_the_doubt_about_its_mean_is_gone() -> None:
    products = evidence({}, {"left_own": 1.0}, {}, {}, {"left_own": 1.0})
    where = np.asarray([0, 0, 1, 2, 3])

    found = grade_categories(
        np.asarray([0.4, 0.6, 0.1, 0.4]),
        at_limit=np.asarray([False, False, True, False]),
        evidence=products,
        category=where,
    )

    assert found.tolist() == [CATEGORY, PRIOR_ONLY, PRIOR_ONLY, PRIOR_ONLY]  # no product of the last tells anything


def test_flags_have_names() -> None:
    assert flag_names(0) == ()
    assert flag_names(TREND | AT_LIMIT) == ("trend", "at_limit")
    assert flag_names((1 << len(FLAGS)) - 1) == FLAGS


def test_a_bias_widens_by_what_its_own_noise_does_not_explain() -> None:
    assert FalsificationTest(0.5, 0.01).excess == pytest.approx(0.25, rel=0.01)
    assert FalsificationTest(0.1, 0.2).excess == 0.0
    assert FalsificationTest(-5.4, 3.9).excess < 0.01  # a test so noisy can tell nothing
    assert UNTESTED.excess == 0.0


def test_a_test_chosen_from_several_must_stand_out_more() -> None:
    once, chosen = FalsificationTest(0.7, 0.26), FalsificationTest(0.7, 0.26, comparisons=3)

    assert once.failed(least=0.5)
    assert not chosen.failed(least=0.5)
    assert not once.failed(least=0.8)
    assert chosen.excess < once.excess


def test_the_doubt_takes_the_worst_trend_once_and_no_promotion() -> None:
    before, later = FalsificationTest(0.4, 0.01), FalsificationTest(0.3, 0.01)
    both = FalsificationTests(before, later, UNTESTED, {"promoted": FalsificationTest(-2.0, 0.1)})

    assert both.doubt == pytest.approx(0.4, rel=0.01)
    assert both.disagreement == UNTESTED
    alike, rare = (
        replace(both, kinds={"rises": FalsificationTest(0.8, 0.01, share=share)}).doubt for share in (0.5, 0.02)
    )
    assert alike == pytest.approx(np.hypot(0.4, 0.4), rel=0.01)  # the estimate is half the difference from either
    assert rare == pytest.approx(np.sqrt(0.4**2 + 0.8**2 / 2), rel=0.03)  # or off by all of it in one case of two
