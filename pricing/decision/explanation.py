"""Explain a price or demand by exact Shapley values of at most nine drivers, each in a sentence for a buyer."""

import datetime as dt
import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Floats
from pricing.config_models import Guardrails
from pricing.data.calendar import WEEKDAYS
from pricing.data.lifts import Lift
from pricing.data.net_price import cost_at_margin, margin_of, net_price, with_tax
from pricing.decision.detailed import DetailedDecision
from pricing.decision.price_grid import NEAR
from pricing.decision.price_tests import NO_TESTS, Draw, Plan
from pricing.decision.pricer import Pricer, Usual
from pricing.decision.reasons import BINDS
from pricing.decision.request import PriceRequest
from pricing.decision.switches import Switches
from pricing.demand.curve import Demand, DemandGrid, Offers, Single
from pricing.demand.grades import PRIOR_ONLY

Quantity = Literal["price", "demand"]
Worth = Callable[[Sequence[PriceRequest], Bools], Floats]

GROUPS: dict[str, tuple[str, ...]] = {
    "cost": ("unit_cost", "tax_rate"),
    "list_price": ("list_price",),
    "current_price": ("current_price",),
    "stock": ("current_stock", "next_delivery"),
    "competitor": ("comp_price", "comp_price_age"),
    "promotion": ("is_promo",),
    "season": ("date", "day_of_week", "is_holiday"),
    "strategy": ("strategy",),
    "product": ("product_id", "category"),
}
# The drivers that are no fields of a request: what is known of demand; of demand itself, the price; what comes last.
ELASTICITY, PRICE, GUARDRAILS, PRICE_TEST = "elasticity", "price", "guardrails", "price_test"
SWITCH = "switch"  # of a price that a person has frozen or given: alone, whatever the others would be
ORDINARY_WEEKDAY = 2  # Wednesday
NEAR_WEEKS = 4  # before and after, in which a Wednesday without an event is looked for
UNIT_DIGITS = 4  # significant digits of units
MOST_DECIMALS = 6  # of a price that is given with more than the smallest step of price has
_BINDING = {
    "cost": "the cost as the lowest price",
    "largest_jump": "the largest distance from the last price charged",
    "band": "the band around the list price",
    "anchor": "the band around the price that a person last set",
    "min_margin": "the least margin",
    "min_advertised": "the minimum advertised price",
    "min_days": "the least time between two changes",
    "max_move": "the largest move",
    "seen": "the range of prices ever charged",
    "comp_band": "the band around the competitor's price",
    "price_rung": "the allowed price points",
}


@dataclass(frozen=True)
class Told:
    """What a version tells of a product's demand, for the sentences.

    Attributes:
        elasticity: Its elasticity as it is shown everywhere; None where the product is not known.
        competitor: A sentence on what the competitor's price does to demand; empty where nothing is said.
    """

    elasticity: float | None = None
    competitor: str = ""


@dataclass(frozen=True)
class Driver:
    """One driver and its effect.

    Attributes:
        name: A key of GROUPS, or ELASTICITY, PRICE, GUARDRAILS, PRICE_TEST or SWITCH.
        effect: What it adds, in currency or units, rounded so that the effects add up to the difference as printed.
        exact: The same unrounded.
        sentence: The same in words.
    """

    name: str
    effect: float
    exact: float
    sentence: str


@dataclass(frozen=True)
class Explanation:
    """The difference of a request's price, or demand, from what it starts from, as effects that add up to it.

    Attributes:
        quantity: What is explained.
        decision: The request's decision and the figures behind it.
        baseline: The request that it is compared with.
        baseline_value: What it starts from: the price charged now, the demand at that price on an ordinary day, or what
            the other request gives. Rounded as `value`.
        value: The price or demand of the request, as money or units are rounded.
        digits: Decimals of the two and of the effects.
        summary: The two in words.
        drivers: Drivers in which the two differ, largest effect first.
    """

    quantity: Quantity
    decision: DetailedDecision
    baseline: PriceRequest
    baseline_value: float
    value: float
    digits: int
    summary: str
    drivers: tuple[Driver, ...]


