"""Plan, list, stop and evaluate experiments: holdouts, strategies, drawn prices, a challenger."""

import datetime as dt
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from pipelines.steps.control import control_in_force, control_record, publish_control
from pipelines.steps.price_tests import plan_week, put_tests
from pipelines.steps.production import ProductionAccess, production
from pricing.config import ModelConfig, load_config, read_config_file, served_config
from pricing.data.load import load_panel_from
from pricing.data.panel import Panel
from pricing.decision.every_product import requests_for_all_products
from pricing.decision.experiment_results import (
    Interval,
    cost_of_draws,
    estimate_elasticity,
    find_draws,
    profit_gain,
    spans,
)
from pricing.decision.experiments import LARGEST, USUAL, Arm, Experiment, deal, strata_of
from pricing.decision.price_tests import NAME as TESTS
from pricing.decision.price_tests import Outlook, next_monday, outlook
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision_log.read import read_drawn
from pricing.demand.table import DemandTable
from pricing.errors import ConfigError
from pricing.paths import actor, log_url
from pricing.quoting import printable
from pricing.registry import CHAMPION
from pricing.registry.given_prices import given_prices
from pricing.runtime.cli import DAY, POSITIVE, SETTINGS, JobGroup, flag, job, typed
from simulation.market import simulated_sales

NAMED = 8  # products of a suggestion that are named
_NAMED = click.option("--name", required=True, metavar="NAME", help="of the experiment")


def _arms(function: Callable[..., int]) -> Callable[..., int]:
    of = "share of the products on sale, that no other experiment has, that"
    for kind, kind_of_value, metavar, what in (
        ("challenger", str, "N:SHARE", "a version or alias that prices a share"),
        ("strategy", str, "NAME:SHARE,…", "strategies for shares of the products"),
        ("draw", POSITIVE, "SHARE", f"{of} has its prices drawn each week: down, stay or up"),
        ("keep", POSITIVE, "SHARE", f"{of} keeps its prices"),
        ("rule", POSITIVE, "SHARE", f"{of} is priced as usual, to compare with"),
    ):
        function = click.option(f"--{kind}", type=kind_of_value, metavar=metavar, help=what)(function)
    return function


@job("plan")
@_NAMED
@_arms
@click.option("--size", type=POSITIVE, default=USUAL, help=f"fraction of a draw, at most {LARGEST:g}")
@click.option("--weeks", type=click.IntRange(1), metavar="N", help="that it lasts; absent: until it is stopped")
@click.option("--start", type=DAY, metavar="DATE", help="a Monday; absent: the next one")
def plan(
    *,
    config: str | None,
    name: str,
    weeks: int | None,
    start: dt.datetime | None,
    today: dt.date | None = None,
    **arms: Any,
) -> int:
    """Plans an experiment with one arm at least: rule, keep, draw, strategy or challenger.

    The name is the seed of its lots and draws. Exits with 4 where it could not be published.
    """
    file = read_config_file(config)
    today = today or file.config.now().date()
    first = start.date() if start else next_monday(today)
    if first < today:
        raise ConfigError(f"--start {first}: has passed; an experiment is planned before it begins")
    if name == TESTS:
        raise ConfigError(f"--name {TESTS}: is the name of the price tests on offer; give another")
    record = control_record(file.config)
    with production(file.config) as access:
        number = access.registry.find(CHAMPION).number
        version = access.fetch(number)
        experiment = Experiment(name, first, weeks, _named(access, **arms), products={})  # refuses contradictions
        served = served_config(version.config, file, name=number).config
        jump = file.config.serving.largest_jump
        pricer = version.pricer(version=number, config=served, largest_jump=jump)
        _refuse_unfit(experiment, pricer, served, champion=number)
        facts = version.facts
        demand = version.demand

    draw = _draw(experiment)
    taken = record.control().experiments.beside(experiment.start, experiment.end)
    ready = set(_ready(pricer, facts, draw)).difference(*(other.products for other in taken))
    if draw:
        ready &= set(demand.product_ids.tolist())
    planned = _dealt(experiment, facts, ready)
    promised = _promised(outlook(demand, facts, sorted(planned.prices), draw), weeks=weeks or 0) if draw else ""
    now = dt.datetime.now(dt.UTC)
    record.append_experiment(name, lambda known: known.plus(planned), who=actor(), at=now)
    print(f"{_line(planned, today)}{promised}")
    print(f"{len(ready):,} products were free to take part; {typed('experiment stop')} ends it")
    return publish_control(record, now=now)


