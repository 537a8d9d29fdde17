"""Promotions at once, in both databases that hold the record."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy

from pricing.errors import RegistryError
from pricing.registry import CHAMPION
from pricing.registry.promotion import Audit, move, record_refusal
from tests.kit.promotions import FakeRegistry, asked

RACERS, ROUNDS = 4, 12


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_of_promotions_at_once_one_wins_and_none_is_lost(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/pricing.db" if database == "sqlite" else request.getfixturevalue("postgres")
    registry = FakeRegistry()

    def race(racer: int) -> Counter[str]:
        audit, rng = Audit(url), random.Random(racer)
        told = Counter[str]()
        for _ in range(ROUNDS):
            expected = registry.aliases().get(CHAMPION)
            to = rng.choice([number for number in "123456789" if number != expected])
            try:
                move(registry, audit, asked(to, expected))
                told["done"] += 1
            except RegistryError as error:
                told["lost" if "run it again" in str(error) else str(error)] += 1
        return told

    with ThreadPoolExecutor(RACERS) as pool:
        told = sum(pool.map(race, range(RACERS)), Counter[str]())

    entries = Audit(url).entries("pricing@1")
    done = [entry for entry in entries if entry.outcome == "done"]
    assert [entry.sequence for entry in entries] == list(range(1, RACERS * ROUNDS + 1)), "each attempt is recorded"
    assert all(entry.action == "promote" for entry in entries), "no move looks as if it were made by hand"
    assert told == Counter(entry.outcome for entry in entries), "each was told what the record says"
    assert [entry.from_version for entry in done] == [None, *(entry.to_version for entry in done[:-1])]
    assert registry.aliases()[CHAMPION] == done[-1].to_version


@pytest.mark.parametrize("change", ["UPDATE {} SET who = 'eve'", "DELETE FROM {}", "TRUNCATE {}"])
def test_postgres_too_only_appends(postgres: str, change: str) -> None:
    record_refusal(FakeRegistry(), Audit(postgres), asked("1"))
    engine = sqlalchemy.create_engine(postgres)

    with pytest.raises(sqlalchemy.exc.DatabaseError, match="append-only"), engine.begin() as connection:
        connection.exec_driver_sql(change.format("pricing_promotions"))
    engine.dispose()
