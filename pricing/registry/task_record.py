"""The serving tasks that are alive, in the platform's database: each writes its own row and reads the others'."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    MetaData,
    String,
    Table,
    delete,
    func,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from pricing.errors import RegistryError, first_line
from pricing.fileio import redact_url
from pricing.registry.database import CONNECT_SECONDS, create_tables, open_engine

FORGET_SECONDS = 600.0  # after which whoever writes deletes a row that nobody has renewed
_METADATA = MetaData()
_TASKS = Table(
    "pricing_serving_tasks",
    _METADATA,
    Column("model", String(300), primary_key=True),
    Column("run", String(40), primary_key=True),
    Column("task", String(300), nullable=False),
    Column("version", String(40), nullable=False),
    Column("seen_at", DateTime(timezone=True), nullable=False),
)


@dataclass(frozen=True)
class TaskEntry:
    """One serving task, as it last told of itself.

    Attributes:
        run: Names its run: two tasks may bear one name.
        task: Its name.
        version: The version that it serves; "none" where rules answer.
        age_seconds: How long ago it told, by the database's own clock.
    """

    run: str
    task: str
    version: str
    age_seconds: float


class TaskRecord:
    """The tasks that serve one registered model.

    Every method raises RegistryError, in one line, within seconds when the database does not answer or refuses.
    """

    def __init__(self, url: str, *, model: str) -> None:
        """Opens the database, PostgreSQL or SQLite; makes nothing in it yet.

        Args:
            url: An SQLAlchemy URL.
            model: The registered model's name: shops that share a database are no fleet.
        """
        self._model, self._name, self._made = model, redact_url(url), False
        with self._translated_errors():
            self._engine = open_engine(url, lock_seconds=CONNECT_SECONDS, statement_seconds=CONNECT_SECONDS)

    def beat(self, *, run: str, task: str, version: str) -> Sequence[TaskEntry]:
        """Renews a task's own row, deletes rows long silent, and returns those that are left, its own among them.

        Args:
            run: Names this run of the service.
            task: The task's name.
            version: The version that it serves.
        """
        with self._translated_errors():
            self._create()
            mine = (_TASKS.c.model == self._model) & (_TASKS.c.run == run)
            told = {"task": task[:300], "version": version, "seen_at": func.now()}
            try:
                with self._engine.begin() as connection:
                    if connection.execute(update(_TASKS).where(mine).values(**told)).rowcount == 0:
                        connection.execute(insert(_TASKS).values(model=self._model, run=run, **told))
            except IntegrityError:  # a former process of the same run wrote it meanwhile; the next beat renews it
                pass
            with self._engine.begin() as connection:
                return self._read(connection)

    def leave(self, *, run: str) -> None:
        """Deletes a task's own row: it is about to stop."""
        with self._translated_errors(), self._engine.begin() as connection:
            if inspect(connection).has_table(_TASKS.name):
                connection.execute(delete(_TASKS).where(_TASKS.c.model == self._model, _TASKS.c.run == run))

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    def _read(self, connection: Connection) -> list[TaskEntry]:
        query = select(_TASKS.c.run, _TASKS.c.task, _TASKS.c.version, _TASKS.c.seen_at, func.now())
        rows = connection.execute(
            query.where(_TASKS.c.model == self._model).order_by(_TASKS.c.task, _TASKS.c.run)
        ).all()
        found = [TaskEntry(run, task, version, (now - seen).total_seconds()) for run, task, version, seen, now in rows]
        silent = [one.run for one in found if one.age_seconds > FORGET_SECONDS]
        if silent:
            connection.execute(delete(_TASKS).where(_TASKS.c.model == self._model, _TASKS.c.run.in_(silent)))
        return [one for one in found if one.age_seconds <= FORGET_SECONDS]

    def _create(self) -> None:
        if not self._made:
            create_tables(self._engine, _METADATA)
            self._made = True

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, ImportError, OSError) as error:
            raise RegistryError(
                f"record of serving tasks {self._name} (PRICING_DATABASE_URL): {first_line(error)}"
            ) from error
