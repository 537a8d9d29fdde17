"""Checked rows become a panel: the one place where anything absent is derived. Nothing looks ahead."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.config import DataConfig
from pricing.data.calendar import holidays_for
from pricing.data.panel import STEP_DAYS, Bools, Days, Floats, Panel, Strings
from pricing.errors import ContractError, Violation

ONE_CATEGORY = "all"
_BLOCK = 256  # products whose sliding windows are sorted at once: keeps them in tens of MB
Ints = NDArray[np.int64]


def build_panel(frame: pd.DataFrame, config: DataConfig) -> Panel:
    """Spreads rows over products × periods, carries prices over gaps, and derives what is absent.

    Causal: a value at a period rests on rows of that period and earlier ones only. The per-product
    attributes (`categories`, `cost_assumed`) are those at the end.

    Args:
        frame: Rows that keep the contract (see `pricing.data.contract.check`), in any order; not modified.
        config: The grain, and how absent columns are derived.

    Raises:
        ContractError: No rows, a repeated (product, date), or a date off the week's first day.
    """
    if frame.empty:
        raise ContractError("the sales", [Violation("there must be rows", 0, "found none")])
    ids, codes = _products(frame["product_id"])
    dates, positions = _periods(frame["date"], STEP_DAYS[config.period])
    shape = (len(ids), len(dates))
    cells = codes * shape[1] + positions
    present = np.zeros(shape, dtype=np.bool_)
    present.flat[cells] = True
    if int(present.sum()) != len(frame):
        extra = len(frame) - int(present.sum())
        raise ContractError("the sales", [Violation("(product_id, date) must be unique", extra, "a repeated pair")])

    def spread(name: str) -> Floats:
        series = np.full(shape, np.nan, dtype=np.float32)
        if name in frame:
            series.flat[cells] = frame[name].to_numpy(dtype=np.float32, na_value=np.nan)
        return series

    notes: list[str] = []
    latest = _latest(present)
    price = _carry(spread("price"), latest)
    category_codes, names = _categories(frame, cells, shape, notes)
    list_price = _list_price(spread("list_price"), price, latest, config, notes)
    unit_cost, cost_assumed = _unit_cost(
        spread("unit_cost"), list_price, _margins(category_codes, names, config), present, notes
    )
    is_holiday, holidays_given = _holidays(spread("is_holiday"), dates, config, notes)
    units_sold, stock = spread("units_sold"), spread("stock")
    with np.errstate(invalid="ignore"):
        above = int((units_sold > stock).sum())
    if above:
        notes.append(f"{above:,} rows sold more than the opening stock (a delivery that day): counted as censored.")
    return Panel(
        period=config.period,
        product_ids=ids,
        categories=names[category_codes[:, -1]],
        dates=dates,
        present=present,
        units_sold=units_sold,
        price=price,
        list_price=list_price,
        unit_cost=unit_cost,
        stock=stock,
        comp_price=spread("comp_price"),
        is_promo=_promotions(spread("is_promo"), price, list_price, present, config=config, notes=notes),
        is_holiday=is_holiday,
        cost_assumed=cost_assumed,
        notes=tuple(notes),
        holidays_given=holidays_given,
    )


def panel_frame(panel: Panel) -> pd.DataFrame:
    """The panel as contract rows again, ordered by product and date; periods without a row are left out."""
    row, column = np.nonzero(panel.present)
    frame = pd.DataFrame(
        {
            "date": panel.dates[column].astype("datetime64[s]"),
            "product_id": panel.product_ids[row],
            "category": panel.categories[row],
        }
    )
    for name in ("units_sold", "price", "list_price", "unit_cost", "stock", "comp_price", "is_promo", "is_holiday"):
        frame[name] = getattr(panel, name)[row, column]
    return frame


def _products(column: "pd.Series[str]") -> tuple[Strings, Ints]:
    codes, values = pd.factorize(column)
    names = np.asarray(values, dtype=np.str_)
    order = np.argsort(names)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return names[order], rank[codes]


def _periods(column: "pd.Series[pd.Timestamp]", step: int) -> tuple[Days, Ints]:
    days = pd.to_datetime(column).to_numpy().astype("datetime64[D]")
    offsets = (days - days.min()).astype(np.int64)
    off = offsets % step != 0
    if off.any():
        first = f"{days[off][0]} is not a whole number of weeks after {days.min()}"
        raise ContractError("the sales", [Violation("weekly dates must fall on one weekday", int(off.sum()), first)])
    dates = np.arange(days.min(), days.max() + np.timedelta64(step, "D"), np.timedelta64(step, "D"))
    return dates, offsets // step


def _latest(known: Bools) -> NDArray[np.int32]:
    """(product, period) the last period up to each one where `known`, -1 before the first."""
    columns = np.where(known, np.arange(known.shape[1], dtype=np.int32), np.int32(-1))
    return np.maximum.accumulate(columns, axis=1)


def _carry(series: Floats, latest: NDArray[np.int32]) -> Floats:
    carried = np.take_along_axis(series, np.maximum(latest, 0), axis=1)
    carried[latest < 0] = np.nan
    return carried


def _categories(
    frame: pd.DataFrame, cells: Ints, shape: tuple[int, int], notes: list[str]
) -> tuple[NDArray[np.int32], Strings]:
    """The category that each product was last seen in, (product, period), as rows of the returned names."""
    if "category" not in frame:
        notes.append(f"category is absent: every product is in the one category {ONE_CATEGORY!r}.")
        return np.zeros(shape, dtype=np.int32), np.array([ONE_CATEGORY])
    codes, values = pd.factorize(frame["category"])
    series = np.full(shape, -1, dtype=np.int32)
    series.flat[cells] = codes
    latest = _latest(series >= 0)
    series = np.take_along_axis(series, np.maximum(latest, 0), axis=1)
    if (missing := int((series[:, -1] < 0).sum())) > 0:
        notes.append(f"category is missing for {missing:,} products: they are in the category {ONE_CATEGORY!r}.")
    series[series < 0] = len(values)
    return series, np.array([*values.astype(str), ONE_CATEGORY])


def _margins(codes: NDArray[np.int32], names: Strings, config: DataConfig) -> Floats:
    margins = np.array([config.margin.get(str(name), config.margin["default"]) for name in names], dtype=np.float32)
    return margins[codes]


def _list_price(
    given: Floats, price: Floats, latest: NDArray[np.int32], config: DataConfig, notes: list[str]
) -> Floats:
    """A row's own list price, carried over gaps; where a row has none, the high quantile of recent prices."""
    own = _carry(given, latest)
    missing = np.isnan(own) & (latest >= 0)
    if not missing.any():
        return own
    notes.append(
        f"list_price is derived on {int(missing.sum()):,} product-periods: the {config.list_price_quantile:g} "
        f"quantile of price over {config.list_price_window} periods."
    )
    return np.where(missing, _trailing_quantile(price, config.list_price_window, config.list_price_quantile), own)


