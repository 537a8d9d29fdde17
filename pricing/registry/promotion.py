"""Change the champion and record it in one transaction; say what was moved by hand, and what was rolled back from."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pricing.errors import RegistryError
from pricing.registry import CHALLENGER, CHAMPION, PREVIOUS
from pricing.registry.audit import Action, Audit, AuditEntry, LockedRecord
from pricing.registry.gates import HOLDS_ONLY, Verdict

if TYPE_CHECKING:
    from pricing.registry.mlflow_registry import RegisteredVersion, Registry

REJECTED = "not_rejected"  # the gate that a rejected version fails
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PromotionRequest:
    """A requested change of the champion to version `to`, judged against the champion `expected`.

    Where another one is champion by now, the request is lost. `at` is UTC, ISO 8601; `forced` overrules a failed gate;
    `gates` are the verdicts as JSON.
    """

    action: Action
    to: str
    expected: str | None
    who: str
    at: str
    why: str
    forced: bool = False
    gates: tuple[dict[str, Any], ...] = ()
    run_id: str | None = None


@dataclass(frozen=True)
class Rejection:
    """A rollback, seen from the version `number` that it left; `at` is UTC, ISO 8601."""

    number: str
    who: str
    at: str
    why: str

    def words(self) -> str:
        """Such as "version 2 was rolled back from by ann at 2024-05-01T10:00:00+00:00: complaints"."""
        return f"version {self.number} was rolled back from by {self.who} at {self.at}: {self.why}"

    def verdict(self) -> Verdict:
        """The gate that fails for it."""
        return Verdict(REJECTED, 1.0, 0.0, False, self.words())


def rejections(entries: Sequence[AuditEntry], versions: Mapping[str, str]) -> dict[str, Rejection]:
    """Number of each rejected version → its rejection, from the record alone, oldest entry first.

    A rollback rejects the version that it leaves, until that is champion again: by force, or by hand. Where it goes to
    other weights, every version that shares those that it leaves is rejected. `versions` are number → weights.
    """
    hashes: dict[str | None, str | None] = {entry.to_version: entry.weights for entry in entries if entry.weights}
    hashes.update(versions)
    numbers: dict[str, Rejection] = {}
    weights: dict[str, Rejection] = {}
    for entry in entries:
        if entry.outcome != "done":
            continue
        left, reached = hashes.get(entry.from_version), hashes.get(entry.to_version)
        if entry.action == "rollback" and entry.from_version is not None:
            numbers[entry.from_version] = found = Rejection(entry.from_version, entry.who, entry.at, entry.why)
            if left is not None and left != reached:
                weights[left] = found
        numbers.pop(entry.to_version or "", None)
        weights.pop(reached or "", None)
    shared = {number: weights[one] for number, one in versions.items() if one in weights}
    return {**shared, **numbers}


def move(registry: "Registry", audit: Audit, requested: PromotionRequest) -> AuditEntry:
    """Makes a version the champion and records it; `previous` becomes the last champion with other weights.

    Raises:
        RegistryError: The version is unknown; the registry or the record does not answer; or the champion is no
            longer the expected one (which is recorded as lost). The aliases are then as they were.
    """
    target = registry.find(requested.to)
    before: dict[str, str] | None = None
    try:
        with audit.locked(registry.identity()) as locked:
            aliases = registry.aliases()
            note_manual_change(locked, aliases, who=requested.who, at=requested.at)
            champion = aliases.get(CHAMPION)
            entry = _entry(requested, champion, target)
            if champion != requested.expected:
                entry = locked.append(replace(entry, outcome="lost"))
            else:
                versions = {version.number: version.weights for version in registry.versions()}
                previous = earlier_champion(locked.entries(), versions, weights=target.weights)
                # Recorded first: where that fails, no alias must have changed.
                entry = locked.append(entry)
                before = aliases
                # Champion last, since publishing follows it: everything else is in place by then.
                if previous is not None:
                    registry.set_alias(PREVIOUS, previous)
                registry.set_alias(CHAMPION, target.number)
                _drop_rejected_challenger(registry, locked)
    except BaseException:
        if before is not None:
            _restore(registry, before)
        raise
    if entry.outcome == "lost":
        raise RegistryError(
            f"version {target.number} was not promoted: the champion is now {_name(champion)}, not "
            f"{_name(requested.expected)}, against which it was judged; run it again"
        )
    return entry


def recorded_reason(why: str, *, holds_only: bool) -> str:
    """The reason to record, with a note where the version is holds_only."""
    return f"{why}; {HOLDS_ONLY}: prices stay" if holds_only else why


def earlier_champion(entries: Sequence[AuditEntry], versions: Mapping[str, str], *, weights: str) -> str | None:
    """The last champion of the record, oldest first, with other weights than these that still exists; None for none.

    `versions` are number → weights of every version that exists.
    """
    done = [entry.to_version for entry in entries if entry.outcome == "done" and entry.to_version in versions]
    return next((number for number in reversed(done) if number is not None and versions[number] != weights), None)


def rejected(registry: "Registry", audit: Audit, version: "RegisteredVersion") -> Rejection | None:
    """Why a version is promoted by force alone: it was rolled back from, or its weights were; None for others."""
    return _rejected(registry, audit.entries(registry.identity()), version)


def record_refusal(registry: "Registry", audit: Audit, requested: PromotionRequest) -> AuditEntry:
    """Records that the gates refused a request."""
    target = registry.find(requested.to)
    with audit.locked(registry.identity()) as locked:
        note_manual_change(locked, registry.aliases(), who=requested.who, at=requested.at)
        return locked.append(replace(_entry(requested, requested.expected, target), outcome="refused"))


def record_manual_change(registry: "Registry", audit: Audit, *, who: str, at: str) -> AuditEntry | None:
    """Compares the champion with the record, and records and returns a change that was made by hand."""
    with audit.locked(registry.identity()) as locked:
        return note_manual_change(locked, registry.aliases(), who=who, at=at)


def note_manual_change(locked: LockedRecord, aliases: Mapping[str, str], *, who: str, at: str) -> AuditEntry | None:
    """Does what `record_manual_change` does, for whoever holds the record's lock."""
    recorded, found = locked.champion(), aliases.get(CHAMPION)
    if recorded == found:
        return None
    _log.warning("champion is %s, the record says %s: it was moved by hand", _name(found), _name(recorded))
    return locked.append(
        AuditEntry(
            at=at,
            who="unknown",
            action="by_hand",
            outcome="done",
            why=f"past this record the alias was moved, its version deleted, or a promotion killed; noticed by {who}",
            from_version=recorded,
            to_version=found,
        )
    )


def _rejected(registry: "Registry", entries: Sequence[AuditEntry], version: "RegisteredVersion") -> Rejection | None:
    versions = {each.number: each.weights for each in registry.versions()}
    return rejections(entries, versions).get(version.number)


def _entry(requested: PromotionRequest, champion: str | None, target: "RegisteredVersion") -> AuditEntry:
    return AuditEntry(
        at=requested.at,
        who=requested.who,
        action=requested.action,
        outcome="done",
        why=requested.why,
        from_version=champion,
        to_version=target.number,
        weights=target.weights,
        forced=requested.forced,
        run_id=requested.run_id,
        gates=requested.gates,
    )


def _drop_rejected_challenger(registry: "Registry", locked: LockedRecord) -> None:
    """Takes the alias challenger from a version that the record rejects; a registry that is away holds nothing up."""
    try:
        challenger = registry.aliases().get(CHALLENGER)
        if challenger is not None and _rejected(registry, locked.entries(), registry.find(challenger)) is not None:
            registry.remove_alias(CHALLENGER)
    except RegistryError as error:
        _log.warning("the alias %s stays: %s", CHALLENGER, error)


def _restore(registry: "Registry", before: dict[str, str]) -> None:
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
