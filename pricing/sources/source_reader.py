"""Read what is new of each source, keep what databases answered, and record what was read."""

import datetime as dt
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar
from zoneinfo import ZoneInfo

import pandas as pd

from pricing.config_sources import SourcesConfig, TableSource
from pricing.data.manifest import SourceRead
from pricing.fileio import redact_url
from pricing.sources.chunk import Chunk
from pricing.sources.local_times import local_times
from pricing.sources.locations import expand, is_database
from pricing.sources.raw_rows import keep_rows
from pricing.sources.reading import Reading, read_chunks
from pricing.sources.set_aside import SetAside
from pricing.sources.store import Draft, Store

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")
_OVERLAP = dt.timedelta(hours=25)  # of changes that are looked for: slow commits, and clocks that are put back


@dataclass(frozen=True)
class Window:
    """Which days of sales and stock are read.

    Attributes:
        full: Everything is read and made anew.
        first: First day of a range to read again; None: where the last run ended, less `late_days`.
        last: Last day of that range; None: to the newest.
    """

    full: bool = False
    first: dt.date | None = None
    last: dt.date | None = None


class SourceReader:
    """Reads sources by name, each from the first day that may differ from before.

    Attributes:
        window: Which days are read.
        former: What the run before read of each source.
        sources: What this run has read of each.
        set_aside: Rows that cannot be used.
    """

    def __init__(
        self,
        config: SourcesConfig,
        *,
        sql_seconds: float,
        store: Store,
        run_id: str,
        window: Window,
        keep: bool,
        environment: Mapping[str, str],
    ) -> None:
        """Reads nothing yet; `keep` says whether answers of databases are kept."""
        self._config = config
        self._sql_seconds = sql_seconds
        self._folder = store.folder
        self._run_id = run_id
        self._keep = keep
        self._environment = environment
        self._zone = ZoneInfo(config.zone)
        self._readings: dict[str, Reading] = {}
        self.window = window
        self.former: dict[str, SourceRead] = {} if store.manifest is None else dict(store.manifest.sources)
        self.sources: dict[str, SourceRead] = {}
        self.set_aside = SetAside()

    def of_database(self, name: str, source: TableSource) -> bool:
        """Whether a source lies in a database."""
        where = f"sources.{name}"
        return is_database(expand(source.location, name=where, environment=self._environment), name=where)

    def days(self, name: str, source: TableSource, draft: Draft) -> tuple[dt.date | None, dt.date | None]:
        """First and last day to read; None where nothing bounds them."""
        window, begin = self.window, self._config.history_from
        if window.full:
            return begin, None
        newest = max(draft.tables.get(name, {}), default=None)
        if newest is None:
            return window.first or begin, window.last
        known: dt.date = draft.read(name, [newest], columns=["date"])["date"].max().date()
        if window.first is not None:
            return min(window.first, known + dt.timedelta(days=1)), window.last  # no gap between
        first: dt.date = known - dt.timedelta(days=source.late_days)
        changed = self._oldest_change(name, source)
        if changed is not None and changed < first:
            _log.info("%s: rows of %s changed since the last run: read from there on", name, changed)
            first = changed
        return (first if begin is None else max(first, begin)), None

    def _oldest_change(self, name: str, source: TableSource) -> dt.date | None:
        """The day of the oldest row that changed since the last run, where the source tells changes."""
        former = self.former.get(name)
        if source.updated is None or former is None or former.watermark is None:
            return None
        since = dt.datetime.fromisoformat(former.watermark) - _OVERLAP
        reading = self._reading(name, source, changed=since if since.tzinfo else since.replace(tzinfo=self._zone))
        days = [
            local_times(chunk.frame[source.TIME], zone=self._config.zone, own_zone=getattr(source, "zone", None))
            for chunk in reading
        ]
        oldest = min((int(each.days[each.usable].min()) for each in days if each.usable.any()), default=None)
        return None if oldest is None else dt.date(1970, 1, 1) + dt.timedelta(days=oldest)

    def _reading(
        self,
        name: str,
        source: TableSource,
        *,
        first: dt.date | None = None,
        last: dt.date | None = None,
        changed: dt.datetime | None = None,
    ) -> Reading:
        # A day more on either side: a column of bare times or dates is compared by clocks that may not be the shop's.
        return read_chunks(
            source,
            name=f"sources.{name}",
            zone=ZoneInfo(getattr(source, "zone", None) or self._config.zone),
            since=None if first is None else self._midnight(first - dt.timedelta(days=1)),
            until=None if last is None else self._midnight(last + dt.timedelta(days=2)),
            changed=changed,
            sql_seconds=self._sql_seconds,
            environment=self._environment,
        )

    def _midnight(self, day: dt.date) -> dt.datetime:
        return dt.datetime.combine(day, dt.time(), self._zone)

    def rows(self, name: str, source: TableSource, first: dt.date | None, last: dt.date | None) -> Iterator[Chunk]:
        """Reads a source, keeps what a database answers, and remembers what was read."""
        reading = self._readings[name] = self._reading(name, source, first=first, last=last)
        rows: Iterator[Chunk] = iter(reading)
        if self._keep and self.of_database(name, source):
            rows = keep_rows(rows, folder=self._folder, source=name, run_id=self._run_id)
        yield from rows

    def whole(self, name: str, source: TableSource, read: Callable[[Iterator[Chunk]], _Result]) -> _Result:
        """Reads a source that is read whole each time."""
        found = read(self.rows(name, source, None, None))
        self.done(name, source, None)
        return found

    def done(self, name: str, source: TableSource, first: dt.date | None) -> None:
        """Records what was read of a source, from `first` on, once all its rows were used."""
        reading = self._readings.pop(name)
        for frame in reading.rejected:
            self.set_aside.add_unread(frame, table=name)
        counts = [count for count in self.set_aside.counts if count.table == name]
        former = self.former.get(name)
        marks = [*(origin.watermark for origin in reading.origins), (former and former.watermark) or ""]
        self.sources[name] = SourceRead(
            location=redact_url(source.location),
            rows=sum(origin.rows + origin.rejected for origin in reading.origins),
            rejected=sum(count.rows for count in counts if count.dropped),
            reasons={count.reason: count.rows for count in counts},
            read_from=first,
            watermark=max(marks) or None,
            origins=[
                {
                    "where": origin.where,
                    "rows": origin.rows,
                    **({"sha256": origin.sha256, "bytes": origin.size or 0} if origin.sha256 else {}),
                    **({"statement": origin.statement} if origin.statement else {}),
                }
                for origin in reading.origins
            ],
        )

    def record(self, name: str, *, newest: pd.Timestamp | None) -> None:
        """Records the newest day of a source; a range that ends before it makes none older."""
        former = self.former.get(name)
        days = [
            *([newest.date()] if newest is not None else []),
            *([former.newest] if former and former.newest else []),
        ]
        self.sources[name] = self.sources[name].model_copy(update={"newest": max(days, default=None)})
