"""Build the panel from checked rows. Causal: no value depends on a later row."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.arrays import Days, Floats, Strings
from pricing.config_models import DataConfig
from pricing.data import derived_columns as derived
from pricing.data.anchors import Anchors, matching_anchors
from pricing.data.contract import LONGEST_ID
from pricing.data.events import named_events
from pricing.data.grid import Grid, as_rows, days_of
from pricing.data.latest import carry, latest_period
from pricing.data.missing_rows import MissingRows, handle_missing_rows
from pricing.data.panel import Event, Panel
from pricing.errors import ContractError, Violation

ONE_CATEGORY = "all"


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

    start = days_of(frame["date"]).min()
    earlier = None if past is None or past.dates[0] >= start else past.through(start - np.timedelta64(1, "D"))
    if earlier is not None:
        past = earlier
        frame = pd.concat([_context(earlier, frame, config), frame], ignore_index=True)
    grid = Grid.of(frame, period=config.period, start=start)

    price = carry(grid.spread("price"), grid.latest)
    category, categories = _categories(grid)
    list_price = derived.list_price(grid, price, config, _anchors_in_force(anchors, grid, earlier))
    tax_rate = derived.tax_rate(grid, config, past=past)
    assumed_rate = derived.assumed_tax_rate(grid, tax_rate, category, categories, past=past)
    unit_cost, cost_assumed = derived.unit_cost(
        grid, list_price, margin=_margins(categories, config)[category], tax_rate=assumed_rate
    )
    comp_price, comp_price_age = derived.competitor_price(grid, config)
    is_promo = derived.promotions(grid, price, list_price, config)
    is_holiday, holidays_given = derived.holidays(grid, config)
    stock = derived.stock(grid)
    available = derived.available(grid)

    launched = grid.latest >= 0
    if unknown is not None:
        launched &= ~grid.marked(*unknown)
    rows = handle_missing_rows(grid, stock, available, launched=launched, config=config)
    is_promo = _carried_over_zeros(is_promo, rows)

    product_categories = categories[category[:, -1]]
    if events is None:
        events = named_events(config, grid.dates[0], grid.dates[-1], period=config.period)
    _note_foreign_events(grid, events, product_categories)

    series = {
        "present": rows.present,
        "units_sold": rows.units,
        "price": price,
        "list_price": list_price,
        "unit_cost": unit_cost,
        "stock": stock,
        "available": available,
        "comp_price": comp_price,
        "comp_price_age": comp_price_age,
        "tax_rate": tax_rate,
        "is_promo": is_promo,
        "is_holiday": is_holiday,
    }
    own: dict[str, Any] = {name: values[:, grid.own] for name, values in series.items()}
    return Panel(
        period=config.period,
        product_ids=grid.ids,
        categories=product_categories,
        dates=grid.dates[grid.own],
        cost_assumed=cost_assumed,
        holidays_given=holidays_given,
        events=events,
        parent_ids=_parents(grid),
        names=_names(grid),
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
    if config.tax_rate is not None or (past.tax_rate > 0).any():  # else a rate of 0 means nothing
        columns.append("tax_rate")
    if config.missing != "zero":
        past = past.select(np.isin(past.product_ids, np.asarray(frame["product_id"].unique(), dtype=np.str_)))
    return as_rows(past, ~np.isnan(past.price), columns)


def _anchors_in_force(anchors: Anchors | None, grid: Grid, earlier: Panel | None) -> Anchors | None:
    """Return the anchors of this history, with those of its past; newer rows may hold new products only."""
    if earlier is not None:
        known = matching_anchors(anchors, earlier.product_ids)
        if known is not None:
            return known.extended(earlier)
    return matching_anchors(anchors, grid.ids)


def _categories(grid: Grid) -> tuple[NDArray[np.int32], Strings]:
    """(product, period) each product's latest category, as rows of the returned names."""
    _, latest, values = grid.codes("category")
    missing = int((latest[:, -1] < 0).sum())
    if missing:
        grid.notes.append(f"category is missing for {missing:,} products: they are in the category {ONE_CATEGORY!r}.")

    names = values.tolist()
    if ONE_CATEGORY not in names:
        names.append(ONE_CATEGORY)
    latest[latest < 0] = names.index(ONE_CATEGORY)
    return latest, np.array(names)


def _margins(categories: Strings, config: DataConfig) -> Floats:
    """(category,) the configured margin."""
    margins = [config.margin.get(str(name), config.margin["default"]) for name in categories]
    return np.array(margins, dtype=np.float32)


def _carried_over_zeros(is_promo: Floats, rows: MissingRows) -> Floats:
    """(product, period) the flags, with those of the row before where a zero was filled in."""
    return np.where(rows.filled, carry(is_promo, latest_period(rows.present & ~rows.filled)), is_promo)


def _note_foreign_events(grid: Grid, events: tuple[Event, ...], product_categories: Strings) -> None:
    foreign = sorted({event.category for event in events} - {"", *product_categories.tolist()})
    if foreign:
        grid.notes.append(f"data.events names {len(foreign)} categories that no product has, first {foreign[0]!r}.")


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
