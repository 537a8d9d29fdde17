"""Routes that describe what is served: products, their elasticity, the model, the strategies."""

import datetime as dt
import math
from collections import Counter
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import numpy as np
from flask import request
from numpy.typing import NDArray

from pricing.registry.version import (
    LoadedVersion,
    elasticity_knowledge,
    shares_by_grade,
    shown_competitor,
    shown_elasticities,
)
from serving.api import Endpoint, encode
from serving.follower import Served
from serving.problems import ProblemError
from serving.schemas import (
    Configuration,
    Elasticity,
    Follow,
    ModelInfo,
    Product,
    Products,
    Strategies,
    Strategy,
    SwitchedPrices,
)
from serving.service import Service


def products(service: Service) -> bytes:
    """Lists every product that the model knows, or those of one category."""
    served = service.follower.current.champion
    category = request.args.get("category")
    return _all_products(served) if category is None else _products(served, category)


def elasticity(service: Service, product_id: str) -> Elasticity:
    """Tells how demand for a product answers to its price, at list price, over a week without promotion or holiday."""
    served = service.follower.current.champion
    row = find_row(served, product_id)
    if served.version is None:
        raise ProblemError(HTTPStatus.NOT_FOUND, "no model version is served, so no product is known")
    if row is None:
        text = f"version {served.name} does not know product {product_id[:200]!r}"
        raise ProblemError(HTTPStatus.NOT_FOUND, text)
    return elasticity_of(served.name, served.version, row)


def model(service: Service) -> ModelInfo:
    """Describes what answers now, and how following goes."""
    current, now = service.follower.current, service.now()
    served, version = current.champion, current.champion.version
    admin = service.authenticator.may(request.environ, "admin")
    switches = current.control.switches.at(now)
    count = Counter(switch.action for switch in switches)
    return ModelInfo(
        model_version=served.name,
        **(_described(version, today=now.date(), addresses=admin) if version else {}),
        following=Follow.of(service.follower.following, addresses=admin),
        switches=SwitchedPrices(
            freezes=count["freeze"],
            overrides=count["override"],
            everything=next((switch.action for switch in switches if switch.scope == "all"), None),
        ),
        configuration=_configuration(service, served),
        keys={"needed": service.settings.keys_needed, "known": len(service.settings.keys)},
    )


def _configuration(service: Service, served: Served) -> Configuration:
    file, decision = service.settings.file.path, served.config.decision
    zone = service.settings.config.zone
    return Configuration(
        file=None if file is None else str(file),
        replaced=dict(served.settings.replaced),
        ignored=dict(served.settings.ignored),
        time_zone=None if zone is None else zone.key,
        strategy=decision.strategy,
        guardrails=decision.guardrails.model_dump(mode="json"),
    )


def strategies(service: Service) -> Strategies:
    """Lists the strategies that a request may name."""
    decision = service.follower.current.champion.config.decision
    found = []
    for name, settings in decision.strategies.items():
        description = (type(settings).__doc__ or "").strip().splitlines()[0]
        own = settings.model_dump(exclude_none=True)
        found.append(Strategy(name=name, default=name == decision.strategy, description=description, settings=own))
    return Strategies(strategies=found)


def find_row(served: Served, product_id: str) -> int | None:
    """The row of a product in the served version's arrays; None when it is not known there."""
    if served.version is None:
        return None
    ids = served.version.demand.product_ids
    row = int(np.searchsorted(ids, product_id))
    return row if row < len(ids) and ids[row] == product_id else None


def elasticity_of(name: str, version: LoadedVersion, row: int) -> Elasticity:
    """The elasticity of the product in a row of version `name`."""
    shown = {name: float(column[0]) for name, column in shown_elasticities(version.demand, np.array([row])).items()}
    parents, shared_by = version.demand.sharing()
    siblings = np.flatnonzero(parents == parents[row])
    return Elasticity(
        product_id=str(version.demand.product_ids[row]),
        elasticity=shown["elasticity"],
        low=shown["low"],
        high=shown["high"],
        source="model" if version.demand.own[siblings].any() else "category",  # of siblings one long history suffices
        parent_id=str(parents[row]) if len(siblings) > 1 else None,
        shared_by=int(shared_by[row]),
        **{name: column[0] for name, column in _known_of(version, np.array([row])).items()},
        list_price=round(float(version.facts.list_price[row]), 4),
        state_date=version.demand.state_date,
        competitor=shown_competitor(version.demand, row),
        model_version=name,
    )


def _described(version: LoadedVersion, *, today: dt.date, addresses: bool) -> dict[str, Any]:
    """What a version says of itself; where the rows behind it lay only if `addresses`."""
    demand = version.demand
    shares = shares_by_grade(demand, version.facts).items()
    return {
        "products": len(demand.product_ids),
        "state_date": demand.state_date,
        "state_age_days": (today - demand.state_date).days,
        "period": demand.period,
        "horizon": demand.horizon,
        "kind": version.meta["kind"],
        "weights": version.weights_hash,
        "grades": {name: round(share, 4) for name, share in shares},
        "holds_only": version.holds_only,
        "backtest": {name: figure for name, figure in version.backtest.items() if name != "data"},
        "data": {name: value for name, value in version.meta["data"].items() if addresses or name != "source"},
    }


def _known_of(version: LoadedVersion, rows: NDArray[np.integer]) -> dict[str, list[Any]]:
    """How well the elasticity of each product in `rows` is known, as columns."""
    columns = elasticity_knowledge(version.demand, rows, holds_only=version.holds_only)
    return {name: column.tolist() for name, column in columns.items()}


@lru_cache(maxsize=1)
def _all_products(served: Served) -> bytes:
    return _products(served, None)


def _products(served: Served, category: str | None) -> bytes:
    if served.version is None:
        return encode(Products(products=[]))
    facts, ids = served.version.facts, served.version.facts.product_ids
    rows = np.arange(len(ids)) if category is None else np.flatnonzero(facts.categories == category)
    shown = shown_elasticities(served.version.demand, rows)
    numbers = ("price", "list_price", "unit_cost", "tax_rate", "comp_price", "stock")
    columns = {
        "product_id": ids[rows].tolist(),
        "category": facts.categories[rows].tolist(),
        **{name: [_known(value) for value in getattr(facts, name)[rows].tolist()] for name in numbers},
        "comp_price_date": facts.comp_price_date[rows].tolist(),
        "cost_assumed": facts.cost_assumed[rows].tolist(),
        "elasticity": shown["elasticity"].tolist(),
        "elasticity_low": shown["low"].tolist(),
        "elasticity_high": shown["high"].tolist(),
        **_known_of(served.version, rows),
    }
    found = [Product(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]
    return encode(Products(products=found))


def _known(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


ENDPOINTS = (
    Endpoint(
        *("GET", "/products", products, Products),
        query={"category": ({"type": "string"}, "Only products of this category.")},
    ),
    Endpoint(
        *("GET", "/products/{product_id}/elasticity", elasticity, Elasticity),
        scope="explain",
        problems=(HTTPStatus.NOT_FOUND,),
    ),
    Endpoint("GET", "/model", model, ModelInfo),
    Endpoint("GET", "/strategies", strategies, Strategies),
)
