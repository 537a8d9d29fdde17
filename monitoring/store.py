"""Store monitoring's state between runs: outcomes, figures of days, and jobs started.

It lies in the platform's database where PRICING_DATABASE_URL names one, and else in an SQLite file of PRICING_HOME.
"""

import datetime as dt
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    TableValuedAlias,
    case,
    cast,
    delete,
    exists,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from monitoring.policy import JobHistory, PolicyOutcome
from pricing.errors import SourceError, first_line
from pricing.fileio import redact_url
from pricing.paths import SQLITE
from pricing.registry.database import create_tables, lock_transaction, open_engine

_FORMAT = 2  # no other is read
_WAIT_SECONDS = 30  # for another run
_WRITE_SECONDS = 600  # for another run that writes outcomes into a database
_PRODUCTS_AT_ONCE = 5_000  # in one statement
_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True)
class Written:
    """Result of storing outcomes.

    Attributes:
        new: Outcomes that reached a maturity for the first time.
        corrected: Outcomes that were stored before and have changed since.
        moved: Absolute difference in units between the last and the first maturity, as a fraction of the first's units.
    """

    new: int
    corrected: int
    moved: float


class _Tables:
    """The tables of one memory. Those in a shared database have names of their own and say which model they are of."""

    def __init__(self, *, shared: bool) -> None:
        self.metadata = MetaData()
        prefix = "monitoring_" if shared else ""

        def model() -> list[Column[Any]]:
            return [Column("model", String(300), primary_key=True)] if shared else []

        self.outcome = Table(
            f"{prefix}outcome",
            self.metadata,
            *model(),
            Column("product_id", String, primary_key=True),
            Column("period", String(10), primary_key=True, index=shared),
            Column("maturity", Integer, primary_key=True),
            Column("decision_id", String),
            Column("units_sold", Float),
            Column("charged", Float),
            Column("forecast", Float),
            Column("written_at", String(40)),
            Column("scored", Integer),
            sqlite_with_rowid=False,
        )
        self.daily = Table(
            f"{prefix}daily",
            self.metadata,
            *model(),
            Column("period", String(10), primary_key=True),
            Column("category", String, primary_key=True),
            *(Column(name, Integer) for name in ("decisions", "scored")),
            *(Column(name, Float) for name in ("units", "error", "surplus")),
            Column("followed", Integer),
            Column("margin", Float),
            sqlite_with_rowid=False,
        )
        self.job = Table(
            f"{prefix}job",
            self.metadata,
            *([Column("model", String(300), nullable=False)] if shared else []),
            Column("id", Integer, primary_key=True),
            *(Column(name, String) for name in ("action", "cause", "reason", "started_at", "ended_at")),
            Column("succeeded", Integer),
            Column("handle", String),
        )
        self.format = Table("monitoring_format", self.metadata, Column("format", Integer))


