"""Show what was in production when, and what people have decided on prices."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from pipelines.steps.control import control_record, sentence
from pipelines.steps.production import ProductionAccess, production
from pricing.config import Config, load_config
from pricing.errors import ConfigError, SourceError
from pricing.objects import open_store
from pricing.quoting import printable
from pricing.registry import CHAMPION
from pricing.registry.promotion import AuditEntry, rejections, weights_of
from pricing.registry.publish import champion_is_published
from pricing.registry.published_store import published_url
from pricing.runtime.cli import flag, job, typed

SHOWN = 20  # entries about prices, where not all are asked for


@job("history")
@flag(
    "--all",
    "everything",
    help="also what was refused, or lost to another at the same time, and older words of prices",
)
def main(*, config: str | None, everything: bool) -> int:
    """Shows what was in production when, and what people have decided on prices."""
    settings = load_config(config)
    with production(settings) as access:
        print("\n".join([*_of_versions(access, everything=everything), *of_prices(settings, everything=everything)]))
    return 0


def of_prices(config: Config, *, everything: bool) -> Iterator[str]:
    """Yields what people have decided on prices, newest last: the last SHOWN entries, or `everything`."""
    entries = control_record(config).entries()
    if entries:
        yield f"\nSaid of prices, {len(entries):,} entries"
    for entry in entries if everything else entries[-SHOWN:]:
        try:
            words = sentence(entry.read())
        except ConfigError as error:
            words = f"cannot be read ({error})"
        yield printable(f"{entry.at}  {entry.who}: {words}")


def _of_versions(access: ProductionAccess, *, everything: bool) -> Iterator[str]:
    """Yields which versions the aliases name, the record of champions, and which versions are rejected."""
    registry = access.registry
    versions = weights_of(registry)
    if not versions:
        yield f"{registry.model_name} has no versions on {registry.uri} yet"
        return
    access.record_manual_change()
    entries = access.audit.entries(registry.identity())
    aliases = registry.aliases()
    yield f"{registry.model_name} on {registry.uri}"
    yield "  ".join(f"{alias}: {number}" for alias, number in sorted(aliases.items())) or "no aliases"
    if CHAMPION in aliases:
        try:
            if not champion_is_published(registry, open_store(published_url())):
                yield f"the champion is not published, `{typed('publish')}` mends it"
        except SourceError as error:
            yield f"the champion is not published, or cannot be looked up: {error}"
    yield ""
    yield from _table(entries, everything=everything) if entries else ["nothing was promoted yet"]
    for number, rejection in sorted(rejections(entries, versions).items(), key=lambda pair: int(pair[0])):
        back = f"`{typed('promote')} --version {number} --force true --reason WORDS` brings it back"
        yield f"version {number} is rejected: {rejection.words()}; {back}"


def _table(entries: Sequence[AuditEntry], *, everything: bool) -> list[str]:
    """Formats the record as a table, newest last: each champion with its period, or `everything`."""
    done = [entry for entry in entries if entry.outcome == "done"]
    until = {entry.sequence: later.at for entry, later in pairwise(done)}
    rows = [("#", "champion", "from", "until", "how", "who", "why")]
    for entry in entries if everything else done:
        to = entry.to_version or "none"
        end = until.get(entry.sequence, "now")
        how = entry.action.replace("_", " ") + (", forced" if entry.forced else "")
        if entry.outcome != "done":
            to = f"({to})"
            end = ""
            how += f": {entry.outcome}"
        rows.append((str(entry.sequence), to, entry.at, end, how, entry.who, entry.why))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return list(map(printable, lines))
