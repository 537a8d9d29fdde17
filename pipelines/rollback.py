"""Make an earlier version the champion again, and record the reason."""

import argparse
import sys
import tempfile
from collections.abc import Sequence

from pipelines.anchor import register_with_anchors
from pipelines.calendar import known_events
from pipelines.price_moves import judge_moves
from pipelines.production import NOTHING_TO_DO, ProductionAccess, now, production
from pipelines.promote import asked, decide, fetched_champion, forcible
from pipelines.publish import publish_champion
from pipelines.quality import read_checked
from pipelines.refresh import refreshed
from pricing.config import Config, read_config_file
from pricing.errors import RegistryError
from pricing.registry import CHAMPION, PREVIOUS
from pricing.registry.mlflow_registry import RegisteredVersion
from pricing.registry.promotion import (
    earlier_champion,
    record_manual_change,
    rejection_gates,
    rejections,
    weights_of,
)
from pricing.registry.version import LoadedVersion
from pricing.runtime.cli import EXIT_REFUSED, job_options, run_main
from pricing.runtime.mlflow_runs import tracked_run
from pricing.served_config import kept_settings


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns 0 when rolled back or nothing to do, 3 when a gate refuses, 4 when not published."""
    return run_main(_rollback, argv, unattended=True)


def _rollback(argv: Sequence[str] | None) -> int:
    options = _options(argv)
    file = read_config_file(options.config)
    config = file.config
    with tracked_run("rollback", config=config, reason=options.reason), production(config) as access:
        record_manual_change(access.registry, access.audit, who=access.who, at=now())
        champion = access.registry.at(CHAMPION)
        target = access.registry.find(options.version) if options.version else _earlier(access, champion)
        if champion is not None and champion.number == target.number:
            print(f"{NOTHING_TO_DO}: version {target.number} is the champion already")
            return publish_champion(access, config)  # a job before may not have got so far
        with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
            version = access.fetch(target.number, scratch)
            version.verify()
            if kept := kept_settings(version.config, file, name=target.number):
                print(f"note: {kept}")
            number = _carried(access, version, target.number, options=options, config=config)
            candidate = version if number == target.number else access.fetch(number, scratch)
            incumbent = fetched_champion(access, champion, scratch=scratch, must=False)  # it may be why one goes back
            names = {"candidate": number, "champion": champion.number if champion else "none"}
            limits = config.registry.gates.price_moves
            moved, moves = judge_moves(candidate, incumbent, names=names, file=file, limits=limits)
        verdicts = [*rejection_gates(access.registry, access.audit, target), moved]
        why = f"back to {options.version or 'the last champion with other weights'}"
        wanted = asked(access, "rollback", number, champion, options=options, why=why)
        code = decide(access, wanted, verdicts, config=config, holds_only=version.holds_only, moves=moves)
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
    access: ProductionAccess, version: LoadedVersion, number: str, *, options: argparse.Namespace, config: Config
) -> str:
    """Registers a version with the states that --sales allow, and the anchors in force; returns its number.

    It is that of the version itself where neither changes it.
    """
    anchors = access.anchors_for(version)
    if options.sales is not None:
        loaded = read_checked(
            options.sales,
            version.config.data.model_copy(update={"quality": config.data.quality}),
            quarantine=options.quarantine,
            past=version.learner.encoded.tail,  # newer rows alone do not show which prices were discounts
            anchors=anchors,
            events=known_events(version),
        )
        carried = refreshed(access, version, loaded, anchors=anchors, parent=number, sales=options.sales, config=config)
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


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = job_options("rollback", "Makes an earlier version the champion again.", needs_sales=False)
    options.add_argument(
        "--version", metavar="N", help="the version to go back to; absent: the last champion with other weights"
    )
    return forcible(options, argv)


if __name__ == "__main__":
    sys.exit(main())
