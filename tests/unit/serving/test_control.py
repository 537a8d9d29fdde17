"""A person's switches: what the service answers under them."""

import datetime as dt
from pathlib import Path
from typing import Any

from pricing.decision.switches import Control, Switch, Switches
from tests.kit import control as kit
from tests.kit.control import freeze
from tests.kit.serving import NOW, REQUEST, ServingApp, open_app

NEAR = {"current_price": 1.2, "list_price": 1.1, "unit_cost": 0.5, "comp_price": 1.2, "is_promo": False}
HOUR = dt.timedelta(hours=1)


def override(price: float, name: str = "P00001", **more: Any) -> Switch:
    return kit.override(price, name, at=NOW, **more)


def switch(shop: ServingApp, *switches: Switch) -> None:
    shop.control(Control(Switches(switches)))


def test_every_route_answers_the_price_that_a_person_froze_or_gave(shop: ServingApp) -> None:
    free = shop.answer(**NEAR)
    switch(shop, freeze(), override(1.77, "P00002"))

    frozen, given = shop.answer(**NEAR), shop.answer(**NEAR, product_id="P00002")
    asked = [{**REQUEST, **NEAR, "product_id": f"P0000{n}"} for n in (1, 2)]
    batch = shop.batch(*asked)
    explained = [shop.explain(one) for one in asked]
    tried = shop.client.post("/simulate", json={"request": asked[1], "prices": [1.2]}).get_json()

    assert free["recommended_price"] != 1.2
    assert (frozen["recommended_price"], frozen["source"]) == (1.2, "rule")
    assert (given["recommended_price"], given["source"], given["confidence"]) == (1.77, "override", 1.0)
    assert [(one["recommended_price"], one["source"]) for one in batch] == [(1.2, "rule"), (1.77, "override")]
    assert [(one["baseline_value"], one["value"]) for one in explained] == [(1.2, 1.2), (1.2, 1.77)]
    assert [(one["name"], one["effect"]) for each in explained for one in each["drivers"]] == [
        ("switch", 0.0), ("switch", 0.57),
    ]  # fmt: skip
    assert tried["switch"] == "override"
    assert shop.get("/model")["switches"] == {"freezes": 1, "overrides": 1, "everything": "freeze"}
    assert 'pricing_switches{action="freeze"} 1.0' in shop.metrics()


def test_switches_count_without_any_model(tmp_path: Path) -> None:
    with open_app(tmp_path) as shop:
        switch(shop, freeze("category", "drinks"), override(1.77, "tea"))
        answers = [shop.answer(**NEAR, product_id=one, category="drinks") for one in ("cola", "tea")]

    assert [one["recommended_price"] for one in answers] == [1.2, 1.77]


def test_an_override_prices_until_its_end_and_no_longer(shop: ServingApp) -> None:
    free = shop.answer(**NEAR)["recommended_price"]

    for until, expected in ((NOW + HOUR, 1.77), (NOW, free)):
        switch(shop, override(1.77, until=until))
        assert shop.answer(**NEAR)["recommended_price"] == expected


def test_a_frozen_product_is_counted_as_frozen(shop: ServingApp) -> None:
    switch(shop, freeze())
    shop.price(**NEAR)

    lines = shop.metrics().splitlines()
    assert any("pricing_decisions_total" in line and 'source="frozen"' in line for line in lines)
