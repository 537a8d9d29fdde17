"""True elasticities behind the protocol that decisions see: everything else is read off the history, plainly."""

import datetime as dt
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Floats, Strings
from pricing.data.lifts import Lift
from pricing.data.panel import Panel
from pricing.demand.curve import SOURCES, DemandGrid, Offers
from pricing.demand.grades import CATEGORY, TESTED
from simulation.protocol import SimulatedMarket

FAST, SLOW = 10.0, 60.0  # half-lives, in days, of what sells now and of what usually sells
NOW_PRIOR = 12.0  # how many sales' worth the usual level weighs against the present one
FADE = 0.95  # a day's survival of what sets now apart from usual
FULL_CUT = 0.10  # the cut from which an advertisement draws fully, as the data contract says
DAY_SIZE, LEVEL_VARIANCE = 8.0, 0.08  # over-dispersion of one day, and what a forecast of the level leaves open
ROUNDS = 4  # passes in which stocked-out days are filled with what was expected


@dataclass(frozen=True)
class TrueElasticityDemand:
    """Demand with the market's own elasticities and a plain forecast of everything else.

    Its level forecast is a trailing mean of restated sales with a weekly pattern per category; that is what a shop can
    do without a model, so what a policy with this demand loses to the oracle is the price of not knowing tomorrow.

    Attributes:
        product_ids: (product,) sorted.
        categories: (category,) sorted.
        elasticity: (product + category,) own-price elasticities, below 0; a category's is its products' mean.
        anchor: (product + category,) the price at which `usual` is stated.
        usual: (product + category,) units on a mean day at the anchor price.
        now: (product + category,) what sells now over what usually sells.
        week: (category, weekday) factor on the mean day.
        category_of: (product + category,) row among the categories.
        lift: Log lift of an advertised and really cut price, one for all.
        state_date: Last day of the history read.
    """

    product_ids: Strings
    categories: Strings
    elasticity: Floats
    anchor: Floats
    usual: Floats
    now: Floats
    week: Floats
    category_of: NDArray[np.int64]
    lift: float
    state_date: np.datetime64

    def grid(self, offers: Offers, prices: NDArray[np.floating]) -> DemandGrid:
        """Demand at `prices`, shape (request, candidate), each row ascending, in currency units."""
        known = offers.product >= 0
        row = np.where(known, offers.product, len(self.product_ids) + offers.category)
        anchor = np.where(known, self.anchor[row], offers.list_price)
        cut = np.clip((1 - prices / offers.list_price[:, None]) / FULL_CUT, 0, 1)
        answer = np.exp(
            self.elasticity[row][:, None] * np.log(prices / anchor[:, None])
            + self.lift * offers.is_promo[:, None] * cut
        )
        ahead = np.arange(int(offers.periods.max()))
        date = offers.date.astype("datetime64[D]").astype(np.int64)[:, None] + ahead
        gap = date - self.state_date.astype("datetime64[D]").astype(np.int64)
        level = self.usual[row][:, None] * self.now[row][:, None] ** (FADE ** np.maximum(gap, 0))
        level *= self.week[self.category_of[row][:, None], (date + 3) % 7]
        level *= ahead < offers.periods[:, None]
        until = level.sum(axis=1)
        return DemandGrid(
            first=(level[:, :1] * answer)[:, None, :],
            until=(until[:, None] * answer)[:, None, :],
            first_size=np.full(len(row), 1 / (1 / DAY_SIZE + LEVEL_VARIANCE)),
            until_size=1 / (1 / (DAY_SIZE * offers.periods) + LEVEL_VARIANCE),
            weight=np.ones(1),
            source=np.where(known, SOURCES.index("model"), SOURCES.index("category")),
            grade=np.where(known, TESTED, CATEGORY),
        )

    def events_on(self, date: dt.date, *, category: int) -> tuple[Lift, ...]:
        """No event lifts it."""
        return ()

    def single(self, *, candidates: int) -> None:
        """Every request is a batch."""


def true_elasticity_demand(market: SimulatedMarket, panel: Panel) -> TrueElasticityDemand:
    """Reads everything but the elasticities off `panel`, which may go beyond the market's own history.

    Args:
        market: Whose elasticities, as of the panel's last day, are injected.
        panel: The history as far as it is known.
    """
    day = int((panel.dates[-1] - market.truth.dates[0]) / np.timedelta64(1, "D"))
    where = np.searchsorted(market.product_ids, panel.product_ids)
    elasticity = market.truth.elasticity_on(day)[where]
    categories, group = np.unique(panel.categories, return_inverse=True)
    anchor = panel.list_price[:, -1].astype(np.float64)

    seen = panel.present & np.isfinite(panel.units_sold)
    units = np.where(seen, panel.units_sold, 0.0).astype(np.float64)
    censored = panel.censored & seen
    with np.errstate(invalid="ignore", divide="ignore"):
        price_factor = np.exp(elasticity[:, None] * np.log(panel.price / anchor[:, None]))
        cut = np.clip((1 - panel.price / panel.list_price) / FULL_CUT, 0, 1) * panel.is_promo
    price_factor = np.where(seen & np.isfinite(price_factor), price_factor, 0.0)
    cut = np.where(np.isfinite(cut), cut, 0.0)
    weekday = (panel.dates.astype("datetime64[D]").astype(np.int64) + 3) % 7
    age = np.arange(units.shape[1])[::-1]
    fast, slow = 0.5 ** (age / FAST), 0.5 ** (age / SLOW)

    week, lift = np.ones((len(categories), 7)), 0.0
    filled = units
    for _ in range(ROUNDS):
        unit_day = price_factor * week[group][:, weekday] * np.exp(lift * cut)  # sales of a product of level 1
        usual = (filled * slow).sum(axis=1) / np.maximum((unit_day * slow).sum(axis=1), 1e-9)
        expected = usual[:, None] * unit_day
        filled = np.where(censored, np.maximum(units, expected), units)
        for row in range(len(categories)):
            members = group == row
            ratio = [
                filled[members][:, weekday == place].sum() / max(expected[members][:, weekday == place].sum(), 1e-9)
                for place in range(7)
            ]
            week[row] *= ratio
            week[row] /= week[row].mean()
        told = (cut == 1) & seen & ~censored
        lift += float(np.log(max(units[told].sum(), 1e-9) / max(expected[told].sum(), 1e-9))) if told.any() else 0.0
    weight = fast / (1 + expected / DAY_SIZE)
    now = ((filled * weight).sum(axis=1) + NOW_PRIOR) / ((expected * weight).sum(axis=1) + NOW_PRIOR)
    by_category = [_middle(group == row, elasticity=elasticity, usual=usual) for row in range(len(categories))]
    return TrueElasticityDemand(
        product_ids=panel.product_ids,
        categories=categories,
        elasticity=np.concatenate([elasticity, [pair[0] for pair in by_category]]),
        anchor=np.concatenate([anchor, np.ones(len(categories))]),
        usual=np.concatenate([usual, [pair[1] for pair in by_category]]),
        now=np.concatenate([now, np.ones(len(categories))]),
        week=week,
        category_of=np.concatenate([group, np.arange(len(categories))]),
        lift=lift,
        state_date=panel.dates[-1],
    )


def _middle(members: NDArray[np.bool_], *, elasticity: Floats, usual: Floats) -> tuple[float, float]:
    return float(elasticity[members].mean()), float(np.median(usual[members]))
