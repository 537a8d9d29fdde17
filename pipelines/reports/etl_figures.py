"""Count what a panel holds: coverage, gaps, zeros, prices, stock, promotions, competitor and what can be learnt."""

import numpy as np
from pydantic import BaseModel, ConfigDict

from pricing.arrays import Bools, Floats, Ints
from pricing.config import Config
from pricing.data.features import promo_effect_share
from pricing.data.missing_rows import between_rows, counts_told
from pricing.data.panel import STEP_DAYS, Panel, Period
from pricing.demand.grades import GRADES
from pricing.demand.learnability import REASONS, Learnability, learnability

GONE = 28  # periods without a row after which a product counts as no longer on sale
OLD_DAYS = 7  # age from which a competitor's price is counted as old
_EDGES = {"0": 0, "1": 1, "2": 2, "3 to 5": 5, "6 to 10": 10, "11 to 20": 20, "over 20": 2**31}  # label: its highest


class Part(BaseModel):
    """A part of the report; what a later release adds is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Coverage(Part):
    """Rows over time; lists are by period.

    Attributes:
        dates: First day of each period, YYYY-MM-DD.
        rows: Rows, zeros that were filled in included.
        expected: Products on sale: from their first row on, until their last where that is long ago.
        units: Units sold.
    """

    dates: list[str]
    rows: list[int]
    expected: list[int]
    units: list[float]


class Missing(Part):
    """What absent rows were taken for, in product-periods.

    Attributes:
        setting: `data.missing`; empty where it is not set.
        zeros: Counted as zeros.
        unknown: Left unknown, between a product's first and last row.
        doubted: Zeros that may be stock-outs, left unknown.
    """

    setting: str
    zeros: int
    unknown: int
    doubted: int


class Stock(Part):
    """Stock and sold-out rows.

    Attributes:
        known: Share of rows with a stock.
        rows: Rows that sold all of a known stock.
        share: Their share of the rows with a stock; None where none has one.
        mostly: Products sold out on at least half of these rows.
        without: Products whose stock is never known.
    """

    known: float
    rows: int
    share: float | None
    mostly: int
    without: int


class Promotions(Part):
    """Advertised rows, and those at list price or above: these tell nothing of price, and draw nobody."""

    rows: int
    uncut: int
    products_uncut: int


class Competitor(Part):
    """Competitor's prices.

    Attributes:
        known: Share of rows with one.
        products: Products that ever had one.
        newest: Share of the last period's rows with one.
        median_age: Of the newest price of each of these products on the last day, in days; None where none has one.
        oldest_age: The highest of them.
        old: Of these products, those whose newest price is older than a week.
    """

    known: float
    products: int
    newest: float
    median_age: float | None
    oldest_age: float | None
    old: int


class Group(Part):
    """A category, with the products of each grade of what can be learnt.

    Attributes:
        name: Of the category.
        products: In it.
        own_history: Products whose own history can tell their elasticity.
        category: Products that the others of their category can lend one.
        prior_only: Products of which nothing can be learnt so far.
        units: Share of the shop's units.
        sold_out: Share of rows with a stock that sold out; None where no stock is known.
    """

    name: str
    products: int
    own_history: int
    category: int
    prior_only: int
    units: float
    sold_out: float | None


class Count(Part):
    """A name with the number of products it holds for, and their share of the shop's units."""

    name: str
    products: int
    units: float = 0.0


class Products(Part):
    """Every product, column by column, in order of product_id.

    Attributes:
        product_id: Id.
        category: Its latest.
        first: Day of its first row.
        last: Day of its last row.
        rows: Rows.
        gaps: Periods without a row between its first and its last.
        longest_gap: The longest of them.
        silent: Periods from its last sale to the end.
        zero_rows: Rows with 0 units.
        longest_zeros: The longest run of them.
        units: Units sold.
        prices: Distinct prices.
        changes: Price changes; `usable` and `independent` are those that can and those that will teach something.
        usable: See `pricing.demand.learnability.Learnability`.
        independent: See there.
        fortnights: See there.
        grade: own_history, category or prior_only: the best that training can give.
        reason: Why it is not own_history, a name; empty where it is.
        sold_out: Share of the rows with a stock; None where no stock is known.
        promotions: Advertised rows.
        comp_known: Rows with a competitor's price.
        comp_age: Age of the newest of them on the last day, in days; None where there is none.
        cost_assumed: Whether no cost was given.
    """

    product_id: list[str]
    category: list[str]
    first: list[str]
    last: list[str]
    rows: list[int]
    gaps: list[int]
    longest_gap: list[int]
    silent: list[int]
    zero_rows: list[int]
    longest_zeros: list[int]
    units: list[float]
    prices: list[int]
    changes: list[int]
    usable: list[int]
    independent: list[int]
    fortnights: list[int]
    grade: list[str]
    reason: list[str]
    sold_out: list[float | None]
    promotions: list[int]
    comp_known: list[int]
    comp_age: list[float | None]
    cost_assumed: list[bool]