def _draw(experiment: Experiment) -> Arm | None:
    return next((arm for arm in experiment.arms if arm.kind == "draw"), None)


def _refuse_unfit(experiment: Experiment, pricer: Pricer, served: ModelConfig, *, champion: str) -> None:
    """Raises ConfigError where the champion knows no strategy of an arm, or may not change prices weekly."""
    unknown = {arm.of for arm in experiment.arms if arm.kind == "strategy"} - set(pricer.policy.names)
    if unknown:
        raise ConfigError(f"strategy {min(unknown)!r} is none of {', '.join(sorted(pricer.policy.names))}")
    if _draw(experiment) and served.decision.guardrails.min_days > 7:
        raise ConfigError(f"guardrails.min_days of {CHAMPION} {champion} is above 7, and draws change prices weekly")


def _dealt(experiment: Experiment, facts: ProductFacts, ready: Collection[str]) -> Experiment:
    """Deals products that are ready to the arms, within strata, and notes today's price of those drawn for.

    Raises:
        ConfigError: There is none.
    """
    strata = strata_of(facts.product_ids, categories=facts.categories, mean_units=facts.typical_units)
    free = {product: stratum for product, stratum in strata.items() if product in ready}
    products = deal(free, experiment.arms, name=experiment.name)
    if not free:
        raise ConfigError(
            f"experiment {experiment.name}: none of {len(strata):,} products is on sale, free and has room"
        )
    if not products:
        raise ConfigError(
            f"experiment {experiment.name}: the lots gave none of {len(free):,} products to an arm; shares are odds "
            "within a category and third of its volume: give larger ones"
        )
    price = dict(zip(facts.product_ids.tolist(), facts.price.tolist(), strict=True))
    drawn = {arm.name for arm in experiment.arms if arm.kind == "draw"}
    prices = {product: float(price[product]) for product, arm in sorted(products.items()) if arm in drawn}
    return replace(experiment, products=products, prices=prices)


@job("list")
def list_all(*, config: str | None, today: dt.date | None = None) -> int:
    """Lists all experiments."""
    settings = load_config(config)
    day = today or settings.now().date()
    known = control_in_force(settings).experiments.every
    print("\n".join(printable(_line(experiment, day)) for experiment in known) or "no experiment is planned")
    return 0


@job("stop")
@_NAMED
def stop(*, config: str | None, name: str, today: dt.date | None = None) -> int:
    """Stops an experiment; exits with 4 where that could not be published."""
    settings = load_config(config)
    record = control_record(settings)
    now = dt.datetime.now(dt.UTC)
    day = today or settings.now().date()
    ended = record.append_experiment(name, lambda known: known.ended(name=name, after=day), who=actor(), at=now)
    print(f"experiment {name}: {_days(ended)}")
    return publish_control(record, now=now)


