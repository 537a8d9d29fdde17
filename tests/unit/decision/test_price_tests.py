"""Price tests on offer: who is drawn for and how widely, from which prices, and until when."""

import datetime as dt
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from pricing.decision.every_product import requests_for_all_products
from pricing.decision.experiments import NO_EXPERIMENTS, Arm, Experiment, Experiments
from pricing.decision.price_tests import NAME, of_arms, week_of_tests
from pricing.decision.pricer import Pricer
from pricing.decision.switches import control_of
from pricing.errors import ConfigError
from pricing.registry.version import LoadedVersion
from tests.kit.versions import loaded_version

DAY = dt.timedelta(days=1)


def shop(**sd: float) -> tuple[LoadedVersion, list[str]]:
    """A version whose elasticities are known but for those of some products, by their number."""
    version = loaded_version()
    ids = version.demand.product_ids.tolist()
    known = np.full(len(version.demand.elasticity_sd), 0.1, np.float32)
    for name, value in sd.items():
        known[int(name[1:])] = value
    return replace(version, demand=replace(version.demand, elasticity_sd=known)), ids


def free_pricer(version: LoadedVersion, **limits: Any) -> Pricer:
    """A pricer that reaches every price at once, so that no product is on its way."""
    decision = version.config.decision
    guardrails = decision.guardrails.model_copy(update={"max_move": None} | limits)
    config = version.config.model_copy(update={"decision": decision.model_copy(update={"guardrails": guardrails})})
    return version.pricer(version="1", config=config)


def planned(
    version: LoadedVersion, *, known: Experiments = NO_EXPERIMENTS, day: dt.date | None = None, by: Pricer | None = None
) -> Experiment:
    after = version.facts.state_date.astype(dt.date) + DAY
    monday = after + DAY * (-after.weekday() % 7)
    pricer = by or free_pricer(version)
    return week_of_tests(pricer, version.demand, version.facts, known=known, day=day or monday)


def test_prices_are_drawn_the_more_widely_the_less_is_known_and_not_where_it_is_known() -> None:
    version, ids = shop(p0=0.6, p1=0.3)

    found = planned(version)

    assert found.products == {ids[0]: "draw/wide", ids[1]: "draw"}
    assert [arm.size for arm in found.arms] == [0.10, 0.05]
    assert found.prices == {product: version.facts.price[at] for at, product in enumerate(ids[:2])}
    assert found.weeks == 1
    assert {name: len(each.weeks) for name, each in of_arms(found, version.demand, version.facts).items()} == {
        "draw/wide": 1,
        "draw": 1,
    }


@pytest.mark.parametrize(("room", "drawn"), [(1.11, {"draw/wide"}), (1.07, {"draw"})])
def test_where_the_wider_draw_has_no_room_the_smaller_one_is_drawn(room: float, drawn: set[str]) -> None:
    version, _ = shop(p0=0.6)
    usual = float(version.facts.price[0] / version.facts.list_price[0])

    found = planned(version, by=free_pricer(version, band=(usual / room, usual * room)))

    assert set(found.products.values()) == drawn


def test_a_further_week_begins_at_the_prices_that_the_rule_chose_without_those_that_are_known() -> None:
    version, ids = shop(p0=0.6, p1=0.6)
    former = planned(version)
    learnt, _ = shop(p0=0.6, p2=0.3)
    start = {product: 1.02 * price for product, price in former.prices.items()}  # not the price charged now
    known = Experiments((replace(former, prices=start),))

    found = planned(learnt, known=known, day=former.end)

    after = found.start + 7 * DAY
    asked = [each for each in requests_for_all_products(version.facts, day=after) if each.product_id == ids[0]]
    (rule,) = free_pricer(learnt).price_detailed(asked, today=former.start, experiments=running(known))
    assert {product: found.products[product] for product in found.products.keys() - found.back} == {
        ids[0]: "draw/wide",
        ids[2]: "draw",
    }
    assert (found.start, found.weeks) == (former.start, 2)
    assert (found.prices[ids[0]], found.prices[ids[2]]) == (rule.settled, version.facts.price[2])
    assert known.rolled(found, former=known.rolling).every == (found,)


def test_one_that_was_learnt_goes_back_for_a_week_from_the_price_that_was_drawn() -> None:
    version, _ = shop(**{f"p{place}": 0.6 for place in range(11)})
    former = planned(version)
    last = {product: former.deviation(product, former.start) for product in former.products}
    learnt, _ = shop(p11=0.6)

    found = planned(learnt, known=Experiments((former,)), day=former.end)

    assert found.back == {product for product, draw in last.items() if draw}
    assert 0 < len(found.back) < len(former.products)
    assert {found.deviation(product, former.end) for product in found.back} == {0.0}
    assert of_arms(found, version.demand, version.facts).keys() == {"draw/wide"}