def _trailing_quantile(series: Floats, window: int, quantile: float) -> Floats:
    """(product, period) the price that `quantile` of the last `window` known ones do not pass; a real price, no mean.

    A series is NaN up to its first value and whole after it.
    """
    result = np.empty_like(series)
    padding = np.full((1, window - 1), np.nan, dtype=np.float32)
    for start in range(0, len(series), _BLOCK):
        block = series[start : start + _BLOCK]
        padded = np.concatenate([np.repeat(padding, len(block), axis=0), block], axis=1)
        windows = np.sort(np.lib.stride_tricks.sliding_window_view(padded, window, axis=1), axis=2)  # NaN last
        count = np.minimum(np.cumsum(~np.isnan(block), axis=1), window)
        rank = np.ceil(quantile * (np.maximum(count, 1) - 1) - 1e-9).astype(np.int64)
        result[start : start + _BLOCK] = np.take_along_axis(windows, rank[:, :, None], axis=2)[:, :, 0]
    return result


def _unit_cost(
    given: Floats, list_price: Floats, margins: Floats, present: Bools, notes: list[str]
) -> tuple[Floats, Bools]:
    """The last cost given; before the first one, the list price less the assumed margin."""
    known = ~np.isnan(given)
    cost = _carry(given, _latest(known))
    missing = np.isnan(cost) & ~np.isnan(list_price)
    assumed: Bools = ~np.asarray(known.any(axis=1))
    carried = int((present & ~known & ~np.isnan(cost)).sum())
    if carried:
        notes.append(f"unit_cost is missing on {carried:,} rows: the last one given is carried forward.")
    if missing.any():
        notes.append(
            f"unit_cost is assumed from the configured margin on {int(missing.sum()):,} product-periods; "
            f"{int(assumed.sum()):,} products have none at all."
        )
    return np.where(missing, list_price * (1 - margins), cost), assumed


def _promotions(
    given: Floats, price: Floats, list_price: Floats, present: Bools, *, config: DataConfig, notes: list[str]
) -> Floats:
    missing = present & np.isnan(given)
    if missing.any():
        notes.append(
            f"is_promo is derived on {int(missing.sum()):,} rows: a price at least "
            f"{config.promo_cut:.0%} below list is a promotion."
        )
    with np.errstate(invalid="ignore"):
        cut = price <= list_price * (1 - config.promo_cut) * (1 + 1e-5)
    return np.where(missing, cut, np.nan_to_num(given)).astype(np.float32)


def _holidays(given: Floats, dates: Days, config: DataConfig, notes: list[str]) -> tuple[Floats, bool]:
    """Each row's own flag, else what most rows of that period say, else the calendar of the configured country."""
    known = ~np.isnan(given)
    voters = known.sum(axis=0)
    calendar = holidays_for(dates, recurring=None, country=config.country, period=config.period)
    common = np.where(voters > 0, 2 * np.nansum(given, axis=0) > voters, calendar)
    silent = int((voters == 0).sum())
    if silent:
        notes.append(f"is_holiday is taken from the calendar of {config.country} for {silent:,} periods.")
    return np.where(known, given, common).astype(np.float32), bool(known.any())
