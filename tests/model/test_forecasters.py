"""What the forecasters beside the network say: the same in training and in a version, and after every refresh."""

import datetime as dt
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from pricing.config import load_config
from pricing.config_models import DemandConfig
from pricing.data.build import build_panel
from pricing.data.panel import Panel
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision.request import Decision, PriceRequest
from pricing.demand import trees
from pricing.demand.backtest import backtest
from pricing.demand.batches import build_table
from pricing.demand.direct import direct_forecast
from pricing.demand.ensemble import FORECASTERS
from pricing.demand.model import DemandModel
from pricing.demand.state import encode_panel, span
from pricing.demand.training import Trained, fit, train
from simulation.config import MarketConfig
from simulation.market import simulate
from tests.kit.mlflow_jobs import TINY


def tiny(**changes: object) -> DemandConfig:
    settings = {**TINY["demand"], "booster_rows": 4000, **changes}
    return load_config().demand.model_copy(update=settings)


@cache
def panel(scale: float = 1.0) -> Panel:
    frame = simulate(MarketConfig(products=12, days=150, seed=3)).frame()
    frame["units_sold"] *= scale
    frame["stock"] *= scale
    return build_panel(frame, load_config().data)


@cache
def trained() -> Trained:
    return fit(span(panel(), 0, 140), tiny())


def test_trees_read_of_a_version_what_they_read_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    model, past = trained().model, span(panel(), 0, 140)
    served: dict[str, np.ndarray] = {}
    features = trees.tree_features
    monkeypatch.setattr(trees, "tree_features", lambda **read: served.update(read) or features(**read))
    model.levels()
    table = build_table(past, norms=model.norms, category=model.category)
    rows, steps = np.divmod(np.arange(12 * model.horizon), model.horizon)

    profile = table.past.profile[rows, 139, (table.weekday[139] + steps + 1) % 7]
    restated = np.where((table.seen > 0) & (table.censored == 0), table.restated, np.nan)
    np.testing.assert_allclose(served["recent"], restated[rows, -28:], rtol=1e-5)
    np.testing.assert_allclose(served["level"], table.past.level[rows, 139], rtol=1e-6)
    slow = np.column_stack([table.past.summary[rows, 139], profile, np.zeros((len(rows), 2))])
    np.testing.assert_allclose(served["slow"], slow, rtol=1e-6)
    np.testing.assert_array_equal(served["step"], steps + 1)


def test_the_trees_level_leaves_out_what_promotions_draw_beyond_their_estimated_lift() -> None:
    past, like = span(panel(), 0, 140), trained().model
    advertised = np.random.default_rng(1).random(past.price.shape) < 0.25
    steady = replace(
        past,
        units_sold=np.where(past.present, np.where(advertised, 60.0, 20.0), np.nan).astype(np.float32),
        price=np.full_like(past.price, 10.0),
        stock=np.full_like(past.stock, np.nan),
        is_promo=advertised.astype(np.float32),
    )
    ones = np.ones(12, np.float32)
    norms = replace(like.norms, usual_price=10.0 * ones, unit=ones, promotion=0.0 * ones, lifts=None)
    table = build_table(steady, norms=norms, category=like.category)
    text = trees.train_trees(table, period="day", horizon=like.horizon, reach=28, rows=20_000, seed=1)
    encoded = encode_panel(like.weights, steady, norms=norms, tail=28)
    combination = replace(like.combination, booster=np.frombuffer(text, np.uint8))

    path = replace(like, norms=norms, encoded=encoded, combination=combination).levels().paths
    level = table.past.level[:, -1] + path[FORECASTERS.index("booster")].mean(axis=1)

    np.testing.assert_allclose(level, np.log(20.0), atol=0.1)


def test_a_refreshed_version_has_the_levels_of_one_encoded_from_scratch() -> None:
    model = trained().model

    carried = model.refresh(span(panel(), 120, 150))
    anew = model.refresh(panel(), rebuild=True)

    assert model.combination.booster.size > 0
    assert np.abs(model.combination.factor).max() > 0.01
    np.testing.assert_allclose(carried.combination.factor, anew.combination.factor, atol=1e-5)
    assert np.abs(carried.combination.factor - model.combination.factor).max() > 1e-3