@dataclass(frozen=True)
class _Player:
    """One driver of the game: what it sets in a mixture of the request and the baseline when it is in, and when not."""

    name: str
    present: Mapping[str, Any] = field(default_factory=dict)
    absent: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Situation:
    """What is compared: the request written out, the baseline, and the drivers in which they differ."""

    whole: PriceRequest
    baseline: PriceRequest
    players: tuple[_Player, ...]
    now: float | None = None  # the price charged now, where the request is compared with that


@dataclass(frozen=True)
class _Undrawn(Plan):
    """The same price tests with every product in the arm `stay`, so without deviations."""

    def draw(self, product_id: str, date: dt.date) -> Draw | None:
        """The plan's draw, without its deviation."""
        found = super().draw(product_id, date)
        return None if found is None else found._replace(arm="stay", deviation=0.0)


class _Untold:
    """A demand model as if nothing told its elasticities: prices then stay, but for stock."""

    def __init__(self, demand: Demand) -> None:
        self._demand = demand
        self.product_ids, self.categories = demand.product_ids, demand.categories

    def grid(self, offers: Offers, prices: Floats) -> DemandGrid:
        """The demand, every elasticity graded *prior only*."""
        found = self._demand.grid(offers, prices)
        return replace(found, grade=np.full_like(found.grade, PRIOR_ONLY))

    def events_on(self, date: dt.date, *, category: int) -> Sequence[Lift]:
        """As the model says."""
        return self._demand.events_on(date, category=category)

    def single(self, *, candidates: int) -> Single | None:
        """No fast path."""


def explain(
    request: PriceRequest,
    pricer: Pricer,
    *,
    today: dt.date,
    against: PriceRequest | None = None,
    quantity: Quantity = "price",
    held: Container[str] = frozenset(),
    tests: Plan = NO_TESTS,
    told: Told | None = None,
) -> Explanation:
    """Attributes the difference between a request and what it starts from to the drivers in which they differ.

    Each driver's effect is its Shapley value (Shapley 1953, doi:10.1515/9781400881970-018; as an explanation of models
    Lundberg and Lee 2017, arXiv:1705.07874): what it changes, averaged over all orders in which the drivers can be put
    in. The worth of some drivers is the price of a request that has these from the request and the others from the
    baseline, guardrails apart. What guardrails and a price test then do comes last, since they act on what was chosen,
    and is no part of the averages.

    By default the start is the price charged now: the price in a situation that gives no reason to change it, where
    nothing is known of the elasticity (the price stays), the product costs what is usual in its category, its list
    price is the one charged now, stock is ample, the competitor is where it last was, and it is a Wednesday without
    event or promotion. The drivers are the reasons to move away from it. Demand starts at that price on such a day.

    Args:
        request: What is to be explained.
        pricer: Prices every mixture of the two, at most 512 of them, in two batches.
        today: The day on which requests are answered.
        against: Another request to compare with instead.
        quantity: "price", or "demand": units over the requested period at the request's recommended price.
        held: Products that are held out of pricing.
        tests: Price tests. A draw is a driver of its own: the price given less that of the arm `stay`.
        told: What the sentences say of the product's demand.

    Raises:
        RequestError: A request cannot be priced, or for demand, nothing says how much sells.
    """
    (decided,) = pricer.price_detailed([request], today=today, held=held, tests=tests)
    written = request.model_copy(update=_written(request, decided, pricer))
    if against is not None:
        (other,) = pricer.price_detailed([against], today=today, held=held)
        situation = _between(written, against.model_copy(update=_written(against, other, pricer)))
    elif quantity == "demand":
        situation = _of_demand(written, decided, pricer, today=today)
    else:
        situation = _of_price(written, decided, pricer, today=today)
    if quantity == "demand":
        effects, start, end = _demand_effects(situation, decided, pricer, today=today)
        digits = unit_digits(start, end)
    else:
        effects, start, end = _price_effects(situation, decided, pricer, today=today, held=held, tests=tests)
        digits = _money_digits(pricer.policy.config.price_step, start, end)
    words = _Words(situation, decided, quantity, digits, pricer, told or Told())
    untold = against is None and quantity == "price" and "elasticity_unidentified" in decided.decision.reasons
    return _explanation(words, effects, start=start, end=end, untold=untold)


