"""Remember between runs what was forecast and sold, and which jobs were started: one table of JSON values.

It lies in the platform's database where PRICING_DATABASE_URL names one, and else in an SQLite file of PRICING_HOME.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from monitoring.policy import JobHistory, PolicyOutcome
from pricing.errors import SourceError, first_line
from pricing.fileio import redact_url
from pricing.paths import SQLITE
from pricing.registry.database import create_tables, lock_transaction, open_engine

_WAIT_SECONDS = 600  # for another run that writes
_ERRORS, _JOB = "errors", "job"  # the keys
_COLUMNS = ("product_id", "forecast", "units_sold")
_metadata = MetaData()
# Of the key `errors` a row holds a period: its number of decisions, and lists of what was forecast and sold of those
# that were scored. Of the key `job` a row holds a job that was started.
_table = Table(
    "monitoring",
    _metadata,
    Column("id", Integer, primary_key=True),
    Column("model", String(300), nullable=False),
    Column("key", String(20), nullable=False),
    Column("at", String(40), nullable=False),  # ISO: the period's first day, the moment that the job was started
    Column("value", JSON, nullable=False),
    Index("monitoring_of", "model", "key", "at"),
)


class MonitoringStore:
    """Monitoring's memory. Every method is one transaction; concurrent runs, on any machine, wait for each other."""

    def __init__(self, path: Path, *, url: str | None = None, model: str = "") -> None:
        """Opens the memory, and makes its table where there is none.

        Args:
            path: The SQLite file that is the memory where there is no `url`.
            url: The database, PostgreSQL or SQLite.
            model: The registered model's name: shops that share a database share no memory.

        Raises:
            SourceError: It cannot be used.
        """
        self._model, self._shared = model, url is not None
        self._where = str(path) if url is None else f"{redact_url(url)} (PRICING_DATABASE_URL)"
        with self._translated_errors():
            if url is None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._engine = open_engine(url or f"{SQLITE}{path.resolve()}")
            create_tables(self._engine, _metadata)

    def write_outcomes(self, joined: pd.DataFrame) -> int:
        """Stores what was forecast and sold in each period; returns how many periods are new.

        A period that is known is replaced, so that corrections count, but where fewer of its decisions are read than
        before, as of the first day looked at.
        """
        found = {
            f"{period:%Y-%m-%d}": {
                "decisions": len(rows),
                **{name: rows.loc[rows["scored"], name].tolist() for name in _COLUMNS},
            }
            for period, rows in joined.groupby("period")
        }
        if not found:
            return 0
        mine = self._mine(_ERRORS)
        with self._open() as connection:
            query = select(_table.c.at, _table.c.value).where(mine, _table.c.at >= min(found))
            known = dict(connection.execute(query).all())
            written = {
                at: value
                for at, value in found.items()
                if at not in known or value["decisions"] >= known[at]["decisions"]
            }
            connection.execute(delete(_table).where(mine, _table.c.at.in_(written)))
            rows = [{"model": self._model, "key": _ERRORS, "at": at, "value": value} for at, value in written.items()]
            if rows:
                connection.execute(insert(_table), rows)
        return len(written.keys() - known.keys())

    def errors(self, products: Sequence[str], *, first: dt.date, last: dt.date) -> pd.DataFrame:
        """Returns what was forecast and sold from the first to the last period, where it entered the error.

        Returns:
            Columns `product_id`, `period`, `forecast`, `units_sold`.
        """
        query = select(_table.c.at, _table.c.value).where(
            self._mine(_ERRORS), _table.c.at.between(first.isoformat(), last.isoformat())
        )
        with self._open() as connection:
            days = [
                pd.DataFrame({name: value[name] for name in _COLUMNS}).assign(period=at)
                for at, value in connection.execute(query.order_by(_table.c.at))
                if value["product_id"]
            ]
        frame = pd.concat(days) if days else pd.DataFrame(columns=[*_COLUMNS, "period"])
        frame = frame[frame["product_id"].isin(products)].sort_values(["product_id", "period"], ignore_index=True)
        return frame.assign(period=pd.to_datetime(frame["period"]))

    def prune(self, *, before: dt.date) -> None:
        """Deletes the outcomes of periods before a day."""
        with self._open() as connection:
            connection.execute(delete(_table).where(self._mine(_ERRORS), _table.c.at < before.isoformat()))

    def has_outcomes(self) -> bool:
        """Returns True when any decision has ever met its sales here."""
        with self._open() as connection:
            return connection.execute(select(_table.c.id).where(self._mine(_ERRORS)).limit(1)).first() is not None

    def claim(
        self, decide: Callable[[JobHistory], PolicyOutcome], *, now: dt.datetime
    ) -> tuple[PolicyOutcome, int | None]:
        """Decides and records the due job in one transaction, so that only one of two runs can start it.

        Returns:
            The outcome and the number of the recorded job; None when no job is due.
        """
        with self._open() as connection:
            outcome = decide(_history(self._jobs(connection).values(), now=now))
            if outcome.action in ("none", "page"):
                return outcome, None
            job = {"action": outcome.action, "cause": outcome.cause, "reason": outcome.reason}
            row = {"model": self._model, "key": _JOB, "at": now.isoformat(), "value": {"at": now.isoformat(), **job}}
            return outcome, int(connection.execute(insert(_table).values(row).returning(_table.c.id)).scalar_one())

    def note(self, job: int, **values: str | bool | None) -> None:
        """Records something of a job: the `handle` that its launcher returned, or that it `ended` and `succeeded`.

        A job that succeeded neither True nor False is given up as unknown.
        """
        with self._open() as connection:
            this = _table.c.id == job
            known = connection.execute(select(_table.c.value).where(this)).scalar_one()
            connection.execute(update(_table).where(this).values(value={**known, **values}))

    def drop(self, job: int) -> None:
        """Deletes a job that the launcher did not start."""
        with self._open() as connection:
            connection.execute(delete(_table).where(_table.c.id == job))

    def running(self) -> dict[int, tuple[str, dt.datetime]]:
        """Returns handle (empty when not known yet) and start of each job without a recorded end, by its number."""
        with self._open() as connection:
            jobs = self._jobs(connection)
        return {
            number: (job.get("handle", ""), dt.datetime.fromisoformat(job["at"]))
            for number, job in jobs.items()
            if "ended" not in job
        }

    def past(self, *, now: dt.datetime) -> JobHistory:
        """Returns the job history that the rules need."""
        with self._open() as connection:
            return _history(self._jobs(connection).values(), now=now)

    def _jobs(self, connection: Connection) -> dict[int, dict[str, Any]]:
        query = select(_table.c.id, _table.c.value).where(self._mine(_JOB)).order_by(_table.c.id)
        return dict(connection.execute(query).all())

    def _mine(self, key: str) -> ColumnElement[bool]:
        return (_table.c.model == self._model) & (_table.c.key == key)

    @contextmanager
    def _open(self) -> Iterator[Connection]:
        """A transaction; no other of the same model runs meanwhile."""
        with self._translated_errors(), self._engine.begin() as connection:
            lock_transaction(connection, f"monitoring/{self._model}", seconds=_WAIT_SECONDS)
            yield connection

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, ImportError) as error:
            advice = "see that it answers, and run again" if self._shared else "mend or remove it"
            raise SourceError(
                f"{self._where}: monitoring's memory cannot be used ({first_line(error)}); {advice}"
            ) from error


def _history(jobs: Iterable[Mapping[str, Any]], *, now: dt.datetime) -> JobHistory:
    started_today = 0
    failures: list[tuple[dt.datetime, dt.datetime]] = []
    retrained = refreshed = running = None
    for job in jobs:
        at, succeeded = dt.datetime.fromisoformat(job["at"]), job.get("succeeded")
        started_today += at.date() == now.date()
        if "ended" not in job:
            running = at
        elif job["action"] == "retrain" and succeeded:
            retrained, failures = at, []
        elif job["action"] == "retrain" and succeeded is not None:
            failures.append((at, dt.datetime.fromisoformat(job["ended"])))
        if job["action"] == "refresh" and job["cause"] == "decay" and succeeded is not False:
            refreshed = at
    return JobHistory(started_today, retrained, refreshed, running, len(failures), tuple(failures))
