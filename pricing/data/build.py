"""Build the panel from checked rows and derive absent columns. Causal: no value depends on a later row."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.arrays import Bools, Days, Floats, Strings
from pricing.config_models import DataConfig
from pricing.data.anchors import Anchors, matching_anchors
from pricing.data.calendar import holidays_for
from pricing.data.contract import LONGEST_ID
from pricing.data.events import named_events, read_plan
from pricing.data.grid import Grid, as_rows, carry, days_of, latest_period
from pricing.data.missing_rows import handle_missing_rows
from pricing.data.net_price import cost_at_margin, highest_rates
from pricing.data.panel import SERIES, Event, Panel
from pricing.errors import ContractError, Violation

ONE_CATEGORY = "all"
LIST_PRICE_QUANTILE = 0.9  # of the prices of the trailing window, where no list price is given
ROUNDING = 1e-5  # relative, of amounts in single precision
_BLOCK = 256  # products whose sliding windows are sorted at once, so that they take tens of MB


def build_panel(
    frame: pd.DataFrame,
    config: DataConfig,
    *,
    past: Panel | None = None,
    anchors: Anchors | None = None,
    events: tuple[Event, ...] | None = None,
    unknown: tuple[Strings, Days] | None = None,
) -> Panel:
    """Lay rows out over products × periods, carry prices over gaps and derive absent values.

    Causal: a value at a period depends only on rows of that period and earlier ones. What has one value a product, such
    as its category, is that at the end.

    Args:
        frame: Rows that satisfy the contract (see `pricing.data.contract.check`), in any order; not modified.
        config: The grain, and how absent columns are derived.
        past: The panel up to some earlier day, at least `list_price_window` periods of it, when `frame` holds only
            newer rows of the same history; values are derived as if the whole history had been given.
        anchors: Regular prices that replace an absent list price from `Anchors.since` on (a product launched later
            gets its first price). Ignored if they have none of the products: they belong to another history.
        events: Named events; read as `config` says when absent.
        unknown: (cell,) products and days without a row of which nothing is known, even where absent rows are zeros.

    Returns:
        The products and periods of `frame`; given a past and absent rows as zeros, all products of the past.

    Raises:
        ContractError: No rows, a repeated (product, date), or a date off the week's first day.
        MissingRowsError: Periods without a row that `config.missing` does not allow.
        SourceError: A calendar of events or a plan of promotions that `config` names cannot be read.

    Example:
        >>> import pandas as pd
        >>> from pricing.config import load_config
        >>> from pricing.data.build import build_panel
        >>> days = pd.to_datetime(["2026-03-02", "2026-03-04"])  # and nothing on the 3rd
        >>> sales = pd.DataFrame({"date": days, "product_id": "tea", "units_sold": [12, 9], "price": [4.99, 4.49]})
        >>> panel = build_panel(sales, load_config().data)
        >>> print(panel.units_sold, panel.price)  # (product, period); the price is carried over the gap
        [[12. nan  9.]] [[4.99 4.99 4.49]]
    """
    if frame.empty:
        raise ContractError("the sales", [Violation("there must be rows", 0, "found none")])
    start, ours = days_of(frame["date"]).min(), None
    if past is not None and past.dates[0] < start:
        past = past.through(start - np.timedelta64(1, "D"))
        frame = pd.concat([_context(past, frame, config), frame], ignore_index=True)
        ours = matching_anchors(anchors, past.product_ids)  # newer rows may contain new products only
        ours = ours and ours.extended(past)
    grid = Grid.of(frame, period=config.period, start=start)
    price = carry(grid.spread("price"), grid.latest)
    category_codes, names = _categories(grid)
    list_price = _list_price(grid, price, config, ours or matching_anchors(anchors, grid.ids))
    tax_rate = _tax_rate(grid, past, config)
    margins = np.array([config.margin.get(str(name), config.margin["default"]) for name in names], dtype=np.float32)
    rates = _with_assumed(tax_rate, grid, categories=names[category_codes], past=past)
    unit_cost, cost_assumed = _unit_cost(grid, cost_at_margin(list_price, margins[category_codes], tax_rate=rates))
    comp_price, comp_price_age = _comp_price(grid, config)
    is_promo = _promotions(grid, price, list_price, config)
    is_holiday, holidays_given = _holidays(grid, config)
    stock = grid.spread("stock")
    some = grid.present & np.isfinite(stock).any(axis=1, keepdims=True)
    grid.note(some & np.isnan(stock), "stock is unknown on {} rows of products that have it on others.")
    with np.errstate(invalid="ignore"):
        delivered = grid.spread("units_sold") > stock * (1 + ROUNDING)
    grid.note(delivered, "{} rows sold more than the opening stock (a delivery that day): stock is unknown there.")
    stock = np.where(delivered, np.float32(np.nan), stock)
    launched = grid.latest >= 0
    if unknown is not None:
        launched &= ~grid.marked(*unknown)
    rows = handle_missing_rows(grid, stock, launched=launched, config=config)
    is_promo = np.where(rows.filled, carry(is_promo, latest_period(rows.present & ~rows.filled)), is_promo)
    if events is None:
        events = named_events(config, grid.dates[0], grid.dates[-1], period=config.period)
    if nobodys := sorted({event.category for event in events} - {"", *names[category_codes[:, -1]].tolist()}):
        grid.notes.append(f"data.events names {len(nobodys)} categories that no product has, first {nobodys[0]!r}.")
    competitor, flags = (comp_price, comp_price_age), (is_promo, is_holiday)
    series = (rows.present, rows.units, price, list_price, unit_cost, stock, *competitor, tax_rate, *flags)
    own: dict[str, Any] = {name: values[:, grid.own] for name, values in zip(SERIES, series, strict=True)}
    return Panel(
        period=config.period,
        product_ids=grid.ids,
        categories=names[category_codes[:, -1]],
        dates=grid.dates[grid.own],
        cost_assumed=cost_assumed,
        holidays_given=holidays_given,
        events=events,
        parent_ids=_parents(grid),
        names=_names(grid) if "name" in frame else {},
        silent=tuple(grid.ids[rows.silent].tolist()),
        notes=tuple(grid.notes),
        **own,
    )


def _context(past: Panel, frame: pd.DataFrame, config: DataConfig) -> pd.DataFrame:
    """Return the past of the frame's products as rows, without the values that were derived.

    If absent rows count as zeros, of all products: one without any new row may have sold nothing.
    """
    columns = ["product_id", "price", "units_sold", "stock", "unit_cost", "is_promo"]
    columns += [name for name in ("category", "list_price") if name in frame]
    if "parent_id" in frame and past.parent_ids is not None:
        columns.append("parent_id")
    if config.tax_rate is not None or (past.tax_rate > 0).any():  # else a rate of 0 says nothing
        columns.append("tax_rate")
    if config.missing != "zero":
        past = past.select(np.isin(past.product_ids, np.asarray(frame["product_id"].unique(), dtype=np.str_)))
    return as_rows(past, ~np.isnan(past.price), columns)


def _categories(grid: Grid) -> tuple[NDArray[np.int32], Strings]:
    """Each product's latest category, (product, period), as rows of the returned names."""
    _, series, values = grid.codes("category")
    if (missing := int((series[:, -1] < 0).sum())) > 0:
        grid.notes.append(f"category is missing for {missing:,} products: they are in the category {ONE_CATEGORY!r}.")
    series[series < 0] = len(values)
    return series, np.array([*values, ONE_CATEGORY])


