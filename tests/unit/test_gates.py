from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.config import load_config
from pricing.config_models import DemandConfig, GatesConfig
from pricing.registry.gates import (
    ProductionError,
    baseline_gates,
    champion_gates,
    comparable,
    failed,
    golden_gate,
    identified_gate,
    products_gate,
    state_gates,
)
from tests.kit.promotions import figures, without

LIMITS: GatesConfig = load_config().registry.gates
DEMAND: DemandConfig = load_config().demand


def names(verdicts: Any) -> list[str]:
    return [verdict.name for verdict in failed(verdicts)]


def volumes(**changes: Any) -> dict[str, Any]:
    return {**figures()["by_volume"], **changes}


def test_a_good_backtest_passes_every_baseline() -> None:
    verdicts = baseline_gates(figures(), LIMITS)

    assert names(verdicts) == []
    assert len(verdicts) == 8


@pytest.mark.parametrize(
    ("changes", "gate"),
    [
        ({"wape": 0.51}, "beats_naive"),
        ({"by_volume": volumes(low={"wape": 0.6, "wape_baseline": 0.5})}, "beats_naive_low"),
        ({"bias": -0.25}, "bias"),
        ({"bias": 0.25}, "bias"),
        ({"coverage_80": 0.5}, "coverage_80"),
        ({"coverage_80": 0.99}, "coverage_80"),
        ({"coverage_95": 0.8}, "coverage_95"),
        ({"elasticity": {"share_sane": 0.5}}, "elasticity_sane"),
    ],
)
def test_each_baseline_refuses_what_it_is_there_for(changes: dict[str, Any], gate: str) -> None:
    assert names(baseline_gates(figures(**changes), LIMITS)) == [gate]


def test_where_every_row_sold_out_nothing_was_measured() -> None:
    everywhere = baseline_gates(figures(censored=1000, rows=900, left_out=100, wape=0.0), LIMITS)
    elsewhere = baseline_gates(figures(censored=999, rows=900, left_out=100), LIMITS)

    assert names(everywhere) == ["beats_naive"]
    assert everywhere[0].figure is None
    assert names(elsewhere) == []


@pytest.mark.parametrize("missing", ["wape", "wape_baseline", "bias", "coverage_80", "coverage_95", "elasticity"])
@pytest.mark.parametrize("how", ["absent", "nan"])
def test_what_was_not_measured_does_not_pass(missing: str, how: str) -> None:
    values = {"absent": without(figures(), missing)}
    values["nan"] = figures(**{missing: {"share_sane": float("nan")} if missing == "elasticity" else float("nan")})

    verdicts = failed(baseline_gates(values[how], LIMITS))

    assert len(verdicts) == 1
    assert verdicts[0].figure is None


def held_against(baseline: float | None) -> dict[str, Any]:
    """Figures with both baselines: the seasonal naive one is worse than the model, whatever the chosen one is."""
    by_volume = {name: {**one, "wape_baseline": baseline} for name, one in figures()["by_volume"].items()}
    folds = [{"cutoff": f"2024-0{month}-01", "baseline": "naive" if month == 1 else "flat"} for month in (1, 2, 3)]
    return figures(wape_baseline=baseline, by_volume=by_volume, folds=folds)


def test_a_model_must_beat_the_baseline_that_was_better_in_earlier_folds() -> None:
    verdicts = failed(baseline_gates(held_against(0.35), LIMITS))

    assert names(baseline_gates(held_against(0.45), LIMITS)) == []
    assert [verdict.name for verdict in verdicts] == [
        "beats_naive",
        *(f"beats_naive_{volume}" for volume in ("low", "mid", "high")),
    ]
    assert verdicts[0].figure == pytest.approx(0.40 / 0.35)


@pytest.mark.parametrize(
    ("wape", "low", "passed"), [(0.42, -0.01, True), (0.42, 0.005, False), (0.42, None, False), (0.5, -0.02, False)]
)
def test_an_error_a_little_above_the_baselines_passes_where_it_may_be_chance(
    wape: float, low: float | None, passed: bool
) -> None:
    backtest = held_against(0.4) | {"wape": wape, "against_baseline": {"wape_low": low}}

    verdict = baseline_gates(backtest, LIMITS)[0]

    assert verdict.passed == passed


def test_chance_is_counted_from_the_limit_and_not_from_equality() -> None:
    strict = LIMITS.model_copy(update={"naive_ratio": 0.8})
    backtest = held_against(0.42) | {"wape": 0.4, "against_baseline": {"wape_low": -0.04}}

    assert not baseline_gates(backtest, strict)[0].passed
    assert baseline_gates(backtest | {"against_baseline": {"wape_low": -0.09}}, strict)[0].passed


def test_implausible_elasticities_refuse_no_version_whose_prices_rest_on_none() -> None:
    verdicts = baseline_gates(figures(elasticity={"share_sane": 0.1}), LIMITS, holds_only=True)

    sane = next(verdict for verdict in verdicts if verdict.name == "elasticity_sane")
    assert names(verdicts) == []
    assert (sane.figure, sane.threshold) == (0.1, None)


@pytest.mark.parametrize(
    ("share", "holds_only", "threshold"),
    [
        (0.5, False, LIMITS.identified),
        (0.05, True, None),
        (0.05, False, None),
    ],
)
def test_too_little_known_refuses_no_version_and_is_only_said(
    share: float, holds_only: bool, threshold: float | None
) -> None:
    verdict = identified_gate(share, LIMITS, holds_only=holds_only)

    assert verdict.passed
    assert (verdict.figure, verdict.threshold) == (share, threshold)


