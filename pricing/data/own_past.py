"""Compare each product's prices and units with its own past: other units, packs, single prices far off."""

from dataclasses import dataclass, field, replace

import numpy as np

from pricing.arrays import Bools, Days, Floats, Ints
from pricing.config_models import QualityConfig
from pricing.data.panel import Panel
from pricing.data.quality import PRICE_COLUMNS, Finding, Level, advice
from pricing.data.sales_history import LEAST_SEEN, LOOKBACK, SalesHistory

NAMED = 3  # offenders listed in a finding
LEAST_ROWS = 7  # rows of a product's past needed to tell what is usual for it
LEAST_TOGETHER = 3  # products of a category that say something together; fewer are judged alone
SETTLED = 14  # rows at a new level after which it is taken for what the product costs now
NOT_CUT = 0.9  # of the median price: below, a product is on offer
ORDINARY = 2.0  # × or ÷ the usual units of a category: between, nothing is looked into
LEAST_UNITS = 20  # units that a category usually sells on such a day, to be judged by its units


@dataclass
class Verdict:
    """Findings, and what is to be done with the cells that they are about.

    Attributes:
        findings: In the order of the checks.
        aside: Finding's name: (product, period) rows to set aside.
        blank: Column: (product, period) values that count as missing.
        unknown: (product, period) periods without a row of which nothing is known, whatever an absent row means.
    """

    findings: list[Finding] = field(default_factory=list)
    aside: dict[str, Bools] = field(default_factory=dict)
    blank: dict[str, Bools] = field(default_factory=dict)
    unknown: list[Bools] = field(default_factory=list)

    def set_aside(self, name: str, cells: Bools) -> None:
        """Adds rows to set aside."""
        self.aside[name] = self.aside[name] | cells if name in self.aside else cells


def price_findings(history: SalesHistory, config: QualityConfig, verdict: Verdict) -> None:
    """Looks at every price column: whole categories, then single rows."""
    for column in PRICE_COLUMNS:
        if column not in history.columns:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(history.columns[column].astype(np.float64))
        off = _alone(logs, low=np.log(config.price_alone[0]), high=np.log(config.price_alone[1]), past=config.past)
        together = _together(history, logs, off, column=column, config=config)
        if together.any():
            found = _unit_finding(history, logs, together, column=column, config=config)
            packs = [one for one in verdict.findings if one.name == "pack_size" and one.first_day == found.first_day]
            name = "pack_size" if packs and column != "comp_price" else found.name
            verdict.findings.append(replace(found, name=name, advice=advice(name)))
            if column == "comp_price":
                verdict.blank[column] = together
        alone = off & (history.rows >= 0) & ~together
        if alone.any():
            verdict.findings.append(_outliers(history, alone, column=column, config=config))
            if column in ("price", "list_price"):
                verdict.set_aside("price_outlier", alone)
            else:
                verdict.blank[column] = verdict.blank.get(column, np.zeros_like(alone)) | alone


def _alone(logs: Floats, *, low: float, high: float, past: int) -> Bools:
    """(product, period) values beyond the range of the product's own past by more than a factor. Causal.

    Only products whose values span such a factor are gone through. A run longer than SETTLED is a new level, from
    which on later values are judged by it.
    """
    off = np.zeros(logs.shape, dtype=np.bool_)
    known = np.isfinite(logs)
    top = np.max(logs, axis=1, where=known, initial=-np.inf)
    bottom = np.min(logs, axis=1, where=known, initial=np.inf)
    wide = np.flatnonzero(top - bottom > min(high, -low))
    if not len(wide):
        return off
    values, usable = logs[wide], known[wide].copy()
    run, start = np.zeros(len(wide), dtype=np.int64), np.zeros(len(wide), dtype=np.int64)
    for now in range(1, logs.shape[1]):
        base = slice(max(0, now - past), now)
        highest = np.max(values[:, base], axis=1, where=usable[:, base], initial=-np.inf)
        lowest = np.min(values[:, base], axis=1, where=usable[:, base], initial=np.inf)
        enough = (usable[:, base].sum(axis=1) >= LEAST_ROWS) & known[wide, now]
        far = enough & ((values[:, now] - highest > high) | (values[:, now] - lowest < low))
        start = np.where(far & (run == 0), now, start)
        run = np.where(far, run + 1, np.where(known[wide, now], 0, run))
        usable[:, now] &= ~far
        off[wide, now] = far & (run <= SETTLED)
        for product in np.flatnonzero(run > SETTLED):
            usable[product, : start[product]] = False
            usable[product, start[product] : now + 1] = known[wide[product], start[product] : now + 1]
            run[product] = 0
    return off