@job("suggest")
@flag("--start", help="begin these tests next Monday; every night carries them on, until `experiment stop` ends them")
def suggest(*, config: str | None, start: bool, today: dt.date | None = None) -> int:
    """Suggests price tests: which products need one, what it costs, and by when they are known."""
    file = read_config_file(config)
    now = today or file.config.now().date()
    monday = next_monday(now)
    known = control_record(file.config).control().experiments
    running = known.rolling
    if running is not None:
        print(_line(running, now))
        print(f"nights carry it on; {typed(f'experiment stop --name {running.name}')} ends it")
        return 0
    planned, expected, wait = plan_week(file, known=known, day=monday)
    for arm in planned.arms:
        if arm.name in expected:
            count = len(planned.in_arm(arm.name))
            print(f"{count:,} products, prices ± {arm.size:.0%} from {monday} on: {expected[arm.name].sentence()}")
            print(f"  {', '.join(sorted(planned.in_arm(arm.name))[:NAMED])}{', …' if count > NAMED else ''}")
    if wait:
        print(f"{wait:,} more are known too little and wait: the rule moves them, or guardrails leave no room")
    if not start:
        print(f"{typed('experiment suggest --start true')} begins it; products leave as they are learnt")
        return 0
    print(f"begins on {monday}, and nights carry it on; {typed(f'experiment stop --name {planned.name}')} ends it")
    return put_tests(file, planned, former=None)


@job("results", sales="needed")
@_NAMED
def results(*, sales: str, quarantine: Path | None, config: str | None, name: str, **_: object) -> int:
    """Prints what an experiment has shown."""
    settings = load_config(config)
    experiment = control_in_force(settings).experiments.find(name)
    with production(settings) as access:
        version = access.fetch(access.registry.find(CHAMPION).number)
        data = version.config.data
        demand = version.demand
    panel = load_panel_from(
        sales,
        data,
        quarantine=quarantine,
        given=partial(given_prices, settings),
        anchors=version.anchors,
        simulated=simulated_sales,
    )
    print("\n".join(_results(experiment, panel, demand, log=log_url())))
    return 0


@click.group("experiment", cls=JobGroup, commands=[plan, suggest, list_all, stop, results], context_settings=SETTINGS)
def main() -> None:
    """Plans, lists, stops and evaluates experiments."""


def _named(access: ProductionAccess, *, size: float, **shares: Any) -> tuple[Arm, ...]:
    """The arms that the options name.

    Raises:
        click.UsageError: A share is missing, or none is named.
        ConfigError: A share or a size is out of range.
        RegistryError: There is no such version.
    """
    arms = [Arm(kind, share=shares[kind]) for kind in ("rule", "keep") if shares[kind]]
    if shares["draw"]:
        arms.append(Arm("draw", share=shares["draw"], size=size))
    for kind in ("strategy", "challenger"):
        for word in filter(None, (shares[kind] or "").split(",")):
            name, _, share = word.strip().partition(":")
            try:
                fraction = float(share)
            except ValueError:
                raise click.UsageError(f"--{kind} {word!r}: expected NAME:SHARE, such as clearance:0.2") from None
            arms.append(Arm(kind, share=fraction, of=name if kind == "strategy" else access.registry.find(name).number))
    if not arms:
        raise click.UsageError("expected an arm at least: --rule, --keep, --draw, --strategy or --challenger")
    return tuple(arms)


def _ready(pricer: Pricer, facts: ProductFacts, draw: Arm | None) -> list[str]:
    """Products on sale; where prices are drawn those whose guardrails leave room for it."""
    requests = requests_for_all_products(facts)
    if draw is None or not requests:
        return [request.product_id for request in requests]
    room = pricer.room(requests, size=draw.size, today=facts.state_date.astype(dt.date))
    return [request.product_id for request, free in zip(requests, room, strict=True) if free]


def _promised(expected: Outlook, *, weeks: int) -> str:
    """The forecast in words.

    Raises:
        ConfigError: No product can reach the grade *tested* within the weeks.
    """
    able = int((expected.weeks <= weeks).sum())
    number = len(expected.weeks)
    if not able:
        raise ConfigError(
            f"none of {number} products can reach the grade tested by draws within {weeks} weeks: give more --weeks or "
            "a larger --size"
        )
    return (
        f"\nexpected cost: {expected.cost:.2%} of the profit of the drawn products, {expected.shop:.2%} of the shop's"
        f"\n{able:,} of {number:,} products can reach the grade tested within {weeks} weeks; half of them need "
        f"{np.median(expected.weeks):.0f}"
    )


