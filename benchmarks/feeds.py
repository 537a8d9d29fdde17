"""Spoil a night's feed of sales in known ways, and count what is held that night; and what is, where nothing is wrong.

`python -m benchmarks.feeds [m5=PATH]` prints the tables of feeds.md. A shop's rows up to a night are judged as `etl`
judges them, beside a champion that has read all days before and the prices that the platform gave.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from benchmarks.forecast_data import m5
from benchmarks.table import markdown, measured
from pricing.arrays import Floats
from pricing.config import load_config
from pricing.config_models import DataConfig
from pricing.data.build import build_panel
from pricing.data.contract import check
from pricing.data.findings import Finding, QualityError
from pricing.data.own_prices import NO_MOVES, Moves
from pricing.data.panel import STEP_DAYS, Panel
from pricing.data.quality import contract_findings, judge
from pricing.demand.state import span
from simulation.market import MarketConfig, simulate
from simulation.policies import RulePolicy
from simulation.rollforward import Requests, roll_forward

DEVELOPMENT = {
    "default": (1, 2),
    "merchant": (401, 402),
    "households": (601, 602),
}  # seeds: limits were chosen on these
SEALED = {"default": (131, 132), "merchant": (511, 512), "households": (711, 712)}
PRODUCTS = 60
HISTORY = 420  # days
AHEAD = 365  # days of the platform
DAILY = load_config().data.model_copy(update={"tax_rate": 0.0, "missing": "zero"})
WEEKLY = load_config("weekly").data.model_copy(update={"tax_rate": 0.0, "missing": "zero"})
READ = 180  # days of rows that a night is judged by: as far as any check looks back
TAIL = 35  # days that a champion keeps
Rows = pd.DataFrame
Spoil = Callable[[Rows, Rows], Rows]  # a night's rows and those of the day before → the night's as they came


@dataclass(frozen=True)
class Shop:
    """Rows of a shop, and the prices that the platform gave it."""

    name: str
    rows: Rows
    config: DataConfig
    given: Moves = NO_MOVES


def scaled(factor: float, *columns: str, category: bool = False) -> Spoil:
    """Multiply columns, of one category or of all products."""

    def spoil(night: Rows, _: Rows) -> Rows:
        rows = night["category"] == night["category"].mode()[0] if category else pd.Series(True, index=night.index)
        named = [name for name in columns if name in night]
        return night.assign(**{name: night[name].where(~rows, (night[name] * factor).round(2)) for name in named})

    return spoil


def put(column: str, value: float) -> Spoil:
    """Give all products one value."""
    return lambda night, _: night.assign(**{column: value})


def swapped(first: str, second: str) -> Spoil:
    """Exchange two columns."""
    return lambda night, _: night.rename(columns={first: second, second: first})


def by_one(*columns: str) -> Spoil:
    """Move columns by one product."""
    return lambda night, _: night.assign(**{name: np.roll(night[name].to_numpy(), 1) for name in columns})


def yesterday(*columns: str) -> Spoil:
    """Give columns the values of the day before."""

    def spoil(night: Rows, before: Rows) -> Rows:
        then = before.set_index("product_id")
        values = {name: night["product_id"].map(then[name]).fillna(night[name]) for name in columns if name in then}
        return night.assign(**values)

    return spoil


def without(part: Callable[[Rows], "pd.Series[bool]"]) -> Spoil:
    """Leave the rows of a part out."""
    return lambda night, _: night[~part(night)]


def unsold(part: Callable[[Rows], "pd.Series[bool]"]) -> Spoil:
    """Report 0 units of a part."""
    return lambda night, _: night.assign(units_sold=night["units_sold"].mask(part(night), 0.0))


def half_a_day(night: Rows, _: Rows) -> Rows:
    """Count each unit with a chance of one half."""
    rng = np.random.default_rng(5)
    return night.assign(units_sold=rng.binomial(night["units_sold"].astype(int), 0.5).astype(float))


def moved(days: int) -> Spoil:
    """Write another day beside the rows."""
    return lambda night, _: night.assign(date=night["date"] + pd.Timedelta(days, "D"))


def by_rate(night: Rows, _: Rows) -> Rows:
    """Take taxes of two rates off prices."""
    reduced = np.unique(night["category"], return_inverse=True)[1] % 2 == 1
    rate = np.where(reduced, 1.07, 1.19)
    return night.assign(**{name: (night[name] / rate).round(2) for name in ("price", "list_price")})


def first_category(rows: Rows) -> "pd.Series[bool]":
    """The largest category."""
    return rows["category"].eq(rows["category"].mode()[0])


def two_stores(rows: Rows) -> "pd.Series[bool]":
    """All stores but one; a part of the products where the shop has no stores."""
    north = rows["product_id"].str.endswith("@north")
    late = pd.Series(3 * np.arange(len(rows)) >= len(rows), index=rows.index)
    return ~north if north.any() else late


MONEY = ("price", "list_price", "unit_cost", "comp_price")
PRICES = ("price", "list_price")
OUTCOME = ("units_sold", "stock")
FAULTS: dict[str, Spoil] = {
    "prices moved by one product": by_one(*PRICES),
    "units doubled": scaled(2, "units_sold"),
    "rows of two of three stores missing": without(two_stores),
    "yesterday's rows with today's date": yesterday("units_sold", "price", "list_price", "stock", "comp_price"),
    "units and stock swapped": swapped("units_sold", "stock"),
    "one competitor's price for all": put("comp_price", 9.99),
    "prices net of tax": scaled(1 / 1.19, *PRICES),
    "prices net of two rates of tax": by_rate,
    "prices × 100": scaled(100, *PRICES),
    "prices × 0.01": scaled(0.01, *PRICES),
    "prices in another currency": scaled(1.0837, *MONEY),
    "prices without cents": lambda night, _: night.assign(price=np.maximum(np.floor(night["price"]), 1.0)),
    "cost and price swapped": swapped("unit_cost", "price"),
    "competitor's price and price swapped": lambda night, _: night.assign(
        price=night["comp_price"].fillna(night["price"]), comp_price=night["price"]
    ),
    "all columns moved by one product": by_one("units_sold", *MONEY, "stock", "is_promo"),
    "one category's rows missing": without(first_category),
    "one category without sales": unsold(first_category),
    "two of three stores without sales": unsold(two_stores),
    "0 units of all": put("units_sold", 0.0),
    "1 unit of all": put("units_sold", 1.0),
    "half the day": half_a_day,
    "units × 10 in one category": scaled(10, "units_sold", category=True),
    "units of a week": scaled(7, "units_sold"),
    "rows twice": lambda night, _: pd.concat([night, night]),
    "dates a day late": moved(1),
    "dates a day early": moved(-1),
    "products renamed": lambda night, _: night.assign(product_id="N" + night["product_id"]),
    "stock of yesterday": yesterday("stock"),
    "one stock of all": put("stock", 50.0),
    "stock 0 of all": put("stock", 0.0),
    "is_promo inverted": lambda night, _: night.assign(is_promo=1 - night["is_promo"]),
    "competitor's prices moved by one product": by_one("comp_price"),
}


def findings(shop: Shop, rows: Rows, *, night: pd.Timestamp, known: Panel) -> list[Finding]:
    """Judge a night's feed, `known` being all days before; returns what stops it, or sets rows or values aside."""
    given = [str(name) for name in rows]
    try:
        checked = check(rows, where=shop.name, period=shop.config.period)
        if checked.violations:
            return contract_findings(checked.violations)
        today = (night + pd.Timedelta(STEP_DAYS[shop.config.period], "D")).date()
        found = judge(checked, shop.config, names=given, known=known, given=shop.given, today=today).findings
    except QualityError as error:
        found = error.findings
    return [finding for finding in found if finding.level != "note"]


