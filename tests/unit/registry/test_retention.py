"""Old nightly copies go; what serves, what was trained and what a rollback may go to stays."""

import datetime as dt
from unittest.mock import MagicMock, Mock

import pytest

from pricing.errors import RegistryError
from pricing.registry.mlflow_registry import RegisteredVersion
from pricing.registry.promotion import AuditEntry, Outcome
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


def test_one_that_cannot_be_deleted_keeps_no_other_and_each_is_deleted_under_the_records_lock() -> None:
    turn = Mock(entries=Mock(return_value=[]))
    audit = Mock(turn=Mock(return_value=MagicMock(__enter__=Mock(return_value=turn))))
    shelf = [version(1), version(2), version(3)]
    registry = Mock(versions=lambda: list(shelf))

    def delete(number: str) -> None:
        assert audit.turn.return_value.__exit__.call_count < audit.turn.call_count
        if number == "1":
            raise RegistryError("the store is read-only")
        shelf[:] = [one for one in shelf if one.number != number]

    registry.delete = delete

    assert delete_outdated(registry, audit, before=NOW) == ["2"]
    assert [one.number for one in shelf] == ["1", "3"]
