"""Change the champion, under an append-only record of what was in production, by whom and why."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import JSON, Boolean, Column, String

from pricing.errors import RegistryError
from pricing.registry import CHALLENGER, CHAMPION, PREVIOUS
from pricing.registry.database import Ledger, LedgerEntry, Turn, append_only
from pricing.registry.gates import Verdict

if TYPE_CHECKING:
    from pricing.registry.mlflow_registry import RegisteredVersion, Registry

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
REJECTED = "not_rejected"  # the gate that a rejected version fails
_log = logging.getLogger(__name__)


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


def done(entries: Sequence[AuditEntry]) -> list[AuditEntry]:
    """The entries that changed the champion."""
    return [entry for entry in entries if entry.outcome == "done"]


def champion_of(entries: Sequence[AuditEntry]) -> str | None:
    """The champion after the last entry that changed it."""
    return next((entry.to_version for entry in reversed(done(entries))), None)


def rejections(entries: Sequence[AuditEntry], versions: Mapping[str, str]) -> dict[str, AuditEntry]:
    """Number of each rejected version → the rollback that rejects it, from the record alone, oldest entry first.

    A rollback rejects the version that it leaves, until that is champion again; where it goes to other weights, every
    version that shares those that it leaves. `versions` are number → weights.
    """
    weights: dict[str | None, str | None] = {entry.to_version: entry.weights for entry in entries if entry.weights}
    weights.update(versions)
    by_number: dict[str, AuditEntry] = {}
    by_weights: dict[str, AuditEntry] = {}
    for entry in done(entries):
        left = weights.get(entry.from_version)
        reached = weights.get(entry.to_version)
        if entry.action == "rollback" and entry.from_version is not None:
            by_number[entry.from_version] = entry
            if left is not None and left != reached:
                by_weights[left] = entry
        by_number.pop(entry.to_version or "", None)
        by_weights.pop(reached or "", None)
    sharing = {number: by_weights[its] for number, its in versions.items() if its in by_weights}
    return sharing | by_number


def move(registry: "Registry", audit: Audit, wanted: AuditEntry) -> AuditEntry:
    """Makes a version the champion and records it; `previous` becomes the last champion with other weights.

    Raises:
        RegistryError: The version is unknown, registry or record does not answer, or `from_version` is no longer
            champion (recorded as lost). The aliases are then as they were.
    """
    target = registry.find(wanted.to_version or "")
    before: dict[str, str] | None = None  # the aliases, from when one may have changed
    try:
        with audit.turn(registry.identity()) as turn:
            aliases = registry.aliases()
            note_manual_change(turn, aliases, who=wanted.who, at=wanted.at)
            champion = aliases.get(CHAMPION)
            lost = champion != wanted.from_version
            outcome: Outcome = "lost" if lost else "done"
            # Recorded first: where that fails, no alias must have changed.
            entry = turn.append(replace(wanted, weights=target.weights, from_version=champion, outcome=outcome))
            if not lost:
                before = aliases
                _point_to(target, registry, turn)
    except BaseException:
        if before is not None:
            _restore(registry, before)
        raise
    if lost:
        raise RegistryError(
            f"version {target.number} was not promoted: the champion is now {_name(champion)}, not "
            f"{_name(wanted.from_version)}, against which it was judged; run it again"
        )
    return entry


def _point_to(target: "RegisteredVersion", registry: "Registry", turn: Turn[AuditEntry]) -> None:
    """Moves the aliases; the champion's last but for the challenger's, since publishing follows it."""
    previous = earlier_champion(turn.entries(), weights_of(registry), weights=target.weights)
    if previous is not None:
        registry.set_alias(PREVIOUS, previous)
    registry.set_alias(CHAMPION, target.number)
    try:
        if registry.aliases().get(CHALLENGER) in rejections(turn.entries(), weights_of(registry)):
            registry.remove_alias(CHALLENGER)
    except RegistryError as error:  # a registry that is away now holds nothing up
        _log.warning("the alias %s stays: %s", CHALLENGER, error)


def weights_of(registry: "Registry") -> dict[str, str]:
    """Number → weights of every version that exists."""
    return {version.number: version.weights for version in registry.versions()}


def earlier_champion(entries: Sequence[AuditEntry], versions: Mapping[str, str], *, weights: str) -> str | None:
    """The last champion of the record with other weights that is still in `versions`, number → weights; or None."""
    champions = [entry.to_version for entry in reversed(done(entries)) if entry.to_version is not None]
    return next((number for number in champions if versions.get(number, weights) != weights), None)


def rejected(registry: "Registry", audit: Audit, version: "RegisteredVersion") -> AuditEntry | None:
    """The rollback for which a version is promoted by force alone: it, or its weights, were left; None for others."""
    return rejections(audit.entries(registry.identity()), weights_of(registry)).get(version.number)


def rejection_gates(registry: "Registry", audit: Audit, version: "RegisteredVersion") -> list[Verdict]:
    """The gate that a rejected version fails; none for others."""
    rejection = rejected(registry, audit, version)
    if rejection is None:
        return []
    return [Verdict(REJECTED, 1.0, "rollbacks that left it, or its weights", high=0.0, advice=rejection.words())]


def record_refusal(registry: "Registry", audit: Audit, wanted: AuditEntry) -> AuditEntry:
    """Records that the gates refused a change."""
    target = registry.find(wanted.to_version or "")
    with audit.turn(registry.identity()) as turn:
        note_manual_change(turn, registry.aliases(), who=wanted.who, at=wanted.at)
        return turn.append(replace(wanted, outcome="refused", weights=target.weights))


def record_manual_change(registry: "Registry", audit: Audit, *, who: str, at: str) -> AuditEntry | None:
    """Does what `note_manual_change` does, under the record's lock."""
    with audit.turn(registry.identity()) as turn:
        return note_manual_change(turn, registry.aliases(), who=who, at=at)


def note_manual_change(turn: Turn[AuditEntry], aliases: Mapping[str, str], *, who: str, at: str) -> AuditEntry | None:
    """Compares the champion with the record, and records and returns a change that was made by hand."""
    recorded = champion_of(turn.entries())
    found = aliases.get(CHAMPION)
    if recorded == found:
        return None
    _log.warning("champion is %s, the record has %s: it was moved by hand", _name(found), _name(recorded))
    return turn.append(
        AuditEntry(
            at=at,
            who="unknown",
            action="by_hand",
            why=f"past this record the alias was moved, its version deleted, or a promotion killed; noticed by {who}",
            from_version=recorded,
            to_version=found,
        )
    )


def _restore(registry: "Registry", before: Mapping[str, str]) -> None:
    for alias in (CHAMPION, PREVIOUS):
        try:
            if alias in before:
                registry.set_alias(alias, before[alias])
            else:
                registry.remove_alias(alias)
        except RegistryError as error:
            _log.error("alias %s could not be put back to %s: %s", alias, _name(before.get(alias)), error)


def _name(number: str | None) -> str:
    return "none" if number is None else f"version {number}"