@pytest.mark.parametrize(
    ("changes", "gates"),
    [
        ({}, []),
        ({"wape": 0.404}, []),
        ({"wape": 0.42}, ["against_champion"]),
        ({"by_volume": volumes(high={"wape": 0.45})}, ["against_champion_high"]),
        ({"by_volume": without(volumes(), "mid")}, ["against_champion_mid"]),
    ],
)
def test_a_challenger_must_not_be_worse_than_the_champion(changes: dict[str, Any], gates: list[str]) -> None:
    assert names(champion_gates(figures(**changes), figures(), LIMITS)) == gates


@given(st.floats(0.01, 5), st.floats(0.01, 5), st.floats(0.01, 5))
def test_a_smaller_error_never_turns_a_pass_into_a_refusal(one: float, other: float, champion: float) -> None:
    low, high = sorted((one, other))

    better = champion_gates(figures(wape=low), figures(wape=champion), LIMITS)[0]
    worse = champion_gates(figures(wape=high), figures(wape=champion), LIMITS)[0]

    assert better.passed or not worse.passed


def test_states_must_not_lie_behind_the_champions() -> None:
    older = state_gates(number="7", challenger="2024-05-01", champion="2024-05-03", parity=None, limits=LIMITS)
    same = state_gates(number="7", challenger="2024-05-03", champion="2024-05-03", parity=None, limits=LIMITS)

    assert names(older) == ["fresh"]
    assert older[0].figure == 2
    assert names(same) == []


def test_a_refresh_must_agree_with_encoding_anew() -> None:
    assert names(state_gates(number="7", challenger="2024-05-01", champion=None, parity=1e-4, limits=LIMITS)) == [
        "parity"
    ]
    assert names(state_gates(number="7", challenger="2024-05-01", champion=None, parity=1e-7, limits=LIMITS)) == []


def test_golden_requests_must_be_fast_and_there() -> None:
    assert golden_gate([1.0, 2.0], LIMITS).passed
    assert not golden_gate([1.0, LIMITS.golden_latency_ms + 1], LIMITS).passed
    assert not golden_gate([], LIMITS).passed


@pytest.mark.parametrize(
    ("known", "share", "passes"),
    [("abcd", 1.0, True), ("abcdx", 1.0, True), ("acd", 0.96, True), ("bcd", 0.04, False), ("", 0.0, False)],
)
def test_what_the_champion_sells_most_of_must_be_known(known: str, share: float, passes: bool) -> None:
    champion = {"a": 96.0, "b": 4.0, "c": 0.0, "d": float("nan")}

    verdict = products_gate(set(known), champion, LIMITS)

    assert verdict.figure == pytest.approx(share)
    assert verdict.passed is passes


def test_where_no_units_are_known_each_product_counts_alike() -> None:
    verdict = products_gate({"a"}, dict.fromkeys("abcde", float("nan")), LIMITS)

    assert verdict.figure == pytest.approx(0.2)


def scored(fingerprint: str | None, cutoff: str = "2024-04-01") -> dict[str, Any]:
    return {**figures(folds=[{"cutoff": cutoff}]), "data": {"fingerprint": fingerprint}}


def test_only_the_same_data_and_folds_compare() -> None:
    same = DEMAND, DEMAND
    assert comparable(scored("a"), scored("a"), settings=same)
    assert not comparable(scored("a"), scored("b"), settings=same)
    assert not comparable(scored("a"), scored("a", cutoff="2024-04-02"), settings=same)
    assert not comparable(scored(None), scored(None), settings=same)
    for name in ("gap", "horizon"):  # other periods after the same cutoffs
        other = DEMAND.model_copy(update={name: getattr(DEMAND, name) + 1})
        assert not comparable(scored("a"), scored("a"), settings=(DEMAND, other))


def aged(ratio: float) -> ProductionError:
    return ProductionError(ratio=ratio, version="3", date="2024-05-01", tolerance=0.15)


@pytest.mark.parametrize(("ratio", "passes"), [(1.5, True), (1.2, True), (1.14, False), (0.7, False)])
def test_a_champion_in_decay_may_be_followed_by_what_is_no_better_than_it_was(ratio: float, passes: bool) -> None:
    worse = figures(wape=0.44, by_volume=volumes(low={"wape": 0.44}, mid={"wape": 0.44}, high={"wape": 0.44}))

    verdicts = champion_gates(worse, figures(), LIMITS, production=aged(ratio))

    assert (names(verdicts) == []) is passes
    assert names(champion_gates(worse, figures(), LIMITS))[0] == "against_champion"


def test_a_baseline_that_could_not_be_measured_is_not_replaced_by_a_weaker_one() -> None:
    (verdict, *_) = failed(baseline_gates(held_against(None), LIMITS))

    assert (verdict.name, verdict.figure) == ("beats_naive", None)


def test_a_version_that_holds_only_must_forecast_as_well_as_any() -> None:
    assert names(baseline_gates(figures(wape=0.51), LIMITS, holds_only=True)) == ["beats_naive"]


def test_products_may_be_dropped_where_the_configuration_says_so() -> None:
    some = LIMITS.model_copy(update={"products": 0.5})

    assert products_gate({"a"}, {"a": 5.0, "b": 4.0}, some).passed
