"""Resolves requests: every number that a price depends on, from the request, from the facts, or by default."""

import datetime as dt
from bisect import bisect_right
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from pricing.arrays import Floats, Ints
from pricing.config import ModelConfig
from pricing.data.calendar import resolve_date
from pricing.data.net_price import cost_at_margin, margin_of, net_price, price_at_margin
from pricing.data.panel import STEP_DAYS
from pricing.decision.cadence import AHEAD, UNKNOWN
from pricing.decision.context import PricingContext
from pricing.decision.price_grid import NEAR
from pricing.decision.price_tests import NO_TESTS, Draw, Plan
from pricing.decision.product_facts import UNKNOWN_PRODUCT, KnownProduct, ProductFacts, known_products, typical
from pricing.decision.reasons import BIT
from pricing.decision.request import PriceRequest
from pricing.decision.strategies import Policy
from pricing.demand.curve import DELIVERIES, Demand, Offers
from pricing.errors import RequestError, UnknownProductError

_NAN = float("nan")
_INF = float("inf")
_CONTEXT = {field.name for field in fields(PricingContext)} - {"keep", "test_base", "test_draw"}
_UNIX = dt.date(1970, 1, 1).toordinal()
_ASSUMED = BIT["cost_assumed"]
_UNKNOWN = BIT["unknown_product"] | BIT["unknown_category"]
_HOLDOUT = BIT["holdout"]


@dataclass(frozen=True, slots=True)
class ResolvedBatch:
    """A batch of requests, complete.

    Attributes:
        context: What the prices are chosen under.
        offers: What demand is asked for.
        level: (request,) usual units a period at list price; NaN where nothing says.
        margin: (request,) the fraction of the net list price that is usual above cost: where the cost was assumed that
            very margin, else the category's; NaN where nothing says.
        comp_price_age: (request,) days from when the competitor's price was seen to the day priced, also of one that is
            too old to count; NaN without any.
        reasons: (request,) reason bits of what had to be assumed.
        dates: First day of the period of each request.
        categories: Category of each request; empty where unknown.
        draws: What a price test asks of each request; None outside tests.
    """

    context: PricingContext
    offers: Offers
    level: Floats
    margin: Floats
    comp_price_age: Floats
    reasons: Ints
    dates: list[dt.date]
    categories: list[str]
    draws: Sequence[Draw | None] = ()

    def take(self, rows: Ints) -> "ResolvedBatch":
        """The requests of some rows, in that order."""
        arrays = {name: getattr(self, name)[rows] for name in ("level", "margin", "comp_price_age", "reasons")}
        lists = {name: [getattr(self, name)[row] for row in rows] for name in ("dates", "categories")}
        draws = [self.draws[row] for row in rows] if self.draws else ()
        columns: dict[str, Any] = arrays | lists
        return ResolvedBatch(context=self.context.take(rows), offers=self.offers.take(rows), draws=draws, **columns)


