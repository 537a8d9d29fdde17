"""Versions that were rolled back from: they come back by nothing but a person's force. Read from the record alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pricing.registry.audit import AuditEntry
from pricing.registry.gates import Verdict

REJECTED = "not_rejected"  # the gate that a rejected version fails


@dataclass(frozen=True)
class Rejection:
    """A rollback, seen from the version that it left.

    Attributes:
        number: That version.
        who: The person or job.
        at: When, UTC, ISO 8601.
        why: The reason, in words.
        weights: Whether its weights were left too, so that every version that shares them is rejected; else only its
            states were, as where one goes back to an earlier refresh.
    """

    number: str
    who: str
    at: str
    why: str
    weights: bool

    def words(self) -> str:
        """Such as "version 2 was rolled back from by ann at 2024-05-01T10:00:00+00:00: complaints"."""
        return f"version {self.number} was rolled back from by {self.who} at {self.at}: {self.why}"

    def verdict(self, number: str) -> Verdict:
        """The gate that version `number` fails for it."""
        shared = "" if number == self.number else f", and version {number} has its weights"
        return Verdict(REJECTED, 1.0, 0.0, False, f"{self.words()}{shared}")


@dataclass(frozen=True)
class Rejections:
    """What the record rejects.

    Attributes:
        numbers: Version → its rejection.
        weights: Hash of weights → the rejection of the version that had them.
    """

    numbers: Mapping[str, Rejection] = field(default_factory=dict)
    weights: Mapping[str, Rejection] = field(default_factory=dict)

    def of(self, number: str, weights: str) -> Rejection | None:
        """Why a version is rejected; None where it is not."""
        return self.numbers.get(number) or self.weights.get(weights)


def rejections(entries: Sequence[AuditEntry], versions: Mapping[str, str]) -> Rejections:
    """Reads what is rejected from the record.

    A rollback rejects the version that it leaves, until that is champion again: by force, or by hand.

    Args:
        entries: The record, oldest first.
        versions: The weights of every version that exists, by number.
    """
    recorded = {entry.to_version: entry.weights for entry in entries if entry.to_version and entry.weights}
    hashes = {**recorded, **versions}
    numbers: dict[str, Rejection] = {}
    weights: dict[str, Rejection] = {}
    for entry in entries:
        if entry.outcome != "done":
            continue
        left, reached = (hashes.get(number) if number else None for number in (entry.from_version, entry.to_version))
        if entry.action == "rollback" and entry.from_version is not None:
            other = left is not None and left != reached
            found = Rejection(entry.from_version, entry.who, entry.at, entry.why, weights=other)
            numbers[entry.from_version] = found
            if left is not None and other:
                weights[left] = found
        if entry.to_version is not None:
            numbers.pop(entry.to_version, None)
            weights.pop(reached or "", None)
    return Rejections(numbers, weights)
