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
from tests.kit.promotions import asked

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


def version(
    number: int, *, weights: str = "a", kind: str = "refresh", days: int = 200, alias: str = ""
) -> RegisteredVersion:
    made = int((NOW - dt.timedelta(days=days)).timestamp() * 1000)
    return RegisteredVersion(
        str(number), "run", made, aliases=(alias,) if alias else (), tags={"weights": weights, "kind": kind}
    )


def entry(to: int, *, outcome: Outcome = "done") -> AuditEntry:
    return asked(str(to), outcome=outcome)


TRAINED = version(1, kind="train")


@pytest.mark.parametrize(
    ("versions", "record", "gone"),
    [
        ([TRAINED, version(2), version(3), version(4, days=10), version(5, weights="b")], [], ["2", "3"]),
        ([version(1, alias="previous"), version(2), version(3)], [], ["2"]),
        (
            [TRAINED, version(2), version(3), version(4), version(5)],
            [entry(2), entry(3), entry(4, outcome="refused"), entry(9)],
            ["2", "4"],
        ),
    ],
    ids=["but the newest of its weights", "but what an alias names", "but the copy that was last champion"],
)
def test_copies_older_than_kept_go(
    versions: list[RegisteredVersion], record: list[AuditEntry], gone: list[str]
) -> None:
    assert [one.number for one in outdated(versions, record, before=NOW - dt.timedelta(days=180))] == gone


class Shelf:
    """A registry of which version 1 cannot be deleted, and its record, whose lock is noted."""

    def __init__(self, *versions: RegisteredVersion) -> None:
        self.shelf = list(versions)
        self.locked_at: list[int] = []

    def identity(self) -> str:
        return "pricing@1"

    def versions(self) -> list[RegisteredVersion]:
        return list(self.shelf)

    def delete(self, number: str) -> None:
        assert self.locked_at
        if number == "1":
            raise RegistryError("the store is read-only")
        self.shelf = [one for one in self.shelf if one.number != number]

    @contextmanager
    def turn(self, registry: str) -> Iterator["Shelf"]:
        self.locked_at.append(len(self.shelf))
        yield self
        self.locked_at.append(-1)

    def entries(self) -> list[AuditEntry]:
        return []


def test_one_that_cannot_be_deleted_is_said_and_keeps_no_other(caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf(version(1), version(2), version(3))

    assert delete_outdated(cast("Registry", shelf), cast("Audit", shelf), before=NOW) == ["2"]

    assert [one.number for one in shelf.shelf] == ["1", "3"]
    assert shelf.locked_at == [3, -1, 3, -1]  # the lock is given back between two deletions
    assert "version 1" in caplog.text
