"""The example of a competitor's API in docs/data.md, asked of a real server."""

import datetime as dt
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml

from pricing.config import load_config
from pricing.data.manifest import read_rows
from pricing.sources.collect import collect
from tests.kit.competitor_server import offer, price_server
from tests.kit.data_page import block_of, whole

KEY = "a-key-nobody-else-has"


def test_an_api_of_the_reference_format_gives_the_competitors_price_from_today_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = dt.datetime.now(ZoneInfo("Europe/Berlin"))
    yesterday = now.date() - dt.timedelta(days=1)
    lines = f"1,{yesterday},tea,2,5\n2,{now.date()},tea,1,5\n3,{now.date()},jam,4,3\n"
    (tmp_path / "orders.csv").write_text(f"line_id,time,product_id,quantity,unit_price\n{lines}")
    monkeypatch.chdir(tmp_path)
    values = whole(block_of("Competitors' prices by API"))
    path = tmp_path / "my.yaml"

    with price_server() as server:
        server.key = KEY
        seen = (now - dt.timedelta(minutes=5)).isoformat()
        server.offers = [offer("tea", 4.5, observed_at=seen), offer("unheard of", 9.0, observed_at=seen)]
        values["sources"]["competitors"]["apis"]["price_watch"]["url"] = server.url
        path.write_text(yaml.safe_dump(values))
        for run, later in (("today", now), ("tomorrow", now + dt.timedelta(days=1))):  # by when today is over
            collect(
                load_config(path),
                folder=tmp_path / "store",
                run_id=run,
                now=later.astimezone(dt.UTC),
                environment={"PRICE_WATCH_KEY": KEY},
            )

    rows = read_rows(tmp_path / "store").set_index(["product_id", "date"]).sort_index()
    assert rows["comp_price"].dropna().to_dict() == {("tea", rows.index[-1][1]): 4.5}
    assert str(rows.index[-1][1].date()) == str(now.date())
    assert "unheard of" in (tmp_path / "store" / "competitors" / "unmatched.csv").read_text()
