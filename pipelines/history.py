"""Show the record: which version was champion when, and what persons said of prices; by whom and why."""

from collections.abc import Sequence
from itertools import pairwise

from pipelines.freeze import control_record, sentence
from pipelines.production import ProductionAccess, production
from pricing.config import Config, load_config
from pricing.errors import ConfigError, SourceError
from pricing.objects import open_store
from pricing.registry import CHAMPION
from pricing.registry.promotion import AuditEntry, rejections, weights_of
from pricing.registry.publish import champion_is_published
from pricing.registry.published import published_url
from pricing.runtime.cli import flag, job, typed

SHOWN = 20  # entries about prices, where not all are asked for


@job("history")
@flag(
    "--all",
    "everything",
    help="also what was refused, or lost to another at the same time, and older words of prices",
)
def main(*, config: str | None, everything: bool) -> int:
    """Shows what was in production when, and what persons said of prices."""
    settings = load_config(config)
    with production(settings) as access:
        print("\n".join([*_told(access, everything=everything), *told_of_prices(settings, everything=everything)]))
    return 0


def told_of_prices(config: Config, *, everything: bool) -> list[str]:
    """Formats what persons said of prices, newest last: the last SHOWN, or `everything`."""
    entries = control_record(config).entries()
    said = [f"\nSaid of prices, {len(entries):,} entries"] if entries else []
    for entry in entries if everything else entries[-SHOWN:]:
        try:
            words = sentence(entry.read())
        except ConfigError as error:
            words = f"cannot be read ({error})"
        said.append(f"{entry.at}  {entry.who}: {words}")
    return said


def _told(access: ProductionAccess, *, everything: bool) -> list[str]:
    registry = access.registry
    versions, aliases = weights_of(registry), registry.aliases()
    if not versions:
        return [f"{registry.model_name} has no versions on {registry.uri} yet"]
    access.record_manual_change()
    entries = access.audit.entries(registry.identity())
    said = [f"{registry.model_name} on {registry.uri}"]
    said.append("  ".join(f"{alias}: {number}" for alias, number in sorted(aliases.items())) or "no aliases")
    if CHAMPION in aliases:
        try:
            if not champion_is_published(registry, open_store(published_url())):
                said.append(f"the champion is not published, `{typed('publish')}` mends it")
        except SourceError as error:
            said.append(f"the champion is not published, or cannot be looked up: {error}")
    said += ["", *(_lines(entries, everything=everything) if entries else ["nothing was promoted yet"])]
    for number, rejection in sorted(rejections(entries, versions).items(), key=lambda pair: int(pair[0])):
        back = f"`{typed('promote')} --version {number} --force true --reason WORDS` brings it back"
        said.append(f"version {number} is rejected: {rejection.words()}; {back}")
    return said


def _lines(entries: Sequence[AuditEntry], *, everything: bool) -> list[str]:
    """Formats the record as a table, newest last: each champion with its period, or `everything`."""
    done = [entry for entry in entries if entry.outcome == "done"]
    until = {entry.sequence: later.at for entry, later in pairwise(done)}
    rows = [("#", "champion", "from", "until", "how", "who", "why")]
    for entry in entries if everything else done:
        to, how = entry.to_version or "none", entry.action.replace("_", " ") + (", forced" if entry.forced else "")
        end = until.get(entry.sequence, "now")
        if entry.outcome != "done":
            to, how, end = f"({to})", f"{how}: {entry.outcome}", ""
        rows.append((str(entry.sequence), to, entry.at, end, how, entry.who, entry.why))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
