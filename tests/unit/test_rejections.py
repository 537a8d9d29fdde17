from collections.abc import Iterator
from pathlib import Path

import pytest

from pricing.registry import CHALLENGER
from pricing.registry.audit import Audit, AuditEntry
from pricing.registry.promotion import PromotionRequest, move, rejected, rejections
from tests.kit.promotions import FakeRegistry

WEIGHTS = {"1": "a", "2": "b", "3": "b", "4": "c"}


def entry(action: str, before: str | None, after: str | None, *, outcome: str = "done") -> AuditEntry:
    return AuditEntry(
        at="2024-05-01",
        who="ann",
        action=action,  # type: ignore[arg-type]
        outcome=outcome,  # type: ignore[arg-type]
        why="complaints",
        from_version=before,
        to_version=after,
        weights=WEIGHTS.get(after or ""),
    )


def rejects(*entries: AuditEntry) -> list[str]:
    return sorted(rejections(entries, WEIGHTS))


def test_a_rollback_to_other_weights_rejects_every_version_with_those_that_it_left() -> None:
    assert rejects(entry("promote", None, "1"), entry("promote", "1", "2"), entry("rollback", "2", "1")) == ["2", "3"]


def test_a_rollback_to_the_same_weights_rejects_the_states_alone() -> None:
    assert rejects(entry("promote", None, "2"), entry("promote", "2", "3"), entry("rollback", "3", "2")) == ["3"]


@pytest.mark.parametrize("action", ["promote", "rollback", "by_hand"])
def test_a_version_that_became_champion_again_is_rejected_no_more(action: str) -> None:
    assert "2" not in rejects(entry("promote", "1", "2"), entry("rollback", "2", "1"), entry(action, "1", "2"))


def test_what_was_refused_or_lost_rejects_nothing_and_forgives_nothing() -> None:
    done = entry("promote", "1", "2"), entry("rollback", "2", "1")

    assert rejects(entry("rollback", "2", "1", outcome="refused")) == []
    assert rejects(*done, entry("promote", "1", "2", outcome="refused")) == ["2", "3"]
    assert rejects(*done, entry("promote", "1", "2", outcome="lost")) == ["2", "3"]


def test_a_version_whose_left_champion_was_deleted_is_rejected_by_the_recorded_weights() -> None:
    done = entry("promote", "1", "2"), entry("rollback", "2", "1")

    assert "3" in rejections(done, {"1": "a", "3": "b"})


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[Audit]:
    record = Audit(f"sqlite:///{tmp_path / 'pricing.db'}")
    yield record
    record.close()


def requested(action: str, to: str, expected: str | None) -> PromotionRequest:
    return PromotionRequest(action=action, to=to, expected=expected, who="ann", at="2024-05-01", why="complaints")  # type: ignore[arg-type]


def test_a_rollback_takes_the_alias_challenger_from_the_weights_that_it_leaves(
    audit: Audit,
) -> None:
    registry = FakeRegistry()
    move(registry, audit, requested("promote", "1", None))
    move(registry, audit, requested("promote", "4", "1"))
    registry.pointed[CHALLENGER] = "5"  # a refresh of version 4

    move(registry, audit, requested("rollback", "1", "4"))

    assert CHALLENGER not in registry.pointed
    assert rejected(registry, audit, registry.find("6")) is not None
    assert rejected(registry, audit, registry.find("7")) is None
    move(registry, audit, requested("promote", "4", "1"))
    assert rejected(registry, audit, registry.find("6")) is None


def test_a_rollback_leaves_a_challenger_with_other_weights_alone(audit: Audit) -> None:
    registry = FakeRegistry()
    move(registry, audit, requested("promote", "1", None))
    move(registry, audit, requested("promote", "4", "1"))
    registry.pointed[CHALLENGER] = "7"

    move(registry, audit, requested("rollback", "1", "4"))

    assert registry.pointed[CHALLENGER] == "7"
