"""The append-only record of what was in production, by whom and why; to change the champion, and what may go."""

import datetime as dt
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
MOST = 30  # versions deleted at once: a month of nights, so that a long history goes within days and no night lasts
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


def champion_of(entries: Sequence[AuditEntry]) -> str | None:
    """The champion after the last entry with outcome "done"."""
    return next((entry.to_version for entry in reversed(entries) if entry.outcome == "done"), None)


def rejections(entries: Sequence[AuditEntry], versions: Mapping[str, str]) -> dict[str, AuditEntry]:
    """Number of each rejected version → the rollback that rejects it, from the record alone, oldest entry first.

    A rollback rejects the version that it leaves, until that is champion again; where it goes to other weights, every
    version that shares those that it leaves. `versions` are number → weights.
    """
    hashes: dict[str | None, str | None] = {entry.to_version: entry.weights for entry in entries if entry.weights}
    hashes.update(versions)
    numbers: dict[str, AuditEntry] = {}
    weights: dict[str, AuditEntry] = {}
    for entry in entries:
        if entry.outcome != "done":
            continue
        left, reached = hashes.get(entry.from_version), hashes.get(entry.to_version)
        if entry.action == "rollback" and entry.from_version is not None:
            numbers[entry.from_version] = entry
            if left is not None and left != reached:
                weights[left] = entry
        numbers.pop(entry.to_version or "", None)
        weights.pop(reached or "", None)
    shared = {number: weights[one] for number, one in versions.items() if one in weights}
    return {**shared, **numbers}


def move(registry: "Registry", audit: Audit, wanted: AuditEntry) -> AuditEntry:
    """Makes a version the champion and records it; `previous` becomes the last champion with other weights.

    Raises:
        RegistryError: The version is unknown, registry or record does not answer, or `from_version` is no longer
            champion (recorded as lost). The aliases are then as they were.
    """
    target = registry.find(wanted.to_version or "")
    before: dict[str, str] | None = None
    try:
        with audit.turn(registry.identity()) as turn:
            aliases = registry.aliases()
            note_manual_change(turn, aliases, who=wanted.who, at=wanted.at)
            champion = aliases.get(CHAMPION)
            lost = champion != wanted.from_version
            # Recorded first: where that fails, no alias must have changed.
            asked = replace(wanted, weights=target.weights, from_version=champion)
            entry = turn.append(replace(asked, outcome="lost" if lost else "done"))
            if not lost:
                before = aliases
                # Champion last, since publishing follows it: everything else is in place by then.
                previous = earlier_champion(turn.entries(), weights_of(registry), weights=target.weights)
                if previous is not None:
                    registry.set_alias(PREVIOUS, previous)
                registry.set_alias(CHAMPION, target.number)
                _drop_rejected_challenger(registry, turn)
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


def weights_of(registry: "Registry") -> dict[str, str]:
    """Number → weights of every version that exists."""
    return {version.number: version.weights for version in registry.versions()}


def earlier_champion(entries: Sequence[AuditEntry], versions: Mapping[str, str], *, weights: str) -> str | None:
    """The last champion of the record with other weights that is still in `versions`, number → weights; or None."""
    done = [entry.to_version for entry in entries if entry.outcome == "done" and entry.to_version in versions]
    return next((number for number in reversed(done) if number is not None and versions[number] != weights), None)


def rejected(registry: "Registry", audit: Audit, version: "RegisteredVersion") -> AuditEntry | None:
    """The rollback for which a version is promoted by force alone: it, or its weights, were left; None for others."""
    return rejections(audit.entries(registry.identity()), weights_of(registry)).get(version.number)


def rejection_gates(registry: "Registry", audit: Audit, version: "RegisteredVersion") -> list[Verdict]:
    """The gate that a rejected version fails; none for others."""
    found = rejected(registry, audit, version)
    words = "rollbacks that left it, or its weights"
    return [] if found is None else [Verdict(REJECTED, 1.0, words, high=0.0, advice=found.words())]


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
    recorded, found = champion_of(turn.entries()), aliases.get(CHAMPION)
    if recorded == found:
        return None
    _log.warning("champion is %s, the record says %s: it was moved by hand", _name(found), _name(recorded))
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


def outdated(
    versions: Sequence["RegisteredVersion"], entries: Sequence[AuditEntry], *, before: dt.datetime
) -> list["RegisteredVersion"]:
    """Returns the copies that nothing needs: refreshed before a time, and neither of these.

    - a version that an alias names;
    - the newest copy of its weights;
    - the copy with which its weights were last champion, according to the record: what a rollback goes to.

    What was trained always stays. `versions` are all, and they and the record's `entries` are oldest first.
    """
    newest = {version.weights: version.number for version in versions}
    number_weights = {version.number: version.weights for version in versions}
    last_champion = {
        number_weights[entry.to_version]: entry.to_version
        for entry in entries
        if entry.outcome == "done" and entry.to_version in number_weights
    }
    needed = {*newest.values(), *last_champion.values()}
    return [
        version
        for version in versions
        if version.tags.get("kind") == "refresh"
        and version.created_ms < before.timestamp() * 1000
        and not version.aliases
        and version.number not in needed
    ]


def delete_outdated(registry: "Registry", record: Audit, *, before: dt.datetime) -> list[str]:
    """Deletes the oldest MOST versions that `outdated` names, and returns their numbers.

    Each goes under the record's lock, so that nothing is promoted meanwhile; others wait for one deletion at most. One
    that cannot be deleted is logged, and tried again the next time.
    """
    gone: list[str] = []
    for version in outdated(registry.versions(), [], before=before)[:MOST]:  # what the record says is asked below
        with record.turn(registry.identity()) as turn:
            if version not in outdated(registry.versions(), turn.entries(), before=before):
                continue
            try:
                registry.delete(version.number)
                gone.append(version.number)
            except RegistryError as error:
                _log.warning("version %s is not deleted: %s", version.number, error)
    return gone


def _drop_rejected_challenger(registry: "Registry", turn: Turn[AuditEntry]) -> None:
    """Takes the alias challenger from a version that the record rejects; a registry that is away holds nothing up."""
    try:
        if registry.aliases().get(CHALLENGER) in rejections(turn.entries(), weights_of(registry)):
            registry.remove_alias(CHALLENGER)
    except RegistryError as error:
        _log.warning("the alias %s stays: %s", CHALLENGER, error)


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
