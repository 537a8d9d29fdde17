"""Find likely errors in sales that satisfy the contract: prices in another unit, lost days, renamed products."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pricing.arrays import Bools, Floats, Ints, Strings
from pricing.config_models import PlausibilityConfig
from pricing.data.panel import STEP_DAYS, Panel

NAMED = 3  # offenders listed in a finding
TYPED_ROWS = 2  # a deviating price for up to this many rows is a typing error; for longer it is another unit
TOGETHER, TOGETHER_SHARE = (
    3,
    0.05,
)  # products, and share of those on sale, whose prices jump alike on one day: not by chance
LEAST_ROWS = 7  # rows of a product needed to tell what is usual for it
VOLUME_PERIODS = 28  # periods before the end of one id and after the start of another whose sales are compared
SIMILAR_VOLUME = 2.0  # largest factor between those sales: slow sellers' counts vary by as much
SAME_PRICE = 0.005  # relative difference of prices that are equal but for rounding
CLOSED_SHARE = 0.5  # a weekday with this share of dates without a sale is a closing day
OVER_SHARE = 0.2  # share of rows with sales above stock that deliveries during the day do not explain
CHANCE = 1e-6  # a day without a sale is lost if its probability, at the products' usual sales, is below this
_NEAR_TEN = 0.1, 0.15  # log10 tolerance around 10 for one price change, and for a run's mean; cuts of 90 % occur
_NEAR_MORE = 0.5  # the same for 100 and 1000, which no real price change comes near


@dataclass(frozen=True)
class DataIssue:
    """One probable error.

    Attributes:
        name: Kind of finding, such as "price_unit".
        count: Rows, products, pairs, days or spellings, as `what` tells.
        what: What was found, with the count.
        first: The first offenders: product, date and value.
        advice: What to do.
        blocks_training: Whether a model trained on these sales would be wrong, so that training should not start.
    """

    name: str
    count: int
    what: str
    first: tuple[str, ...]
    advice: str
    blocks_training: bool = False

    def __str__(self) -> str:
        """The finding, its first offenders and the advice in one or two sentences."""
        return f"{self.what}, first {'; '.join(self.first)}. {self.advice}"


def findings(panel: Panel, config: PlausibilityConfig) -> tuple[DataIssue, ...]:
    """Look for eight kinds of errors that a single row does not show. Pure; the panel is not modified.

    Findings do not depend on the currency: multiplying all prices by one number changes nothing.

    Args:
        panel: The history to check.
        config: The thresholds; `refuse` is for the caller and changes no finding.

    Returns:
        One finding per kind of error found, those of prices first.
    """
    runs = _Runs.of(panel)
    looked = (
        _units(panel, runs, config),
        _typos(panel, runs, config),
        _competitor(panel, runs, config),
        _renamed(panel, config),
        _lost_days(panel),
        _spellings(panel.categories),
        _outliers(panel, config),
        _stock(panel),
    )
    return tuple(finding for finding in looked if finding is not None)


def mistyped(panel: Panel) -> Bools:
    """(product, period) True for rows whose price is 100 or 1000 times, or that fraction of, the prices around it."""
    runs = _Runs.of(panel)
    marked = np.zeros(panel.present.shape, dtype=np.bool_)
    for run in np.flatnonzero(runs.typo & (np.abs(runs.power) >= 2)):
        cells = slice(runs.start[run], runs.start[run] + runs.length[run])
        marked[runs.product[run], runs.cells[cells]] = True
    return marked


@dataclass(frozen=True)
class _Runs:
    """Runs of rows with prices in one unit, of products with a price change by 10, 100 or 1000; (run,) each.

    Attributes:
        cells: (row,) periods of those products' rows, product by product.
        product: The product, as a row of the panel.
        start: First row, an index of `cells`.
        length: Number of rows.
        power: Power of ten between the prices and those of most of the product's rows.
        unit: Whether it is another unit: longer than a typing error, or shared by many products and not over.
        typo: Whether it is a typing error: one or two rows between, before or after prices that agree.
        shared: Whether many products' prices changed by the same factor on the same day.
        day: Period of the change: the first row, or the row after a run that opens the history.
        price: Mean price of the run, and `usual` that of most of the product's rows.
    """

    cells: Ints
    product: Ints
    start: Ints
    length: Ints
    power: Ints
    unit: Bools
    typo: Bools
    shared: Bools
    day: Ints
    price: Floats
    usual: Floats

    @classmethod
    def of(cls, panel: Panel) -> "_Runs":
        price = panel.price
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = price[:, 1:] / price[:, :-1]
            far = (ratio > 10 ** (1 - _NEAR_TEN[0])) | (ratio < 10 ** (_NEAR_TEN[0] - 1))
        rows = np.flatnonzero(far.any(axis=1) & panel.present.any(axis=1))
        moves = np.where(far[rows], np.log10(ratio[rows], where=far[rows], out=np.zeros_like(ratio[rows])), 0.0)
        steps = np.rint(moves)
        steps[(np.abs(steps) == 1) & (np.abs(moves - steps) > _NEAR_TEN[0])] = 0
        level = np.pad(np.cumsum(steps, axis=1), ((0, 0), (1, 0))).astype(np.int64)
        index, cells = np.nonzero(panel.present[rows])
        at = level[index, cells]
        new = np.ones(len(index), dtype=np.bool_)
        new[1:] = (np.diff(index) != 0) | (np.diff(at) != 0)
        start = np.flatnonzero(new)
        length = np.diff(np.append(start, len(index)))
        product, at = index[start], at[start]
        logs = np.log10(price[rows][index, cells].astype(np.float64))
        total = np.add.reduceat(logs, start) if len(start) else np.zeros(0)
        base, usual = _most(product, at, length, total)
        power, mean = at - base, total / np.maximum(length, 1)
        near = np.abs(mean - usual - power) <= np.where(np.abs(power) == 1, _NEAR_TEN[1], _NEAR_MORE)
        off = (power != 0) & near
        before = np.zeros(len(start), dtype=np.bool_)
        before[1:] = np.diff(product) == 0
        after = np.append(before[1:], False)[: len(start)]
        agree = ~before | ~after | (np.roll(at, 1) == np.roll(at, -1))
        # (run,) period and power of ten of the change into a run
        jump, by = cells[start], np.where(before, at - np.roll(at, 1), 0)
        many = before & _together(jump, by, before, on_sale=(~np.isnan(price)).sum(axis=0))
        shared = many | (after & np.roll(many, -1))
        alone = ~shared | (before & after & (np.abs(power) >= 2))  # or all prices wrong for a row or two
        typo = off & agree & (length <= TYPED_ROWS) & alone
        day = np.where(before, jump, np.where(after, np.roll(jump, -1), jump))
        products = rows[product]
        return cls(cells, products, start, length, power, off & ~typo, typo, off & shared, day, 10.0**mean, 10.0**usual)


def _most(product: Ints, level: Ints, length: Ints, total: Floats) -> tuple[Ints, Floats]:
    """(run,) level of most rows of the run's product (the earlier on a tie), and its mean log10 price."""
    if not len(product):
        return level, total
    low = level.min()
    _, first, inverse = np.unique(
        product * (level.max() - low + 1) + level - low, return_index=True, return_inverse=True
    )
    rows = np.bincount(inverse, weights=length)
    mean = np.bincount(inverse, weights=total) / rows
    order = np.lexsort((first, -rows, product[first]))
    best = order[np.unique(product[first][order], return_index=True)[1]]
    place = np.searchsorted(product[first][best], product)
    return level[first][best][place], mean[best][place]


