"""Plan, stop, list and report price tests: randomised prices that identify elasticities."""

import argparse
import datetime as dt
import hashlib
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.price import requests_for_all_products
from pipelines.production import production, sales_anchors
from pricing.arrays import Floats
from pricing.config import DEFAULT_PATH, ModelConfig, load_config, read_config_file
from pricing.data.anchors import version_anchors
from pricing.data.load import load_panel_from
from pricing.data.net_price import unit_profit
from pricing.data.panel import STEP_DAYS, Panel
from pricing.decision.assignment import holdout_file, read_held
from pricing.decision.price_test_results import Estimate, estimate_elasticity, find_draws, price_test_cost
from pricing.decision.price_tests import LARGEST, Plan, PriceTest, plan_file, read_plan, write_plan
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision_log.format import read_decisions
from pricing.decision_log.places import log_places
from pricing.demand.grades import GRADES
from pricing.demand.shrinkage import START
from pricing.demand.table import DemandTable
from pricing.errors import NO_SALES, ConfigError, HistoryError, RegistryError, nearest
from pricing.markdown_text import escape_markdown
from pricing.paths import pricing_home, tracking_uri
from pricing.registry import CHAMPION
from pricing.registry.mlflow_registry import Registry
from pricing.registry.version import load
from pricing.runtime.cli import UsageError, at_least, job_options, positive, run_main
from pricing.runtime.shared_files import SharedFiles, job_files
from pricing.runtime.shop_time import shop_now
from pricing.served_config import kept_settings
from simulation.market import simulated_sales

RECENT_WEEKS = 12  # weeks of sales that the expected cost and precision are based on
_ABOUT = (
    "Plans, stops, shows or reports price tests. Sales are read, and tests planned, with the configuration packed in "
    "the champion's version, since that one serves; --config names the registered model, and counts otherwise only "
    "before there is a champion."
)


@dataclass(frozen=True)
class WeeklyStatistics:
    """Statistics of recent weekly sales.

    Attributes:
        units: (product,) mean units per week.
        profit: (product,) mean profit per week.
        noise: (product,) week-to-week variance of units over the squared mean.
    """

    units: Floats
    profit: Floats
    noise: Floats


