"""Tell how much each product's history can say about its elasticity, before anything is trained, and why no more.

These are necessary conditions of the estimation: enough fortnights with price changes that nothing else explains, and
enough units sold around them. Training may still grade a product lower (`grades`), where tests of its estimate fail.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pricing.arrays import Bools, Floats, Ints, Strings
from pricing.data.panel import Panel
from pricing.demand.elasticity import BETWEEN
from pricing.demand.elasticity_estimation import FORTNIGHT
from pricing.demand.grades import (
    CATEGORY,
    IDENTIFIED,
    LEAST_CLUSTERS,
    OWN_HISTORY,
    PRIOR_ONLY,
    TELLS,
    Grades,
)
from pricing.demand.price_changes import (
    FEW,
    LEAST_ROWS_BEFORE,
    SCORED_PERIODS,
    SCORED_PERIODS_FEW,
    distinct_prices,
    price_changes,
)

MOSTLY_SOLD_OUT = 0.5  # share of the rows with a known stock from which sales say more of stock than of demand
TOGETHER, TOGETHER_SHARE = 3, 0.8  # products, and share of their category's, whose prices change alike: a season's sale

# reason: (why a product's own history cannot tell its elasticity, what would help)
REASONS: Mapping[str, tuple[str, str]] = {
    "no_sales": ("it has not sold yet", "Nothing: it is priced by its category until it has sales"),
    "one_price": ("it has had one price only", "Change its price, or let a price test do so"),
    "few_rows": (
        f"it has no more than {LEAST_ROWS_BEFORE} rows, and its usual sales are not known before",
        "Nothing: wait for more days",
    ),
    "sold_out": (
        "it was sold out on most days, or when its price changed: sales then tell the stock, not the demand",
        "Deliver more of it, or look at whether stock is given as it is at opening",
    ),
    "platform_prices": (
        "its prices were set by this platform, which knew the demand that it expected",
        "Run a price test: its draws can be learnt from",
    ),
    "early_changes": (
        f"its price changed only within its first {LEAST_ROWS_BEFORE} rows, or beside days without a row",
        "Deliver the missing days, or change its price again",
    ),
    "few_changes": (
        f"it changed its price too seldom: fewer than {LEAST_CLUSTERS} fortnights show sales just after a change",
        "Change its price more often, or let a price test do so",
    ),
    "with_promotions": (
        "its price changed when a promotion began or ended: price and advertising cannot be told apart",
        "Change its price now and then without advertising it, or let a price test do so",
    ),
    "on_holidays": (
        "its price changed on holidays and events, when demand changes of itself",
        "Change its price on ordinary days, or let a price test do so",
    ),
    "with_category": (
        "its price changed together with its whole category, as in a season's sale",
        "Change its price at another time than its category's, or let a price test do so",
    ),
    "little_sold": (
        "its price changes were too small for what it sells: chance moves its sales more",
        "Nothing: slow sellers take the elasticity of their category",
    ),
}


@dataclass(frozen=True)
class Learnability:
    """What the history can tell of each product; arrays are (product,).

    Attributes:
        grade: Index into `grades.GRADES`: the best that training can give without a price test.
        reason: Why it is not own history, a key of REASONS; empty where it is.
        prices: Distinct prices ever charged.
        changes: Price changes with a row before and after.
        usable: Those of them after the product's first rows and not by the platform.
        independent: Those of them that no stock-out, promotion, holiday or change of the whole category explains.
        fortnights: Fortnights with sales just after an independent change, of all its stores where it has several.
    """

    grade: Grades
    reason: Strings
    prices: Ints
    changes: Ints
    usable: Ints
    independent: Ints
    fortnights: Ints


def learnability(panel: Panel, *, prior_sd: float, live_since: np.datetime64 | None = None) -> Learnability:
    """Look at every product's history, before training.

    Args:
        panel: The history; not modified.
        prior_sd: Standard deviation of an elasticity before any price moved.
        live_since: First day whose prices may be the platform's own; None where people set all prices.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        log_price = np.log(panel.price)
    seen, products = panel.present, len(panel.product_ids)
    category = np.unique(panel.categories, return_inverse=True)[1].astype(np.int64)
    changed = price_changes(log_price, seen, least_before=1)
    late = price_changes(log_price, seen)
    row, at = np.nonzero(changed)  # (change,) by product, then period
    step = (log_price[row, at] - log_price[row, at - 1]).astype(np.float64)
    ours = np.zeros(len(row), dtype=np.bool_) if live_since is None else panel.dates[at] >= live_since
    usable = late[row, at] & ~ours
    causes = {
        "sold_out": panel.censored[row, at] | panel.censored[row, at - 1],
        "with_promotions": panel.is_promo[row, at] != panel.is_promo[row, at - 1],
        "on_holidays": _on_holiday(panel, row, at, category=category),
        "with_category": _together(category, seen, row=row, at=at, rises=step > 0),
    }
    independent = usable & ~np.logical_or.reduce(list(causes.values()))
    unit = _units(panel)
    scored = _scored(panel, row=row, at=at, usable=usable)
    clusters = _fortnights(panel, unit, row=row[independent], at=at[independent], scored=scored[independent])
    of_all = _fortnights(panel, unit, row=row[usable], at=at[usable], scored=scored[usable])
    held = _information(panel, row=row, step=step, scored=np.where(independent, scored, 0))
    information = np.bincount(unit, held, minlength=products).astype(np.float64)[unit]
    enough = information * prior_sd**2 >= IDENTIFIED / (1.0 - IDENTIFIED)
    lent = _lent(information, unit=unit, category=category, prior_sd=prior_sd)
    own = (clusters >= LEAST_CLUSTERS) & enough & (_sold_out_share(panel) < MOSTLY_SOLD_OUT)
    prices = distinct_prices(log_price, seen)

    def count(kept: Bools) -> Ints:
        return np.bincount(row[kept], minlength=products).astype(np.int64)

    by_cause = np.stack([count(usable & found) for found in causes.values()])
    chief = np.asarray(list(causes))[by_cause.argmax(axis=0)]
    with np.errstate(invalid="ignore"):
        sold = (seen & (panel.units_sold > 0)).any(axis=1)
    early = np.where(count(ours) > 0, "platform_prices", "early_changes")
    reason = np.select(
        [
            own,
            ~sold,
            prices <= 1,
            seen.sum(axis=1) <= LEAST_ROWS_BEFORE,
            _sold_out_share(panel) >= MOSTLY_SOLD_OUT,
            of_all == 0,
            of_all < LEAST_CLUSTERS,
            clusters < LEAST_CLUSTERS,
        ],
        ["", "no_sales", "one_price", "few_rows", "sold_out", early, "few_changes", chief],
        default="little_sold",
    )
    grade = np.where(own, OWN_HISTORY, np.where(lent, CATEGORY, PRIOR_ONLY)).astype(np.int8)
    return Learnability(grade, reason, prices, count(changed[row, at]), count(usable), count(independent), clusters)


