"""A market before any sales: products, plans, costs, purchasing, competitor and the truth, drawn from its settings."""

from dataclasses import dataclass

import numpy as np

from pricing.arrays import Bools, Floats, Strings
from simulation.assortment import draw_assortment, draw_list_prices, draw_promotions, draw_unit_costs
from simulation.config import INSIDE, MarketConfig
from simulation.draws import stream
from simulation.households import ChoiceTruth
from simulation.levels import draw_day_factors, draw_levels
from simulation.rivals import RIVALS, Aloof, Rival
from simulation.supply import Supply, draw_seasons, draw_supply
from simulation.truth import QuadraticTruth, Truth

TRUTHS = {"power": Truth, "quadratic": QuadraticTruth, "households": ChoiceTruth}


@dataclass(frozen=True)
class World:
    """A market before any sales: hidden truth and observable data."""

    config: MarketConfig  # options of the market
    product_ids: Strings  # (product,) sorted; those that launch after the history come last
    category_names: Strings  # (product,) category name
    truth: Truth  # hidden truth, for the oracle only
    known_shock: Floats  # (day, product) part of the hidden shock that the incumbent knows
    unit_cost: Floats  # (day, product) cost of a unit
    promo_cut: Floats  # (day, product) incumbent's planned cut, advertised or at a season's end, as a share of list
    comp_seen: Bools  # (day, product) whether the competitor's price was observed
    recorded: Bools  # (day, product) whether the day's row was recorded in the history
    supply: Supply  # purchasing
    rival: Rival  # the competitor


def draw_world(config: MarketConfig) -> World:
    """Draw the market that `config` describes. Days are drawn in order: a longer future changes no earlier day."""
    settings, days = config.settings, config.total_days
    dates = np.datetime64(settings.first_day, "D") + np.arange(days)
    assortment = draw_assortment(config)
    category = assortment.category
    unit_cost = draw_unit_costs(config, assortment)
    list_price = draw_list_prices(config, assortment, unit_cost)
    is_promo, promo_cut = draw_promotions(config)
    seasons = draw_seasons(config)
    rival = RIVALS[settings.rival].draw(config, assortment.launch, list_price)

    levels = draw_levels(config, assortment, dates=dates, fall=seasons.fall[:days])
    day_factor, size = draw_day_factors(config)
    uniform = stream(config, "shopper").random(list_price.shape, dtype=np.float32)
    truth = TRUTHS[settings.demand](
        **vars(assortment),
        features=settings,
        dates=dates,
        anchor=list_price[0].copy(),
        potential=np.bincount(category, np.exp(assortment.log_volume))[category] / INSIDE,
        level=levels.level,
        shock=levels.shock,
        list_price=list_price,
        is_promo=is_promo,
        comp_price=rival.price if isinstance(rival, Aloof) else None,
        uniform=np.clip(uniform, 1e-6, 1 - 1e-6),
        day_factor=day_factor,
        size=size,
        history=config.days,
    )
    _raise_best_product(config, truth, unit_cost)

    names = settings.category_names.split()
    names += [f"category-{number}" for number in range(len(names), config.categories)]
    seen = stream(config, "sighting").random(list_price.shape, dtype=np.float32)
    low, high = settings.comp_seen
    return World(
        config=config,
        product_ids=np.array([f"{settings.prefix}{row + 1:05d}" for row in range(config.total_products)]),
        category_names=np.array(names[: config.categories])[category],
        truth=truth,
        known_shock=levels.known_shock,
        unit_cost=unit_cost,
        promo_cut=np.maximum(promo_cut, seasons.markdown[:days]),
        comp_seen=(seen > low) & (seen < high),
        recorded=stream(config, "record").random(list_price.shape, dtype=np.float32) > 0.004,
        supply=draw_supply(config, seasons),
        rival=rival,
    )


def _raise_best_product(config: MarketConfig, truth: Truth, unit_cost: Floats) -> None:
    """Scale demand for the most profitable product to its drawn share of the history's profit at list prices.

    Log-normal volumes alone leave the best of 60 products with 7 to 33 %, by luck of the seed; a tail that made it a
    third on average would leave most of the others unsold. Modifies `truth.level`.
    """
    if config.settings.top_share is None:
        return
    days = np.arange(config.days)[:, None]
    price = truth.list_price[: config.days]
    units = truth.expected_demand(np.arange(price.shape[1]), days, price, comp_price=price)
    profit = ((price - unit_cost[: config.days]) * units).sum(axis=0)
    best = int(np.argmax(profit))
    share = stream(config, "tail").uniform(*config.settings.top_share)
    rest = float(profit.sum() - profit[best])
    if rest > 0:
        truth.level[:, best] += np.log(share / (1 - share) * rest / profit[best])
