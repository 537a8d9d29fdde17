"""A training tells people's price changes from the platform's own by what the decision log gave."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from pipelines import train
from pricing.paths import log_url
from pricing.registry.version import LoadedVersion, load
from tests.kit.mlflow_jobs import JobFolder, place, write_config, write_sales
from tests.kit.monitoring_world import redecided, write_log
from tests.kit.panels import panel_frame
from tests.kit.registered_shop import Shop
from tests.unit.decision_log.test_write import entry

pytestmark = pytest.mark.slow
STILL, LIVE, OVERRIDE = 90, 100, 115  # days of the history: no price moves from here on, the platform's, a person's


def priced(frame: pd.DataFrame, product: str, *, first: int, times: float) -> float:
    """Multiplies a product's price from a day on; returns the new one."""
    day = pd.to_datetime(frame["date"])
    rows = (frame["product_id"] == product) & (day >= day.min() + pd.Timedelta(days=first))
    frame.loc[rows, "price"] = (times * frame.loc[rows, "price"]).round(2)
    return float(frame.loc[rows, "price"].iloc[0])


def version_of(here: JobFolder, number: str) -> LoadedVersion:
    source = here.client.get_model_version_download_uri("pricing", number)
    return load(Path(source.removeprefix("file://")) / "artifacts" / "version")


def test_an_override_teaches_and_the_platforms_own_prices_do_not(tmp_path: Path, empty_store: Path) -> None:
    here = place(tmp_path / "shop", template=empty_store)
    settings = ["--config", str(write_config(here.folder / "shop.yaml"))]
    frame = pd.read_csv(write_sales(here.folder / "all.csv"))
    day = pd.to_datetime(frame["date"])
    start = day.min()
    for _, rows in frame.groupby("product_id"):
        still = rows.index[day[rows.index] >= start + pd.Timedelta(days=STILL)]
        frame.loc[still, "price"] = frame.loc[still[0], "price"]
    overridden, followed, *held = sorted(frame["product_id"].unique())
    before = frame.groupby("product_id")["price"].last()
    given = {
        overridden: priced(frame, overridden, first=LIVE + 2, times=1.15),
        followed: priced(frame, followed, first=LIVE + 3, times=0.9),
        held[0]: round(0.85 * before[held[0]], 2),  # nobody charged it
    }
    priced(frame, overridden, first=OVERRIDE, times=0.8)
    made = []
    asked = [*((product, LIVE) for product in given), *((held[1], at) for at in range(LIVE, len(day.unique())))]
    for number, (product, at) in enumerate(asked, start=1):
        first = start.date() + dt.timedelta(days=at)
        decided = redecided(
            entry(number, at=dt.datetime.combine(first, dt.time(5), dt.UTC), product_id=product),
            date=first,
            current_price=float(before[product]),
            recommended_price=given.get(product, float(before[product])),
            reasons=[],
        )
        made.append(decided)
    write_log(here.home / "decisions", made)

    for name, rows in (("first", frame[day < start + pd.Timedelta(days=LIVE)]), ("second", frame)):
        rows.to_csv(here.folder / f"{name}.csv", index=False)
        done = here.run("train", "--sales", str(here.folder / f"{name}.csv"), *settings)
        assert done.returncode == 0, done.stdout + done.stderr
        done = here.run("promote", *settings, "--force", "true", "--reason", "to see what the next one learns")
        assert done.returncode == 0, done.stdout + done.stderr

    first, second = (version_of(here, number) for number in "12")
    more = second.learner.evidence.moves - first.learner.evidence.moves
    assert second.learner.product_ids.tolist() == [overridden, followed, *held]
    assert more.tolist() == [1, 0, *(0 for _ in held)]
    spans = second.own_prices
    assert spans.product_ids.tolist() == [overridden, followed]
    begun = start.to_datetime64().astype("datetime64[D]")
    assert (spans.first - begun).astype(int).tolist() == [LIVE + 2, LIVE + 3]
    assert (spans.last - begun).astype(int).tolist() == [OVERRIDE - 1, len(day.unique()) - 1]
    assert (spans.days == begun + np.arange(LIVE, len(day.unique()))).all()


def test_moves_of_every_day_of_the_newest_week_count(shop: Shop) -> None:
    frame = panel_frame(shop.panel(182 - 7))
    frame["date"] = frame["date"].dt.to_period("W").dt.start_time
    weekly = frame.drop_duplicates(["product_id", "date"])
    weekly.to_csv("weekly.csv", index=False)
    Path("weekly.yaml").write_text(yaml.safe_dump({"data": {"period": "week"}}))
    newest = weekly["date"].max().date()
    made = [
        redecided(entry(day), date=date, at=dt.datetime.combine(date, dt.time(4), dt.UTC), reasons=[])
        for day, date in enumerate(newest + dt.timedelta(days=each) for each in range(9))
    ]
    write_log(Path(log_url()), made)
    found: list[Any] = []

    def learn(*_: Any, moves: Any, **__: Any) -> tuple[str, str]:
        found.extend(moves.dates.tolist())
        return "1", "scores"

    assert train.main(["--sales", "weekly.csv", "--config", "weekly.yaml"], learn=learn) == 0

    assert sorted(found) == [newest + dt.timedelta(days=each) for each in range(7)]