class Figures(Part):
    """Everything that is counted of a panel; shares are 0 to 1."""

    period: Period
    first: str
    last: str
    periods: int
    products: int
    rows: int
    coverage: Coverage
    gaps: int
    products_with_gaps: int
    zero_rows: int
    missing: Missing
    price_points: list[Count]
    price_changes: list[Count]
    grades: list[Count]
    reasons: list[Count]
    categories: list[Group]
    stock: Stock
    promotions: Promotions
    competitor: Competitor
    cost_assumed: Count
    notes: list[str]
    table: Products


def count_figures(panel: Panel, config: Config, *, live_since: np.datetime64 | None = None) -> Figures:
    """Counts a panel. Pure; the order of the rows that it was built from changes nothing.

    Args:
        panel: The history; not modified.
        config: `data.missing` is told of; `demand.elasticity_prior_sd` says what price changes must remove.
        live_since: First day whose prices may be the platform's own; None where people set all prices.
    """
    learnt = learnability(panel, prior_sd=config.demand.elasticity_prior_sd, live_since=live_since)
    table = _products(panel, learnt)
    units = np.asarray(table.units)
    share = units / max(float(units.sum()), 1e-12)
    grade, reason = np.asarray(table.grade), np.asarray(table.reason)
    known = panel.present & np.isfinite(panel.stock)
    sold_out = panel.censored
    mostly = sum(value is not None and value >= 0.5 for value in table.sold_out)
    told = counts_told(panel.notes)
    return Figures(
        period=panel.period,
        first=str(panel.dates[0]),
        last=str(panel.dates[-1]),
        periods=len(panel.dates),
        products=len(panel.product_ids),
        rows=int(panel.present.sum()),
        coverage=_coverage(panel),
        gaps=sum(table.gaps),
        products_with_gaps=sum(gap > 0 for gap in table.gaps),
        zero_rows=sum(table.zero_rows),
        missing=Missing(setting=config.data.missing or "", **told),
        price_points=_histogram(learnt.prices, share),
        price_changes=_histogram(learnt.changes, share),
        grades=[_count(name, grade == name, share) for name in reversed(GRADES[:3])],
        reasons=[_count(name, reason == name, share) for name in REASONS if (reason == name).any()],
        categories=_groups(panel, grade=grade, share=share),
        stock=Stock(
            known=_share(known.sum(), panel.present.sum()) or 0.0,
            rows=int(sold_out.sum()),
            share=_share(sold_out.sum(), known.sum()),
            mostly=mostly,
            without=int((~known.any(axis=1)).sum()),
        ),
        promotions=_promotions(panel),
        competitor=_competitor(panel, table),
        cost_assumed=_count("cost_assumed", panel.cost_assumed, share),
        notes=list(panel.notes),
        table=table,
    )


def longest_run(marked: Bools) -> Ints:
    """(product,) length of the longest run of marked periods."""
    periods = np.arange(1, marked.shape[1] + 1, dtype=np.int32)
    since = periods - np.maximum.accumulate(np.where(marked, np.int32(0), periods), axis=1)
    return np.asarray(since.max(axis=1, initial=0))


def _products(panel: Panel, learnt: Learnability) -> Products:
    present, last = panel.present, present_until(panel.present)
    with np.errstate(invalid="ignore"):
        zero, sold = present & (panel.units_sold == 0), present & (panel.units_sold > 0)
    units = np.where(present, np.nan_to_num(panel.units_sold), 0.0).sum(axis=1, dtype=np.float64)
    gap = between_rows(present)
    known = present & np.isfinite(panel.stock)
    on_stock, sold_out = known.sum(axis=1), (panel.censored & known).sum(axis=1)
    offered = present & np.isfinite(panel.comp_price)
    ends = np.where(sold.any(axis=1), present_until(sold), np.argmax(present, axis=1) - 1)
    return Products(
        product_id=[str(name) for name in panel.product_ids],
        category=[str(name) for name in panel.categories],
        first=[str(day) for day in panel.dates[np.argmax(present, axis=1)]],
        last=[str(day) for day in panel.dates[last]],
        rows=present.sum(axis=1).tolist(),
        gaps=gap.sum(axis=1).tolist(),
        longest_gap=longest_run(gap).tolist(),
        silent=(len(panel.dates) - 1 - ends).tolist(),
        zero_rows=zero.sum(axis=1).tolist(),
        longest_zeros=longest_run(zero).tolist(),
        units=_rounded(units),
        prices=learnt.prices.tolist(),
        changes=learnt.changes.tolist(),
        usable=learnt.usable.tolist(),
        independent=learnt.independent.tolist(),
        fortnights=learnt.fortnights.tolist(),
        grade=[GRADES[grade] for grade in learnt.grade],
        reason=[str(reason) for reason in learnt.reason],
        sold_out=[_share(one, of) for one, of in zip(sold_out, on_stock, strict=True)],
        promotions=(present & (panel.is_promo > 0)).sum(axis=1).tolist(),
        comp_known=offered.sum(axis=1).tolist(),
        comp_age=_ages(panel, offered),
        cost_assumed=panel.cost_assumed.tolist(),
    )


