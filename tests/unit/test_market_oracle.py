"""The oracle against brute force: every plan tried on instances small enough to try them all."""

from functools import cache

import numpy as np
import pytest
from scipy import stats

from simulation.market import MarketConfig, simulate
from simulation.policies import Oracle, best_first_price, expected_share, static
from simulation.rollforward import roll_forward, score

PRICES = np.linspace(0.8, 1.4, 13)
COST, SIZE = 0.6, 9.0


def demand(levels: tuple[float, ...], elasticity: float) -> np.ndarray:
    return np.array(levels)[:, None] * PRICES**elasticity  # (day, candidate)


@pytest.mark.parametrize("size", [1.5, 9.0])
@pytest.mark.parametrize("stock", [0, 1, 2, 5, 70])
@pytest.mark.parametrize("mean", [0.3, 4.0, 60.0])
def test_expected_sales_match_the_sum_over_all_counts(mean: float, stock: int, size: float) -> None:
    counts = np.arange(3000)
    chance = stats.nbinom.pmf(counts, size, size / (size + mean))

    share = expected_share(np.array([mean]), stock=np.array([stock]), size=size)[0]

    assert share * mean == pytest.approx((np.minimum(counts, stock) * chance).sum(), rel=1e-9, abs=1e-12)


def test_with_ample_stock_each_day_is_priced_for_itself() -> None:
    units = demand((3.0, 9.0, 4.0), -2.5)

    first = best_first_price(
        PRICES[None], margin=(PRICES - COST)[None], units=units[None], stock=np.array([1000]), size=SIZE
    )

    assert first[0] == PRICES[np.argmax((PRICES - COST) * units[0])]


@pytest.mark.parametrize("levels", [(5.0, 5.0, 5.0), (3.0, 8.0), (8.0, 3.0, 2.0)])
@pytest.mark.parametrize("stock", [2, 5, 8, 12])
@pytest.mark.parametrize("elasticity", [-1.5, -3.0])
def test_the_plan_earns_what_the_best_of_all_plans_earns(
    levels: tuple[float, ...], stock: int, elasticity: float
) -> None:
    """Exact dynamic programming over stock and day, every candidate tried on every day."""
    units = demand(levels, elasticity)
    counts = np.arange(150)
    chances = stats.nbinom.pmf(counts, SIZE, SIZE / (SIZE + units[..., None]))

    @cache
    def best(day: int, left: int) -> float:
        return 0.0 if day == len(levels) else max(worth(day, left, place) for place in range(len(PRICES)))

    def worth(day: int, left: int, place: int, *, then: object = None) -> float:
        sold = np.minimum(counts, left)
        follow = then or best
        later = np.array([follow(day + 1, left - amount) for amount in range(left + 1)])
        return float((chances[day, place] * ((PRICES[place] - COST) * sold + later[sold])).sum())

    @cache
    def planned(day: int, left: int) -> float:
        if day == len(levels) or left == 0:
            return 0.0
        first = best_first_price(
            PRICES[None], margin=(PRICES - COST)[None], units=units[None, day:], stock=np.array([left]), size=SIZE
        )
        return worth(day, left, int(np.argmin(np.abs(PRICES - first[0]))), then=planned)

    assert planned(0, stock) >= 0.99 * best(0, stock)


def test_the_oracle_earns_most_heeding_stock_pays_and_scores_lie_between_static_and_it() -> None:
    market = simulate(MarketConfig(products=12, days=120, future=45, seed=2))
    hold = roll_forward(market, static, days=45)
    endless = roll_forward(market, Oracle(market, heed_stock=False), days=45)
    best = roll_forward(market, Oracle(market), days=45)

    still, top = (score(name, run, static=hold, oracle=best) for name, run in (("static", hold), ("oracle", best)))

    assert hold.profit.sum() < endless.profit.sum() < best.profit.sum()
    assert not best.refused.any()
    assert (still.gain, still.share, still.share_interval) == (0.0, 0.0, (0.0, 0.0))
    assert top.share == 1.0
    assert top.gain_interval[0] <= top.gain <= top.gain_interval[1]
    assert top.gain == pytest.approx(best.profit.sum() / hold.profit.sum() - 1)
    assert still.discount_depth == 0.0
    assert still.stock_turns > 0
