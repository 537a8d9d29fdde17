"""Routes that explain prices and simulate others: /explain and /simulate. Nothing they price is logged."""

import contextlib
from collections.abc import Callable, Iterable
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, Field

from pricing.decision.explanation import Driver, Explanation, explain, unit_digits
from pricing.decision.reasons import meanings
from pricing.decision.request import Decision, Money, PriceRequest, Simulation, Spread, Text
from pricing.errors import RequestError
from pricing.registry.knowledge import HOLDS_ONLY_MEANING, MEANINGS
from serving.api import Endpoint, Service, body_of
from serving.follower import VERSION_ERRORS, Served
from serving.problems import from_request_error
from serving.routes.catalogue import Elasticity, known_elasticity
from serving.routes.pricing import EXAMPLE, version_for

NOTE = "This explains the model's answer, not the world. The effects, as printed, add up to value − baseline_value."
Computed = TypeVar("Computed", bound=BaseModel)


class ExplainRequest(BaseModel, frozen=True, extra="forbid"):
    """A request to explain."""

    request: PriceRequest
    of: Literal["price", "demand"] = Field(default="price", description="demand: units at the recommended price.")


class Meaning(BaseModel):
    """A code in words."""

    code: str
    meaning: str


class ExplainAnswer(BaseModel):
    """Where a price, or demand, comes from."""

    note: str = NOTE
    of: Literal["price", "demand"]
    decision: Decision
    summary: str = Field(description="From where to where, in a sentence.")
    value: float = Field(description="The price, or the units over the requested period.")
    baseline_value: float = Field(description="The price charged now, or units of a mean period at the usual price.")
    drivers: list[Driver] = Field(description="In the order of the decision, or of the sum.")
    guardrails: list[Meaning] = Field(description="Guardrails that bind or gave way.")
    reasons: list[Meaning]
    elasticity: Elasticity | None = Field(description="Null when the model does not know the product.")
    grade: Meaning | None = Field(description="How well that elasticity is known, and what follows from it.")


class SimulateRequest(BaseModel, frozen=True, extra="forbid"):
    """Prices, strategies, or both to try; every configured strategy when neither is given."""

    request: PriceRequest
    prices: Annotated[list[Money], Field(default_factory=list, max_length=200)]
    strategies: Annotated[list[Text], Field(default_factory=list, max_length=50)]


def explain_price(service: Service) -> ExplainAnswer:
    """Explains why a price or demand is what it is, driver by driver."""
    asked = body_of(ExplainRequest)
    now = service.now()
    control = service.follower.current.control

    def explained(served: Served) -> ExplainAnswer:
        elasticity = known_elasticity(served, asked.request.product_id)
        found = explain(
            asked.request,
            served.pricer,
            today=now.date(),
            quantity=asked.of,
            experiments=control.experiments,
            switches=control.switches.at(now),
            elasticity=elasticity.elasticity if elasticity else None,
            competitor=elasticity.competitor.words if elasticity else "",
        )
        return _answer(found, elasticity, holds_only=served.version is not None and served.version.holds_only)

    return _as_priced(service, asked.request, explained)


def simulate(service: Service) -> Simulation:
    """Simulates prices and strategies: demand, revenue, margin and the risk of running out."""
    asked = body_of(SimulateRequest)
    now = service.now()
    control = service.follower.current.control

    def simulated(served: Served) -> Simulation:
        found = served.pricer.simulate(
            asked.request, today=now.date(), prices=asked.prices, strategies=asked.strategies
        )
        switch = served.pricer.switch_of(asked.request, control.switches.at(now))
        if switch is not None:
            return found.model_copy(update={"switch": switch.action})
        experiment = control.experiments.of(asked.request.product_id, found.date)
        return found.model_copy(update={"experiment": experiment and experiment.label})

    return _as_priced(service, asked.request, simulated)


def _as_priced(service: Service, asked: PriceRequest, compute: Callable[[Served], Computed]) -> Computed:
    """Applies `compute` to the version that prices a product; to the champion where an arm fails."""
    current = service.follower.current
    served = version_for(asked, service.now().date(), current=current)
    try:
        if served is not current.champion:
            with contextlib.suppress(*VERSION_ERRORS):
                return compute(served)
        return compute(current.champion)
    except RequestError as error:
        raise from_request_error(error) from error


def _answer(found: Explanation, elasticity: Elasticity | None, *, holds_only: bool) -> ExplainAnswer:
    """An explanation as the service gives it, its amounts rounded as people read them."""
    decision = found.decision.decision
    gain = decision.expected_gain
    rounded = {
        "expected_units": round(decision.expected_units, unit_digits(decision.expected_units)),
        "expected_margin": round(decision.expected_margin, 2),
        "expected_gain": gain and Spread(**{end: round(value, 2) for end, value in gain}),
        "worst_case": decision.worst_case and round(decision.worst_case, 2),
    }
    grade = None
    if elasticity:
        meaning = MEANINGS[elasticity.grade] + (f"; {HOLDS_ONLY_MEANING}" if holds_only else "")
        grade = Meaning(code=elasticity.grade, meaning=meaning)
    return ExplainAnswer(
        of=found.quantity,
        decision=decision.model_copy(update=rounded),
        summary=found.summary,
        value=found.value,
        baseline_value=found.baseline_value,
        drivers=list(found.drivers),
        guardrails=_meanings((), decision.binds, decision.gave_way),
        reasons=_meanings(decision.reasons),
        elasticity=elasticity,
        grade=grade,
    )


def _meanings(*codes: Iterable[str]) -> list[Meaning]:
    return [Meaning(code=code, meaning=meaning) for code, meaning in meanings(*codes).items()]


ENDPOINTS = (
    Endpoint(
        "POST",
        "/explain",
        explain_price,
        gives=ExplainAnswer,
        takes=ExplainRequest,
        scope="explain",
        example={"request": EXAMPLE},
    ),
    Endpoint(
        "POST",
        "/simulate",
        simulate,
        gives=Simulation,
        takes=SimulateRequest,
        example={"request": EXAMPLE, "prices": [19.99, 24.99], "strategies": ["margin"]},
    ),
)
