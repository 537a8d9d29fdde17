"""Derive the columns that sales lack, or lack on some rows. Causal: no value depends on a later row."""

import numpy as np
import pandas as pd

from pricing.arrays import Bools, Floats, Ints, Strings
from pricing.config_models import DataConfig
from pricing.data.anchors import Anchors
from pricing.data.calendar import holidays_for
from pricing.data.events import read_plan
from pricing.data.grid import Grid
from pricing.data.latest import carry, latest_period
from pricing.data.net_price import cost_at_margin, highest_rates
from pricing.data.panel import STEP_DAYS, Panel, Period

LIST_PRICE_QUANTILE = 0.9  # of the prices of the trailing window, where no list price is given
USUAL_CUT = 0.08  # below list: a smaller cut is seldom advertised
RETURNS = 28  # days after which a lower price is no temporary one
ROUNDING = 1e-5  # relative, of amounts in single precision


def list_price(grid: Grid, price: Floats, config: DataConfig, anchors: Anchors | None) -> Floats:
    """(product, period) given list price, carried over gaps; else the anchor, or before `since` a price quantile."""
    given = carry(grid.spread("list_price"), grid.latest)
    missing = np.isnan(given) & (grid.latest >= 0)
    if not missing.any():
        return given

    window = config.list_price_window
    found = np.where(missing, _trailing_quantile(price, window), given)
    anchored = np.zeros_like(missing)
    if anchors is not None:
        anchors = anchors.with_products(grid.ids, dates=grid.dates, present=grid.present, price=price, list_price=found)
        anchored = missing & (grid.dates >= anchors.since)
        found = np.where(anchored, anchors.list_prices(grid.ids, grid.dates), found)
        grid.note(anchored, f"list_price is the anchor on {{}} product-periods from {anchors.since} on.")

    which = f"{LIST_PRICE_QUANTILE:g} quantile of {window} periods' prices"
    grid.note(missing & ~anchored, f"list_price is derived on {{}} product-periods: {which}.")
    return found


def _trailing_quantile(price: Floats, window: int) -> Floats:
    """(product, period) a high quantile of the last `window` known prices; always one of them, not interpolated."""
    windows = pd.DataFrame(price.T).rolling(window, min_periods=1)
    quantile = windows.quantile(LIST_PRICE_QUANTILE, interpolation="higher")
    return quantile.to_numpy(dtype=np.float32).T


def tax_rate(grid: Grid, config: DataConfig, *, past: Panel | None) -> Floats:
    """(product, period) last given tax rate, carried forward like a cost; before, the configured one.

    Without that it is 0 before any product is taxed. From then on it is unknown, NaN, where the product was given none
    yet: with 0 it could sell below net cost.
    """
    given = grid.spread("tax_rate")
    known = ~np.isnan(given)
    if config.tax_rate is not None:
        rate = carry(given, latest_period(known))
        return np.where(np.isnan(rate), np.float32(config.tax_rate), rate)

    taxed = grid.dates[(given > 0).any(axis=0)]
    if past is not None:  # its other products, too
        taxed = np.concatenate([taxed, past.dates[(past.tax_rate > 0).any(axis=0)]])
    if not len(taxed):
        return np.zeros_like(given)

    since: Bools = grid.dates >= taxed.min()
    rate = carry(given, latest_period(known & since))
    unknown = np.isnan(rate)
    missing = grid.present & ~known
    carried = "tax_rate is missing on {} rows: the last one given is carried forward."
    assumed = "tax_rate was never given on {} rows: the category's highest is assumed there."
    grid.note(missing & ~unknown, carried)
    grid.note(missing & unknown & since, assumed)
    return np.where(unknown & ~since, np.float32(0), rate)


def assumed_tax_rate(grid: Grid, rate: Floats, category: Ints, categories: Strings, *, past: Panel | None) -> Floats:
    """(product, period) the rate; where unknown, the highest of the category, also of products that only a past has.

    `category` (product, period) are rows of `categories`.
    """
    unknown = np.isnan(rate)
    if not unknown.any():
        return rate

    rates = rate
    if past is not None and (past.tax_rate > 0).any():  # before, a rate of 0 means nothing
        absent = past.select(~np.isin(past.product_ids, grid.ids))
        others = pd.Index(categories).get_indexer(pd.Index(absent.categories))
        others = np.where(others < 0, len(categories), others)  # one that no product here has
        shape = (len(others), rate.shape[1])
        rates = np.concatenate([rates, np.broadcast_to(absent.tax_rate[:, -1:], shape)])
        category = np.concatenate([category, np.broadcast_to(others[:, None], shape)])
    return np.where(unknown, highest_rates(rates, category)[: len(rate)], rate)


