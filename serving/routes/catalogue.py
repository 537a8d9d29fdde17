"""Routes that describe what is known: products, their elasticity, the strategies."""

import datetime as dt
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Literal

import numpy as np
from flask import request
from pydantic import BaseModel, Field

from pricing.arrays import Ints, place_in
from pricing.registry.knowledge import ShownCompetitor, shown_competitor, shown_elasticities
from pricing.registry.version import LoadedVersion
from serving.api import Endpoint, Service, encode
from serving.follower import Served
from serving.problems import refused


class Known(BaseModel):
    """How well an elasticity is known."""

    grade: Literal["tested", "own_history", "category", "prior_only"] = Field(description="What it was learnt from.")
    moves: int = Field(description="Price moves of persons in the history that it was learnt from.")
    prices: int = Field(description="Distinct prices ever charged.")
    doubts: str = Field(description="Codes of what speaks against it, joined by commas.")
    why: str = Field(description="Why the price stays, a sentence whose subject it is; empty where it may move by it.")


class Product(Known):
    """A product as the served version knows it."""

    product_id: str
    category: str
    price: float | None = Field(description="Price charged last.")
    list_price: float | None
    unit_cost: float | None = Field(description="Without tax.")
    tax_rate: float | None = Field(description="A fraction of the net price; null where it was never given.")
    comp_price: float | None = Field(description="The competitor's newest price known; null where none is.")
    comp_price_date: dt.date | None = Field(description="The day on which that was seen.")
    cost_assumed: bool = Field(description="Whether the configured margin stands in for a cost.")
    stock: float | None = Field(description="Units left when the history ended.")
    elasticity: float = Field(description="As /products/{product_id}/elasticity has it.")
    elasticity_low: float = Field(description="Low end of its 80 % interval.")
    elasticity_high: float = Field(description="High end of its 80 % interval.")


class Products(BaseModel):
    """Every product the served version knows, by id; empty without a version."""

    products: list[Product]


class Elasticity(Known):
    """The percentage by which demand changes when the price rises by one percent."""

    product_id: str
    elasticity: float
    low: float = Field(description="Low end of the 80 % interval.")
    high: float = Field(description="High end of the 80 % interval.")
    source: Literal["model", "category"] = Field(description="Whether own history or only its category is behind it.")
    parent_id: str | None = Field(description="The product of whose stores or channels it is one.")
    shared_by: int = Field(description="How many products, itself included, have this elasticity in common.")
    list_price: float = Field(description="The price at which it holds.")
    state_date: dt.date = Field(description="The day as of which it holds.")
    diversion: float = Field(description="Share of what it loses, in money, that its category's others win, 0 to 0.6.")
    competitor: ShownCompetitor = Field(description="What the competitor's price does to demand.")
    model_version: str


class Strategies(BaseModel):
    """The strategies that a request may name."""

    strategies: list[dict[str, Any]] = Field(description="name, default (whether it is), description, settings.")


def products(service: Service) -> bytes:
    """Lists every product that the model knows, or those of one category."""
    return _products(service.follower.current.champion, request.args.get("category"))


def elasticity(service: Service, product_id: str) -> Elasticity:
    """Tells how demand for a product answers to its price, at list price, over a week without promotion or holiday."""
    served = service.follower.current.champion
    found = known_elasticity(served, product_id)
    if found is None:
        raise refused("product_id", f"is not known to version {served.name}", status=HTTPStatus.NOT_FOUND)
    return found


def strategies(service: Service) -> Strategies:
    """Lists the strategies that a request may name."""
    decision = service.follower.current.champion.settings.config.decision
    return Strategies(
        strategies=[
            {
                "name": name,
                "default": name == decision.strategy,
                "description": (type(settings).__doc__ or "").strip().partition("\n")[0],
                "settings": settings.model_dump(exclude_none=True),
            }
            for name, settings in decision.strategies.items()
        ]
    )


def known_elasticity(served: Served, product_id: str) -> Elasticity | None:
    """The elasticity of a product; None where the served version does not know it."""
    if served.version is None:
        return None
    row = place_in(served.version.demand.product_ids, product_id)
    return None if row is None else elasticity_of(served.name, served.version, row)


def elasticity_of(name: str, version: LoadedVersion, row: int) -> Elasticity:
    """The elasticity of the product in a row of version `name`."""
    known = {name: column[0] for name, column in _known_of(version, np.array([row])).items()}
    demand = version.demand
    parents, shared_by = demand.sharing()
    siblings = np.flatnonzero(parents == parents[row])
    return Elasticity(
        product_id=str(demand.product_ids[row]),
        low=known.pop("elasticity_low"),
        high=known.pop("elasticity_high"),
        source="model" if demand.own[siblings].any() else "category",  # of siblings one long history suffices
        parent_id=str(parents[row]) if len(siblings) > 1 else None,
        shared_by=int(shared_by[row]),
        **known,
        list_price=round(float(version.facts.list_price[row]), 4),
        state_date=demand.state_date,
        diversion=round(float(demand.diversion[row]), 2),
        competitor=shown_competitor(demand, row),
        model_version=name,
    )


def _known_of(version: LoadedVersion, rows: Ints) -> dict[str, list[Any]]:
    """The elasticity of each product in `rows` and how well it is known, as columns."""
    columns = shown_elasticities(version.demand, rows, holds_only=version.holds_only)
    return {name: column.tolist() for name, column in columns.items()}


@lru_cache(maxsize=1)
def _products(served: Served, category: str | None) -> bytes:
    """The answer of /products, which is asked for again and again, as JSON."""
    if served.version is None:
        return encode(Products(products=[]))
    facts = served.version.facts
    rows = np.arange(len(facts.product_ids)) if category is None else np.flatnonzero(facts.categories == category)
    amounts = ("price", "list_price", "unit_cost", "tax_rate", "comp_price", "stock")
    columns = {
        "product_id": facts.product_ids[rows].tolist(),
        "category": facts.categories[rows].tolist(),
        **{name: np.round(getattr(facts, name)[rows].astype(float), 4).tolist() for name in amounts},
        "comp_price_date": facts.comp_price_date[rows].tolist(),
        "cost_assumed": facts.cost_assumed[rows].tolist(),
        **_known_of(served.version, rows),
    }
    products = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return encode(Products.model_validate({"products": products}))


ENDPOINTS = (
    Endpoint(
        "GET",
        "/products",
        products,
        gives=Products,
        query={"category": {"schema": {"type": "string"}, "description": "Only products of this category."}},
    ),
    Endpoint("GET", "/products/{product_id}/elasticity", elasticity, gives=Elasticity, scope="explain"),
    Endpoint("GET", "/strategies", strategies, gives=Strategies),
)