def _together(day: Ints, by: Ints, moved: Bools, *, on_sale: Ints) -> Bools:
    """(run,) whether many products' prices changed by the same power of ten on the same day."""
    if not len(day):
        return moved
    keys = np.where(moved, day * 64 + by + 32, -1)
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return np.asarray(moved & (counts[inverse] >= np.maximum(TOGETHER, TOGETHER_SHARE * on_sale[day])))


def _units(panel: Panel, runs: _Runs, config: PlausibilityConfig) -> DataIssue | None:
    if not runs.unit.any():
        return None
    products = np.unique(runs.product[runs.unit])
    count = int(runs.length[runs.unit].sum())
    learnt = runs.unit & (runs.shared | (np.abs(runs.power) >= 2))  # a single product at a tenth may be a clearance
    return DataIssue(
        "price_unit",
        count,
        f"the prices of {len(products):,} of {len(panel.product_ids):,} products change their unit "
        f"(× or ÷ 10, 100 or 1000) from a day on, {count:,} rows",
        _prices(panel, runs, runs.unit),
        "Bring all prices into one unit, such as euros and not cents",
        blocks_training=_share(panel, runs.product[learnt]) > config.refuse_share,
    )


def _typos(panel: Panel, runs: _Runs, config: PlausibilityConfig) -> DataIssue | None:
    if not runs.typo.any():
        return None
    count = int(runs.length[runs.typo].sum())
    products = len(np.unique(runs.product[runs.typo]))
    learnt = runs.typo & (np.abs(runs.power) >= 2)  # a day at a tenth of the price may be a promotion
    return DataIssue(
        "price_typo",
        count,
        f"{count:,} prices of {products:,} products are 10, 100 or 1000 times, or a fraction, of those around them",
        _prices(panel, runs, runs.typo),
        "Mend them; reading the rows with --quarantine DIR sets those of 100 and more times aside",
        blocks_training=_share(panel, runs.product[learnt]) > config.refuse_share,
    )