def _units(panel: Panel) -> Ints:
    """(product,) first row of the products that share an elasticity with it: a product's stores, else itself."""
    parents: Strings | None = getattr(panel, "parent_ids", None)
    if parents is None:
        return np.arange(len(panel.product_ids))
    _, first, inverse = np.unique(parents, return_index=True, return_inverse=True)
    return np.asarray(first[inverse])


def _on_holiday(panel: Panel, row: Ints, at: Ints, *, category: Ints) -> Bools:
    """(change,) whether the period that it begins in has a holiday, or a day of a named event of its category."""
    marked = panel.is_holiday[row, at] > 0
    names = np.unique(panel.categories)
    length = np.diff(panel.dates[:2])[0] if len(panel.dates) > 1 else np.timedelta64(1, "D")
    for event in panel.events:
        if event.overlay:  # school holidays and pay days last too long, or come too often, to explain a change
            continue
        inside = (panel.dates + length > event.first) & (panel.dates <= event.last)
        concerned = inside[at]
        marked |= concerned & (names[category[row]] == event.category) if event.category else concerned
    return np.asarray(marked)


def _together(category: Ints, seen: Bools, *, row: Ints, at: Ints, rises: Bools) -> Bools:
    """(change,) whether almost all of its category's products changed their price the same way in that period."""
    if not len(row):
        return np.zeros(0, dtype=np.bool_)
    periods = seen.shape[1]
    order = np.argsort(category, kind="stable")
    begins = np.searchsorted(category[order], np.arange(int(category.max()) + 1))
    on_sale = np.add.reduceat(seen[order], begins, axis=0, dtype=np.int64)
    keys = (category[row] * periods + at) * 2 + rises
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    same = counts[inverse]
    return np.asarray((same >= TOGETHER) & (same >= TOGETHER_SHARE * on_sale[category[row], at]))