class MonitoringStore:
    """Monitoring's memory. Every method is one transaction; concurrent runs, on any machine, wait for each other."""

    def __init__(self, path: Path, *, url: str | None = None, model: str = "") -> None:
        """Opens the memory, and makes its tables where there are none.

        Args:
            path: The SQLite file that is the memory where there is no `url`.
            url: The database, PostgreSQL or SQLite.
            model: The registered model's name: shops that share a database share no memory.

        Raises:
            SourceError: It cannot be used, or is of another format.
        """
        self._tables = _Tables(shared=url is not None)
        self._model = model if url is not None else None
        self._where = str(path) if url is None else f"{redact_url(url)} (PRICING_DATABASE_URL)"
        with self._translated_errors():
            if url is None:
                path.parent.mkdir(parents=True, exist_ok=True)
            address = url or f"{SQLITE}{path.resolve()}"
            self._engine = open_engine(address)
            create_tables(self._engine, self._tables.metadata)
        with self._open(lock="format") as connection:
            self._check_format(connection)

    def _check_format(self, connection: Connection) -> None:
        kept = self._tables.format
        found = connection.execute(select(func.max(kept.c.format))).scalar()
        if found is None:
            connection.execute(kept.insert().values(format=_FORMAT))
        elif found != _FORMAT:
            raise SourceError(
                f"{self._where}: is monitoring's memory of format {found}, expected {_FORMAT}; start a new one"
            )

    def write_outcomes(self, joined: pd.DataFrame, *, maturities: Sequence[int], now: dt.datetime) -> Written:
        """Stores each decision's outcome once for each maturity that it has reached.

        An outcome at an earlier maturity stays as first known. Later changes are stored at the latest maturity
        reached, without a second row.

        Args:
            joined: `Joined.frame`.
            maturities: Days after which an outcome is stored, ascending.
            now: Current time, with a time zone.
        """
        new = corrected = 0
        if joined.empty:
            return Written(0, 0, 0.0)
        first = f"{joined['period'].min():%Y-%m-%d}"
        outcome = self._tables.outcome
        key = (outcome.c.product_id, outcome.c.period, outcome.c.maturity)
        with self._open(lock="outcomes") as connection:
            query = select(*key, outcome.c.units_sold).where(self._mine(outcome), outcome.c.period >= first)
            known = {(row[0], row[1], row[2]): row[3] for row in connection.execute(query)}
            rows = []
            names = ["decision_id", "units_sold", "charged", "forecast"]
            for product, period, age, scored, *values in joined[
                ["product_id", "period", "age", "scored", *names]
            ].itertuples(index=False):
                reached = [maturity for maturity in maturities if maturity <= age]
                for maturity in reached:
                    where = (product, f"{period:%Y-%m-%d}", maturity)
                    before = known.get(where)
                    if before is None:
                        new += 1
                    elif before != values[1] and maturity == reached[-1]:
                        corrected += 1
                    else:
                        continue
                    row = dict(zip(("product_id", "period", "maturity", *names), (*where, *values), strict=True))
                    rows.append({**row, "written_at": now.isoformat(), "scored": int(scored)})
            self._put(connection, outcome, rows)
            # Where fewer decisions are read than before, as of the first day looked at, what is known stays.
            self._put(connection, self._tables.daily, _daily(joined).to_dict("records"), not_below="decisions")
            changed, total = self._moved(connection, maturities, first=first)
        return Written(new, corrected, float(changed / total) if total else 0.0)

    def _moved(self, connection: Connection, maturities: Sequence[int], *, first: str) -> tuple[float, float]:
        """Units by which first and last maturity differ, and those of the first."""
        outcome = self._tables.outcome

        def units(maturity: int) -> ColumnElement[float]:
            return func.max(case((outcome.c.maturity == maturity, outcome.c.units_sold)))

        # Not a join of the table with itself, of which the planner would expect few rows right after they were written.
        both = (
            select(units(maturities[0]).label("start"), units(maturities[-1]).label("last"))
            .where(self._mine(outcome), outcome.c.period >= first)
            .where(outcome.c.maturity.in_([maturities[0], maturities[-1]]))
            .group_by(outcome.c.product_id, outcome.c.period)
            .subquery()
        )
        changed = func.coalesce(func.sum(func.abs(both.c.last - both.c.start)), 0.0)
        query = select(changed, func.coalesce(func.sum(both.c.start), 0.0)).where(both.c.last.is_not(None))
        row = connection.execute(query).one()
        return float(row[0]), float(row[1])

    def errors(self, products: Sequence[str], *, first: dt.date, last: dt.date) -> pd.DataFrame:
        """Returns what was forecast and sold, as known last, where it entered the error.

        Args:
            products: Their ids.
            first: The first period.
            last: The last period.

        Returns:
            Columns `product_id`, `period`, `forecast`, `units_sold`.
        """
        outcome = self._tables.outcome
        newest = func.row_number().over(
            partition_by=(outcome.c.product_id, outcome.c.period), order_by=outcome.c.maturity.desc()
        )
        columns = ("product_id", "period", "forecast", "units_sold")
        rows: list[tuple[Any, ...]] = []
        with self._open() as connection:
            for start in range(0, len(products), _PRODUCTS_AT_ONCE):
                wanted = list(products[start : start + _PRODUCTS_AT_ONCE])
                found = (
                    select(*(outcome.c[name] for name in columns), newest.label("place"))
                    .where(self._mine(outcome), outcome.c.scored == 1, outcome.c.product_id.in_(wanted))
                    .where(outcome.c.period.between(first.isoformat(), last.isoformat()))
                    .subquery()
                )
                query = select(*(found.c[name] for name in columns)).where(found.c.place == 1)
                rows += [tuple(row) for row in connection.execute(query.order_by(*(found.c[name] for name in columns)))]
        frame = pd.DataFrame(rows, columns=list(columns))
        return frame.assign(period=pd.to_datetime(frame["period"]))

    def daily(self) -> pd.DataFrame:
        """Returns the figures of each day and category since the first decision that met its sales, in order."""
        daily = self._tables.daily
        columns = [column for column in daily.columns if column.name != "model"]
        with self._open() as connection:
            query = select(*columns).where(self._mine(daily)).order_by(daily.c.period, daily.c.category)
            rows = [tuple(row) for row in connection.execute(query)]
        return pd.DataFrame(rows, columns=[column.name for column in columns])

    def prune(self, *, before: dt.date) -> int:
        """Deletes the outcomes of periods before a day, and returns how many; their figures of days stay."""
        outcome = self._tables.outcome
        with self._open(lock="outcomes") as connection:
            old = delete(outcome).where(self._mine(outcome), outcome.c.period < before.isoformat())
            return connection.execute(old).rowcount

    def has_outcomes(self) -> bool:
        """Returns True when any decision has ever met its sales here."""
        with self._open() as connection:
            known = self._any(self._tables.daily) | self._any(self._tables.outcome)
            return bool(connection.execute(select(known)).scalar())

    def claim(
        self, decide: Callable[[JobHistory], PolicyOutcome], *, now: dt.datetime
    ) -> tuple[PolicyOutcome, int | None]:
        """Decides and records the due job in one transaction, so that only one of two runs can start it.

        Args:
            decide: The rules; must be quick, since other runs wait meanwhile.
            now: Current time.

        Returns:
            The outcome and the number of the recorded job; None when no job is due.
        """
        with self._open(lock="jobs") as connection:
            outcome = decide(self._past(connection, now=now))
            if outcome.action in ("none", "page"):
                return outcome, None
            job = {"action": outcome.action, "cause": outcome.cause, "reason": outcome.reason, "handle": ""}
            return outcome, self._note(connection, {**job, "started_at": now.isoformat()})

    def started(self, *, action: str, cause: str, reason: str, handle: str, now: dt.datetime) -> int:
        """Records a started job, with or without a handle yet, and returns its number."""
        job = {"action": action, "cause": cause, "reason": reason, "handle": handle, "started_at": now.isoformat()}
        with self._open(lock="jobs") as connection:
            return self._note(connection, job)

    def handed(self, job: int, handle: str) -> None:
        """Records the handle that the launcher returned for a job."""
        with self._open(lock="jobs") as connection:
            connection.execute(update(self._tables.job).where(self._tables.job.c.id == job).values(handle=handle))

    def dropped(self, job: int) -> None:
        """Deletes a job that the launcher did not start."""
        with self._open(lock="jobs") as connection:
            connection.execute(delete(self._tables.job).where(self._tables.job.c.id == job))

    def ended(self, job: int, *, succeeded: bool | None, now: dt.datetime) -> None:
        """Records how a job ended; None where that is given up as unknown, which is neither a failure nor a success."""
        known = None if succeeded is None else int(succeeded)
        with self._open(lock="jobs") as connection:
            this = update(self._tables.job).where(self._tables.job.c.id == job)
            connection.execute(this.values(ended_at=now.isoformat(), succeeded=known))

    def running(self) -> list[tuple[int, str, dt.datetime]]:
        """Returns number, handle (empty when not known yet) and start of each job without a recorded end."""
        job = self._tables.job
        query = select(job.c.id, job.c.handle, job.c.started_at).where(self._mine(job), job.c.ended_at.is_(None))
        with self._open() as connection:
            rows = connection.execute(query.order_by(job.c.id)).all()
        return [(int(row[0]), str(row[1] or ""), dt.datetime.fromisoformat(row[2])) for row in rows]

    def past(self, *, now: dt.datetime) -> JobHistory:
        """Returns the job history that the rules need."""
        with self._open() as connection:
            return self._past(connection, now=now)

    def _note(self, connection: Connection, job: Mapping[str, str]) -> int:
        table = self._tables.job
        return int(connection.execute(table.insert().values(**job, **self._own).returning(table.c.id)).scalar_one())

    def _past(self, connection: Connection, *, now: dt.datetime) -> JobHistory:
        job = self._tables.job
        columns = (job.c.action, job.c.cause, job.c.started_at, job.c.ended_at, job.c.succeeded)
        return _history(connection.execute(select(*columns).where(self._mine(job)).order_by(job.c.id)).all(), now=now)

    def _put(
        self, connection: Connection, table: Table, rows: Sequence[Mapping[Any, Any]], *, not_below: str | None = None
    ) -> None:
        """Writes rows over those with the same key, but where that has more in the column `not_below`."""
        # SQLite keeps NaN as null; PostgreSQL would keep it, and every sum would be NaN.
        known = [{**self._own, **{name: _known(value) for name, value in row.items()}} for row in rows]
        in_server = connection.dialect.name == "postgresql"
        insert = (postgresql if in_server else sqlite).insert(table)
        keys = [column.name for column in table.primary_key]
        over = {
            "index_elements": keys,
            "set_": {column.name: insert.excluded[column.name] for column in table.columns if column.name not in keys},
            "where": None if not_below is None else insert.excluded[not_below] >= table.c[not_below],
        }
        for start in range(0, len(known), _ROWS_AT_ONCE):
            part = known[start : start + _ROWS_AT_ONCE]
            if in_server:  # one statement: its driver would send a statement for each row
                found = select(*_unnested(table, part).columns)
                connection.execute(insert.from_select(list(part[0]), found).on_conflict_do_update(**over))
            else:
                connection.execute(insert.on_conflict_do_update(**over), part)

    @property
    def _own(self) -> dict[str, str]:
        """What each row of ours says of whose it is."""
        return {} if self._model is None else {"model": self._model}

    def _mine(self, table: Any) -> ColumnElement[bool]:
        return literal(value=True) if self._model is None else table.c.model == self._model

    def _any(self, table: Table) -> ColumnElement[bool]:
        return exists(select(1).select_from(table).where(self._mine(table)))

    @contextmanager
    def _open(self, *, lock: Literal["format", "outcomes", "jobs"] | None = None) -> Iterator[Connection]:
        """A transaction; with a lock none other that has it runs, which in SQLite holds of every transaction."""
        with self._translated_errors(), self._engine.begin() as connection:
            if lock is not None:
                seconds = _WRITE_SECONDS if lock == "outcomes" else _WAIT_SECONDS
                lock_transaction(connection, f"monitoring/{self._model}/{lock}", seconds=seconds)
            yield connection

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, ImportError) as error:
            advice = "mend or remove it" if self._model is None else "see that it answers, and run again"
            raise SourceError(
                f"{self._where}: monitoring's memory cannot be used ({first_line(error)}); {advice}"
            ) from error


