"""Which grade a history earns."""

from dataclasses import replace

import numpy as np
import pytest

from pricing.demand.falsification import SILENT, Check, Checks
from pricing.demand.grades import (
    AT_LIMIT,
    CATEGORY,
    FEW_MOVES,
    FLAGS,
    KINDS_DISAGREE,
    OWN_HISTORY,
    PRIOR_ONLY,
    TESTED,
    TREND,
    Evidence,
    blank_evidence,
    flag_names,
    grade_categories,
    grade_products,
)


def evidence(**changes: float) -> Evidence:
    """One product with a good history."""
    good = {"moves": 40, "clusters": 20, "prices": 12, "left": 0.2, "left_own": 0.25, "left_tested": 1.0, "flags": 0}
    return Evidence(**{name: np.asarray([value]) for name, value in (good | changes).items()})


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
    grade = grade_products(evidence(**changes), category_grade=np.asarray([category], np.int8))

    assert grade.tolist() == [expected]


def test_products_without_evidence_are_their_categorys_at_best() -> None:
    grades = grade_products(blank_evidence(2), category_grade=np.asarray([CATEGORY, PRIOR_ONLY], np.int8))

    assert grades.tolist() == [CATEGORY, PRIOR_ONLY]


def test_a_category_counts_where_half_of_the_doubt_about_its_mean_is_gone() -> None:
    grades = grade_categories(np.asarray([0.4, 0.6, 0.1]), at_limit=np.asarray([False, False, True]))

    assert grades.tolist() == [CATEGORY, PRIOR_ONLY, PRIOR_ONLY]


def test_flags_have_names() -> None:
    assert flag_names(0) == ()
    assert flag_names(TREND | AT_LIMIT) == ("trend", "at_limit")
    assert flag_names((1 << len(FLAGS)) - 1) == FLAGS


def test_a_bias_widens_by_what_its_own_noise_does_not_explain() -> None:
    assert Check(0.5, 0.01).excess == pytest.approx(0.25, rel=0.01)
    assert Check(0.1, 0.2).excess == 0.0
    assert Check(-5.4, 3.9).excess < 0.01  # a test so noisy can tell nothing
    assert SILENT.excess == 0.0


def test_a_test_chosen_from_several_must_stand_out_more() -> None:
    once, chosen = Check(0.7, 0.26), Check(0.7, 0.26, looks=3)

    assert once.failed(least=0.5)
    assert not chosen.failed(least=0.5)
    assert not once.failed(least=0.8)
    assert chosen.excess < once.excess


def test_the_doubt_takes_the_worst_trend_once_and_no_promotion() -> None:
    before, later = Check(0.4, 0.01), Check(0.3, 0.01)
    both = Checks(before, later, SILENT, {"promoted": Check(-2.0, 0.1)})

    assert both.doubt == pytest.approx(0.4, rel=0.01)
    assert both.disagreement == SILENT
    assert replace(both, kinds={"rises": Check(0.8, 0.01)}).doubt == pytest.approx(np.hypot(0.4, 0.4), rel=0.01)
