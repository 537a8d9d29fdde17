"""Make an earlier version the champion again, and record the reason."""

import argparse
import sys
import tempfile
from collections.abc import Sequence

import mlflow

from pipelines.anchor import register_with_anchors
from pipelines.calendar import known_events
from pipelines.production import NOTHING_TO_DO, ProductionAccess, now, production
from pipelines.quality import read_checked
from pipelines.refresh import refreshed
from pricing.config import read_config_file
from pricing.errors import RegistryError
from pricing.registry import CHAMPION, PREVIOUS
from pricing.registry.mlflow_registry import RegisteredVersion
from pricing.registry.promotion import PromotionRequest, earlier_champion, move, record_manual_change, recorded_reason
from pricing.registry.version import HOLDS_ONLY_MEANING
from pricing.runtime.cli import job_options, run_main
from pricing.runtime.mlflow_runs import name_run, set_run_description, tracked_run
from pricing.served_config import kept_settings


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns the exit code."""
    return run_main(_rollback, argv)


def _rollback(argv: Sequence[str] | None) -> int:
    options = _options(argv)
    file = read_config_file(options.config)
    config = file.config
    with tracked_run("rollback", config=config, reason=options.reason) as run, production(config) as access:
        record_manual_change(access.registry, access.audit, who=access.who, at=now())
        champion = access.registry.at(CHAMPION)
        target = access.registry.find(options.version) if options.version else _earlier(access, champion)
        if champion is not None and champion.number == target.number:
            print(f"{NOTHING_TO_DO}: version {target.number} is the champion already")
            return 0
        with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
            version = access.fetch(target.number, scratch)
            version.verify()
            if kept := kept_settings(version.config, file, name=target.number):
                print(f"note: {kept}")
            number, states = target.number, str(version.meta["state_date"])
            anchors = access.anchors_for(version)
            if options.sales is not None:
                loaded = read_checked(
                    options.sales,
                    version.config.data.model_copy(update={"quality": config.data.quality}),
                    quarantine=options.quarantine,
                    past=version.demand.encoded.tail,  # newer rows alone do not show which prices were discounts
                    anchors=anchors,
                    events=known_events(version),
                )
                states = str(loaded.panel.dates[-1])
                carried = refreshed(
                    access,
                    version,
                    loaded,
                    anchors=anchors,
                    parent=target.number,
                    sales=options.sales,
                    parity_limit=config.registry.gates.parity,
                )
                number = carried.number if carried else number
            if number == target.number and version.anchors.differing(anchors):
                number = register_with_anchors(version, anchors, access=access, parent=number)
        requested = PromotionRequest(
            action="rollback",
            to=number,
            expected=champion.number if champion else None,
            who=access.who,
            at=now(),
            why=recorded_reason(
                options.reason or f"back to {options.version or 'the last champion with other weights'}",
                holds_only=version.holds_only,
            ),
            run_id=run.info.run_id,
        )
        entry = move(access.registry, access.audit, requested)
        mlflow.set_tags({"version": number, "verdict": "rolled back"})
        name_run(f"rollback v{number}")
        set_run_description(
            f"From version {champion.number if champion else 'none'} to version {number}: {requested.why}."
        )
        print(f"version {number} is the champion of {config.registry.model_name} now (record {entry.sequence})")
        if version.holds_only:
            print(HOLDS_ONLY_MEANING)
        if number != target.number:
            print(f"it has the weights of version {target.number} and states up to {states}")
        elif champion is not None and states < champion.tags.get("state_date", ""):
            print(f"its states end on {states}, the last champion's on {champion.tags['state_date']}:")
            print("run refresh with --sales, or roll back with --sales, to carry them forward")
    return 0


def _earlier(access: ProductionAccess, champion: RegisteredVersion | None) -> RegisteredVersion:
    """Returns the last champion with other weights, from the audit record.

    The alias `previous` may be wrong after an interrupted promotion; it is used only where the record has no entry,
    such as in a new database.
    """
    versions = {version.number: version.weights for version in access.registry.versions()}
    record = access.audit.entries(access.registry.identity())
    found = earlier_champion(record, versions, weights=champion.weights if champion else "")
    target = access.registry.find(found or PREVIOUS)
    if champion is not None and target.weights == champion.weights:
        raise RegistryError(f"no champion before version {champion.number} had other weights; name one with --version")
    return target


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = job_options("rollback", "Makes an earlier version the champion again.", needs_sales=False)
    options.add_argument(
        "--version", metavar="N", help="the version to go back to; absent: the last champion with other weights"
    )
    options.add_argument("--reason", metavar="WORDS", help="why, for the record")
    return options.parse(argv)


if __name__ == "__main__":
    sys.exit(main())