def explain_switched(
    request: PriceRequest,
    pricer: Pricer,
    *,
    today: dt.date,
    switches: Switches,
    against: PriceRequest | None = None,
    quantity: Quantity = "price",
    told: Told | None = None,
) -> Explanation:
    """As `explain`, of a price that a person has frozen or given: the switch is its one driver.

    Raises:
        RequestError: As `explain`.
    """
    (decided,) = pricer.price_detailed([request], today=today, switches=switches)
    written = request.model_copy(update=_written(request, decided, pricer))
    end = start = decided.decision.recommended_price
    if against is not None:
        (other,) = pricer.price_detailed([against], today=today, switches=switches)
        start = other.decision.recommended_price
        situation = _between(written, against.model_copy(update=_written(against, other, pricer)))
    elif quantity == "demand":
        situation = _of_demand(written, decided, pricer, today=today)
    else:
        situation = _of_price(written, decided, pricer, today=today)
    if quantity == "demand":
        effects, start, end = _demand_effects(situation, decided, pricer, today=today)
        digits = unit_digits(start, end)
    else:
        start = start if situation.now is None else situation.now
        effects, digits = {SWITCH: end - start}, _money_digits(pricer.policy.config.price_step, start, end)
    return _explanation(
        _Words(situation, decided, quantity, digits, pricer, told or Told()), effects, start=start, end=end
    )


def _explanation(
    words: "_Words", effects: Mapping[str, float], *, start: float, end: float, untold: bool = False
) -> Explanation:
    """What adds up from `start` to `end`, rounded together; `untold` adds that nothing tells the elasticity."""
    digits = words.digits
    rounded = round_together(list(effects.values()), of=round(end, digits) - round(start, digits), digits=digits)
    drivers = [
        Driver(name, effect, exact, words.sentence(name, effect))
        for (name, exact), effect in zip(effects.items(), rounded, strict=True)
    ]
    if untold:
        drivers.append(Driver(ELASTICITY, 0.0, 0.0, words.untold()))
    drivers.sort(key=lambda driver: -abs(driver.exact))
    return Explanation(
        quantity=words.quantity,
        decision=words.decided,
        baseline=words.situation.baseline,
        baseline_value=round(start, digits),
        value=round(end, digits),
        digits=digits,
        summary=words.summary(round(start, digits), round(end, digits)),
        drivers=tuple(drivers),
    )


def shapley(values: Floats) -> list[float]:
    """Exact Shapley values of a game.

    Args:
        values: (2^players,) the worth of each coalition; bit i of the index says whether player i is in.

    Returns:
        One value a player; they add up to values[-1] − values[0].
    """
    players = int(math.log2(len(values)))
    coalitions = np.arange(len(values))
    sizes = np.bitwise_count(coalitions)
    weights = np.array([1 / (players * math.comb(players - 1, size)) for size in range(players)])
    found = []
    for player in range(players):
        without = coalitions[coalitions >> player & 1 == 0]
        gain = values[without | 1 << player] - values[without]
        found.append(float(gain @ weights[sizes[without]]))
    return found


def round_together(effects: Sequence[float], *, of: float, digits: int) -> list[float]:
    """Rounds effects so that they add up to their rounded total: largest remainders are rounded up.

    An effect of 0 stays 0, and none moves by more than one unit of the last digit where they add up to the total.

    Args:
        effects: Effects that add up to about `of`.
        of: The total, rounded.
        digits: Decimals.

    Example:
        >>> from pricing.decision.explanation import round_together
        >>> round_together([1 / 3, 1 / 3, 1 / 3, 0.0], of=1.0, digits=2)
        [0.34, 0.33, 0.33, 0.0]
    """
    scale = 10.0**digits
    scaled = np.round(np.asarray(effects, dtype=np.float64) * scale, 6)  # 0.29 × 100 is 28.999999999999996
    units = np.floor(scaled)
    some = np.flatnonzero(np.asarray(effects))
    missing = round(of * scale) - int(units.sum())
    order = some[np.argsort(units[some] - scaled[some], kind="stable")]
    for place in range(abs(missing) if len(some) else 0):
        units[order[place % len(order)] if missing > 0 else order[-1 - place % len(order)]] += np.sign(missing)
    return [round(float(unit) / scale, digits) + 0.0 for unit in units]


