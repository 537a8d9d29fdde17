"""Answers price requests: by the model, or by rules where the model knows too little. A price always comes."""

import copy
import datetime as dt
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Floats
from pricing.config import ModelConfig
from pricing.data.event_windows import Lift
from pricing.data.net_price import margin_of, with_tax
from pricing.decision.cold_start import RULE, prior_demand, prior_elasticity
from pricing.decision.decide import UNIDENTIFIED, Choices, Policy, decide
from pricing.decision.experiments import NO_EXPERIMENTS, Assignment, Experiments
from pricing.decision.guardrails import CANDIDATES, EDGE, SOFT_OFF, PricingContext
from pricing.decision.product_facts import ProductFacts
from pricing.decision.reasons import BIT, named
from pricing.decision.request import Decision, DetailedDecision, PriceRequest, Simulation, Source, Spread
from pricing.decision.resolve import ResolvedBatch, Resolver, take
from pricing.decision.stock import Tried, outcomes
from pricing.decision.switches import NO_SWITCHES, Switch, Switches, as_waiting, with_price
from pricing.demand.curve import Demand, DemandAt
from pricing.demand.table import DemandTable
from pricing.errors import RequestError

PASS = 250  # requests that share one pass: more would outgrow the processor's cache, and a worker's memory
_SUMMARY = np.linspace(0, CANDIDATES - 1, 9).astype(np.intp)  # candidates that the decision log keeps
SUREST = 0.9999  # no model is certain
REACH = 100.0  # times the list price, up or down, within which prices can be tried
_SOURCES: tuple[Source, ...] = get_args(Source)
T = TypeVar("T")
_Pass = tuple[Sequence[int], ResolvedBatch, Choices]  # with the places of its requests in the batch