def _together(history: SalesHistory, logs: Floats, off: Bools, *, column: str, config: QualityConfig) -> Bools:
    """(product, period) values of categories, or of the shop, most of which left their own past's range alike.

    A price that goes back to list price after a long promotion is inside that range.
    """
    low, high = np.log(config.price_together)
    marked = np.zeros(logs.shape, dtype=np.bool_)
    usable = np.isfinite(logs) & ~off
    listed = history.columns.get("list_price") if column == "price" else None
    for now in range(history.since, logs.shape[1]):
        base = slice(max(0, now - config.past), now)
        highest = np.max(logs[:, base], axis=1, where=usable[:, base], initial=-np.inf)
        lowest = np.min(logs[:, base], axis=1, where=usable[:, base], initial=np.inf)
        judged = (usable[:, base].sum(axis=1) >= LEAST_ROWS) & np.isfinite(logs[:, now])
        if listed is not None:
            known = np.isfinite(listed[:, base]) & usable[:, base]
            highest = np.maximum(highest, np.log(np.max(listed[:, base], axis=1, where=known, initial=1e-30)))
        with np.errstate(invalid="ignore"):
            up, down = judged & (logs[:, now] - highest > high), judged & (logs[:, now] - lowest < low)
        for _, members in history.groups if up.any() or down.any() else ():
            count = int(judged[members].sum())
            for moved in (up, down):
                if count >= LEAST_TOGETHER and 2 * moved[members].sum() > count:
                    marked[members, now] |= moved[members]
        usable[:, now] &= ~marked[:, now]
    return marked


def _unit_finding(history: SalesHistory, logs: Floats, marked: Bools, *, column: str, config: QualityConfig) -> Finding:
    """Say what happened to a column: packs where units fell as prices rose, else another unit."""
    first = int(np.argmax(marked.any(axis=0)))
    products = np.flatnonzero(marked[:, first])
    base = slice(max(0, first - config.past), first)
    usual = np.nanmedian(np.where(np.isfinite(logs[products, base]), logs[products, base], np.nan), axis=1)
    factors = np.exp(logs[products, first] - usual)
    factor = float(np.median(factors))
    sold = units_ratio(history, products, first)
    packs = column == "price" and factor > 1 and abs(np.log(sold * factor)) < np.log(factor) / 2
    name = "pack_size" if packs else "price_unit"
    level: Level = "quarantine" if column == "comp_price" else "stop"
    where = {str(name) for name in history.categories[products] if name}
    of = f" of category {next(iter(where))!r}" if len(where) == 1 and len(history.groups) > 1 else ""
    units = f", and their units × {sold:.2g}" if packs else ""
    return Finding(
        name,
        level,
        f"{column} of {len(products):,} products{of} is about {factor:.3g} times what it was before{units}, "
        f"from {history.day(first)} on, {int(marked.sum()):,} rows",
        advice(name),
        column=column,
        first_day=history.day(first),
        products=len(products),
        rows=int(marked.sum()),
        share=len(products) / max(1, int(history.present[:, first].sum())),
        examples=tuple(
            f"{history.cell(int(row), first)}: from about {np.exp(before):.4g} to {np.exp(logs[row, first]):.4g}"
            for row, before in zip(products[:NAMED], usual[:NAMED], strict=True)
        ),
    )