def unit_digits(*units: float) -> int:
    """Decimals that leave the larger number UNIT_DIGITS significant digits, at most as many."""
    largest = max(*units, 1e-9)
    return min(max(UNIT_DIGITS - 1 - math.floor(math.log10(largest)), 0), UNIT_DIGITS)


def _price_effects(
    situation: _Situation,
    decided: DetailedDecision,
    pricer: Pricer,
    *,
    today: dt.date,
    held: Container[str],
    tests: Plan,
) -> tuple[dict[str, float], float, float]:
    """Effects on the price by driver, what it starts from and what it comes to."""
    before = NO_TESTS if decided.test is None else _Undrawn(tests.tests)
    told = pricer.unguarded(demand=pricer.demand)
    untold = pricer.unguarded(demand=pricer.demand and _Untold(pricer.demand))
    gate = next((place for place, player in enumerate(situation.players) if player.name == ELASTICITY), None)

    def worth(mixtures: Sequence[PriceRequest], taken: Bools) -> Floats:
        known = np.ones(len(mixtures), np.bool_) if gate is None else taken[:, gate]
        prices = np.empty(len(mixtures))
        for one, rows in ((told, np.flatnonzero(known)), (untold, np.flatnonzero(~known))):
            prices[rows] = one.prices([mixtures[row] for row in rows.tolist()], today=today, held=held, tests=before)
        return prices

    values = _worths(situation, worth)
    names = [player.name for player in situation.players]
    effects = dict(zip(names, shapley(values), strict=True))
    price, start = decided.decision.recommended_price, float(values[0])
    settled = price
    if decided.test is not None:
        (settled,) = pricer.prices([situation.whole], today=today, held=held, tests=before)
        effects[PRICE_TEST] = price - settled
    bent = settled - float(values[-1])
    if situation.now is None:
        (start,) = pricer.prices([situation.baseline], today=today, held=held, tests=before)
        bent -= start - float(values[0])
    if abs(bent) > 1e-9 or (situation.now is not None and _binding(decided, pricer.policy.config.guardrails)):
        effects[GUARDRAILS] = bent
    return effects, start, price


def _demand_effects(
    situation: _Situation, decided: DetailedDecision, pricer: Pricer, *, today: dt.date
) -> tuple[dict[str, float], float, float]:
    """Effects on the units sold by driver, what they start from and what they come to."""
    price = decided.decision.recommended_price
    moved = next((place for place, player in enumerate(situation.players) if player.name == PRICE), None)

    def worth(mixtures: Sequence[PriceRequest], taken: Bools) -> Floats:
        prices = np.full(len(mixtures), price)
        if moved is not None and situation.now is not None:
            prices[~taken[:, moved]] = situation.now
        return np.asarray(pricer.demand_at(mixtures, prices.tolist(), today=today))

    values = _worths(situation, worth)
    names = [player.name for player in situation.players]
    return dict(zip(names, shapley(values), strict=True)), float(values[0]), float(values[-1])


def _worths(situation: _Situation, worth: Worth) -> Floats:
    """(2^player,) the worth of each coalition: its players as in the request, the others as in the baseline."""
    players = situation.players
    taken: NDArray[np.bool_] = np.arange(1 << len(players))[:, None] >> np.arange(len(players)) & 1 > 0
    mixtures = []
    for row in taken:
        update: dict[str, Any] = {}
        for player, present in zip(players, row, strict=True):
            update.update(player.present if present else player.absent)
        mixture = situation.baseline.model_copy(update=update)
        if mixture.next_delivery and mixture.date and mixture.next_delivery < mixture.date:  # from two requests
            mixture = mixture.model_copy(update={"next_delivery": mixture.date})
        mixtures.append(mixture)
    return worth(mixtures, taken)