def _parents(grid: Grid) -> Strings | None:
    """(product,) each product's latest parent, its own id without one; None where no product has one."""
    series, carried, values = grid.codes("parent_id")
    latest = carried[:, -1]
    parents: Strings = np.where(latest >= 0, np.array([*values, ""])[latest], grid.ids)
    if (parents == grid.ids).all():
        return None
    other = ((series >= 0) & (series != latest[:, None])).any(axis=1)
    if other.any():
        first = str(grid.ids[other][0])
        grid.notes.append(f"parent_id changes on {int(other.sum()):,} products, first {first!r}: the latest counts.")
    count = np.unique(parents, return_counts=True)[1]
    shared = count[count > 1]
    grid.notes.append(f"parent_id: {shared.sum():,} series share the elasticity of {len(shared):,} products.")
    return parents


def _names(grid: Grid) -> dict[str, str]:
    """Product → its newest name, of those that have one."""
    _, carried, values = grid.codes("name")
    newest = carried[:, -1]
    named = newest >= 0
    texts = values[newest[named]].astype(f"U{LONGEST_ID}").tolist()
    return dict(zip(grid.ids[named].tolist(), texts, strict=True))


def _list_price(grid: Grid, price: Floats, config: DataConfig, anchors: Anchors | None) -> Floats:
    """(product, period) given list price, carried over gaps; else the anchor, or before `since` a price quantile."""
    own = carry(grid.spread("list_price"), grid.latest)
    missing = np.isnan(own) & (grid.latest >= 0)
    if not missing.any():
        return own
    window = config.list_price_window
    list_price = np.where(missing, _trailing_quantile(price, window, LIST_PRICE_QUANTILE), own)
    anchored = np.zeros(grid.present.shape, dtype=np.bool_)
    if anchors is not None:
        series = {"present": grid.present, "price": price, "list_price": list_price}
        anchors = anchors.with_products(grid.ids, dates=grid.dates, **series)
        anchored = missing & (grid.dates >= anchors.since)
        list_price = np.where(anchored, anchors.list_prices(grid.ids, grid.dates), list_price)
        grid.note(anchored, f"list_price is the anchor on {{}} product-periods from {anchors.since} on.")
    which = f"{LIST_PRICE_QUANTILE:g} quantile of {window} periods' prices"
    grid.note(missing & ~anchored, f"list_price is derived on {{}} product-periods: {which}.")
    return list_price


