"""The control table of a PRICING_HOME, filled as persons would."""

import datetime as dt
from pathlib import Path

from pricing.decision.experiments import Experiment
from pricing.decision.switches import Control, Review, Switch
from pricing.objects import FolderStore
from pricing.registry.control import ControlRecord

NOW = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)


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