def nights(shop: Shop, count: int) -> Iterator[tuple[pd.Timestamp, Rows, Panel]]:
    """Yield the last nights of a shop, each with the rows so far and the end of all days before."""
    panel = build_panel(shop.rows, shop.config)
    dates = shop.rows["date"]
    for number in range(len(panel.dates) - count, len(panel.dates)):
        night = pd.Timestamp(panel.dates[number])
        since = pd.Timestamp(panel.dates[max(0, number - READ)])
        yield night, shop.rows[dates.between(since, night)], span(panel, number - TAIL, number)


def noticed(shop: Shop) -> Iterator[tuple[str, str]]:
    """Spoil a shop's last night by each fault; yields the first check that holds it and how, or nothing."""
    night, rows, known = next(nights(shop, 1))
    days = rows["date"]
    before = rows[days == days[days < night].max()]
    honest = {(finding.check, finding.first) for finding in findings(shop, rows, night=night, known=known)}
    for spoil in FAULTS.values():
        spoilt = pd.concat([rows[days < night], spoil(rows[days == night], before)], ignore_index=True)
        found = findings(shop, spoilt, night=night, known=known)
        yield next(((each.check, each.level) for each in found if (each.check, each.first) not in honest), ("", ""))


def false_alarms(shop: Shop, count: int) -> Iterator[str]:
    """Yield each check that holds something of an honest night, once for all nights on which it does."""
    told = set[tuple[str, str]]()
    for night, rows, known in nights(shop, count):
        found = {(each.check, each.first) for each in findings(shop, rows, night=night, known=known)}
        yield from (name for name, _ in found - told)
        told = found