def _between(whole: PriceRequest, baseline: PriceRequest) -> _Situation:
    """Two requests, and the groups of fields in which they differ."""
    parts = {name: (_part(whole, fields), _part(baseline, fields)) for name, fields in GROUPS.items()}
    players = tuple(_Player(name, *part) for name, part in parts.items() if part[0] != part[1])
    return _Situation(whole, baseline, players)


def _of_price(whole: PriceRequest, decided: DetailedDecision, pricer: Pricer, *, today: dt.date) -> _Situation:
    """The request beside a situation that gives no reason to change the price."""
    usual, now = pricer.usual(whole, today=today), _now(decided, pricer)
    step = pricer.policy.config.price_step
    absent: dict[str, dict[str, Any]] = {}
    if whole.current_stock is not None:
        absent["stock"] = {"current_stock": None, "next_delivery": None}
    cost = round(_usual_cost(decided, usual, now=now), _money_digits(step, now))
    if abs(cost - decided.unit_cost) > step / 2:
        absent["cost"] = {"unit_cost": cost}
    if abs(decided.list_price - now) > NEAR * now:
        absent["list_price"] = {"list_price": now}
    if decided.decision.strategy != pricer.policy.config.strategy:
        absent["strategy"] = {"strategy": None}
    absent |= _ordinary_day(whole, decided, pricer, usual)
    situation = _beside(whole, absent, now=now)
    if "elasticity_unidentified" in decided.decision.reasons:
        return situation
    return replace(situation, players=(_Player(ELASTICITY), *situation.players))


def _of_demand(whole: PriceRequest, decided: DetailedDecision, pricer: Pricer, *, today: dt.date) -> _Situation:
    """The request beside an ordinary day at the price charged now."""
    now = _now(decided, pricer)
    situation = _beside(whole, _ordinary_day(whole, decided, pricer, pricer.usual(whole, today=today)), now=now)
    if abs(decided.decision.recommended_price - now) <= NEAR * now:
        return situation
    return replace(situation, players=(_Player(PRICE), *situation.players))


def _ordinary_day(
    whole: PriceRequest, decided: DetailedDecision, pricer: Pricer, usual: Usual
) -> dict[str, dict[str, Any]]:
    """What an ordinary day has, by group: no promotion, the competitor where it last was, no event."""
    absent: dict[str, dict[str, Any]] = {"promotion": {"is_promo": False}}
    if whole.comp_price is not None:
        absent["competitor"] = {"comp_price": usual.comp_price}
    holiday = None if whole.is_holiday is None else False  # None follows from the date, by the calendar
    absent["season"] = {**_on(_eventless(pricer, decided, whole)), "is_holiday": holiday}
    return absent


def _beside(whole: PriceRequest, absent: Mapping[str, Mapping[str, Any]], *, now: float) -> _Situation:
    """The request beside the one that has all of `absent`; groups that are the same in both are no players."""
    parts = {name: (_part(whole, tuple(values)), values) for name, values in absent.items()}
    players = tuple(_Player(name, *part) for name, part in parts.items() if part[0] != part[1])
    update = {field: value for player in players for field, value in player.absent.items()}
    return _Situation(whole, whole.model_copy(update=update), players, now)


def _now(decided: DetailedDecision, pricer: Pricer) -> float:
    """The price charged now, or what stands in for it: in a price test its base, else what list price says."""
    if decided.test is not None:
        return decided.test.base
    return decided.current_price or pricer.policy.candidate_grid.grid.default(decided.list_price)


def _usual_cost(decided: DetailedDecision, usual: Usual, *, now: float) -> float:
    """What a product of this list price costs where its margin is the usual one; not more than is earned now."""
    tax_rate, cost = decided.tax_rate, decided.unit_cost
    if usual.margin is not None:
        cost = float(cost_at_margin(decided.list_price, usual.margin, tax_rate=tax_rate))
    return min(cost, float(net_price(now, tax_rate)))


