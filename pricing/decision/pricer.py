"""What answers price requests: history, model and rules behind one door. A price always comes."""

import datetime as dt
import os
from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from functools import partial
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Floats
from pricing.config import ModelConfig
from pricing.data.lifts import Lift
from pricing.decision.alone import Alone
from pricing.decision.choose import Ask, Choices, Policy, choose
from pricing.decision.cold_start import believed_demand, believed_elasticity
from pricing.decision.detailed import Detailed, details, summarised
from pricing.decision.price_tests import NO_TESTS, Plan
from pricing.decision.product_facts import ProductFacts
from pricing.decision.reasons import BIT, codes
from pricing.decision.request import Decision, PriceRequest, Source
from pricing.decision.resolve import Columns, Desk
from pricing.decision.simulation import Simulation, Tried, check_prices, outcomes
from pricing.demand.curve import Demand
from pricing.errors import RequestError

PASS = 125  # requests that share one pass: more would outgrow the processor's cache, and a worker's memory
FEW = 4  # requests that are priced faster one after the other than in one pass
SUREST = 0.9999  # no model is certain
_SOURCES: tuple[Source, ...] = get_args(Source)
RULE = _SOURCES.index("rule")


class Pricer:
    """Prices requests with one model version. Keeps no state between calls but caches of the calendar."""

    def __init__(
        self,
        demand: Demand | None,
        facts: ProductFacts | None,
        config: ModelConfig,
        *,
        version: str,
        new_id: Callable[[], str] | None = None,
    ) -> None:
        """Makes ready to answer.

        Args:
            demand: What sells at which price; None leaves every answer to the rules.
            facts: What is known of each product; None leaves that to the requests.
            config: Strategies, guardrails, thresholds.
            version: Name of the model version, carried by every decision.
            new_id: Makes a decision's id, unique; random by default.

        Raises:
            ConfigError: A strategy's kind or parameter is unknown.
        """
        self.version = version
        self.policy = Policy(config.decision)
        self._demand = demand
        self._usual_elasticity = config.decision.rule_elasticity
        self._desk = Desk(demand, facts, config, self.policy)
        chosen = summarised(config.decision.candidates)
        single = demand.single(candidates=config.decision.candidates) if demand else None
        self._alone = Alone(single, self.policy, summary=chosen) if single else None
        self._new_id = new_id or (lambda: os.urandom(16).hex())

    def price(self, requests: Sequence[PriceRequest], *, today: dt.date) -> list[Decision]:
        """One decision per request, in order; the whole batch in one pass.

        Args:
            requests: At most some thousands; they share one pass in memory.
            today: The day on which they are answered.

        Raises:
            RequestError: A request names an unknown strategy, or days that contradict each other or lie too far ahead.
        """
        if len(requests) <= FEW:
            return [answer.decision for answer in self.price_detailed(requests, today=today)]
        decided: list[Decision] = [None] * len(requests)  # type: ignore[list-item]
        for places, columns, choices in self._passes(requests, today):
            for place, decision in zip(places, self._decisions(columns, choices), strict=True):
                decided[place] = decision
        return decided

    def price_detailed(
        self,
        requests: Sequence[PriceRequest],
        *,
        today: dt.date,
        held: Container[str] = frozenset(),
        tests: Plan = NO_TESTS,
    ) -> list[Detailed]:
        """As `price`, with what each decision rested on.

        Args:
            requests: As `price`.
            today: The day on which they are answered.
            held: Products that keep their price inside the guardrails.
            tests: Price tests, which move chosen prices by what they drew.

        Raises:
            RequestError: As `price`.
        """
        if self._alone is not None and len(requests) <= FEW:
            return [self._one(self._alone, request, today, held, tests) for request in requests]
        return self._together(requests, today, held, tests)

    def _one(self, alone: Alone, request: PriceRequest, today: dt.date, held: Container[str], tests: Plan) -> Detailed:
        row, date, category = self._desk.row(request, today=today)
        drawn = tests.draw(request.product_id, date) is not None
        choice = None if drawn else alone.choose(row, keep=request.product_id in held)
        if choice is None:
            return self._together([request], today, held, tests)[0]
        decision = Decision(
            recommended_price=choice.price,
            confidence=min(round(choice.confidence, 4), SUREST),
            price_range=(choice.low, choice.high),
            expected_units=choice.units,
            expected_margin=choice.margin,
            source="rule" if choice.doubtful else _SOURCES[choice.source],
            reasons=list(codes(choice.reasons | row.reasons)),
            strategy=self.policy.names[row.strategy],
            model_version=self.version,
            decision_id=self._new_id(),
        )
        current = row.current_price if row.current_known else None
        listed = choice.candidate_prices, choice.candidate_units, choice.candidate_sizes
        about = category or None, current, row.list_price, row.unit_cost
        return Detailed(decision, date, *about, *listed, unit=choice.unit)

    def _together(
        self, requests: Sequence[PriceRequest], today: dt.date, held: Container[str], tests: Plan = NO_TESTS
    ) -> list[Detailed]:
        detailed: list[Detailed] = [None] * len(requests)  # type: ignore[list-item]
        for places, columns, choices in self._passes(requests, today, held, tests):
            decisions = self._decisions(columns, choices)
            for place, answer in zip(places, details(columns, choices, decisions), strict=True):
                detailed[place] = answer
        return detailed

    def simulate(
        self, request: PriceRequest, *, today: dt.date, prices: Sequence[float] = (), strategies: Sequence[str] = ()
    ) -> Simulation:
        """What would follow until the next delivery from given prices, and from the prices that strategies choose.

        Args:
            request: The product, day and stock; its own strategy is of no matter.
            today: The day on which it is answered.
            prices: Prices to try, inside the guardrails or not.
            strategies: Strategies to try; without prices and strategies, every configured one.

        Raises:
            RequestError: As `price`; or a price is out of reach of the list price, or nothing says how much sells.
        """
        if not prices and not strategies:
            strategies = self.policy.names
        columns = self._desk.lay_out([request.model_copy(update={"strategy": None})], today=today)
        ask = self._ask(columns)
        these = columns.these
        check_prices(prices, list_price=float(these.list_price[0]))
        field = self.policy.lattice.candidates(these)
        allowed = self.policy.lattice.allows(np.asarray(prices, dtype=np.float64), field).tolist()
        tried = [Tried(price, None, allow) for price, allow in zip(prices, allowed, strict=True)]
        decided = self.price([request.model_copy(update={"strategy": name}) for name in strategies], today=today)
        tried += [Tried(decision.recommended_price, decision.strategy, True) for decision in decided]
        return Simulation(
            product_id=request.product_id,
            date=columns.dates[0],
            periods=int(columns.offers.periods[0]),
            current_price=float(these.current_price[0]) if these.current_known[0] else None,
            list_price=float(these.list_price[0]),
            unit_cost=float(these.unit_cost[0]),
            price_limits=(float(field.limits.low[0]), float(field.limits.high[0])),
            source=_SOURCES[int(ask(these.current_price[:, None]).source[0])],
            model_version=self.version,
            outcomes=outcomes(tried, ask, stock=float(these.stock[0]), unit_cost=float(these.unit_cost[0])),
        )

    def room(self, requests: Sequence[PriceRequest], *, size: float, today: dt.date) -> NDArray[np.bool_]:
        """(request,) whether the guardrails leave a price test at least half of its size to either side.

        Args:
            requests: Priced at their current prices.
            size: Fraction of the price, as `PriceTest` has it.
            today: The day on which they are answered.

        Raises:
            RequestError: As `price`.
        """
        these, lattice = self._desk.lay_out(requests, today=today).these, self.policy.lattice
        limit = lattice.candidates(these).limits
        home = np.clip(these.current_price, limit.low, limit.high)
        arms = (lattice.towards(home * factor, home) for factor in (1 / (1 + size), 1 + size))
        low, high = (np.clip(price, limit.low, limit.high) for price in arms)
        return np.asarray(np.minimum(np.log(high / home), np.log(home / low)) >= np.log1p(size) / 2)

    def demand_at(self, requests: Sequence[PriceRequest], prices: Sequence[float], *, today: dt.date) -> list[float]:
        """Units expected over the requested period at one given price for each request, stock apart.

        Raises:
            RequestError: As `price`; or nothing says how much of a product sells.
        """
        grid = self._ask(self._desk.lay_out(requests, today=today))(np.asarray(prices, dtype=np.float64)[:, None])
        units: list[float] = (grid.first[:, :, 0] @ grid.weight).tolist()
        return units

    def events_on(self, date: dt.date, *, category: str | None) -> Sequence[Lift]:
        """The named events whose learnt lifts the model's demand of a category has in a period, the largest first.

        Args:
            date: The period's first day.
            category: None or unknown: what they add for all categories.
        """
        if self._demand is None:
            return ()
        names = self._demand.categories.tolist()
        return self._demand.events_on(date, category=names.index(category) if category in names else -1)

    def _ask(self, columns: Columns) -> Ask:
        """Demand of the requests, by the model where it knows them all, or by belief.

        Raises:
            RequestError: Nothing says how much sells.
        """
        if self._demand is not None and _known(columns).all():
            return partial(self._demand.grid, columns.offers)
        if np.isnan(columns.level).any():
            raise RequestError("nothing says how much of the product sells, so there is nothing to simulate")
        return self._by_belief(columns, columns.level)

    def _passes(
        self,
        requests: Sequence[PriceRequest],
        today: dt.date,
        held: Container[str] = frozenset(),
        tests: Plan = NO_TESTS,
    ) -> list[tuple[Sequence[int], Columns, Choices]]:
        """Decides the batch in passes: what the model knows apart from the rest, and no more at once than is fast."""
        passes: list[tuple[Sequence[int], Columns, Choices]] = []
        for start in range(0, len(requests), PASS):
            part = requests[start : start + PASS]
            for rows, columns, choices in self._parts(self._desk.lay_out(part, today=today, held=held, tests=tests)):
                passes.append(([start + row for row in rows] if start else rows, columns, choices))
        return passes

    def _parts(self, columns: Columns) -> list[tuple[Sequence[int], Columns, Choices]]:
        everything = range(len(columns.dates))
        if self._demand is None:
            return [(everything, columns, self._by_rule(columns))]
        answered = _known(columns)
        if answered.all():
            choices = self._by_model(self._demand, columns)
            answered = choices.finite()
            if answered.all():
                return [(everything, columns, choices)]
            columns = replace(columns, reasons=columns.reasons | ~answered * BIT["model_failed"])
        others = np.flatnonzero(~answered)
        part = columns.take(others)
        passes: list[tuple[Sequence[int], Columns, Choices]] = [(others.tolist(), part, self._by_rule(part))]
        rows = np.flatnonzero(answered)
        if len(rows):
            passes += [(rows[part].tolist(), *rest) for part, *rest in self._parts(columns.take(rows))]
        return passes

    def _by_model(self, demand: Demand, columns: Columns) -> Choices:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # such answers are not used
            return choose(columns.these, partial(demand.grid, columns.offers), self.policy)

    def _by_rule(self, columns: Columns) -> Choices:
        """Cost-plus with run-out protection. Where nothing says how much sells, stock cannot say that it is short."""
        level = columns.level
        unknown = np.isnan(level)
        these = columns.these
        if unknown.any():
            level = np.where(unknown, 1.0, level)
            these = replace(these, stock=np.where(unknown & (these.stock > 0), np.inf, these.stock))
        choices = choose(these, self._by_belief(columns, level), self.policy)
        if not unknown.any():
            return choices
        nothing = (columns.reasons & BIT["price_level_unknown"]) > 0
        return replace(
            choices,
            confidence=np.where(nothing, 0.0, choices.confidence),
            units=np.where(unknown, 0.0, choices.units),
            margin=np.where(unknown, 0.0, choices.margin),
            reasons=choices.reasons | unknown * BIT["demand_unknown"],
        )

    def _by_belief(self, columns: Columns, level: Floats) -> Ask:
        these = columns.these
        elasticity = believed_elasticity(columns.margin, usual=self._usual_elasticity)
        return partial(
            believed_demand,
            list_price=these.list_price,
            level=level,
            periods=columns.offers.periods,
            elasticity=elasticity,
        )

    def _decisions(self, columns: Columns, choices: Choices) -> list[Decision]:
        source = np.where(choices.doubtful, RULE, choices.source).tolist()
        names, version, new_id = self.policy.names, self.version, self._new_id
        return [
            Decision(
                recommended_price=price,
                confidence=min(round(confidence, 4), SUREST),
                price_range=(low, high),
                expected_units=units,
                expected_margin=margin,
                source=_SOURCES[place],
                reasons=list(codes(bits)),
                strategy=names[strategy],
                model_version=version,
                decision_id=new_id(),
            )
            for price, confidence, low, high, units, margin, place, bits, strategy in zip(
                choices.price.tolist(),
                choices.confidence.tolist(),
                choices.low.tolist(),
                choices.high.tolist(),
                choices.units.tolist(),
                choices.margin.tolist(),
                source,
                (choices.reasons | columns.reasons).tolist(),
                columns.these.strategy.tolist(),
                strict=True,
            )
        ]


def _known(columns: Columns) -> NDArray[np.bool_]:
    """(request,) whether demand knows the product, or at least its category."""
    return (columns.offers.product >= 0) | (columns.offers.category >= 0)
