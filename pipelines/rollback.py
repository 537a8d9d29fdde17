"""Make an earlier version the champion again, and record the reason."""

from dataclasses import replace

import click

from pipelines.anchor import register_with_anchors
from pipelines.change import decide, fetched_champion
from pipelines.production import ProductionAccess, nothing_to_do, production
from pipelines.promote import forcible
from pipelines.publish import publish_champion
from pricing.config import read_config_file
from pricing.errors import EXIT_REFUSED, RegistryError
from pricing.registry import CHAMPION, PREVIOUS
from pricing.registry.mlflow_registry import RegisteredVersion
from pricing.registry.promotion import earlier_champion, rejection_gates, rejections, weights_of
from pricing.runtime.cli import job, typed
from pricing.runtime.mlflow_runs import tracked_run


@job("rollback", unattended=True)
@click.option("--version", metavar="N", help="the version to go back to; absent: the last champion with other weights")
@forcible
def main(*, config: str | None, version: str | None, force: bool, reason: str | None) -> int:
    """Makes an earlier version the champion again, with the anchors in force.

    Exit codes: 0 rolled back, or nothing to do; 2 an error; 3 a gate refuses; 4 rolled back and not published.
    """
    file = read_config_file(config)
    with tracked_run("rollback", config=file.config, reason=reason), production(file.config) as access:
        access.record_manual_change()
        champion = access.registry.at(CHAMPION)
        target = access.registry.find(version) if version else _earlier(access, champion)
        if champion is not None and champion.number == target.number:
            nothing_to_do(f"version {target.number} is the champion already")
            return publish_champion(access, file.config)  # a job before may not have got so far
        number, found = target.number, access.fetch(target.number)
        found.verify()
        anchors = access.anchors_for(found)
        if found.anchors.differing(anchors):
            number = register_with_anchors(found, anchors, access=access, parent=number)
            found = access.fetch(number)
        incumbent = fetched_champion(access, champion, must=False)  # it may be why one goes back
        why = reason or f"back to {version or 'the last champion with other weights'}"
        wanted = replace(access.change("rollback", number, champion=champion, why=why), forced=force)
        verdicts = rejection_gates(access.registry, access.audit, target)
        code = decide(access, wanted, verdicts, versions=(found, incumbent), file=file)
        states = str(found.meta["state_date"])
        if code != EXIT_REFUSED and champion is not None and states < champion.tags.get("state_date", ""):
            print(f"its states end on {states}, the last champion's on {champion.tags['state_date']}:")
            print(f"`{typed('refresh')}` carries them forward, and `{typed('promote')}` puts them in force")
        return code


def _earlier(access: ProductionAccess, champion: RegisteredVersion | None) -> RegisteredVersion:
    """Returns the last champion with other weights that was not itself rolled back from, by the audit record.

    The alias `previous` may be wrong after an interrupted promotion; it is used only where the record has no entry,
    such as in a new database.
    """
    versions = weights_of(access.registry)
    record = access.audit.entries(access.registry.identity())
    bad = rejections(record, versions)
    sound = {number: weights for number, weights in versions.items() if number not in bad}
    found = earlier_champion(record, sound, weights=champion.weights if champion else "")
    target = access.registry.find(found or PREVIOUS)
    if champion is not None and (target.weights == champion.weights or target.number not in sound):
        raise RegistryError(
            f"no champion before version {champion.number} had other weights and was not rolled back from; name one "
            "with --version"
        )
    return target
