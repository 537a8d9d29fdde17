"""`pricing experiment` plans, lists, stops and evaluates experiments, and refuses what cannot be learnt from."""

import datetime as dt
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.experiment import main
from pipelines.steps.price_tests import continue_tests
from pricing.config import read_config_file
from pricing.decision.experiments import Arm, Experiments
from pricing.decision.price_tests import outlook
from pricing.decision.request import PriceRequest
from pricing.decision_log.write import LogEntry, LogWriter
from tests.kit.control import read_control
from tests.kit.versions import loaded_version, shared_panel

TODAY, MONDAY = dt.date(2023, 7, 28), dt.date(2023, 7, 31)  # the version's states end on the 28th


@pytest.fixture
def home(tmp_path: Path, stocked_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRICING_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{stocked_store}")
    return tmp_path


def run(*words: str) -> int:
    return main(words, today=TODAY)


def known(home: Path) -> Experiments:
    return read_control(home).experiments


def test_a_holdout_is_planned_listed_and_stopped(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", "--name", "holdout", "--keep", "0.25") == 0
    (planned,) = known(home).every
    assert run("list") == 0
    listed = capsys.readouterr().out
    assert run("stop", "--name", "holdout") == 0

    assert (planned.start, planned.weeks, planned.arms) == (MONDAY, None, (Arm("keep", share=0.25),))
    assert 0 < len(planned.products) < 8
    assert listed.count(f"holdout: from {MONDAY} until it is stopped, to come; keep {len(planned.products)}") == 2
    assert known(home).holdout(MONDAY) is None


def test_arms_are_dealt_among_the_products_that_are_free(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", "--name", "holdout", "--keep", "0.25") == 0
    words = ("--rule", "0.3", "--strategy", "clearance:0.2,margin:0.2", "--challenger", "champion:0.2")
    assert run("plan", "--name", "spring", *words, "--weeks", "4") == 0

    holdout, spring = known(home).every
    assert not set(holdout.products) & set(spring.products)
    assert len(holdout.products) + len(spring.products) in (11, 12)
    assert [arm.name for arm in spring.arms] == ["rule", "strategy/clearance", "strategy/margin", "challenger/1"]
    assert f"{MONDAY} to 2023-08-27" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--draw", "1", "--weeks", "2", "--size", "0.001"], "can reach the grade tested by draws within 2 weeks"),
        (["--draw", "1"], "needs an end"),
        (["--draw", "1", "--size", "0.11", "--weeks", "9"], "at most 0.1"),
        (["--keep", "0.6", "--rule", "0.5"], "more than 1"),
        (["--keep", "0.1", "--start", "2023-08-02"], "expected a Monday"),
        (["--keep", "0.1", "--start", "2023-07-24"], "has passed"),
        (["--strategy", "greed:0.2"], "'greed' is none of"),
        (["--strategy", "clearance"], "expected NAME:SHARE"),
        (["--challenger", "9:0.2"], "9"),
        ([], "expected an arm"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    assert run("plan", "--name", "spring", *words) == 2

    assert expected in capsys.readouterr().err
    assert not known(home).every


def test_draws_are_planned_charged_and_evaluated(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A shop whose shoppers answer with an elasticity of −3 charges what was drawn for five weeks."""
    assert run("plan", "--name", "spring", "--draw", "0.6", "--rule", "0.4", "--weeks", "400") == 0
    said = capsys.readouterr().out
    assert "products can reach the grade tested within 400 weeks" in said
    assert "expected cost: " in said
    (one,) = known(home).every
    panel, pricer = shared_panel(), loaded_version().pricer(version="1")
    sales = pd.DataFrame(
        {"date": np.tile(panel.dates, 12), "product_id": np.repeat(panel.product_ids, len(panel.dates))}
    )
    sales = sales.assign(
        units_sold=panel.units_sold.ravel(), price=panel.price.ravel(), list_price=panel.list_price.ravel(),
        unit_cost=panel.unit_cost.ravel(), category=np.repeat(panel.categories, len(panel.dates)),
    )  # fmt: skip
    sales, log, rows = sales[sales["units_sold"].notna()], LogWriter(home / "segments", url=str(home / "decisions")), []
    usual, mean = sales.groupby("product_id").last(), sales.groupby("product_id")["units_sold"].mean()
    for day in (MONDAY + dt.timedelta(days=day) for day in range(35)):
        for product, last in usual.iterrows():
            asked = PriceRequest(
                product_id=str(product), current_stock=1e6, day_of_week=f"{day:%A}", date=day,
                current_price=last["price"], list_price=last["list_price"],
            )  # fmt: skip
            (answer,) = pricer.price_detailed([asked], today=day, experiments=known(home))
            log.append([LogEntry(asked, answer, dt.datetime.combine(day, dt.time(5), dt.UTC))])
            price = answer.decision.recommended_price
            units = mean[product] * (price / last["price"]) ** -3.0
            rows.append({**last, "date": day, "product_id": product, "price": price, "units_sold": units})
    log.close()
    sales = pd.concat([sales, pd.DataFrame(rows)], ignore_index=True)
    sales["date"] = pd.to_datetime(sales["date"])
    sales.to_parquet(home / "sales.parquet")

    assert run("results", "--name", "spring", "--sales", str(home / "sales.parquet")) == 0

    page = capsys.readouterr().out
    assert "| draw | 0.6 |" in page
    value = float(page.split("by the draws alone: ")[1].split()[0])
    assert value == pytest.approx(-3.0, abs=0.2)
    assert f"Periods used: {35 * len(one.prices)}; left out" in page


def test_the_forecast_of_draws_is_that_of_the_versions_demand() -> None:
    """By a slow sum over draws and elasticities, and weeks that halve the prior variance of log |e|."""
    version, arm = loaded_version(), Arm("draw", share=1.0, size=0.05)
    demand, known = version.demand, version.facts
    products = known.product_ids[:3].tolist()

    found = outlook(demand, known, products, arm)

    rng, usual, tried = np.random.default_rng(0), 0.0, 0.0
    sd = demand.elasticity_sd * np.abs(demand.elasticity)
    for row in range(3):
        for draw in (-math.log(1.05), 0.0, math.log(1.05)):
            sold = np.exp(rng.normal(demand.elasticity[row], sd[row], 20_000) * draw).mean()
            profit = known.price[row] * np.exp(draw) / (1 + np.nan_to_num(known.tax_rate[row])) - known.unit_cost[row]
            tried += known.typical_units[row] * sold * profit / 3
            usual += known.typical_units[row] * profit * (draw == 0)
    assert found.cost == pytest.approx(1 - tried / usual, abs=2e-4)
    assert 0 < found.shop < found.cost
    units = 7 * known.typical_units[:3]
    noise = (units * demand.unit[:3] + units**2 / (7 * demand.size[:3])) / units**2
    weeks = noise / (0.8**2 * demand.elasticity[:3] ** 2 * (2 / 3 * math.log(1.05) ** 2))
    assert found.weeks == pytest.approx(np.maximum(weeks, 8))


def test_price_tests_on_offer_begin_and_are_carried_on_until_somebody_stops_them(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = home / "pricing.yaml"  # no product is on its way to a price far off
    config.write_text("decision: {guardrails: {max_move: null}}\n", encoding="utf-8")
    given = ("--config", str(config))

    assert run("suggest", *given) == 0
    offered = capsys.readouterr().out
    assert run("suggest", *given, "--start", "true") == 0
    (begun,) = known(home).every
    file = read_config_file(str(config))
    again = continue_tests(file, today=begun.start - dt.timedelta(days=1))  # the night before they begin
    during = continue_tests(file, today=begun.start + dt.timedelta(days=1))
    after = continue_tests(file, today=begun.end)
    (second,) = known(home).every
    assert run("stop", "--name", "tests", *given) == 0
    stopped = continue_tests(file, today=second.end)

    assert f"{len(begun.products):,} products, prices ±" in offered
    assert (begun.start, begun.weeks) == (MONDAY, 1)
    assert f"{len(begun.products):,} products" in again
    assert (during, stopped) == ("", "")
    assert f"{len(second.products):,} products" in after
    assert (second.start, second.weeks) == (MONDAY, 2)
