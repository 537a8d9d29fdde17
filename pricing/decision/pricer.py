"""Answers price requests: by the model, or by rules where the model knows too little. A price always comes."""

import copy
import datetime as dt
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Floats
from pricing.config import ModelConfig
from pricing.data.event_windows import Lift
from pricing.data.net_price import margin_of
from pricing.decision.allowed_prices import CANDIDATES
from pricing.decision.approval import approval, as_frozen, as_waiting, cost_step, given_price, with_price
from pricing.decision.cold_start import RULE, prior_demand, prior_elasticity
from pricing.decision.confidence import UNIDENTIFIED
from pricing.decision.decide import Choices, Policy, decide
from pricing.decision.experiments import NO_EXPERIMENTS, Assignment, Experiments
from pricing.decision.limits import PricingContext
from pricing.decision.product_facts import ProductFacts
from pricing.decision.reasons import BIT, named
from pricing.decision.request import Decision, DetailedDecision, PriceRequest, Simulation, Source, Spread
from pricing.decision.resolve import ResolvedBatch, Resolver, take
from pricing.decision.stock import Tried, outcomes
from pricing.decision.switches import NO_SWITCHES, Switch, Switches
from pricing.demand.curve import Demand, DemandAt
from pricing.demand.table import DemandTable
from pricing.errors import RequestError