class Pricer:
    """Prices requests with one model version. A request is answered alone as in any batch; several threads may ask."""

    def __init__(
        self,
        demand: Demand | None,  # None leaves every answer to the rules
        facts: ProductFacts | None,  # None leaves to the requests what is known of a product
        config: ModelConfig,
        *,
        version: str,
        largest_jump: float | None = None,  # of a price from the last one charged, if any, a fraction of it; None: any
    ) -> None:
        self.version = version
        self.policy = Policy(config.decision, largest_jump=largest_jump)
        self._demand = demand
        self._freezes = False
        self._resolver = Resolver(demand, facts, config, self.policy)

    def price(self, requests: Sequence[PriceRequest], *, today: dt.date) -> list[Decision]:
        """One decision per request, in order; at most some thousands, which share one pass in memory.

        Raises:
            RequestError: A request names an unknown strategy, or days that contradict each other or lie too far ahead.
            UnknownProductError: Nothing says how dear a product is, or it is unknown and its request strict.

        Example:
            >>> import datetime as dt
            >>> from pricing.config import load_config
            >>> from pricing.decision.pricer import Pricer
            >>> from pricing.decision.request import PriceRequest
            >>> pricer = Pricer(None, None, load_config(), version="none")  # no model: by rule
            >>> product = {"product_id": "tea", "current_stock": 40, "day_of_week": "Friday", "list_price": 4.99}
            >>> requests = [PriceRequest(**product, current_price=4.99, unit_cost=cost) for cost in (2.60, 5.50)]
            >>> for decision in pricer.price(requests, today=dt.date(2026, 3, 2)):
            ...     print(decision.recommended_price, decision.source, decision.binds, decision.gave_way)
            4.99 rule [] []
            5.5 rule ['cost'] ['max_move']
        """
        return [answer.decision for answer in self._together(requests, today)]

    def day_priced(self, request: PriceRequest, *, today: dt.date) -> dt.date:
        """Returns the first day of the period that a request asks for; raises RequestError as `price`."""
        return self._resolver.date_of(request.day_of_week, request.date, today=today)[0]

    def price_detailed(
        self,
        requests: Sequence[PriceRequest],
        *,
        today: dt.date,
        experiments: Experiments = NO_EXPERIMENTS,
        switches: Switches = NO_SWITCHES,
    ) -> list[DetailedDecision]:
        """As `price`, with what each decision rested on, and with the word of persons.

        Switches go before experiments and every strategy. What moves further than `decision.approve_beyond` from the
        price approved last, or from the current one, waits for approval.
        """
        of = [self.switch_of(request, switches) for request in requests]
        free = [place for place, switch in enumerate(of) if switch is None]
        asking = [requests[place] for place in free]
        parts = [(free, self._approved(asking, self._together(asking, today, experiments), switches, today))]
        if taken := {place: switch for place, switch in enumerate(of) if switch is not None}:
            asked = [requests[place] for place in taken]
            kept = zip(asked, taken.values(), self._frozen._together(asked, today), strict=True)
            parts.append(([*taken], [self._given(*each, today) for each in kept]))
        return _in_order(parts)

    def switch_of(self, request: PriceRequest, switches: Switches) -> Switch | None:
        """The switch that counts for a request's product; None where its price is free."""
        return switches.of(request.product_id, category=self._resolver.category_of(request)) if switches else None

    @cached_property
    def _frozen(self) -> "Pricer":
        """The same with the hard guardrails alone, in which a frozen price is kept: cost, largest jump, the two bands.

        A current price beyond the largest jump is taken for a fault: what stays is the last price charged.
        """
        found, config = copy.copy(self), self.policy.config
        guardrails = config.guardrails.model_copy(update={**SOFT_OFF, "endings": []})
        hard = config.model_copy(update={"guardrails": guardrails})
        found.policy = Policy(hard, largest_jump=self.policy.allowed.largest_jump)
        found._freezes = True
        return found

    def _approved(
        self, requests: Sequence[PriceRequest], answers: list[DetailedDecision], switches: Switches, today: dt.date
    ) -> list[DetailedDecision]:
        """The answers; each that a person would have to approve first keeps what was approved last, inside the cost.

        A cost that is only assumed moves no price that nobody approved.
        """
        beyond, grid = self.policy.config.approve_beyond, self.policy.allowed.grid
        if beyond is None:
            return answers
        waiting: dict[int, tuple[float, float]] = {}  # place → price, and the one before the cost raised it
        for place, (request, answer) in enumerate(zip(requests, answers, strict=True)):
            approved, assumed = switches.approved.get(request.product_id), "cost_assumed" in answer.decision.reasons
            before = (answer.current_price or answer.list_price) if approved is None else float(grid.nearest(approved))
            price = before if assumed else max(before, float(grid.above(with_tax(answer.unit_cost, answer.tax_rate))))
            if abs(answer.decision.recommended_price / price - 1) > beyond + EDGE:
                waiting[place] = price, before
        told = [place for place in waiting if "demand_unknown" not in answers[place].decision.reasons]
        asked, prices = [requests[place] for place in told], [waiting[place][0] for place in told]
        units = dict(zip(told, self._units(asked, prices, today), strict=True))
        for place, (price, before) in waiting.items():
            answers[place] = as_waiting(answers[place], price=price, units=units.get(place, 0.0), raised=price > before)
        return answers

    def _given(self, request: PriceRequest, switch: Switch, kept: DetailedDecision, today: dt.date) -> DetailedDecision:
        """The frozen answer, or with the price that a person gave; at cost where that is higher, unless they said so.

        A price that is no whole step goes to the nearest one: the step of a version may not be that of the command.
        """
        if switch.price is None:
            return kept
        grid = self.policy.allowed.grid
        given, floor = float(grid.nearest(switch.price)), float(grid.above(with_tax(kept.unit_cost, kept.tax_rate)))
        price = given if switch.below_cost else max(given, floor)
        (sold,), raised = self._units([request], [price], today), price > given
        # No model is asked: the confidence is that of a price that is sure to be charged.
        return with_price(kept, "overridden", price=price, units=sold, raised=raised, confidence=1.0, source="override")

    def _units(self, requests: Sequence[PriceRequest], prices: Sequence[float], today: dt.date) -> list[float]:
        """Units expected over the requested period at a price each, no more than stock; 0 where nothing tells them."""
        try:
            sold = self.demand_at(requests, prices, today=today) if requests else []
        except RequestError:
            if len(requests) == 1:
                return [0.0]
            return [self._units([one], [price], today)[0] for one, price in zip(requests, prices, strict=True)]
        return [
            min(units, request.stock_limit) if math.isfinite(units) else 0.0
            for units, request in zip(sold, requests, strict=True)
        ]

    def _together(
        self, requests: Sequence[PriceRequest], today: dt.date, experiments: Experiments = NO_EXPERIMENTS
    ) -> list[DetailedDecision]:
        """Decides in passes: what the model knows apart from the rest, and no more at once than is fast."""
        answers: list[DetailedDecision] = []
        for start in range(0, len(requests), PASS):
            part = requests[start : start + PASS]
            found = self._parts(self._resolver.resolve(part, today=today, experiments=experiments))
            answers += _in_order((rows, self._answers(batch, choices)) for rows, batch, choices in found)
        return answers

    def simulate(
        self, request: PriceRequest, *, today: dt.date, prices: Sequence[float] = (), strategies: Sequence[str] = ()
    ) -> Simulation:
        """Simulates sales until the next delivery at given prices, and at the prices that strategies choose.

        Prices may lie outside the guardrails. Without either, every configured strategy is tried; the request's does
        not matter. Raises RequestError as `price`, where a price is out of reach of the list price, or nothing says how
        much sells.
        """
        if not prices and not strategies:
            strategies = self.policy.names
        batch = self._resolver.resolve([request.model_copy(update={"strategy": None})], today=today)
        demand_at, context, allowed = self._demand_at(batch), batch.context, self.policy.allowed
        columns = (context.list_price, context.unit_cost, context.tax_rate)
        list_price, unit_cost, tax_rate = (float(column[0]) for column in columns)
        low, high = list_price / REACH, list_price * REACH
        if wrong := [price for price in prices if not low <= price <= high]:
            raise RequestError(f"prices: expected {low:g} to {high:g}, a hundred times list price, found {wrong[0]!r}")
        limits = allowed.limits(context)
        allows = allowed.allows(np.asarray(prices, dtype=np.float64), limits).tolist()
        tried = [Tried(price, None, allow) for price, allow in zip(prices, allows, strict=True)]
        decided = self.price([request.model_copy(update={"strategy": name}) for name in strategies], today=today)
        tried += [Tried(decision.recommended_price, decision.strategy, True) for decision in decided]
        return Simulation(
            product_id=request.product_id,
            date=batch.dates[0],
            periods=int(batch.offers.periods[0]),
            current_price=float(context.current_price[0]) if context.current_known[0] else None,
            list_price=list_price,
            unit_cost=unit_cost,
            tax_rate=tax_rate,
            comp_price_used=_number(float(context.comp_price[0])),
            comp_price_age=_number(float(batch.comp_price_age[0])),
            price_limits=(float(limits.low[0]), float(limits.high[0])),
            source=_SOURCES[int(demand_at(context.current_price[:, None]).source[0])],
            model_version=self.version,
            outcomes=outcomes(tried, demand_at, stock=float(context.stock[0]), unit_cost=unit_cost, tax_rate=tax_rate),
        )

    def room(self, requests: Sequence[PriceRequest], *, size: float, today: dt.date) -> NDArray[np.bool_]:
        """(request,) whether the guardrails leave a draw of `size`, a fraction, at least half of it to either side."""
        context, allowed = self._resolver.resolve(requests, today=today).context, self.policy.allowed
        limit = allowed.limits(context)
        home = np.clip(context.current_price, limit.low, limit.high)
        low, high = (allowed.nearest(home * factor, limit) for factor in (1 / (1 + size), 1 + size))
        return np.asarray(np.minimum(np.log(high / home), np.log(home / low)) >= np.log1p(size) / 2)

    def terms(self, request: PriceRequest, price: float, *, today: dt.date) -> dict[str, float]:
        """The log of the units expected over the requested period at a price, as terms that add up to it.

        They are those of `DemandTable.terms`; where no table says, `level` at list price and `price` alone. Raises
        RequestError as `price`, or where nothing says how much sells.
        """
        batch = self._resolver.resolve([request], today=today)
        if isinstance(self._demand, DemandTable) and _known(batch).all():
            found = {name: float(term[0]) for name, term in self._demand.terms(batch.offers, np.array([price])).items()}
            if math.isfinite(sum(found.values())):
                return found
        if not batch.level[0] > 0:
            raise RequestError("nothing says how much of the product sells, so there is nothing to explain")
        grid = self._by_belief(batch, batch.level)(np.array([[price, float(batch.context.list_price[0])]]))
        units, usual = (grid.weight @ grid.first[0]).tolist()
        return {"level": math.log(usual), "price": math.log(units / usual)}

    def demand_at(self, requests: Sequence[PriceRequest], prices: Sequence[float], *, today: dt.date) -> list[float]:
        """Units expected over the requested period at one given price a request, stock apart; raises as `terms`."""
        batch = self._resolver.resolve(requests, today=today)
        known, units = _known(batch), np.empty(len(requests))
        for rows in (np.flatnonzero(known), np.flatnonzero(~known)):
            if len(rows):
                grid = self._demand_at(take(batch, rows))(np.asarray(prices, dtype=np.float64)[rows, None])
                units[rows] = (grid.first[:, :, 0] * grid.weight).sum(axis=1)
        found: list[float] = units.tolist()
        return found

    def events_on(self, date: dt.date, *, category: str | None) -> Sequence[Lift]:
        """The events with learnt lifts of a category, or of an unknown one, in the period from `date` on."""
        names = self._demand.categories.tolist() if self._demand else []
        row = names.index(category) if category in names else -1
        return self._demand.events_on(date, category=row) if self._demand else ()

    def _demand_at(self, batch: ResolvedBatch) -> DemandAt:
        """Demand of the requests, by the model where it knows them all, or by belief."""
        if self._demand is not None and _known(batch).all():
            return self._demand.curves(batch.offers)
        if np.isnan(batch.level).any():
            raise RequestError("nothing says how much of the product sells, so there is nothing to simulate")
        return self._by_belief(batch, batch.level)

    def _decide(self, context: PricingContext, demand_at: DemandAt) -> Choices:
        """Decides; a frozen price beyond the largest jump counts as the last one charged, inside the guardrails."""
        if self._freezes:
            limit, jump = self.policy.allowed.limits(context), self.policy.allowed.largest_jump
            far = np.abs(context.current_price / context.last_price - 1) > (np.inf if jump is None else jump + EDGE)
            now = np.where(far, np.clip(context.last_price, limit.low, limit.high), context.current_price)
            context = replace(context, current_price=now, keep=np.full(len(now), BIT["frozen"]))
        return decide(context, demand_at, self.policy)

    def _parts(self, batch: ResolvedBatch) -> list[_Pass]:
        everything = range(len(batch.dates))
        answered = np.zeros(len(batch.dates), np.bool_) if self._demand is None else _known(batch)
        if self._demand is not None and answered.all():
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # such answers are not used
                choices = self._decide(batch.context, self._demand.curves(batch.offers))
            answered = choices.finite()
            if answered.all():
                return [(everything, batch, choices)]
            batch = replace(batch, reasons=batch.reasons | ~answered * BIT["model_failed"])
        if not answered.any():
            return [(everything, batch, self._by_rule(batch))]
        parts = [np.flatnonzero(answered == by_model) for by_model in (False, True)]
        return [(rows[part].tolist(), *rest) for rows in parts for part, *rest in self._parts(take(batch, rows))]

    def _by_rule(self, batch: ResolvedBatch) -> Choices:
        """Cost-plus with run-out protection. Where nothing says how much sells, stock cannot say that it is short.

        Of a product that nobody knows, not even by its category, the confidence is that of a prior alone.
        """
        unknown, context = np.isnan(batch.level), batch.context
        supply = np.where(unknown & (context.supply > 0), np.inf, context.supply)
        demand_at = self._by_belief(batch, np.where(unknown, 1.0, batch.level))
        choices = self._decide(replace(context, supply=supply), demand_at)
        stranger = (batch.reasons & BIT["unknown_category"]) > 0
        return choices._replace(
            confidence=np.where(stranger, np.minimum(choices.confidence, UNIDENTIFIED), choices.confidence),
            units=np.where(unknown, 0.0, choices.units),
            margin=np.where(unknown, 0.0, choices.margin),
            gain=np.where(unknown, 0.0, choices.gain),
            reasons=choices.reasons | unknown * BIT["demand_unknown"],
        )

    def _by_belief(self, batch: ResolvedBatch, level: Floats) -> DemandAt:
        context = batch.context
        assumed = margin_of(context.list_price, context.unit_cost, tax_rate=context.tax_rate)
        margin = np.where(context.cost_assumed, assumed, batch.margin)
        return partial(
            prior_demand,
            list_price=context.list_price,
            level=level,
            periods=batch.offers.periods,
            elasticity=prior_elasticity(margin),
        )

    def _answers(self, batch: ResolvedBatch, choices: Choices) -> list[DetailedDecision]:
        """The decisions of a batch, each with the figures behind it."""
        context = batch.context
        gains = zip(choices.gain.T.round(4).tolist(), context.current_known.tolist(), strict=True)
        columns = {
            "recommended_price": choices.price.tolist(),
            "confidence": [min(round(chance, 4), SUREST) for chance in choices.confidence.tolist()],
            "price_range": zip(choices.low.tolist(), choices.high.tolist(), strict=True),
            "expected_units": choices.units.tolist(),
            "expected_margin": choices.margin.tolist(),
            "expected_gain": [
                Spread(mean=gain[0], low=gain[1], high=gain[2]) if known else None for gain, known in gains
            ],
            "source": [_SOURCES[place] for place in np.where(choices.kept, RULE, choices.source).tolist()],
            "strategy": [self.policy.names[number] for number in context.strategy.tolist()],
            "comp_price_used": map(_number, context.comp_price.tolist()),
            "comp_price_age": map(_number, batch.comp_price_age.tolist()),
        }
        decisions = [
            Decision(
                model_version=self.version,
                decision_id=os.urandom(16).hex(),
                **named(bits),
                **dict(zip(columns, row, strict=True)),
            )
            for bits, *row in zip((choices.reasons | batch.reasons).tolist(), *columns.values(), strict=True)
        ]
        first, weight = choices.grid.first[:, :, _SUMMARY].astype(np.float64), choices.grid.weight
        units = weight @ first
        # The mixture of nodes has variance E[m + m² / r] + Var(m); one negative binomial of its mean has this size.
        with np.errstate(all="ignore"):
            beyond = weight @ (first * first) / (units * units)
            sizes = 1 / (beyond - 1 + beyond / choices.grid.first_size[:, None])
        current = zip(context.current_price.tolist(), context.current_known.tolist(), strict=True)
        figures = (  # in the order of DetailedDecision
            *(decisions, batch.dates, (category or None for category in batch.categories)),
            (now if known else None for now, known in current),
            *(column.tolist() for column in (context.list_price, context.unit_cost, context.tax_rate)),
            *(column.tolist() for column in (choices.prices[:, _SUMMARY], units, sizes)),
            *(column.tolist() for column in (choices.best, choices.target, choices.wanted)),
            *(column.tolist() for column in (choices.settled, choices.against)),
            map(self._followed, batch.assigned),
            np.broadcast_to(choices.grid.unit, len(decisions)).tolist(),
        )
        return [DetailedDecision(*row) for row in zip(*figures, strict=True)]

    def _followed(self, asked: Assignment | None) -> Assignment | None:
        """Tells what an experiment asked, but for an arm of another version."""
        return None if asked and asked.arm.kind == "challenger" and asked.arm.of != self.version else asked


def _in_order(parts: Iterable[tuple[Sequence[int], Sequence[T]]]) -> list[T]:
    """The answers of parts of a batch, each with its places there, in the order of the batch."""
    placed = {place: answer for places, answers in parts for place, answer in zip(places, answers, strict=True)}
    return [placed[place] for place in range(len(placed))]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _known(batch: ResolvedBatch) -> NDArray[np.bool_]:
    """(request,) whether demand knows the product, or at least its category."""
    return (batch.offers.product >= 0) | (batch.offers.category >= 0)
