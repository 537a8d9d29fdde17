import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pricing.decision.assignment import OUTSIDE, deal, strata_of
from pricing.decision.strategy_tests import arm_label, extend, read

from pricing.config_models import StrategyTestConfig
from pricing.decision.request import Decision, PriceRequest
from pricing.decision_log.format import read_decisions
from pricing.errors import ConfigError
from serving.follower import verify_version
from tests.kit.serving import REQUEST, as_explained, open_app, settings_in
from tests.kit.versions import loaded_version, shared_version

STRATEGY_TEST = StrategyTestConfig(name="spring", share=0.5, strategies=["margin", "clearance"])
STRATA = st.dictionaries(st.text(min_size=1, max_size=8), st.sampled_from(["a", "b", "c"]), max_size=80)


@given(strata=STRATA, share=st.floats(0.05, 1))
def test_every_stratum_has_its_share_of_every_strategy(strata: dict[str, str], share: float) -> None:
    strategy_test = STRATEGY_TEST.model_copy(update={"share": share})

    dealt = deal(strata, strategy_test, kept={})

    assert dealt.keys() == strata.keys()
    for stratum, size in Counter(strata.values()).items():
        there = Counter(dealt[product] for product, other in strata.items() if other == stratum)
        for name, wanted in {"margin": share / 2, "clearance": share / 2, OUTSIDE: 1 - share}.items():
            assert abs(there[name] - wanted * size) <= 1


@given(strata=STRATA, more=STRATA)
def test_whoever_was_dealt_once_keeps_its_place(strata: dict[str, str], more: dict[str, str]) -> None:
    before = deal(strata, STRATEGY_TEST, kept={})

    after = deal(more | strata, STRATEGY_TEST, kept=before)

    assert {product: after[product] for product in before} == before
    assert after.keys() == more.keys() | strata.keys()


def test_a_strategy_test_deals_the_same_for_ever() -> None:
    strata = {f"P{number}": "ab"[number % 2] for number in range(8)}

    dealt = deal(strata, STRATEGY_TEST, kept={})

    assert [dealt[product] for product in strata] == ["", "", "clearance", "clearance", "", "", "margin", "margin"]


def test_thirds_of_a_category_hold_equal_volumes_together() -> None:
    units = np.array([1, 1, 1, 1, 5, 9, np.nan, 2, 3], np.float32)
    categories = np.array([*"aaaaaa", *"bbb"])

    strata = strata_of(np.array([*"ABCDEFGHI"]), categories=categories, mean_units=units)

    assert "".join(stratum[-1] for stratum in strata.values()) == "111122012"


def test_two_trials_deal_differently() -> None:
    strata = {f"P{number}": "a" for number in range(100)}

    one, other = (
        deal(strata, STRATEGY_TEST.model_copy(update={"name": name}), kept={}) for name in ("spring", "summer")
    )

    assert one != other


def test_strata_are_category_and_class_of_volume() -> None:
    facts = loaded_version().facts

    strata = strata_of(facts.product_ids, categories=facts.categories, mean_units=facts.typical_units)

    assert strata.keys() == set(facts.product_ids.tolist())
    assert {stratum.split("/")[0] for stratum in strata.values()} == set(facts.categories.tolist())
    assert {stratum.split("/")[1] for stratum in strata.values()} <= {"0", "1", "2"}


def test_what_was_dealt_is_kept_in_a_file_until_the_strategy_test_is_another(tmp_path: Path) -> None:
    facts = loaded_version().facts
    path = tmp_path / "spring.json"

    dealt = extend(path, facts, STRATEGY_TEST)

    assert read(path, STRATEGY_TEST) == dealt == extend(path, facts, STRATEGY_TEST)
    assert read(path, STRATEGY_TEST.model_copy(update={"share": 0.4})) == {}
    strategy_test = json.dumps(STRATEGY_TEST.model_dump(mode="json"))
    for damaged in (
        "{half",
        "[]",
        "7",
        f'{{"strategy_test": {strategy_test}}}',
        *(f'{{"strategy_test": {strategy_test}, "products": {one}}}' for one in ("[]", '{"P00001": 1}')),
    ):
        path.write_text(damaged)
        assert read(path, STRATEGY_TEST) == {}