# Requests that share one pass: more would outgrow the processor's cache, and a worker's memory. # decision 178
PASS = 250
SUREST = 0.9999  # no model is certain
REACH = 100.0  # times the list price, up or down, within which prices can be tried
_SUMMARY = np.linspace(0, CANDIDATES - 1, 9).astype(np.intp)  # candidates that the decision log keeps
_SOURCES: tuple[Source, ...] = get_args(Source)


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
        return [answer.decision for answer in self._decided(requests, today)]

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
        """Prices as `price`, with the figures behind each decision, and with the word of people.

        Switches go before experiments and every strategy (decision 98). What moves further than
        `decision.approve_beyond` from the price approved last, or from the current one, waits for approval.
        """
        if not switches.by_name:
            return self._approved(requests, self._decided(requests, today, experiments), switches, today)

        switched = {place: self.switch_of(request, switches) for place, request in enumerate(requests)}
        free = [place for place, switch in switched.items() if switch is None]
        taken = {place: switch for place, switch in switched.items() if switch is not None}

        asked = [requests[place] for place in free]
        proposed = self._decided(asked, today, experiments)
        answers = dict(zip(free, self._approved(asked, proposed, switches, today), strict=True))
        asked = [requests[place] for place in taken]
        answers |= dict(zip(taken, self._switched(asked, [*taken.values()], today), strict=True))
        return [answers[place] for place in range(len(requests))]

    def switch_of(self, request: PriceRequest, switches: Switches) -> Switch | None:
        """The switch that counts for a request's product; None where its price is free."""
        return switches.of(request.product_id, category=self._resolver.category_of(request))

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
        batch = self._resolved([request.model_copy(update={"strategy": None})], today)
        demand_at = self._curves(batch)
        context = batch.context
        allowed = self.policy.allowed
        list_price = float(context.list_price[0])
        unit_cost = float(context.unit_cost[0])
        tax_rate = float(context.tax_rate[0])

        low = list_price / REACH
        high = list_price * REACH
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
            comp_price_used=_numbers(context.comp_price)[0],
            comp_price_age=_numbers(batch.comp_price_age)[0],
            price_limits=(float(limits.low[0]), float(limits.high[0])),
            source=_SOURCES[int(demand_at(context.current_price[:, None]).source[0])],
            model_version=self.version,
            outcomes=outcomes(tried, demand_at, stock=float(context.stock[0]), unit_cost=unit_cost, tax_rate=tax_rate),
        )

    def room(self, requests: Sequence[PriceRequest], *, size: float, today: dt.date) -> NDArray[np.bool_]:
        """(request,) whether the guardrails leave a draw of `size`, a fraction, room to either side."""
        context = self._resolver.resolve(requests, today=today).context
        allowed = self.policy.allowed
        home = allowed.nearest(context.current_price, allowed.without_moves(context))
        return allowed.has_room(context, home, factor=1 + size)

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
        found: list[float] = self._expected(self._resolved(requests, today), prices).tolist()
        return found

    def events_on(self, date: dt.date, *, category: str | None) -> Sequence[Lift]:
        """The events with learnt lifts of a category, or of an unknown one, in the period from `date` on."""
        if self._demand is None:
            return ()
        rows = {name: row for row, name in enumerate(self._demand.categories.tolist())}
        return self._demand.events_on(date, category=rows.get(category, -1))

    # What the model decides, or a rule

    def _decided(
        self, requests: Sequence[PriceRequest], today: dt.date, experiments: Experiments = NO_EXPERIMENTS
    ) -> list[DetailedDecision]:
        """Decides in passes, no more requests at once than is fast."""
        answers: list[DetailedDecision] = []
        for start in range(0, len(requests), PASS):
            part = requests[start : start + PASS]
            answers += self._pass(self._resolver.resolve(part, today=today, experiments=experiments))
        return answers

    def _pass(self, batch: ResolvedBatch) -> list[DetailedDecision]:
        """Decides by the model what it knows, apart from the rest; by rule where it is no number."""
        by_model = _known(batch)
        if self._demand is not None and by_model.all():
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # such answers are not used
                choices = self._choose(batch.context, self._demand.curves(batch.offers))
            by_model = choices.finite()
            if by_model.all():
                return self._answers(batch, choices)
            batch = replace(batch, reasons=batch.reasons | ~by_model * BIT["model_failed"])
        if not by_model.any():
            return self._answers(batch, self._by_rule(batch))

        answers: dict[int, DetailedDecision] = {}
        for rows in (np.flatnonzero(by_model), np.flatnonzero(~by_model)):
            answers |= dict(zip(rows.tolist(), self._pass(take(batch, rows)), strict=True))
        return [answers[row] for row in range(len(answers))]

    def _choose(self, context: PricingContext, demand_at: DemandAt) -> Choices:
        if self.policy.allowed.frozen:
            context = as_frozen(context, self.policy.allowed)
        return decide(context, demand_at, self.policy)

    def _by_rule(self, batch: ResolvedBatch) -> Choices:
        """Cost-plus with run-out protection. Where nothing says how much sells, stock cannot say that it is short.

        Of a product that nobody knows, not even by its category, the confidence is that of a prior alone.
        """
        context = batch.context
        unknown = np.isnan(batch.level)
        supply = np.where(unknown & (context.supply > 0), np.inf, context.supply)
        demand_at = self._by_belief(batch, np.where(unknown, 1.0, batch.level))
        choices = self._choose(replace(context, supply=supply), demand_at)
        stranger = (batch.reasons & BIT["unknown_category"]) > 0  # decision 81
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

    def _curves(self, batch: ResolvedBatch) -> DemandAt:
        """Demand of the requests, by the model where it knows them all, else by belief."""
        if self._demand is not None and _known(batch).all():
            return self._demand.curves(batch.offers)
        return self._by_belief(batch, batch.level)

    def _resolved(self, requests: Sequence[PriceRequest], today: dt.date) -> ResolvedBatch:
        """Resolves requests; raises RequestError where nothing says how much of a product sells."""
        batch = self._resolver.resolve(requests, today=today)
        if (np.isnan(batch.level) & ~_known(batch)).any():
            raise RequestError("nothing says how much of the product sells, so there is nothing to simulate")
        return batch

    def _expected(self, batch: ResolvedBatch, prices: Sequence[float]) -> Floats:
        """(request,) units expected over the requested period at one price each, stock apart; NaN if nothing tells."""
        at = np.asarray(prices, dtype=np.float64)
        known = _known(batch)
        units = np.empty(len(at))
        for rows in (np.flatnonzero(known), np.flatnonzero(~known)):
            if len(rows):
                grid = self._curves(take(batch, rows))(at[rows, None])
                units[rows] = (grid.first[:, :, 0] * grid.weight).sum(axis=1)
        return units

    # What a person said

    def _approved(
        self, requests: Sequence[PriceRequest], answers: list[DetailedDecision], switches: Switches, today: dt.date
    ) -> list[DetailedDecision]:
        """The answers; each that a person would have to approve first keeps what `approval` says."""
        beyond = self.policy.config.approve_beyond
        if beyond is None or not answers:
            return answers
        grid = self.policy.allowed.grid
        unit_cost = np.array([answer.unit_cost for answer in answers])
        tax_rate = np.array([answer.tax_rate for answer in answers])
        assumed = np.array(["cost_assumed" in answer.decision.reasons for answer in answers])
        found = approval(
            np.array([answer.decision.recommended_price for answer in answers]),
            before=np.array([answer.current_price or answer.list_price for answer in answers]),
            approved=np.array([switches.approved.get(request.product_id, np.nan) for request in requests]),
            floor=cost_step(unit_cost, tax_rate, grid, assumed=assumed),
            drawn=np.array(["price_test" in answer.decision.reasons for answer in answers]),
            beyond=beyond,
            grid=grid,
        )
        waiting = np.flatnonzero(found.waits).tolist()
        units = self._units([requests[place] for place in waiting], found.kept[waiting].tolist(), today)
        for place, sold in zip(waiting, units, strict=True):
            price = float(found.kept[place])
            answers[place] = as_waiting(answers[place], price=price, units=sold, raised=bool(found.raised[place]))
        return answers

    def _switched(
        self, requests: Sequence[PriceRequest], switches: Sequence[Switch], today: dt.date
    ) -> list[DetailedDecision]:
        """The answers with prices frozen, or given by a person."""
        frozen = self._frozen._decided(requests, today)
        return [self._given(*each, today) for each in zip(requests, switches, frozen, strict=True)]

    @cached_property
    def _frozen(self) -> "Pricer":
        """The same with the hard guardrails alone, in which a frozen price is kept."""
        found = copy.copy(self)
        found.policy = Policy(self.policy.config, largest_jump=self.policy.allowed.largest_jump, frozen=True)
        return found

    def _given(
        self, request: PriceRequest, switch: Switch, frozen: DetailedDecision, today: dt.date
    ) -> DetailedDecision:
        """The frozen answer, or with the price that a person gave."""
        if switch.price is None:
            return frozen
        grid = self.policy.allowed.grid
        assumed = np.array("cost_assumed" in frozen.decision.reasons)
        floor = cost_step(np.array(frozen.unit_cost), np.array(frozen.tax_rate), grid, assumed=assumed)
        price = float(given_price(switch.price, floor, below_cost=switch.below_cost, grid=grid))
        raised = price > float(grid.nearest(switch.price))
        (sold,) = self._units([request], [price], today)
        # No model is asked: the confidence is that of a price that is sure to be charged.
        return with_price(
            frozen, "overridden", price=price, units=sold, raised=raised, confidence=1.0, source="override"
        )

    def _units(self, requests: Sequence[PriceRequest], prices: Sequence[float], today: dt.date) -> list[float]:
        """Units expected over the requested period at a price each, no more than stock; 0 where nothing tells them."""
        if not requests:
            return []
        batch = self._resolver.resolve(requests, today=today)
        units = self._expected(batch, prices)
        sold: list[float] = np.where(np.isfinite(units), np.minimum(units, batch.context.stock), 0.0).tolist()
        return sold

    # The answer

    def _answers(self, batch: ResolvedBatch, choices: Choices) -> list[DetailedDecision]:
        """The decisions of a batch, each with the figures behind it."""
        context = batch.context
        known = context.current_known
        gains = zip(choices.gain.T.round(4).tolist(), known.tolist(), strict=True)
        of_decision = {
            "recommended_price": choices.price.tolist(),
            "confidence": [min(round(chance, 4), SUREST) for chance in choices.confidence.tolist()],
            "price_range": zip(choices.low.tolist(), choices.high.tolist(), strict=True),
            "expected_units": choices.units.tolist(),
            "expected_margin": choices.margin.tolist(),
            "expected_gain": [
                Spread(mean=mean, low=low, high=high) if compared else None for (mean, low, high), compared in gains
            ],
            "worst_case": _numbers(choices.worst.round(4)),
            "source": [_SOURCES[place] for place in np.where(choices.kept, RULE, choices.source).tolist()],
            "strategy": [self.policy.names[number] for number in context.strategy.tolist()],
            "comp_price_used": _numbers(context.comp_price),
            "comp_price_age": _numbers(batch.comp_price_age),
        }
        decisions = [
            Decision(
                model_version=self.version,
                decision_id=os.urandom(16).hex(),
                **named(bits),
                **dict(zip(of_decision, figures, strict=True)),
            )
            for bits, *figures in zip((choices.reasons | batch.reasons).tolist(), *of_decision.values(), strict=True)
        ]

        first = choices.grid.first[:, :, _SUMMARY].astype(np.float64)
        units = choices.grid.weight @ first
        # The mixture of nodes has variance E[m + m² / r] + Var(m); one negative binomial of its mean has this size.
        with np.errstate(all="ignore"):
            beyond = choices.grid.weight @ (first * first) / (units * units)
            sizes = 1 / (beyond - 1 + beyond / choices.grid.first_size[:, None])
        detailed = {
            "decision": decisions,
            "date": batch.dates,
            "category": [category or None for category in batch.categories],
            "current_price": _numbers(np.where(known, context.current_price, np.nan)),
            "list_price": context.list_price.tolist(),
            "unit_cost": context.unit_cost.tolist(),
            "tax_rate": context.tax_rate.tolist(),
            "candidate_prices": choices.prices[:, _SUMMARY].tolist(),
            "candidate_units": units.tolist(),
            "candidate_sizes": sizes.tolist(),
            "best": choices.best.tolist(),
            "target": choices.target.tolist(),
            "wanted": choices.wanted.tolist(),
            "settled": choices.settled.tolist(),
            "against": choices.against.tolist(),
            "experiment": map(self._followed, batch.assigned, (choices.reasons & BIT["price_test"]).tolist()),
            "unit": np.broadcast_to(choices.grid.unit, len(decisions)).tolist(),
            "diverted": np.broadcast_to(choices.grid.diverted, len(decisions)).tolist(),
        }
        in_order = (detailed[name] for name in DetailedDecision._fields if name in detailed)
        return [DetailedDecision(*figures) for figures in zip(*in_order, strict=True)]

    def _followed(self, asked: Assignment | None, tested: int) -> Assignment | None:
        """The word of an experiment that was followed: none of another version's arm, no draw that was not made."""
        if asked is None or (asked.arm.kind == "challenger" and asked.arm.of != self.version):
            return None
        return asked if tested else asked._replace(deviation=None)


def _known(batch: ResolvedBatch) -> Bools:
    """(request,) whether demand knows the product, or at least its category."""
    return (batch.offers.product >= 0) | (batch.offers.category >= 0)


def _numbers(values: Floats) -> list[float | None]:
    """The values, None for NaN."""
    return [None if math.isnan(value) else value for value in values.tolist()]
