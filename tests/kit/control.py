"""The control table of a PRICING_HOME, filled as persons would."""

import datetime as dt
from pathlib import Path
from typing import Any

from pricing.decision.experiments import Experiment
from pricing.decision.switches import Control, Review, Switch
from pricing.objects import FolderStore
from pricing.registry.control import ControlRecord

NIGHT = dt.datetime(2026, 3, 2, 3, tzinfo=dt.UTC)
NOW = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
SAID: dict[str, Any] = {"reason": "wrong costs", "by": "ops", "at": NOW}


def freeze(scope: Any = "all", name: str = "", **more: Any) -> Switch:
    """A freeze of everything, of a category or of a product."""
    return Switch(action="freeze", scope=scope, name=name, **SAID | more)


def override(price: float, name: str, **more: Any) -> Switch:
    """A price that a person gave a product for an hour, unless it is said otherwise."""
    said = SAID | {"scope": "product"} | more
    return Switch(action="override", name=name, price=price, **{"until": said["at"] + dt.timedelta(hours=1)} | said)


def approve(prices: dict[str, float], **more: Any) -> Review:
    return Review(verdict="approve", prices=prices, **SAID | more)


def table(home: Path) -> ControlRecord:
    store = FolderStore(home.resolve() / "published")
    return ControlRecord(f"sqlite:///{home.resolve()}/pricing.db", model="pricing", store=store)


def put_control(home: Path, *entries: Switch | Review | Experiment) -> None:
    record = table(home)
    for one in entries:
        if isinstance(one, Switch | Review):
            record.append(one)
        else:
            record.append_experiment(one.name, lambda known, one=one: known.plus(one), who="ann", at=NOW)  # type: ignore[misc]


def read_control(home: Path) -> Control:
    return table(home).control()