def _eventless(pricer: Pricer, decided: DetailedDecision, request: PriceRequest) -> dt.date:
    """The nearest Wednesday outside every event's window; the week's own where none is within NEAR_WEEKS."""
    wednesday = decided.date + dt.timedelta(days=ORDINARY_WEEKDAY - decided.date.weekday())
    if request.next_delivery and request.next_delivery < wednesday:
        wednesday -= dt.timedelta(days=7)
    latest = request.next_delivery or dt.date.max
    for weeks in sorted(range(-NEAR_WEEKS, NEAR_WEEKS + 1), key=lambda weeks: (abs(weeks), weeks)):
        day = wednesday + dt.timedelta(days=7 * weeks)
        if day <= latest and not pricer.events_on(day, category=decided.category):
            return day
    return wednesday


def _on(date: dt.date) -> dict[str, Any]:
    return {"date": date, "day_of_week": WEEKDAYS[date.weekday()]}


def _written(request: PriceRequest, decided: DetailedDecision, pricer: Pricer) -> dict[str, Any]:
    """What a request left to be filled in, written out: its day, what is planned, list price and competitor's price.

    With a list price every mixture of two requests can be priced, also where one's product is unknown.
    """
    prices = {"list_price": decided.list_price, "comp_price": decided.decision.comp_price_used, "comp_price_age": None}
    return _on(decided.date) | _planned(request, decided, pricer) | prices


def _planned(request: PriceRequest, decided: DetailedDecision, pricer: Pricer) -> dict[str, Any]:
    """The plans' word; without one the request's own delivery, so that no mixture of another day takes a plan's."""
    promotion = {"is_promo": True} if "promotion_planned" in decided.decision.reasons else {}
    delivery = request.next_delivery
    if "delivery_planned" in decided.decision.reasons:
        delivery = pricer.planned_delivery(request, decided.date)
    return promotion | {"next_delivery": delivery}


def _part(request: PriceRequest, fields: Sequence[str]) -> dict[str, Any]:
    return {field: getattr(request, field) for field in fields}


def _binding(decided: DetailedDecision, guardrails: Guardrails) -> list[str]:
    """The guardrails that act on the price, in words.

    One that gave way has no effect (docs/guardrails.md), but for the largest jump and the band around list, which leave
    a cost above them as the price, and the smallest step of price, which leads beside limits that have none between
    them. Endings and ladders that gave way are as if they were not configured.
    """
    reasons = decided.decision.reasons
    named = {name for name in _BINDING if BINDS[name] in reasons}
    if "gave_way_largest_jump" in reasons:
        named.add("largest_jump")
    if "gave_way_band" in reasons and decided.list_price * guardrails.band[1] < with_tax(
        decided.unit_cost, decided.tax_rate
    ):
        named.add("band")
    said = [words for name, words in _BINDING.items() if name in named]
    if "gave_way_price_rung" in reasons and not _price_points(guardrails):
        said.append("the smallest step of price")
    return said


def _price_points(guardrails: Guardrails) -> bool:
    return bool(guardrails.endings or guardrails.ladder)


def _money_digits(step: float, *prices: float) -> int:
    """Decimals of a price: those of its smallest step, more where a price that is kept has more."""
    digits = max(0, -int(Decimal(repr(step)).normalize().as_tuple().exponent))
    while digits < MOST_DECIMALS and any(abs(round(price, digits) - price) > 1e-9 * price for price in prices):
        digits += 1
    return digits