@dataclass(frozen=True)
class ExpectedResult:
    """Expected cost and precision of a price test.

    Attributes:
        cost: Profit lost during the test, as a fraction of the tested products' profit.
        shop: The same as a fraction of the whole shop's profit.
        common: Standard error of the tested products' common elasticity.
        own: Median standard error of a single product's elasticity.
    """

    cost: float
    shop: float
    common: float
    own: float


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns the exit code."""
    return run_main(_price_test, argv)


def _price_test(argv: Sequence[str] | None) -> int:
    options = _options(argv)
    path = plan_file(pricing_home())
    files = job_files(load_config(options.config).registry.model_name)
    shared = files.refresh(path, holdout_file(pricing_home()))
    plan = read_plan(path)
    today = options.today or shop_now(load_config(options.config).zone).date()
    asked = [name for name in ("show", "stop", "report") if getattr(options, name)]
    if len(asked) > 1:
        raise UsageError(f"--{asked[0]} and --{asked[1]} exclude each other")
    if options.stop:
        _named(options)
        plan = _change(files, path, lambda known: known.without(options.name, after=today))
        stopped = plan.find(options.name)
        gone = stopped is not None and stopped.cancelled
        print(f"price test {options.name} " + ("is cancelled" if gone else f"draws no more from {today} on"))
    elif options.report:
        _report(options, plan)
    elif options.show:
        print(
            "\n".join(_lines(plan, today)) or "no price test is planned" + ("" if shared else ", as far as known here")
        )
        if not shared:
            raise RegistryError(
                "the database of PRICING_DATABASE_URL does not answer: this is what was known here last"
            )
    else:
        test = _start(options, plan, today=today)
        _change(files, path, lambda known: known.with_test(test))
        print(f"planned in {path}; `--stop --name {test.name}` ends it")
    return 0


def _change(files: SharedFiles, path: Path, change: Callable[[Plan], Plan]) -> Plan:
    """Changes the plan in force, which another machine may have changed since it was read, and returns the new one."""

    def write(file: Path) -> Plan:
        plan = change(read_plan(file))
        write_plan(file, plan)
        return plan

    return files.edit(path, write)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = job_options("price_test", _ABOUT, needs_sales=False)
    options.add_argument("--name", metavar="NAME", help="names the test, and is the seed of its draws")
    options.add_argument("--products", metavar="A,B", help="products to test")
    options.add_argument("--share", type=positive, metavar="FRACTION", help="or: a share of all, drawn by lot")
    options.add_argument("--grade", metavar="G,H", help="or: those of these grades in --version: " + ", ".join(GRADES))
    options.add_argument("--size", type=positive, default=LARGEST, help=f"largest change, at most {LARGEST:g}")
    options.add_argument("--weeks", type=at_least(1), default=8, help="weeks that it lasts")
    options.add_argument("--start", type=dt.date.fromisoformat, metavar="DATE", help="a Monday; absent: the next one")
    options.add_argument("--version", metavar="N", help="version, alias or folder with elasticities")
    options.add_argument("--decisions", type=Path, metavar="DIR", help="decision log; absent: PRICING_HOME/decisions")
    options.add_argument("--output", type=Path, metavar="FILE", help="the report; absent: price_tests/report.md there")
    options.add_argument("--today", type=dt.date.fromisoformat, metavar="DATE", help="the present day; absent: today")
    options.add_flag("--stop", help="ends the test of this --name")
    options.add_flag("--show", help="lists the tests")
    options.add_flag("--report", help="writes what the tests cost and taught, from --sales and the decision log")
    return options.parse(argv)


def _named(options: argparse.Namespace) -> None:
    if not options.name:
        raise UsageError("--name: expected the name of the price test")
    if not re.fullmatch(r"[\w-]{1,50}", options.name):
        raise UsageError(f"--name {options.name!r}: expected up to 50 letters, digits, - and _")


def _start(options: argparse.Namespace, plan: Plan, *, today: dt.date) -> PriceTest:
    """Validates a requested test, prints its expected cost and precision, and returns it."""
    _named(options)
    start: dt.date = options.start or today + dt.timedelta(days=7 - today.weekday())
    if start < today:
        raise ConfigError(f"--start {start}: has passed; a price test is planned before it begins")
    _check_choice(options)
    # Fails early, before the sales are read.
    plan.with_test(PriceTest(options.name, {}, options.size, start, options.weeks))
    config, source = _serving(options)
    least = config.decision.guardrails.min_days
    if least > 7:
        raise ConfigError(
            f"decision.guardrails.min_days is {least} in {source}, so prices cannot change weekly as a price test needs"
        )
    panel, facts = _sales(options, config)
    model = _model(options) if options.version or options.grade else None
    asked, _ = requests_for_all_products(facts)
    pricer = Pricer(None, facts, config, version="none")
    day = facts.state_date.astype(dt.date)
    requests = [request for _, request in asked]
    room = pricer.room(requests, size=options.size, today=day) if requests else np.zeros(0, bool)
    held = read_held(holdout_file(pricing_home()))
    price = dict(zip(facts.product_ids.tolist(), facts.price.tolist(), strict=True))
    ready = {one.product_id for one, free in zip(requests, room, strict=True) if free} - held
    chosen = choose_products(options, panel.product_ids.tolist(), model)
    prices = {one: float(price[one]) for one in chosen if one in ready}
    if not prices:
        raise ConfigError(
            f"price test {options.name}: nothing to test; of {len(chosen)} products {len(set(chosen) & held)} are held "
            "out of pricing, and the others do not sell or have no room inside the guardrails; where the cost is "
            "assumed, guardrails.seen allows no price below the lowest ever charged: give unit_cost"
        )
    test = PriceTest(options.name, prices, options.size, start, options.weeks)
    plan.with_test(test)
    print(f"price test {test.name}: {len(prices):,} products, {test.days}, as {source} allows")
    if len(prices) < len(chosen):
        print(f"left out: {len(chosen) - len(prices):,} that are held out, do not sell, or have no room")
    print("\n".join(_promised(expected_result(panel, test, model=model))))
    return test


def _check_choice(options: argparse.Namespace) -> None:
    """Checks the options that choose products.

    Raises:
        UsageError: None or several of them are given, or one is invalid.
    """
    if sum(bool(getattr(options, name)) for name in ("products", "share", "grade")) != 1:
        raise UsageError("expected one of --products, --share and --grade")
    if options.share and options.share > 1:
        raise UsageError(f"--share {options.share:g}: expected a fraction of at most 1")
    wrong = [grade for grade in _words(options.grade) if grade not in GRADES]
    if wrong:
        raise UsageError(f"--grade: expected some of {', '.join(GRADES)}, found {wrong[0]!r}")


def choose_products(options: argparse.Namespace, products: Sequence[str], model: DemandTable | None) -> list[str]:
    """Returns the products to test: named, drawn at random, or of some grades of `model`.

    Raises:
        ConfigError: A product is not in the sales; suggests the nearest one.
    """
    known = set(products)
    if options.products:
        names = _words(options.products)
        for name in names:
            if name not in known:
                near = nearest(name, products, cutoff=0.0)
                raise ConfigError(f"--products: {name!r} is not in the sales; the nearest is {near!r}")
        return sorted(set(names))
    if options.share:
        order = sorted(products, key=lambda one: hashlib.blake2b(f"{options.name}\n{one}".encode()).digest())
        return sorted(order[: max(round(options.share * len(products)), 1)])
    if model is None:
        return []
    grades = _words(options.grade)
    graded = zip(model.product_ids.tolist(), model.grade.tolist(), strict=False)  # after products come categories
    return sorted(one for one, grade in graded if GRADES[grade] in grades and one in known)


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def weekly_statistics(panel: Panel) -> WeeklyStatistics:
    """Computes statistics of every product's recent weeks."""
    days = STEP_DAYS[panel.period]
    length = min(RECENT_WEEKS * 7 // days, len(panel.dates)) // (7 // days) * (7 // days)
    if not length:
        raise HistoryError(f"the sales cover {len(panel.dates)} {panel.period}s; a price test needs a week at least")
    units = np.nan_to_num(panel.units_sold[:, -length:]).astype(np.float64)
    each = unit_profit(panel.price, panel.unit_cost, tax_rate=panel.tax_rates())
    profit = units * np.nan_to_num(each)[:, -length:]
    weekly = units.reshape(len(units), -1, 7 // days).sum(axis=2)
    earned = profit.reshape(len(units), -1, 7 // days).sum(axis=2)
    mean = weekly.mean(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        steps = np.square(np.diff(weekly, axis=1)).mean(axis=1) / 2 if weekly.shape[1] > 1 else mean
        noise = np.where(mean > 0, steps / mean**2, np.inf)
    return WeeklyStatistics(mean, earned.mean(axis=1), noise)


def expected_result(panel: Panel, test: PriceTest, *, model: DemandTable | None) -> ExpectedResult:
    """Computes the expected cost and precision of a test from recent sales.

    Random log price changes with standard deviation d cost ½ e (e − 1) d² of profit around the best price, with e the
    absolute elasticity. The standard error of a product's elasticity over n weeks is √(v / n) / d, with v the variance
    of weekly units over their squared mean; the common elasticity is the sales-weighted mean.
    """
    recent = weekly_statistics(panel)
    rows = np.flatnonzero(np.isin(panel.product_ids, sorted(test.prices)) & (recent.units > 0))
    elasticity = np.full(len(rows), START)
    if model is not None:
        known = dict(zip(model.product_ids.tolist(), model.elasticity.tolist(), strict=False))
        names = panel.product_ids[rows].tolist()
        elasticity = np.array([known.get(one, START) for one in names])
    size = np.abs(elasticity)
    lost = 0.5 * size * (size - 1) * test.sd**2 * recent.profit[rows]
    own = np.sqrt(recent.noise[rows] / test.weeks) / test.sd
    units = recent.units[rows]
    return ExpectedResult(
        cost=float(lost.sum() / max(recent.profit[rows].sum(), 1e-12)),
        shop=float(lost.sum() / max(recent.profit.sum(), 1e-12)),
        common=float(np.sqrt(np.square(units * own).sum()) / max(units.sum(), 1e-12)),
        own=float(np.median(own)) if len(own) else float("nan"),
    )


def _promised(expected: ExpectedResult) -> list[str]:
    return [
        f"expected cost: {expected.cost:.2%} of these products' margin, {expected.shop:.2%} of the shop's, if their "
        "prices are about right now",
        f"expected to tell: the elasticity that they share to ± {expected.common:.2f}, that of a single product to "
        f"± {expected.own:.2f} (one standard error)",
    ]


def _lines(plan: Plan, today: dt.date) -> list[str]:
    def line(test: PriceTest) -> str:
        stands = "over" if today >= test.end else "running" if today >= test.start else "to come"
        about = f"{test.name}: {len(test.prices):,} products, ± {test.size:.1%}, {test.days}"
        return about if test.cancelled else f"{about}, {stands}"

    return [line(test) for test in plan.tests]


def _report(options: argparse.Namespace, plan: Plan) -> None:
    panel, _ = _sales(options, _serving(options)[0])
    model = _model(options) if options.version else None
    log = log_places(options.decisions)
    records = read_decisions(log.folder, archive=log.archive, uploads=log.uploads, tested=True).records
    output: Path = options.output or pricing_home() / "price_tests" / "report.md"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(report(panel, plan, records, model=model), encoding="utf-8")
    print(f"{len(plan.tests)} price test(s) in {output}")


def report(panel: Panel, plan: Plan, records: Sequence[dict[str, object]], *, model: DemandTable | None) -> str:
    """Returns a Markdown report with the cost and the estimated elasticity of each test."""
    draws = find_draws(panel, records, plan=plan)
    rows = [
        "# Price tests",
        "",
        "Cost: profit lost against each product's own weeks at the chosen price, as a share of it; below 0, earned.",
        "Elasticity: what the draws alone tell of the products together, with nothing said by other moves. Both with",
        "the interval that holds 80 %. A draw counts for each period in which the price given was charged, up to the",
        "next decision or the end of the test.",
        "",
        "| test | days | products | size | periods used | cost | elasticity by the draws | by the model |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for test in plan.tests:
        mine = draws.of(test.name)
        usual = "unknown" if model is None else _by_model(model, test, panel)
        cells = (
            escape_markdown(test.name),
            test.days,
            f"{len(test.prices):,}",
            f"± {test.size:.1%}",
            f"{mine.used:,}",
            _shown(price_test_cost(panel, mine, rng=np.random.default_rng(0)), ".1%"),
            _shown(estimate_elasticity(panel, mine), "+.2f"),
            usual,
        )
        rows.append("| " + " | ".join(cells) + " |")
    missed = draws.logged - draws.used
    left_out = f"Periods left out since another price was charged: {missed:,} of {draws.logged:,}."
    return "\n".join([*rows, "", left_out, ""])


def _by_model(model: DemandTable, test: PriceTest, panel: Panel) -> str:
    """Returns the model's mean elasticity of a test's products, weighted by units sold."""
    units = dict(zip(panel.product_ids.tolist(), weekly_statistics(panel).units.tolist(), strict=True))
    rows = [row for row, one in enumerate(model.product_ids.tolist()) if one in test.prices]
    weights = np.array([units.get(str(model.product_ids[row]), 0.0) for row in rows])
    if not weights.sum():
        return "unknown"
    return f"{np.average(model.elasticity[rows], weights=weights):+.2f}"


def _shown(estimate: Estimate, form: str) -> str:
    if np.isnan(estimate.value):
        return "unknown"
    if np.isnan(estimate.error):
        return f"{estimate.value:{form}}"
    low, high = estimate.interval
    return f"{estimate.value:{form}} ({low:{form}} to {high:{form}})"


def _serving(options: argparse.Namespace) -> tuple[ModelConfig, str]:
    """Returns the serving configuration and its source: the champion's, or else --config.

    Raises:
        RegistryError: The registry is unreachable, or the champion's files are missing.
        VersionError: The champion is damaged, or belongs to another library.
    """
    file = read_config_file(options.config)
    config = file.config
    registry = Registry(config.registry.model_name, uri=tracking_uri())
    champion = registry.at(CHAMPION)
    if champion is None:
        return config, f"{options.config or DEFAULT_PATH.name} (there is no {CHAMPION} yet)"
    with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
        version = load(registry.download(champion.number, Path(scratch) / "version"))
    if kept := kept_settings(version.config, file, name=champion.number):
        print(f"note: {kept}")
    return version.config, f"{CHAMPION} {champion.number}"


def _sales(options: argparse.Namespace, config: ModelConfig) -> tuple[Panel, ProductFacts]:
    if options.sales is None:
        raise UsageError(NO_SALES)
    anchors = sales_anchors(load_config(options.config))
    panel = load_panel_from(
        options.sales, config.data, quarantine=options.quarantine, anchors=anchors, simulated=simulated_sales
    )
    return panel, ProductFacts.from_panel(panel, anchors=version_anchors(anchors, panel))


def _model(options: argparse.Namespace) -> DemandTable:
    """Loads the demand model of --version, or else of the champion."""
    version: str | None = options.version
    if version is not None and Path(version).is_dir():
        return load(version).demand
    with production(load_config(options.config)) as access, tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
        return access.fetch(access.registry.find(version or CHAMPION).number, scratch).demand


if __name__ == "__main__":
    sys.exit(main())
