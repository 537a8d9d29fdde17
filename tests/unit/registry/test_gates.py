"""Each gate refuses what it is there for, and nothing that was not measured passes."""

from typing import Any

import pytest

from pricing.config import load_config
from pricing.config_models import DemandConfig, GatesConfig
from pricing.registry.causes import Circumstances, causes
from pricing.registry.gates import (
    Verdict,
    anchors_gate,
    baseline_gates,
    champion_gates,
    comparable,
    explained,
    failed,
    golden_gate,
    identified_gate,
    not_compared_gate,
    products_gate,
    state_gates,
)
from tests.kit.promotions import figures, without

LIMITS: GatesConfig = load_config().registry.gates
DEMAND: DemandConfig = load_config().demand


def names(verdicts: list[Verdict]) -> list[str]:
    return [verdict.name for verdict in failed(verdicts)]


def volumes(**changes: Any) -> dict[str, Any]:
    return {**figures()["by_volume"], **changes}


@pytest.mark.parametrize(
    ("low", "high", "figure", "passed"),
    [
        ({}, {}, None, True),  # only said
        ({"low": 1.0}, {}, 0.9, False),
        ({}, {"high": 1.0}, 1.0, True),
        ({"low": 1.0}, {"high": 2.0}, 3.0, False),
        ({"low": 1.0}, {"high": 2.0}, None, False),
    ],
)
def test_a_verdict_passes_inside_its_limits(low: Any, high: Any, figure: float | None, passed: bool) -> None:
    verdict = Verdict("bias", figure, "words", **low, **high)

    assert verdict.passed is verdict.as_json()["passed"] is passed


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({}, []),
        ({"wape": 0.51}, ["beats_naive"]),
        ({"by_volume": volumes(low={"wape": 0.6, "wape_baseline": 0.5})}, ["beats_naive_low"]),
        ({"bias": -0.25}, ["bias"]),
        ({"bias": 0.25}, ["bias"]),
        ({"coverage_80": 0.5}, ["coverage_80"]),
        ({"coverage_80": 0.99}, ["coverage_80"]),
        ({"coverage_95": 0.8}, ["coverage_95"]),
        ({"elasticity": {"share_sane": 0.5}}, ["elasticity_sane"]),
        ({"censored": 1000, "rows": 900, "left_out": 100, "wape": 0.0}, ["beats_naive"]),  # every row sold out
        ({"censored": 999, "rows": 900, "left_out": 100}, []),
    ],
)
def test_each_baseline_refuses_what_it_is_there_for(changes: dict[str, Any], refused: list[str]) -> None:
    verdicts = baseline_gates(figures(**changes), LIMITS)

    assert names(verdicts) == refused
    assert len(verdicts) == 8


@pytest.mark.parametrize("missing", ["wape", "wape_baseline", "bias", "coverage_80", "coverage_95", "elasticity"])
def test_what_was_not_measured_does_not_pass(missing: str) -> None:
    nan: Any = {"share_sane": float("nan")} if missing == "elasticity" else float("nan")
    for values in (without(figures(), missing), figures(**{missing: nan})):
        (verdict,) = failed(baseline_gates(values, LIMITS))

        assert verdict.figure is None


def held_against(baseline: float | None) -> dict[str, Any]:
    by_volume = {name: {**one, "wape_baseline": baseline} for name, one in figures()["by_volume"].items()}
    return figures(wape_baseline=baseline, by_volume=by_volume)


@pytest.mark.parametrize(
    ("wape", "baseline", "limit", "low", "passed"),
    [
        (0.42, 0.4, 1.0, -0.01, True),
        (0.42, 0.4, 1.0, 0.005, False),
        (0.42, 0.4, 1.0, None, False),
        (0.5, 0.4, 1.0, -0.02, False),
        (0.4, 0.42, 0.8, -0.04, False),  # chance is counted from the limit, not from equality
        (0.36, 0.42, 0.8, -0.09, True),
    ],
)
def test_an_error_a_little_above_the_baselines_passes_where_it_may_be_chance(
    wape: float, baseline: float, limit: float, low: float | None, passed: bool
) -> None:
    backtest = held_against(baseline) | {"wape": wape, "against_baseline": {"wape_low": low}}

    assert baseline_gates(backtest, LIMITS.model_copy(update={"naive_ratio": limit}))[0].passed is passed


def test_a_version_that_holds_only_must_forecast_as_well_as_any_and_its_elasticities_are_only_said() -> None:
    implausible = baseline_gates(figures(elasticity={"share_sane": 0.1}), LIMITS, holds_only=True)

    assert names(implausible) == []
    assert (implausible[-1].figure, implausible[-1].needed) == (0.1, "")
    assert names(baseline_gates(figures(wape=0.51), LIMITS, holds_only=True)) == ["beats_naive"]


@pytest.mark.parametrize(
    ("share", "holds_only", "said"), [(0.5, False, False), (0.05, True, True), (0.05, False, True)]
)
def test_too_little_known_refuses_no_version_and_is_only_said(share: float, holds_only: bool, said: bool) -> None:
    verdict = identified_gate(share, LIMITS, holds_only=holds_only)

    assert (verdict.passed, verdict.figure, verdict.needed == "") == (True, share, said)


