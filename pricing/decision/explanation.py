"""Explain a price or demand by exact Shapley values of at most ten groups of inputs, against a baseline request."""

import datetime as dt
import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pricing.arrays import Floats
from pricing.data.calendar import WEEKDAYS
from pricing.decision.detailed import DetailedDecision
from pricing.decision.price_tests import NO_TESTS, Draw, Plan, PriceTest
from pricing.decision.pricer import Pricer
from pricing.decision.request import PriceRequest

Quantity = Literal["price", "demand"]
Value = Callable[[Sequence[PriceRequest]], Sequence[float]]

GROUPS: dict[str, tuple[str, ...]] = {
    "day": ("day_of_week", "date"),
    "holiday": ("is_holiday",),
    "promotion": ("is_promo",),
    "stock": ("current_stock", "next_delivery"),
    "competitor": ("comp_price",),
    "cost": ("unit_cost",),
    "list_price": ("list_price",),
    "current_price": ("current_price",),
    "strategy": ("strategy",),
    "history": ("product_id", "category"),
}
PRICE_TEST = "price_test"  # the driver that is no input, but a random draw
PLENTY = 1e9  # units that no product sells
ORDINARY_WEEKDAY = 2  # Wednesday
NEAR_WEEKS = 4  # before and after, in which a Wednesday without an event is looked for
TWIN = "\N{WHITE SQUARE}"  # product ID of the baseline's stand-in; no real product has it


@dataclass(frozen=True)
class Driver:
    """One group of inputs and its effect.

    Attributes:
        name: A key of GROUPS, or PRICE_TEST.
        effect: Its Shapley value, in the unit of what is explained.
        sentence: The same in words.
    """

    name: str
    effect: float
    sentence: str


@dataclass(frozen=True)
class Explanation:
    """The difference of a request's price, or demand, from a baseline's, as effects that add up to it.

    Attributes:
        quantity: What is explained.
        decision: The request's decision and the figures behind it.
        baseline: The ordinary request that it is compared with.
        baseline_value: The price or demand of the baseline.
        value: The price or demand of the request.
        drivers: Groups whose inputs differ, largest effect first.
    """

    quantity: Quantity
    decision: DetailedDecision
    baseline: PriceRequest
    baseline_value: float
    value: float
    drivers: tuple[Driver, ...]


class _Held(Container[str]):
    """The held-out products, and TWIN where `twin` is set."""

    def __init__(self, held: Container[str], *, twin: bool) -> None:
        self._held, self._twin = held, twin

    def __contains__(self, product: object) -> bool:
        return product in self._held or (self._twin and product == TWIN)


@dataclass(frozen=True)
class _Undrawn(Plan):
    """The same price tests with every product in the arm `stay`, so without deviations.

    Prices are still chosen from the test's base price, the twin's from the base of the product that it stands for.
    """

    tests: tuple[PriceTest, ...] = ()
    original: str = ""

    def draw(self, product_id: str, date: dt.date) -> Draw | None:
        """The plan's draw, without its deviation."""
        found = super().draw(self.original if product_id == TWIN else product_id, date)
        return None if found is None else found._replace(arm="stay", deviation=0.0)


def explain(
    request: PriceRequest,
    pricer: Pricer,
    *,
    today: dt.date,
    against: PriceRequest | None = None,
    quantity: Quantity = "price",
    held: Container[str] = frozenset(),
    tests: Plan = NO_TESTS,
) -> Explanation:
    """Attributes the difference between a request and a baseline to the groups of inputs in which they differ.

    Args:
        request: What is to be explained.
        pricer: Prices every mixture of the two, at most 1,024 of them, in one batch.
        today: The day on which requests are answered.
        against: The baseline; an ordinary day by default: a Wednesday without event or promotion, ample stock, no
            competitor known, the history's own prices and cost, the default strategy, and, where the model knows both,
            the product's category in place of its own history.
        quantity: "price", or "demand": units over the requested period at the request's recommended price.
        held: Products that are held out of pricing; the twin of one of them, which stands for its category, is too.
        tests: Price tests. A draw is a driver of its own: the price given less that of the arm `stay`, which the other
            drivers explain.

    Raises:
        RequestError: A request cannot be priced, or for demand, nothing says how much sells.
    """
    known = request.model_copy(update={"current_price": None, "list_price": None, "unit_cost": None})
    held = _Held(held, twin=request.product_id in held)
    (decided, history) = pricer.price_detailed([request, known], today=today, held=held, tests=tests)
    before = NO_TESTS if decided.test is None else _Undrawn(tests.tests, request.product_id)
    whole = request.model_copy(update=_on(decided.date))
    if against is None:
        whole, baseline = _ordinary(whole, decided, history, on=_eventless(pricer, decided, request))
    else:
        (other,) = pricer.price_detailed([against], today=today, held=held)
        baseline = against.model_copy(update=_on(other.date))
    price = decided.decision.recommended_price

    def value(mixtures: Sequence[PriceRequest]) -> Sequence[float]:
        if quantity == "demand":
            return pricer.demand_at(mixtures, [price] * len(mixtures), today=today)
        answers = pricer.price_detailed(mixtures, today=today, held=held, tests=before)
        return [answer.decision.recommended_price for answer in answers]

    events = _on_events(pricer, decided)
    names = [name for name, fields in GROUPS.items() if _part(whole, fields) != _part(baseline, fields)]
    values = _coalition_values(whole, baseline, names, value)
    drivers = [
        Driver(name, effect, _sentence(name, effect, events, quantity=quantity, request=whole, baseline=baseline))
        for name, effect in zip(names, shapley(values), strict=True)
    ]
    result = float(values[-1])
    if decided.test is not None and quantity == "price":
        drivers.append(_by_lot(decided.test.test, price - result))
        result = price
    drivers.sort(key=lambda driver: -abs(driver.effect))
    return Explanation(quantity, decided, baseline, float(values[0]), result, tuple(drivers))


