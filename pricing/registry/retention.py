"""Delete the nightly copies of versions that nothing needs any more."""

import datetime as dt
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pricing.errors import RegistryError
from pricing.registry.promotion import Audit, AuditEntry, done

if TYPE_CHECKING:
    from pricing.registry.mlflow_registry import RegisteredVersion, Registry

MOST = 30  # versions deleted at once: a month of nights, so that a long history goes within days and no night lasts
_log = logging.getLogger(__name__)


def outdated(
    versions: Sequence["RegisteredVersion"], entries: Sequence[AuditEntry], *, before: dt.datetime
) -> list["RegisteredVersion"]:
    """Returns the copies that nothing needs: refreshed before a time, and neither of these.

    - a version that an alias names;
    - the newest copy of its weights;
    - the copy with which its weights were last champion, according to the record: what a rollback goes to.

    What was trained always stays. `versions` are all, and they and the record's `entries` are oldest first.
    """
    weights = {version.number: version.weights for version in versions}
    newest = {version.weights: version.number for version in versions}
    champions = [entry.to_version for entry in done(entries)]
    last_champion = {weights[number]: number for number in champions if number in weights}
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
    candidates = outdated(registry.versions(), [], before=before)  # the record is asked under its lock
    for version in candidates[:MOST]:
        with record.turn(registry.identity()) as turn:
            if version not in outdated(registry.versions(), turn.entries(), before=before):
                continue
            try:
                registry.delete(version.number)
                gone.append(version.number)
            except RegistryError as error:
                _log.warning("version %s is not deleted: %s", version.number, error)
    return gone
