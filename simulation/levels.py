"""Level of demand at the anchors: weekdays, seasons, holidays, shifts, hidden shocks and the chance of single days."""

from typing import NamedTuple

import numpy as np

from pricing.arrays import Bools, Days, Floats, Ints, weekday_of
from simulation.assortment import Assortment
from simulation.config import MarketConfig
from simulation.draws import autoregression, random_walk, steps, stream

HOLIDAYS = ("01-01", "02-14", "05-01", "07-04", "10-31", "11-11", "12-24", "12-25", "12-31")  # month-day, every year
NEARNESS = (1.0, 0.8, 0.5, 0.25)  # weight of a holiday in a grocer's demand on the day, and one to three days before

# A grocer's calendar
GROCERY_WEEK = (-0.4, -0.5, -0.4, -0.1, 0.4, 0.8, 0.2)  # pattern of the weekdays, Monday first
GROCERY_SEASON = (0.05, 0.30)  # least and largest amplitude of a category's yearly wave, log units
GROCERY_HOLIDAY = (0.15, 0.20)  # mean and sd over categories of the log effect of a holiday
TREND = 0.10  # sd of a product's yearly trend, log units

# The calendar of general merchandise
# Log factor of each weekday, Monday first: most shopping is at the end of the week.
WEEK = (-0.15, -0.20, -0.10, 0.0, 0.25, 0.30, -0.20)
PAYDAY = 0.12  # log factor of a month's first five days: demand follows wages (Stephens 2003)
YEAR = 0.25  # largest amplitude of a category's yearly season, a triangle wave: seasons have kinks, not sines
HOLIDAY = (-0.25, 0.15)  # mean and sd over categories of the log effect of a holiday, with shops partly closed

OFF_SHELF = 0.02  # probability per day that a product in stock is not on its shelf; audits find a few per cent


def holidays_among(dates: Days) -> Bools:
    """(date,) whether it is one of the market's holidays, which are on the same day every year."""
    month_day = np.array([str(date)[5:] for date in dates.astype("datetime64[D]")])
    return np.isin(month_day, HOLIDAYS)


class Levels(NamedTuple):
    """Level of demand. Arrays are (day, product)."""

    level: Floats  # log expected units with own and competitor's price at the anchor, shocks included
    shock: Floats  # hidden, transitory part of `level`
    known_shock: Floats  # part of the shock that the incumbent knows


def draw_levels(config: MarketConfig, assortment: Assortment, *, dates: Days, fall: Floats) -> Levels:
    """Draw calendar, volume and shocks; `fall`, (day, product), is by how much demand falls at seasons' ends."""
    category, volume = assortment.category, assortment.log_volume.astype(np.float32)
    known = _shocks(config, category)
    # Sums of float32 depend on their order, which is part of what a family's seeds mean.
    if config.settings.calendar == "grocery":
        level = _grocery(config, category, dates) + (known + volume)
    else:
        level = _merchandise(config, category, dates) + known + volume
    level -= fall
    if not config.settings.unknown_shock:
        return Levels(level, known, known)

    normal = stream(config, "unknown").standard_normal((config.total_days, len(category)))
    unknown = autoregression(normal, *config.settings.product_shock).astype(np.float32)
    return Levels(level + unknown, known + unknown, known)


def _shocks(config: MarketConfig, category: Ints) -> Floats:
    """(day, product) hidden log shocks: a stationary AR(1) per product, plus one or whole weeks' per category."""
    settings, products = config.settings, config.total_products
    spread, persistence = settings.category_shock
    columns = products + (config.categories if persistence else 0)
    normal = stream(config, "shock").standard_normal((config.total_days, columns))
    own = autoregression(normal[:, :products], *settings.product_shock)
    if persistence:
        shared = autoregression(normal[:, products:], spread, persistence)
    else:
        week = np.arange(config.total_days) // 7
        shared = spread * stream(config, "shock", 1).standard_normal((week[-1] + 1, config.categories))[week]
    return (own + shared[:, category]).astype(np.float32)


def _grocery(config: MarketConfig, category: Ints, dates: Days) -> Floats:
    """Weeks of category and product, a sine a year, rising demand before holidays, and trends."""
    rng, products = stream(config, "calendar"), config.total_products
    week = 0.10 * rng.standard_normal((7, config.categories))
    week = week + rng.uniform(0.05, 0.45) * np.array(GROCERY_WEEK)[:, None]
    own_week = 0.05 * rng.standard_normal((7, products))
    phase = rng.uniform(0, 2 * np.pi, config.categories)
    amplitude = rng.uniform(*GROCERY_SEASON, config.categories)
    holiday = rng.normal(*GROCERY_HOLIDAY, config.categories)
    trend = TREND * rng.standard_normal(products) / 365

    day = np.arange(config.total_days)[:, None]
    season = amplitude * np.sin(2 * np.pi * day / 365.25 + phase)
    near = np.max([weight * holidays_among(dates + before) for before, weight in enumerate(NEARNESS)], axis=0)
    shared = season + near[:, None] * holiday + week[weekday_of(dates)]
    level = shared[:, category].astype(np.float32)
    level += random_walk(rng, level.shape, config.settings.shift)
    level += own_week[weekday_of(dates)]
    level += trend * (day - config.days / 2)
    return np.asarray(level)


def _merchandise(config: MarketConfig, category: Ints, dates: Days) -> Floats:
    """Weeks of category, paydays, a triangle a year, and quiet holidays."""
    rng, categories = stream(config, "calendar"), config.categories
    week = np.array(WEEK)[weekday_of(dates)][:, None] * rng.uniform(0.5, 1.5, categories)
    day_of_month = (dates - dates.astype("datetime64[M]")).astype(np.int64)
    payday = PAYDAY * (day_of_month < 5)[:, None]
    phase = rng.uniform(0, 1, categories)
    turn = (np.arange(config.total_days)[:, None] / 365.25 + phase) % 1
    year = YEAR * rng.uniform(0.2, 1.0, categories) * (4 * np.abs(turn - 0.5) - 1)
    holiday = rng.normal(*HOLIDAY, categories) * holidays_among(dates)[:, None]
    level = (week + payday + year + holiday)[:, category]
    shifts = np.cumsum(steps(config, "calendar", 1, level.shape, config.settings.shift), axis=0)
    return np.asarray(level + shifts, dtype=np.float32)


def draw_day_factors(config: MarketConfig) -> tuple[Floats, float]:
    """(day, product) factor on demand of mean 1, 0 where off shelf; and the negative binomial size of its variance."""
    settings, rng = config.settings, stream(config, "crowd")
    shape = (config.total_days, config.total_products)
    noise, kept = settings.day_noise, 1 - OFF_SHELF
    if not noise:
        gamma = rng.standard_gamma(settings.size, shape, dtype=np.float32)
        return gamma / np.float32(settings.size), settings.size
    factor = np.exp(noise * rng.standard_normal(shape) - noise**2 / 2)
    there = stream(config, "crowd", 1).random(shape) >= OFF_SHELF
    size = 1 / (np.exp(noise**2) / kept - 1)
    return (factor * there / kept).astype(np.float32), float(size)