class Resolver:
    """Looks up, for each request, what history knows, and fills in what the request leaves open by default."""

    def __init__(self, demand: Demand | None, facts: ProductFacts | None, config: ModelConfig, policy: Policy) -> None:
        self._config, self._policy = config, policy
        self._margin, self._usual_margin = config.data.margin, config.data.margin.get("default", 0.0)
        self._period = facts.period if facts else config.data.period
        self._step_days = STEP_DAYS[self._period]
        self._review = -(-policy.config.review_days // self._step_days)
        self._state_date: dt.date | None = facts.state_date.astype(dt.date) if facts else None
        self._deliveries = facts.deliveries if facts else None
        self._planned = facts.promotions.spans() if facts else {}
        self._planned_deliveries = facts.planned_deliveries.days() if facts else {}
        self._no_model = demand is None
        self._products = known_products(demand, facts)
        self._groups = {name: row for row, name in enumerate(demand.categories.tolist() if demand else ())}
        self._typical = typical(facts)

    def resolve(
        self,
        requests: Sequence[PriceRequest],
        *,
        today: dt.date,
        held: Container[str] = frozenset(),
        tests: Plan = NO_TESTS,
    ) -> ResolvedBatch:
        """Resolves a batch of requests.

        Args:
            requests: What is asked.
            today: The day on which it is answered.
            held: Products whose price is kept.
            tests: Price tests; a product that is held out, or whose offer is advertised, takes part in none.

        Raises:
            RequestError: A request names an unknown strategy, or days that contradict each other or lie too far ahead.
            UnknownProductError: The product of a strict request is unknown, or nothing says how dear one is.
        """
        resolved = [self._columns(request, today) for request in requests]
        batch = self._batch(resolved)
        context, stays = batch.context, [request.product_id in held for request in requests]
        keep = np.where((batch.reasons & _UNKNOWN) == _UNKNOWN, _UNKNOWN, 0)
        keep = np.where(stays, _HOLDOUT, keep)
        if keep.any():
            context = replace(context, keep=keep)
        draws = [
            None if kept or not tests.tests else self._draw(request.product_id, one, tests)
            for request, kept, one in zip(requests, stays, resolved, strict=True)
        ]
        if not any(draws):
            return replace(batch, context=context)
        base = np.array([draw.base if draw else _NAN for draw in draws])
        factor = np.array([draw.deviation if draw else _NAN for draw in draws])
        return replace(batch, context=replace(context, test_base=base, test_draw=factor), draws=draws)

    def _draw(self, product_id: str, columns: Mapping[str, Any], tests: Plan) -> Draw | None:
        """What a test asks, unless somebody else moved the price: further than test and platform together would."""
        draw = tests.draw(product_id, columns["date"])
        if draw is None or columns["is_promo"]:
            return None
        most = self._policy.config.guardrails.max_move
        reach = _INF if most is None else draw.reach + np.log1p(most)
        return draw if abs(np.log(columns["current_price"] / draw.base)) <= reach + NEAR else None

    def _columns(self, request: PriceRequest, today: dt.date) -> dict[str, Any]:
        """Everything of one request by column: its own word first, then the facts', then what can be concluded.

        Raises:
            RequestError: As `resolve`.
        """
        known = self._products.get(request.product_id, UNKNOWN_PRODUCT)
        if request.strict and self._products and known is UNKNOWN_PRODUCT:
            raise UnknownProductError(request.product_id)
        category = self.category_of(request)
        date, stale = resolve_date(
            request.day_of_week,
            request.date,
            today=today,
            state_date=self._state_date,
            horizon=self._config.demand.horizon,
            period=self._period,
        )
        reasons = BIT["stale_state"] if stale else 0
        price = request.current_price or known.price
        cost = request.unit_cost
        if cost is None:
            cost = known.unit_cost
            if cost is None or known.cost_assumed:
                reasons |= BIT["cost_assumed"]
        usual = self._typical.get(category, self._typical[""])
        margin = self._margin.get(category, self._usual_margin)
        tax_rate = request.tax_rate
        if tax_rate is None:
            tax_rate = known.tax_rate
            if tax_rate is None:
                tax_rate = usual.tax_rate
                reasons |= BIT["tax_rate_assumed"] if tax_rate else 0
        comp_price, comp_price_age = self._competitor(request, known, today if stale else date)
        if comp_price_age > self._policy.config.comp_price_max_age:
            comp_price, reasons = None, reasons | BIT["comp_price_stale"]
        list_price = request.list_price or known.list_price
        if list_price is None:
            reasons |= BIT["list_price_assumed"]
            at_margin = price_at_margin(cost, margin, tax_rate=tax_rate) if cost else None
            list_price = price or at_margin or usual.list_price
            if list_price is None:
                raise UnknownProductError(request.product_id)
        if cost is None:
            cost = cost_at_margin(list_price, margin, tax_rate=tax_rate)
        if price is None:
            reasons |= BIT["current_price_unknown"]
        group = self._groups.get(category, -1)
        reasons |= self._unknown(known, category)
        is_promo = request.is_promo
        if self._planned and "is_promo" not in request.model_fields_set and self._promoted(request.product_id, date):
            is_promo, reasons = True, reasons | BIT["promotion_planned"]
        strategy = self._policy.number.get(request.strategy or self._policy.config.strategy)
        if strategy is None:
            names = ", ".join(self._policy.names)
            raise RequestError(f"strategy: {request.strategy!r} is not configured; expected one of {names}")
        deliveries, said = self._ahead(request, known, date, self._policy.days[strategy])
        reasons |= said
        cost_assumed = reasons & _ASSUMED > 0
        return dict(  # noqa: C408 - the names of columns
            current_price=price or self._policy.candidate_grid.grid.default(list_price),
            current_known=price is not None,
            list_price=list_price,
            unit_cost=cost,
            tax_rate=tax_rate,
            cost_sd=self._config.data.margin_sd * net_price(list_price, tax_rate) if cost_assumed else 0.0,
            cost_assumed=cost_assumed,
            comp_price=comp_price or _NAN,
            comp_price_age=comp_price_age,
            stock=request.stock_limit,
            last_price=known.last_price,
            anchor_price=known.anchor_price,
            seen_low=known.seen_low,
            seen_high=known.seen_high,
            is_promo=is_promo,
            days_since_change=self._days_since_change(known, date, price),
            target_margin=self._policy.config.target_margin.get(category, _NAN),
            strategy=strategy,
            product=known.row,
            category=group,
            category_name=category,
            date=date,
            periods=deliveries[(len(deliveries) - 1) // 2],
            deliveries=deliveries if deliveries[0] < deliveries[-1] else (),
            reasons=reasons,
            level=usual.units if known.units is None else known.units,
            margin=margin_of(list_price, cost, tax_rate=tax_rate) if cost_assumed else usual.margin,
        )

    def _competitor(self, request: PriceRequest, known: KnownProduct, day: dt.date) -> tuple[float | None, float]:
        """The competitor's price that a request gives, or means by giving none, and its age in days; NaN without any.

        Args:
            request: The request.
            known: Of its product.
            day: The day priced; where the state is stale, and the day priced lies in the past for it, today.
        """
        if request.comp_price is not None:
            return request.comp_price, request.comp_price_age or 0.0
        if known.comp_price is None or known.comp_price_date is None or not request.asks_newest_comp_price:
            return None, _NAN
        return known.comp_price, max(float((day - known.comp_price_date).days), 0.0)

    def category_of(self, request: PriceRequest) -> str:
        """The category that a request's product is priced under; empty where unknown."""
        return self._products.get(request.product_id, UNKNOWN_PRODUCT).category or request.category or ""

    def _unknown(self, known: KnownProduct, category: str) -> int:
        """Reason bits of a product that demand does not know: facts alone may know it, or its category."""
        if known.row >= 0:
            return 0
        if not self._no_model:
            return BIT["unknown_product"] if category in self._groups else _UNKNOWN
        reasons = BIT["no_model"]
        if self._products and known is UNKNOWN_PRODUCT:
            reasons |= BIT["unknown_product"] if category and category in self._typical else _UNKNOWN
        return reasons

    def _batch(self, resolved: Sequence[Mapping[str, Any]]) -> ResolvedBatch:
        columns = {name: [one[name] for one in resolved] for name in resolved[0]}
        categories, dates, deliveries = (columns.pop(name) for name in ("category_name", "date", "deliveries"))
        arrays: dict[str, Any] = {name: np.array(values) for name, values in columns.items()}
        context = PricingContext(**{name: arrays[name] for name in _CONTEXT})
        if not self._policy.config.target_margin:
            context = replace(context, target_margin=None)
        offers = Offers(
            date=np.array(dates, dtype="datetime64[D]"),
            is_promo=arrays["is_promo"].astype(np.float64),
            deliveries=_deliveries(deliveries, arrays["periods"]),
            **{name: arrays[name] for name in ("product", "category", "list_price", "comp_price", "periods")},
        )
        more = {name: arrays[name] for name in ("level", "margin", "comp_price_age", "reasons")}
        return ResolvedBatch(context=context, offers=offers, dates=dates, categories=categories, **more)

    def _days_since_change(self, known: KnownProduct, date: dt.date, price: float | None) -> float:
        """Days since the price last changed; 0 for a change that the history does not show, which may be today's."""
        if price is None or known.price is None or self._state_date is None:
            return _INF
        if abs(price - known.price) > 1e-6 * price:
            return 0.0
        return _INF if known.last_change is None else float((date - known.last_change).days)

    def _promoted(self, product_id: str, date: dt.date) -> bool:
        """Whether a promotion is planned on a day of the period that begins on `date`."""
        day = date.toordinal() - _UNIX
        end = day + self._step_days - 1
        return any(first <= end and day <= last for first, last in self._planned.get(product_id, ()))

    def _planned_delivery(self, request: PriceRequest, date: dt.date) -> dt.date | None:
        """The first planned delivery after a request's day, whose own is in its opening stock; None beyond the horizon.

        The day is that of the request, or the first of the period priced (`date`).
        """
        days = self._planned_deliveries.get(request.product_id, ())
        place = bisect_right(days, date if request.date is None else max(request.date, date))
        if place == len(days) or (days[place] - date).days > self._config.demand.horizon * self._step_days:
            return None
        return days[place]

    def _ahead(
        self, request: PriceRequest, known: KnownProduct, date: dt.date, days: int | None
    ) -> tuple[tuple[int, ...], int]:
        """As `_periods`, within the horizon, and reason bits of that; a silent request takes the plan's delivery."""
        planned = self._planned_delivery(request, date) if request.asks_planned_delivery else None
        reasons = 0 if planned is None else BIT["delivery_planned"]
        next_delivery = request.next_delivery if planned is None else planned
        periods, horizon = self._periods(next_delivery, known, date, days), self._config.demand.horizon
        if periods[-1] > horizon:
            reasons |= 0 if next_delivery is None else BIT["delivery_beyond_horizon"]
            periods = tuple(min(each, horizon) for each in periods)
        return periods, reasons

    def _periods(
        self, next_delivery: dt.date | None, known: KnownProduct, date: dt.date, days: int | None
    ) -> tuple[int, ...]:
        """Periods to look ahead: to the next delivery, as the strategy says, as history tells, or to the next review.

        Args:
            next_delivery: As the request names it, or a plan where the request is silent.
            known: Of its product.
            date: First day of the period priced.
            days: That the strategy looks ahead where no delivery is named.

        Returns:
            One value where it is certain, else equally likely ones, ascending.

        Raises:
            RequestError: The delivery named comes before the period priced.
        """
        if next_delivery is not None:
            if next_delivery < date:
                raise RequestError(f"next_delivery {next_delivery} is past when {date} comes, which is priced")
            return (max(-(-(next_delivery - date).days // self._step_days), 1),)
        if days is not None:
            return (-(-days // self._step_days),)
        if self._deliveries is not None and self._state_date is not None and known.place >= 0:
            after = min(max((date - self._state_date).days // self._step_days, 1), AHEAD) - 1
            ahead: list[int] = self._deliveries[known.place, after].tolist()
            if ahead[0] != UNKNOWN:
                return tuple(ahead)
        return (self._review,)


def _deliveries(given: Sequence[tuple[int, ...]], periods: Ints) -> Ints | None:
    """(request, DELIVERIES) from what each request says; None where every one is certain."""
    if not any(given):
        return None
    each = [values or (int(certain),) * DELIVERIES for values, certain in zip(given, periods, strict=True)]
    return np.array(each, dtype=np.int64)