def _daily(joined: pd.DataFrame) -> pd.DataFrame:
    """One row per period and category: the columns of the table `daily`.

    `error` is the absolute error and `surplus` forecast less sales, of scored rows, as `units` are; `margin` is what
    was earned on all, in currency units.
    """
    scored = joined["scored"].to_numpy(dtype=bool)
    off = (joined["forecast"] - joined["units_sold"]).where(scored)
    rows = pd.DataFrame(
        {
            "period": joined["period"].dt.strftime("%Y-%m-%d"),
            "category": joined["category"].astype(str),
            "decisions": 1,
            "scored": scored.astype(int),
            "units": joined["units_sold"].where(scored),
            "error": off.abs(),
            "surplus": off,
            "followed": (joined["pricing"] == "followed").astype(int),
            "margin": joined["earned"] * joined["units_sold"],
        }
    )
    return rows.groupby(["period", "category"], as_index=False).sum()


def _unnested(table: Table, rows: Sequence[Mapping[str, object]]) -> TableValuedAlias:
    """Rows as PostgreSQL unnests them from one array for each column."""
    arrays = [cast([row[name] for row in rows], postgresql.ARRAY(table.c[name].type)) for name in rows[0]]
    return func.unnest(*arrays).table_valued(*rows[0]).render_derived()


def _known(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


def _history(jobs: Sequence[Any], *, now: dt.datetime) -> JobHistory:
    started_today = 0
    failures: list[tuple[dt.datetime, dt.datetime]] = []
    retrained = refreshed = running = None
    for action, cause, started, ended, succeeded in jobs:
        at = dt.datetime.fromisoformat(started)
        started_today += at.date() == now.date()
        if ended is None:
            running = at
        elif action == "retrain" and succeeded:
            retrained, failures = at, []
        elif action == "retrain" and succeeded is not None:
            failures.append((at, dt.datetime.fromisoformat(ended)))
        if action == "refresh" and cause == "decay" and succeeded != 0:
            refreshed = at
    return JobHistory(started_today, retrained, refreshed, running, len(failures), tuple(failures))
