"""Resolves requests: every number that a price depends on, from the request, from the facts, or by default."""

import datetime as dt
import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache, partial
from operator import attrgetter
from typing import NamedTuple, TypeVar

import numpy as np

from pricing.arrays import Bools, Floats, Ints, Strings
from pricing.config import ModelConfig
from pricing.data.calendar import resolve_date
from pricing.data.net_price import cost_at_margin, net_price, price_at_margin
from pricing.data.panel import STEP_DAYS
from pricing.decision.cadence import AHEAD, UNKNOWN
from pricing.decision.decide import Policy
from pricing.decision.experiments import NO_EXPERIMENTS, Assignment, Experiments
from pricing.decision.limits import NEAR, PricingContext, flagged
from pricing.decision.product_facts import USUAL, ProductFacts
from pricing.decision.reasons import BIT
from pricing.decision.request import PriceRequest
from pricing.demand.curve import DELIVERIES, Demand, Offers
from pricing.errors import RequestError, UnknownProductError

_log = logging.getLogger(__name__)

MARGIN_SD = 0.10  # of the doubt about an assumed margin, fraction of list price net of tax
_DAY = np.dtype("datetime64[D]")
_UNIX = dt.date(1970, 1, 1).toordinal()
_STRANGER = BIT["unknown_product"] | BIT["unknown_category"]
_ASKED = ("unit_cost", "tax_rate", "current_price", "list_price", "comp_price", "comp_price_age", "current_stock")
_asked = attrgetter(*_ASKED)
_FACTS = (
    "unit_cost",
    "tax_rate",
    "price",
    "list_price",
    "last_price",
    "anchor_price",
    "anchor_cost",
    "seen_low",
    "seen_high",
    "cost_assumed",
    "comp_price",
    "comp_price_date",
    "last_change",
    "typical_units",
    "others_margin",
)
Batch = TypeVar("Batch")
Columns = dict[str, Floats]  # (request,) each, by name; NaN where unknown


@dataclass(frozen=True, slots=True)
class ResolvedBatch:
    """A batch of requests, complete."""

    context: PricingContext
    offers: Offers  # what demand is asked for
    level: Floats  # (request,) usual units a period at list price; NaN where nothing says
    margin: Floats  # (request,) usual fraction of the net list price above cost in its category; NaN where unknown
    comp_price_age: Floats  # (request,) days from when it was seen to the day priced, even if too old; NaN without
    reasons: Ints  # (request,) reason bits of what had to be assumed
    dates: list[dt.date]  # first day of the period of each request
    categories: list[str]  # category of each request; empty where unknown
    assigned: list[Assignment | None]  # what an experiment asks of each request


def take(batch: Batch, rows: Ints) -> Batch:
    """Some rows, in that order, of a dataclass of columns: arrays, lists, and other such batches; None stays."""
    columns = {each.name: getattr(batch, each.name) for each in fields(batch)}  # type: ignore[arg-type]
    for name, column in columns.items():
        if is_dataclass(column):
            columns[name] = take(column, rows)
        elif column is not None:
            columns[name] = [column[row] for row in rows] if isinstance(column, list) else column[rows]
    return type(batch)(**columns)


class _Prices(NamedTuple):
    """Prices, costs and taxes, complete, and what of them was missing; (request,) each."""

    current: Floats
    listed: Floats
    cost: Floats
    tax_rate: Floats
    cost_assumed: Bools
    missing: dict[str, Bools]  # by the facts' names


class _Ahead(NamedTuple):
    """How far a request looks ahead."""

    periods: list[int]  # DELIVERIES equally likely values within the horizon, ascending
    told: bool = True  # something tells them
    reasons: int = 0  # bits


