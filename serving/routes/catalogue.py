"""Routes that describe what is served: products, their elasticity, the model, the strategies."""

import datetime as dt
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
from serving import schemas
from serving.api import Endpoint, Service, encode
from serving.follower import Served
from serving.problems import refused
from serving.schemas import Elasticity


def products(service: Service) -> bytes:
    """Lists every product that the model knows, or those of one category."""
    served = service.follower.current.champion
    category = request.args.get("category")
    return _all_products(served) if category is None else _products(served, category)


def elasticity(service: Service, product_id: str) -> Elasticity:
    """Tells how demand for a product answers to its price, at list price, over a week without promotion or holiday."""
    served = service.follower.current.champion
    found = known_elasticity(served, product_id)
    if found is None:
        raise refused("product_id", f"is not known to version {served.name}", status=HTTPStatus.NOT_FOUND)
    return found


def model(service: Service) -> schemas.ModelInfo:
    """Describes what answers now, and how following goes."""
    current, now, settings = service.follower.current, service.now(), service.settings
    served, version = current.champion, current.champion.version
    admin = service.authenticator.may(request.environ, "admin")
    switches = current.control.switches.at(now)
    count = Counter(switch.action for switch in switches)
    return schemas.ModelInfo(
        model_version=served.name,
        **(_described(version, today=now.date(), addresses=admin) if version else {}),
        following=schemas.Follow.of(service.follower.following, addresses=admin),
        switches=schemas.SwitchedPrices(
            freezes=count["freeze"],
            overrides=count["override"],
            everything=next((switch.action for switch in switches if switch.scope == "all"), None),
        ),
        configuration=schemas.Configuration(
            file=str(settings.file.path) if settings.file.path else None,
            replaced=dict(served.settings.replaced),
            ignored=dict(served.settings.ignored),
            time_zone=settings.config.zone.key if settings.config.zone else None,
            strategy=served.config.decision.strategy,
            guardrails=served.config.decision.guardrails.model_dump(mode="json"),
        ),
        keys={"needed": settings.keys_needed, "known": len(settings.keys)},
    )


def strategies(service: Service) -> schemas.Strategies:
    """Lists the strategies that a request may name."""
    decision = service.follower.current.champion.config.decision
    return schemas.Strategies(
        strategies=[
            schemas.Strategy(
                name=name,
                default=name == decision.strategy,
                description=(type(settings).__doc__ or "").strip().partition("\n")[0],
                settings=settings.model_dump(exclude_none=True),
            )
            for name, settings in decision.strategies.items()
        ]
    )


def known_elasticity(served: Served, product_id: str) -> Elasticity | None:
    """The elasticity of a product; None where the served version does not know it."""
    if served.version is None:
        return None
    ids = served.version.demand.product_ids
    row = int(np.searchsorted(ids, product_id))
    known = row < len(ids) and ids[row] == product_id
    return elasticity_of(served.name, served.version, row) if known else None


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
    found = []
    if served.version is not None:
        facts = served.version.facts
        rows = np.arange(len(facts.product_ids)) if category is None else np.flatnonzero(facts.categories == category)
        shown = shown_elasticities(served.version.demand, rows)
        names = ("price", "list_price", "unit_cost", "tax_rate", "comp_price", "stock")
        columns = {
            "product_id": facts.product_ids[rows].tolist(),
            "category": facts.categories[rows].tolist(),
            **{name: np.round(getattr(facts, name)[rows].astype(float), 4).tolist() for name in names},
            "comp_price_date": facts.comp_price_date[rows].tolist(),
            "cost_assumed": facts.cost_assumed[rows].tolist(),
            "elasticity": shown["elasticity"].tolist(),
            "elasticity_low": shown["low"].tolist(),
            "elasticity_high": shown["high"].tolist(),
            **_known_of(served.version, rows),
        }
        found = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return encode(schemas.Products.model_validate({"products": found}))


ENDPOINTS = (
    Endpoint(
        *("GET", "/products", products, schemas.Products),
        query={"category": ({"type": "string"}, "Only products of this category.")},
    ),
    Endpoint(
        *("GET", "/products/{product_id}/elasticity", elasticity, Elasticity),
        scope="explain",
        problems=(HTTPStatus.NOT_FOUND,),
    ),
    Endpoint("GET", "/model", model, schemas.ModelInfo),
    Endpoint("GET", "/strategies", strategies, schemas.Strategies),
)