def _on_events(pricer: Pricer, decided: DetailedDecision) -> str:
    """The named events that lift the day's demand, each with its lift, in brackets; empty without any."""
    said = [lift.words() for lift in pricer.events_on(decided.date, category=decided.category)]
    return f" ({'; '.join(said)})" if said else ""


def _by_lot(test: str, effect: float) -> Driver:
    verb = "leaves the price as it is" if abs(effect) < 0.005 else f"{'raises' if effect > 0 else 'lowers'} the price"
    amount = "" if abs(effect) < 0.005 else f" by {abs(effect):.2f}"
    return Driver(PRICE_TEST, effect, f"The draw of the price test {test} {verb}{amount}.")


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


def _coalition_values(whole: PriceRequest, baseline: PriceRequest, names: Sequence[str], value: Value) -> Floats:
    """(2^group,) the value where the groups of a coalition are the request's and the others the baseline's."""
    parts = [_part(whole, GROUPS[name]) for name in names]
    mixtures = []
    for coalition in range(1 << len(names)):
        update: dict[str, Any] = {}
        for place, part in enumerate(parts):
            if coalition >> place & 1:
                update.update(part)
        mixture = baseline.model_copy(update=update)
        if mixture.next_delivery and mixture.date and mixture.next_delivery < mixture.date:  # from two requests
            mixture = mixture.model_copy(update={"next_delivery": mixture.date})
        mixtures.append(mixture)
    return np.asarray(value(mixtures), dtype=np.float64)


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


def _ordinary(
    request: PriceRequest, decided: DetailedDecision, history: DetailedDecision, *, on: dt.date
) -> tuple[PriceRequest, PriceRequest]:
    """The request with the history's values filled in, and the baseline: an ordinary day."""
    whole: dict[str, Any] = {}
    ordinary: dict[str, Any] = {
        **_on(on),
        "is_holiday": False,
        "is_promo": False,
        "current_stock": max(PLENTY, request.current_stock),
        "comp_price": None,
        "strategy": None,
    }
    for field in ("current_price", "list_price", "unit_cost"):
        ordinary[field] = _word(history, field) if getattr(request, field) is not None else None
    if decided.decision.source == "model" and decided.category is not None:
        # The twin is an unknown product of the category, so both must state what the product's own history gives.
        for field in ("current_price", "list_price", "unit_cost"):
            whole[field] = _word(decided, field)
            ordinary[field] = _word(history, field)
        whole["category"] = decided.category
        ordinary |= {"category": decided.category, "product_id": TWIN}
    if "promotion_planned" in decided.decision.reasons:
        whole["is_promo"] = True
    written = request.model_copy(update=whole)
    if written.is_holiday is None:
        ordinary["is_holiday"] = None  # it follows from the date, by the calendar
    return written, written.model_copy(update=ordinary)


def _word(answer: DetailedDecision, field: str) -> float | None:
    """A figure behind a decision as a field of a request; None for an assumed cost, which was not given."""
    assumed = field == "unit_cost" and "cost_assumed" in answer.decision.reasons
    number: float | None = None if assumed else getattr(answer, field)
    return number


def _on(date: dt.date) -> dict[str, Any]:
    return {"date": date, "day_of_week": WEEKDAYS[date.weekday()]}


def _part(request: PriceRequest, fields: Sequence[str]) -> dict[str, Any]:
    return {field: getattr(request, field) for field in fields}


def _sentence(
    name: str, effect: float, events: str, *, quantity: Quantity, request: PriceRequest, baseline: PriceRequest
) -> str:
    unit = "the price" if quantity == "price" else "demand"
    amount = f"{abs(effect):.2f}" + ("" if quantity == "price" else " units")
    if abs(effect) < 0.005:
        return f"{_subject(name, events, request, baseline)} leaves {unit} as it is."
    verb = "raises" if effect > 0 else "lowers"
    return f"{_subject(name, events, request, baseline)} {verb} {unit} by {amount}."


def _subject(name: str, events: str, request: PriceRequest, baseline: PriceRequest) -> str:
    if name == "day":
        return f"{request.day_of_week}, {request.date}{events}, rather than {baseline.day_of_week}, {baseline.date},"
    if name == "holiday":
        return "The holiday" if request.is_holiday else "A day without a holiday"
    if name == "promotion":
        return "The advertised promotion" if request.is_promo else "Doing without a promotion"
    if name == "stock":
        other = "plenty" if baseline.current_stock >= PLENTY else _units(baseline)
        return f"A stock of {_units(request)}, rather than {other},"
    if name == "history":
        twin = baseline.product_id == TWIN
        return f"The product's own history, rather than {'its category’s' if twin else baseline.product_id},"
    words = {
        "competitor": ("comp_price", "The competitor's price"),
        "cost": ("unit_cost", "A unit cost"),
        "list_price": ("list_price", "A list price"),
        "current_price": ("current_price", "A current price"),
        "strategy": ("strategy", "The strategy"),
    }
    field, word = words[name]
    return f"{word} of {_shown(getattr(request, field))}, rather than {_shown(getattr(baseline, field))},"


def _units(request: PriceRequest) -> str:
    delivery = f" until {request.next_delivery}" if request.next_delivery else ""
    return f"{request.current_stock:g} units{delivery}"


def _shown(value: float | str | None) -> str:
    if value is None:
        return "none stated"
    return f"{value:.2f}" if isinstance(value, float) else value
