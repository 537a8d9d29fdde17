"""One night of prices in another unit, from the sales to the answer; and a rollback that holds."""

import datetime as dt

import mlflow
import numpy as np
import pytest
import yaml

from pipelines import promote, refresh, rollback
from pricing.config import load_config
from pricing.decision.request import PriceRequest
from pricing.errors import EXIT_REFUSED
from pricing.registry.version import LoadedVersion
from pricing.runtime.alerts import CHANNELS, Alert
from tests.integration.test_refresh import dear
from tests.kit.registered_shop import Shop


@pytest.fixture
def told(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> list[Alert]:
    """Every alert that goes out."""

    alerts = list[Alert]()
    settings = shop.folder / "doors.yaml"
    doors = {"alerts": ["webhook"], "endpoints": {"webhook_url": "http://chat"}}
    settings.write_text(yaml.safe_dump({"monitoring": doors, "registry": {"auto_promote": True}}))
    monkeypatch.setenv("PRICING_CONFIG", str(settings))
    monkeypatch.delenv("PRICING_PARENT_RUN_ID", raising=False)
    monkeypatch.setitem(CHANNELS, "webhook", lambda alert, _config: alerts.append(alert))
    return alerts


def night_in_cents(shop: Shop) -> str:
    """Sales whose last night has prices and list prices × 100."""
    return shop.sales(151, panel=dear(shop.panel(151), since=150, until=151))


def answers(version: LoadedVersion, *, largest_jump: float | None) -> np.ndarray:
    """(product,) what a version answers to a request that says nothing of prices."""
    day = version.demand.state_date
    requests = [
        PriceRequest(product_id=str(name), current_stock=1e4, day_of_week="Monday")
        for name in version.facts.product_ids
    ]
    decisions = version.pricer(version="x", largest_jump=largest_jump).price(requests, today=day + dt.timedelta(days=1))
    return np.array([decision.recommended_price for decision in decisions])


def test_a_night_in_another_unit_is_not_promoted_but_told_and_where_it_is_forced_answers_stay_near(
    shop: Shop, told: list[Alert], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shop.crown()
    sound = shop.panel(150).price[:, -1].astype(np.float64)
    assert refresh.main(["--sales", night_in_cents(shop)]) == 0
    second = shop.registry.find("challenger").number

    assert promote.main([]) == EXIT_REFUSED
    assert told == []  # by hand: a person sees it
    monkeypatch.setenv("PRICING_PARENT_RUN_ID", "night")
    assert promote.main([]) == EXIT_REFUSED
    monkeypatch.delenv("PRICING_PARENT_RUN_ID")

    assert shop.champion == first
    assert (shop.last.outcome, shop.missed) == ("refused", ["price_moves"])
    assert [(one.job, one.severity, one.exit_status) for one in told] == [("promote", "critical", 3)]
    assert [each.check for each in told[0].findings] == ["price_moves"]
    run = mlflow.get_run(str(shop.last.run_id))
    assert run.data.tags["refused_by"] == "price_moves"
    assert run.data.metrics["price_moves/log_ratio"] > 3

    assert promote.main(["--force", "true", "--reason", "to see what is answered"]) == 0

    version, jump = shop.fetch("champion"), load_config().serving.largest_jump
    assert shop.champion == second
    assert jump is not None
    assert (answers(version, largest_jump=None) > 20 * sound).all()
    assert (np.abs(answers(version, largest_jump=jump) / sound - 1) <= jump + 0.005).all()


def test_a_rollback_that_moves_prices_far_asks_for_force_and_then_holds(shop: Shop) -> None:
    first = shop.crown()
    wrong = night_in_cents(shop)
    refresh.main(["--sales", wrong])
    second = shop.registry.find("challenger").number
    promote.main(["--force", "true", "--reason", "not looked at"])

    assert rollback.main(["--version", first]) == EXIT_REFUSED
    assert (shop.last.action, shop.last.outcome) == ("rollback", "refused")
    assert shop.champion == second

    assert rollback.main(["--version", first, "--force", "true", "--reason", "prices in cents"]) == 0
    assert shop.champion == first
    assert (shop.last.forced, shop.missed) == (True, ["price_moves"])
    assert refresh.main(["--sales", wrong]) == 0, "finds what it registered before"
    assert promote.main(["--version", second]) == EXIT_REFUSED
    assert "not_rejected" in shop.missed
    shop.refresh(151)
    assert promote.main([]) == 0, "only the states were at fault, so other ones of these weights are welcome"


def test_neither_a_refresh_nor_a_second_rollback_nor_a_retraining_brings_back_what_was_rolled_back_from(
    shop: Shop, told: list[Alert], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shop.crown()
    second = shop.crown(seed=2)
    rollback.main(["--reason", "complaints"])

    assert rollback.main([]) == 2
    assert refresh.main(["--version", second, "--sales", shop.sales(160)]) == 2
    again = shop.add(seed=2)  # as a retraining on the same sales would
    monkeypatch.setenv("PRICING_PARENT_RUN_ID", "retraining")
    assert promote.main(["--version", again]) == EXIT_REFUSED
    assert "not_rejected" in [each.check for each in told[-1].findings]
    assert shop.champion == first
