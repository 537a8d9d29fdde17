"""One competitor price per product and period, with its age, from the offers seen by then. Pure: no clock, no files."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pricing.arrays import Bools, Floats, Ints
from pricing.config_competitors import CompetitorsConfig, ImplausibleConfig, ReduceConfig

CELLS = 2_000_000
"""(entrant, product, period) cells that are reduced at once: bounds memory to about 100 MB."""
Reasons = npt.NDArray[np.object_]  # (row,) codes, or words
_NEEDED = ("product_id", "competitor", "item", "paid", "in_stock", "observed_at", "observed_day", "known_day")
_EPOCH = np.datetime64("1970-01-01", "D")


@dataclass(frozen=True)
class CompetitorPrices:
    """What the offers come to.

    Attributes:
        prices: `date`, `product_id`, `comp_price` and `comp_price_age` (whole days; both NaN where there is none) and
            `competitor`; every product and period once, product by product.
        set_aside: The offers that count for none, with `reason`, a code, and `found`, words.
    """

    prices: pd.DataFrame
    set_aside: pd.DataFrame


def comp_prices(
    offers: pd.DataFrame,
    *,
    products: Sequence[str],
    periods: Sequence[dt.date],
    config: CompetitorsConfig,
    time_zone: str = "UTC",
    own_prices: pd.DataFrame | None = None,
) -> CompetitorPrices:
    """Reduces matched offers to one price per product and period, as it was known by the end of the period's day.

    Of each competitor's offer of an item counts the one observed last among those seen and observed by then, up to
    `config.max_age_days` old: an offer that comes later changes no earlier period. The age is the number of midnights
    between observation and the period's day, in the shop's time zone; 0 on the day itself.

    Args:
        offers: History with our `product_id`, as `match_offers` returns it; not modified.
        products: Products of the answer.
        periods: First days of the periods, ascending.
        config: Currency, rates, rule and limits.
        time_zone: The shop's.
        own_prices: Our own prices, `date`, `product_id` and `price`: the newest of at most the day of observation is
            what `implausible.own_factor` compares with.
    """
    product_ids = pd.Index(list(dict.fromkeys(map(str, products))), dtype="object")
    days = np.array(list(periods), dtype="datetime64[D]")
    priced = _priced(offers, config=config, time_zone=time_zone, own_prices=own_prices)
    bad = priced["reason"] != ""
    aside = priced[bad].drop(columns=["paid", "known_day", "observed_day", "known_at"]).reset_index(drop=True)
    good = priced.loc[~bad, list(_NEEDED)].copy()
    good["product"] = product_ids.get_indexer(pd.Index(good["product_id"].astype(object)))
    entrants = _Entrants.of(good[good["product"] >= 0], config.reduce)
    return CompetitorPrices(_reduced(entrants, product_ids, days, config), aside)


def _priced(
    offers: pd.DataFrame, *, config: CompetitorsConfig, time_zone: str, own_prices: pd.DataFrame | None
) -> pd.DataFrame:
    """The offers as they became known, with `paid` in our currency, their days, and why some do not count."""
    frame = offers.assign(known_at=offers[["seen_at", "observed_at"]].max(axis=1))
    frame = frame.sort_values(["known_at", "seen_at", "observed_at"], kind="stable", ignore_index=True)
    rates = {config.currency: 1.0, **config.rates}
    rate = frame["currency"].astype(object).map(rates).astype("float64")
    gross = frame["tax_included"].astype(bool)
    tax = np.where(gross, 0.0, frame["tax_rate"].fillna(0.0))
    unit = frame["price"] * rate * (1 + tax)
    frame["paid"] = unit + frame["delivery_cost"] * rate if config.reduce.with_delivery else unit
    frame["observed_day"] = _local_days(frame["observed_at"], time_zone)
    frame["known_day"] = _local_days(frame["known_at"], time_zone)
    limits = config.implausible
    own = _own_price(frame, own_prices)
    reasons = np.full(len(frame), "", dtype=object)
    _note(reasons, rate.isna(), "currency_without_rate")
    if config.reduce.with_delivery:
        _note(reasons, frame["delivery_cost"].isna(), "delivery_cost_unknown")
    _note(reasons, ~unit.between(limits.lowest, limits.highest), "implausible_price")
    _note(reasons, (unit > limits.own_factor * own) | (unit * limits.own_factor < own), "far_from_own_price")
    usable = np.flatnonzero(reasons == "")
    jumps = np.zeros(len(frame), dtype=np.bool_)
    jumps[usable] = _jumps(frame.iloc[usable], unit.to_numpy()[usable], limits)
    _note(reasons, pd.Series(jumps, index=frame.index), "jump")
    frame["reason"] = pd.array(reasons, dtype="string")
    frame["found"] = pd.array(_words(frame, reasons, unit=unit, own=own, config=config), dtype="string")
    return frame


def _note(reasons: Reasons, broken: pd.Series, reason: str) -> None:
    """Gives a reason to rows that have none yet."""
    reasons[broken.fillna(False).to_numpy(dtype=np.bool_) & (reasons == "")] = reason


def _words(
    frame: pd.DataFrame, reasons: Reasons, *, unit: pd.Series, own: pd.Series, config: CompetitorsConfig
) -> Reasons:
    """(row,) what was found where there is a reason."""
    found = np.full(len(frame), "", dtype=object)
    for row in np.flatnonzero(reasons != ""):
        price = f"{unit.iloc[row]:g} {config.currency}"
        said = {
            "currency_without_rate": str(frame["currency"].iloc[row]),
            "delivery_cost_unknown": "no delivery_cost",
            "far_from_own_price": f"{price}, our own {own.iloc[row]:g}",
            "jump": f"{price}, over {config.implausible.factor:g} times off its last",
        }
        found[row] = said.get(reasons[row], price)
    return found


def _local_days(times: pd.Series, time_zone: str) -> Ints:
    """(row,) local calendar days, counted from 1970-01-01."""
    local = times.dt.tz_convert(time_zone).dt.tz_localize(None)
    return np.asarray(local.to_numpy().astype("datetime64[D]").astype(np.int64))


def _own_price(frame: pd.DataFrame, own_prices: pd.DataFrame | None) -> pd.Series:
    """(row,) our newest price on or before the day of observation; NaN where there is none."""
    if own_prices is None or own_prices.empty:
        return pd.Series(np.nan, index=frame.index)
    own = pd.DataFrame(
        {
            "product_id": own_prices["product_id"].astype(str).astype(object),
            "day": pd.to_datetime(own_prices["date"]).to_numpy().astype("datetime64[D]").astype(np.int64),
            "own": own_prices["price"].astype("float64").to_numpy(),
        }
    ).sort_values("day", kind="stable")
    asked = pd.DataFrame(
        {"product_id": frame["product_id"].astype(object), "day": frame["observed_day"], "row": np.arange(len(frame))}
    ).sort_values("day", kind="stable")
    found = pd.merge_asof(asked, own.dropna(), on="day", by="product_id").sort_values("row")
    return pd.Series(found["own"].to_numpy(), index=frame.index)


def _jumps(frame: pd.DataFrame, paid: Floats, limits: ImplausibleConfig) -> Bools:
    """(row,) whether a price lies beyond the factor from the last one of the same offer that counted.

    What was known earlier decides, never what came later: a price set aside once stays so. A new level counts after it
    has been seen for `believed_days`.
    """
    series = frame.groupby(["competitor", "product_id", "item"], sort=False, dropna=False).ngroup().to_numpy()
    order = np.argsort(series, kind="stable")
    ordered, logs, wide = series[order], np.log(paid[order]), np.log(limits.factor)
    same = np.diff(ordered) == 0
    suspects = np.unique(ordered[1:][same & (np.abs(np.diff(logs)) > wide)])
    marked = np.zeros(len(frame), dtype=np.bool_)
    days = frame["known_day"].to_numpy()[order]
    # Steps within the factor set nothing aside, so that only series with a larger one are walked through.
    starts = np.searchsorted(ordered, suspects, side="left")
    ends = np.searchsorted(ordered, suspects, side="right")
    for start, end in zip(starts, ends, strict=True):
        marked[order[start:end]] = _walk(logs[start:end], days[start:end], wide=wide, believed=limits.believed_days)
    return marked


def _walk(logs: Floats, days: Ints, *, wide: float, believed: int) -> Bools:
    marked = np.zeros(len(logs), dtype=np.bool_)
    last, other, since = logs[0], np.nan, 0
    for row, (price, day) in enumerate(zip(logs, days, strict=True)):
        if abs(price - last) <= wide:
            last, other = price, np.nan
            continue
        if not abs(price - other) <= wide:  # also where no other level has been seen
            since = day
        other = price
        if day - since >= believed:
            last, other = price, np.nan
        else:
            marked[row] = True
    return marked


@dataclass(frozen=True)
class _Entrants:
    """One entrant is one competitor's offer of one item for one product; what was known of it, in order.

    Attributes:
        key: (record,) entrant × span + day on which it became known, ascending.
        span: More than any day.
        paid: (record,) price; NaN where the entrant has none from then on.
        observed_day: (record,) day of observation.
        product: (entrant,) index of the product, ascending.
        competitor: (entrant,) index of the competitor.
        names: Competitors' names, ascending.
    """

    key: Ints
    span: int
    paid: Floats
    observed_day: Ints
    product: Ints
    competitor: Ints
    names: tuple[str, ...]

    @classmethod
    def of(cls, frame: pd.DataFrame, rule: ReduceConfig) -> "_Entrants":
        keys = ["product", "competitor", "item"]
        entrant = frame.groupby(keys, sort=True, dropna=False).ngroup()
        latest = frame.groupby(entrant, sort=False)["observed_at"].cummax()
        kept = frame["observed_at"] == latest  # an older observation that comes late replaces nothing
        frame, entrant = frame[kept], entrant[kept]
        order = np.argsort(entrant.to_numpy(), kind="stable")
        frame, ids = frame.iloc[order], entrant.to_numpy()[order]
        first = np.flatnonzero(np.diff(ids, prepend=-1))
        sold_out = (~frame["in_stock"].fillna(True)).to_numpy(dtype=np.bool_)
        names = sorted(frame["competitor"].unique())
        known_day = frame["known_day"].to_numpy().astype(np.int64)
        span = 1_000_000  # days, beyond the year 4700
        return cls(
            key=ids * span + known_day,
            span=span,
            paid=np.where(sold_out & rule.in_stock_only, np.nan, frame["paid"].to_numpy()),
            observed_day=frame["observed_day"].to_numpy().astype(np.int64),
            product=frame["product"].to_numpy()[first],
            competitor=pd.Index(names).get_indexer(frame["competitor"].iloc[first]),
            names=tuple(map(str, names)),
        )

    def at(self, entrants: Ints, days: Ints, *, max_age: int) -> tuple[Floats, Floats]:
        """(entrant, period) price and age in days of what was known by the end of each day; NaN where none counts."""
        place = np.searchsorted(self.key, entrants[:, None] * self.span + days[None, :], side="right") - 1
        own = (place >= 0) & (self.key[place] // self.span == entrants[:, None])
        age = np.where(own, days[None, :] - self.observed_day[place], np.inf)
        paid = np.where(own & (age <= max_age), self.paid[place], np.nan)
        return paid, age


def _reduced(entrants: _Entrants, product_ids: pd.Index, days: "np.ndarray", config: CompetitorsConfig) -> pd.DataFrame:
    shape = (len(product_ids), len(days))
    price, age = np.full(shape, np.nan), np.full(shape, np.nan)
    chosen = np.full(shape, -1, dtype=np.int64)
    numbers = (days - _EPOCH).astype(np.int64)
    counts = np.bincount(entrants.product, minlength=len(product_ids))
    widest = int(counts.max(initial=0))
    if widest and len(days):
        step = max(1, CELLS // (widest * len(days)))
        for low in range(0, len(product_ids), step):
            high = min(low + step, len(product_ids))
            price[low:high], age[low:high], chosen[low:high] = _chunk(entrants, numbers, config, products=(low, high))
    names = pd.array([*entrants.names, None], dtype="string")
    return pd.DataFrame(
        {
            "date": np.tile(days.astype("datetime64[s]"), len(product_ids)),
            "product_id": np.repeat(product_ids.to_numpy(), len(days)),
            "comp_price": price.reshape(-1),
            "comp_price_age": age.reshape(-1),
            "competitor": names[chosen.reshape(-1)],
        }
    )


def _chunk(
    entrants: _Entrants, days: Ints, config: CompetitorsConfig, *, products: tuple[int, int]
) -> tuple[Floats, Floats, Ints]:
    """(product, period) price, age and competitor of some products."""
    low, high = np.searchsorted(entrants.product, products)
    ids = np.arange(low, high)
    product = entrants.product[low:high] - products[0]
    paid, age = entrants.at(ids, days, max_age=config.max_age_days)
    rank = np.arange(len(ids)) - np.searchsorted(product, product)
    shape = (int(rank.max(initial=-1)) + 1, products[1] - products[0], len(days))
    prices, ages = np.full(shape, np.nan), np.full(shape, np.inf)
    competitor = np.full(shape[:2], -1, dtype=np.int64)
    prices[rank, product], ages[rank, product] = paid, age
    competitor[rank, product] = entrants.competitor[low:high]
    return _choose(prices, ages, competitor, names=entrants.names, rule=config.reduce)


def _choose(
    prices: Floats, ages: Floats, competitor: Ints, *, names: tuple[str, ...], rule: ReduceConfig
) -> tuple[Floats, Floats, Ints]:
    """(product, period) price, age and competitor, chosen among (entrant, product, period) prices by the rule."""
    if not len(prices):
        nothing = np.full(prices.shape[1:], np.nan)
        return nothing, nothing, np.full(nothing.shape, -1)
    if rule.rule == "lowest":
        place = _lowest(prices, ages)
    elif rule.rule == "median":
        place = _middle(prices, competitor)
    else:
        place = _preferred(prices, ages, competitor, codes=[names.index(n) for n in rule.prefer if n in names])
    there = place >= 0
    index = np.maximum(place, 0)[None]
    price = np.where(there, np.take_along_axis(prices, index, axis=0)[0], np.nan)
    age = np.where(there, np.take_along_axis(ages, index, axis=0)[0], np.nan)
    codes = np.broadcast_to(competitor[:, :, None], prices.shape)
    return price, age, np.where(there, np.take_along_axis(codes, index, axis=0)[0], -1)


def _lowest(prices: Floats, ages: Floats) -> Ints:
    """(product, period) the entrant with the lowest price, of equal ones the freshest; −1 where none has one."""
    known = np.isfinite(prices)
    lowest = np.where(known, prices, np.inf).min(axis=0)
    place = np.where(known & (prices == lowest), ages, np.inf).argmin(axis=0)
    return np.where(known.any(axis=0), place, -1)


def _middle(prices: Floats, competitor: Ints) -> Ints:
    """(product, period) the entrant in the middle, the lower of two; of one competitor's items its lowest counts."""
    prices = prices.copy()
    for one in range(len(prices)):
        for other in range(one):
            same = (competitor[one] == competitor[other]) & (competitor[one] >= 0)
            if same.any():
                dearer = same[:, None] & (prices[one] >= prices[other])
                cheaper = same[:, None] & (prices[one] < prices[other])
                prices[one][dearer] = np.nan
                prices[other][cheaper] = np.nan
    order = np.argsort(np.where(np.isfinite(prices), prices, np.inf), axis=0, kind="stable")
    number = np.isfinite(prices).sum(axis=0)
    place = np.take_along_axis(order, np.maximum((number - 1) // 2, 0)[None], axis=0)[0]
    return np.where(number > 0, place, -1)


def _preferred(prices: Floats, ages: Floats, competitor: Ints, *, codes: Sequence[int]) -> Ints:
    """(product, period) the lowest entrant of the first competitor in order that has a price."""
    place = np.full(prices.shape[1:], -1)
    for code in codes:
        own = np.where((competitor == code)[:, :, None], prices, np.nan)
        place = np.where(place < 0, _lowest(own, ages), place)
    return place