def present_until(present: Bools) -> Ints:
    """(product,) last marked period; the last of all where none is."""
    return np.asarray(present.shape[1] - 1 - np.argmax(present[:, ::-1], axis=1))


def _ages(panel: Panel, offered: Bools) -> list[float | None]:
    """Age of each product's newest competitor's price at the end of the panel, days; None where there is none."""
    at = present_until(offered)
    days = (len(panel.dates) - 1 - at) * STEP_DAYS[panel.period]
    given: Floats | None = getattr(panel, "comp_price_age", None)  # of panels that know how old a price was then
    if given is not None:
        days = days + np.nan_to_num(given[np.arange(len(at)), at])
    found = np.where(offered.any(axis=1), days, np.nan)
    return [None if np.isnan(age) else float(age) for age in found]


def _coverage(panel: Panel) -> Coverage:
    present, last = panel.present, present_until(panel.present)
    periods = np.arange(present.shape[1])
    until = np.where(len(periods) - 1 - last > GONE, last, len(periods) - 1)
    first = np.argmax(present, axis=1)
    some = present.any(axis=1)
    begun = np.bincount(first[some], minlength=len(periods)).cumsum()
    ended = np.bincount(until[some] + 1, minlength=len(periods) + 1)[: len(periods)].cumsum()
    units = np.where(present, np.nan_to_num(panel.units_sold), 0.0).sum(axis=0, dtype=np.float64)
    return Coverage(
        dates=[str(day) for day in panel.dates],
        rows=present.sum(axis=0).tolist(),
        expected=(begun - ended).tolist(),
        units=_rounded(units),
    )


def _promotions(panel: Panel) -> Promotions:
    offered = panel.present & (panel.is_promo > 0)
    with np.errstate(invalid="ignore"):
        uncut = offered & (promo_effect_share(panel.price, panel.list_price) <= 0)
    return Promotions(rows=int(offered.sum()), uncut=int(uncut.sum()), products_uncut=int(uncut.any(axis=1).sum()))


def _competitor(panel: Panel, table: Products) -> Competitor:
    ages = [age for age in table.comp_age if age is not None]
    newest = panel.present[:, -1]
    return Competitor(
        known=_share(sum(table.comp_known), panel.present.sum()) or 0.0,
        products=len(ages),
        newest=_share((newest & np.isfinite(panel.comp_price[:, -1])).sum(), newest.sum()) or 0.0,
        median_age=float(np.median(ages)) if ages else None,
        oldest_age=max(ages, default=None),
        old=sum(age > OLD_DAYS for age in ages),
    )


def _groups(panel: Panel, *, grade: "np.ndarray", share: Floats) -> list[Group]:
    names, code = np.unique(panel.categories, return_inverse=True)
    known = panel.present & np.isfinite(panel.stock)

    def of(values: "np.ndarray") -> "np.ndarray":
        return np.bincount(code, values, minlength=len(names))

    held = {name: of(grade == name) for name in GRADES[:3]}
    products, units = of(np.ones(len(code))), of(share)
    rows, out = of(known.sum(axis=1)), of(panel.censored.sum(axis=1))
    return [
        Group(
            name=str(name),
            products=int(products[at]),
            **{grade: int(count[at]) for grade, count in held.items()},
            units=round(float(units[at]), 6),
            sold_out=_share(out[at], rows[at]),
        )
        for at, name in enumerate(names)
    ]


def _histogram(values: Ints, share: Floats) -> list[Count]:
    edges = np.asarray(list(_EDGES.values()))
    place = np.searchsorted(edges, values)
    return [_count(name, place == at, share) for at, name in enumerate(_EDGES)]


def _count(name: str, marked: Bools, share: Floats) -> Count:
    return Count(name=name, products=int(marked.sum()), units=round(float(share[marked].sum()), 6))


def _share(part: "float | np.integer", whole: "float | np.integer") -> float | None:
    return round(float(part) / float(whole), 6) if whole else None


def _rounded(values: Floats) -> list[float]:
    return [round(float(value), 3) for value in values]
