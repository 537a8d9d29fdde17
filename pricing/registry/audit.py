"""The append-only promotion record: what was in production when, by whom and why. Its lock orders promotions."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import JSON, Boolean, Column, String

from pricing.registry.database import Ledger, LedgerEntry, append_only

Action = Literal["promote", "rollback", "anchor", "by_hand"]
Outcome = Literal["done", "refused", "lost"]

_RECORD = append_only(
    "pricing_promotions",
    "registry",
    Column("action", String(20), nullable=False),
    Column("outcome", String(20), nullable=False),
    Column("why", String, nullable=False),
    Column("forced", Boolean, nullable=False),
    Column("from_version", String(40)),
    Column("to_version", String(40)),
    Column("weights", String(80)),
    Column("run_id", String(80)),
    Column("gates", JSON, nullable=False),
)


@dataclass(frozen=True, kw_only=True)
class AuditEntry(LedgerEntry):
    """One line of the record, or a change of the champion that is asked for.

    "refused" is the gates' word; "lost": `from_version` was no longer champion. `to_version` becomes champion (None:
    the alias was removed), and has these `weights`; `forced` overrules a gate. `gates` are verdicts as JSON.
    """

    action: Action
    why: str
    from_version: str | None
    to_version: str | None
    outcome: Outcome = "done"
    weights: str | None = None
    forced: bool = False
    run_id: str | None = None
    gates: list[dict[str, Any]] = field(default_factory=list)

    def words(self) -> str:
        """Such as "version 2 was rolled back from by ann at 2024-05-01T10:00:00+00:00: complaints"."""
        return f"version {self.from_version} was rolled back from by {self.who} at {self.at}: {self.why}"


class Audit(Ledger[AuditEntry]):
    """The promotion record in a database, of each registry by its identity."""

    def __init__(self, url: str) -> None:
        super().__init__(url, _RECORD, AuditEntry)


def champion_of(entries: Sequence[AuditEntry]) -> str | None:
    """The champion after the last entry with outcome "done"."""
    return next((entry.to_version for entry in reversed(entries) if entry.outcome == "done"), None)
