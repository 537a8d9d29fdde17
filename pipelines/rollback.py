"""Make an earlier version the champion again, and record the reason."""

import argparse
import sys
import tempfile
from collections.abc import Sequence

import mlflow

from pipelines.anchor import register_with_anchors
from pipelines.calendar import known_events
from pipelines.history import report
from pipelines.price_moves import judge_moves
from pipelines.production import NOTHING_TO_DO, REFUSED_BY, ProductionAccess, call_person, now, production
from pipelines.publish import publish_champion
from pipelines.quality import read_checked
from pipelines.refresh import refreshed
from pricing.config import ConfigFile, read_config_file
from pricing.errors import RegistryError, VersionError
from pricing.registry import CHAMPION, PREVIOUS
from pricing.registry.gates import Verdict, failed
from pricing.registry.mlflow_registry import RegisteredVersion
from pricing.registry.promotion import (
    PromotionRequest,
    earlier_champion,
    move,
    record_manual_change,
    record_refusal,
    recorded_reason,
    rejected,
    rejections,
)
from pricing.registry.version import HOLDS_ONLY_MEANING, LoadedVersion
from pricing.runtime.cli import EXIT_REFUSED, UsageError, job_options, run_main
from pricing.runtime.mlflow_runs import name_run, set_run_description, tracked_run
from pricing.served_config import kept_settings


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns 0 when rolled back or nothing to do, 3 when a gate refuses, 4 when not published."""
    return run_main(_rollback, argv, unattended=True)


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
            return publish_champion(access, config)  # a job before may not have got so far
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
                    past=version.learner.encoded.tail,  # newer rows alone do not show which prices were discounts
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
                    config=config,
                )
                number = carried.number if carried else number
            if number == target.number and version.anchors.differing(anchors):
                number = register_with_anchors(version, anchors, access=access, parent=number)
            rejection = rejected(access.registry, access.audit, target)
            candidate = version if number == target.number else access.fetch(number, scratch)
            moved, table = _judged(access, candidate, champion, number=number, file=file, scratch=scratch)
        verdicts = [moved] if rejection is None else [rejection.verdict(), moved]
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
            forced=options.force and bool(failed(verdicts)),
            gates=tuple(verdict.as_json() for verdict in verdicts),
            run_id=run.info.run_id,
        )
        text = report(config.registry.model_name, requested, verdicts, moves=table)
        mlflow.log_text(text, "rollback.md")
        if failed(verdicts) and not options.force:
            return _refuse(access, requested, verdicts, text=text)
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
        return publish_champion(access, config)


def _judged(
    access: ProductionAccess,
    candidate: LoadedVersion,
    champion: RegisteredVersion | None,
    *,
    number: str,
    file: ConfigFile,
    scratch: str,
) -> tuple[Verdict, str]:
    """Judges how far prices would move; a champion whose files cannot be read is no hindrance to leaving it."""
    incumbent, without = None, "there is no champion"
    if champion is not None:
        try:
            incumbent = access.fetch(champion.number, scratch)
        except (RegistryError, VersionError) as error:
            without = f"the champion cannot be read: {error}"
    names = {"candidate": number, "champion": champion.number if champion else "none"}
    limits = file.config.registry.gates.price_moves
    return judge_moves(candidate, incumbent, names=names, file=file, limits=limits, without=without)


def _refuse(access: ProductionAccess, requested: PromotionRequest, verdicts: Sequence[Verdict], *, text: str) -> int:
    """Records and says that the rollback was refused; returns the exit code."""
    record_refusal(access.registry, access.audit, requested)
    call_person(verdicts)
    missed = failed(verdicts)
    mlflow.set_tags(
        {"version": requested.to, "verdict": "refused", REFUSED_BY: ",".join(verdict.name for verdict in missed)}
    )
    name_run(f"rollback v{requested.to}: refused")
    set_run_description(text)
    print(text)
    stays = requested.expected or "none"
    print(f"refused: the rollback to version {requested.to}; the champion stays {stays}", file=sys.stderr)
    for verdict in missed:
        print(f"- {verdict.name}: {verdict.sentence}", file=sys.stderr)
    print("in an emergency --force true --reason WORDS goes back all the same", file=sys.stderr)
    return EXIT_REFUSED


def _earlier(access: ProductionAccess, champion: RegisteredVersion | None) -> RegisteredVersion:
    """Returns the last champion with other weights that was not itself rolled back from, by the audit record.

    The alias `previous` may be wrong after an interrupted promotion; it is used only where the record has no entry,
    such as in a new database.
    """
    versions = {version.number: version.weights for version in access.registry.versions()}
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
    options.add_flag("--force", help="go back although prices would move far, or to a rejected version; needs --reason")
    options.add_argument("--reason", metavar="WORDS", help="why, for the record")
    parsed = options.parse(argv)
    if parsed.force and not parsed.reason:
        raise UsageError("--force needs --reason: the record says why a gate was overruled")
    return parsed


if __name__ == "__main__":
    sys.exit(main())