def test_who_is_drawn_for_does_not_depend_on_the_last_draw() -> None:
    version, _ = shop(**{f"p{place}": 0.6 for place in range(6)})
    former = planned(version)
    drawn = [
        price * np.exp(former.deviation(product, former.start)) if product in former.products else price
        for product, price in zip(version.facts.product_ids.tolist(), version.facts.price.tolist(), strict=True)
    ]
    after = replace(version, facts=replace(version.facts, price=np.array(drawn)))
    known = Experiments((former,))

    still, moved = (
        week_of_tests(free_pricer(each), each.demand, each.facts, known=known, day=former.end)
        for each in (version, after)
    )

    assert (still.products, still.prices) == (moved.products, moved.prices)


def test_the_largest_move_takes_no_room_from_a_draw_and_the_largest_jump_does() -> None:
    version, _ = shop()
    free = requests_for_all_products(version.facts)
    around = [each.model_copy(update={"current_price": each.list_price or each.current_price}) for each in free]
    today = version.facts.state_date.astype(dt.date)

    usual, jumpy = (
        version.pricer(version="1", largest_jump=jump).room(around, size=0.10, today=today) for jump in (0.30, 0.20)
    )
    free_to_move = free_pricer(version).room(around, size=0.10, today=today)

    assert usual.sum() > 0.9 * len(usual)
    assert usual.tolist() == free_to_move.tolist()
    assert not jumpy.any()


def running(known: Experiments) -> Experiments:
    """The same experiments, which also run the week after."""
    return Experiments(tuple(replace(each, weeks=each.weeks + 1) for each in known.every))


def test_a_product_on_its_way_to_a_price_far_off_waits() -> None:
    version, _ = shop(p0=0.6, p1=0.6)

    with pytest.raises(ConfigError):
        planned(version, by=version.pricer(version="1"))  # its rule moves all prices as far as it may


def test_products_of_other_experiments_are_left_out() -> None:
    version, ids = shop(p0=0.6, p1=0.6)
    monday = planned(version).start
    other = Experiment("holdout", monday, None, (Arm("keep", share=1.0),), {ids[0]: "keep"})

    found = planned(version, known=Experiments((other,)))

    assert set(found.products) == {ids[1]}
    with pytest.raises(ConfigError, match=ids[0]):
        Experiments((other,)).rolled(planned(version), former=None)


@pytest.mark.parametrize("sd", [{}, {"p0": 0.2}])
def test_where_all_is_known_nothing_is_drawn(sd: dict[str, Any]) -> None:
    version, _ = shop(**sd)

    with pytest.raises(ConfigError):
        planned(version)


def test_tests_that_a_person_stopped_begin_anew() -> None:
    version, _ = shop(p0=0.6)
    former = planned(version)
    stopped = Experiments((former,)).ended(NAME, after=former.start + 2 * DAY)

    found = planned(version, known=stopped, day=former.end)

    assert (found.start, found.weeks, found.stopped) == (former.end, 1, None)
    assert stopped.rolled(found, former=None).every == (found,)


def test_a_stop_that_comes_while_a_week_is_planned_is_not_undone() -> None:
    version, _ = shop(p0=0.6)
    former = planned(version)
    found = planned(version, known=Experiments((former,)), day=former.end)
    stopped = Experiments((former,)).ended(NAME, after=former.start)

    with pytest.raises(ConfigError):
        stopped.rolled(found, former=former)


def test_a_product_may_be_tested_after_an_experiment_that_has_ended() -> None:
    version, ids = shop(p0=0.6, p1=0.6)
    former = planned(shop(p1=0.6)[0])
    holdout = Experiment("holdout", former.start, 1, (Arm("keep", share=1.0),), {ids[0]: "keep"})
    known = Experiments((former, holdout))

    written = known.rolled(planned(version, known=known, day=former.end), former=former)

    assert set(written.rolling.products) == set(ids[:2])
    read = control_of(
        [], [TypeAdapter(Experiment).dump_python(each, mode="json") for each in written.every], {}, entries=2
    )
    assert read.experiments.every == written.every


def test_tests_are_not_planned_on_states_that_are_too_old() -> None:
    version, _ = shop(p0=0.6)
    late = version.facts.state_date.astype(dt.date) + 90 * DAY

    with pytest.raises(ConfigError, match="refresh"):
        planned(version, day=late)
