"""The networks: Keras against NumPy and SciPy, and what training may and may not see."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.data.features import AGE, KNOWN, PAST
from pricing.data.panel import Panel
from pricing.demand import forward_pass
from pricing.demand.backtest import Backtest, backtest
from pricing.demand.batches import Shape
from pricing.demand.folds import walk_forward
from pricing.demand.grades import PRIOR_ONLY
from pricing.demand.identification import centre_of_margins
from pricing.demand.network import RIDGE, build_network, demand_loss, named_weights
from pricing.demand.shrinkage import PRIOR_SD, START
from pricing.demand.training import train
from pricing.errors import HistoryError
from simulation.market import MarketConfig, simulate

CONFIG = load_config()
TINY = CONFIG.demand.model_copy(
    update={
        "units": 8,
        "context": 56,
        "steps": 40,
        "demand_steps": 15,
        "price_steps": 15,
        "folds": 2,
        "horizon": 14,
        "step": 14,
        "min_history": 120,
        "rounds": 1,
    }
)


@pytest.fixture(scope="module")
def panel() -> Panel:
    market = simulate(MarketConfig(products=12, days=240, seed=3))
    return build_panel(market.frame(), CONFIG.data)


def target(actual: float, *, censored: float) -> np.ndarray:
    return np.asarray([[[[actual, 0.0, censored, 1.0]]]], np.float32)


def output(mean: float, size: float) -> np.ndarray:
    return np.asarray([[[[np.log(mean), np.log(size)]]]], np.float32)


@pytest.mark.parametrize(("actual", "mean", "size"), [(0, 0.3, 1.0), (3, 2.0, 0.5), (40, 55.0, 8.0), (2, 9.0, 20.0)])
def test_the_loss_is_the_negative_binomials_log_likelihood(actual: int, mean: float, size: float) -> None:
    loss = float(demand_loss(target(actual, censored=0.0), output(mean, size))) - RIDGE * np.log(mean) ** 2

    assert loss == pytest.approx(-stats.nbinom.logpmf(actual, size, size / (size + mean)), rel=1e-3)


def slope(actual: float, mean: float, size: float, *, column: int) -> float:
    """How the loss of a sold-out day changes with the log mean (column 0) or the log size (column 1)."""
    at = keras.ops.convert_to_tensor(output(mean, size))
    with tf.GradientTape() as tape:
        tape.watch(at)
        loss = demand_loss(target(actual, censored=1.0), at)
    return float(np.asarray(tape.gradient(loss, at))[0, 0, 0, column])


def test_a_sold_out_day_speaks_for_no_mean_beyond_four_times_its_shelf() -> None:
    assert slope(5.0, 19.9, 1.0, column=0) < -0.05
    assert slope(5.0, 20.1, 1.0, column=0) == pytest.approx(2 * RIDGE * np.log(20.1), rel=1e-4)
    assert slope(5.0, 20.1, 1.0, column=1) == 0


@pytest.mark.parametrize(("mean", "size"), [(0.1, 2.7), (0.5, 0.5), (0.5, 10.0), (2.0, 2.7), (10.0, 10.0), (50.0, 2.7)])
@pytest.mark.parametrize("times", [0.0, 0.5, 1.0, 1.5, 3.0, 10.0])
def test_what_a_sold_out_day_teaches_is_the_slope_of_the_exact_likelihood(
    mean: float, size: float, times: float
) -> None:
    stock = max(1.0, np.round(times * mean))

    def chance(m: float, r: float) -> float:
        return float(stats.nbinom.logsf(stock - 1, r, r / (r + m)))

    exact = (chance(mean * 1.001, size) - chance(mean / 1.001, size)) / (2 * np.log(1.001))
    spread = (chance(mean, size * 1.001) - chance(mean, size / 1.001)) / (2 * np.log(1.001))

    assert -slope(stock, mean, size, column=0) == pytest.approx(exact, rel=0.2, abs=0.02)
    assert -slope(stock, mean, size, column=1) == pytest.approx(spread, rel=0.2, abs=0.06)


def test_the_numpy_forward_pass_equals_keras() -> None:
    rng = np.random.default_rng(0)
    network = build_network(Shape(length=12, cutoffs=9, steps=2, known=KNOWN, categories=3, units=8))
    network.set_weights([rng.normal(0, 0.3, weight.shape) for weight in network.get_weights()])
    past = rng.normal(size=(5, 12, PAST)).astype(np.float32)
    past[..., AGE] = np.abs(past[..., AGE])
    past[0, :6, AGE] = past[1, :1, AGE] = -1.0  # before the first row
    known = rng.normal(size=(5, 9, 2, KNOWN)).astype(np.float32)
    category = np.asarray([0, 1, 2, 3, 0], np.int32)

    ours = named_weights(network)
    states, _ = forward_pass.encode(ours, past, state=forward_pass.blank_state(ours, 5))
    prepared = forward_pass.prepare(ours, states[:, 3:], category)[:, :, None]
    mean, size = forward_pass.respond(ours, prepared, known)
    theirs = np.asarray(network([past, known, category]))

    np.testing.assert_allclose(mean, theirs[..., 0], atol=1e-5)
    np.testing.assert_allclose(size, theirs[..., 1], atol=1e-5)


@pytest.fixture(scope="module")
def tested(panel: Panel) -> Backtest:
    return backtest(panel, TINY)


def test_what_happens_after_a_cutoff_changes_nothing_that_was_forecast_at_it(panel: Panel, tested: Backtest) -> None:
    begin = int(np.searchsorted(panel.dates, walk_forward(panel.dates, config=TINY, period="day")[-1].first))
    shuffled = panel.units_sold.copy()
    shuffled[:, begin:] = np.random.default_rng(0).permuted(shuffled[:, begin:], axis=1)
    told: list[int] = []

    frame = tested.frame
    other = backtest(replace(panel, units_sold=shuffled), TINY, on_fold=lambda number, _: told.append(number)).frame

    assert told == [0, 1]
    assert not np.array_equal(other["actual"], frame["actual"])
    # Two trainings differ by rounding, which the thresholds of trees turn into small steps.
    for name in ("booster", "forecast"):
        np.testing.assert_allclose(other[name], frame[name], rtol=1e-2)
    for name in ("network", "level", "size", "naive", "flat"):
        np.testing.assert_allclose(other[name], frame[name], rtol=1e-3)
    differs = other[["q10", "q50", "q90"]].to_numpy() != frame[["q10", "q50", "q90"]].to_numpy()
    assert differs.mean() < 0.01  # counts: rounding may move a quantile by one


def test_a_backtest_scores_every_fold_beside_the_baselines(tested: Backtest) -> None:
    result = tested

    assert result.frame["cutoff"].nunique() == 2
    assert (result.frame["date"] > result.frame["cutoff"]).all()
    assert result.frame["step"].between(1, 14).all()
    assert (result.frame["q10"] <= result.frame["q90"]).all()
    each = result.frame[["network", "level", "booster"]]
    assert (result.frame["forecast"] >= each.min(axis=1) * (1 - 1e-4)).all()
    assert (result.frame["forecast"] <= each.max(axis=1) * (1 + 1e-4)).all()
    assert 0 < result.figures["crps"] < result.figures["wape"] < result.figures["wape_baseline"]
    each = [result.figures[f"wape_{name}"] for name in ("naive", "flat", "direct")]
    assert result.figures["wape_baseline"] == min(each)
    assert result.figures["against_baseline"]["wape"] == pytest.approx(
        result.figures["wape"] - result.figures["wape_baseline"]
    )


def test_a_panel_without_sales_is_refused(panel: Panel) -> None:
    with pytest.raises(HistoryError, match="no units were sold"):
        train(replace(panel, units_sold=np.zeros_like(panel.units_sold)), TINY)


def test_a_panel_without_a_price_move_keeps_the_priors_elasticity_and_says_how_unsure_it_is(panel: Panel) -> None:
    still = np.where(np.isfinite(panel.price), 10.0, np.nan).astype(np.float32)
    told: list[str] = []

    model = train(replace(panel, price=still, list_price=still), TINY, progress=told.append)

    category = np.unique(panel.categories, return_inverse=True)[1]
    expected = START * np.exp(centre_of_margins(replace(panel, list_price=still), category))[category]
    np.testing.assert_allclose(model.norms.elasticity, expected, rtol=0.1)
    assert (model.elasticity_sd >= PRIOR_SD).all()
    assert (model.grade == PRIOR_ONLY).all()
    assert any("no price change to learn from" in words for words in told)