def daily(kind: str, seed: int) -> Shop:
    """A simulated shop."""
    market = simulate(MarketConfig(kind, products=PRODUCTS, days=HISTORY + AHEAD, seed=seed))
    return Shop(kind, market.frame(), DAILY)


def three_stores(seed: int) -> Shop:
    """Three markets as the stores of one shop, each with a third of the products."""
    stores = []
    for number, store in enumerate(("north", "south", "west")):
        config = MarketConfig(products=PRODUCTS // 3, days=HISTORY + AHEAD, seed=seed + number)
        rows = simulate(config).frame()
        stores.append(rows.assign(parent_id=rows["product_id"], product_id=rows["product_id"] + f"@{store}"))
    return Shop("three stores", pd.concat(stores, ignore_index=True), DAILY)


def platform(seed: int) -> Shop:
    """A shop whose prices the platform gives each night for the last year, by rules, and logs."""
    market = simulate(MarketConfig(products=PRODUCTS, days=HISTORY, future=AHEAD, seed=seed))
    policy = RulePolicy(market.frame())
    log = []

    def logged(requests: Requests) -> Floats:
        price = policy(requests).round(2)
        log.append(pd.DataFrame({"product_id": requests.product_id, "date": requests.date, "price": price}))
        return price

    run = roll_forward(market, logged, days=AHEAD, refresh=policy.refresh)
    lines = pd.concat(log)
    dates = lines["date"].to_numpy().astype("datetime64[D]")
    given = Moves(lines["product_id"].to_numpy().astype(str), dates, lines["price"].to_numpy(), np.unique(dates))
    return Shop("platform", pd.concat([market.frame(), run.frame()], ignore_index=True), DAILY, given)


def weekly(seed: int) -> Shop:
    """A simulated shop whose rows are weeks: the last price and stock as of the first day."""
    market = simulate(MarketConfig(products=PRODUCTS, days=7 * 200, seed=seed))
    rows = market.frame()
    first = rows["date"].min()
    rows["date"] = first + pd.to_timedelta((rows["date"] - first).dt.days // 7 * 7, "D")
    columns = {name: "last" for name in rows if name not in ("date", "product_id")}
    columns |= {"units_sold": "sum", "stock": "first", "is_promo": "max"}
    return Shop("weeks", rows.groupby(["product_id", "date"], as_index=False).agg(columns), WEEKLY)


def walmart(path: str) -> Shop:
    """Real sales of Walmart."""
    return Shop("M5", m5(path), DAILY.model_copy(update={"missing": "unknown"}))


@dataclass(frozen=True)
class Result:
    """A shop's faults, if it has all columns by day: the check that held each and how. And its false alarms."""

    shop: str
    held: list[tuple[str, str]]
    nights: int
    alarms: Counter[str]


def measure(make: Callable[[], Shop]) -> Result:
    """Judge a shop's spoilt night and the honest nights of its last year."""
    shop = make()
    count = 365 // STEP_DAYS[shop.config.period]
    held = list(noticed(shop)) if "stock" in shop.rows and shop.config.period == "day" else []
    result = Result(shop.name, held, count, Counter(false_alarms(shop, count)))
    print(result, file=sys.stderr)
    return result


def main(words: list[str]) -> None:
    """Print both tables, on development seeds where a word asks for it."""
    given = dict(word.split("=", 1) for word in words)
    seeds = DEVELOPMENT if given.get("seeds") == "development" else SEALED
    makers = [partial(daily, kind, seed) for kind, few in seeds.items() for seed in few]
    makers += [partial(make, seed) for make in (three_stores, platform) for seed in seeds["default"]]
    makers += [partial(weekly, seed) for seed in seeds["default"]]
    if "m5" in given:
        makers.append(partial(walmart, given["m5"]))
    with ProcessPoolExecutor() as pool:
        results = list(pool.map(measure, makers))

    print(measured())
    table = []
    spoilt = [result.held for result in results if result.held]
    for title, *held in zip(FAULTS, *spoilt, strict=True):
        by = Counter(f"`{name}` {level}" for name, level in held if name)
        hows = ", ".join(f"{how} {times}" for how, times in by.most_common())
        table.append([title, f"{by.total()} of {len(spoilt)}", hows])
    print(markdown(["a night of", "held that night", "by, in how many shops"], table))

    table = []
    for result in results:
        named = ", ".join(f"`{name}` {times}" for name, times in result.alarms.items())
        table.append([result.shop, str(result.nights), str(result.alarms.total()), named])
    print(markdown(["calm shop", "nights", "false alarms", "by"], table))


if __name__ == "__main__":
    main(sys.argv[1:])
