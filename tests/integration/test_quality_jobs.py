"""Sales that lie far from their past stop every job that would learn from them, and nothing in production changes."""

import datetime as dt
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run

from console.price_files import PriceFiles
from pipelines import etl, nightly, refresh
from pipelines.steps import sales as reading
from pricing.config import load_config
from pricing.data.findings import Finding, load_findings, quality_file
from pricing.objects import open_store
from pricing.registry.published_store import published_url
from tests.kit.mlflow_jobs import write_config
from tests.kit.panels import panel_frame
from tests.kit.registered_shop import Shop

READ, NOW = 150, 151


@pytest.fixture
def rows(shop: Shop) -> pd.DataFrame:
    """The shop's sales as rows, one day more than its champion has read."""
    shop.add(days=READ, alias="champion")
    return panel_frame(shop.panel(NOW))


def newest(frame: pd.DataFrame) -> "pd.Series[bool]":
    return frame["date"] == frame["date"].max()


def dear(frame: pd.DataFrame) -> pd.DataFrame:
    """The night on which all prices came 100 times too high."""
    return frame.assign(
        **{name: frame[name].where(~newest(frame), frame[name] * 100) for name in ("price", "list_price")}
    )


def write(frame: pd.DataFrame, path: str = "sales.csv") -> list[str]:
    frame.to_csv(path, index=False)
    return ["--sales", str(Path(path).resolve())]


def newest_run(job: str) -> Run:
    found = mlflow.search_runs(
        search_all_experiments=True, filter_string=f"tags.job = '{job}'", output_format="list", max_results=1
    )
    return found[0]


def names(found: list[Finding]) -> list[tuple[str, str]]:
    return [(one.check, one.level) for one in found if one.level != "note"]


def test_a_night_of_prices_a_hundredfold_leaves_the_champion_and_its_states_as_they_are(
    shop: Shop, rows: pd.DataFrame
) -> None:
    settings = ["--config", str(write_config(Path("mine.yaml").resolve(), auto_promote=True))]
    champion = shop.aliases

    code = nightly.main([*write(dear(rows)), *settings])

    assert code == 2
    assert shop.aliases == champion
    assert len(shop.registry.versions()) == 1
    beside = load_findings(quality_file("home/panel"))
    assert set(names(beside)) == {("price_unit", "stop")}
    assert beside[0].first == str(shop.panel(NOW).dates[-1])
    assert not Path("home/panel").exists()
    assert "price_unit" in Path("home/panel.etl_report.html").read_text(encoding="utf-8")
    for job in ("nightly", "etl"):
        run = newest_run(job)
        assert run.info.status == "FAILED"
        assert (run.data.tags["quality"], run.data.tags["quality_findings"]) == ("stop", "price_unit stop")
    logged = mlflow.artifacts.load_text(f"{newest_run('etl').info.artifact_uri}/quality.json")
    assert logged == quality_file("home/panel").read_text(encoding="utf-8")


def test_a_refresh_stops_and_registers_nothing(shop: Shop, rows: pd.DataFrame) -> None:
    assert refresh.main(write(rows.assign(product_id="N" + rows["product_id"]))) == 2
    assert refresh.main(write(dear(rows)[newest(rows)])) == 2

    assert len(shop.registry.versions()) == 1
    assert newest_run("refresh").data.tags["quality_findings"] == "price_unit stop"


def test_a_refresh_does_not_carry_states_over_rows_set_aside(shop: Shop, rows: pd.DataFrame) -> None:
    product = str(shop.whole.product_ids[3])
    spoilt = rows.assign(price=rows["price"].where(~(newest(rows) & (rows["product_id"] == product)), 9999.0))

    assert refresh.main(write(spoilt)) == 0

    version = shop.fetch("challenger")
    tail = version.learner.encoded.tail
    row = int(np.flatnonzero(tail.product_ids == product)[0])
    assert tail.present[:, -1].sum() == len(tail.product_ids) - 1
    assert not tail.present[row, -1]
    assert version.facts.price[row] == pytest.approx(shop.panel(READ).price[row, -1])
    aside = pd.read_csv("home/quarantine/bad_rows.csv")
    assert aside["product_id"].tolist() == [product]
    assert aside["row"].tolist() == [int(np.flatnonzero(spoilt["price"] == 9999.0)[0]) + 1]
    assert newest_run("refresh").data.tags["quality"] == "set_aside"


def newly_priced(frame: pd.DataFrame) -> pd.DataFrame:
    """The night on which each product has a price that it never had."""
    night = newest(frame)
    highest = frame.groupby("product_id")["price"].transform("max")[night]
    price = (highest * np.linspace(1.03, 1.17, len(highest))).round(2)
    return frame.assign(price=frame["price"].mask(night, price))


def test_new_prices_are_held_until_a_person_accepts_them_or_the_platform_gave_them(
    shop: Shop, rows: pd.DataFrame
) -> None:
    night = newly_priced(rows)
    last = str(rows["date"].max().date())
    accepting = write_config(Path("mine.yaml").resolve())
    with accepting.open("a") as file:
        file.write(f"data: {{quality: {{accept: {{new_prices: {last}}}}}}}")

    assert refresh.main(write(night)) == 2
    assert len(shop.registry.versions()) == 1
    assert newest_run("refresh").data.tags["quality_findings"] == "new_prices stop"

    assert refresh.main([*write(night), "--config", str(accepting)]) == 0
    priced = night[newest(night)].set_index("product_id")["price"]
    facts = shop.fetch("challenger").facts
    assert facts.price.tolist() == pytest.approx(priced[shop.whole.product_ids].tolist())
    assert newest_run("refresh").data.tags["quality"] == "note"


def test_prices_of_an_approved_price_file_are_no_surprise(shop: Shop, rows: pd.DataFrame) -> None:
    night = newly_priced(rows)
    given = night[newest(night)]
    lines = [
        {"product_id": product, "from": str(date.date()), "new": price, "status": "approved"}
        for product, date, price in zip(given["product_id"], given["date"], given["price"], strict=True)
    ]
    files = PriceFiles(open_store(published_url()), model=load_config().registry.model_name)
    files.write([{**line, "status": "proposed"} for line in lines], by="a", at=dt.datetime.now(dt.UTC), seen=1)

    assert refresh.main(write(night)) == 2
    files.write(lines, by="a", at=dt.datetime.now(dt.UTC), seen=1)
    assert refresh.main(write(night)) == 0


def test_a_row_set_aside_is_told_until_the_champion_has_read_the_days_after_it(
    shop: Shop, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = list[str]()
    monkeypatch.setattr(reading, "notice", lambda *found: told.extend(one.check for one in found))
    of_one = rows["product_id"] == str(shop.whole.product_ids[3])
    old = rows.assign(price=rows["price"].where(~(of_one & (rows["date"] == str(shop.whole.dates[READ - 10]))), 9999.0))

    assert etl.main([*write(old), "--quarantine", "bad"]) == 0
    beside = load_findings(quality_file("home/panel"))
    assert (names(beside), told) == ([("price_outlier", "set_aside")], [])

    new = old.assign(price=old["price"].where(~(of_one & newest(old)), 9999.0))
    assert etl.main([*write(new), "--quarantine", "bad"]) == 0
    assert told == ["price_outlier"]