def _outliers(history: SalesHistory, alone: Bools, *, column: str, config: QualityConfig) -> Finding:
    product, period = np.nonzero(alone)
    order = np.argsort(period, kind="stable")
    low, high = config.price_alone
    done = "set aside" if column in ("price", "list_price") else "counted as unknown"
    values = history.columns[column]
    return Finding(
        "price_outlier",
        "quarantine" if alone[:, history.since :].any() else "note",
        f"{column} is over {high:g} times, or under {low:g} times, all that the product asked in the "
        f"{config.past} {history.period}s before, on {len(product):,} rows, which are {done}",
        advice("price_outlier"),
        column=column,
        first_day=history.day(int(period.min())),
        last_day=history.day(int(period.max())),
        products=len(np.unique(product)),
        rows=len(product),
        share=len(product) / max(1, int(history.present.sum())),
        examples=tuple(
            f"{history.cell(int(product[at]), int(period[at]))}: {values[product[at], period[at]]:g}"
            for at in order[:NAMED]
        ),
    )


def units_ratio(history: SalesHistory, products: Ints, period: int) -> float:
    """Units of some products in a period over the median of such weekdays before; NaN where that is too little."""
    units = history.columns["units_sold"][products]
    before = np.arange(period - history.phases, -1, -history.phases)[: 2 * LOOKBACK]
    sums = np.nansum(units[:, before], axis=0)[history.counts[before] > 0][:LOOKBACK]
    if len(sums) < LEAST_SEEN or np.median(sums) < LEAST_UNITS:
        return float("nan")
    return float(np.nansum(units[:, period]) / np.median(sums))


def units_findings(history: SalesHistory, config: QualityConfig, verdict: Verdict) -> None:
    """Looks for categories whose units are of another size than on such weekdays before, at their usual prices.

    Products that are advertised or cheaper than usual are left out: they may sell many times what they did. One day of
    few units may be a closed shop, so that fewer count only where the next period shows them too.
    """
    units, factor = history.columns["units_sold"], config.units_together
    found: list[tuple[int, str, float, int]] = []
    usable = (history.counts > 0) & ~history.holiday
    off = {name: np.zeros(len(usable), dtype=np.bool_) for name, _ in history.groups}
    low_before = dict.fromkeys(off, False)
    sums = {name: np.nansum(units[members], axis=0) for name, members in history.groups}
    for now in np.flatnonzero(usable & (np.arange(len(usable)) >= history.since)):
        plain = None
        before = np.arange(now - history.phases, -1, -history.phases)[: 2 * LOOKBACK]
        for name, members in history.groups:
            compared = before[usable[before] & ~off[name][before]][:LOOKBACK]
            whole = np.median(sums[name][compared]) if len(compared) else 0.0
            if whole / ORDINARY <= sums[name][now] <= whole * ORDINARY:
                low_before[name] = False
                continue
            plain = _usual_price(history, int(now), past=config.past) if plain is None else plain
            those = members[plain[members]]
            usual = float(np.median(np.nansum(units[those][:, compared], axis=0))) if len(compared) else 0.0
            if len(compared) < LEAST_SEEN or len(those) < LEAST_TOGETHER or usual < LEAST_UNITS:
                continue
            ratio = float(np.nansum(units[those, now]) / usual)
            most = _most(units[those, now], np.median(np.nan_to_num(units[those][:, compared]), axis=1), factor / 2)
            many = ratio > factor and most > 0
            few = 0 < ratio * factor < 1 and usual >= LEAST_UNITS * factor and most < 0
            if many or (few and low_before[name]):
                found.append((int(now), name, ratio, len(those)))
            off[name][now] = many or few
            low_before[name] = bool(few)
    if not found:
        return
    first, name, ratio, products = min(found)
    of = f"category {name!r} sells" if name else "the shop sells"
    verdict.findings.append(
        Finding(
            "units_unit",
            "stop",
            f"at usual prices {of} {ratio:.3g} times the units of such {history.period}s before on "
            f"{history.day(first)}",
            advice("units_unit"),
            column="units_sold",
            first_day=history.day(first),
            products=products,
            rows=len(found),
            share=products / len(history.product_ids),
        )
    )


