"""Resolves requests: every number that a price depends on, from the request, from the facts, or by default."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache, partial
from operator import attrgetter
from typing import TypeVar

import numpy as np

from pricing.arrays import Floats, Ints, Strings
from pricing.config import ModelConfig
from pricing.data.calendar import resolve_date
from pricing.data.net_price import cost_at_margin, net_price, price_at_margin
from pricing.data.panel import STEP_DAYS
from pricing.decision.cadence import AHEAD, UNKNOWN
from pricing.decision.decide import Policy
from pricing.decision.experiments import NO_EXPERIMENTS, Assignment, Experiments
from pricing.decision.guardrails import NEAR, PricingContext, flagged
from pricing.decision.product_facts import ProductFacts
from pricing.decision.reasons import BIT
from pricing.decision.request import PriceRequest
from pricing.demand.curve import DELIVERIES, Demand, Offers
from pricing.errors import RequestError, UnknownProductError

_DAY = np.dtype("datetime64[D]")
MARGIN_SD = 0.10  # of the doubt about an assumed margin, fraction of list price net of tax
# What a request may say, in the order in which facts know the first four.
_GIVEN = attrgetter("unit_cost", "tax_rate", "current_price", "list_price", "comp_price", "comp_price_age")
_KNOWN = (
    *("unit_cost", "tax_rate", "price", "list_price", "last_price", "anchor_price", "anchor_cost", "seen_low"),
    *("seen_high", "cost_assumed", "comp_price", "comp_price_date", "last_change", "typical_units"),
)
_UNIX = dt.date(1970, 1, 1).toordinal()
Batch = TypeVar("Batch")
_UNKNOWN = BIT["unknown_product"] | BIT["unknown_category"]


@dataclass(frozen=True, slots=True)
class ResolvedBatch:
    """A batch of requests, complete."""

    context: PricingContext
    offers: Offers  # what demand is asked for
    level: Floats  # (request,) usual units a period at list price; NaN where nothing says
    margin: Floats  # (request,) usual fraction of the net list price above cost in its category; NaN where unknown
    comp_price_age: Floats  # (request,) days from when it was seen to the day priced, be it too old; NaN without
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


class Resolver:
    """Looks up, for each request, what history knows, and fills in what the request leaves open by default."""

    def __init__(self, demand: Demand | None, facts: ProductFacts | None, config: ModelConfig, policy: Policy) -> None:
        self._config, self._policy = config, policy
        self._margin, self._usual_margin = config.data.margin, config.data.margin.get("default", 0.0)
        self._period = facts.period if facts else config.data.period
        self._step_days = STEP_DAYS[self._period]
        self._horizon = config.demand.horizon
        self._review = -(-policy.config.review_days // self._step_days)
        self._state_date: dt.date | None = facts.state_date.astype(dt.date) if facts else None
        date_of = partial(resolve_date, state_date=self._state_date, horizon=config.demand.horizon, period=self._period)
        self.date_of = lru_cache(maxsize=1024)(date_of)  # weekday, date, today → first day of the period; is it stale
        self._deliveries = facts.deliveries if facts else None
        self._planned = facts.promotions.spans() if facts else {}
        self._planned_deliveries = facts.planned_deliveries.spans() if facts else {}
        self._no_model = demand is None
        self._modelled = demand.product_ids if demand else np.array([], str)
        self._known = facts.product_ids if facts else np.array([], str)
        self._facts = _numbers(facts)
        self._categories = facts.categories if facts and facts.categories.size else np.array([""])
        self._groups = {name: row for row, name in enumerate(demand.categories.tolist() if demand else ())}
        self._typical = facts.typical if facts else {"": np.array([np.nan, np.nan, np.nan, 0.0])}

    def resolve(
        self, requests: Sequence[PriceRequest], *, today: dt.date, experiments: Experiments = NO_EXPERIMENTS
    ) -> ResolvedBatch:
        """Resolves a batch: every number by the request's own word first, then the facts', then what can be concluded.

        What experiments ask is done where the request leaves it open. Raises as `Pricer.price`.
        """
        asked = [request.product_id for request in requests]
        product, place = _rows(self._modelled, asked), _rows(self._known, asked)
        self._refuse_strangers(requests, np.maximum(product, place))
        known = self._facts.take(place, axis=0).T  # row −1 is blank
        last_price, anchor_price, anchor_cost, seen_low, seen_high, cost_assumed = known[4:10]
        *newest, last_change, typical_units = known[10:]
        given = np.array([_GIVEN(request) for request in requests], np.float64).reshape(-1, 6).T
        categories = self._categories_of(requests, place)
        usual = np.array([self._typical.get(category, self._typical[""]) for category in categories]).reshape(-1, 4)
        usual_list, usual_units, usual_margin, usual_tax = usual.T
        group = np.array([self._groups.get(category, -1) for category in categories], np.int64)
        days = [self.date_of(request.day_of_week, request.date, today=today) for request in requests]
        dates, stale = [date for date, _ in days], np.array([old for _, old in days], np.bool_)
        date = np.array(dates, _DAY)
        day = date.view(np.int64)

        found = _first(given[:4], known[:4])
        (cost, tax_rate, price, listed), missing = found, np.isnan(found)
        assumed = np.isnan(given[0]) & (missing[0] | (cost_assumed > 0))
        tax_rate = np.where(missing[1], usual_tax, tax_rate)
        if missing.any():
            margin = np.array([self._margin.get(category, self._usual_margin) for category in categories])
            listed = _first(listed, price, price_at_margin(cost, margin, tax_rate=tax_rate), usual_list)
            if np.isnan(listed).any():
                raise UnknownProductError(requests[int(np.isnan(listed).argmax())].product_id)
            cost = _first(cost, cost_at_margin(listed, margin, tax_rate=tax_rate))
            price = _first(price, self._policy.allowed.grid.nearest(listed))
        since = np.where(stale, today.toordinal() - _UNIX, day)  # a stale day lies in the past
        comp_price, age = _competitor(requests, *given[4:], newest=newest, day=since)
        old = age > self._policy.config.comp_price_max_age
        comp_price = np.where(old, np.nan, comp_price)
        planned = np.array(list(map(self._promoted, requests, dates)), np.bool_)
        is_promo = planned | np.array([request.is_promo for request in requests], np.bool_)
        assigned: list[Assignment | None] = [None] * len(requests)
        if experiments.every:
            assigned = list(map(partial(self._assigned, experiments), requests, dates, is_promo, price))
        strategy = np.array(list(map(self._strategy_of, requests, assigned)), np.int64)
        days_of = [self._policy.days[number] for number in strategy.tolist()]
        ahead = list(map(self._ahead, requests, place.tolist(), dates, days_of))
        deliveries = np.array([periods for periods, _, _ in ahead], np.int64).reshape(-1, DELIVERIES)
        reasons = self._unknown(product, place, group, categories) | np.array([said for _, said, _ in ahead], np.int64)
        keep = np.where((reasons & _UNKNOWN) == _UNKNOWN, _UNKNOWN, 0)
        keep[[one is not None and one.arm.kind == "keep" for one in assigned]] = BIT["holdout"]
        tests = any(one is not None and one.deviation is not None for one in assigned)
        reasons = reasons | flagged(
            stale_state=stale,
            tax_rate_assumed=missing[1] & (usual_tax > 0),
            list_price_assumed=missing[3],
            cost_assumed=assumed,
            current_price_unknown=missing[2],
            comp_price_stale=old,
            promotion_planned=planned,
        )
        stock = np.array([request.stock_limit for request in requests])
        targets = self._policy.config.target_margin
        # A regular price moves with the cost that it was set at.
        dearer = np.where(assumed | np.isnan(anchor_cost), 1.0, cost / anchor_cost)
        context = PricingContext(
            current_price=price,
            current_known=~missing[2],
            list_price=listed,
            unit_cost=cost,
            tax_rate=tax_rate,
            cost_sd=assumed * MARGIN_SD * net_price(listed, tax_rate),
            cost_assumed=assumed,
            comp_price=comp_price,
            stock=stock,
            supply=np.where([told for _, _, told in ahead], stock, np.inf),
            last_price=last_price,
            anchor_price=anchor_price,
            anchor=_first(anchor_price * dearer, listed),
            seen_low=seen_low,
            seen_high=seen_high,
            is_promo=is_promo,
            days_since_change=_days_since_change(known[2], last_change, day=day, price=found[2]),
            target_margin=np.array([targets.get(category, np.nan) for category in categories]) if targets else None,
            strategy=strategy,
            keep=keep,
            test_base=np.array([np.nan if one is None else one.base for one in assigned]) if tests else None,
            test_draw=np.array([one and one.deviation for one in assigned], np.float64) if tests else None,
        )
        offers = Offers(
            product=product,
            category=group,
            date=date,
            list_price=listed,
            comp_price=comp_price,
            is_promo=is_promo.astype(np.float64),
            periods=deliveries[:, (DELIVERIES - 1) // 2],
            deliveries=deliveries,
        )
        return ResolvedBatch(
            context=context,
            offers=offers,
            level=_first(typical_units, usual_units),
            margin=usual_margin,
            comp_price_age=age,
            reasons=reasons,
            dates=dates,
            categories=categories,
            assigned=assigned,
        )

    def _assigned(
        self, experiments: Experiments, request: PriceRequest, date: dt.date, advertised: bool, price: float
    ) -> Assignment | None:
        """What an experiment asks of a request: no strategy where that names one, or this version lacks it.

        No draw where the offer is advertised, or somebody moved the price further than draw and platform would.
        """
        one = experiments.of(request.product_id, date)
        if one is not None and one.arm.kind == "strategy":
            return one if request.strategy is None and one.arm.of in self._policy.number else None
        if one is not None and one.deviation is not None:
            most = self._policy.config.guardrails.max_move
            reach = np.inf if most is None else one.arm.deviation + np.log1p(most) + NEAR
            return None if advertised or abs(np.log(price / one.base)) > reach else one
        return one

    def _refuse_strangers(self, requests: Sequence[PriceRequest], row: Ints) -> None:
        """Refuses strict requests for unknown products; while no product is known, none is refused."""
        none = not self._modelled.size + self._known.size
        for request, known in zip(requests, row.tolist(), strict=True):
            if request.strict and known < 0 and not none:
                raise UnknownProductError(request.product_id)

    def category_of(self, request: PriceRequest) -> str:
        """The category that a request's product is priced under; empty where unknown."""
        return self._categories_of([request], _rows(self._known, [request.product_id]))[0]

    def _categories_of(self, requests: Sequence[PriceRequest], place: Ints) -> list[str]:
        own = np.where(place >= 0, self._categories.take(place, mode="clip"), "")
        return [name or request.category or "" for name, request in zip(own.tolist(), requests, strict=True)]

    def _unknown(self, product: Ints, place: Ints, group: Ints, categories: Sequence[str]) -> Ints:
        """(request,) reason bits of products that demand does not know; facts may know them, or their category."""
        if not self._no_model:
            return np.where(product >= 0, 0, np.where(group >= 0, BIT["unknown_product"], _UNKNOWN))
        typical = np.array([bool(category) and category in self._typical for category in categories], np.bool_)
        known = (place >= 0) | (not self._known.size)
        return BIT["no_model"] | np.where(known, 0, np.where(typical, BIT["unknown_product"], _UNKNOWN))

    def _promoted(self, request: PriceRequest, date: dt.date) -> bool:
        """Tells whether a promotion is planned in the period that begins on `date`, and the request does not say."""
        if "is_promo" in request.model_fields_set:
            return False
        day = date.toordinal() - _UNIX
        end = day + self._step_days - 1
        return any(first <= end and day <= last for first, last in self._planned.get(request.product_id, ()))

    def _planned_delivery(self, request: PriceRequest, date: dt.date) -> dt.date | None:
        """The first planned delivery within the horizon after a request's day, whose own is in its opening stock."""
        after, last = max(request.date or date, date), date + dt.timedelta(days=self._horizon * self._step_days)
        days = (dt.date.fromordinal(day + _UNIX) for day, _ in self._planned_deliveries.get(request.product_id, ()))
        return min((day for day in days if after < day <= last), default=None)

    def _ahead(self, request: PriceRequest, place: int, date: dt.date, days: int | None) -> tuple[list[int], int, bool]:
        """Periods to look ahead: to the next delivery, `days` of the strategy, as history tells, or to the next review.

        Returns DELIVERIES equally likely values within the horizon, ascending; reason bits; and whether anything tells
        them. Refuses a named delivery before the period priced.
        """
        delivery, reasons, told = request.next_delivery, 0, True
        if delivery is None and "next_delivery" not in request.model_fields_set:
            delivery = self._planned_delivery(request, date)
            reasons = 0 if delivery is None else BIT["delivery_planned"]
        if delivery is not None:
            if delivery < date:
                raise RequestError(f"next_delivery {delivery} is past when {date} comes, which is priced")
            periods = max(-(-(delivery - date).days // self._step_days), 1)
            reasons |= BIT["delivery_beyond_horizon"] if periods > self._horizon else 0
        elif days is not None:
            periods = -(-days // self._step_days)
        else:
            if self._deliveries is not None and self._state_date is not None and place >= 0:
                after = min(max((date - self._state_date).days // self._step_days, 1), AHEAD) - 1
                ahead: list[int] = self._deliveries[place, after].tolist()
                if ahead[0] != UNKNOWN:
                    return [min(each, self._horizon) for each in ahead], reasons, True
            periods, told = self._review, False
        return [min(periods, self._horizon)] * DELIVERIES, reasons, told

    def _strategy_of(self, request: PriceRequest, assigned: Assignment | None) -> int:
        if assigned is not None and assigned.arm.kind == "strategy":
            return self._policy.number[assigned.arm.of]
        number = self._policy.number.get(request.strategy or self._policy.config.strategy)
        if number is None:
            known = ", ".join(self._policy.names)
            raise RequestError(f"strategy: {request.strategy!r} is not configured; expected one of {known}")
        return number


def _competitor(
    requests: Sequence[PriceRequest], price: Floats, age: Floats, *, newest: Sequence[Floats], day: Ints
) -> tuple[Floats, Floats]:
    """(request,) the competitor's price that each gives, or means by giving none, and its age in days; NaN without.

    `newest` are the price that is known and the day on which it was seen; `day` is the day from which its age counts.
    """
    age = np.where(np.isnan(price), np.nan, np.where(np.isnan(age), 0.0, age))
    asks = np.array([request.asks_newest_comp_price for request in requests], np.bool_)
    seen = np.maximum(day - newest[1], 0.0)
    meant = asks & np.isfinite(newest[0] + seen)
    return np.where(meant, newest[0], price), np.where(meant, seen, age)


def _days_since_change(known: Floats, changed: Floats, *, day: Ints, price: Floats) -> Floats:
    """(request,) days since the price changed; 0 for a change that the history does not show, maybe today's."""
    apart = np.abs(price - known)
    since = np.where(apart > 1e-6 * price, 0.0, day - changed + 0.0 * apart)
    return np.where(np.isnan(since), np.inf, since)


def _rows(ids: Strings, asked: list[str]) -> Ints:
    """(request,) the row of each product among sorted `ids`, −1 without; a dictionary of millions takes seconds."""
    if not ids.size:
        return np.full(len(asked), -1, np.int64)
    row = np.searchsorted(ids, np.array(asked, ids.dtype))  # ids that are too long are cut, and so unlike any
    there = ids.take(row, mode="clip").tolist()
    return np.where([one == other for one, other in zip(there, asked, strict=True)], row, -1)


def _first(*columns: Floats) -> Floats:
    """(request,) of several columns the first that is known."""
    found, *others = columns
    for other in others:
        found = np.where(np.isnan(found), other, found)
    return found


def _numbers(facts: ProductFacts | None) -> Floats:
    """(product + 1, _KNOWN) what is known of each product, dates in days since 1970; the last row blank."""
    found = np.full((1 if facts is None else len(facts.product_ids) + 1, len(_KNOWN)), np.nan)
    if facts is not None:
        for column, name in enumerate(_KNOWN):
            values = getattr(facts, name)
            if values.dtype.kind == "M":
                values = np.where(np.isnat(values), np.nan, values.astype(_DAY).view(np.int64))
            found[:-1, column] = values
    return found
