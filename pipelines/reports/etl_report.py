"""Put together what a person should know of a night's sales: what to do first, then the figures behind it."""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np
from pydantic import Field, ValidationError

from pipelines.reports.etl_figures import Coverage, Figures, Part
from pricing.config import Config
from pricing.config_sources import SourcesConfig, TableSource
from pricing.data.findings import Finding, Level
from pricing.data.manifest import Change, JoinCount, Manifest
from pricing.data.panel import STEP_DAYS
from pricing.errors import SourceError, first_line
from pricing.fileio import redact_text

FORMAT = 1
NAMED = 5  # products named where the set of products changed
_SAME = 1e-6  # relative difference of units that are equal but for rounding


class Found(Part):
    """A finding of the checks; see `pricing.data.quality.Finding`."""

    check: str
    level: Level
    products: int = 0
    rows: int = 0
    first: str = ""
    last: str = ""
    example: str = ""
    sentence: str = ""
    advice: str = ""


class Task(Part):
    """One thing that a person should look at.

    Attributes:
        level: A `stop` kept the sales from being saved.
        what: What was found, one sentence without full stop.
        advice: What to do, the same.
        examples: The first offenders.
    """

    level: Literal["stop", "look"]
    what: str
    advice: str
    examples: tuple[str, ...] = ()


class SourceState(Part):
    """What was read of one source, and whether it is late.

    Attributes:
        name: The source's name in the configuration.
        location: Where it lies, without passwords.
        rows: Rows read.
        rejected: Rows of them that could not be used.
        reasons: Reason: number of such rows.
        newest: Newest day with a row; empty where the source has no days.
        due: Time of day, in the shop's zone, when yesterday must be in; empty where none is configured.
        late_hours: Hours since the first missing day was due; 0 where nothing is missing, None where nothing is due.
    """

    name: str
    location: str
    rows: int
    rejected: int = 0
    reasons: dict[str, int] = Field(default_factory=dict)
    newest: str = ""
    due: str = ""
    late_hours: float | None = None


class Saved(Part):
    """The panel that jobs read: a run that stops leaves the one before in use.

    Attributes:
        made_at: When, UTC.
        product_ids: Its products.
        coverage: Its rows and units over time.
        findings: Names of what was found then.
    """

    made_at: dt.datetime
    product_ids: list[str]
    coverage: Coverage
    findings: list[str]


class Changed(Part):
    """What differs from the panel that was in use before.

    Attributes:
        since: When that one was made, UTC.
        rows: Rows more, or fewer where below 0.
        new_periods: Periods after its last one.
        changed_periods: Periods that it held with other rows or units.
        first_changed: The earliest of them; empty where there is none.
        new_products: Products that it did not have.
        gone_products: Products that it alone had.
        examples: Some of both, such as "new: P7".
        new_findings: Names of findings that there were none of.
        gone_findings: Names of findings that there are no more of.
    """

    since: dt.datetime
    rows: int = 0
    new_periods: int = 0
    changed_periods: int = 0
    first_changed: str = ""
    new_products: int = 0
    gone_products: int = 0
    examples: tuple[str, ...] = ()
    new_findings: tuple[str, ...] = ()
    gone_findings: tuple[str, ...] = ()


class EtlReport(Part):
    """What a person should know of a night's sales.

    Attributes:
        format: Of this document.
        made_at: When, UTC.
        sales: Where the sales came from, without passwords.
        run_id: MLflow run of the job; empty where it is not known.
        outcome: Whether the panel was saved, or the job stopped and the panel before stays in use.
        level: The gravest level that the data-quality stage found; ok where it found nothing.
        error: Why the job stopped, its message; empty where it did not.
        tasks: What to do, the gravest first.
        findings: All that the stage found, the gravest first.
        read_rows: Rows read.
        set_aside: Rows of these that were set aside.
        most_set_aside: The largest share of rows that may be set aside (`data.quality.most_set_aside`).
        bad_rows: File with the rows set aside; empty where there is none.
        figures: What the sales hold; None where they could not be made into a panel.
        sources: Where they came from, where that are a retailer's own tables.
        joins: How these tables matched.
        manifest_run: Run that made the manifest of these sources; empty where there is none.
        changes: Rows that differ from those of the manifest before; none where the report before has told of them.
        changed: What differs from the panel before; None where there was none.
        before: The panel that stays in use, where the job stopped and there is one.
    """

    format: Literal[1] = 1
    made_at: dt.datetime
    sales: str
    run_id: str = ""
    outcome: Literal["saved", "stopped"]
    level: Literal["ok", "note", "set_aside", "stop"]
    error: str = ""
    tasks: list[Task]
    findings: list[Found]
    read_rows: int
    set_aside: int = 0
    most_set_aside: float
    bad_rows: str = ""
    figures: Figures | None
    sources: tuple[SourceState, ...] = ()
    joins: tuple[JoinCount, ...] = ()
    manifest_run: str = ""
    changes: tuple[Change, ...] = ()
    changed: Changed | None = None
    before: Saved | None = None

    @property
    def in_use(self) -> Saved | None:
        """The panel that jobs read after this run; None where there has never been one."""
        if self.outcome == "stopped" or self.figures is None:
            return self.before
        found = [one.check for one in self.findings]
        return Saved(
            made_at=self.made_at,
            product_ids=self.figures.table.product_id,
            coverage=self.figures.coverage,
            findings=found,
        )