def _competitor(panel: Panel, runs: _Runs, config: PlausibilityConfig) -> DataIssue | None:
    """Find competitor prices in another unit, for products whose own prices are in one unit."""
    if runs.shared.any():  # the right unit of own prices, so of the competitor's, is not known
        return None
    known = panel.present & ~np.isnan(panel.comp_price)
    known[runs.product[runs.unit | runs.typo]] = False
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = panel.comp_price / panel.price
        wrong = known & ((ratio > config.comp_factor) | (ratio * config.comp_factor < 1))
    lasting = wrong.sum(axis=1) > TYPED_ROWS
    if not lasting.any():
        return None
    products = np.flatnonzero(lasting)
    first = [
        f"{_cell(panel, product, int(np.argmax(wrong[product])))}: {np.median(ratio[product, wrong[product]]):.3g} "
        f"times the own price on {int(wrong[product].sum()):,} rows"
        for product in products[:NAMED]
    ]
    compared = int((known.sum(axis=1) > TYPED_ROWS).sum())
    return DataIssue(
        "competitor_price",
        len(products),
        f"the competitor's prices of {len(products):,} of {compared:,} products are over {config.comp_factor:g} times "
        f"or under 1/{config.comp_factor:g} of the own price",
        tuple(first),
        "Bring them into the unit and pack size of the own prices, or leave comp_price empty",
        blocks_training=2 * len(products) > compared and _share(panel, products) > config.refuse_share,
    )