ONES = {name: {"wape": 0.44} for name in ("low", "mid", "high")}


@pytest.mark.parametrize(
    ("changes", "decay", "gates"),
    [
        ({}, 1.0, []),
        ({"wape": 0.404}, 1.0, []),
        ({"wape": 0.42}, 1.0, ["against_champion"]),
        ({"by_volume": volumes(high={"wape": 0.45})}, 1.0, ["against_champion_high"]),
        ({"by_volume": without(volumes(), "mid")}, 1.0, ["against_champion_mid"]),
        ({"wape": 0.44, "by_volume": ONES}, 1.2, []),  # no better than a champion in decay once was
    ],
)
def test_a_challenger_must_not_be_worse_than_the_champion(
    changes: dict[str, Any], decay: float, gates: list[str]
) -> None:
    assert names(champion_gates(figures(**changes), figures(), LIMITS, decay=decay)) == gates
    assert not_compared_gate().passed


@pytest.mark.parametrize(
    ("champion", "parity", "refused"),
    [("2024-05-03", None, ["fresh"]), ("2024-05-01", None, []), (None, 1e-4, ["parity"]), (None, 1e-7, [])],
)
def test_states_must_be_as_recent_as_the_champions_and_agree_with_encoding_anew(
    champion: str | None, parity: float | None, refused: list[str]
) -> None:
    verdicts = state_gates(challenger="2024-05-01", champion=champion, parity=parity)

    assert names(verdicts) == refused
    assert verdicts[0].figure == (parity or (2 if refused else 0))


def test_golden_requests_must_be_fast_and_there_and_anchors_the_champions() -> None:
    assert golden_gate([1.0, 2.0], LIMITS).passed
    assert not golden_gate([1.0, LIMITS.golden_latency_ms + 1], LIMITS).passed
    assert not golden_gate([], LIMITS).passed
    assert anchors_gate([]).passed
    assert not anchors_gate(["tea"]).passed


@pytest.mark.parametrize(
    ("known", "share", "passes"),
    [("abcd", 1.0, True), ("abcdx", 1.0, True), ("acd", 0.96, True), ("bcd", 0.04, False), ("", 0.0, False)],
)
def test_what_the_champion_sells_most_of_must_be_known(known: str, share: float, passes: bool) -> None:
    champion = {"a": 96.0, "b": 4.0, "c": 0.0, "d": float("nan")}

    verdict = products_gate(set(known), champion, LIMITS)

    assert verdict.figure == pytest.approx(share)
    assert verdict.passed is passes
    unknown_units = products_gate(set(known), dict.fromkeys("abcd", float("nan")), LIMITS)
    assert unknown_units.figure == pytest.approx(len(set(known) & set("abcd")) / 4)


def scored(fingerprint: str | None, cutoff: str = "2024-04-01") -> dict[str, Any]:
    return {**figures(folds=[{"cutoff": cutoff}]), "data": {"fingerprint": fingerprint}}


def test_only_the_same_data_and_folds_compare() -> None:
    same = DEMAND, DEMAND
    assert comparable(scored("a"), scored("a"), settings=same)
    assert not comparable(scored("a"), scored("b"), settings=same)
    assert not comparable(scored("a"), scored("a", cutoff="2024-04-02"), settings=same)
    assert not comparable(scored(None), scored(None), settings=same)
    other = DEMAND.model_copy(update={"horizon": DEMAND.horizon + 1})  # other periods after the same cutoffs
    assert not comparable(scored("a"), scored("a"), settings=(DEMAND, other))


@pytest.mark.parametrize(
    ("gate", "known", "count", "figure"),
    [
        ("price_moves", {"below_cost": 12}, 1, "12 of 60"),
        ("price_moves", {"few_moves": 60, "sold_out": 1.0, "short": ["90 days"]}, 0, ""),
        ("elasticity_sane", {"few_moves": 31}, 1, "31 of 60"),
        ("elasticity_sane", {"few_moves": 30}, 0, ""),
        ("beats_naive_low", {"short": ["90 days: too few", "no room: none"], "sold_out": 0.2}, 2, "90 days"),
        ("bias", {"sold_out": 0.19}, 0, ""),
        ("coverage_80", {"sold_out": 1.0, "below_cost": 12}, 1, "only"),
        ("golden", {"below_cost": 12, "few_moves": 60, "sold_out": 1.0, "short": ["90 days"]}, 0, ""),
    ],
)
def test_a_refusal_names_causes_that_the_figures_show_and_no_others(
    gate: str, known: dict[str, Any], count: int, figure: str
) -> None:
    around = Circumstances(products=60, **known)

    found = causes(gate, around)

    assert len(found) == count
    assert figure in "".join(found)
    good, bad = explained([Verdict(gate, 0.0, "", high=1.0), Verdict(gate, 2.0, "", high=1.0, advice="look")], around)
    assert good.advice == ""
    assert (bad.advice == "look") is (count == 0)
    assert all(cause in bad.sentence for cause in ["look", *found])
