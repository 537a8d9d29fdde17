"""Store monitoring's state between runs in one SQLite file: outcomes, and jobs started."""

import datetime as dt
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from monitoring.policy import JobHistory, PolicyOutcome
from pricing.errors import SourceError

_FORMAT = 1  # of the file, as SQLite's `user_version`; 0 where it was not kept yet, and the tables are the same
_TABLES = """
create table if not exists outcome (
    product_id text, period text, maturity integer, decision_id text, units_sold real, charged real, forecast real,
    written_at text, primary key (product_id, period, maturity)
) without rowid;
create table if not exists job (
    id integer primary key, action text, cause text, reason text, started_at text, ended_at text, succeeded integer,
    handle text
);
"""


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


class MonitoringStore:
    """The database `monitoring.db`. Every method is one transaction; concurrent runs wait for each other."""

    def __init__(self, path: Path) -> None:
        """Opens the file, which is made where there is none.

        Raises:
            SourceError: It cannot be used, or a later release wrote it.
        """
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as connection:
            (found,) = connection.execute("pragma user_version").fetchone()
            if found > _FORMAT:
                raise SourceError(
                    f"{path}: is monitoring's memory of format {found}, expected {_FORMAT} at most: a later release "
                    f"wrote it; install that one, or remove the file"
                )
            connection.executescript(_TABLES)
            if found < _FORMAT:
                connection.execute(f"pragma user_version = {_FORMAT}")

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
        with self._open() as connection:
            known = {
                (product, period, maturity): units
                for product, period, maturity, units in connection.execute(
                    "select product_id, period, maturity, units_sold from outcome"
                )
            }
            rows = []
            columns = ["product_id", "period", "age", "decision_id", "units_sold", "charged", "forecast"]
            for product, period, age, decision, units, charged, forecast in joined[columns].itertuples(index=False):
                reached = [maturity for maturity in maturities if maturity <= age]
                for maturity in reached:
                    key = (product, f"{period:%Y-%m-%d}", maturity)
                    before = known.get(key)
                    if before is None:
                        new += 1
                    elif before != units and maturity == reached[-1]:
                        corrected += 1
                    else:
                        continue
                    rows.append((*key, decision, units, charged, forecast, now.isoformat()))
            connection.executemany("insert or replace into outcome values (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            changed, total = connection.execute(
                "select coalesce(sum(abs(last.units_sold - first.units_sold)), 0), coalesce(sum(first.units_sold), 0)"
                " from outcome first join outcome last using (product_id, period)"
                " where first.maturity = ? and last.maturity = ?",
                (maturities[0], maturities[-1]),
            ).fetchone()
        return Written(new, corrected, float(changed / total) if total else 0.0)

    def has_outcomes(self) -> bool:
        """Returns True when any decision has ever met its sales here."""
        with self._open() as connection:
            (found,) = connection.execute("select exists (select 1 from outcome)").fetchone()
        return bool(found)

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
        with self._open() as connection:
            connection.execute("begin immediate")
            outcome = decide(_past(connection, now=now))
            if outcome.action in ("none", "page"):
                return outcome, None
            return outcome, _note(connection, (outcome.action, outcome.cause, outcome.reason, now.isoformat(), ""))

    def started(self, *, action: str, cause: str, reason: str, handle: str, now: dt.datetime) -> int:
        """Records a started job, with or without a handle yet, and returns its number."""
        with self._open() as connection:
            return _note(connection, (action, cause, reason, now.isoformat(), handle))

    def handed(self, job: int, handle: str) -> None:
        """Records the handle that the launcher returned for a job."""
        with self._open() as connection:
            connection.execute("update job set handle = ? where id = ?", (handle, job))

    def dropped(self, job: int) -> None:
        """Deletes a job that the launcher did not start."""
        with self._open() as connection:
            connection.execute("delete from job where id = ?", (job,))

    def ended(self, job: int, *, succeeded: bool | None, now: dt.datetime) -> None:
        """Records how a job ended; None where that is given up as unknown, which is neither a failure nor a success."""
        known = None if succeeded is None else int(succeeded)
        with self._open() as connection:
            connection.execute("update job set ended_at = ?, succeeded = ? where id = ?", (now.isoformat(), known, job))

    def running(self) -> list[tuple[int, str, dt.datetime]]:
        """Returns number, handle (empty when not known yet) and start of each job without a recorded end."""
        with self._open() as connection:
            return [
                (int(job), str(handle or ""), dt.datetime.fromisoformat(started))
                for job, handle, started in connection.execute(
                    "select id, handle, started_at from job where ended_at is null"
                )
            ]

    def past(self, *, now: dt.datetime) -> JobHistory:
        """Returns the job history that the rules need."""
        with self._open() as connection:
            return _past(connection, now=now)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with (
                closing(sqlite3.connect(self._path, timeout=30, isolation_level="IMMEDIATE")) as connection,
                connection,
            ):
                yield connection
        except sqlite3.Error as error:
            raise SourceError(
                f"{self._path}: monitoring's memory cannot be used ({error}); mend or remove it"
            ) from error


def _note(connection: sqlite3.Connection, job: tuple[str, str, str, str, str]) -> int:
    row = connection.execute(
        "insert into job (action, cause, reason, started_at, handle) values (?, ?, ?, ?, ?) returning id", job
    ).fetchone()
    return int(row[0])


def _past(connection: sqlite3.Connection, *, now: dt.datetime) -> JobHistory:
    jobs = connection.execute("select action, cause, started_at, ended_at, succeeded from job order by id").fetchall()
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
