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

# Of the file, as SQLite's `user_version`; 0 where it was not kept yet, and the tables are those of 1. In 1 outcomes do
# not say whether they entered the error, and there are no figures of days.
_FORMAT = 2
_TABLES = """
create table if not exists outcome (
    product_id text, period text, maturity integer, decision_id text, units_sold real, charged real, forecast real,
    written_at text, scored integer, primary key (product_id, period, maturity)
) without rowid;
create table if not exists daily (
    period text, category text, decisions integer, scored integer, units real, error real, surplus real,
    followed integer, margin real, primary key (period, category)
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
            if "scored" not in {row[1] for row in connection.execute("pragma table_info(outcome)")}:
                connection.execute("alter table outcome add column scored integer")
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
        if joined.empty:
            return Written(0, 0, 0.0)
        first = f"{joined['period'].min():%Y-%m-%d}"
        with self._open() as connection:
            known = {
                (product, period, maturity): units
                for product, period, maturity, units in connection.execute(
                    "select product_id, period, maturity, units_sold from outcome where period >= ?", (first,)
                )
            }
            rows = []
            columns = ["product_id", "period", "age", "decision_id", "units_sold", "charged", "forecast", "scored"]
            for product, period, age, *outcome, scored in joined[columns].itertuples(index=False):
                units = outcome[1]
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
                    rows.append((*key, *outcome, now.isoformat(), int(scored)))
            connection.executemany("insert or replace into outcome values (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            connection.executemany(
                # Where fewer decisions are read than before, as of the first day looked at, what is known stays.
                "insert into daily values (?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (period, category) do update set"
                " decisions = excluded.decisions, scored = excluded.scored, units = excluded.units,"
                " error = excluded.error, surplus = excluded.surplus, followed = excluded.followed,"
                " margin = excluded.margin"
                " where excluded.decisions >= daily.decisions",
                _daily(joined).itertuples(index=False),
            )
            changed, total = connection.execute(
                "select coalesce(sum(abs(last.units_sold - first.units_sold)), 0), coalesce(sum(first.units_sold), 0)"
                " from outcome first join outcome last using (product_id, period)"
                " where first.maturity = ? and last.maturity = ? and first.period >= ?",
                (maturities[0], maturities[-1], first),
            ).fetchone()
        return Written(new, corrected, float(changed / total) if total else 0.0)

    def errors(self, products: Sequence[str], *, first: dt.date, last: dt.date) -> pd.DataFrame:
        """Returns what was forecast and sold, as known last, where it entered the error.

        Args:
            products: Their ids.
            first: The first period.
            last: The last period.

        Returns:
            Columns `product_id`, `period`, `forecast`, `units_sold`; nothing that a release without `scored` stored.
        """
        with self._open() as connection:
            connection.execute("create temporary table wanted (product_id text primary key)")
            connection.executemany("insert into wanted values (?)", ((product,) for product in products))
            rows = connection.execute(
                "select product_id, period, forecast, units_sold, max(maturity) from outcome join wanted"
                " using (product_id) where period between ? and ? and scored group by product_id, period",
                (first.isoformat(), last.isoformat()),
            ).fetchall()
        frame = pd.DataFrame(rows, columns=["product_id", "period", "forecast", "units_sold", "maturity"])
        return frame.drop(columns="maturity").assign(period=pd.to_datetime(frame["period"]))

    def daily(self) -> pd.DataFrame:
        """Returns the figures of each day and category since the first decision that met its sales, in order."""
        with self._open() as connection:
            return pd.read_sql_query("select * from daily order by period, category", connection)

    def prune(self, *, before: dt.date) -> int:
        """Deletes the outcomes of periods before a day, and returns how many; their figures of days stay."""
        with self._open() as connection:
            return connection.execute("delete from outcome where period < ?", (before.isoformat(),)).rowcount

    def has_outcomes(self) -> bool:
        """Returns True when any decision has ever met its sales here."""
        with self._open() as connection:
            (found,) = connection.execute("select exists (select 1 from daily union select 1 from outcome)").fetchone()
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
