from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.errors import RegistryError
from pricing.registry import CHAMPION, PREVIOUS
from pricing.registry.audit import Audit, AuditEntry
from pricing.registry.promotion import PromotionRequest, earlier_champion, move, record_manual_change, record_refusal
from tests.kit.promotions import FakeRegistry


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[Audit]:
    record = Audit(f"sqlite:///{tmp_path / 'pricing.db'}")
    yield record
    record.close()


def requested(to: str, expected: str | None = None, **changes: Any) -> PromotionRequest:
    values: dict[str, Any] = {
        "action": "promote",
        "to": to,
        "expected": expected,
        "who": "ann",
        "at": "2024-05-01T10:00:00+00:00",
        "why": "better",
        "gates": ({"name": "bias", "figure": float("nan"), "passed": True},),
        "run_id": "r1",
    }
    return PromotionRequest(**{**values, **changes})


def entries(audit: Audit) -> list[AuditEntry]:
    return audit.entries("pricing@1")


def test_a_promotion_moves_the_alias_and_leaves_a_record(audit: Audit) -> None:
    registry = FakeRegistry()

    move(registry, audit, requested("1"))

    assert registry.pointed == {CHAMPION: "1"}
    (entry,) = entries(audit)
    told = entry.sequence, entry.who, entry.why, entry.action, entry.outcome
    assert told == (1, "ann", "better", "promote", "done")
    assert (entry.from_version, entry.to_version, entry.weights, entry.run_id) == (None, "1", "weights-0", "r1")
    assert entry.gates == ({"name": "bias", "figure": None, "passed": True},)


def test_previous_is_the_last_champion_with_other_weights(audit: Audit) -> None:
    registry = FakeRegistry()

    for expected, to, previous in [
        (None, "1", None),
        ("1", "2", None),
        ("2", "4", "2"),
        ("4", "5", "2"),
        ("5", "7", "5"),
    ]:
        move(registry, audit, requested(to, expected))

        assert registry.pointed.get(PREVIOUS) == previous
        assert registry.pointed[CHAMPION] == to


@pytest.mark.parametrize(("to", "previous"), [("5", "1"), ("7", "4")], ids=["the same weights", "other weights"])
def test_a_move_mends_a_previous_that_one_killed_halfway_has_left_on_the_champion(
    audit: Audit, to: str, previous: str
) -> None:
    registry = FakeRegistry()
    move(registry, audit, requested("1"))
    move(registry, audit, requested("4", "1"))
    registry.pointed[PREVIOUS] = "4"  # as when the move to 7 had been killed before the champion's turn

    move(registry, audit, requested(to, "4"))

    assert registry.pointed == {CHAMPION: to, PREVIOUS: previous}


def test_the_earlier_champion_is_the_last_that_was_one_has_other_weights_and_is_still_there(audit: Audit) -> None:
    registry = FakeRegistry()
    for expected, to in [(None, "1"), ("1", "4"), ("4", "7"), ("7", "8")]:
        move(registry, audit, requested(to, expected))
    record_refusal(registry, audit, requested("2", "8"))
    versions = {version.number: version.weights for version in registry.versions()}

    assert earlier_champion(entries(audit), versions, weights="weights-2") == "4"
    assert earlier_champion(entries(audit), {**versions, "4": "weights-2"}, weights="weights-2") == "1"
    del versions["4"], versions["1"]
    assert earlier_champion(entries(audit), versions, weights="weights-2") is None


def test_a_wish_formed_against_another_champion_is_lost_and_recorded(audit: Audit) -> None:
    registry = FakeRegistry()
    move(registry, audit, requested("1"))
    move(registry, audit, requested("4", "1"))

    with pytest.raises(RegistryError, match="the champion is now version 4, not version 1"):
        move(registry, audit, requested("7", "1", who="bob"))

    assert registry.pointed == {CHAMPION: "4", PREVIOUS: "1"}
    assert [(entry.to_version, entry.outcome) for entry in entries(audit)] == [
        ("1", "done"),
        ("4", "done"),
        ("7", "lost"),
    ]


def test_a_refusal_is_recorded_and_moves_nothing(audit: Audit) -> None:
    registry = FakeRegistry()
    move(registry, audit, requested("1"))

    record_refusal(registry, audit, requested("4", "1"))

    assert registry.pointed == {CHAMPION: "1"}
    assert entries(audit)[-1].outcome == "refused"


