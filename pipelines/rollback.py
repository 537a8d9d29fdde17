"""Go back to an earlier champion, with the anchors in force."""

from dataclasses import replace

import click

from pipelines.steps.anchors import register_with_anchors
from pipelines.steps.change import decide, fetched_champion, forcible
from pipelines.steps.production import ProductionAccess, production
from pipelines.steps.publishing import publish_champion
from pipelines.steps.verdict import nothing_to_do
from pricing.config import read_config_file
from pricing.errors import EXIT_REFUSED, RegistryError
from pricing.registry import CHAMPION, PREVIOUS
from pricing.registry.mlflow_registry import RegisteredVersion
from pricing.registry.promotion import earlier_champion, rejection_gates, rejections, weights_of
from pricing.runtime.cli import job, typed
from pricing.runtime.mlflow_runs import tracked_run


@job("rollback", unattended=True)
@click.option("--version", metavar="N", help="the version to go back to; absent: the last champion before this one")
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

        number = target.number
        found = access.fetch(number)
        found.verify()
        anchors = access.anchors_for(found)
        if found.anchors.differing(anchors):
            number = register_with_anchors(found, anchors, access=access, parent=number)
            found = access.fetch(number)

        incumbent = fetched_champion(access, champion, must=False)  # it may be why one goes back
        why = reason or f"back to {version or 'the last champion before'}"
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
    such as in a new database. Without that alias the last other champion counts, even one with the same weights.
    """
    versions = weights_of(access.registry)
    record = access.audit.entries(access.registry.identity())
    bad = rejections(record, versions)
    number = champion.number if champion else "none"
    weights = champion.weights if champion else ""
    others = {other: its for other, its in versions.items() if other != number and other not in bad}
    found = earlier_champion(record, others, weights=weights)
    if found is None:
        previous = access.registry.aliases().get(PREVIOUS)
        found = previous or earlier_champion(record, others, weights="")
        if previous is not None and versions.get(previous) == weights:
            found = None
    if found not in others:
        raise RegistryError(
            f"there is no earlier champion to go back to: the champion is {number}, and no other version has been one, "
            "still exists and was not rolled back from; name a --version, or freeze prices meanwhile"
        )
    return access.registry.find(found)