def unit_cost(grid: Grid, list_price: Floats, *, margin: Floats, tax_rate: Floats) -> tuple[Floats, Bools]:
    """(product, period) last given cost, else that at a margin; (product,) True where no cost was given."""
    given = grid.spread("unit_cost")
    known = ~np.isnan(given)
    cost = carry(given, latest_period(known))
    carried = grid.present & ~known & ~np.isnan(cost)
    grid.note(carried, "unit_cost is missing on {} rows: the last one given is carried forward.")

    at_margin = cost_at_margin(list_price, margin, tax_rate=tax_rate)
    missing = np.isnan(cost) & ~np.isnan(at_margin)
    assumed: Bools = np.asarray(~known.any(axis=1))
    which = f"{int(assumed.sum()):,} products have none at all"
    grid.note(missing, f"unit_cost is assumed from the configured margin on {{}} product-periods; {which}.")
    return np.where(missing, at_margin, cost), assumed


def competitor_price(grid: Grid, config: DataConfig) -> tuple[Floats, Floats]:
    """(product, period) the competitor's price, and the days since it was seen; NaN where none is, or is too old."""
    price = grid.spread("comp_price")
    age = np.where(np.isfinite(price), np.nan_to_num(grid.spread("comp_price_age")), np.float32(np.nan))
    old = age > config.comp_price_max_age
    grid.note(old, f"comp_price is older than {config.comp_price_max_age:g} days on {{}} rows: unknown there.")
    price[old] = np.nan
    age[old] = np.nan
    return price, age


def stock(grid: Grid) -> Floats:
    """(product, period) opening stock; NaN where unknown, and where more was sold."""
    given = grid.spread("stock")
    counted = grid.present & np.isfinite(given).any(axis=1, keepdims=True)
    grid.note(counted & np.isnan(given), "stock is unknown on {} rows of products that have it on others.")
    delivered = grid.spread("units_sold") > given * (1 + ROUNDING)
    grid.note(delivered, "{} rows sold more than the opening stock (a delivery that day): stock is unknown there.")
    given[delivered] = np.nan
    return given


def available(grid: Grid) -> Floats:
    """(product, period) share of the period in which the product could be bought; NaN where unknown."""
    given = grid.spread("available")
    sold = (given == 0) & (grid.spread("units_sold") > 0)
    grid.note(sold, "{} rows have sales of a product that was never available: for how long it was is unknown there.")
    given[sold] = np.nan
    return given


def promotions(grid: Grid, price: Floats, list_price: Floats, config: DataConfig) -> Floats:
    """(product, period) 1.0 where a row is advertised: as given, planned, or derived from a cut below list price."""
    given = grid.spread("is_promo")
    missing = grid.present & np.isnan(given)
    plan = read_plan(config, "promotions") if missing.any() else None
    if plan is not None:
        planned = missing & plan.on(grid.ids, grid.dates, period=config.period)
        grid.note(planned, "is_promo is taken from data.promotions on {} rows.")
        given[planned] = 1.0
        missing &= ~planned

    if config.promo_cut is None:
        grid.note(missing, "is_promo is not given on {} rows: a cut there is a price, not a promotion.")
        cut = missing & (price <= list_price * (1 - USUAL_CUT))
        if not np.isfinite(given).any() and _mostly_returns(cut, config.period):
            advice = f"{USUAL_CUT:.0%} below list on {{}} rows, mostly for a while: if advertised, set data.promo_cut"
            grid.note(cut, f"prices lie {advice}: {USUAL_CUT}.")
        return np.nan_to_num(given)

    cut_by = f"{config.promo_cut:.0%}"
    grid.note(missing, f"is_promo is derived on {{}} rows: a price at least {cut_by} below list is a promotion.")
    cut = price <= list_price * (1 - config.promo_cut) * (1 + ROUNDING)
    return np.where(missing, cut, np.nan_to_num(given)).astype(np.float32)


def _mostly_returns(cut: Bools, period: Period) -> bool:
    """True where most spells of (product, period) cuts ended within RETURNS days."""
    edges = np.diff(np.pad(cut, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    first = np.nonzero(edges > 0)[1]
    after = np.nonzero(edges < 0)[1]
    lasted = (after - first)[after < cut.shape[1]]  # but for those that go on
    return bool(len(lasted)) and float(np.mean(lasted * STEP_DAYS[period] <= RETURNS)) > 0.5


def holidays(grid: Grid, config: DataConfig) -> tuple[Floats, bool]:
    """(product, period) each row's own flag, else the majority's of the period, else the country's calendar.

    Also returns whether any row has a flag.
    """
    given = grid.spread("is_holiday")
    known = ~np.isnan(given)
    voters = known.sum(axis=0)
    calendar = holidays_for(grid.dates, recurring=None, country=config.country, period=config.period)
    common = np.where(voters > 0, 2 * np.nansum(given, axis=0) > voters, calendar)
    grid.note(voters == 0, f"is_holiday is taken from the calendar of {config.country} for {{}} periods.")
    return np.where(known, given, common).astype(np.float32), bool(known.any())
