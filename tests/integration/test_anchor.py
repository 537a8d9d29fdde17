"""Anchors from the first promotion on: every job inherits them, and only the audited command moves one."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from pipelines import anchor, etl, promote, refresh, rollback, train
from pipelines.steps.production import in_force
from pricing.config import load_config
from pricing.data.anchors import Anchors
from pricing.data.build import build_panel
from pricing.data.own_prices import OwnSpans
from pricing.data.panel import Panel
from pricing.errors import EXIT_REFUSED
from pricing.registry.mlflow_registry import Registry
from pricing.registry.version import FORMAT, read_own_prices
from tests.kit.panels import panel_frame
from tests.kit.registered_shop import Shop
from tests.unit.registry.test_version import rewrite

MOVE = ["--product_id", "P00001", "--list_price", "9.99", "--reason", "inflation", "--force", "true"]
NEEDED = ["date", "product_id", "units_sold", "price"]


def needed(shop: Shop, days: int, *, since: int, times: float = 1.0) -> pd.DataFrame:
    """The needed columns alone, with prices `times` as high from the day `since` on."""
    frame = panel_frame(shop.panel(days))[NEEDED]
    live = frame["date"] >= shop.whole.dates[since]
    return frame.assign(price=np.where(live, times * frame["price"], frame["price"]))


def written(shop: Shop, frame: pd.DataFrame) -> str:
    path = shop.folder / f"sales-{len(list(shop.folder.iterdir()))}.csv"
    frame.to_csv(path, index=False)
    return str(path)


def crowned(shop: Shop) -> Anchors:
    """A champion that was trained on the needed columns of so many days; its anchors."""
    panel = build_panel(needed(shop, 150, since=149), load_config().data)
    shop.add(panel=panel, anchors=Anchors.from_panel(panel))
    shop.promote()
    return shop.fetch("champion").anchors


class Training:
    """Stands in for the training itself: keeps what it was given."""

    panel: Panel
    anchors: Anchors
    own_prices: OwnSpans

    def __call__(
        self, panel: Panel, config: Any, *, anchors: Anchors, own_prices: OwnSpans, **_: Any
    ) -> tuple[str, str]:
        self.panel = panel
        self.anchors = anchors
        self.own_prices = own_prices
        return "1", "scores"


@pytest.fixture
def training() -> Training:
    return Training()


@pytest.mark.parametrize("alias", ["champion", "previous"])
def test_a_training_inherits_the_anchors_of_the_first_promotion(shop: Shop, training: Training, alias: str) -> None:
    anchors = crowned(shop)
    if alias == "previous":
        shop.registry.set_alias("previous", "1")
        shop.registry.remove_alias("champion")

    assert train.main(["--sales", written(shop, needed(shop, 180, since=150, times=1.4))], learn=training) == 0

    ids = training.panel.product_ids
    assert training.anchors.since == anchors.since == shop.whole.dates[150]
    assert training.anchors.differing(anchors) == []
    known = np.isfinite(anchors.columns(ids)["list_price"])
    assert_array_equal(training.panel.list_price[known, -1], anchors.columns(ids)["list_price"][known])
    assert_allclose(training.panel.unit_cost[known, -1], 0.65 * training.panel.list_price[known, -1], rtol=1e-6)


@pytest.mark.parametrize("first", [0, 150], ids=["the whole history", "new rows alone"])
def test_a_refresh_inherits_anchors_and_adds_products_launched_since(shop: Shop, first: int) -> None:
    anchors = crowned(shop)
    frame = needed(shop, 165, since=150, times=1.4)
    new = frame[frame["date"] >= shop.whole.dates[155]].query("product_id == 'P00001'").assign(product_id="new")
    new["price"] = np.linspace(3.0, 30.0, len(new))
    rows = pd.concat([frame, new])

    assert refresh.main(["--sales", written(shop, rows[rows["date"] >= shop.whole.dates[first]])]) == 0

    version = shop.fetch("challenger")
    facts = version.facts
    ids = anchors.product_ids
    at = np.searchsorted(facts.product_ids, ids)
    assert version.anchors.differing(anchors) == []
    assert_allclose(facts.list_price[at], anchors.columns(ids)["list_price"], rtol=1e-6)
    assert_allclose(facts.unit_cost[at], 0.65 * facts.list_price[at], rtol=1e-6)
    assert_allclose(facts.seen_high[at], anchors.columns(ids)["seen_high"], rtol=1e-6)
    (row,) = np.flatnonzero(facts.product_ids == "new")
    assert (facts.anchor_price[row], facts.list_price[row], facts.seen_high[row]) == (3.0, 3.0, 3.0)
    assert (facts.price[row], facts.categories[row]) == (30.0, facts.categories[0])
    assert list(version.demand.product_ids) == list(facts.product_ids)
    assert version.meta["checks"]["parity"] < 1e-5
    shop.promote()


def test_a_person_moves_an_anchor_and_the_record_says_why(shop: Shop) -> None:
    before = crowned(shop)
    product, old = str(before.product_ids[0]), float(before.list_price[0])

    assert (
        anchor.main(["--product_id", product, "--list_price", "9.99", "--reason", "inflation", "--force", "true"]) == 0
    )

    champion, entry = shop.fetch("champion"), shop.last
    assert shop.registry.find("champion").number == "2"
    assert champion.weights_hash == shop.fetch("1").weights_hash
    assert (entry.action, entry.who, entry.from_version, entry.to_version) == ("anchor", "ann", "1", "2")
    assert entry.why == f"inflation: {product} {old:g} → 9.99"
    row = int(np.flatnonzero(champion.facts.product_ids == product)[0])
    assert champion.facts.list_price[row] == champion.facts.anchor_price[row] == 9.99
    assert champion.facts.unit_cost[row] == pytest.approx(0.65 * 9.99, rel=1e-6)
    assert champion.demand.list_price[row] == np.float32(9.99)
    others = np.arange(len(champion.facts.product_ids)) != row
    assert_array_equal(champion.facts.list_price[others], shop.fetch("1").facts.list_price[others])
    champion.verify()


def test_a_moved_anchor_holds_from_the_next_day_on_and_outlives_refresh_and_training(
    shop: Shop, training: Training
) -> None:
    before = crowned(shop)
    product = str(before.product_ids[0])
    anchor.main(["--product_id", product, "--list_price", "9.99", "--reason", "inflation", "--force", "true"])
    sales = written(shop, needed(shop, 160, since=150, times=1.4))

    assert refresh.main(["--sales", sales]) == 0
    shop.promote()
    assert train.main(["--sales", sales], learn=training) == 0

    champion = shop.fetch("champion")
    assert champion.meta["checks"]["parity"] < 1e-5
    assert champion.facts.list_price[0] == 9.99
    assert training.panel.list_price[0, 149] == before.list_price[0]
    assert (training.panel.list_price[0, 150:] == np.float32(9.99)).all()


def test_a_file_moves_many_anchors_at_once(shop: Shop) -> None:
    before = crowned(shop)
    wished = pd.DataFrame({"product_id": before.product_ids, "list_price": 1.05 * before.list_price})
    wished.to_csv("wished.csv", index=False)

    assert anchor.main(["--file", "wished.csv", "--reason", "inflation"]) == 0

    assert_allclose(shop.fetch("champion").facts.anchor_price, 1.05 * before.list_price, rtol=1e-5)
    assert " more" in shop.last.why


@pytest.mark.parametrize(
    "words",
    [
        "--product_id P00001x --list_price 5 --reason x",
        "--product_id P00001 --list_price 0 --reason x",
        "--product_id P00001 --list_price 500 --reason x",  # far away, and not forced
        "--product_id P00001 --list_price 5",
        "--file a.csv --product_id P00001 --reason x",
        "--file twice.csv --reason x",
        "--file column.csv --reason x",
    ],
)
def test_what_cannot_be_moved_is_refused(shop: Shop, words: str) -> None:
    crowned(shop)
    Path("twice.csv").write_text("product_id,list_price\nP00001,1\nP00001,2\n")
    Path("column.csv").write_text("product_id,price\nP00001,1\n")

    assert anchor.main(words.split()) == 2

    assert shop.champion == "1"


def test_a_rollback_keeps_the_anchors_in_force(shop: Shop) -> None:
    first = shop.crown()
    shop.crown(seed=2)
    anchor.main(MOVE)
    in_force = shop.fetch("champion").anchors

    assert rollback.main([]) == 0

    champion = shop.fetch("champion")
    assert champion.weights_hash == shop.fetch(first).weights_hash
    assert champion.anchors.differing(in_force) == []
    assert champion.facts.anchor_price[0] == 9.99


def test_a_challenger_that_was_trained_before_an_anchor_moved_is_refused_until_it_is_refreshed(shop: Shop) -> None:
    shop.crown()
    waiting = shop.add(seed=2)
    anchor.main(MOVE)

    assert promote.main(["--version", waiting]) == EXIT_REFUSED
    refused = shop.last
    assert refresh.main(["--version", waiting, "--sales", shop.sales(150)]) == 0
    shop.promote()

    assert [gate["name"] for gate in refused.gates if not gate["passed"]] == ["anchors"]
    champion = shop.fetch("champion")
    assert champion.weights_hash == shop.fetch(waiting).weights_hash
    assert champion.facts.anchor_price[0] == 9.99


def test_anchors_are_found_although_the_champions_files_are_gone(shop: Shop) -> None:
    shop.crown()
    shop.crown(seed=2)
    anchors = shop.fetch("champion").anchors
    where = shop.registry._client.get_model_version_download_uri("pricing", "2")
    gone = list(Path(where.removeprefix("file://")).rglob("anchors/*.npy"))
    for path in gone:
        path.unlink()

    found = in_force(load_config())

    assert gone
    assert found.anchors is not None
    assert found.anchors.differing(anchors) == []
    assert found.past is None


def test_marks_of_own_prices_outlive_refreshes_moved_anchors_and_the_format(shop: Shop, training: Training) -> None:
    days = shop.whole.dates[100:150]
    spans = OwnSpans(shop.whole.product_ids[:2], first=days[[0, 5]], last=days[[9, 9]], days=days)
    panel = build_panel(needed(shop, 150, since=149), load_config().data)
    shop.add(panel=panel, anchors=Anchors.from_panel(panel.through(days[0] - 1)).extended(panel), own_prices=spans)
    assert promote.main([]) == 0
    anchor.main(["--product_id", "P00001", "--list_price", "9.99", "--reason", "inflation", "--force", "true"])
    sales = written(shop, needed(shop, 160, since=150, times=1.4))
    assert refresh.main(["--sales", sales]) == 0
    assert promote.main([]) == 0

    assert train.main(["--sales", sales], learn=training) == 0
    champion = shop.fetch("champion")
    rewrite(champion.folder, format=FORMAT - 1)

    assert shop.registry.find("champion").number == "3"
    for found in (champion.own_prices, training.own_prices, read_own_prices(champion.folder)):
        for name, values in vars(spans).items():
            assert_array_equal(getattr(found, name), values)


def test_anchors_and_past_are_read_from_one_copy_of_the_champion(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.crown()
    champion, fetched, download = shop.fetch("champion"), [], Registry.download

    def noted(registry: Registry, number: str, folder: Path) -> Path:
        fetched.append(number)
        return download(registry, number, folder)

    monkeypatch.setattr(Registry, "download", noted)

    assert etl.main(["--sales", shop.sales(150)]) == 0
    found = in_force(load_config())

    assert fetched == ["1", "1"]
    assert found.anchors is not None
    assert found.past is not None
    assert found.anchors.differing(champion.anchors) == []
    assert_array_equal(found.past.price, champion.learner.encoded.tail.price)
