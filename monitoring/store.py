"""Remember between runs what was forecast and sold, and which jobs were started: one table of JSON values."""

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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

from monitoring.policy import JobHistory, PolicyOutcome
from pricing.fileio import redact_url, utc_stamp
from pricing.registry.database import create_tables, database_errors, lock_transaction, open_engine

OUTCOME_DAYS = 730  # that outcomes are kept: they are drift's reference for errors, which is over a year
_WAIT_SECONDS = 600  # for another run that writes
_ERRORS = "errors"  # the keys
_JOB = "job"
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
_Job = tuple[int, dt.datetime, dict[str, Any]]  # number, start, and what is known of it


class MonitoringStore:
    """Monitoring's memory. Every method is one transaction; concurrent runs, on any machine, wait for each other."""

    def __init__(self, url: str, *, model: str) -> None:
        """Opens the memory in a database, PostgreSQL or SQLite, and makes its table where there is none.

        Shops that share a database share no memory: it is that of a registered model's name.

        Raises:
            RegistryError: It cannot be used.
        """
        self._model = model
        self._where = f"monitoring's memory in {redact_url(url)}, which cannot be used"
        with database_errors(self._where):
            self._engine = open_engine(url)
            create_tables(self._engine, _metadata)

    def write_outcomes(self, joined: pd.DataFrame, *, last: dt.date) -> None:
        """Stores what was forecast and sold in each period; deletes those long before the `last` day of sales.

        A period that is known is replaced, so that corrections count, but where fewer of its decisions are read than
        before, as of the first day looked at.
        """
        found: dict[str, dict[str, Any]] = {
            f"{period:%Y-%m-%d}": {
                "decisions": len(rows),
                **{name: rows.loc[rows["scored"], name].tolist() for name in _COLUMNS},
            }
            for period, rows in joined.groupby("period")
        }
        mine = self._mine(_ERRORS)
        oldest = last - dt.timedelta(days=OUTCOME_DAYS)
        with self._open() as connection:
            query = select(_table.c.at, _table.c.value).where(mine, _table.c.at >= min(found, default="9999"))
            known = {at: value["decisions"] for at, value in connection.execute(query)}
            rows = [
                {"model": self._model, "key": _ERRORS, "at": at, "value": value}
                for at, value in found.items()
                if value["decisions"] >= known.get(at, 0)
            ]
            replaced = _table.c.at.in_([row["at"] for row in rows])
            connection.execute(delete(_table).where(mine, replaced | (_table.c.at < oldest.isoformat())))
            if rows:
                connection.execute(insert(_table), rows)

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
            outcome = decide(_history(self._jobs(connection), now=now))
            if outcome.action in ("none", "page"):
                return outcome, None
            job = {"action": outcome.action, "cause": outcome.cause, "reason": outcome.reason}
            row = {"model": self._model, "key": _JOB, "at": utc_stamp(now), "value": job}
            return outcome, int(connection.execute(insert(_table).values(row).returning(_table.c.id)).scalar_one())

    def note(self, job: int, **values: str | bool | None) -> None:
        """Records when a job `ended` and whether it `succeeded`; one that did neither is given up as unknown."""
        with self._open() as connection:
            this = _table.c.id == job
            known = connection.execute(select(_table.c.value).where(this)).scalar_one()
            connection.execute(update(_table).where(this).values(value={**known, **values}))

    def drop(self, job: int) -> None:
        """Deletes a job that the launcher did not start."""
        with self._open() as connection:
            connection.execute(delete(_table).where(_table.c.id == job))

    def running(self) -> dict[int, dt.datetime]:
        """Returns the start of each job without a recorded end, by its number."""
        with self._open() as connection:
            return {number: at for number, at, job in self._jobs(connection) if "ended" not in job}

    def past(self, *, now: dt.datetime) -> JobHistory:
        """Returns the job history that the rules need."""
        with self._open() as connection:
            return _history(self._jobs(connection), now=now)

    def _jobs(self, connection: Connection) -> list[_Job]:
        query = select(_table.c.id, _table.c.at, _table.c.value).where(self._mine(_JOB)).order_by(_table.c.id)
        return [(number, dt.datetime.fromisoformat(at), value) for number, at, value in connection.execute(query)]

    def _mine(self, key: str) -> ColumnElement[bool]:
        return (_table.c.model == self._model) & (_table.c.key == key)

    @contextmanager
    def _open(self) -> Iterator[Connection]:
        """A transaction; no other of the same model runs meanwhile."""
        with database_errors(self._where), self._engine.begin() as connection:
            lock_transaction(connection, f"monitoring/{self._model}", seconds=_WAIT_SECONDS)
            yield connection


def _history(jobs: Sequence[_Job], *, now: dt.datetime) -> JobHistory:
    failures: list[tuple[dt.datetime, dt.datetime]] = []
    retrained = refreshed = running = None
    for _, at, job in jobs:
        succeeded = job.get("succeeded")
        if "ended" not in job:
            running = at
        elif job["action"] == "retrain" and succeeded:
            retrained = at
            failures = []
        elif job["action"] == "retrain" and succeeded is not None:
            failures.append((at, dt.datetime.fromisoformat(job["ended"])))
        if job["action"] == "refresh" and job["cause"] == "decay" and succeeded is not False:
            refreshed = at
    today = sum(at.date() == now.date() for _, at, _ in jobs)
    return JobHistory(today, retrained, refreshed, running, len(failures), tuple(failures))