def _most(units: Floats, usual: Floats, factor: float) -> int:
    """1 where most products sell over `factor` times what is usual, −1 where most sell less than that fraction, else 0.

    One product may be most of a category, and be sold out or bought up. Slow sellers, below a unit a day, do not tell.
    """
    told = usual >= 1
    if told.sum() < LEAST_TOGETHER:
        return 0
    ratio = np.nan_to_num(units[told]) / usual[told]
    return int(2 * (ratio > factor).sum() > len(ratio)) - int(2 * (ratio * factor < 1).sum() > len(ratio))


def _usual_price(history: SalesHistory, period: int, *, past: int) -> Bools:
    """(product,) products in stock and not advertised in a period, at 0.9 times the median of their past or dearer."""
    price = history.columns["price"]
    plain = np.isfinite(price[:, period])
    before = price[:, max(0, period - past) : period]
    known = np.isfinite(before)
    middle = np.full(len(price), np.nan)
    seen = known.any(axis=1)
    middle[seen] = np.nanmedian(before[seen], axis=1)
    with np.errstate(invalid="ignore"):
        plain &= price[:, period] >= NOT_CUT * middle
        if "stock" in history.columns:
            plain &= ~(history.columns["stock"][:, period] == 0)
        if "is_promo" in history.columns:
            plain &= ~(history.columns["is_promo"][:, period] > 0)
    return plain


def _changed_stock(
    stock: Floats, read: Floats, both: Bools, *, config: QualityConfig, days: Days, verdict: Verdict
) -> None:
    """Finds a new export whose stock is 0 where the champion has read that there was some."""
    had = both & (read > 0)
    gone = had & (stock == 0)
    if had.sum() < LEAST_TOGETHER or gone.sum() < (1 - config.least_share) * had.sum():
        return
    verdict.findings.append(
        Finding(
            "stock_zero",
            "stop",
            f"stock is 0 on {int(gone.sum()):,} of {int(had.sum()):,} rows of {days[0]} to {days[-1]} on which the "
            "champion has read that there was some",
            advice("stock_zero"),
            column="stock",
            first_day=str(days[int(np.flatnonzero(gone.any(axis=0))[0])]),
            products=int(gone.any(axis=1).sum()),
            rows=int(gone.sum()),
            share=float(gone.sum() / had.sum()),
        )
    )


def changed_past(history: SalesHistory, known: Panel, config: QualityConfig, verdict: Verdict) -> None:
    """Compares days that the champion has read with the same days in these sales: a new export in another unit."""
    days, here, there = np.intersect1d(history.dates[history.own :], known.dates, return_indices=True)
    ids, rows, others = np.intersect1d(history.product_ids, known.product_ids, return_indices=True)
    if not len(days) or len(ids) < LEAST_TOGETHER:
        return
    both = known.present[others][:, there] & (history.rows[rows][:, here + history.own] >= 0)
    if "stock" in history.columns:
        stock = history.columns["stock"][rows][:, here + history.own]
        _changed_stock(stock, known.stock[others][:, there], both, config=config, days=days, verdict=verdict)
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = np.log(history.columns["price"][rows][:, here + history.own] / known.price[others][:, there])
    moved = np.where(both, moved, np.nan)[both.any(axis=1)]
    if len(moved) < LEAST_TOGETHER:
        return
    factor = float(np.exp(np.median(np.nanmedian(moved, axis=1))))
    if config.price_together[0] < factor < config.price_together[1]:
        return
    verdict.findings.append(
        Finding(
            "price_unit",
            "stop",
            f"price is about {factor:.3g} times what the champion has read of the same days, {days[0]} to {days[-1]}",
            advice("price_unit"),
            column="price",
            first_day=str(days[0]),
            products=len(moved),
            rows=int(both.sum()),
            share=1.0,
        )
    )
