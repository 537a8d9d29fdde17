"""Routes that explain prices and simulate others: /explain and /simulate. Nothing they price is logged."""

import contextlib
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, Field

from pricing.decision.explanation import Driver, Explanation, Told, explain, unit_digits
from pricing.decision.reasons import OF_GUARDRAILS, REASONS
from pricing.decision.request import Decision, Money, PriceRequest, Spread, Text
from pricing.decision.simulation import Simulation
from pricing.errors import RequestError
from pricing.registry.version import HOLDS_ONLY_MEANING, MEANINGS
from serving.api import Endpoint, body_of
from serving.follower import VERSION_ERRORS, Served
from serving.problems import from_request_error
from serving.routes.catalogue import elasticity_of, find_row
from serving.routes.pricing import EXAMPLE
from serving.schemas import Elasticity, Meaning, Strict
from serving.service import Service

NOTE = (
    "These figures explain the model, not the world: they say what moved the model's answer, not what would happen if "
    "something else were changed. Of a price the steps of its decision, of demand the terms of its sum; as printed, "
    "the effects add up to value − baseline_value."
)


Computed = TypeVar("Computed", Explanation, Simulation)


class ExplainRequest(Strict):
    """What to explain."""

    request: PriceRequest
    of: Literal["price", "demand"] = Field(
        default="price", description="demand: units over the requested period at the request's recommended price."
    )


class ExplainAnswer(BaseModel):
    """Where a price, or demand, comes from."""

    note: str = NOTE
    of: Literal["price", "demand"]
    decision: Decision
    summary: str = Field(description="From where to where, in a sentence.")
    value: float = Field(description="The price, or the units over the requested period.")
    baseline_value: float = Field(
        description="What it starts from: the price charged now (under a draw, that at planning), or the units of a "
        "mean period at the usual price."
    )
    drivers: list[Driver] = Field(description="In the order of the decision, or of the sum.")
    guardrails: list[Meaning] = Field(description="Guardrails that bind or gave way.")
    reasons: list[Meaning]
    elasticity: Elasticity | None = Field(description="Null when the model does not know the product.")
    grade: Meaning | None = Field(description="How well that elasticity is known, and what follows from it.")


class SimulateRequest(Strict):
    """What to try: prices, strategies, or both; every configured strategy when neither is given."""

    request: PriceRequest
    prices: Annotated[list[Money], Field(default_factory=list, max_length=200)]
    strategies: Annotated[list[Text], Field(default_factory=list, max_length=50)]


def explain_price(service: Service) -> ExplainAnswer:
    """Explains why a price or demand is what it is, driver by driver."""
    asked, now = body_of(ExplainRequest), service.now()
    control = service.follower.current.control

    def explained(served: Served) -> Explanation:
        return explain(
            asked.request,
            served.pricer,
            today=now.date(),
            quantity=asked.of,
            experiments=control.experiments,
            switches=control.switches.at(now),
            told=_told(served, asked.request.product_id),
        )

    served, explanation = _as_priced(service, asked.request.product_id, explained)
    return _answer(explanation, served, asked)


def simulate(service: Service) -> Simulation:
    """Simulates prices and strategies: demand, revenue, margin and the risk of running out."""
    asked, now = body_of(SimulateRequest), service.now()
    control = service.follower.current.control

    def simulated(served: Served) -> Simulation:
        return served.pricer.simulate(asked.request, today=now.date(), prices=asked.prices, strategies=asked.strategies)

    served, simulation = _as_priced(service, asked.request.product_id, simulated)
    experiment = control.experiments.of(asked.request.product_id, simulation.date)
    switch = served.pricer.switch_of(asked.request, control.switches.at(now))
    told = {
        "experiment": experiment.label if experiment is not None and switch is None else None,
        "switch": None if switch is None else switch.action,
    }
    return simulation.model_copy(update=told)


def _as_priced(service: Service, product_id: str, compute: Callable[[Served], Computed]) -> tuple[Served, Computed]:
    """Applies `compute` to the version that prices a product; to the champion where an arm fails.

    Raises:
        ProblemError: The request cannot be priced.
    """
    current = service.follower.current
    served = service.version_for(product_id, service.now().date(), current=current)
    try:
        if served is not current.champion:
            with contextlib.suppress(*VERSION_ERRORS):
                return served, compute(served)
        return current.champion, compute(current.champion)
    except RequestError as error:
        raise from_request_error(error) from error


def _told(served: Served, product_id: str) -> Told:
    """What the served version tells of a product's demand."""
    row, version = find_row(served, product_id), served.version
    if row is None or version is None:
        return Told()
    found = elasticity_of(served.name, version, row)
    return Told(elasticity=found.elasticity, competitor=found.competitor.words if found.competitor else "")


def _answer(explanation: Explanation, served: Served, asked: ExplainRequest) -> ExplainAnswer:
    reasons = [Meaning(code=code, meaning=REASONS[code]) for code in explanation.decision.decision.reasons]
    row, version = find_row(served, asked.request.product_id), served.version
    elasticity = None if row is None or version is None else elasticity_of(served.name, version, row)
    return ExplainAnswer(
        of=explanation.quantity,
        decision=_rounded(explanation.decision.decision),
        summary=explanation.summary,
        value=explanation.value,
        baseline_value=explanation.baseline_value,
        drivers=list(explanation.drivers),
        guardrails=[meaning for meaning in reasons if meaning.code in OF_GUARDRAILS],
        reasons=reasons,
        elasticity=elasticity,
        grade=_grade(elasticity, holds_only=version is not None and version.holds_only) if elasticity else None,
    )


def _rounded(decision: Decision) -> Decision:
    """The decision with its units and its margin as a person reads them."""
    units, margin = decision.expected_units, decision.expected_margin
    gain = decision.expected_gain and Spread(**{key: round(one, 2) for key, one in decision.expected_gain})
    units_shown = round(units, unit_digits(units))
    shown = {"expected_units": units_shown, "expected_margin": round(margin, 2), "expected_gain": gain}
    return decision.model_copy(update=shown)


def _grade(elasticity: Elasticity, *, holds_only: bool) -> Meaning:
    """The grade of an elasticity in words, with a note where the version holds all prices."""
    meaning = MEANINGS[elasticity.grade]
    return Meaning(code=elasticity.grade, meaning=f"{meaning}; {HOLDS_ONLY_MEANING}" if holds_only else meaning)


ENDPOINTS = (
    Endpoint(
        *("POST", "/explain", explain_price, ExplainAnswer, ExplainRequest),
        scope="explain",
        problems=(HTTPStatus.NOT_FOUND,),
        example={"request": EXAMPLE},
    ),
    Endpoint(
        *("POST", "/simulate", simulate, Simulation, SimulateRequest),
        problems=(HTTPStatus.NOT_FOUND,),
        example={"request": EXAMPLE, "prices": [19.99, 24.99], "strategies": ["margin", "clearance"]},
    ),
)