def test_levels_are_worked_out_anew_where_holidays_ahead_change(monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = trained().model, []
    flags = np.zeros(len(model.holidays) - 1)
    flags[3] = 1.0
    monkeypatch.setattr(DemandModel, "levels", lambda self, levels=DemandModel.levels: asked.append(1) or levels(self))
    expected = replace(model, holidays=np.append(model.holidays[:1], flags).astype(np.float32)).with_levels()
    asked.clear()

    moved, same = model.with_holidays(flags), model.with_holidays(model.holidays[1:])

    assert len(asked) == 1
    np.testing.assert_array_equal(moved.combination.factor, expected.combination.factor)
    assert same.combination is model.combination


@pytest.mark.weekly
@pytest.mark.parametrize("scale", [0.1, 1000.0])
def test_no_figure_depends_on_the_unit_that_sales_are_written_in(scale: float) -> None:
    ours, plain = whole(scale), whole(1.0)

    for name in ("wape", "crps", "bias", "coverage_80"):
        assert ours[0][name] == pytest.approx(plain[0][name], abs=2e-3)
    np.testing.assert_allclose(ours[1], plain[1], atol=0.02)
    for one, other in zip(ours[2], plain[2], strict=True):
        assert one.recommended_price == pytest.approx(other.recommended_price, rel=5e-3)
        assert one.confidence == pytest.approx(other.confidence, abs=0.02)
        assert one.expected_units / scale == pytest.approx(other.expected_units, rel=0.02)


@cache
def whole(scale: float) -> tuple[dict[str, float], np.ndarray, list[Decision]]:
    """Backtest figures, elasticities and prices of a market whose sales and stock are written in another unit."""
    sales, config = panel(scale), load_config()
    found = backtest(sales, tiny())
    model = train(sales, tiny(), out_of_fold=found.out_of_fold)
    facts = ProductFacts.from_panel(sales)
    day = model.state_date + dt.timedelta(days=1)
    asked = [
        PriceRequest(product_id=str(name), current_stock=scale * stock, day_of_week=day.strftime("%A"), date=day)
        for name, stock in zip(facts.product_ids, np.resize([3.0, 20.0, 90.0], 12), strict=True)
    ]
    decisions = Pricer(model.table(), facts, config, version="1").price(asked, today=day)
    return found.figures, model.norms.elasticity, decisions


def test_the_direct_baseline_reads_nothing_of_what_it_forecasts() -> None:
    sales, later = span(panel(), 0, 144), np.arange(144) >= 130
    units, stock = (np.where(later, value, one) for value, one in ((99.0, sales.units_sold), (0.0, sales.stock)))
    hidden = replace(sales, units_sold=units.astype(np.float32), stock=stock.astype(np.float32))

    forecast, again = (direct_forecast(one, known=130, rows=4000, seed=1) for one in (sales, hidden))

    assert forecast is not None
    assert forecast.shape == (12, 14)
    np.testing.assert_array_equal(forecast, again)
    assert direct_forecast(span(sales, 0, 20), known=14, rows=100, seed=1) is None  # too few rows


def test_the_direct_baseline_learns_levels_and_weekdays() -> None:
    sales = panel()
    weekday = (np.arange(150) % 7 < 2) * 1.0
    units = np.float32(10.0) * np.arange(1, 13)[:, None] * (1.0 + weekday).astype(np.float32)
    steady = replace(sales, units_sold=np.where(sales.present, units, np.nan), stock=np.full_like(sales.stock, np.nan))

    forecast = direct_forecast(span(steady, 0, 144), known=130, rows=4000, seed=1)

    actual = steady.units_sold[:, 130:144]
    assert np.nansum(np.abs(forecast - actual)) < 0.1 * np.nansum(actual)


def test_a_short_history_is_scored_and_trained_on() -> None:
    sales, said = span(panel(), 0, 28), list[str]()
    sales = sales.select(np.flatnonzero(sales.present.any(axis=1)))

    found = backtest(sales, tiny(horizon=28, step=28, folds=3, min_history=120), progress=said.append)
    model = train(sales, tiny(), out_of_fold=found.out_of_fold)

    assert found.figures["history"] == said[:2]
    assert np.isfinite(found.frame["forecast"]).all()
    assert found.out_of_fold.weights[:, 0].max() < 0.95  # a network that has seen so little never decides alone
    assert model.horizon == 28 // 3