class Resolver:
    """Looks up, for each request, what history knows, and fills in what the request leaves open by default."""

    def __init__(self, demand: Demand | None, facts: ProductFacts | None, config: ModelConfig, policy: Policy) -> None:
        self._policy = policy
        self._no_model = demand is None
        self._modelled = demand.product_ids if demand else np.array([], str)
        self._groups = {name: row for row, name in enumerate(demand.categories.tolist() if demand else ())}
        self._margin = config.data.margin
        self._warn_of_strange_categories()

        self._known = facts.product_ids if facts else np.array([], str)
        self._facts = _numbers(facts)
        self._categories = facts.categories if facts and facts.categories.size else np.array([""])
        self._typical = facts.typical if facts else {"": np.array([np.nan, np.nan, np.nan, 0.0])}
        self._planned = facts.promotions.spans() if facts else {}

        self._period = facts.period if facts else config.data.period
        self._step_days = STEP_DAYS[self._period]
        self._horizon = config.demand.horizon
        self._review = -(-policy.config.review_days // self._step_days)
        self._state_date: dt.date | None = facts.state_date.astype(dt.date) if facts else None
        self._deliveries = facts.deliveries if facts else None
        self._planned_deliveries = facts.planned_deliveries.spans() if facts else {}
        date_of = partial(resolve_date, state_date=self._state_date, horizon=self._horizon, period=self._period)
        self.date_of = lru_cache(maxsize=1024)(date_of)  # weekday, date, today → first day of the period; is it stale

    def _warn_of_strange_categories(self) -> None:
        """Logs categories of the configuration that no product of the model has: a typing error turns a rule off."""
        config = self._policy.config
        for name, values in (("target_margin", config.target_margin), ("field_elasticity", config.field_elasticity)):
            strange = sorted(values.keys() - self._groups.keys() - {"default"})
            if strange and self._groups:
                _log.warning("decision.%s names categories that no product has: %s", name, ", ".join(strange))

    def resolve(
        self, requests: Sequence[PriceRequest], *, today: dt.date, experiments: Experiments = NO_EXPERIMENTS
    ) -> ResolvedBatch:
        """Resolves a batch: every number by the request's own word first, then the facts', then what can be concluded.

        What experiments ask is done where the request leaves it open. Raises as `Pricer.price`.
        """
        ids = [request.product_id for request in requests]
        product = _rows(self._modelled, ids)
        place = _rows(self._known, ids)
        self._refuse_strangers(requests, np.maximum(product, place))

        given = _named(_ASKED, np.array([_asked(request) for request in requests], np.float64))
        known = _named(_FACTS, self._facts.take(place, axis=0))  # row −1 is blank
        categories = self._categories_of(requests, place)
        usual = _named(USUAL, np.array([self._typical.get(name, self._typical[""]) for name in categories]))
        group = np.array([self._groups.get(name, -1) for name in categories], np.int64)

        days = [self.date_of(request.day_of_week, request.date, today=today) for request in requests]
        dates = [date for date, _ in days]
        stale = np.array([old for _, old in days], np.bool_)
        day = np.array(dates, _DAY)
        number = day.view(np.int64)

        prices = self._prices(given, known, usual, categories=categories, ids=ids)
        since = np.where(stale, today.toordinal() - _UNIX, number)  # a stale day lies in the past
        comp_price, age = _competitor(requests, given, known, day=since)
        old = age > self._policy.config.comp_price_max_age  # decision 111
        comp_price = np.where(old, np.nan, comp_price)

        planned = np.array(list(map(self._promoted, requests, dates)), np.bool_)
        is_promo = planned | np.array([request.is_promo for request in requests], np.bool_)
        assigned: list[Assignment | None] = [None] * len(requests)
        if experiments.every:
            assigned = list(map(partial(self._assigned, experiments), requests, dates, is_promo, prices.current))
        base, draw, size = _draws(assigned)
        strategies = list(map(self._strategy_of, requests, assigned))

        ahead = list(map(self._ahead, requests, place.tolist(), dates, strategies))
        deliveries = np.array([each.periods for each in ahead], np.int64).reshape(-1, DELIVERIES)
        told = np.array([each.told for each in ahead], np.bool_)
        stock = np.where(np.isnan(given["current_stock"]), np.inf, given["current_stock"])

        unknown = self._unknown(product, place, group, categories)
        reasons = flagged(
            stale_state=stale,
            tax_rate_assumed=prices.missing["tax_rate"] & (usual["tax_rate"] > 0),
            list_price_assumed=prices.missing["list_price"],
            cost_assumed=prices.cost_assumed,
            current_price_unknown=prices.missing["price"],
            comp_price_stale=old,
            promotion_planned=planned,
        )
        # A regular price moves with the cost that it was set at.
        dearer = np.where(prices.cost_assumed, 1.0, _first(prices.cost / known["anchor_cost"], 1.0))
        context = PricingContext(
            current_price=prices.current,
            current_known=~prices.missing["price"],
            list_price=prices.listed,
            unit_cost=prices.cost,
            tax_rate=prices.tax_rate,
            cost_sd=prices.cost_assumed * MARGIN_SD * net_price(prices.listed, prices.tax_rate),
            cost_assumed=prices.cost_assumed,
            comp_price=comp_price,
            stock=stock,
            supply=np.where(told, stock, np.inf),
            last_price=known["last_price"],
            anchor_price=known["anchor_price"],
            anchor=_first(known["anchor_price"] * dearer, prices.listed),
            seen_low=known["seen_low"],
            seen_high=known["seen_high"],
            others_margin=np.nan_to_num(known["others_margin"]),
            is_promo=is_promo,
            days_since_change=_days_since_change(known, prices.current, day=number),
            target_margin=self._target_margin(categories),
            strategy=np.array(strategies, np.int64),
            keep=_kept(unknown, assigned),
            test_base=base,
            test_draw=draw,
            test_size=size,
            field_elasticity=self._field_elasticity(categories),
        )
        offers = Offers(
            product=product,
            category=group,
            date=day,
            list_price=prices.listed,
            comp_price=comp_price,
            is_promo=is_promo.astype(np.float64),
            periods=deliveries[:, (DELIVERIES - 1) // 2],
            deliveries=deliveries,
        )
        return ResolvedBatch(
            context=context,
            offers=offers,
            level=_first(known["typical_units"], usual["units"]),
            margin=usual["margin"],
            comp_price_age=age,
            reasons=reasons | unknown | np.array([each.reasons for each in ahead], np.int64),
            dates=dates,
            categories=categories,
            assigned=assigned,
        )

    # Who and what: product and category

    def category_of(self, request: PriceRequest) -> str:
        """The category that a request's product is priced under; empty where unknown."""
        return self._categories_of([request], _rows(self._known, [request.product_id]))[0]

    def _categories_of(self, requests: Sequence[PriceRequest], place: Ints) -> list[str]:
        own = np.where(place >= 0, self._categories.take(place, mode="clip"), "")
        return [name or request.category or "" for name, request in zip(own.tolist(), requests, strict=True)]

    def _refuse_strangers(self, requests: Sequence[PriceRequest], row: Ints) -> None:
        """Refuses strict requests for unknown products; while no product is known, none is refused."""
        any_known = self._modelled.size + self._known.size > 0
        for request, known in zip(requests, row.tolist(), strict=True):
            if request.strict and known < 0 and any_known:
                raise UnknownProductError(request.product_id)

    def _unknown(self, product: Ints, place: Ints, group: Ints, categories: Sequence[str]) -> Ints:
        """(request,) reason bits of products that demand does not know; facts may know them, or their category."""
        if not self._no_model:
            return np.where(product >= 0, 0, np.where(group >= 0, BIT["unknown_product"], _STRANGER))
        typical = np.array([bool(name) and name in self._typical for name in categories], np.bool_)
        known = (place >= 0) | (not self._known.size)
        return BIT["no_model"] | np.where(known, 0, np.where(typical, BIT["unknown_product"], _STRANGER))

    # Price and cost

    def _prices(
        self, given: Columns, known: Columns, usual: Columns, *, categories: Sequence[str], ids: Sequence[str]
    ) -> _Prices:
        """Prices and costs as given, else as known, else as one follows from the other.

        Raises UnknownProductError where nothing says how dear a product is.
        """
        cost = _first(given["unit_cost"], known["unit_cost"])
        price = _first(given["current_price"], known["price"])
        listed = _first(given["list_price"], known["list_price"])
        tax_rate = _first(given["tax_rate"], known["tax_rate"])
        found = {"unit_cost": cost, "tax_rate": tax_rate, "price": price, "list_price": listed}
        unknown = np.isnan([*found.values()])
        missing = dict(zip(found, unknown, strict=True))
        assumed = np.isnan(given["unit_cost"]) & (missing["unit_cost"] | (known["cost_assumed"] > 0))

        tax_rate = _first(tax_rate, usual["tax_rate"])
        if unknown.any():
            usual_margin = self._margin.get("default", 0.0)
            margin = np.array([self._margin.get(name, usual_margin) for name in categories])
            listed = _first(listed, price, price_at_margin(cost, margin, tax_rate=tax_rate), usual["list_price"])
            if np.isnan(listed).any():
                raise UnknownProductError(ids[int(np.isnan(listed).argmax())])
            cost = _first(cost, cost_at_margin(listed, margin, tax_rate=tax_rate))
            price = _first(price, self._policy.allowed.grid.nearest(listed))
        return _Prices(price, listed, cost, tax_rate, assumed, missing)

    def _target_margin(self, categories: Sequence[str]) -> Floats | None:
        targets = self._policy.config.target_margin
        return np.array([targets.get(name, np.nan) for name in categories]) if targets else None

    def _field_elasticity(self, categories: Sequence[str]) -> Floats | None:
        known = self._policy.config.field_elasticity
        usual = known.get("default", np.nan)
        return np.array([known.get(name, usual) for name in categories]) if known else None

    # Promotion and delivery

    def _promoted(self, request: PriceRequest, date: dt.date) -> bool:
        """True where a promotion is planned in the period that begins on `date`, and the request leaves it open."""
        if "is_promo" in request.model_fields_set:
            return False
        day = date.toordinal() - _UNIX
        end = day + self._step_days - 1
        return any(first <= end and day <= last for first, last in self._planned.get(request.product_id, ()))

    def _planned_delivery(self, request: PriceRequest, date: dt.date) -> dt.date | None:
        """The first planned delivery within the horizon after a request's day, whose own is in its opening stock."""
        after = max(request.date or date, date)
        last = date + dt.timedelta(days=self._horizon * self._step_days)
        days = (dt.date.fromordinal(day + _UNIX) for day, _ in self._planned_deliveries.get(request.product_id, ()))
        return min((day for day in days if after < day <= last), default=None)

    def _ahead(self, request: PriceRequest, place: int, date: dt.date, strategy: int) -> _Ahead:
        """Looks ahead to the next delivery, as far as the strategy asks, as history tells, or to the next review.

        Refuses a named delivery before the period priced.
        """
        delivery = request.next_delivery
        reasons = 0
        if delivery is None and "next_delivery" not in request.model_fields_set:
            delivery = self._planned_delivery(request, date)
            reasons = 0 if delivery is None else BIT["delivery_planned"]
        if delivery is not None:
            if delivery < date:
                raise RequestError(f"next_delivery {delivery} is past when {date} comes, which is priced")
            periods = max(self._periods((delivery - date).days), 1)
            reasons |= BIT["delivery_beyond_horizon"] if periods > self._horizon else 0
            return _Ahead([min(periods, self._horizon)] * DELIVERIES, reasons=reasons)

        days = self._policy.days[strategy]
        if days is not None:
            return _Ahead([min(self._periods(days), self._horizon)] * DELIVERIES)
        if self._deliveries is not None and self._state_date is not None and place >= 0:  # decision 46
            after = min(max((date - self._state_date).days // self._step_days, 1), AHEAD) - 1
            learnt: list[int] = self._deliveries[place, after].tolist()
            if learnt[0] != UNKNOWN:
                return _Ahead([min(each, self._horizon) for each in learnt])
        return _Ahead([min(self._review, self._horizon)] * DELIVERIES, told=False)

    def _periods(self, days: int) -> int:
        """Periods that so many days begin."""
        return -(-days // self._step_days)

    # Experiment and strategy

    def _assigned(
        self, experiments: Experiments, request: PriceRequest, date: dt.date, advertised: bool, price: float
    ) -> Assignment | None:
        """The word of an experiment on a request: no strategy where that names one, or this version lacks it.

        No draw where the offer is advertised, or somebody moved the price further than draw and platform would.
        """
        asked = experiments.of(request.product_id, date)
        if asked is None:
            return None
        if asked.arm.kind == "strategy":
            return asked if request.strategy is None and asked.arm.of in self._policy.number else None
        if asked.deviation is None:
            return asked
        most = self._policy.config.guardrails.max_move
        reach = np.inf if most is None else asked.arm.deviation + np.log1p(most) + NEAR
        return None if advertised or abs(np.log(price / asked.base)) > reach else asked

    def _strategy_of(self, request: PriceRequest, assigned: Assignment | None) -> int:
        if assigned is not None and assigned.arm.kind == "strategy":
            return self._policy.number[assigned.arm.of]
        number = self._policy.number.get(request.strategy or self._policy.config.strategy)
        if number is None:
            known = ", ".join(self._policy.names)
            raise RequestError(f"strategy: {request.strategy!r} is not configured; expected one of {known}")
        return number


def _draws(assigned: Sequence[Assignment | None]) -> Floats | tuple[None, None, None]:
    """(3, request) price from which a draw has the price chosen, log of its factor, largest log; None without draws."""
    found = np.full((3, len(assigned)), np.nan)
    for row, asked in enumerate(assigned):
        if asked is not None and asked.deviation is not None:
            found[:, row] = asked.base, asked.deviation, asked.arm.deviation
    return found if np.isfinite(found).any() else (None, None, None)


def _kept(unknown: Ints, assigned: Sequence[Assignment | None]) -> Ints:
    """(request,) bits of the reasons for which the current price is kept."""
    keep = np.where((unknown & _STRANGER) == _STRANGER, _STRANGER, 0)  # decision 81
    keep[[row for row, asked in enumerate(assigned) if asked is not None and asked.arm.kind == "keep"]] = BIT["holdout"]
    return keep


def _competitor(
    requests: Sequence[PriceRequest], given: Columns, known: Columns, *, day: Ints
) -> tuple[Floats, Floats]:
    """(request,) the competitor's price that each gives, or means by giving none, and its age in days; NaN without.

    `day` is the day from which its age counts.
    """
    price = given["comp_price"]
    age = np.where(np.isnan(price), np.nan, _first(given["comp_price_age"], 0.0))
    silent = np.array(["comp_price" not in request.model_fields_set for request in requests], np.bool_)
    seen = np.maximum(day - known["comp_price_date"], 0.0)
    meant = silent & np.isfinite(known["comp_price"] + seen)
    return np.where(meant, known["comp_price"], price), np.where(meant, seen, age)


def _days_since_change(known: Columns, price: Floats, *, day: Ints) -> Floats:
    """(request,) days since the price changed; 0 for a change that the history does not show, maybe today's."""
    apart = np.abs(price - known["price"])
    since = np.where(apart > 1e-6 * price, 0.0, day - known["last_change"] + 0.0 * apart)
    return _first(since, np.inf)


def _rows(ids: Strings, asked: list[str]) -> Ints:
    """(request,) the row of each product among sorted `ids`, −1 without; a dictionary of millions takes seconds."""
    if not ids.size:
        return np.full(len(asked), -1, np.int64)
    row = np.searchsorted(ids, np.array(asked, ids.dtype))  # ids that are too long are cut, and so unlike any
    there = ids.take(row, mode="clip").tolist()
    return np.where([known == wanted for known, wanted in zip(there, asked, strict=True)], row, -1)


def _first(*columns: Floats | float) -> Floats:
    """(request,) of several columns the first that is known."""
    found, *others = columns
    for other in others:
        found = np.where(np.isnan(found), other, found)
    return np.asarray(found)


def _named(names: Sequence[str], rows: Floats) -> Columns:
    """The columns of (request, name)."""
    return dict(zip(names, rows.reshape(-1, len(names)).T, strict=True))


def _numbers(facts: ProductFacts | None) -> Floats:
    """(product + 1, _FACTS) what is known of each product, dates in days since 1970; the last row blank."""
    found = np.full((1 if facts is None else len(facts.product_ids) + 1, len(_FACTS)), np.nan)
    if facts is not None:
        for column, name in enumerate(_FACTS):
            values = getattr(facts, name)
            if values.dtype.kind == "M":
                values = np.where(np.isnat(values), np.nan, values.astype(_DAY).view(np.int64))
            found[:-1, column] = values
    return found