def _scored(panel: Panel, *, row: Ints, at: Ints, usable: Bools) -> Ints:
    """(change,) periods after each change that training forecasts: more of a product with few changes."""
    products, periods = panel.present.shape
    end = np.append(np.where(np.diff(row) == 0, at[1:], periods), periods)[: len(row)]
    few = np.bincount(row[usable], minlength=products) < FEW
    return np.minimum(end - at, np.where(few, SCORED_PERIODS_FEW, SCORED_PERIODS)[row])


def _fortnights(panel: Panel, unit: Ints, *, row: Ints, at: Ints, scored: Ints) -> Ints:
    """(product,) fortnights with a row just after a change of the product or of another of its stores."""
    products, periods = panel.present.shape
    offset = np.arange(int(scored.sum())) - np.repeat(np.cumsum(scored) - scored, scored)
    product, period = np.repeat(row, scored), np.repeat(at, scored) + offset
    there = panel.present[product, period]
    length = FORTNIGHT[panel.period]
    marked = np.zeros((products, periods // length + 1), dtype=np.bool_)
    marked[unit[product[there]], period[there] // length] = True
    return np.asarray(marked.sum(axis=1))[unit]


def _information(panel: Panel, *, row: Ints, step: Floats, scored: Ints) -> Floats:
    """(product,) the most that changes can tell: 1 / variance of an estimate that knows everything else.

    With counts of mean μ, an estimate of the elasticity from periods whose log price lies d from the usual has the
    variance 1 / Σ μ d² (Poisson, log link). Demand is over-dispersed, so the true variance is larger.
    """
    rows = np.maximum(panel.present.sum(axis=1), 1)
    mean = np.where(panel.present, np.nan_to_num(panel.units_sold), 0.0).sum(axis=1, dtype=np.float64) / rows
    return np.bincount(row, mean[row] * step**2 * scored, minlength=len(rows)).astype(np.float64)


def _lent(information: Floats, *, unit: Ints, category: Ints, prior_sd: float) -> Bools:
    """(product,) whether the other products of its category tell enough of the category's mean."""
    first = unit == np.arange(len(unit))  # stores of one product tell the same thing once
    tells = first & (information * prior_sd**2 >= TELLS / (1.0 - TELLS))
    with np.errstate(divide="ignore"):
        weight = np.where(tells, 1.0 / (1.0 / information + (BETWEEN * prior_sd) ** 2), 0.0)
    others = np.bincount(category, weight)[category] - weight[unit]
    variance = prior_sd**2 * (1.0 - BETWEEN**2)
    return np.asarray(others * variance >= IDENTIFIED / (1.0 - IDENTIFIED) - 1e-9)


def _sold_out_share(panel: Panel) -> Floats:
    """(product,) share of its rows with a known stock that sold all of it; 0 where no stock is known."""
    known = panel.present & np.isfinite(panel.stock)
    return np.asarray((panel.censored & known).sum(axis=1) / np.maximum(known.sum(axis=1), 1))
