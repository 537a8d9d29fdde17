"""Shops that the platform has never seen, from their sales to a price and what became of it, by the commands alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.journeys.person import PRICING, ROOT, Person, in_a_folder
from tests.journeys.shops import sales, write

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PAGES = {"model_card.md", "plots", "sensitivity"}


@dataclass(frozen=True)
class Walk:
    """What a whole journey left behind.

    Attributes:
        person: Whose journey.
        config: Her configuration file.
        asked: The requests that she sent, one per product.
        answers: Their answers.
        prices: The table that `pricing price` wrote.
        model: What the service said of its version.
        why: Product → what the service said of its elasticity.
    """

    person: Person
    config: Path
    asked: list[dict[str, Any]]
    answers: list[dict[str, Any]]
    prices: pd.DataFrame
    model: dict[str, Any]
    why: dict[str, dict[str, Any]]


def walk(person: Person, frame: pd.DataFrame, *, settings: dict[str, Any], asks: dict[str, Any]) -> Walk:
    """Goes the whole way: train, promote, serve, price, then with newer sales refresh, promote and monitor.

    Args:
        person: Who goes.
        frame: Her sales; the last two weeks (or weekly rows) come after the first promotion.
        settings: Of her configuration, beside those of a quick training.
        asks: What her requests say beside the product and the day.
    """
    days = sorted(frame["date"].unique())
    cut = days[-3] if settings.get("data", {}).get("period") == "week" else days[-15]
    config = train_and_promote(person, frame[frame["date"] <= cut], settings=settings)
    told = ("--config", str(config))
    first = person.champion()
    following = pd.Timestamp(days[days.index(cut) + 1])
    asked = [
        {"product_id": product, "date": str(following.date()), "day_of_week": following.day_name(), **asks}
        for product in sorted(frame["product_id"].unique())
    ]
    with person.serving(f"{PRICING} serve --config {config}") as service:
        service.wait_for(first)
        status, answered = service.ask("/get_prices", {"requests": asked})
        assert status == 200
        model = service.ask("/model")[1]
        why = {one["product_id"]: service.ask(f"/products/{one['product_id']}/elasticity")[1] for one in asked}
        assert service.ask("/get_price", {"product_id": "a typo", "day_of_week": "Friday"})[0] == 404
        person.pricing("price", *told)
        newer = write(frame, person.folder / "newer.csv")
        person.pricing("refresh", "--sales", str(newer), *told)
        person.pricing("promote", *told)
        second = person.champion()
        assert second != first
        service.wait_for(second)
    person.pricing("monitor", "--sales", str(newer), *told)

    return Walk(
        person=person,
        config=config,
        asked=asked,
        answers=answered["decisions"],
        prices=pd.read_csv(person.home / "prices.csv"),
        model=model,
        why=why,
    )


def train_and_promote(person: Person, frame: pd.DataFrame, *, settings: dict[str, Any]) -> Path:
    """Trains quickly on sales and promotes what came out; returns the configuration file."""
    before = write(frame, person.folder / "sales.csv")
    config = person.folder / "my.yaml"
    quick = yaml.safe_load((ROOT / "config" / "small.yaml").read_text(encoding="utf-8"))
    config.write_text(yaml.safe_dump({**quick, **settings}), encoding="utf-8")
    person.pricing("train", "--sales", str(before), "--config", str(config))
    person.pricing("promote", "--config", str(config))
    return config


def check(walked: Walk, frame: pd.DataFrame) -> None:
    """Holds of every shop: a price for each product inside the guardrails, by model or held, and pages to look at."""
    last = frame.sort_values("date").groupby("product_id")["price"].last()
    assert len(walked.answers) == len(walked.prices) == len(last)
    for asked, answer in zip(walked.asked, walked.answers, strict=True):
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


def test_a_shop_with_the_four_needed_columns_gets_prices_and_a_second_one_a_registered_model_of_its_own(
    person: Person,
) -> None:
    frame, second = sales(products=9, periods=365, seed=1), sales(products=6, periods=250, seed=6)
    second["product_id"] = "B" + second["product_id"]

    walked = walk(person, frame, settings={}, asks={})
    check(walked, frame)
    before = person.champion()
    config = train_and_promote(person, second, settings={"registry": {"model_name": "phones", "plots": False}})
    with person.serving(f"{PRICING} serve --config {config}") as service:
        service.wait_for(person.champion("phones"))
        served = {one["product_id"] for one in service.ask("/products")[1]["products"]}

    assert not walked.model["holds_only"]
    assert {one["grade"] for one in walked.why.values()} <= {"own_history", "category"}
    assert person.champion() == before
    assert served == set(second["product_id"])


def test_prices_that_never_moved_stay_and_every_product_says_why(person: Person) -> None:
    frame = sales(products=9, periods=365, seed=2, moves=False)

    walked = walk(person, frame, settings={}, asks={"current_stock": None})

    check(walked, frame)
    last = frame.groupby("product_id")["price"].last()
    assert walked.model["holds_only"]
    assert [one["recommended_price"] for one in walked.answers] == [last[one["product_id"]] for one in walked.asked]
    assert all("elasticity_unidentified" in one["reasons"] for one in walked.answers)
    assert {one["grade"] for one in walked.why.values()} == {"prior_only"}
    assert all(one["why"] for one in walked.why.values())


@pytest.mark.weekly
def test_a_shop_that_knows_no_stock_is_priced_as_with_plenty(person: Person) -> None:
    frame = sales(products=9, periods=365, seed=3)
    frame["category"] = frame["product_id"].str[-1].isin(list("02468")).map({True: "even", False: "odd"})
    frame["unit_cost"] = (frame.groupby("product_id")["price"].transform("median") * 0.6).round(2)
    frame["comp_price"] = (frame["price"] * 1.02).round(2)

    walked = walk(person, frame, settings={}, asks={})
    with person.serving(f"{PRICING} serve --config {walked.config}") as service:
        service.wait_for(person.champion())
        known = {**walked.asked[0], "date": str(frame["date"].max().date() + pd.Timedelta(days=1))}
        del known["day_of_week"]
        absent, null, plenty = (
            service.ask(
                "/get_price?dry_run=true", {**known, "day_of_week": pd.Timestamp(known["date"]).day_name(), **more}
            )[1]
            for more in ({}, {"current_stock": None}, {"current_stock": 1_000_000})
        )

    check(walked, frame)
    assert absent["recommended_price"] == null["recommended_price"] == plenty["recommended_price"]


@pytest.mark.weekly
def test_a_weekly_shop_gets_prices(person: Person) -> None:
    frame = sales(products=9, periods=80, seed=4, weekly=True)

    walked = walk(person, frame, settings={"data": {"period": "week"}}, asks={})

    check(walked, frame)
    assert (walked.model["period"], walked.model["horizon"]) == ("week", 4)