def _line(experiment: Experiment, today: dt.date) -> str:
    stands = "over" if today >= experiment.end else "running" if today >= experiment.start else "to come"
    count = Counter(experiment.products.values())
    arms = ", ".join(
        f"{arm.name} {count[arm.name]:,}{'' if experiment.rolling else f' (odds {arm.share:g})'}"
        for arm in experiment.arms
    )
    more = ", a week more each night that needs it" if experiment.rolling and experiment.stopped is None else ""
    return f"{experiment.name}: {_days(experiment)}{more}, {stands}; {arms}"


def _days(experiment: Experiment) -> str:
    if experiment.end == dt.date.max:
        return f"from {experiment.start} until it is stopped"
    return (
        "cancelled"
        if experiment.end <= experiment.start
        else f"{experiment.start} to {experiment.end - dt.timedelta(days=1)}"
    )


def _results(experiment: Experiment, panel: Panel, demand: DemandTable, *, log: str) -> Iterator[str]:
    """Yields what an experiment has shown, as Markdown."""
    rng = np.random.default_rng(0)
    yield f"# Experiment {experiment.name}, {_days(experiment)}\n"
    if not experiment.rolling:  # whose arms have the products of its last week alone
        yield from _of_arms(panel, experiment, rng=rng)
    if experiment.prices:
        yield from _of_draws(log, panel, experiment, demand, rng=rng)


def _of_arms(panel: Panel, experiment: Experiment, *, rng: np.random.Generator) -> Iterator[str]:
    """Yields the arms of an experiment as a table, with their profit against that of `rule` or `keep`."""
    base = next((name for name in ("rule", "keep") if name in experiment.named), None)
    before, after = spans(panel, start=experiment.start, end=experiment.end)
    yield f"| arm | odds | products | profit against {base or 'nothing: no arm is rule or keep'} |\n|---|---|---|---|"
    for name, arm in experiment.named.items():
        mine = experiment.in_arm(name)
        found = ""
        if base and name != base:
            gain = profit_gain(panel, mine, experiment.in_arm(base), before=before, after=after, rng=rng)
            found = _shown(gain.profit, "+.1%", share=95)
        yield f"| {name} | {arm.share:g} | {len(mine):,} | {found} |"


def _of_draws(
    log: str, panel: Panel, experiment: Experiment, demand: DemandTable, *, rng: np.random.Generator
) -> Iterator[str]:
    """Yields what the draws of an experiment taught and cost."""
    draws = find_draws(panel, read_drawn(log), name=experiment.name)
    drawn = panel.product_ids[np.isfinite(draws.deviation).any(axis=1)]  # those that have left price tests also
    usual = demand.elasticity[: len(demand.product_ids)][np.isin(demand.product_ids, drawn)]
    model = f"; the mean of the champion's is {usual.mean():+.2f}" if len(usual) else ""
    yield f"\nElasticity by the draws alone: {_shown(estimate_elasticity(panel, draws), '+.2f', share=80)}{model}."
    cost = _shown(cost_of_draws(panel, draws, rng=rng), ".1%", share=80)
    yield f"Cost of the draws, of profit at the chosen price; below 0, earned: {cost}."
    yield f"Products: {len(drawn):,}."
    yield f"Periods used: {draws.used:,}; left out since another price was charged: {draws.logged - draws.used:,}."


def _shown(found: Interval, form: str, *, share: int) -> str:
    if np.isnan(found.value):
        return "unknown"
    if np.isnan(found.low):
        return f"{found.value:{form}}"
    return f"{found.value:{form}} ({share} %: {found.low:{form}} to {found.high:{form}})"
