"""Demand that falls in the simulated market, and nobody there: what the platform notices, does and says."""

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from monitoring.__main__ import main as monitor
from pipelines import promote, refresh, train
from pipelines.market import price_requests
from pricing.arrays import Floats
from pricing.config import Config, load_config
from pricing.data.build import build_panel
from pricing.data.panel import Panel
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import carry_facts
from pricing.decision_log.write import LogEntry, LogWriter
from pricing.demand import evaluation
from pricing.demand.backtest import evaluate
from pricing.demand.folds import Fold
from pricing.registry.mlflow_registry import Registry
from pricing.registry.version import LoadedVersion, load
from simulation.market import MarketConfig, simulate
from simulation.rollforward import Requests, roll_forward
from tests.kit.mlflow_jobs import TINY, enter
from tests.kit.price_api import PriceApi, price_api

pytestmark = pytest.mark.filterwarnings("ignore")

QUICK = {
    "folds": 1,
    "horizon": 14,
    "step": 14,
    "min_history": 84,
    "context": 40,
    "units": 8,
    "steps": 40,
    "demand_steps": 10,
    "price_steps": 5,
    "rounds": 1,
}
DAYS, NIGHTS, AFTER = 126, 18, 10
FALL = DAYS + 2  # first day of it
RECENT = np.timedelta64(70, "D")  # enough for the states' tail


class Shop:
    """A version as a policy of the market: prices each morning and logs, carries its states forward each night."""

    def __init__(self, history: pd.DataFrame, config: Config, version: LoadedVersion) -> None:
        self._sales, self._config = history, config
        self._learner, self._facts = version.learner, version.whole_facts()
        self.entries: list[LogEntry] = []
        self.nights: list[pd.DataFrame] = []

    def __call__(self, requests: Requests) -> Floats:
        today: dt.date = requests.date.astype("datetime64[D]").item()
        at = dt.datetime.combine(today, dt.time(6), tzinfo=dt.UTC)
        asked = price_requests(requests)
        detailed = Pricer(self._learner.table(), self._facts, self._config, version="1").price_detailed(
            asked, today=today
        )
        self.entries += [LogEntry(one, a, at) for one, a in zip(asked, detailed, strict=True)]
        return np.array([one.decision.recommended_price for one in detailed])

    def night(self, rows: pd.DataFrame) -> None:
        self.nights.append(rows)
        self._sales = pd.concat([self._sales, rows], ignore_index=True)
        recent = build_panel(self._sales[self._sales["date"] > self._sales["date"].max() - RECENT], self._config.data)
        self._facts = carry_facts(self._facts, recent, recent, kept=recent, whole=False)
        self._learner = self._learner.refresh(recent)


@pytest.fixture
def home(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    enter(tmp_path, monkeypatch, template=empty_store)
    MlflowClient().create_experiment("pricing", (tmp_path / "artifacts").as_uri())
    return tmp_path


@pytest.fixture
def post() -> Iterator[PriceApi]:
    with price_api({}) as webhook:
        yield webhook


def settings(home: Path, *, webhook: str) -> str:
    monitoring = {"trigger": "local", "alerts": ["webhook"], "endpoints": {"webhook_url": webhook}, "min_rows": 50}
    registry = {**TINY["registry"], "auto_promote": True, "plots": False}
    path = home / "config.yaml"
    path.write_text(yaml.safe_dump({"demand": QUICK, "monitoring": monitoring, "registry": registry}))
    return str(path)


def wape(version: LoadedVersion, *, known: Panel, panel: Panel) -> float:
    """Error over the days after `known`, by the code that backtests."""
    fold = Fold(known.dates[-1], known.dates[-1] + 1, panel.dates[-1])
    return float(evaluation.figures(evaluate(version.learner, past=known, panel=panel, fold=fold))["wape_mean"])


@pytest.mark.slow
@pytest.mark.weekly
def test_a_fall_of_demand_by_60_percent_leads_unattended_to_a_better_champion_and_an_alert(
    home: Path, post: PriceApi
) -> None:
    days = NIGHTS + AFTER + 1
    market = simulate(MarketConfig(products=14, days=DAYS, future=days, seed=1, unseen=0.0, categories=2))
    market.truth.level[FALL:] += np.log(0.4)
    config = settings(home, webhook=post.url)
    history_file, sales = str(home / "history.parquet"), str(home / "sales.parquet")
    market.frame().to_parquet(history_file)
    assert train.main(["--sales", history_file, "--config", config]) == 0
    assert promote.main(["--config", config]) == 0
    registry = Registry("pricing", uri=mlflow.get_tracking_uri())
    first = load(registry.download("1", home / "first" / "version"))
    shop = Shop(market.frame(), load_config(config), first)
    roll_forward(market, shop, days=days, refresh=shop.night, every=1, max_move=None)  # moves are the shop's own affair
    frame = pd.concat([market.frame(), *shop.nights[:NIGHTS]], ignore_index=True)
    frame.to_parquet(sales)
    until = frame["date"].max().date()
    writer = LogWriter(home / "home" / "segments", url=str(home / "home" / "decisions"))
    writer.append([entry for entry in shop.entries if entry.answer.date <= until])
    writer.close()
    assert refresh.main(["--sales", sales, "--config", config]) == 0  # as every night
    assert promote.main(["--config", config]) == 0
    assert registry.aliases()["champion"] == "2"

    assert monitor(["--sales", sales, "--config", config]) == 0

    outcome = json.loads((home / "home" / "monitoring" / "latest" / "outcome.json").read_text())["outcome"]
    assert (outcome["action"], outcome["cause"]) == ("retrain", "decay")
    aliases = registry.aliases()
    assert (aliases["champion"], aliases["previous"]) == ("3", "2")
    (alert,) = post.bodies
    assert alert["done"] == "a retrain was started and ended well; version 3 is the champion now, it was 2"
    assert (alert["what"], alert["key"]) == (outcome["reason"], "decay-retrain")
    assert "too high" in alert["how_bad"]
    assert abs(np.datetime64(alert["since"], "D") - market.truth.dates[FALL]) <= np.timedelta64(7, "D")
    (job,) = _runs("retrain")
    assert (job.data.tags["reason"], job.data.tags["verdict"]) == (outcome["reason"], "promoted")
    data = load_config(config).data
    known = build_panel(frame, data)
    panel = build_panel(pd.concat([frame, *shop.nights[NIGHTS:]], ignore_index=True), data)
    before, after = (
        wape(load(registry.download(number, home / number / "version")), known=known, panel=panel)
        for number in ("2", "3")
    )
    assert after < 0.9 * before

    assert monitor(["--sales", sales, "--config", config]) == 0  # the next run knows what this one did

    report = json.loads((home / "home" / "monitoring" / "latest" / "outcome.json").read_text())
    assert report["outcome"]["action"] == "none"
    assert "decayed is unknown" in report["explanation"]  # the new champion has decided nothing yet
    assert len(_runs("retrain")) == 1


def _runs(job: str) -> list[mlflow.entities.Run]:
    client = MlflowClient()
    experiment = client.get_experiment_by_name("pricing")
    return client.search_runs([experiment.experiment_id], filter_string=f"tags.job = '{job}'")
