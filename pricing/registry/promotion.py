"""Change the champion and record it in one transaction; detect an alias that was changed by hand."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pricing.errors import RegistryError
from pricing.registry import CHAMPION, PREVIOUS
from pricing.registry.audit import Action, Audit, Entry, Turn
from pricing.registry.gates import HOLDS_ONLY

_log = logging.getLogger(__name__)


class Version(Protocol):
    """The fields of a registered version that a promotion needs."""

    @property
    def number(self) -> str:
        """Its number."""
        ...

    @property
    def weights(self) -> str:
        """The hash of its weights."""
        ...


class Aliases(Protocol):
    """The methods of the registry that a promotion needs."""

    def identity(self) -> str:
        """Distinguishes this registry's model from others of its name."""
        ...

    def aliases(self) -> dict[str, str]:
        """Alias → version number."""
        ...

    def find(self, reference: str) -> Version:
        """The version that a number or an alias names."""
        ...

    def versions(self) -> Sequence[Version]:
        """Every version there is."""
        ...

    def point(self, alias: str, number: str) -> None:
        """Sets an alias to a version."""
        ...

    def unpoint(self, alias: str) -> None:
        """Removes an alias."""
        ...


@dataclass(frozen=True)
class Wish:
    """A requested change of the champion.

    Attributes:
        action: "promote", "rollback" or "anchor".
        to: The version that is to become champion.
        expected: The champion that it was judged against; where another is champion by now, the request is lost.
        who: The person or job.
        at: When, UTC, ISO 8601.
        why: The reason, in words.
        forced: Whether a failed gate is overruled.
        gates: The verdicts, as JSON.
        run_id: The MLflow run that acts.
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


def move(registry: Aliases, audit: Audit, wish: Wish) -> Entry:
    """Makes a version the champion and records it; `previous` becomes the last champion with other weights.

    Raises:
        RegistryError: The version is unknown; the registry or the record does not answer; or the champion is no
            longer the expected one (which is recorded as lost). The aliases are then as they were.
    """
    target = registry.find(wish.to)
    before: dict[str, str] | None = None
    try:
        with audit.turn(registry.identity()) as turn:
            aliases = registry.aliases()
            _notice(turn, aliases, who=wish.who, at=wish.at)
            champion = aliases.get(CHAMPION)
            entry = _entry(wish, champion, target)
            if champion != wish.expected:
                entry = turn.append(replace(entry, outcome="lost"))
            else:
                previous = _previous(registry, turn, aliases, target=target)
                # Recorded first: where that fails, no alias must have changed.
                entry = turn.append(entry)
                before = aliases
                # Champion last, since serving follows it: everything else is in place by then.
                if previous is not None and previous != aliases.get(PREVIOUS):
                    registry.point(PREVIOUS, previous)
                registry.point(CHAMPION, target.number)
    except BaseException:
        if before is not None:
            _restore(registry, before)
        raise
    if entry.outcome == "lost":
        raise RegistryError(
            f"version {target.number} was not promoted: the champion is now {_name(champion)}, not "
            f"{_name(wish.expected)}, against which it was judged; run it again"
        )
    return entry


def because(why: str, *, holds_only: bool) -> str:
    """The reason to record, with a note where the version is holds_only."""
    return f"{why}; {HOLDS_ONLY}: prices stay" if holds_only else why


def earlier_champion(entries: Sequence[Entry], versions: Mapping[str, str], *, weights: str) -> str | None:
    """The last champion of the record with other weights that still exists; None when there is none.

    Args:
        entries: The record, oldest first.
        versions: The weights of every version that exists, by number.
        weights: The champion's.
    """
    done = [entry.to_version for entry in entries if entry.outcome == "done" and entry.to_version in versions]
    return next((number for number in reversed(done) if number is not None and versions[number] != weights), None)


def refuse(registry: Aliases, audit: Audit, wish: Wish) -> Entry:
    """Records that the gates refused a request."""
    target = registry.find(wish.to)
    with audit.turn(registry.identity()) as turn:
        _notice(turn, registry.aliases(), who=wish.who, at=wish.at)
        return turn.append(replace(_entry(wish, wish.expected, target), outcome="refused"))


def notice(registry: Aliases, audit: Audit, *, who: str, at: str) -> Entry | None:
    """Compares the champion with the record, and records a change that was made by hand.

    Returns:
        The entry that was written, or None when the record agrees.
    """
    with audit.turn(registry.identity()) as turn:
        return _notice(turn, registry.aliases(), who=who, at=at)


def _notice(turn: Turn, aliases: dict[str, str], *, who: str, at: str) -> Entry | None:
    recorded, found = turn.champion(), aliases.get(CHAMPION)
    if recorded == found:
        return None
    _log.warning("champion is %s, the record says %s: it was moved by hand", _name(found), _name(recorded))
    return turn.append(
        Entry(
            at=at,
            who="unknown",
            action="by_hand",
            outcome="done",
            why=f"past this record the alias was moved, its version deleted, or a promotion killed; noticed by {who}",
            from_version=recorded,
            to_version=found,
        )
    )


def _entry(wish: Wish, champion: str | None, target: Version) -> Entry:
    return Entry(
        at=wish.at,
        who=wish.who,
        action=wish.action,
        outcome="done",
        why=wish.why,
        from_version=champion,
        to_version=target.number,
        weights=target.weights,
        forced=wish.forced,
        run_id=wish.run_id,
        gates=wish.gates,
    )


def _previous(registry: Aliases, turn: Turn, aliases: dict[str, str], *, target: Version) -> str | None:
    """The version for the alias `previous` once the target is champion; None where there is none."""
    for alias in (CHAMPION, PREVIOUS):
        number = aliases.get(alias)
        if number is not None and registry.find(number).weights != target.weights:
            return number
    # A promotion that was killed between the two aliases has left previous on the champion itself.
    entries = turn.entries()
    if all(entry.weights == target.weights for entry in entries if entry.outcome == "done"):
        return None
    versions = {version.number: version.weights for version in registry.versions()}
    return earlier_champion(entries, versions, weights=target.weights)


def _restore(registry: Aliases, before: dict[str, str]) -> None:
    for alias in (CHAMPION, PREVIOUS):
        try:
            if alias in before:
                registry.point(alias, before[alias])
            else:
                registry.unpoint(alias)
        except RegistryError as error:
            _log.error("alias %s could not be put back to %s: %s", alias, _name(before.get(alias)), error)


def _name(number: str | None) -> str:
    return "none" if number is None else f"version {number}"