def make_report(
    found: Sequence[Finding],
    *,
    figures: Figures | None,
    config: Config,
    sales: str,
    now: dt.datetime,
    manifest: Manifest | None = None,
    former: EtlReport | None = None,
    error: str = "",
) -> EtlReport:
    """Puts the report together. Pure: no clock, no files.

    Args:
        found: What the checks found, the gravest first.
        figures: What the panel holds; None where there is none.
        config: Its `sources` says when each is due, `data.quality` how much may be set aside.
        sales: Where the sales came from; passwords are removed.
        now: With a time zone.
        manifest: Of the folder of rows that the sales are, if they are one.
        former: The report before.
        error: Why the job stopped, its message; empty where it did not.
    """
    findings = [Found.model_validate(one, from_attributes=True) for one in found]
    sources = _sources(manifest, config.sources, now=now)
    before = former.in_use if former is not None else None
    return EtlReport(
        made_at=now.astimezone(dt.UTC),
        sales=redact_text(sales),
        outcome="stopped" if error else "saved",
        level=found[0].level if found else "stop" if error else "ok",
        error=redact_text(error),
        tasks=[
            *_stops(found, error=redact_text(error)),
            *(_task(one) for one in found if one.level == "set_aside"),
            *(task for state in sources for task in _source_tasks(state, most=config.data.quality.most_set_aside)),
            *_join_tasks(manifest, most=config.data.quality.most_set_aside),
        ],
        findings=findings,
        read_rows=figures.rows if figures else 0,
        most_set_aside=config.data.quality.most_set_aside,
        figures=figures
        and figures.model_copy(update={"notes": [*(manifest.notes if manifest else ()), *figures.notes]}),
        sources=tuple(sources),
        joins=tuple(manifest.joins) if manifest else (),
        manifest_run=manifest.run_id if manifest else "",
        changes=tuple(manifest.changes)
        if manifest and (former is None or former.manifest_run != manifest.run_id)
        else (),
        changed=_changed(figures, findings, before) if before else None,
        before=before if error else None,
    )


def hours_late(newest: dt.date, *, due: dt.time, zone: str, now: dt.datetime, step: int = 1) -> float:
    """Hours since the first missing period was due; 0 where none is.

    A period is due on the day after its last one, at `due` of the shop's clock, whatever daylight saving does.

    Args:
        newest: First day of the newest period that is there.
        due: Time of day.
        zone: The shop's time zone.
        now: With a time zone.
        step: Days of a period.
    """
    day = newest + dt.timedelta(days=2 * step)
    expected = dt.datetime.combine(day, due, tzinfo=ZoneInfo(zone)).astimezone(dt.UTC)
    return max((now.astimezone(dt.UTC) - expected).total_seconds() / 3600, 0.0)


def read_report(path: str | Path) -> EtlReport:
    """Reads the JSON document that a job left.

    Raises:
        SourceError: There is none, or it is damaged or of another format.
    """
    try:
        return EtlReport.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise SourceError(f"{path}: is no report of this format ({first_line(error)}); run etl again") from error


def _stops(found: Sequence[Finding], *, error: str) -> list[Task]:
    """What stopped the job: findings, else the error's own words."""
    stops = [one for one in found if one.level == "stop"]
    if stops:
        return [_task(one) for one in stops]
    if not error:
        return []
    return [Task(level="stop", what=error.rstrip("."), advice="Mend it, and run etl again")]


def _task(finding: Finding) -> Task:
    return Task(
        level="stop" if finding.level == "stop" else "look",
        what=finding.sentence,
        advice=finding.advice,
        examples=(finding.example,) if finding.example else (),
    )


