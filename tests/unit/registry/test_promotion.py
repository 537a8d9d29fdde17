"""Who is champion, in what order, and on whose word: the aliases and the record never part."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from hypothesis import given, settings
from hypothesis import strategies as st

from pricing.errors import RegistryError
from pricing.registry import CHALLENGER, CHAMPION, PREVIOUS
from pricing.registry.gates import failed
from pricing.registry.promotion import (
    REJECTED,
    Audit,
    AuditEntry,
    champion_of,
    earlier_champion,
    move,
    record_manual_change,
    record_refusal,
    rejection_gates,
    rejections,
    weights_of,
)
from tests.kit.promotions import FakeRegistry, asked

WEIGHTS = {"1": "a", "2": "b", "3": "b", "4": "c"}


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    return Audit(f"sqlite:///{tmp_path / 'pricing.db'}")


def entries(audit: Audit) -> list[AuditEntry]:
    return audit.entries("pricing@1")


def moved(audit: Audit, *numbers: str) -> FakeRegistry:
    """A registry in which these became champion in turn."""
    registry = FakeRegistry()
    for number in numbers:
        move(registry, audit, asked(number, registry.pointed.get(CHAMPION)))
    return registry


def test_a_promotion_moves_the_alias_and_leaves_a_record(audit: Audit) -> None:
    registry = FakeRegistry()

    move(registry, audit, asked("1", gates=[{"name": "bias", "passed": True}], run_id="r1"))

    assert registry.pointed == {CHAMPION: "1"}
    assert entries(audit) == [
        asked("1", gates=[{"name": "bias", "passed": True}], run_id="r1", weights="weights-0", sequence=1)
    ]


def test_previous_is_the_last_champion_with_other_weights(audit: Audit) -> None:
    registry = FakeRegistry()

    for to, previous in [("1", None), ("2", None), ("4", "2"), ("5", "2"), ("7", "5")]:
        move(registry, audit, asked(to, registry.pointed.get(CHAMPION)))

        assert (registry.pointed[CHAMPION], registry.pointed.get(PREVIOUS)) == (to, previous)


def test_the_earlier_champion_is_the_last_that_was_one_has_other_weights_and_is_still_there(audit: Audit) -> None:
    registry = moved(audit, "1", "4", "7", "8")
    record_refusal(registry, audit, asked("2", "8"))
    versions = weights_of(registry)

    assert earlier_champion(entries(audit), versions, weights="weights-2") == "4"
    del versions["4"], versions["1"]
    assert earlier_champion(entries(audit), versions, weights="weights-2") is None


def test_a_wish_formed_against_another_champion_is_lost_and_a_refused_one_moves_nothing(audit: Audit) -> None:
    registry = moved(audit, "1", "4")

    with pytest.raises(RegistryError):
        move(registry, audit, asked("7", "1"))
    record_refusal(registry, audit, asked("8", "4"))

    assert registry.pointed == {CHAMPION: "4", PREVIOUS: "1"}
    assert [(entry.to_version, entry.outcome) for entry in entries(audit)] == [
        ("1", "done"), ("4", "done"), ("7", "lost"), ("8", "refused"),
    ]  # fmt: skip


@pytest.mark.parametrize("hand", [{CHAMPION: "7"}, {}], ids=["pointed elsewhere", "taken away or its version deleted"])
def test_an_alias_moved_by_hand_is_noticed_once_and_recorded(audit: Audit, hand: dict[str, str]) -> None:
    registry = moved(audit, "1")
    registry.pointed = dict(hand)

    first, second = (record_manual_change(registry, audit, who="bob", at="2024-05-02") for _ in range(2))

    assert first is not None
    found = (first.action, first.from_version, first.to_version, first.who)
    assert found == ("by_hand", "1", hand.get(CHAMPION), "unknown")
    assert second is None
    move(registry, audit, asked("4", hand.get(CHAMPION)))
    assert [entry.action for entry in entries(audit)] == ["promote", "by_hand", "promote"]


@pytest.mark.parametrize("alias", [CHAMPION, PREVIOUS])
def test_a_registry_that_fails_halfway_leaves_aliases_and_record_as_they_were(audit: Audit, alias: str) -> None:
    registry = moved(audit, "1", "4")
    before, registry.fails_at = dict(registry.pointed), alias

    with pytest.raises(RegistryError, match="does not answer"):
        move(registry, audit, asked("7", "4"))

    assert registry.pointed == before
    assert len(entries(audit)) == 2


def test_a_record_that_cannot_be_written_moves_nothing_and_can_only_be_appended_to(
    audit: Audit, tmp_path: Path
) -> None:
    registry = moved(audit, "1")
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'pricing.db'}")
    for statement in ("UPDATE pricing_promotions SET who = 'eve'", "DELETE FROM pricing_promotions"):
        with pytest.raises(sqlalchemy.exc.DatabaseError, match="append-only"), engine.begin() as connection:
            connection.exec_driver_sql(statement)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON pricing_promotions BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
        )

    with pytest.raises(RegistryError, match="disk is full"):
        move(registry, audit, asked("4", "1"))

    engine.dispose()
    assert registry.pointed == {CHAMPION: "1"}
    assert [entry.who for entry in entries(audit)] == ["ann"]


@pytest.mark.parametrize("url", ["x", "sqlite:////dev/null/a", "postgresql://u:secret@127.0.0.1:9", "postgres://a..b"])
def test_a_database_that_cannot_be_used_is_named_without_its_password(url: str) -> None:
    with pytest.raises(RegistryError, match="PRICING_DATABASE_URL") as caught:
        move(FakeRegistry(), Audit(url), asked("1"))

    assert "secret" not in str(caught.value)


@settings(max_examples=25)
@given(hops=st.lists(st.sampled_from("123456789"), min_size=1, max_size=6))
def test_the_record_always_ends_with_the_champion(tmp_path_factory: pytest.TempPathFactory, hops: list[str]) -> None:
    audit = Audit(f"sqlite:///{tmp_path_factory.mktemp('hops') / 'pricing.db'}")

    registry = moved(audit, *hops)

    assert champion_of(entries(audit)) == registry.pointed[CHAMPION] == hops[-1]
    assert [entry.sequence for entry in entries(audit)] == list(range(1, len(hops) + 1))
    previous = registry.pointed.get(PREVIOUS)
    assert previous is None or registry.find(previous).weights != registry.find(CHAMPION).weights


def entry(action: str, before: str | None, after: str | None, **more: Any) -> AuditEntry:
    return asked(after or "", before, action=action, weights=WEIGHTS.get(after or ""), **more)


DONE = entry("promote", "1", "2"), entry("rollback", "2", "1")


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (DONE, ["2", "3"]),  # every version with the weights that it left
        ([entry("promote", None, "2"), entry("promote", "2", "3"), entry("rollback", "3", "2")], ["3"]),  # its states
        ([*DONE, entry("promote", "1", "2")], []),  # champion again
        ([*DONE, entry("rollback", "1", "2")], ["1"]),
        ([*DONE, entry("by_hand", "1", "2")], []),
        ([entry("rollback", "2", "1", outcome="refused")], []),
        ([*DONE, entry("promote", "1", "2", outcome="refused")], ["2", "3"]),
        ([*DONE, entry("promote", "1", "2", outcome="lost")], ["2", "3"]),
    ],
)
def test_a_rollback_rejects_what_it_leaves_until_that_is_champion_again(
    record: list[AuditEntry], found: list[str]
) -> None:
    assert sorted(rejections(record, WEIGHTS)) == found


def test_the_versions_of_weights_that_were_left_are_rejected_also_when_that_champion_is_deleted() -> None:
    assert "3" in rejections(DONE, {"1": "a", "3": "b"})


@pytest.mark.parametrize(("waiting", "stays"), [("5", False), ("7", True)])
def test_a_rollback_takes_the_alias_challenger_from_the_weights_that_it_leaves(
    audit: Audit, waiting: str, stays: bool
) -> None:
    registry = moved(audit, "1", "4")
    registry.pointed[CHALLENGER] = waiting  # 5 is a refresh of version 4

    move(registry, audit, asked("1", "4", action="rollback"))

    assert (CHALLENGER in registry.pointed) is stays
    assert [one.name for one in failed(rejection_gates(registry, audit, registry.find("6")))] == [REJECTED]
    assert rejection_gates(registry, audit, registry.find("7")) == []
    move(registry, audit, asked("4", "1"))
    assert rejection_gates(registry, audit, registry.find("6")) == []


@pytest.mark.parametrize(("to", "previous"), [("5", "1"), ("7", "4")], ids=["the same weights", "other weights"])
def test_a_move_mends_a_previous_that_one_killed_halfway_has_left_on_the_champion(
    audit: Audit, to: str, previous: str
) -> None:
    registry = moved(audit, "1", "4")
    registry.pointed[PREVIOUS] = "4"  # as when the move to 7 had been killed before the champion's turn

    move(registry, audit, asked(to, "4"))

    assert registry.pointed == {CHAMPION: to, PREVIOUS: previous}
