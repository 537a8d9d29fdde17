"""A demand model with a simulated market's true elasticities: what the platform could earn if it knew these alone."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import weekday_of
from pricing.data.panel import Panel
from pricing.demand.curve import SOURCES, DemandAt, DemandGrid, Offers
from pricing.demand.grades import CATEGORY, TESTED
from simulation.market import Market
from tests.kit.decision import Eventless

FAST, SLOW = 10.0, 60.0  # half-lives, days, of the current and of the usual level
NOW_PRIOR = 12.0  # prior weight, in units sold, of the usual level in the current one
FADE = 0.95  # factor per day by which the current level returns to the usual one
FULL_CUT = 0.10  # discount from which an advertised promotion has its full effect, as in the data contract
DAY_SIZE, LEVEL_VARIANCE = 8.0, 0.08  # negative binomial size of one day; variance of the level forecast
ROUNDS = 4  # iterations that impute demand on stocked-out days


class TrueElasticityDemand(Eventless):
    """Demand model with the market's true elasticities and a simple forecast of everything else.

    The level is a trailing mean of price-adjusted sales with a weekly pattern per category, as a shop could compute
    without a model. So the gap between this policy and the oracle is the cost of uncertainty about the level. Rows of
    its arrays are the products and then the categories, whose values are those of their products in the middle.
    """

    def __init__(self, market: Market, panel: Panel) -> None:
        """Estimates everything but the elasticities.

        Args:
            market: Supplies the true elasticities as of the panel's last day.
            panel: The history so far; may extend beyond the market's own history.
        """
        day = int((panel.dates[-1] - market.truth.dates[0]) / np.timedelta64(1, "D"))
        elasticity = market.truth.elasticity_on(day)[np.searchsorted(market.product_ids, panel.product_ids)]
        self.product_ids, self._state_date = panel.product_ids, panel.dates[-1]
        self.categories, group = np.unique(panel.categories, return_inverse=True)
        anchor = panel.list_price[:, -1].astype(np.float64)

        seen = panel.present & np.isfinite(panel.units_sold)
        units = np.where(seen, panel.units_sold, 0.0).astype(np.float64)
        censored = panel.censored & seen
        with np.errstate(invalid="ignore", divide="ignore"):
            price_factor = np.exp(elasticity[:, None] * np.log(panel.price / anchor[:, None]))
            cut = np.clip((1 - panel.price / panel.list_price) / FULL_CUT, 0, 1) * panel.is_promo
        price_factor = np.where(seen & np.isfinite(price_factor), price_factor, 0.0)
        cut = np.where(np.isfinite(cut), cut, 0.0)
        weekday = weekday_of(panel.dates)
        age = np.arange(units.shape[1])[::-1]
        fast, slow = 0.5 ** (age / FAST), 0.5 ** (age / SLOW)

        week, lift, told = np.ones((len(self.categories), 7)), 0.0, (cut == 1) & seen & ~censored
        filled = units
        for _ in range(ROUNDS):
            unit_day = price_factor * week[group][:, weekday] * np.exp(lift * cut)  # expected sales at level 1
            usual = (filled * slow).sum(axis=1) / np.maximum((unit_day * slow).sum(axis=1), 1e-9)
            expected = usual[:, None] * unit_day
            filled = np.where(censored, np.maximum(units, expected), units)
            for row in range(len(self.categories)):
                for place in range(7):
                    some = np.ix_(group == row, weekday == place)
                    week[row, place] *= filled[some].sum() / max(expected[some].sum(), 1e-9)
                week[row] /= week[row].mean()
            lift += float(np.log(max(units[told].sum(), 1e-9) / max(expected[told].sum(), 1e-9))) if told.any() else 0.0
        weight = fast / (1 + expected / DAY_SIZE)
        now = ((filled * weight).sum(axis=1) + NOW_PRIOR) / ((expected * weight).sum(axis=1) + NOW_PRIOR)
        members = [group == row for row in range(len(self.categories))]
        ones = np.ones(len(members))
        self._week, self._lift = week, lift
        self._elasticity = np.concatenate([elasticity, [elasticity[one].mean() for one in members]])
        self._anchor = np.concatenate([anchor, ones])  # reference price of `_usual`
        self._usual = np.concatenate([usual, [np.median(usual[one]) for one in members]])  # units on a mean day
        self._now = np.concatenate([now, ones])  # current level over the usual one
        self._category = np.concatenate([group, np.arange(len(members))])

    def curves(self, offers: Offers) -> DemandAt:
        """Returns demand as a function of prices (request, candidate) in currency units."""
        return partial(self._grid, offers)

    def _grid(self, offers: Offers, prices: NDArray[np.floating]) -> DemandGrid:
        known = offers.product >= 0
        row = np.where(known, offers.product, len(self.product_ids) + offers.category)
        anchor = np.where(known, self._anchor[row], offers.list_price)
        cut = np.clip((1 - prices / offers.list_price[:, None]) / FULL_CUT, 0, 1)
        answer = np.exp(
            self._elasticity[row][:, None] * np.log(prices / anchor[:, None])
            + self._lift * offers.is_promo[:, None] * cut
        )
        ahead = np.arange(int(offers.periods.max()))
        date = offers.date.astype("datetime64[D]")[:, None] + ahead.astype("timedelta64[D]")
        gap = (date - self._state_date.astype("datetime64[D]")).astype(np.int64)
        level = self._usual[row][:, None] * self._now[row][:, None] ** (FADE ** np.maximum(gap, 0))
        level *= self._week[self._category[row][:, None], weekday_of(date)]
        level *= ahead < offers.periods[:, None]
        return DemandGrid(
            first=(level[:, :1] * answer)[:, None, :],
            until=(level.sum(axis=1)[:, None] * answer)[:, None, :],
            first_size=np.full(len(row), 1 / (1 / DAY_SIZE + LEVEL_VARIANCE)),
            until_size=1 / (1 / (DAY_SIZE * offers.periods) + LEVEL_VARIANCE),
            weight=np.ones(1),
            source=np.where(known, SOURCES.index("model"), SOURCES.index("category")),
            grade=np.where(known, TESTED, CATEGORY),
            known=np.ones(len(row)),
        )