@pytest.mark.parametrize(
    ("hand", "found"),
    [({CHAMPION: "7"}, "7"), ({}, None)],
    ids=["pointed elsewhere", "taken away or its version deleted"],
)
def test_an_alias_moved_by_hand_is_noticed_once_and_recorded(
    audit: Audit, hand: dict[str, str], found: str | None
) -> None:
    registry = FakeRegistry()
    move(registry, audit, requested("1"))
    registry.pointed = dict(hand)

    first = record_manual_change(registry, audit, who="bob", at="2024-05-02T10:00:00+00:00")
    second = record_manual_change(registry, audit, who="bob", at="2024-05-03T10:00:00+00:00")

    assert first is not None
    assert (first.action, first.from_version, first.to_version, first.who) == ("by_hand", "1", found, "unknown")
    assert "noticed by bob" in first.why
    assert second is None


def test_a_promotion_after_a_hand_made_move_records_both(audit: Audit) -> None:
    registry = FakeRegistry(pointed={CHAMPION: "3"})

    move(registry, audit, requested("4", "3"))

    assert [(entry.action, entry.from_version, entry.to_version) for entry in entries(audit)] == [
        ("by_hand", None, "3"),
        ("promote", "3", "4"),
    ]


@pytest.mark.parametrize("alias", [CHAMPION, PREVIOUS])
def test_a_registry_that_fails_halfway_leaves_aliases_and_record_as_they_were(audit: Audit, alias: str) -> None:
    registry = FakeRegistry()
    move(registry, audit, requested("1"))
    move(registry, audit, requested("4", "1"))
    before = dict(registry.pointed)
    registry.fails_at = alias

    with pytest.raises(RegistryError, match="does not answer"):
        move(registry, audit, requested("7", "4"))

    assert registry.pointed == before
    assert len(entries(audit)) == 2


def test_a_record_that_cannot_be_written_moves_nothing(audit: Audit, tmp_path: Path) -> None:
    registry = FakeRegistry()
    move(registry, audit, requested("1"))
    with sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'pricing.db'}").begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON pricing_promotions BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
        )

    with pytest.raises(RegistryError, match="disk is full"):
        move(registry, audit, requested("4", "1"))

    assert registry.pointed == {CHAMPION: "1"}


@pytest.mark.parametrize("statement", ["UPDATE pricing_promotions SET who = 'eve'", "DELETE FROM pricing_promotions"])
def test_the_record_can_only_be_appended_to(audit: Audit, tmp_path: Path, statement: str) -> None:
    move(FakeRegistry(), audit, requested("1"))
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'pricing.db'}")

    with pytest.raises(sqlalchemy.exc.DatabaseError, match="append-only"), engine.begin() as connection:
        connection.exec_driver_sql(statement)

    engine.dispose()
    assert entries(audit)[0].who == "ann"


@pytest.mark.parametrize(
    "url", ["nonsense", "sqlite:////dev/null/pricing.db", "postgresql://u:secret@127.0.0.1:9/db", "oracle9://x/y"]
)
def test_a_database_that_cannot_be_used_is_named_without_its_password(url: str) -> None:
    with pytest.raises(RegistryError) as caught:
        Audit(url)

    message = str(caught.value)
    assert "\n" not in message
    assert "secret" not in message
    assert "PRICING_DATABASE_URL" in message


@settings(max_examples=25)
@given(hops=st.lists(st.sampled_from("123456789"), min_size=1, max_size=6))
def test_the_record_always_ends_with_the_champion(tmp_path_factory: pytest.TempPathFactory, hops: list[str]) -> None:
    audit = Audit(f"sqlite:///{tmp_path_factory.mktemp('hops') / 'pricing.db'}")
    registry = FakeRegistry()

    for to in hops:
        move(registry, audit, requested(to, registry.pointed.get(CHAMPION)))

    with audit.locked("pricing@1") as locked:
        assert locked.champion() == registry.pointed[CHAMPION] == hops[-1]
        assert [entry.sequence for entry in locked.entries()] == list(range(1, len(hops) + 1))
    previous = registry.pointed.get(PREVIOUS)
    assert previous is None or registry.find(previous).weights != registry.find(CHAMPION).weights
    audit.close()