@pytest.mark.parametrize(
    ("product", "strategy", "reason", "challenger", "label"),
    [
        ("P1", None, "stock", "", "spring/clearance"),
        ("P1", "match", "stock", "", None),  # the request named its own
        ("P1", None, "holdout", "", None),
        ("P2", None, "stock", "", None),  # dealt to no arm
        ("P3", None, "stock", "", None),  # not dealt at all
        ("P1", "match", "stock", "7", "challenger/7"),  # whatever its strategy, the challenger priced it
        ("P1", None, "stock", "8", None),  # another version answered for it
        ("P1", None, "holdout", "7", None),
    ],
)
def test_a_line_names_the_test_and_arm_that_priced_it(
    product: str, strategy: str | None, reason: str, challenger: str, label: str | None
) -> None:
    asked = PriceRequest(product_id=product, current_stock=3, day_of_week="Friday", comp_price=21.5, strategy=strategy)
    decision = Decision(
        recommended_price=23.75, confidence=0.87, price_range=(23.0, 24.5), expected_units=4.2, expected_margin=31.0,
        source="model", reasons=[reason], strategy="margin", model_version="7", decision_id="d",
    )  # fmt: skip
    arms = {"P1": "clearance", "P2": OUTSIDE}

    assert arm_label(asked, decision, strategy_test="spring", arms=arms, challenger=challenger) == label
    assert arm_label(asked, decision, strategy_test="", arms=arms, challenger=challenger) == (
        label if challenger else None
    )


def shop_config(folder: Path) -> dict[str, str]:
    path = folder / "strategy_test.yaml"
    path.write_text("serving: {strategy_test: {name: spring, share: 0.9, strategies: [revenue, clearance]}}")
    return {"PRICING_CONFIG": str(path)}


def test_decisions_of_a_strategy_test_follow_its_strategies_and_are_named_in_the_log(tmp_path: Path) -> None:
    with open_app(tmp_path / "home", version=shared_version(), environment=shop_config(tmp_path)) as shop:
        requests = [{**REQUEST, "product_id": f"P{number:05d}"} for number in range(1, 13)]
        batch = shop.client.post("/get_prices", json={"requests": requests}).get_json()["decisions"]
        single = [shop.client.post("/get_price", json=request).get_json() for request in requests]
        own = shop.price(strategy="match").get_json()
        stranger = shop.price(product_id="stranger", list_price=5.0).get_json()
        shop.service.log.flush()
        records = read_decisions(shop.settings.decisions_folder).records
        metrics = shop.client.get("/metrics").text

    assert [one["strategy"] for one in batch] == [one["strategy"] for one in single]
    strategies = Counter(one["strategy"] for one in batch)
    assert set(strategies) >= {"revenue", "clearance"}
    assert (own["strategy"], stranger["strategy"]) == ("match", "margin")
    for record in records:
        strategy = record["decision"]["strategy"]
        assert record["strategy_test"] == (f"spring/{strategy}" if strategy in ("revenue", "clearance") else None)
        assert record["request"].get("strategy") in (None, "match")
    assert 'strategy="revenue",strategy_test="spring/revenue"' in metrics


def test_a_price_is_explained_under_the_strategy_that_a_strategy_test_dealt(tmp_path: Path) -> None:
    with open_app(tmp_path / "home", version=shared_version(), environment=shop_config(tmp_path)) as shop:
        for number in range(1, 13):
            request = {**REQUEST, "product_id": f"P{number:05d}"}
            priced = shop.client.post("/get_price", json=request).get_json()
            explained = shop.client.post("/explain", json={"request": request}).get_json()

            assert explained["decision"] == as_explained(priced, decision_id=explained["decision"]["decision_id"])
            assert explained["value"] == priced["recommended_price"]


def test_the_follower_deals_before_a_version_is_served(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "home", **shop_config(tmp_path))

    verify_version(shared_version(), settings=settings)

    values: dict[str, Any] = json.loads(settings.strategy_test_file.read_text())
    assert len(values["products"]) == 12


def test_a_strategy_test_file_that_cannot_be_written_keeps_no_version_from_being_served(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "trials").write_text("in the way")

    assert verify_version(shared_version(), settings=settings_in(tmp_path / "home", **shop_config(tmp_path))) > 0


def test_a_strategy_test_of_an_unknown_strategy_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "strategy_test.yaml"
    path.write_text("serving: {strategy_test: {name: spring, share: 0.5, strategies: [margin, greed]}}")

    with pytest.raises(ConfigError, match="greed"):
        settings_in(tmp_path, PRICING_CONFIG=str(path))