@dataclass(frozen=True)
class _Words:
    """The sentences of an explanation."""

    situation: _Situation
    decided: DetailedDecision
    quantity: Quantity
    digits: int
    pricer: Pricer
    told: Told

    def sentence(self, name: str, effect: float) -> str:
        """What a driver does, in words."""
        what = "the price" if self.quantity == "price" else "demand"
        unit = "" if self.quantity == "price" else " units"
        many = "" if name == GUARDRAILS and self._said() else "s"
        verb = f"{'raise' if effect > 0 else 'lower'}{many} {what} by {self._number(abs(effect))}{unit}"
        if not effect:
            verb = f"leave{many} {what} as it is"
        subject = str(getattr(self, f"_{name}")())
        if name == GUARDRAILS:
            return f"{subject} {verb}{self._without(effect)}."
        more = f" {self.told.competitor}" if name == "competitor" and self.told.competitor else ""
        return f"{subject} {verb}.{more}"

    def untold(self) -> str:
        """That too little is known of the elasticity, of the product or in a version that holds all prices."""
        return (
            "Too little is known of how demand answers to the price, so it stays, or goes back to the list price from "
            "above, but for stock."
        )

    def summary(self, start: float, end: float) -> str:
        """What is explained, in a sentence."""
        before, after, price = (self._number(value) for value in (start, end, self.decided.decision.recommended_price))
        now = self.situation.now
        if self.quantity == "demand":
            price = self._money(self.decided.decision.recommended_price)
            other = (
                "of the other request" if now is None else f"at the price now, {self._money(now)}, on an ordinary day"
            )
            return f"{after} units are expected at the recommended price of {price}, {before} {other}."
        if now is None:
            return f"The price is {after}, that of the other request {before}."
        origin = "in the usual situation" if abs(start - now) > NEAR * now else "charged now"
        if self.decided.current_price is None:
            origin = "which stands in for a price charged now that is not known"
        if start == end:
            return f"The price stays at {after}, {origin}."
        return (
            f"The price goes from {before}, {origin}, to {after}: {self._number(abs(end - start))} {_way(end - start)}."
        )

    def _number(self, value: float) -> str:
        return f"{value:,.{self.digits}f}"

    def _money(self, value: float) -> str:
        step = self.pricer.policy.config.price_step
        return f"{value:,.{self.digits if self.quantity == 'price' else _money_digits(step)}f}"

    def _beside(self, field: str) -> str:
        """The request's and the baseline's value of a field that differs."""
        mine, other = (getattr(one, field) for one in (self.situation.whole, self.situation.baseline))
        return f"{self._shown(mine)}, rather than {self._shown(other)},"

    def _shown(self, value: float | str | None) -> str:
        if value is None:
            return "none stated"
        return self._money(value) if isinstance(value, float) else value

    def _cost(self) -> str:
        if self.situation.now is None:
            return self._costs_differ()
        listed, cost, tax_rate = self.decided.list_price, self.decided.unit_cost, self.decided.tax_rate
        usual = self.situation.baseline.unit_cost or cost
        own, other = (_percent(margin_of(listed, one, tax_rate=tax_rate)) for one in (cost, usual))
        margin = f"{own} of the {'net ' if tax_rate else ''}list price where {other} is usual"
        return f"The unit cost of {self._money(cost)}, which leaves {margin},"

    def _costs_differ(self) -> str:
        whole, baseline = self.situation.whole, self.situation.baseline
        if whole.unit_cost == baseline.unit_cost:
            mine, other = (
                "none stated" if one.tax_rate is None else f"{100 * one.tax_rate:g} %" for one in (whole, baseline)
            )
            return f"The tax rate of {mine}, rather than {other},"
        return f"The unit cost of {self._beside('unit_cost')}"

    def _elasticity(self) -> str:
        whose = " of its category" if "elasticity_from_category" in self.decided.decision.reasons else ""
        if self.told.elasticity is None:
            return f"How demand answers to the price{', as its category shows,' if whose else ''}"
        size = f"{abs(self.told.elasticity):.2f}"
        return f"The elasticity{whose} of −{size} (1 % dearer sells {size} % less)"

    def _list_price(self) -> str:
        now = self.situation.now
        if now is None:
            return f"The list price of {self._beside('list_price')}"
        side = "above" if self.decided.list_price > now else "below"
        return f"The list price of {self._money(self.decided.list_price)}, {side} the {self._money(now)} charged now,"

    def _current_price(self) -> str:
        return f"The current price of {self._beside('current_price')}"

    def _stock(self) -> str:
        whole, baseline = self.situation.whole, self.situation.baseline
        other = "plenty" if baseline.current_stock is None else _stocked(baseline)
        short = (
            ", expected to run out before the next delivery," if "stock_short" in self.decided.decision.reasons else ""
        )
        planned = "delivery_planned" in self.decided.decision.reasons
        return f"The stock of {_stocked(whole, planned=planned)}{short or f', rather than {other},'}"

    def _competitor(self) -> str:
        whole, baseline = self.situation.whole, self.situation.baseline
        if whole.comp_price is None:
            return f"No competitor known, rather than one at {self._shown(baseline.comp_price)},"
        other = "none known" if baseline.comp_price is None else self._money(baseline.comp_price)
        before = " when the history ended" if self.situation.now is not None and baseline.comp_price else ""
        return f"The competitor at {self._money(whole.comp_price)}, rather than {other}{before},"

    def _promotion(self) -> str:
        return "The advertised promotion" if self.situation.whole.is_promo else "Doing without a promotion"

    def _season(self) -> str:
        whole, baseline = self.situation.whole, self.situation.baseline
        events = [lift.words() for lift in self.pricer.events_on(self.decided.date, category=self.decided.category)]
        about = "; ".join((["a holiday"] if whole.is_holiday else []) + events)
        if whole.date == baseline.date:
            return "The holiday" if whole.is_holiday else "A day without a holiday"
        day = f"{whole.day_of_week}, {whole.date}{f' ({about})' if about else ''}"
        return f"{day}, rather than {baseline.day_of_week}, {baseline.date},"

    def _strategy(self) -> str:
        other = self.situation.baseline.strategy or self.pricer.policy.config.strategy
        return f"The strategy {self.decided.decision.strategy}, rather than {other},"

    def _product(self) -> str:
        whole, baseline = self.situation.whole, self.situation.baseline
        if whole.product_id == baseline.product_id:
            return f"The category {self._beside('category')}"
        return f"The product {whole.product_id}, rather than {baseline.product_id},"

    def _price(self) -> str:
        now = self.situation.now or 0.0
        return (
            f"The price of {self._money(self.decided.decision.recommended_price)}, rather than {self._money(now)} now,"
        )

    def _price_test(self) -> str:
        return f"The draw of the price test {self.decided.test.test if self.decided.test else ''}"

    def _switch(self) -> str:
        given = "overridden" in self.decided.decision.reasons
        cost = " (at cost, below which nobody asked to go)" if given and self._said() else ""
        return f"A person, who has {'given this price' if given else 'frozen prices'}{cost},"

    def _said(self) -> list[str]:
        return _binding(self.decided, self.pricer.policy.config.guardrails)

    def _guardrails(self) -> str:
        said, reasons = self._said(), self.decided.decision.reasons
        if said:
            return f"The guardrails ({', '.join(said)})"
        if _price_points(self.pricer.policy.config.guardrails):
            return "Rounding to an allowed price point"
        if "low_confidence" in reasons:
            return "That the model is too unsure of a move inside the guardrails"
        return (
            "That too little is gained by a move inside the guardrails"
            if "held" in reasons
            else "Keeping to the guardrails"
        )

    def _without(self, effect: float) -> str:
        """What the price would be without guardrails, where that is meant."""
        if not effect or self.situation.now is None or self.decided.test is not None:
            return ""
        return f": without them it would be {self._number(self.decided.decision.recommended_price - effect)}"


def _way(difference: float) -> str:
    return "up" if difference > 0 else "down"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _stocked(request: PriceRequest, *, planned: bool = False) -> str:
    stock, kind = request.current_stock, "planned delivery" if planned else "delivery"
    delivery = f" until the {kind} on {request.next_delivery}" if request.next_delivery else ""
    if stock is None:
        return f"unknown size{delivery}"
    return (
        f"{stock:,.0f} unit{'' if stock == 1 else 's'}{delivery}"
        if stock == round(stock)
        else f"{stock:,.2f} units{delivery}"
    )
