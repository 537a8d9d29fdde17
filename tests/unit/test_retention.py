"""Old nightly copies go; what serves, what was trained and what a rollback may go to stays."""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from pricing.errors import RegistryError
from pricing.registry.audit import Audit, AuditEntry, Outcome
from pricing.registry.mlflow_registry import RegisteredVersion, Registry
from pricing.registry.retention import delete_outdated, outdated

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


def version(
    number: int, *, weights: str = "a", kind: str = "refresh", days: int = 200, alias: str = ""
) -> RegisteredVersion:
    made = int((NOW - dt.timedelta(days=days)).timestamp() * 1000)
    return RegisteredVersion(
        str(number), "run", made, aliases=(alias,) if alias else (), tags={"weights": weights, "kind": kind}
    )


def entry(to: int, *, outcome: Outcome = "done") -> AuditEntry:
    return AuditEntry("2025-01-01", "shop", "promote", outcome, "nightly", None, str(to))


def gone(versions: list[RegisteredVersion], entries: list[AuditEntry]) -> list[str]:
    return [one.number for one in outdated(versions, entries, before=NOW - dt.timedelta(days=180))]


def test_copies_older_than_kept_go_but_the_newest_of_its_weights() -> None:
    versions = [version(1, kind="train"), version(2), version(3), version(4, days=10), version(5, weights="b")]

    assert gone(versions, []) == ["2", "3"]


def test_a_version_that_an_alias_names_stays() -> None:
    assert gone([version(1, alias="previous"), version(2), version(3)], []) == ["2"]


def test_the_copy_with_which_weights_were_last_champion_stays() -> None:
    versions = [version(1, kind="train"), version(2), version(3), version(4), version(5)]
    record = [entry(2), entry(3), entry(4, outcome="refused"), entry(9)]

    assert gone(versions, record) == ["2", "4"]


class Shelf:
    """A registry of which one version cannot be deleted, and its record, whose lock is noted."""

    def __init__(self, *versions: RegisteredVersion, stuck: str = "") -> None:
        self.shelf = list(versions)
        self.stuck = stuck
        self.locked_at: list[int] = []

    def identity(self) -> str:
        return "pricing@1"

    def aliases(self) -> dict[str, str]:
        return {}

    def versions(self) -> list[RegisteredVersion]:
        return list(self.shelf)

    def delete(self, number: str) -> None:
        assert self.locked_at
        if number == self.stuck:
            raise RegistryError("the store is read-only")
        self.shelf = [one for one in self.shelf if one.number != number]

    @contextmanager
    def locked(self, registry: str) -> Iterator["Shelf"]:
        self.locked_at.append(len(self.shelf))
        yield self
        self.locked_at.append(-1)

    def entries(self) -> list[AuditEntry]:
        return []


def test_one_that_cannot_be_deleted_is_said_and_keeps_no_other(caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf(version(1), version(2), version(3), stuck="1")

    assert delete_outdated(cast("Registry", shelf), cast("Audit", shelf), before=NOW) == ["2"]

    assert [one.number for one in shelf.shelf] == ["1", "3"]
    assert shelf.locked_at == [3, -1, 3, -1]  # the lock is given back between two deletions
    assert "version 1 is not deleted: the store is read-only" in caplog.text