def _trailing_quantile(series: Floats, window: int, quantile: float) -> Floats:
    """(product, period) the `quantile` of the last `window` known prices; always one of them, not interpolated.

    A series is NaN up to its first value and has no gaps after it.
    """
    result = np.empty_like(series)
    for start in range(0, len(series), _BLOCK):
        block = series[start : start + _BLOCK]
        padded = np.pad(block, ((0, 0), (window - 1, 0)), constant_values=np.nan)
        windows = np.sort(np.lib.stride_tricks.sliding_window_view(padded, window, axis=1), axis=2)  # NaN last
        count = np.minimum(np.cumsum(~np.isnan(block), axis=1), window)
        rank = np.ceil(quantile * (np.maximum(count, 1) - 1) - 1e-9).astype(np.int64)
        result[start : start + _BLOCK] = np.take_along_axis(windows, rank[:, :, None], axis=2)[:, :, 0]
    return result


def _tax_rate(grid: Grid, past: Panel | None, config: DataConfig) -> Floats:
    """(product, period) last given tax rate, carried forward like a cost; before, the configured one.

    Without that it is 0 before any product is taxed. From then on it is unknown, NaN, where the product was given none
    yet: with 0 it could sell below net cost.
    """
    given = grid.spread("tax_rate")
    if config.tax_rate is not None:
        rate = carry(given, latest_period(~np.isnan(given)))
        return np.where(np.isnan(rate), np.float32(config.tax_rate), rate)
    taxed = grid.dates[(given > 0).any(axis=0)]
    if past is not None:  # its other products, too
        taxed = np.concatenate([taxed, past.dates[(past.tax_rate > 0).any(axis=0)]])
    if not len(taxed):
        return np.zeros_like(given)
    since: Bools = grid.dates >= taxed.min()
    known = ~np.isnan(given) & since
    rate = carry(given, latest_period(known))
    missing, unknown = grid.present & np.isnan(given), np.isnan(rate)
    grid.note(missing & ~unknown, "tax_rate is missing on {} rows: the last one given is carried forward.")
    grid.note(
        missing & unknown & since, "tax_rate was never given on {} rows: the category's highest is assumed there."
    )
    return np.where(unknown & ~since, np.float32(0), rate)


