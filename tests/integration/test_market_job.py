"""The market job from the command line: table, plot and figures; and the platform's own code inside the market."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pipelines.market import OPTIONAL, Platform, main, price_requests, run_policies, standard_policies
from pricing.arrays import Floats
from pricing.config import Config, load_config
from pricing.data.panel import Panel
from pricing.decision.request import PriceRequest
from simulation.market import Market, MarketConfig, simulate
from simulation.rollforward import Requests, roll_forward
from tests.kit.true_elasticities import TrueElasticityDemand


def limited(**limits: float | None) -> Config:
    config = load_config()
    guardrails = config.decision.guardrails.model_copy(update=limits)
    return config.model_copy(update={"decision": config.decision.model_copy(update={"guardrails": guardrails})})


def test_the_job_prints_a_league_and_writes_table_and_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--products", "12", "--days", "150", "--ahead", "20", "--output", str(tmp_path)])

    assert code == 0
    printed = capsys.readouterr().out
    document = json.loads((tmp_path / "market.json").read_text())
    names = [row["policy"] for row in document["scores"]]
    assert set(names) == {
        "static",
        "match competitor",
        "cost-plus",
        "rules",
        "platform without a model",
        "oracle",
    }
    assert all(name in printed for name in names)
    assert document["market"]["products"] == 12
    assert all(row["refused"] == 0 for row in document["scores"])
    assert (tmp_path / "market.png").stat().st_size > 10_000


@pytest.fixture(scope="module")
def market() -> Market:
    return simulate(MarketConfig(products=12, days=150, future=40, seed=1))


def test_the_platform_learns_every_fortnight_and_only_from_recorded_rows(market: Market) -> None:
    last_days: list[np.datetime64] = []

    def learn(panel):  # type: ignore[no-untyped-def]
        last_days.append(panel.dates[-1])
        return TrueElasticityDemand(market, panel)

    platform = Platform(market, load_config(), learn)
    run = roll_forward(market, platform, days=30, refresh=platform.refresh, every=14)

    start = market.truth.dates[150]
    assert last_days == [start - 1, start + 13, start + 27]
    assert not run.refused.any()
    sources = {one.decision.source for one in platform.decisions}
    assert "model" in sources


def test_the_platform_prices_a_shop_that_lacks_any_optional_column(market: Market) -> None:
    seen: list[Panel] = []
    asked: list[PriceRequest] = []

    def recording(requests: Requests) -> Floats:
        asked.extend(price_requests(requests, withhold=OPTIONAL))
        return platform(requests)

    platform = Platform(market, load_config(), seen.append, withhold=OPTIONAL)
    roll_forward(market, recording, days=16, refresh=platform.refresh, every=14)

    assert {name for request in asked for name in request.model_fields_set} == {
        "product_id",
        "current_price",
        "day_of_week",
        "date",
    }
    for panel in seen:
        assert panel.cost_assumed.all()
        assert np.isnan(panel.stock).all()
        assert np.isnan(panel.comp_price).all()
        assert len(set(panel.categories)) == 1
    assert len(seen) == 2


def test_true_elasticities_earn_most_of_the_oracle_s_gain_through_the_code_that_serves() -> None:
    market = simulate(MarketConfig(products=40, days=400, future=60, seed=2))
    # The oracle prices beyond what was ever charged; who is measured against it may do so, too.
    entries = standard_policies(market, limited(seen=None))

    chosen = {name: entries[name] for name in ("static", "rules", "oracle")}
    chosen["true elasticities"] = Platform(market, limited(seen=None), partial(TrueElasticityDemand, market))
    profit = {name: run.profit.sum() for name, run in run_policies(market, chosen, ahead=60).items()}

    best = profit["oracle"] - profit["static"]
    assert best > 0
    assert (profit["true elasticities"] - profit["static"]) / best > 0.7
    assert profit["true elasticities"] > profit["rules"] > profit["static"]
