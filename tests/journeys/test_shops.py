"""Shops that the platform has never seen, from their sales to a price and what became of it, by the commands alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.journeys.person import PRICING, ROOT, Person, Service, in_a_folder
from tests.journeys.shops import sales, write

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PAGES = {"model_card.md", "plots", "sensitivity"}


@dataclass(frozen=True)
class Talk:
    """What a person asked her service, and was told.

    Attributes:
        asked: The requests that she sent, one per product.
        answers: Their answers.
        model: What the service said of its version.
        why: Product → what the service said of its elasticity.
    """

    asked: list[dict[str, Any]]
    answers: list[dict[str, Any]]
    model: dict[str, Any]
    why: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Walk:
    """What a whole journey left behind.

    Attributes:
        person: Whose journey.
        config: Her configuration file.
        sales: All her sales.
        told: By her first version.
        prices: The table that `pricing price` wrote.
    """

    person: Person
    config: Path
    sales: pd.DataFrame
    told: Talk
    prices: pd.DataFrame


def walk(person: Person, frame: pd.DataFrame, settings: dict[str, Any] | None = None) -> Walk:
    """Goes the whole way: train, promote, serve, price, then with newer sales refresh, promote and monitor.

    Args:
        person: Who goes.
        frame: Her sales; the last two weeks (or weekly rows) come after the first promotion.
        settings: Of her configuration, beside those of a quick training.
    """
    days = sorted(frame["date"].unique())
    weekly = (settings or {}).get("data", {}).get("period") == "week"
    before = frame[frame["date"] <= days[-3 if weekly else -15]]
    config = train_and_promote(person, before, settings=settings or {})
    given = ("--config", str(config))
    first = person.champion()
    with person.serving(f"{PRICING} serve --config {config}") as service:
        service.wait_for(first)
        told = talk(service, before)
        assert service.ask("/get_price", {"product_id": "a typo", "day_of_week": "Friday"})[0] == 404
        person.pricing("price", *given)
        newer = write(frame, person.folder / "newer.csv")
        person.pricing("refresh", "--sales", str(newer), *given)
        person.pricing("promote", *given)
        second = person.champion()
        assert second != first
        service.wait_for(second)
    person.pricing("monitor", "--sales", str(newer), *given)

    return Walk(person, config, frame, told, prices=pd.read_csv(person.home / "prices.csv"))


def talk(service: Service, frame: pd.DataFrame, **more: Any) -> Talk:
    """Asks for the price of every product on the period after its sales, and why."""
    newest = frame["date"].max()
    following = newest + (newest - frame.loc[frame["date"] < newest, "date"].max())
    asked = [
        {"product_id": product, "date": str(following.date()), "day_of_week": following.day_name(), **more}
        for product in sorted(frame["product_id"].unique())
    ]
    status, answered = service.ask("/get_prices", {"requests": asked})
    assert status == 200
    why = {one["product_id"]: service.ask(f"/products/{one['product_id']}/elasticity")[1] for one in asked}
    return Talk(asked, answered["decisions"], service.ask("/model")[1], why)


def train_and_promote(person: Person, frame: pd.DataFrame, *, settings: dict[str, Any]) -> Path:
    """Trains quickly on sales and promotes what came out; returns the configuration file."""
    before = write(frame, person.folder / "sales.csv")
    config = person.folder / "my.yaml"
    quick = yaml.safe_load((ROOT / "config" / "small.yaml").read_text(encoding="utf-8"))
    config.write_text(yaml.safe_dump({**quick, **settings}), encoding="utf-8")
    person.pricing("train", "--sales", str(before), "--config", str(config))
    person.pricing("promote", "--config", str(config))
    return config


def check(walked: Walk) -> None:
    """Holds of every shop: a price for each product inside the guardrails, by model or held, and pages to look at."""
    last = walked.sales.sort_values("date").groupby("product_id")["price"].last()
    assert len(walked.told.answers) == len(walked.prices) == len(last)
    for asked, answer in zip(walked.told.asked, walked.told.answers, strict=True):
        stays = {"elasticity_unidentified", "low_confidence"} & set(answer["reasons"])
        assert answer["source"] == ("rule" if stays else "model"), answer
        assert 0.69 <= answer["recommended_price"] / last[asked["product_id"]] <= 1.36
    (trained,) = walked.person.client.search_runs(
        [one.experiment_id for one in walked.person.client.search_experiments()],
        filter_string="tags.`mlflow.runName` LIKE 'train%'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    kept = {one.path for one in walked.person.client.list_artifacts(trained.info.run_id)}
    assert kept >= PAGES
    assert (walked.person.home / "monitoring" / "latest" / "summary.html").is_file()
    assert "<html" in (walked.person.home / "monitoring" / "latest" / "drift.html").read_text(encoding="utf-8")[:200]


@pytest.fixture
def person(tmp_path: Path) -> Person:
    """A person in an empty folder."""
    return in_a_folder(tmp_path)


@pytest.fixture(scope="module")
def first_shop(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """The journey of a shop with the four needed columns."""
    return walk(in_a_folder(tmp_path_factory.mktemp("shops")), sales(products=9, periods=365, seed=1))


def test_a_shop_with_the_four_needed_columns_gets_prices(first_shop: Walk) -> None:
    check(first_shop)
    assert not first_shop.told.model["holds_only"]
    assert {one["grade"] for one in first_shop.told.why.values()} <= {"own_history", "category"}


def test_a_second_shop_has_a_model_of_its_own_and_prices_that_never_moved_stay_and_say_why(first_shop: Walk) -> None:
    person, before = first_shop.person, first_shop.person.champion()
    frame = sales(products=9, periods=365, seed=2, moves=False)
    frame["product_id"] = "B" + frame["product_id"]

    config = train_and_promote(person, frame, settings={"registry": {"model_name": "phones"}})
    person.pricing("price", "--config", str(config))
    with person.serving(f"{PRICING} serve --config {config}") as service:
        service.wait_for(person.champion("phones"))
        told = talk(service, frame, current_stock=None)

    assert person.champion() == before
    last = frame.groupby("product_id")["price"].last()
    assert told.model["holds_only"]
    assert [one["recommended_price"] for one in told.answers] == list(last)
    assert all("elasticity_unidentified" in one["reasons"] for one in told.answers)
    assert {one["grade"] for one in told.why.values()} == {"prior_only"}
    assert all(one["why"] for one in told.why.values())
    prices = pd.read_csv(person.home / "prices.csv").set_index("product_id")["recommended_price"]
    assert prices.to_dict() == last.to_dict()


@pytest.mark.weekly
def test_a_shop_that_knows_no_stock_is_priced_as_with_plenty(person: Person) -> None:
    frame = sales(products=9, periods=365, seed=3)
    frame["category"] = frame["product_id"].str[-1].isin(list("02468")).map({True: "even", False: "odd"})
    frame["unit_cost"] = (frame.groupby("product_id")["price"].transform("median") * 0.6).round(2)
    frame["comp_price"] = (frame["price"] * 1.02).round(2)

    walked = walk(person, frame)
    with person.serving(f"{PRICING} serve --config {walked.config}") as service:
        service.wait_for(person.champion())
        absent, null, plenty = (
            talk(service, frame, **more).answers[0]["recommended_price"]
            for more in ({}, {"current_stock": None}, {"current_stock": 1_000_000})
        )

    check(walked)
    assert absent == null == plenty


@pytest.mark.weekly
def test_a_weekly_shop_gets_prices(person: Person) -> None:
    walked = walk(person, sales(products=9, periods=80, seed=4, weekly=True), {"data": {"period": "week"}})

    check(walked)
    assert (walked.told.model["period"], walked.told.model["horizon"]) == ("week", 4)