def _with_assumed(tax_rate: Floats, grid: Grid, *, categories: Strings, past: Panel | None) -> Floats:
    """The rates with assumed ones where unknown; past products without a row here are among those that are asked."""
    unknown = np.isnan(tax_rate)
    if not unknown.any():
        return tax_rate
    rates = tax_rate
    if past is not None and (past.tax_rate > 0).any():  # before, a rate of 0 says nothing
        absent = ~np.isin(past.product_ids, grid.ids)
        shape = (int(absent.sum()), tax_rate.shape[1])
        rates = np.concatenate([rates, np.broadcast_to(past.tax_rate[absent, -1:], shape)])
        categories = np.concatenate([categories, np.broadcast_to(past.categories[absent, None], shape)])
    numbers = np.unique(categories, return_inverse=True)[1].reshape(rates.shape)
    return np.where(unknown, highest_rates(rates, numbers)[: len(tax_rate)], tax_rate)


def _comp_price(grid: Grid, config: DataConfig) -> tuple[Floats, Floats]:
    """(product, period) the competitor's price, and the days since it was seen; NaN where none is, or is too old."""
    price, age = grid.spread("comp_price"), grid.spread("comp_price_age")
    known = np.isfinite(price)
    age = np.where(known, np.nan_to_num(age), np.float32(np.nan))
    with np.errstate(invalid="ignore"):
        old = age > config.comp_price_max_age
    grid.note(old, f"comp_price is older than {config.comp_price_max_age:g} days on {{}} rows: unknown there.")
    return np.where(old, np.float32(np.nan), price), np.where(old, np.float32(np.nan), age)


def _unit_cost(grid: Grid, at_margin: Floats) -> tuple[Floats, Bools]:
    """(product, period) last given cost, else that at the configured margin; (product,) whether no cost was given."""
    given = grid.spread("unit_cost")
    known = ~np.isnan(given)
    cost = carry(given, latest_period(known))
    missing = np.isnan(cost) & ~np.isnan(at_margin)
    assumed: Bools = ~np.asarray(known.any(axis=1))
    carried = grid.present & ~known & ~np.isnan(cost)
    grid.note(carried, "unit_cost is missing on {} rows: the last one given is carried forward.")
    which = f"{int(assumed.sum()):,} products have none at all"
    grid.note(missing, f"unit_cost is assumed from the configured margin on {{}} product-periods; {which}.")
    return np.where(missing, at_margin, cost), assumed


def _promotions(grid: Grid, price: Floats, list_price: Floats, config: DataConfig) -> Floats:
    given = grid.spread("is_promo")
    missing = grid.present & np.isnan(given)
    if missing.any() and (plan := read_plan(config, "promotions")) is not None:
        planned = missing & plan.on(grid.ids, grid.dates, period=config.period)
        grid.note(planned, "is_promo is taken from data.promotions on {} rows.")
        given = np.where(planned, 1.0, given)
        missing &= ~planned
    if config.promo_cut is None:
        grid.note(missing, "is_promo is not given on {} rows: a cut there is a price, not a promotion.")
        return np.nan_to_num(given).astype(np.float32)
    cut_by = f"{config.promo_cut:.0%}"
    grid.note(missing, f"is_promo is derived on {{}} rows: a price at least {cut_by} below list is a promotion.")
    with np.errstate(invalid="ignore"):
        cut = price <= list_price * (1 - config.promo_cut) * (1 + 1e-5)
    return np.where(missing, cut, np.nan_to_num(given)).astype(np.float32)


def _holidays(grid: Grid, config: DataConfig) -> tuple[Floats, bool]:
    """Each row's own flag, else the majority of that period's rows, else the configured country's calendar."""
    given = grid.spread("is_holiday")
    known = ~np.isnan(given)
    voters = known.sum(axis=0)
    calendar = holidays_for(grid.dates, recurring=None, country=config.country, period=config.period)
    common = np.where(voters > 0, 2 * np.nansum(given, axis=0) > voters, calendar)
    grid.note(voters == 0, f"is_holiday is taken from the calendar of {config.country} for {{}} periods.")
    return np.where(known, given, common).astype(np.float32), bool(known.any())
