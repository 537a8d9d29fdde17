"""What several tests of monitoring look at: decisions of a month that met their sales."""

import datetime as dt

import pytest

from monitoring.evaluate import Evaluation, evaluate_decisions
from monitoring.tracking import ChampionRecord
from pricing.config import load_config
from pricing.data.panel import Panel
from tests.kit.monitoring_world import PROMISED, World, build, entries, joined

LATER = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)


@pytest.fixture(scope="session")
def world() -> tuple[Panel, object]:
    return build(World(products=24, days=120))


@pytest.fixture(scope="session")
def seen(world: tuple[Panel, object]) -> Evaluation:
    panel, truth = world
    found = joined(entries(panel, truth, days=range(60, 120)), panel, now=LATER)
    return evaluate_decisions(panel, found, champion=ChampionRecord("3", PROMISED), config=load_config().monitoring)
