"""Offer price tests: small random draws of the prices whose effect is known least, week by week.

The experiment `tests` draws each week's price of every product whose elasticity is known too little, and of no other:
products leave as they are learnt, and new ones enter. It goes on, a week at a time, until a person stops it.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from pricing.arrays import Floats
from pricing.data.net_price import unit_profit
from pricing.data.panel import STEP_DAYS
from pricing.decision.every_product import requests_for_all_products
from pricing.decision.experiments import NO_EXPERIMENTS, WAYS, Arm, Experiment, Experiments
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision.request import DetailedDecision
from pricing.demand.grades import LEAST_FORTNIGHTS
from pricing.demand.shrinkage import PRIOR_SD
from pricing.demand.table import DemandTable
from pricing.errors import ConfigError

NAME = "tests"
# Posterior standard deviation of the log elasticity above which a product's price is drawn, and by which fraction;
# where guardrails leave no room for that, by the next one.
SIZES = ((0.4, 0.10), (0.25, 0.05))
NEARLY = 0.9  # share of the largest move from which on the rule is on its way to a price far off
WORTH = 52.0  # weeks; of what tests teach later, prices will not profit
MOST = 2000  # products at a time, those that are known soonest: each week's are one entry of the control record


@dataclass(frozen=True)
class Outlook:
    """The expected cost of draws, and what they teach."""

    cost: float  # share of the profit of the products drawn for
    shop: float  # the same as a share of the whole shop's profit
    weeks: Floats  # (product,) until it is graded *tested*, and draws removed half of log elasticity's prior variance

    def sentence(self) -> str:
        """Summarise cost and duration for a person."""
        known = f"half of the products need {np.median(self.weeks):.0f} weeks of draws until they are known"
        return f"expected cost {self.cost:.2%} of their profit, {self.shop:.2%} of the shop's; {known}"


def week_of_tests(
    pricer: Pricer, demand: DemandTable, facts: ProductFacts, *, known: Experiments, day: dt.date
) -> Experiment:
    """Plan the experiment `tests` for the week of a day: who is drawn for, how widely, and from which prices.

    A product's price is drawn around the price that the rule had chosen for it the week before, else around the price
    charged last. One that leaves after a draw goes back for a week to the price without it. Left out are products of
    other experiments, those on their way to a price far off, those whose guardrails leave no room, and those that would
    teach too late.

    Args:
        pricer: Prices by the version.
        demand: Its demand.
        facts: What is known of the products now.
        known: The experiments in force.
        day: One of the week.

    Raises:
        ConfigError: No product needs a test, or can have one; or the states are too old to plan on.
    """
    monday = day - dt.timedelta(days=day.weekday())
    former = known.rolling
    if former is not None and monday <= former.start:  # it has not begun
        former = None
    _refuse_old(facts, day, horizon=demand.horizon)
    start = monday if former is None else former.start
    weeks = (monday - start).days // 7 + 1
    others = known.beside(monday, monday + dt.timedelta(weeks=1))
    busy = {product for other in others if not other.rolling for product in other.products}
    free = {request.product_id: request for request in requests_for_all_products(facts)}
    arms = [Arm("draw", share=1.0 / len(SIZES), size=size) for _, size in SIZES]
    by_size = _unknown(demand, sorted(free.keys() - busy))
    before = () if former is None else former.products
    bases = _bases(pricer, facts, [*chain(*by_size), *before], former=former, day=day)
    chosen: dict[str, str] = {}
    cramped: list[str] = []  # without room for the wider draw: the next one may have it
    for arm, unknown in zip(arms, by_size, strict=True):
        products = [product for product in (*cramped, *unknown) if product in bases]
        around = [free[product].model_copy(update={"current_price": bases[product]}) for product in products]
        room = pricer.room(around, size=arm.size, today=_today(facts))
        able = [product for product, has in zip(products, room.tolist(), strict=True) if has]
        cramped = sorted(set(products) - set(able))
        needed = dict(zip(able, outlook(demand, facts, able, arm).weeks.tolist(), strict=True))
        soonest = sorted((product for product in able if needed[product] <= WORTH), key=needed.__getitem__)
        chosen |= dict.fromkeys(soonest[: MOST - len(chosen)], arm.name)
    if not chosen:
        raise ConfigError("no product needs a price test: each is known well enough, in an experiment, or has no room")
    back: dict[str, str] = {}
    if former is not None:
        last = former.end - dt.timedelta(days=1)
        left = bases.keys() & former.products.keys() - chosen.keys() - busy
        back = {product: former.products[product] for product in sorted(left) if former.deviation(product, last)}
    drawn = chosen | back
    prices = {product: bases[product] for product in sorted(drawn)}
    return Experiment(NAME, start, weeks, tuple(arms), drawn, prices, rolling=True, back=frozenset(back))


def _refuse_old(facts: ProductFacts, day: dt.date, *, horizon: int) -> None:
    last = _today(facts)
    reach = dt.timedelta(days=horizon * STEP_DAYS[facts.period], weeks=1)
    if day > last + reach:
        raise ConfigError(f"the champion's states end on {last}, too long before {day}: refresh it, then plan tests")


def waiting(demand: DemandTable, facts: ProductFacts, planned: Experiment) -> int:
    """The number of products known too little and not drawn for: the rule moves them, or guardrails leave no room."""
    on_sale = [request.product_id for request in requests_for_all_products(facts)]
    return len({*chain(*_unknown(demand, on_sale))} - planned.products.keys())


def next_monday(day: dt.date) -> dt.date:
    """The first Monday after a day."""
    return day + dt.timedelta(days=7 - day.weekday())


def of_arms(planned: Experiment, demand: DemandTable, facts: ProductFacts) -> dict[str, Outlook]:
    """Arm → what its draws cost and teach, of those that have products."""
    products = {arm.name: sorted(planned.in_arm(arm.name) - planned.back) for arm in planned.arms}
    return {arm.name: outlook(demand, facts, products[arm.name], arm) for arm in planned.arms if products[arm.name]}


def outlook(demand: DemandTable, facts: ProductFacts, products: Sequence[str], draw: Arm) -> Outlook:
    """Compute what draws cost and teach, by the version's own demand.

    Profit at a draw d is that of units · E[exp(e·d)], with a normal e. The draws' information on log |e| a week is
    e²·Var(d) over the squared coefficient of variation of a week's units; half of the prior variance is gone once it
    has grown to one over that.
    """
    periods = 7 // STEP_DAYS[facts.period]
    ids = np.array(products, dtype=facts.product_ids.dtype)
    at = np.searchsorted(facts.product_ids, ids)
    row = np.searchsorted(demand.product_ids, ids)
    units = np.maximum(facts.typical_units * periods, 1e-9)
    price = facts.price[at]
    cost = facts.unit_cost[at]
    tax = np.nan_to_num(facts.tax_rate[at])
    mean = demand.elasticity[row].astype(float)
    sd = demand.elasticity_sd[row] * np.abs(mean)

    def profit(log_factor: float) -> float:
        sold = units[at] * np.exp(mean * log_factor + (sd * log_factor) ** 2 / 2)
        return float((sold * unit_profit(price * np.exp(log_factor), cost, tax_rate=tax)).sum())

    usual = profit(0.0)
    lost = usual - float(np.mean([profit(way * draw.deviation) for way in WAYS]))
    everything = np.nansum(units * unit_profit(facts.price, facts.unit_cost, tax_rate=np.nan_to_num(facts.tax_rate)))
    variance = draw.deviation**2 * np.mean(np.square(WAYS))
    noise = demand.unit[row] / units[at] + 1 / (periods * demand.size[row])
    weeks = np.maximum(noise / (PRIOR_SD**2 * mean**2 * variance), 2.0 * LEAST_FORTNIGHTS)
    return Outlook(lost / max(usual, 1e-9), lost / max(float(everything), 1e-9), np.asarray(weeks, np.float64))


def _unknown(demand: DemandTable, products: Sequence[str]) -> list[list[str]]:
    """Those of some products that each of SIZES is for: modelled, and of an elasticity that is known so little."""
    sd = dict(zip(demand.product_ids.tolist(), demand.elasticity_sd.tolist(), strict=False))
    below = [np.inf, *(bound for bound, _ in SIZES)]
    return [
        [product for product in products if bound < sd.get(product, 0.0) <= most]
        for most, (bound, _) in zip(below, SIZES, strict=False)
    ]


def _bases(
    pricer: Pricer, facts: ProductFacts, products: Sequence[str], *, former: Experiment | None, day: dt.date
) -> dict[str, float]:
    """Product → the price to draw around, of those whose rule is not on its way to a price far off.

    A product that was drawn for has the price that the rule chose without the draw; left out for a week is one that is
    advertised, or that somebody moved.
    """
    wanted = frozenset(products)
    before = dict(former.prices) if former else {}
    again = [request for request in requests_for_all_products(facts, day=day) if request.product_id in before]
    entering = [request for request in requests_for_all_products(facts) if request.product_id not in before]
    stretched = () if former is None else (replace(former, weeks=(day - former.start).days // 7 + 1),)
    found: dict[str, float] = {}
    for requests, experiments in ((again, Experiments(stretched)), (entering, NO_EXPERIMENTS)):
        asked = [request for request in requests if request.product_id in wanted]
        answers = pricer.price_detailed(asked, today=_today(facts), experiments=experiments)
        for request, answer in zip(asked, answers, strict=True):
            product = request.product_id
            base = before.get(product, answer.current_price)
            if base is not None and (product not in before or answer.experiment) and not _far(base, answer, pricer):
                found[product] = answer.settled if product in before else base
    return found


def _far(base: float, answer: DetailedDecision, pricer: Pricer) -> bool:
    """True where the rule moves a price by nearly all that it may at once."""
    most = pricer.policy.config.guardrails.max_move
    return most is not None and abs(answer.settled / base - 1) > NEARLY * most


def _today(facts: ProductFacts) -> dt.date:
    today: dt.date = facts.state_date.astype(dt.date)
    return today
