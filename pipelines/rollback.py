"""Make an earlier version the champion again, and record the reason."""

import sys
from pathlib import Path

import click

from pipelines.anchor import register_with_anchors
from pipelines.calendar import known_events
from pipelines.change import decide, fetched_champion
from pipelines.production import NOTHING_TO_DO, ProductionAccess, now, production
from pipelines.promote import forcible
from pipelines.publish import publish_champion
from pipelines.quality import read_checked
from pipelines.refresh import refreshed
from pricing.config import Config, read_config_file
from pricing.errors import RegistryError
from pricing.registry import CHAMPION, PREVIOUS
from pricing.registry.audit import AuditEntry
from pricing.registry.mlflow_registry import RegisteredVersion
from pricing.registry.promotion import earlier_champion, rejection_gates, rejections, weights_of
from pricing.registry.version import LoadedVersion
from pricing.runtime.cli import EXIT_REFUSED, job
from pricing.runtime.mlflow_runs import tracked_run


@job("rollback", sales="optional", unattended=True)
@click.option("--version", metavar="N", help="the version to go back to; absent: the last champion with other weights")
@forcible
def main(
    *,
    sales: str | None,
    quarantine: Path | None,
    config: str | None,
    version: str | None,
    force: bool,
    reason: str | None,
) -> int:
    """Makes an earlier version the champion again.

    Exit codes: 0 rolled back, or nothing to do; 2 an error; 3 a gate refuses; 4 rolled back and not published.
    """
    file = read_config_file(config)
    with tracked_run("rollback", config=file.config, reason=reason) as run, production(file.config) as access:
        access.record_manual_change()
        champion = access.registry.at(CHAMPION)
        target = access.registry.find(version) if version else _earlier(access, champion)
        if champion is not None and champion.number == target.number:
            print(f"{NOTHING_TO_DO}: version {target.number} is the champion already")
            return publish_champion(access, file.config)  # a job before may not have got so far
        found = access.fetch(target.number, file=file)
        found.verify()
        number = _carried(access, found, target.number, sales=sales, quarantine=quarantine, config=file.config)
        candidate = found if number == target.number else access.fetch(number)
        wanted = AuditEntry(
            at=now(),
            who=access.who,
            action="rollback",
            why=reason or f"back to {version or 'the last champion with other weights'}",
            from_version=champion.number if champion else None,
            to_version=number,
            forced=force,
            run_id=run.info.run_id,
        )
        incumbent = fetched_champion(access, champion, must=False)  # it may be why one goes back
        verdicts = rejection_gates(access.registry, access.audit, target)
        code = decide(access, wanted, verdicts, versions=(candidate, incumbent), file=file)
        states = str(candidate.meta["state_date"])
        if code == EXIT_REFUSED:
            return code
        if number != target.number:
            print(f"it has the weights of version {target.number} and states up to {states}")
        elif champion is not None and states < champion.tags.get("state_date", ""):
            print(f"its states end on {states}, the last champion's on {champion.tags['state_date']}:")
            print("run refresh with --sales, or roll back with --sales, to carry them forward")
        return code


def _carried(
    access: ProductionAccess,
    version: LoadedVersion,
    number: str,
    *,
    sales: str | None,
    quarantine: Path | None,
    config: Config,
) -> str:
    """Registers a version with the states that --sales allow, and the anchors in force; returns its number.

    It is that of the version itself where neither changes it.
    """
    anchors = access.anchors_for(version)
    if sales is not None:
        loaded = read_checked(
            sales,
            version.config.data.model_copy(update={"quality": config.data.quality}),
            quarantine=quarantine,
            past=version.learner.encoded.tail,  # newer rows alone do not show which prices were discounts
            anchors=anchors,
            events=known_events(version),
        )
        carried = refreshed(access, version, loaded, anchors=anchors, parent=number, sales=sales, config=config)
        if carried is not None:
            return carried.number
    if version.anchors.differing(anchors):
        return register_with_anchors(version, anchors, access=access, parent=number)
    return number


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


if __name__ == "__main__":
    sys.exit(main())