def _sources(manifest: Manifest | None, config: SourcesConfig | None, *, now: dt.datetime) -> list[SourceState]:
    if manifest is None:
        return []
    states = []
    for name, read in manifest.sources.items():
        table = getattr(config, name, None)
        due = table.due if isinstance(table, TableSource) else None
        late = None
        if due is not None and config is not None and read.newest is not None:
            # Rows of whole weeks bear the week's first day; order lines and stock bear their own.
            weekly = manifest.period == "week" and table is config.sales and config.sales.kind == "rows"
            step = STEP_DAYS["week" if weekly else "day"]
            late = round(hours_late(read.newest, due=due, zone=config.zone, now=now, step=step), 1)
        states.append(
            SourceState(
                name=name,
                location=redact_text(read.location),
                rows=read.rows,
                rejected=read.rejected,
                reasons=read.reasons,
                newest=str(read.newest or ""),
                due=f"{due:%H:%M}" if due else "",
                late_hours=late,
            )
        )
    return states


def _source_tasks(state: SourceState, *, most: float) -> list[Task]:
    tasks = []
    if state.late_hours:
        what = (
            f"source {state.name} is {state.late_hours:,.0f} hours late: its newest day is {state.newest}, and the "
            f"next was due at {state.due}"
        )
        tasks.append(Task(level="look", what=what, advice="Ask whoever delivers it; the panel goes without these days"))
    if state.rejected > most * state.rows:
        what = f"{state.rejected:,} of {state.rows:,} rows of the source {state.name} could not be used"
        reasons = tuple(f"{reason}: {count:,}" for reason, count in state.reasons.items())
        tasks.append(Task(level="look", what=what, advice="Mend them there", examples=reasons))
    return tasks


def _with_notes(figures: Figures | None, manifest: Manifest | None) -> Figures | None:
    """The figures with what was decided while the sources were read, before what was derived from them."""
    if figures is None or manifest is None:
        return figures
    return figures.model_copy(update={"notes": [*manifest.notes, *figures.notes]})


# Tables that should say something of every row of sales: most days have no promotion, and some products no competitor.
_COMPLETE = ("stock", "products")


def _join_tasks(manifest: Manifest | None, *, most: float) -> list[Task]:
    return [
        Task(
            level="look",
            what=f"{join.sales_rows - join.matched:,} of {join.sales_rows:,} rows of sales have no partner in "
            f"the table {join.table}; {join.unmatched_sales:,} products have none at all",
            advice="Complete that table, or mend its ids",
            examples=tuple(join.examples),
        )
        for join in (manifest.joins if manifest else ())
        if join.table in _COMPLETE and join.sales_rows - join.matched > most * join.sales_rows
    ]


def _changed(figures: Figures | None, findings: Sequence[Found], before: Saved) -> Changed:
    names = dict.fromkeys(one.check for one in findings)
    told = {
        "since": before.made_at,
        "new_findings": [name for name in names if name not in before.findings],
        "gone_findings": [name for name in dict.fromkeys(before.findings) if name not in names],
    }
    if figures is None:
        return Changed.model_validate(told)
    ids, known = set(figures.table.product_id), set(before.product_ids)
    new, gone = sorted(ids - known), sorted(known - ids)
    days = _changed_days(figures.coverage, before.coverage)
    examples = [*(f"new: {name}" for name in new[:NAMED]), *(f"gone: {name}" for name in gone[:NAMED])]
    return Changed.model_validate(
        {
            **told,
            "rows": figures.rows - sum(before.coverage.rows),
            "new_periods": sum(day > before.coverage.dates[-1] for day in figures.coverage.dates),
            "changed_periods": len(days),
            "first_changed": days[0] if days else "",
            "new_products": len(new),
            "gone_products": len(gone),
            "examples": examples,
        }
    )


def _changed_days(now: Coverage, before: Coverage) -> list[str]:
    """The periods up to the last one before whose rows or units are others; those that are gone, too."""
    then = dict(zip(before.dates, zip(before.rows, before.units, strict=True), strict=True))
    today = dict(zip(now.dates, zip(now.rows, now.units, strict=True), strict=True))
    last, nothing = before.dates[-1], (0, 0.0)
    days = [day for day in sorted({*then, *today}) if day <= last]
    return [
        day
        for day in days
        if (one := then.get(day, nothing))[0] != (other := today.get(day, nothing))[0]
        or not np.isclose(one[1], other[1], rtol=_SAME, atol=_SAME)
    ]