def _renamed(panel: Panel, config: PlausibilityConfig) -> DataIssue | None:
    """Find products that end where another begins, alike in category, list price, price and volume.

    Based on sales, not rows: zeros may have been filled in after an end. A slow seller ends, or begins, only where it
    sells nothing for longer than its longest gap between sales.
    """
    with np.errstate(invalid="ignore"):
        sold = panel.present & (panel.units_sold > 0)
    periods, number = sold.shape[1], sold.sum(axis=1)
    first, last = _ends(sold)
    enough = number >= LEAST_ROWS
    old = np.flatnonzero(enough & (last < periods - 1))
    new = np.flatnonzero(enough & (first > 0))
    step = STEP_DAYS[panel.period]
    gaps = range(1, max(1, config.renamed_days // step) + 1)
    old = old[np.isin(last[old][:, None] + np.array(gaps), first[new]).any(axis=1)]
    new = new[np.isin(first[new][:, None] - np.array(gaps), last[old]).any(axis=1)]
    old = old[periods - 1 - last[old] > _longest_gap(sold[old])]
    new = new[first[new] > _longest_gap(sold[new])]
    if not len(old) or not len(new):
        return None
    pairs = _alike(panel, old, new, last=last, first=first, gaps=gaps)
    if not len(pairs):
        return None
    named = [
        f"{str(panel.product_ids[a])!r} ends {panel.dates[last[a]]} and {str(panel.product_ids[b])!r} begins "
        f"{panel.dates[first[b]]} at price {panel.price[b, first[b]]:g}"
        for a, b in pairs[:NAMED]
    ]
    return DataIssue(
        "renamed",
        len(pairs),
        f"{len(pairs):,} products may go on under another id",
        tuple(named),
        "If they are the same, give both one id: what was learnt of the old one is lost to the new one",
    )


def _alike(panel: Panel, old: Ints, new: Ints, *, last: Ints, first: Ints, gaps: Iterable[int]) -> Ints:
    """(pair, 2) old and new products that match in everything compared; of several, the nearest in volume."""
    category = np.unique(panel.categories, return_inverse=True)[1].astype(np.int64)
    list_price = (np.log(panel.list_price[old, last[old]]), np.log(panel.list_price[new, first[new]]))
    price = (np.log(panel.price[old, last[old]]), np.log(panel.price[new, first[new]]))
    span = np.arange(VOLUME_PERIODS)
    ended = _volume(panel, old, last[old][:, None] - span)
    began = _volume(panel, new, first[new][:, None] + span)
    # Sorted by category, day and list price, the candidates for an old product are neighbours.
    order = np.lexsort((list_price[1], first[new], category[new]))
    groups = (category[new] * (panel.present.shape[1] + 1) + first[new])[order]
    free = np.ones(len(new), dtype=np.bool_)
    pairs: list[tuple[int, int]] = []
    for place in np.argsort(last[old], kind="stable"):
        for gap in gaps:
            group = category[old[place]] * (panel.present.shape[1] + 1) + last[old[place]] + gap
            low, high = np.searchsorted(groups, [group, group + 1])
            inside = list_price[1][order[low:high]]
            between = np.searchsorted(inside, list_price[0][place] + np.array([-SAME_PRICE, SAME_PRICE]))
            others = order[low + between[0] : low + between[1]]
            volume = np.abs(np.log(began[others] / ended[place]))
            fit = free[others] & (np.abs(price[1][others] - price[0][place]) <= SAME_PRICE)
            fit &= volume <= np.log(SIMILAR_VOLUME)
            if fit.any():
                chosen = others[np.argmin(np.where(fit, volume, np.inf))]
                free[chosen] = False
                pairs.append((int(old[place]), int(new[chosen])))
                break
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _volume(panel: Panel, products: Ints, periods: Ints) -> Floats:
    """(product,) mean units of the rows on `periods`, (product, period); periods outside the panel are left out."""
    inside = (periods >= 0) & (periods < panel.present.shape[1])
    at = np.clip(periods, 0, panel.present.shape[1] - 1)
    there = inside & panel.present[products[:, None], at]
    units = np.where(there, panel.units_sold[products[:, None], at], 0.0).sum(axis=1)
    return np.asarray(np.maximum(units, 1.0) / np.maximum(there.sum(axis=1), 1))


def _ends(marked: Bools) -> tuple[Ints, Ints]:
    """(product,) first and last marked period; the whole panel where none is."""
    return np.argmax(marked, axis=1), marked.shape[1] - 1 - np.argmax(marked[:, ::-1], axis=1)


def _longest_gap(marked: Bools) -> Ints:
    """(product,) longest distance from one marked period to the next."""
    latest = np.maximum.accumulate(np.where(marked, np.arange(marked.shape[1]), -1), axis=1)
    distance = np.where(marked[:, 1:] & (latest[:, :-1] >= 0), np.arange(1, marked.shape[1]) - latest[:, :-1], 0)
    return np.asarray(distance.max(axis=1, initial=0), dtype=np.int64)


def _lost_days(panel: Panel) -> DataIssue | None:
    """Find periods without any sale, whose rows are probably lost (or the shop was closed).

    Left out are holidays, weekdays that mostly have no sale, and periods whose few slow sellers may have sold nothing
    by chance, given how often each sells between its first and its last row.
    """
    with np.errstate(invalid="ignore"):
        sold = panel.present & (panel.units_sold > 0)
    empty = ~sold.any(axis=0)
    if not empty.any() or empty.all():
        return None
    first, last = _ends(panel.present)
    open_until = np.concatenate([[0], np.cumsum(~empty)])
    # Below 1: a product that always sold may once not have.
    share = np.minimum(sold.sum(axis=1) / (open_until[last + 1] - open_until[first] + 1), 1 - 1e-6)
    quiet = np.log1p(-share)
    lost: Bools = empty & (panel.is_holiday.mean(axis=0) < CLOSED_SHARE)
    if panel.period == "day":
        weekday = panel.dates.astype(np.int64) % 7
        closed = np.bincount(weekday, weights=empty, minlength=7) / np.maximum(np.bincount(weekday, minlength=7), 1)
        lost &= closed[weekday] < CLOSED_SHARE
    days = np.flatnonzero(lost)
    on_sale = np.asarray(panel.present.any(axis=1))[:, None] & (first[:, None] <= days) & (last[:, None] >= days)
    chance: Floats = quiet @ on_sale
    days = days[chance < np.log(CHANCE)]
    if not len(days):
        return None
    stretches = np.split(days, np.flatnonzero(np.diff(days) > 1) + 1)
    named = [
        f"{panel.dates[part[0]]}" + (f" to {panel.dates[part[-1]]}" if len(part) > 1 else "")
        for part in stretches[:NAMED]
    ]
    return DataIssue(
        "lost_days",
        len(days),
        f"{len(days):,} {panel.period}s have no sale of any product, beyond closing days and holidays",
        tuple(named),
        "Read them again if rows were lost; if the shop was closed they must not count as sales of 0 "
        "(data.missing: unknown leaves absent rows out)",
    )


def _spellings(categories: Strings) -> DataIssue | None:
    names = np.unique(categories)
    alike: dict[str, list[str]] = {}
    for name in names.tolist():
        alike.setdefault(" ".join(name.split()).casefold(), []).append(name)
    several = [found for found in alike.values() if len(found) > 1]
    if not several:
        return None
    count = sum(len(found) for found in several)
    return DataIssue(
        "category_spelling",
        count,
        f"{count:,} categories differ only in case or blanks from another one",
        tuple(" and ".join(repr(name) for name in found) for found in several[:NAMED]),
        "They are learnt as separate categories: write each in one way",
    )


def _outliers(panel: Panel, config: PlausibilityConfig) -> DataIssue | None:
    units = panel.units_sold
    with np.errstate(invalid="ignore"):
        sold = panel.present & (units > 0)
    high = np.max(units, axis=1, where=sold, initial=0.0)
    low = np.min(units, axis=1, where=sold, initial=np.inf)
    rows = np.flatnonzero((high >= config.units_factor * low) & (sold.sum(axis=1) >= LEAST_ROWS))
    if not len(rows):
        return None
    usual = np.nanmedian(np.where(sold[rows], units[rows], np.nan), axis=1)
    index, periods = np.nonzero(sold[rows] & (units[rows] >= config.units_factor * usual[:, None]))
    if not len(index):
        return None
    named = [
        f"{_cell(panel, rows[row], period)}: {units[rows[row], period]:g} units, {usual[row]:g} usual"
        for row, period in zip(index[:NAMED], periods[:NAMED], strict=True)
    ]
    return DataIssue(
        "units_outlier",
        len(index),
        f"{len(index):,} rows sell at least {config.units_factor:g} times the median of their product",
        tuple(named),
        "Check them: a total, a number of another column or one large order would pass for demand",
    )


def _stock(panel: Panel) -> DataIssue | None:
    known = panel.present & np.isfinite(panel.stock)
    with np.errstate(invalid="ignore"):
        over = known & (panel.units_sold > panel.stock)
    count, rows = int(over.sum()), int(known.sum())
    if count <= OVER_SHARE * rows:
        return None
    product, period = np.nonzero(over)
    named = [
        f"{_cell(panel, row, at)}: {panel.units_sold[row, at]:g} sold, {panel.stock[row, at]:g} in stock"
        for row, at in zip(product[:NAMED], period[:NAMED], strict=True)
    ]
    return DataIssue(
        "stock_not_at_opening",
        count,
        f"{count:,} rows, {count / rows:.0%} of those with a stock, sell more than it",
        tuple(named),
        "Such rows count as sold out. stock is what is there at opening: if this is what was left at closing, give the "
        "day before's; where it is not counted, leave it out",
    )


def _share(panel: Panel, products: Ints) -> float:
    """Return the share of rows of these products: one wrong price biases the estimates of the whole product."""
    rows = panel.present.sum(axis=1)
    return float(rows[np.unique(products)].sum() / max(int(rows.sum()), 1))


def _prices(panel: Panel, runs: _Runs, marked: Bools) -> tuple[str, ...]:
    """Describe the first runs by date: product, period and the two prices."""
    order = np.flatnonzero(marked)
    order = order[np.lexsort((runs.product[order], runs.day[order]))][:NAMED]
    return tuple(f"{_cell(panel, runs.product[run], runs.day[run])}: {_sides(runs, int(run))}" for run in order)


def _sides(runs: _Runs, run: int) -> str:
    """Describe both prices in order of time."""
    opens = runs.day[run] != runs.cells[runs.start[run]]
    pair: Sequence[float] = (runs.price[run], runs.usual[run]) if opens else (runs.usual[run], runs.price[run])
    return f"price from about {pair[0]:.4g} to {pair[1]:.4g}"


def _cell(panel: Panel, product: int, period: int) -> str:
    return f"{str(panel.product_ids[product])!r} on {panel.dates[period]}"
